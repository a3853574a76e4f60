"""Times components, neighbours, markers and whole analyses of slaf and of its peers.

    python analysis.py counts.h5ad --store counts.slaf [--task pca --task ranks]
    python analysis.py counts.h5ad --store counts.slaf --task ranks --groupby donor --column slaf
    python analysis.py --task neighbors --points 1000000x50

Every run is a process of its own, the libraries in turns; the medians are printed with the lowest
ratio seen, cells for each second of CPU, and how far the numbers are apart:

- pca: from the file on disk through totals, logarithm and 2,000 highly variable genes to 50
  components, and the last step alone; the lowest |cos| between the components of both;
- chain: the same with quality control and filters of cells and genes before;
- ranks: Wilcoxon with ties of every group of `--groupby` against the rest, normalisation included,
  and the test alone; the largest relative difference of scores and of logarithmic p-values. What is
  not done within `--time-limit` is asked for every 20th gene alone;
- ttest: the same for the t-test;
- neighbors: the graph of 15 neighbours, of the components that `pca` found or of `--points`: so
  many generated ones of so many dimensions. Of scanpy it is its default, which approximates, of
  sklearn the search alone, by comparing all; the share of the exact neighbours of 200 cells, by
  numpy;
- analyze: `slaf analyze` without a layout, and the seconds of its steps.

scanpy, scikit-learn and illico have environments of their own, made when they are asked for.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import environments
import numpy as np
import search

HERE = Path(__file__).resolve().parent
BOTH = ("slaf", "scanpy")
#: The libraries of a task; those that are measured unless others are named come first.
COLUMNS = {
    "pca": (BOTH, ()),
    "chain": (BOTH, ()),
    "ranks": (BOTH, ("illico",)),
    "ttest": (BOTH, ()),
    "neighbors": ((*BOTH, "sklearn"), ()),
    "analyze": (("slaf",), ()),
}
ENVIRONMENTS = {"scanpy": "scanpy_analysis", "sklearn": "scanpy_analysis", "illico": "illico_ranks"}
#: Cells whose neighbours are found by comparing all, and cells that are compared at once.
SAMPLE, STRETCH = 200, 1 << 17
#: Libraries that are asked for every so manieth gene alone where they are not done in time: their
#: tests take as long for each gene.
SOME_GENES = {"ranks": ("scanpy", "illico"), "ttest": ("scanpy",)}
EVERY = 20


def interpreter(column: str, cache: Path) -> Path:
    """The Python that has a library."""
    module = ENVIRONMENTS.get(column)
    return Path(sys.executable) if module is None else environments.ensure(module, cache)


def exact_share(folder: Path, found: np.ndarray) -> float:
    """The share of the nearest of some cells, each its own, that were found; by comparing all."""
    points = np.load(folder / "points.npy", mmap_mode="r")
    random, n = np.random.default_rng(1), len(points)
    right = 0
    cells = np.sort(random.choice(n, min(SAMPLE, n), replace=False))
    for cell in cells:
        own = points[cell].astype(np.float64)
        parts = (points[start : start + STRETCH] for start in range(0, n, STRETCH))
        squared = np.concatenate([((part - own) ** 2).sum(1) for part in parts])
        # At the same distance those of smaller number come first.
        nearest = np.argsort(squared, kind="stable")[: found.shape[1]]
        right += len(np.intersect1d(nearest, found[cell]))
    return right / (len(cells) * found.shape[1])


def apart(task: str, ours: Any, theirs: Any) -> str:
    """How far the numbers of slaf are from those of another, in words."""
    if task in ("pca", "chain"):
        a, b = ours["scores"].astype(np.float64), theirs["scores"].astype(np.float64)
        cosines = np.abs((a * b).sum(0)) / np.linalg.norm(a, axis=0) / np.linalg.norm(b, axis=0)
        ratio = np.abs(ours["variance"] / theirs["variance"] - 1).max()
        return f"lowest |cos| 1 - {1 - cosines.min():.1e}; variances within {ratio:.1e}"
    if list(ours["groups"]) != list(theirs["groups"]):
        return "other groups"
    genes = np.isin(ours["genes"], theirs["genes"])
    texts = []
    for name in ("scores", "pvals", "logfoldchanges"):
        if name not in theirs:
            continue
        a, b = ours[name][:, genes], theirs[name]
        usable = np.isfinite(a) & np.isfinite(b)
        if name == "pvals":
            usable &= (a > 0) & (b > 0)
            a, b = np.log(np.where(usable, a, 1)), np.log(np.where(usable, b, 1))
        distance = np.abs(a - b)[usable] / np.maximum(np.abs(b)[usable], 1)
        texts.append(f"{name} {distance.max():.1e}")
    return "largest differences, relative above 1: " + ", ".join(texts)


class Bench:
    """Runs tasks, and prints a row for each library."""

    def __init__(self, args: argparse.Namespace, results: Path):
        self.args, self.results = args, results
        self.points: Path | None = None

    def make_points(self) -> Path:
        """The folder with the points of neighbours and their store, which are made if need be."""
        if self.args.points is not None:
            n, dims = self.args.points
            folder = Path(self.args.cache) / f"search-{n}x{dims}"
            if not (folder / "queries.npy").exists():
                folder.mkdir(parents=True, exist_ok=True)
                search.generate(n, dims, folder)
        else:
            found = self.results / "pca-slaf.npz"
            if not found.exists():
                raise SystemExit("no components: give --points, or the results of --task pca")
            folder = self.results / "points"
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            scores = np.load(found)["scores"]
            np.save(folder / "points.npy", scores)
            np.save(folder / "labels.npy", np.zeros(len(scores), np.int8))
        if not (folder / "store.slaf").exists():
            search.make_store(folder)
        return folder

    def copied(self) -> Path:
        """A copy of the store that may be changed; its files do not change, and are shared."""
        copy = self.results / "analyzed.slaf"
        shutil.rmtree(copy, ignore_errors=True)
        try:
            return Path(shutil.copytree(self.args.store, copy, copy_function=os.link))
        except (OSError, shutil.Error):
            # On another disk.
            shutil.rmtree(copy, ignore_errors=True)
            return Path(shutil.copytree(self.args.store, copy))

    def run(self, task: str, column: str, python: Path, every: int = 1) -> dict[str, Any]:
        """A run of a library: what it took, or why there is nothing to tell."""
        command = [str(python), str(HERE / "analysis_tasks.py"), task, column]
        command += ["--results", str(self.results), "--every", str(every)]
        if task == "neighbors":
            command += ["--points", str(self.points)]
        else:
            store = self.copied() if task == "analyze" else self.args.store
            command += ["--source", str(self.args.source), "--store", str(store)]
            command += ["--groupby", self.args.groupby]
        limit = None if column == "slaf" else self.args.time_limit
        try:
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=limit)
        except subprocess.TimeoutExpired:
            return {"failed": f"not done in {limit:,.0f} s"}
        if done.returncode != 0:
            return {"failed": f"failed, with status {done.returncode}"}
        figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return figures

    def measure(self, task: str) -> None:
        """Run a task by all libraries in turns, and print their rows."""
        if task == "neighbors":
            self.points = self.make_points()
        usual, others = COLUMNS[task]
        chosen = self.args.column or usual
        taken: dict[str, list[dict[str, Any]]] = {}
        pythons, remarks = dict[str, Path](), dict[str, str]()
        for column in (*usual, *others):
            if column not in chosen:
                continue
            taken[column] = []
            pythons[column] = interpreter(column, self.args.cache)
        for _ in range(self.args.rounds):
            for column, python in pythons.items():
                if column in remarks:
                    continue
                figures = self.run(task, column, python)
                if "failed" in figures and column in SOME_GENES.get(task, ()):
                    remarks[column] = f"{figures['failed']}; of every {EVERY}th gene"
                    figures = self.run(task, column, python, EVERY)
                if "failed" in figures:
                    remarks[column] = f"{remarks.get(column, '')} {figures['failed']}".strip()
                else:
                    taken[column].append(figures)
        for column, runs in taken.items():
            remark = [remarks[column]] if column in remarks else []
            if runs:
                self.print_row(task, column, runs, taken.get("slaf", []), remark)
            else:
                print(f"| {task} | {column} | | | | | | {'; '.join(remark)} |", flush=True)

    def print_row(
        self,
        task: str,
        column: str,
        runs: list[dict[str, Any]],
        ours: list[dict[str, Any]],
        told: list[str],
    ) -> None:
        """Print what a library took, beside what slaf took."""
        middle = {name: statistics.median(run[name] for run in runs) for name in runs[0]}
        found = np.load(self.results / f"{task}-{column}.npz")
        if column != "slaf" and ours:
            words = []
            for name, label in (("wall", "wall"), ("alone", "step"), ("peak", "peak")):
                ratios = [a[name] / b[name] for a, b in zip(runs, ours, strict=False)]
                words.append(f"{label} {statistics.median(ratios):.1f}x ({min(ratios):.1f}x)")
            told.append(", ".join(words))
            if task != "neighbors":
                told.append(apart(task, np.load(self.results / f"{task}-slaf.npz"), found))
        if task == "neighbors":
            told.append(f"{exact_share(self.points, found['found']):.6f} of the exact neighbours")
        if task == "analyze":
            steps = zip(found["steps"], found["seconds"], strict=True)
            told.append(", ".join(f"{step} {seconds:.1f} s" for step, seconds in steps))
        print(
            f"| {task} | {column} | {middle['wall']:.2f} | {middle['alone']:.2f} "
            f"| {middle['cpu']:.1f} | {middle['cells'] / middle['cpu']:,.0f} "
            f"| {middle['peak']:.0f} | {'; '.join(told)} |",
            flush=True,
        )


def size(text: str) -> tuple[int, int]:
    """Points and dimensions, as `1000000x50`."""
    n, dims = map(int, text.split("x"))
    return n, dims


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    columns = sorted({column for parts in COLUMNS.values() for part in parts for column in part})
    parser.add_argument("source", type=Path, nargs="?")
    parser.add_argument("--store", type=Path, help="made if it is not there")
    parser.add_argument("--results", type=Path, help="a folder that keeps the numbers")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--task", action="append", choices=COLUMNS)
    parser.add_argument("--column", action="append", choices=columns)
    parser.add_argument("--groupby", default="cell_type", help="of obs: donor has 24 groups")
    parser.add_argument(
        "--points", type=size, metavar="NxDIMS", help="of neighbors: generated ones"
    )
    parser.add_argument("--time-limit", type=float, help="seconds of a run of another library")
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache" / "slaf" / "bench")
    args = parser.parse_args()
    tasks = args.task or [task for task in COLUMNS if task != "analyze"]
    if tasks != ["neighbors"] or args.points is None:
        if args.source is None or args.store is None:
            parser.error("the data is missing: an h5ad and its --store")
        if not args.store.exists():
            from slaf.data import SLAFConverter

            SLAFConverter().convert(args.source, args.store)
    with tempfile.TemporaryDirectory() as temporary:
        results = args.results or Path(temporary)
        results.mkdir(parents=True, exist_ok=True)
        head = "task | column | wall, s | step alone, s | CPU, s | cells a CPU second | peak, MiB"
        print(f"| {head} | against slaf |")
        print("|---|---|---:|---:|---:|---:|---:|---|")
        bench = Bench(args, results)
        for task in tasks:
            bench.measure(task)


if __name__ == "__main__":
    main()
