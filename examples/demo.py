"""A walk through SLAF on 700 blood cells: convert, look, ask, slice, export.

Run by `make demo`. The data set is the one that comes with scanpy (10x PBMC 68k, reduced), so
nothing is downloaded but packages.
"""

from __future__ import annotations

import shlex
import subprocess
import tempfile
import warnings
from importlib import metadata
from pathlib import Path

import anndata
import numpy as np

from slaf import SLAFArray
from slaf.integrations import read_slaf


def pbmc() -> Path:
    """Find the file in the installed scanpy, without importing scanpy."""
    for file in metadata.files("scanpy") or []:
        if file.name == "10x_pbmc68k_reduced.h5ad":
            return Path(str(file.locate()))
    raise SystemExit("scanpy is not installed: run `make demo`")


def step(title: str) -> None:
    print(f"\n== {title}", flush=True)


def slaf(*args: str | Path) -> None:
    """Run the slaf command."""
    shown = [a.name if isinstance(a, Path) else a for a in args]
    print(f"$ {shlex.join(['slaf', *shown])}", flush=True)
    subprocess.run(["slaf", *args], check=True)


def main() -> None:
    h5ad = pbmc()
    with tempfile.TemporaryDirectory(prefix="slaf-demo-") as folder:
        store = Path(folder) / "pbmc.slaf"

        step("Convert an h5ad file")
        slaf("convert", h5ad, store)

        step("What is in the store")
        slaf("info", store)

        step("Ask in SQL, on the command line")
        slaf(
            "query",
            store,
            "SELECT bulk_labels, COUNT(*) AS cells, ROUND(AVG(n_counts)) AS mean_counts "
            "FROM cells GROUP BY bulk_labels ORDER BY cells DESC",
        )

        step("Ask in SQL, in Python: the genes that mark B cells")
        print(
            SLAFArray(store).query(
                """
                SELECT e.gene_id, ROUND(AVG(e.value), 2) AS mean, COUNT(*) AS cells
                FROM expression e JOIN cells c ON e.cell_integer_id = c.cell_integer_id
                WHERE c.bulk_labels = "CD19+ B"
                GROUP BY e.gene_id ORDER BY mean DESC LIMIT 5
                """
            )
        )

        step("Slice it as an AnnData: nothing is read before compute()")
        adata = read_slaf(store)
        b_cells = adata[adata.obs.bulk_labels == "CD19+ B", :]
        block = b_cells[:10, :].X
        print(f"{adata.shape} -> {b_cells.shape} -> {block.shape}")
        values = block.compute()
        print(f"{values.nnz} stored values of {values.dtype}")

        step("Export, and compare with the original")
        back = Path(folder) / "back.h5ad"
        slaf("export", store, back)
        with warnings.catch_warnings():
            # The file is of an old AnnData, which anndata comments on.
            warnings.simplefilter("ignore", FutureWarning)
            first, last = anndata.read_h5ad(h5ad), anndata.read_h5ad(back)
        np.testing.assert_array_equal(np.asarray(first.X), np.asarray(last.X))
        assert first.obs.equals(last.obs)
        assert set(first.obsm) == set(last.obsm)
        assert set(first.uns) == set(last.uns)
        print("X, obs, obsm and uns are what they were.")


if __name__ == "__main__":
    main()
