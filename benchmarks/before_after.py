"""Compares two builds of SLAF on the same store: what a change costs, or gains.

    python benchmarks/before_after.py STORE --before ../old/python --after python

Both arguments are folders that hold the package `slaf` with its compiled module. The builds take
turns, each in a process of its own, so that a busy machine is busy for both; the best of a
process's repetitions counts, and the ratio is that of the medians over the turns. A ratio above 1
is slower than before.
"""

from __future__ import annotations

import argparse
import inspect
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path


def best(task: Callable[[int], object], seconds: float) -> float:
    """The shortest of the runs that fit into some seconds, at least three."""
    task(0)
    times: list[float] = []
    start = time.perf_counter()
    while len(times) < 3 or time.perf_counter() - start < seconds:
        before = time.perf_counter()
        task(len(times) + 1)
        times.append(time.perf_counter() - before)
    return min(times)


def measure(path: str, seconds: float) -> dict[str, float]:
    """Time every task on a store, in seconds (of the loader: for a cell)."""
    import numpy as np
    from loaders.medians import with_medians

    import slaf
    from slaf.integrations import read_slaf
    from slaf.ml import SLAFDataLoader

    array = slaf.SLAFArray(path)
    n_cells, n_genes = array.shape
    rng = np.random.default_rng(0)
    cells = {n: [np.sort(rng.choice(n_cells, n, False)) for _ in range(64)] for n in (1, 64, 1000)}
    cells[4096] = [np.sort(rng.choice(n_cells, min(4096, n_cells), False)) for _ in range(16)]
    genes = {n: [np.sort(rng.choice(n_genes // 4, n, False)) for _ in range(64)] for n in (1, 100)}
    block = [np.sort(rng.choice(n_genes, min(500, n_genes), False)) for _ in range(16)]
    ids = list(array.query("SELECT cell_id FROM cells ORDER BY cell_integer_id")["cell_id"])

    def of_cells(n: int) -> Callable[[int], object]:
        return lambda i: array.to_csr(cells=cells[n][i % len(cells[n])])

    def of_genes(n: int) -> Callable[[int], object]:
        return lambda i: array.to_csr(genes=genes[n][i % 64])

    def sub(i: int) -> object:
        return array.to_csr(cells=cells[1000][i % 64][:500], genes=block[i % 16])

    def sql(text: str) -> Callable[[int], object]:
        return lambda i: array.query(text.format(cell=ids[(i * 7919) % n_cells]))

    bound = "SELECT gene_id, value FROM expression WHERE cell_id = ?"

    def lazy_filter(_: int) -> object:
        adata = read_slaf(path)
        return adata[adata.obs["cell_type"] == "T cells"].shape

    def opened(ask: Callable[[slaf.SLAFArray], object]) -> Callable[[int], object]:
        return lambda _: ask(slaf.SLAFArray(path, load_metadata=False))

    def epoch(batch: int, **options: object) -> Callable[[int], object]:
        def run(_: int) -> None:
            loader = SLAFDataLoader(array, batch_size=batch, seed=1, **options)
            seen = 0
            for data in loader:
                seen += batch
                del data
                if seen >= 20_000:
                    break

        return run

    n_epoch = min(20_000, n_cells)
    has_gene_order = "gene_order" in inspect.signature(SLAFDataLoader).parameters
    by_gene = "SELECT gene_id, {} FROM expression GROUP BY gene_id"
    tasks: dict[str, Callable[[int], object]] = {
        "open": lambda _: slaf.SLAFArray(path).shape,
        "one cell": of_cells(1),
        "64 random cells": of_cells(64),
        "1,000 random cells": of_cells(1000),
        "4,096 random cells": of_cells(4096),
        "one gene": of_genes(1),
        "100 genes": of_genes(100),
        "500 x 500": sub,
        "one gene with names": lambda i: array.get_gene_expression(genes[1][i % 64]),
        "open, and one cell by name": opened(lambda a: a.to_csr(cells=ids[n_cells // 2])),
        "open, and filter cells": opened(lambda a: a.filter_cells(cell_type="T cells")),
        "open a lazy AnnData, and filter": lazy_filter,
        "filter cells": lambda _: array.filter_cells(cell_type="T cells"),
        "SQL: one cell by name": sql(
            "SELECT gene_id, value FROM expression WHERE cell_id = '{cell}'"
        ),
        "SQL: one cell by name, bound": lambda i: array.query(bound, [ids[i * 7919 % n_cells]]),
        "SQL: filter and group cells": sql(
            "SELECT cell_type, COUNT(*), AVG(total_counts) FROM cells GROUP BY cell_type"
        ),
        "SQL: sums by gene, stored": sql(by_gene.format("SUM(value)")),
        "SQL: MAX by gene": sql(by_gene.format("MAX(value)")),
        "SQL: plan alone": sql("EXPLAIN SELECT cell_type, AVG(total_counts) FROM cells GROUP BY 1"),
    }
    times = {name: best(task, seconds) for name, task in tasks.items()}
    for batch in (64, 512):
        raw = best(epoch(batch, raw_mode=True), 2 * seconds)
        times[f"loader, raw, batch {batch}, a cell"] = raw / n_epoch
        # A build that has one order of genes is compared in that.
        stored = {"gene_order": "stored"} if has_gene_order else {}
        raw = best(epoch(batch, raw_mode=True, **stored), 2 * seconds)
        times[f"loader, raw in stored order, batch {batch}, a cell"] = raw / n_epoch
    tokens = {
        "Geneformer with medians": {"tokenizer": with_medians(array)},
        "scGPT": {"tokenizer_type": "scgpt", "max_genes": 1200},
    }
    for name, options in tokens.items():
        times[f"loader, {name}, a cell"] = best(epoch(64, **options), 2 * seconds) / n_epoch
    return times


def run(package: Path, store: Path, seconds: float) -> dict[str, float]:
    """Measure a build in a process of its own."""
    command = [sys.executable, __file__, str(store), "--measure", "--seconds", str(seconds)]
    env = {**os.environ, "PYTHONPATH": str(package)}
    done = subprocess.run(command, env=env, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("store", type=Path)
    parser.add_argument("--before", type=Path)
    parser.add_argument("--after", type=Path)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0, help="for each task of a turn")
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        print(json.dumps(measure(str(args.store), args.seconds)))
        return
    times: dict[str, list[dict[str, float]]] = {"before": [], "after": []}
    for _ in range(args.turns):
        for which, package in (("before", args.before), ("after", args.after)):
            times[which].append(run(package, args.store, args.seconds))
    print("| task | before | after | ratio | lowest | highest |\n|---|---|---|---|---|---|")
    for task in times["before"][0]:
        before, after = ([t[task] for t in times[w]] for w in ("before", "after"))
        ratios = [a / b for a, b in zip(after, before, strict=True)]
        medians = statistics.median(before), statistics.median(after)
        cells = [f"{m * 1e3:.3g} ms" if m > 1e-4 else f"{m * 1e6:.3g} us" for m in medians]
        print(
            f"| {task} | {cells[0]} | {cells[1]} | {medians[1] / medians[0]:.2f} "
            f"| {min(ratios):.2f} | {max(ratios):.2f} |"
        )


if __name__ == "__main__":
    main()
