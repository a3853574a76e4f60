"""TileDB-SOMA experiments."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import tiledbsoma
import tiledbsoma.io
from scipy import sparse

from peers import harness

MEASUREMENT = "RNA"
LAYER = "data"


class SomaStore(harness.Store):
    """An experiment as `tiledbsoma.io.from_h5ad` writes it by default."""

    def __init__(self, target: Path, variant: str) -> None:
        self.experiment = tiledbsoma.Experiment.open(str(target))
        self.matrix = self.experiment.ms[MEASUREMENT].X[LAYER]

    @classmethod
    def build(cls, source: Path, target: Path, variant: str) -> bool:
        """Ingests the h5ad file."""
        tiledbsoma.io.from_h5ad(str(target), str(source), MEASUREMENT, X_layer_name=LAYER)
        return True

    def close(self) -> None:
        """Closes the experiment."""
        self.experiment.close()

    def read(self, rows: Any, cols: Any) -> pa.Table:
        """Triplets of a selection."""
        return triplets(self.matrix.read((rows, cols)).tables().concat())

    def cells(self, rows: list[int]) -> Any:
        """Triplets of some cells."""
        return self.read(rows, slice(None))

    def genes(self, cols: list[int]) -> Any:
        """Triplets of some genes."""
        return self.read(slice(None), cols)

    def submatrix(self, rows: list[int], cols: list[int]) -> Any:
        """Triplets of some genes in some cells."""
        return self.read(rows, cols)

    def everything(self) -> Any:
        """CSR from the triplets, whose order follows the tiles."""
        parts = [
            sparse.csr_matrix(
                (
                    batch["soma_data"].to_numpy(),
                    (batch["soma_dim_0"].to_numpy(), batch["soma_dim_1"].to_numpy()),
                ),
                shape=self.matrix.shape,
            )
            for batch in self.matrix.read().tables()
        ]
        return parts[0] if len(parts) == 1 else sum(parts[1:], start=parts[0])

    def gene_sums(self) -> Any:
        """Sums by batches of the scan."""
        return self.sums("soma_dim_1", self.matrix.shape[1])

    def cell_sums(self) -> Any:
        """Sums by batches of the scan."""
        return self.sums("soma_dim_0", self.matrix.shape[0])

    def sums(self, dimension: str, length: int) -> np.ndarray:
        """Sums over the other dimension."""
        total = np.zeros(length)
        for batch in self.matrix.read().tables():
            index, values = batch[dimension].to_numpy(), batch["soma_data"].to_numpy()
            total += np.bincount(index, values, minlength=length)
        return total

    def filter_cells(self, cell_type: str, min_genes: int) -> Any:
        """Filter of obs."""
        condition = f"cell_type == '{cell_type}' and n_genes_by_counts >= {min_genes}"
        read = self.experiment.obs.read(
            value_filter=condition, column_names=["cell_id", "total_counts"]
        )
        return read.concat()

    def filter_counts(self, cell_type: str, batch: str) -> Any:
        """Query of the experiment."""
        condition = f"cell_type == '{cell_type}' and batch == '{batch}'"
        query = self.experiment.axis_query(
            MEASUREMENT, obs_query=tiledbsoma.AxisQuery(value_filter=condition)
        )
        with query:
            return triplets(query.X(LAYER).tables().concat())


def triplets(table: pa.Table) -> pa.Table:
    """The names that checking expects."""
    names = {"soma_dim_0": "cell", "soma_dim_1": "gene", "soma_data": "value"}
    return table.rename_columns([names[name] for name in table.column_names])


if __name__ == "__main__":
    harness.main(SomaStore)
