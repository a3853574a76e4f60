"""Times components, neighbours and markers of slaf and of scanpy, and compares their numbers.

    python analysis.py counts.h5ad --store counts.slaf [--task pca --task ranks]

Every run is a process of its own, the two in turns; the medians are printed with the lowest ratio
seen, and beside them how far the numbers of the two are apart:

- pca: from the file on disk through totals, logarithm and 2,000 highly variable genes to 50
  components, and the last step alone; the lowest |cos| between the components of both;
- ranks: Wilcoxon with ties of every cell type against the rest, normalisation included, and the
  test alone; the largest relative difference of scores and of logarithmic p-values;
- ttest: the same for the t-test;
- neighbors: the graph of 15 neighbours in the components that `pca` found; of scanpy both its
  default, which approximates, and exact ones of scikit-learn; the share of the exact neighbours.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np

TASKS = ("pca", "ranks", "ttest", "neighbors")
COLUMNS = {
    "pca": ("slaf", "scanpy"),
    "ranks": ("slaf", "scanpy"),
    "ttest": ("slaf", "scanpy"),
    "neighbors": ("slaf", "scanpy", "sklearn"),
}
COMPONENTS = 50
NEIGHBORS = 15


def modules(column: str) -> tuple[Any, Any]:
    """Where a column has its ``pp`` and ``tl``."""
    if column == "slaf":
        from slaf.integrations.scanpy import pp, tl
    else:
        from scanpy import pp, tl
    return pp, tl


def opened(column: str, source: str, store: str) -> Any:
    """The data set as its users open it."""
    if column == "slaf":
        from slaf.integrations import read_slaf

        return read_slaf(store)
    import anndata as ad

    return ad.read_h5ad(source)


def pca(column: str, source: str, store: str) -> tuple[float, dict[str, Any]]:
    """Components of the highly variable genes."""
    pp, _ = modules(column)
    adata = opened(column, source, store)
    pp.normalize_total(adata, target_sum=1e4)
    pp.log1p(adata)
    pp.highly_variable_genes(adata, n_top_genes=2000)
    started = time.perf_counter()
    pp.pca(adata, n_comps=COMPONENTS)
    alone = time.perf_counter() - started
    variance = np.asarray(adata.uns["pca"]["variance"])
    return alone, {"scores": np.asarray(adata.obsm["X_pca"]), "variance": variance}


def ranks(column: str, source: str, store: str, method: str) -> tuple[float, dict[str, Any]]:
    """Scores and p-values of all genes, in order of their names within each group."""
    pp, tl = modules(column)
    adata = opened(column, source, store)
    pp.normalize_total(adata, target_sum=1e4)
    pp.log1p(adata)
    options = {"tie_correct": True} if method == "wilcoxon" else {}
    started = time.perf_counter()
    tl.rank_genes_groups(adata, "cell_type", method=method, **options)
    alone = time.perf_counter() - started
    found = adata.uns["rank_genes_groups"]
    result: dict[str, Any] = {}
    for name in ("scores", "pvals", "logfoldchanges"):
        groups = found[name].dtype.names
        parts = [found[name][g][np.argsort(found["names"][g])] for g in groups]
        result[name] = np.stack([np.asarray(part, np.float64) for part in parts])
    return alone, result


def neighbors(column: str, components: np.ndarray) -> tuple[float, dict[str, Any]]:
    """The neighbours' distances, as scanpy keeps them."""
    import anndata as ad

    pp, _ = modules(column)
    started = time.perf_counter()
    if column == "sklearn":
        from sklearn.neighbors import NearestNeighbors

        search = NearestNeighbors(n_neighbors=NEIGHBORS, algorithm="brute").fit(components)
        found = search.kneighbors(components, return_distance=False)
        return time.perf_counter() - started, {"found": np.sort(found, axis=1)}
    adata = ad.AnnData(obsm={"X_pca": components})
    if column == "slaf":
        from slaf.data import SLAFConverter
        from slaf.integrations import read_slaf

        with tempfile.TemporaryDirectory() as folder:
            adata.X = np.zeros((adata.n_obs, 1), np.float32)
            SLAFConverter().convert_anndata(adata, f"{folder}/a.slaf")
            adata = read_slaf(f"{folder}/a.slaf")
            started = time.perf_counter()
            pp.neighbors(adata, n_neighbors=NEIGHBORS, use_rep="X_pca")
            seconds = time.perf_counter() - started
    else:
        pp.neighbors(adata, n_neighbors=NEIGHBORS, use_rep="X_pca")
        seconds = time.perf_counter() - started
    distances = adata.obsp["distances"].tocsr()
    distances.sort_indices()
    found = distances.indices.reshape(adata.n_obs, NEIGHBORS - 1)
    # scanpy's graph leaves the cell itself out, which is the nearest of its own.
    own = np.arange(adata.n_obs)[:, None]
    return seconds, {"found": np.sort(np.hstack([found, own]), axis=1)}


def child(args: argparse.Namespace) -> None:
    """Runs a task for one column, keeps its result, prints what it took."""
    warnings.simplefilter("ignore")
    # What a session has imported before it begins.
    modules(args.column)
    wall, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF)
    source, store = str(args.source), str(args.store)
    if args.child == "pca":
        alone, result = pca(args.column, source, store)
    elif args.child == "neighbors":
        alone, result = neighbors(args.column, np.load(args.results / "pca-slaf.npz")["scores"])
    else:
        method = "wilcoxon" if args.child == "ranks" else "t-test"
        alone, result = ranks(args.column, source, store, method)
    wall, after = time.perf_counter() - wall, resource.getrusage(resource.RUSAGE_SELF)
    np.savez(args.results / f"{args.child}-{args.column}.npz", **result)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    figures = {"wall": wall, "alone": alone, "cpu": cpu, "peak": after.ru_maxrss / 1024}
    print(json.dumps(figures))


def apart(task: str, column: str, results: Path) -> str:
    """How far the numbers of slaf are from those of another, in words."""
    ours = np.load(results / f"{task}-slaf.npz")
    theirs = np.load(results / f"{task}-{column}.npz")
    if task == "pca":
        a, b = ours["scores"].astype(np.float64), theirs["scores"].astype(np.float64)
        cosines = np.abs((a * b).sum(0)) / np.linalg.norm(a, axis=0) / np.linalg.norm(b, axis=0)
        ratio = np.abs(ours["variance"] / theirs["variance"] - 1).max()
        return f"lowest |cos| 1 - {1 - cosines.min():.1e}; variances within {ratio:.1e}"
    if task == "neighbors":
        exact = np.load(results / f"{task}-sklearn.npz")["found"]
        shares = []
        for found in (ours["found"], theirs["found"]):
            same = [len(np.intersect1d(a, b)) for a, b in zip(found, exact, strict=True)]
            shares.append(np.mean(same) / NEIGHBORS)
        return f"exact neighbours: slaf {shares[0]:.6f}, {column} {shares[1]:.6f}"
    texts = []
    for name in ("scores", "pvals", "logfoldchanges"):
        a, b = ours[name], theirs[name]
        usable = np.isfinite(a) & np.isfinite(b)
        if name == "pvals":
            usable &= (a > 0) & (b > 0)
            a, b = np.log(np.where(usable, a, 1)), np.log(np.where(usable, b, 1))
        distance = np.abs(a - b)[usable] / np.maximum(np.abs(b)[usable], 1)
        texts.append(f"{name} {distance.max():.1e}")
    return "largest differences, relative above 1: " + ", ".join(texts)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path)
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--results", type=Path, help="a folder that keeps the numbers")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--task", action="append", choices=TASKS)
    parser.add_argument("--child", choices=TASKS, help=argparse.SUPPRESS)
    parser.add_argument("--column", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        child(args)
        return
    if not args.store.exists():
        from slaf.data import SLAFConverter

        SLAFConverter().convert(args.source, args.store)
    with tempfile.TemporaryDirectory() as temporary:
        results = args.results or Path(temporary)
        results.mkdir(parents=True, exist_ok=True)
        print("| task | column | wall, s | step alone, s | CPU, s | peak, MiB | against slaf |")
        print("|---|---|---:|---:|---:|---:|---|")
        for task in args.task or TASKS:
            measure(task, args, results)


def measure(task: str, args: argparse.Namespace, results: Path) -> None:
    """Runs a task for all columns in turns, prints its rows."""
    taken: dict[str, list[dict[str, float]]] = {column: [] for column in COLUMNS[task]}
    for _ in range(args.rounds):
        for column in COLUMNS[task]:
            command = [sys.executable, __file__, str(args.source), "--store", str(args.store)]
            command += ["--results", str(results), "--child", task, "--column", column]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            taken[column].append(json.loads(done.stdout.splitlines()[-1]))
    ours = taken["slaf"]
    for column, theirs in taken.items():
        middle = {name: statistics.median(run[name] for run in theirs) for name in theirs[0]}
        against = ""
        if column != "slaf":
            pairs = list(zip(theirs, ours, strict=True))
            words = []
            for name, label in (("wall", "wall"), ("alone", "step"), ("peak", "peak")):
                ratios = [a[name] / b[name] for a, b in pairs]
                words.append(f"{label} {statistics.median(ratios):.1f}x ({min(ratios):.1f}x)")
            against = ", ".join(words) + "; " + apart(task, column, results)
        print(
            f"| {task} | {column} | {middle['wall']:.2f} | {middle['alone']:.2f} "
            f"| {middle['cpu']:.1f} | {middle['peak']:.0f} | {against} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
