"""AnnData's h5ad files: backed (raw, gzip, CSC) and in memory."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
from scipy import sparse

from peers import harness

CHUNK_ROWS = 5000


class H5adStore(harness.Store):
    """An h5ad file. Variants: `backed` and `memory` (raw CSR), `gzip` (CSR), `csc` (raw)."""

    def __init__(self, target: Path, variant: str) -> None:
        self.variant = variant
        self.adata = anndata.read_h5ad(target, backed=None if variant == "memory" else "r")

    @classmethod
    def build(cls, source: Path, target: Path, variant: str) -> bool:
        """Links the source, or rewrites it with `write_h5ad`."""
        if variant in ("backed", "memory"):
            # The source already is this store.
            os.link(source, target)
            return False
        adata = anndata.read_h5ad(source)
        if variant == "csc":
            adata.X = adata.X.tocsc()
        adata.write_h5ad(target, compression="gzip" if variant == "gzip" else None)
        return True

    def close(self) -> None:
        """Closes the file."""
        if self.adata.isbacked:
            self.adata.file.close()

    def cells(self, rows: list[int]) -> Any:
        """Rows of X."""
        self.require_rows()
        return self.adata.X[np.asarray(rows)]

    def genes(self, cols: list[int]) -> Any:
        """Columns of X."""
        if self.variant in ("backed", "gzip"):
            # AnnData's own `X[:, cols]` of a backed CSR first reads all of X.
            return sparse.vstack([part[:, cols] for part in self.chunks()], format="csr")
        return self.adata.X[:, np.asarray(cols)]

    def submatrix(self, rows: list[int], cols: list[int]) -> Any:
        """Rows of X, then columns."""
        self.require_rows()
        return self.adata.X[np.asarray(rows)][:, np.asarray(cols)]

    def everything(self) -> Any:
        """All of X."""
        if self.variant == "memory":
            return self.adata.X
        self.require_rows()
        return self.adata.X.to_memory()

    def gene_sums(self) -> Any:
        """Sum of the columns, in chunks if backed."""
        return self.sum_axis(0)

    def cell_sums(self) -> Any:
        """Sum of the rows, in chunks if backed."""
        return self.sum_axis(1)

    def filter_cells(self, cell_type: str, min_genes: int) -> Any:
        """Mask over obs."""
        obs = self.adata.obs
        found = obs[(obs["cell_type"] == cell_type) & (obs["n_genes_by_counts"] >= min_genes)]
        return pd.DataFrame(
            {"cell_id": found.index.to_numpy(), "total_counts": found["total_counts"].to_numpy()}
        )

    def filter_counts(self, cell_type: str, batch: str) -> Any:
        """Mask over obs, then rows of X."""
        obs = self.adata.obs
        mask = ((obs["cell_type"] == cell_type) & (obs["batch"] == batch)).to_numpy()
        return self.cells(np.flatnonzero(mask).tolist())

    def require_rows(self) -> None:
        """CSC serves columns; AnnData's way to rows is to read all of it."""
        if self.variant == "csc":
            raise harness.NotAvailableError("gene-major copy, for gene queries")

    def chunks(self) -> Iterator[Any]:
        """X in pieces of rows, as AnnData reads a backed file."""
        for part, _, _ in self.adata.chunked_X(CHUNK_ROWS):
            yield part

    def sum_axis(self, axis: int) -> np.ndarray:
        """Sums along an axis."""
        self.require_rows()
        if self.variant == "memory":
            return np.asarray(self.adata.X.sum(axis=axis, dtype=np.float64)).ravel()
        parts = [
            np.asarray(part.sum(axis=axis, dtype=np.float64)).ravel() for part in self.chunks()
        ]
        return np.sum(parts, axis=0) if axis == 0 else np.concatenate(parts)


if __name__ == "__main__":
    harness.main(H5adStore)
