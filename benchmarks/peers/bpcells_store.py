"""BPCells matrices through its Python bindings."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from bpcells.experimental import DirMatrix
from scipy import sparse

from peers import harness

CHUNK_ROWS = 10_000
CHUNK_GENES = 3_000


class BpcellsStore(harness.Store):
    """Bit-packed counts alone, no obs. Variants: `cell` (cell-major) and `gene` (gene-major)."""

    def __init__(self, target: Path, variant: str) -> None:
        self.variant = variant
        self.matrix = DirMatrix(str(target))
        self.matrix.threads = os.cpu_count()

    @classmethod
    def build(cls, source: Path, target: Path, variant: str) -> bool:
        """Reads the h5ad file, by stripes of cells for the gene-major order."""
        if variant == "cell":
            DirMatrix.from_h5ad(str(source), str(target))
            return True
        parts = target.with_name(target.name + ".parts")
        harness.remove(parts)
        parts.mkdir()
        with h5py.File(source) as file:
            stripes = [
                DirMatrix.from_scipy_sparse(stripe, str(parts / str(number)))
                for number, stripe in enumerate(gene_major_stripes(file["X"]))
            ]
        if len(stripes) == 1:
            # `from_vstack` of a single matrix writes nothing.
            (parts / "0").rename(target)
        else:
            DirMatrix.from_vstack(stripes, str(target))
        harness.remove(parts)
        return True

    def cells(self, rows: list[int]) -> Any:
        """Rows."""
        return self.matrix[np.asarray(rows), :]

    def genes(self, cols: list[int]) -> Any:
        """Columns."""
        return self.matrix[:, np.asarray(cols)]

    def submatrix(self, rows: list[int], cols: list[int]) -> Any:
        """Columns of rows, sliced in one step."""
        return self.matrix[np.asarray(rows), np.asarray(cols)]

    def everything(self) -> Any:
        """All of the matrix."""
        if self.variant == "gene":
            raise harness.NotAvailableError("gene-major copy, for gene queries")
        return self.matrix[:, :]

    def gene_sums(self) -> Any:
        """Sums of slices: the Python bindings have no reductions."""
        return self.sums(0)

    def cell_sums(self) -> Any:
        """Sums of slices."""
        return self.sums(1)

    def sums(self, axis: int) -> np.ndarray:
        """Sums along an axis, by slices in the order of storage."""
        n_obs, n_vars = self.matrix.shape
        by_cell = self.variant == "cell"
        step = CHUNK_ROWS if by_cell else CHUNK_GENES
        parts = []
        for start in range(0, n_obs if by_cell else n_vars, step):
            chosen = slice(start, start + step)
            part = self.matrix[chosen, :] if by_cell else self.matrix[:, chosen]
            parts.append(np.asarray(part.sum(axis=axis, dtype=np.float64)).ravel())
        return np.concatenate(parts) if by_cell == (axis == 1) else np.sum(parts, axis=0)


def gene_major_stripes(group: h5py.Group) -> Iterator[sparse.csc_matrix]:
    """CSC stripes of cells, one at a time."""
    n_obs, n_vars = group.attrs["shape"]
    indptr = group["indptr"][:]
    for start in range(0, n_obs, CHUNK_ROWS):
        stops = indptr[start : start + CHUNK_ROWS + 1]
        part = slice(stops[0], stops[-1])
        arrays = (group["data"][part], group["indices"][part], stops - stops[0])
        yield sparse.csr_matrix(arrays, shape=(len(stops) - 1, n_vars)).tocsc()


if __name__ == "__main__":
    harness.main(BpcellsStore)
