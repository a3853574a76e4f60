"""A line on the terminal that tells how far a long operation is."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def bar() -> Iterator[Callable[[str, int, int], None] | None]:
    """Give a callback for progress, or ``None`` where stderr is no terminal."""
    if not sys.stderr.isatty():
        yield None
        return

    def show(phase: str, done: int, total: int) -> None:
        # Before the number of cells is known there is nothing to measure.
        counted = f": {done:,} of {total:,} {100 * done // total} %" if total else ""
        sys.stderr.write(f"\r\x1b[K{phase}{counted}")
        sys.stderr.flush()

    try:
        yield show
    finally:
        sys.stderr.write("\r\x1b[K")
        sys.stderr.flush()
