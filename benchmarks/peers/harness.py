"""What the process of one store does: build, or open, ask, check and time.

A peer's module derives `Store`, lists its variants and calls `main`. To add a peer: derive `Store`
in a new file here, implement what it can do (the rest answers "not available"), and name it in
`benchmarks/registry.py`.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import registry
import selections

READ_BYTES = 1 << 20
CHECK_NONZEROS = 1 << 24


class NotAvailableError(Exception):
    """The store cannot do this; the message says why."""


class Store:
    """An open store of one variant. Opening is the constructor.

    Answers are in memory, with positions in the source: a scipy sparse matrix (rows and columns in
    the order asked for), or a table (polars, pyarrow, pandas) with the columns `cell`, `gene`,
    `value`, or with the columns `cell_id`, `gene_id`, `value` if the store speaks in names.
    Sums are a dense vector, or a table `index`, `value`. Filtered cells are a table `cell_id`,
    `total_counts`. Checking turns all of them into the same numbers, outside the timed part.
    """

    def __init__(self, target: Path, variant: str) -> None:
        raise NotImplementedError

    @classmethod
    def build(cls, source: Path, target: Path, variant: str) -> bool:
        """Converts the h5ad file `source` to a store at `target`.

        Returns:
            Whether there was something to convert: the source may be such a store already.
        """
        raise NotImplementedError

    def close(self) -> None:
        """Releases what the store holds open."""

    def cells(self, rows: list[int]) -> Any:
        """Counts of some cells."""
        raise NotAvailableError("no access by cell in this layout")

    def genes(self, cols: list[int]) -> Any:
        """Counts of some genes."""
        raise NotAvailableError("no access by gene in this layout")

    def submatrix(self, rows: list[int], cols: list[int]) -> Any:
        """Counts of some genes in some cells."""
        raise NotAvailableError("no submatrix in this layout")

    def everything(self) -> Any:
        """All of X as a `scipy.sparse` CSR matrix."""
        raise NotAvailableError("no CSR from this layout")

    def gene_sums(self) -> Any:
        """Sum of the counts of each gene."""
        raise NotAvailableError("no sums in this layout")

    def cell_sums(self) -> Any:
        """Sum of the counts of each cell."""
        raise NotAvailableError("no sums in this layout")

    def filter_cells(self, cell_type: str, min_genes: int) -> Any:
        """Cells of a type with at least so many genes."""
        raise NotAvailableError("holds no obs columns")

    def filter_counts(self, cell_type: str, batch: str) -> Any:
        """Counts of the cells of a type in a batch."""
        raise NotAvailableError("holds no obs columns")


def column(table: Any, name: str) -> np.ndarray:
    """A column of a polars, pyarrow or pandas table."""
    values = table[name]
    return np.asarray(values.to_numpy() if hasattr(values, "to_numpy") else values)


def column_names(table: Any) -> list[str]:
    """Column names of a polars, pyarrow or pandas table."""
    return list(getattr(table, "column_names", None) or table.columns)


def weights(values: np.ndarray, cells: np.ndarray, genes: np.ndarray) -> float:
    """A sum that changes when a value stands at another cell or gene; exact in float64."""
    weight = (cells.astype(np.int64) % 1009 + 1) * (genes.astype(np.int64) % 997 + 1)
    return float(values.astype(np.float64) @ weight.astype(np.float64))


def checksum_matrix(
    matrix: Any, rows: list[int] | None, cols: list[int] | None
) -> dict[str, float]:
    """Checksum of a sparse matrix whose rows and columns are the given positions."""
    row_of = np.arange(matrix.shape[0]) if rows is None else np.asarray(rows)
    col_of = np.arange(matrix.shape[1]) if cols is None else np.asarray(cols)
    if matrix.shape != (len(row_of), len(col_of)):
        return {"count": -1, "sum": float(matrix.shape[0]), "weighted": float(matrix.shape[1])}
    if matrix.format == "coo":
        matrix = matrix.tocsr()
    by_column = matrix.format == "csc"
    major, minor = (col_of, row_of) if by_column else (row_of, col_of)
    weighted = 0.0
    # In pieces: the check must not need more memory than the answer.
    for start in range(0, matrix.nnz, CHECK_NONZEROS):
        nonzeros = np.arange(start, min(start + CHECK_NONZEROS, matrix.nnz))
        outer = major[np.searchsorted(matrix.indptr, nonzeros, side="right") - 1]
        inner = minor[matrix.indices[nonzeros]]
        cells, genes = (inner, outer) if by_column else (outer, inner)
        weighted += weights(matrix.data[nonzeros], cells, genes)
    return {
        "count": int(matrix.nnz),
        "sum": float(matrix.data.sum(dtype=np.float64)),
        "weighted": weighted,
    }


def checksum_table(table: Any) -> dict[str, float]:
    """Checksum of a table of nonzeros, by position or by name."""
    names = column_names(table)
    cells = (
        column(table, "cell")
        if "cell" in names
        else selections.cell_positions(column(table, "cell_id"))
    )
    genes = (
        column(table, "gene")
        if "gene" in names
        else selections.gene_positions(column(table, "gene_id"))
    )
    values = column(table, "value")
    return {
        "count": len(values),
        "sum": float(values.sum(dtype=np.float64)),
        "weighted": weights(values, cells, genes),
    }


def checksum_sums(result: Any) -> dict[str, float]:
    """Checksum of one number per gene or cell; what is missing counts as 0."""
    if isinstance(result, np.ndarray):
        values = np.asarray(result).ravel()
        index = np.arange(len(values))
    else:
        index, values = column(result, "index"), column(result, "value")
    return {
        "count": int(np.count_nonzero(values)),
        "sum": float(values.sum(dtype=np.float64)),
        "weighted": weights(values, index, np.zeros(1, dtype=np.int64)),
    }


def checksum_cells(table: Any) -> dict[str, float]:
    """Checksum of filtered cells."""
    totals = column(table, "total_counts")
    cells = selections.cell_positions(column(table, "cell_id"))
    return {
        "count": len(totals),
        "sum": float(totals.sum(dtype=np.float64)),
        "weighted": weights(totals, cells, np.zeros(1, dtype=np.int64)),
    }


def checksum(method: str, result: Any, arguments: dict[str, Any]) -> dict[str, float]:
    """Numbers that are the same for every store that answers right."""
    if method in ("gene_sums", "cell_sums"):
        return checksum_sums(result)
    if method == "filter_cells":
        return checksum_cells(result)
    if not hasattr(result, "indptr") and not hasattr(result, "tocsr"):
        return checksum_table(result)
    # Rows of filtered counts are in source order; the plan says which they are.
    return checksum_matrix(result, arguments.get("rows"), arguments.get("cols"))


def store_files(target: Path) -> list[Path]:
    """Files of a store, which is a file or a folder."""
    if target.is_file():
        return [target]
    return [path for path in sorted(target.rglob("*")) if path.is_file()]


def read_into_cache(target: Path) -> None:
    """Reads every file, so that a warm measurement finds the page cache filled."""
    for path in store_files(target):
        with path.open("rb", buffering=0) as file:
            while file.read(READ_BYTES):
                pass


def drop_from_cache(target: Path) -> None:
    """Asks the system to forget the pages of the store's files."""
    for path in store_files(target):
        with path.open("rb") as file:
            # Dirty pages stay otherwise.
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def peak_mb() -> float:
    """Peak memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def run_build(store: type[Store], args: argparse.Namespace) -> dict[str, Any]:
    """Builds a store, and measures it."""
    partial = args.target.with_name("partial." + args.target.name)
    remove(partial)
    partial.parent.mkdir(parents=True, exist_ok=True)
    before = peak_mb()
    started = time.perf_counter()
    converted = store.build(args.source, partial, args.variant)
    seconds = time.perf_counter() - started
    remove(args.target)
    partial.rename(args.target)
    return {
        "seconds": seconds if converted else None,
        "bytes": sum(path.stat().st_size for path in store_files(args.target)),
        "peak_mb": peak_mb() if converted else None,
        "base_mb": before,
    }


def remove(path: Path) -> None:
    """Removes a file or a folder, if it is there."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def run_task(store_class: type[Store], args: argparse.Namespace) -> dict[str, Any]:
    """Measures a task cold, then warm; the peak memory is that of the first answer."""
    base = peak_mb()
    steps = json.loads(args.plan.read_text())["tasks"][args.task][: args.repetitions]
    answer: dict[str, Any] = {}
    for mode in args.modes.split(","):
        answer[mode] = run_mode(store_class, args, steps, cold=mode == "cold")
    first = next(iter(answer.values()))["peak_mb"]
    for measured in answer.values():
        measured.update({"peak_mb": first, "base_mb": base})
    return answer


def run_mode(
    store_class: type[Store], args: argparse.Namespace, steps: list[dict[str, Any]], *, cold: bool
) -> dict[str, Any]:
    """Opens and asks repeatedly; opening and asking are timed apart, checking is not timed."""
    method = registry.TASKS[args.task].method
    opened: list[float] = []
    asked: list[float] = []
    checked: list[dict[str, Any]] = []
    wrong: str | None = None
    peak = 0.0
    store: Store | None = None
    if not cold:
        read_into_cache(args.target)
    for step in steps:
        # A warm query runs in a store that has answered before; opening is always from scratch.
        if store is None or cold or method == "open":
            if store is not None:
                store.close()
            if cold:
                drop_from_cache(args.target)
            started = time.perf_counter()
            store = store_class(args.target, args.variant)
            opened.append(time.perf_counter() - started)
        if method != "open":
            started = time.perf_counter()
            result = getattr(store, method)(**step["arguments"])
            asked.append(time.perf_counter() - started)
        peak = peak or peak_mb()
        if method != "open" and step not in checked:
            checked.append(step)
            positions = step.get("positions", step["arguments"])
            found = checksum(method, result, positions)
            if found != step["expected"]:
                wrong = f"expected {step['expected']}, found {found}"
        # The next answer must not need room for two.
        result = None
        if sum(opened) + sum(asked) > args.budget:
            break
    if store is not None:
        store.close()
    return {"open": opened, "query": asked, "wrong": wrong, "peak_mb": peak}


def main(store: type[Store]) -> None:
    """Command line of a peer's module; the answer goes to a file, as libraries print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("action", choices=["build", "task"])
    parser.add_argument("--variant", required=True)
    parser.add_argument("--target", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--source", type=Path)
    parser.add_argument("--plan", type=Path)
    parser.add_argument("--task")
    parser.add_argument("--repetitions", type=int, default=selections.REPETITIONS)
    parser.add_argument("--budget", type=float, default=20.0)
    parser.add_argument("--modes", default="cold,warm")
    args = parser.parse_args()
    try:
        answer = run_build(store, args) if args.action == "build" else run_task(store, args)
    except NotAvailableError as reason:
        answer = {"not_available": str(reason)}
    args.output.write_text(json.dumps(answer))
    # Some peers leave threads that keep a finished process waiting.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
