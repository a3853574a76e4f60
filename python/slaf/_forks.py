"""Forked processes: the threads of polars stay with the parent."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

from slaf._errors import invalid

# The threads of this process, where the system lists them: Linux.
_TASKS = Path("/proc/self/task")
# Others of polars run from its import on, and nothing waits for them.
_OF_THE_POOL = re.compile(rf"{re.escape(os.environ.get('POLARS_THREAD_NAME', 'polars'))}-\d+\s*\Z")


class _Fork:
    """What a fork found: whether the threads of polars were running."""

    at_fork = False
    #: Whether polars waits here for threads that stayed with the parent.
    is_orphaned = False


def _is_polars_running() -> bool:
    """Tell whether polars has threads; where that is not told, whether it may have some."""
    if "polars" not in sys.modules:
        return False
    try:
        names = [(task / "comm").read_text() for task in _TASKS.iterdir()]
    except OSError:
        return True
    return any(map(_OF_THE_POOL.match, names))


def _before() -> None:
    _Fork.at_fork = _is_polars_running()


def _in_child() -> None:
    _Fork.is_orphaned |= _Fork.at_fork


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_child=_in_child)


def check_polars(what: str) -> None:
    """Refuse what would wait for threads of polars for ever.

    Raises
    ------
    InvalidArgumentError
        In a child of a process that had used polars when it was forked.
    """
    if _Fork.is_orphaned:
        raise invalid(
            f"{what} needs the threads of polars, which belong to the process that this one was "
            "forked from: do it before the fork, start processes with spawn or forkserver, or ask "
            "in SQL with engine='datafusion'"
        )
