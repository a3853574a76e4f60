"""Times one epoch of a loader in a process of its own, first batch and shutdown included."""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any


def cpu_seconds() -> float:
    """Processor time of this process and of the children it has waited for."""
    usages = [resource.getrusage(w) for w in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in usages)


def measure(
    epoch: Callable[[], Iterator[int]],
    cells: int | None,
    warm_up: bool,
    tokens: Callable[[], int] = lambda: 0,
) -> None:
    """Prints the numbers of one epoch as a line of JSON.

    Args:
        epoch: Starts an epoch; gives the number of cells of each batch.
        cells: Stop after this many; the whole epoch if None.
        warm_up: Load some batches before, to fill the page cache and to import all that is lazy.
        tokens: Tokens of the last epoch without padding; asked for when the time is taken.
    """
    if warm_up:
        for i, _ in enumerate(epoch()):
            if i == 20:
                break
    base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    cpu, begin = cpu_seconds(), time.perf_counter()
    first = n_cells = n_batches = 0
    last = begin
    iterator = epoch()
    for batch_cells in iterator:
        last = time.perf_counter()
        if not n_batches:
            first = last - begin
        n_batches += 1
        n_cells += batch_cells
        if cells is not None and n_cells >= cells:
            break
    del iterator
    end = time.perf_counter()
    result: dict[str, Any] = {
        "cells": n_cells,
        "tokens": tokens(),
        "batches": n_batches,
        "seconds": end - begin,
        "first_batch": first,
        "shutdown": end - last,
        "cpu_seconds": cpu_seconds() - cpu,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "base_mb": base / 1024,
    }
    print(json.dumps(result), flush=True)
    # Some loaders leave threads that keep the process.
    sys.stdout.flush()
    os._exit(0)
