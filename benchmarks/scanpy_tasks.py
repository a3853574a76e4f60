"""Times the first steps of an analysis: scanpy's functions of slaf, and scanpy.

    python scanpy_tasks.py counts.h5ad --store counts.slaf [--zarr counts.zarr]

QC, filters, normalisation, logarithm and highly variable genes (seurat), from the file on disk to
the annotated data set:

- slaf: lazily from a store, which is made if it is not there;
- scanpy: h5ad read into memory;
- dask: scanpy on dask arrays over the same h5ad, in one process;
- dask-zarr: over AnnData's zarr of the same data, which `--zarr` names;
- to-dask: over the dask arrays that slaf gives of its store.

And a selection: 1,000 random cells x 50 random genes of slaf and of backed AnnData. Every run is a
process of its own; the best of some runs is printed, as wall time, CPU time and peak memory.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

DASK = ["chain:dask", "chain:dask-zarr", "chain:to-dask"]
TASKS = ["chain:slaf", "chain:scanpy", *DASK, "select:slaf", "select:backed"]


def chain(pp: Any, adata: Any) -> int:
    """The steps, with the names that slaf and scanpy share; the number of chosen genes."""
    adata.var["mt"] = adata.var_names.str.startswith("MT-")
    pp.calculate_qc_metrics(adata, qc_vars=["mt"], percent_top=None, inplace=True)
    pp.filter_cells(adata, min_genes=200)
    pp.filter_genes(adata, min_cells=3)
    pp.normalize_total(adata, target_sum=1e4)
    pp.log1p(adata)
    pp.highly_variable_genes(adata, n_top_genes=2000)
    return int(adata.var["highly_variable"].sum())


def dask_of(path: str) -> Any:
    """An AnnData over dask arrays of the chunks of an h5ad file or a zarr folder."""
    import anndata as ad
    import h5py

    if path.endswith(".h5ad"):
        file = h5py.File(path)
    else:
        import zarr

        file = zarr.open(path, mode="r")
    lazy = getattr(ad.experimental, "read_elem_lazy", None) or ad.experimental.read_elem_as_dask
    frames = {of: ad.io.read_elem(file[of]) for of in ("obs", "var")}
    return ad.AnnData(X=lazy(file["X"], chunks=(8192, frames["var"].shape[0])), **frames)


def run(task: str, source: str, store: str) -> Any:
    """One task; its answer."""
    import numpy as np

    if task == "chain:slaf":
        from slaf.integrations import pp, read_slaf

        return chain(pp, read_slaf(store))
    if task == "chain:to-dask":
        import scanpy as sc

        from slaf.integrations import read_slaf

        return chain(sc.pp, read_slaf(store).to_dask())
    if task.startswith("chain"):
        import anndata as ad
        import scanpy as sc

        return chain(sc.pp, dask_of(source) if task in DASK else ad.read_h5ad(source))
    random = np.random.default_rng(0)
    if task == "select:slaf":
        from slaf.integrations import read_slaf

        adata = read_slaf(store)
    else:
        import anndata as ad

        adata = ad.read_h5ad(source, backed="r")
    cells = np.sort(random.choice(adata.n_obs, 1000, replace=False))
    genes = np.sort(random.choice(adata.n_vars, 50, replace=False))
    mask = np.zeros(adata.n_obs, dtype=bool)
    mask[cells] = True
    # What comes before the selection is not timed: scanpy's users have opened the file.
    adata.obs_names, adata.var_names  # noqa: B018
    started = time.perf_counter()
    part = adata[mask, genes]
    matrix = part.X.compute() if task == "select:slaf" else part.to_memory().X
    return {"seconds": time.perf_counter() - started, "sum": float(matrix.sum())}


def child(task: str, source: str, store: str) -> None:
    """Runs a task, prints what it took."""
    warnings.simplefilter("ignore")
    if task.startswith("chain:"):
        # What a session has imported before it begins.
        __import__("slaf.integrations" if task == "chain:slaf" else "scanpy")
    wall, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF)
    answer = run(task, source, store)
    wall, after = time.perf_counter() - wall, resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    if isinstance(answer, dict):
        wall = answer["seconds"]
        answer = answer["sum"]
    peak = after.ru_maxrss / 1024
    print(json.dumps({"wall_s": wall, "cpu_s": cpu, "peak_mib": peak, "answer": answer}))


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path)
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--zarr", type=Path)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--task", action="append", choices=TASKS)
    parser.add_argument("--child", choices=TASKS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        child(args.child, str(args.source), str(args.store))
        return
    if not args.store.exists():
        from slaf.data import SLAFConverter

        SLAFConverter().convert(args.source, args.store)
    best: dict[str, dict[str, float]] = {}
    tasks = args.task or [task for task in TASKS if args.zarr or task != "chain:dask-zarr"]
    for task in tasks:
        source = args.zarr if task == "chain:dask-zarr" else args.source
        for _ in range(args.runs):
            command = [sys.executable, __file__, str(source), "--store", str(args.store)]
            done = subprocess.run(
                [*command, "--child", task], check=True, capture_output=True, text=True
            )
            figures = json.loads(done.stdout.splitlines()[-1])
            if task not in best or figures["wall_s"] < best[task]["wall_s"]:
                best[task] = figures
        print(task, {name: round(value, 4) for name, value in best[task].items()}, flush=True)
    for ours, theirs in (
        ("chain:slaf", "chain:scanpy"),
        *(("chain:slaf", task) for task in DASK),
        ("select:slaf", "select:backed"),
    ):
        if ours in best and theirs in best:
            ratios = {n: best[theirs][n] / best[ours][n] for n in ("wall_s", "cpu_s", "peak_mib")}
            print(f"{theirs} / {ours}:", {n: round(r, 2) for n, r in ratios.items()})


if __name__ == "__main__":
    main()
