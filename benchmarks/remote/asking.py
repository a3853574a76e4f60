"""What the process of one library does: open a handle, ask one question twice, check the answers.

A library's module derives `Store` and calls `main`.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from peers import harness

from remote.proxy import own

# What is compared with is a mean of float32 in float64.
TOLERANCE = 1e-5


class Store:
    """A handle of a store; opening is the constructor.

    Counts are answered as `peers.harness.Store` says: a sparse matrix, or a table of triplets.
    """

    def __init__(self, address: str, endpoint: str) -> None:
        raise NotImplementedError

    def cell_by_name(self, name: str) -> Any:
        """Counts of the cell of a name."""
        raise NotImplementedError

    def cell_by_number(self, number: int) -> Any:
        """Counts of the cell at a position."""
        raise NotImplementedError

    def gene(self, name: str, number: int) -> Any:
        """Counts of a gene in all cells, by what the library finds faster."""
        raise NotImplementedError

    def group(self, batch: str) -> dict[str, tuple[int, float]]:
        """Of the cells of a batch, the number and the mean of `total_counts` of each type."""
        raise NotImplementedError

    def cells(self, names: list[str], numbers: list[int]) -> Any:
        """Counts of some cells, by what the library finds faster."""
        raise NotImplementedError


def wrong(task: str, answer: Any, step: dict[str, Any]) -> str | None:
    """What is wrong with an answer, if anything is."""
    expected = step["expected"]
    if task != "group":
        found = harness.checksum("cells", answer, step["positions"])
        return None if found == expected else f"expected {expected}, found {found}"
    if set(answer) != set(expected):
        return f"expected the types {sorted(expected)}, found {sorted(answer)}"
    for name, (n, mean) in expected.items():
        if answer[name][0] != n or abs(answer[name][1] - mean) > TOLERANCE * mean:
            return f"{name}: expected {n} and {mean}, found {answer[name]}"
    return None


def measure(store_class: type[Store], args: argparse.Namespace) -> dict[str, Any]:
    """Seconds of opening, of the first answer and of the same again."""
    step = json.loads(args.plan.read_text())["tasks"][args.task][args.step]
    seconds: dict[str, float] = {}
    own(args.endpoint, "mark/open")
    began = time.perf_counter()
    store = store_class(args.address, args.endpoint)
    seconds["open"] = time.perf_counter() - began
    problem = None
    # Who asks at once shares the connection with what a library goes on to read in the background.
    for mark in ("first", "again") if args.task != "open" else ():
        own(args.endpoint, f"mark/{mark}")
        began = time.perf_counter()
        answer = getattr(store, args.task)(**step["arguments"])
        seconds[mark] = time.perf_counter() - began
        own(args.endpoint, "settle")
        problem = problem or wrong(args.task, answer, step)
    own(args.endpoint, "settle")
    own(args.endpoint, "mark/end")
    return {"seconds": seconds, "wrong": problem, "peak_mb": harness.peak_mb()}


def main(store_class: type[Store]) -> None:
    """Command line of a library's module; the answer goes to a file, as libraries print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--address", required=True)
    parser.add_argument("--endpoint", required=True)
    parser.add_argument("--plan", type=Path, required=True)
    parser.add_argument("--task", required=True)
    parser.add_argument("--step", type=int, required=True)
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()
    args.output.write_text(json.dumps(measure(store_class, args)))
    # Some libraries leave threads that keep a finished process waiting.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
