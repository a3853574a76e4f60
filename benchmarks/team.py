"""Measures what a team asks of a store: appending, verifying, many clients, many committers.

    python benchmarks/team.py ~/.cache/slaf/bench/data/100000x30000.h5ad --store counts.slaf

- append: 10,000 cells appended to the store, beside converting them alone: seconds and bytes;
- verify: seconds of `verify()`, and GB for each second of CPU;
- clients: threads that share one handle and ask mixed questions for some seconds; each answer is
  compared with that of one thread before, and memory with that after the first second;
- cells: one thread, and as many as clients, that ask one kind of question about single cells each;
- committers: threads with handles of their own, each of which appends 10 cells at once with all
  others; in the end every cell is there once.

The store is copied first, and is not changed.
"""

from __future__ import annotations

import argparse
import resource
import shutil
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata
import numpy as np

from slaf import SLAFArray
from slaf.data import SLAFConverter

NEW_CELLS = 10_000


def size(folder: Path) -> int:
    """Bytes of all files below a folder."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def resident() -> float:
    """MiB of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def append(source: Path, store: Path, folder: Path, rounds: int) -> None:
    """Appends cells to the store, and converts them alone."""
    some = anndata.read_h5ad(source, backed="r")[:NEW_CELLS].to_memory()
    some.obs_names = [f"new {name}" for name in some.obs_names]
    new = folder / "new.h5ad"
    some.write_h5ad(new)
    alone, appended, bytes_alone, bytes_more = [], [], 0, 0
    for _ in range(rounds):
        for path in (folder / "alone.slaf", folder / "grown.slaf"):
            shutil.rmtree(path, ignore_errors=True)
        shutil.copytree(store, folder / "grown.slaf")
        began = time.perf_counter()
        SLAFConverter().convert(str(new), str(folder / "alone.slaf"))
        alone.append(time.perf_counter() - began)
        bytes_alone, before = size(folder / "alone.slaf"), size(folder / "grown.slaf")
        array = SLAFArray(folder / "grown.slaf")
        began = time.perf_counter()
        array.append(str(new))
        appended.append(time.perf_counter() - began)
        bytes_more = size(folder / "grown.slaf") - before
    ratios = [a / b for a, b in zip(appended, alone, strict=True)]
    print(
        f"append {NEW_CELLS:,} cells: {np.median(appended):.2f} s, alone {np.median(alone):.2f} s, "
        f"ratio {np.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f}); "
        f"{bytes_more / 1e6:.1f} MB, alone {bytes_alone / 1e6:.1f} MB, "
        f"ratio {bytes_more / bytes_alone:.2f}"
    )


def verify(store: Path) -> None:
    """Hashes the store."""
    array = SLAFArray(store)
    began, cpu = time.perf_counter(), time.process_time()
    damages = array.verify()
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    if damages:
        raise SystemExit(f"{store}: {damages}")
    n_bytes = size(store)
    print(
        f"verify {n_bytes / 1e6:,.0f} MB: {seconds:.2f} s, {n_bytes / 1e9 / seconds:.2f} GB/s, "
        f"{n_bytes / 1e9 / cpu:.2f} GB per CPU second"
    )


def questions(array: SLAFArray, n: int) -> list[Callable[[SLAFArray], Any]]:
    """Point queries of several kinds, whose answers compare."""
    random = np.random.default_rng(0)
    cells, genes = list(array.obs["cell_id"]), list(array.var["gene_id"][:2_000])

    def by_cell(name: str) -> Callable[[SLAFArray], Any]:
        return lambda a: a.get_cell_expression(name)["value"].sum()

    def by_sql(name: str) -> Callable[[SLAFArray], Any]:
        text = "SELECT SUM(value) FROM expression WHERE cell_id = ?"
        return lambda a: a.query(text, [name]).item()

    def by_gene(name: str) -> Callable[[SLAFArray], Any]:
        return lambda a: a.get_gene_expression(name)["value"].sum()

    def rows(first: int) -> Callable[[SLAFArray], Any]:
        return lambda a: a.to_csr(slice(first, first + 5)).sum()

    made = []
    for _ in range(n):
        kind = random.integers(0, 10)
        cell, gene = cells[random.integers(len(cells))], genes[random.integers(len(genes))]
        if kind < 5:
            made.append(by_cell(cell))
        elif kind < 8:
            made.append(by_sql(cell))
        elif kind < 9:
            made.append(by_gene(gene))
        else:
            made.append(rows(int(random.integers(0, len(cells) - 5))))
    return made


def clients(
    array: SLAFArray, one: SLAFArray, n_threads: int, seconds: float, n_questions: int = 2_000
) -> None:
    """Asks from many threads, and compares answers with those that one thread got from `one`."""
    asked = questions(one, n_questions)
    right = [question(one) for question in asked]
    times: list[list[float]] = [[] for _ in range(n_threads)]
    wrong: list[str] = []
    end = time.perf_counter() + seconds

    def client(number: int) -> None:
        at = number * (len(asked) // n_threads)
        while (began := time.perf_counter()) < end:
            i = at % len(asked)
            try:
                if asked[i](array) != right[i]:
                    wrong.append(f"question {i}: another answer")
            except Exception as error:
                wrong.append(f"question {i}: {error}")
            times[number].append(time.perf_counter() - began)
            at += 1

    threads = [threading.Thread(target=client, args=(number,)) for number in range(n_threads)]
    for thread in threads:
        thread.start()
    time.sleep(min(1.0, seconds / 2))
    early = resident()
    for thread in threads:
        thread.join()
    took = np.sort(np.concatenate([np.array(some) for some in times]))
    print(
        f"{n_threads} clients of one handle: {len(took) / seconds:,.0f} questions/s, "
        f"p50 {took[len(took) // 2] * 1e3:.1f} ms, p99 {took[int(len(took) * 0.99)] * 1e3:.1f} ms, "
        f"{len(wrong)} wrong, memory {early:,.0f} -> {resident():,.0f} MiB"
    )
    for text in wrong[:5]:
        print(f"  {text}")


def cells(store: Path, n_threads: int, seconds: float) -> None:
    """Asks for single cells, from one thread and from many that share a handle."""
    array = SLAFArray(store)
    names = list(array.obs["cell_id"])
    values = "SELECT gene_id, value FROM expression WHERE cell_id = ?"
    total = "SELECT SUM(value) FROM expression WHERE cell_id = ?"
    kinds: dict[str, Callable[[int], Any]] = {
        "get_cell_expression by number": lambda i: array.get_cell_expression(i),
        "get_cell_expression by name": lambda i: array.get_cell_expression(names[i]),
        "SQL, values of a cell": lambda i: array.query(values, [names[i]]),
        "SQL, sum of a cell": lambda i: array.query(total, [names[i]]),
    }

    def rate(ask: Callable[[int], Any], n: int) -> float:
        for i in range(10):
            ask(i)
        end, asked = time.perf_counter() + seconds, [0] * n

        def client(number: int) -> None:
            random = np.random.default_rng(number)
            while time.perf_counter() < end:
                ask(int(random.integers(len(names))))
                asked[number] += 1

        if n == 1:
            client(0)
        else:
            threads = [threading.Thread(target=client, args=(number,)) for number in range(n)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        return sum(asked) / seconds

    for kind, ask in kinds.items():
        one, many = rate(ask, 1), rate(ask, n_threads)
        print(f"{kind}: one client {one:,.0f}/s, {n_threads} clients {many:,.0f}/s")


def committers(folder: Path, n: int) -> None:
    """Appends from many threads at once."""
    path = folder / "many.slaf"

    def cells(number: int) -> anndata.AnnData:
        made = anndata.AnnData(np.ones((10, 5), np.float32))
        made.obs_names = [f"{number} {i}" for i in range(10)]
        return made

    SLAFConverter().convert_anndata(cells(-1), str(path))
    start = threading.Barrier(n)
    took, failed = [], []

    def commit(number: int) -> None:
        new, array = cells(number), SLAFArray(path)
        start.wait()
        began = time.perf_counter()
        try:
            array.append(new)
            took.append(time.perf_counter() - began)
        except Exception as error:
            failed.append(str(error))

    threads = [threading.Thread(target=commit, args=(number,)) for number in range(n)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    names = list(SLAFArray(path).obs["cell_id"])
    there = len(names) == len(set(names)) == 10 * (len(took) + 1)
    ordered = np.sort(took)
    middle, slow = ordered[len(ordered) // 2], ordered[int(len(took) * 0.99)]
    print(
        f"{n} committers at once: {len(took)} landed, {len(failed)} failed, "
        f"every cell there once: {there}, p50 {middle:.2f} s, p99 {slow:.2f} s"
    )
    for text in failed[:3]:
        print(f"  {text}")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path)
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--committers", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only-cells", action="store_true", help="ask for single cells alone")
    args = parser.parse_args()
    if not args.store.exists():
        SLAFConverter().convert(str(args.source), str(args.store))
    if args.only_cells:
        cells(args.store, args.clients, args.seconds / 4)
        return
    with tempfile.TemporaryDirectory() as folder:
        append(args.source, args.store, Path(folder), args.rounds)
        verify(args.store)
        cells(args.store, args.clients, args.seconds / 4)
        clients(SLAFArray(args.store), SLAFArray(args.store), args.clients, args.seconds)
        committers(Path(folder), args.committers)


if __name__ == "__main__":
    main()
