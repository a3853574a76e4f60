"""Indices of cells and genes, as AnnData takes them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from slaf._errors import from_kind
from slaf._selectors import Positions

if TYPE_CHECKING:
    import pandas as pd


def unpack_index(index: Any) -> tuple[Any, Any]:
    """Split an index into the selectors of cells and genes."""
    if not isinstance(index, tuple):
        return index, None
    if sum(i is Ellipsis for i in index) > 1:
        raise from_kind("out-of-range", "an index can only have a single ellipsis ('...')")
    without = tuple(i for i in index if i is not Ellipsis)
    if len(index) == 3 and len(without) == 2:
        return without[0], without[1]
    if len(index) == 2:
        return index[0], index[1]
    if len(index) == 1:
        return index[0], None
    raise from_kind("out-of-range", f"{len(index)} indices, but there are cells and genes only")


def lookup_in(index: pd.Index[Any], names: list[str], what: str) -> Positions:
    """Find positions of names as AnnData does.

    Raises
    ------
    UnknownNameError
        For names that are not there, and for several names where names repeat.
    """
    import pandas as pd

    if len(names) == 1 and not index.is_unique:
        # One name may stand for several rows, as in pandas.
        found = np.flatnonzero(index == names[0])
    elif not index.is_unique:
        raise from_kind("ambiguous-name", f"names of {what}s repeat: make them unique first")
    else:
        found = index.get_indexer(pd.Index(names, dtype=object))
    missing = [n for n, i in zip(names, found, strict=False) if i < 0] if len(found) else names
    if missing:
        from difflib import get_close_matches

        some = ", ".join(repr(n) for n in missing[:5])
        close = get_close_matches(missing[0], [str(n) for n in index[:100_000]], n=3)
        hint = f"; did you mean {', '.join(map(repr, close))}?" if close else ""
        count = f" ({len(missing)} in all)" if len(missing) > 5 else ""
        raise from_kind(f"unknown-{what}", f"no {what} {some}{count}{hint}")
    return found.astype(np.int64)
