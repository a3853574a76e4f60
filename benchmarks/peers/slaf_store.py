"""SLAF itself, through its public Python API."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from peers import harness
from slaf import SLAFArray
from slaf.data import SLAFConverter


class SlafStore(harness.Store):
    """A SLAF dataset as the converter writes it by default."""

    def __init__(self, target: Path, variant: str) -> None:
        self.array = SLAFArray(str(target))

    @classmethod
    def build(cls, source: Path, target: Path, variant: str) -> bool:
        """Converts with the default options."""
        SLAFConverter().convert(str(source), str(target))
        return True

    def cells(self, rows: list[int]) -> Any:
        """CSR of some cells."""
        return self.array.to_csr(cells=rows)

    def genes(self, cols: list[int]) -> Any:
        """CSR of some genes over all cells."""
        return self.array.to_csr(genes=cols)

    def submatrix(self, rows: list[int], cols: list[int]) -> Any:
        """CSR of some genes in some cells."""
        return self.array.to_csr(cells=rows, genes=cols)

    def everything(self) -> Any:
        """CSR of X."""
        return self.array.to_csr()

    def gene_sums(self) -> Any:
        """SQL."""
        return self.sums("gene", self.array.n_vars)

    def cell_sums(self) -> Any:
        """SQL."""
        return self.sums("cell", self.array.n_obs)

    def sums(self, of: str, n: int) -> np.ndarray:
        """Sums by cell or gene; those without values have no row."""
        found = self.array.query(
            f"SELECT {of}_integer_id AS i, SUM(value) AS s FROM expression GROUP BY i"
        )
        sums = np.zeros(n)
        sums[found["i"].to_numpy()] = found["s"].to_numpy()
        return sums

    def filter_cells(self, cell_type: str, min_genes: int) -> Any:
        """Keyword filters."""
        return self.array.filter_cells(cell_type=cell_type, n_genes_by_counts=f">={min_genes}")

    def filter_counts(self, cell_type: str, batch: str) -> Any:
        """Rows that a filter returned, as the selector of the counts."""
        found = self.array.filter_cells(cell_type=cell_type, batch=batch)
        return self.array.to_csr(cells=found)


if __name__ == "__main__":
    harness.main(SlafStore)
