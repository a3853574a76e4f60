"""AnnData's zarr v3 stores, read lazily with AnnData's own functions."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import zarr
from scipy import sparse

from peers import harness

CHUNK_ROWS = 5000


class ZarrStore(harness.Store):
    """A zarr v3 store with the chunks and codecs that `write_zarr` chooses."""

    def __init__(self, target: Path, variant: str) -> None:
        group = zarr.open_group(target, mode="r")
        self.matrix = anndata.io.sparse_dataset(group["X"])
        self.obs = anndata.io.read_elem(group["obs"])

    @classmethod
    def build(cls, source: Path, target: Path, variant: str) -> bool:
        """Rewrites the source with `write_zarr`."""
        anndata.settings.zarr_write_format = 3
        anndata.read_h5ad(source).write_zarr(target)
        return True

    def cells(self, rows: list[int]) -> Any:
        """Rows of X."""
        return self.matrix[np.asarray(rows)]

    def genes(self, cols: list[int]) -> Any:
        """Columns of X, by chunks of rows."""
        return sparse.vstack([part[:, cols] for part in self.chunks()], format="csr")

    def submatrix(self, rows: list[int], cols: list[int]) -> Any:
        """Rows of X, then columns."""
        return self.matrix[np.asarray(rows)][:, np.asarray(cols)]

    def everything(self) -> Any:
        """All of X."""
        return self.matrix.to_memory()

    def gene_sums(self) -> Any:
        """Sums by chunks of rows."""
        return np.sum(
            [np.asarray(part.sum(axis=0, dtype=np.float64)).ravel() for part in self.chunks()],
            axis=0,
        )

    def cell_sums(self) -> Any:
        """Sums by chunks of rows."""
        return np.concatenate(
            [np.asarray(part.sum(axis=1, dtype=np.float64)).ravel() for part in self.chunks()]
        )

    def filter_cells(self, cell_type: str, min_genes: int) -> Any:
        """Mask over obs."""
        obs = self.obs
        found = obs[(obs["cell_type"] == cell_type) & (obs["n_genes_by_counts"] >= min_genes)]
        return pd.DataFrame(
            {"cell_id": found.index.to_numpy(), "total_counts": found["total_counts"].to_numpy()}
        )

    def filter_counts(self, cell_type: str, batch: str) -> Any:
        """Mask over obs, then rows of X."""
        mask = ((self.obs["cell_type"] == cell_type) & (self.obs["batch"] == batch)).to_numpy()
        return self.matrix[np.flatnonzero(mask)]

    def chunks(self) -> Iterator[Any]:
        """X in pieces of rows."""
        for start in range(0, self.matrix.shape[0], CHUNK_ROWS):
            yield self.matrix[start : start + CHUNK_ROWS]


if __name__ == "__main__":
    harness.main(ZarrStore)
