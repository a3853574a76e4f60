"""The tasks of `analysis.py`, each for one library in a process of its own.

    python analysis_tasks.py TASK COLUMN --source counts.h5ad --store counts.slaf --results FOLDER

Prints what it took as JSON, and keeps the numbers as `TASK-COLUMN.npz` in the folder of results.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from scanpy_tasks import chain as first_steps

COMPONENTS = 50
NEIGHBORS = 15


class Alone:
    """Times the step that a task is about, without what comes before it."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._started = 0.0

    def __enter__(self) -> Alone:
        self._started = time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds = time.perf_counter() - self._started


def modules(column: str) -> tuple[Any, Any]:
    """Where a column has its ``pp`` and ``tl``."""
    if column == "slaf":
        from slaf.integrations.scanpy import pp, tl
    else:
        from scanpy import pp, tl
    return pp, tl


def opened(args: argparse.Namespace) -> Any:
    """The data set as its users open it."""
    if args.column == "slaf":
        from slaf.integrations import read_slaf

        return read_slaf(str(args.store))
    import anndata as ad

    return ad.read_h5ad(args.source)


def normalised(args: argparse.Namespace) -> Any:
    """Logarithms of counts per 10,000."""
    pp, _ = modules(args.column)
    adata = opened(args)
    pp.normalize_total(adata, target_sum=1e4)
    pp.log1p(adata)
    return adata


def pca(args: argparse.Namespace, alone: Alone) -> dict[str, Any]:
    """Components of the highly variable genes."""
    pp, _ = modules(args.column)
    adata = normalised(args)
    pp.highly_variable_genes(adata, n_top_genes=2000)
    with alone:
        pp.pca(adata, n_comps=COMPONENTS)
    return components(adata)


def chain(args: argparse.Namespace, alone: Alone) -> dict[str, Any]:
    """From counts to components: quality control and filters as well."""
    pp, _ = modules(args.column)
    adata = opened(args)
    first_steps(pp, adata)
    with alone:
        pp.pca(adata, n_comps=COMPONENTS)
    return components(adata)


def components(adata: Any) -> dict[str, Any]:
    """What is compared of components."""
    variance = np.asarray(adata.uns["pca"]["variance"])
    scores = np.asarray(adata.obsm["X_pca"])
    return {"cells": adata.n_obs, "scores": scores, "variance": variance}


def ranks(args: argparse.Namespace, alone: Alone) -> dict[str, Any]:
    """Wilcoxon's test with ties, of each group with all others."""
    if args.column != "illico":
        return tested(args, alone, "wilcoxon", tie_correct=True)
    from illico import asymptotic_wilcoxon

    adata = normalised(args)[:, :: args.every].copy()
    threads = len(os.sched_getaffinity(0))
    with alone:
        # scanpy's test has no correction for continuity.
        found = asymptotic_wilcoxon(
            adata, is_log1p=True, group_keys=args.groupby, n_threads=threads, use_continuity=False
        )
    groups = found.index.get_level_values(0).unique().to_numpy(dtype=str)
    pvals = found["p_value"].to_numpy().reshape(len(groups), adata.n_vars)
    genes = adata.var_names.to_numpy(dtype=str)
    return {"cells": adata.n_obs, **by_name(groups, genes, {"pvals": pvals})}


def ttest(args: argparse.Namespace, alone: Alone) -> dict[str, Any]:
    """Welch's t-test, of each group with all others."""
    return tested(args, alone, "t-test")


def tested(args: argparse.Namespace, alone: Alone, method: str, **options: Any) -> dict[str, Any]:
    """Scores, p-values and logarithms of fold changes."""
    _, tl = modules(args.column)
    adata = normalised(args)
    if args.every > 1:
        adata = adata[:, :: args.every].copy()
    with alone:
        tl.rank_genes_groups(adata, args.groupby, method=method, **options)
    found = adata.uns["rank_genes_groups"]
    groups = found["names"].dtype.names
    order = [np.argsort(found["names"][group]) for group in groups]
    # Of all groups the same genes.
    genes = np.sort(np.asarray(found["names"][groups[0]], dtype=str))
    values = {
        name: np.stack(
            [np.asarray(found[name][g], np.float64)[o] for g, o in zip(groups, order, strict=True)]
        )
        for name in ("scores", "pvals", "logfoldchanges")
    }
    return {"cells": adata.n_obs, **by_name(np.asarray(groups, dtype=str), genes, values)}


def by_name(groups: Any, genes: Any, values: dict[str, Any]) -> dict[str, Any]:
    """Numbers of groups x genes in the order of their names, so that those of others compare."""
    rows, columns = np.argsort(groups), np.argsort(genes)
    sorted_values = {name: array[rows][:, columns] for name, array in values.items()}
    return {"groups": groups[rows], "genes": genes[columns], **sorted_values}


def neighbors(args: argparse.Namespace, alone: Alone) -> dict[str, Any]:
    """The numbers of the nearest cells of each, itself among them."""
    if args.column == "slaf":
        from slaf.integrations import read_slaf

        adata = read_slaf(str(args.points / "store.slaf"))
    else:
        import anndata as ad

        points = np.load(args.points / "points.npy")
        if args.column == "sklearn":
            from sklearn.neighbors import NearestNeighbors

            with alone:
                search = NearestNeighbors(n_neighbors=NEIGHBORS, algorithm="brute", n_jobs=-1)
                found = search.fit(points).kneighbors(points, return_distance=False)
            return {"cells": len(points), "found": np.sort(found, axis=1)}
        adata = ad.AnnData(obsm={"X_pca": points})
    pp, _ = modules(args.column)
    with alone:
        pp.neighbors(adata, n_neighbors=NEIGHBORS, use_rep="X_pca")
    distances = adata.obsp["distances"].tocsr()
    distances.sort_indices()
    found = distances.indices.reshape(adata.n_obs, NEIGHBORS - 1)
    # The graph leaves the cell itself out, which is the nearest of its own.
    own = np.arange(adata.n_obs)[:, None]
    found = np.sort(np.hstack([found, own]), axis=1)
    return {"cells": adata.n_obs, "found": found}


def analyze(args: argparse.Namespace, alone: Alone) -> dict[str, Any]:
    """An analysis in one call, without a layout, of a copy of the store."""
    from slaf.analysis import analyze as analysis

    with alone:
        # The data has columns of the usual names.
        report = analysis(str(args.store), umap=False, key_added="bench")
    steps = {step["name"]: step["seconds"] for step in report.steps}
    return {"cells": report.n_cells, "steps": list(steps), "seconds": list(steps.values())}


TASKS = {task.__name__: task for task in (pca, chain, ranks, ttest, neighbors, analyze)}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("task", choices=TASKS)
    parser.add_argument("column")
    parser.add_argument("--source", type=Path)
    parser.add_argument("--store", type=Path)
    parser.add_argument("--points", type=Path)
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--groupby", default="cell_type")
    parser.add_argument("--every", type=int, default=1)
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    # What a session has imported before it begins.
    modules(args.column)
    alone = Alone()
    wall, before = time.perf_counter(), usage()
    result = TASKS[args.task](args, alone)
    wall, (cpu, peak) = time.perf_counter() - wall, usage()
    cells = result.pop("cells")
    np.savez(args.results / f"{args.task}-{args.column}.npz", **result)
    took = {"wall": wall, "alone": alone.seconds, "cpu": cpu - before[0], "peak": peak}
    figures = {**took, "cells": cells}
    print(json.dumps(figures))


def usage() -> tuple[float, float]:
    """Seconds of CPU and the peak of memory in MiB, of this process and those it waited for."""
    all_of = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    cpu = sum(of.ru_utime + of.ru_stime for of in all_of)
    return cpu, max(of.ru_maxrss for of in all_of) / 1024


if __name__ == "__main__":
    main()
