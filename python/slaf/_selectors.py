"""Which cells or genes: from what users write to positions, and from there to Rust."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from slaf._errors import from_kind, invalid

Positions: TypeAlias = "range | npt.NDArray[np.int64]"
Lookup: TypeAlias = Callable[[list[str]], Positions]


class Axis:
    """The stored rows that an object shows, in its order.

    Slices of slices stay a ``range``: they cost nothing, however long the axis is.
    """

    __slots__ = ("n_stored", "rows")

    def __init__(self, n_stored: int, rows: Positions | None = None):
        self.n_stored = n_stored
        rows = range(n_stored) if rows is None else rows
        # Of the many empty ranges, only this one means an empty slice as well.
        self.rows: Positions = rows if len(rows) else range(0)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def is_all(self) -> bool:
        """Whether these are all rows in stored order."""
        return isinstance(self.rows, range) and self.rows == range(self.n_stored)

    def select(self, positions: Positions) -> Axis:
        """Choose among the rows that this axis shows."""
        if isinstance(positions, range):
            if positions == range(len(self)):
                return self
            return Axis(self.n_stored, self.rows[_slice_of(positions)])
        # Positions among all rows are the rows.
        return Axis(self.n_stored, positions if self.is_all else self.array()[positions])

    def array(self) -> npt.NDArray[np.int64]:
        """The stored rows as an array."""
        if isinstance(self.rows, range):
            return np.arange(self.rows.start, self.rows.stop, self.rows.step, dtype=np.int64)
        return self.rows

    def native(self) -> tuple[int, int] | npt.NDArray[np.int64] | None:
        """The stored rows as Rust takes them."""
        if self.is_all:
            return None
        if isinstance(self.rows, range) and self.rows.step == 1:
            return self.rows.start, self.rows.stop
        return for_rust(self.array())

    def indexer(self) -> slice | npt.NDArray[np.int64]:
        """The stored rows as numpy and pandas take them."""
        return _slice_of(self.rows) if isinstance(self.rows, range) else self.rows


def for_rust(values: Any, dtype: npt.DTypeLike | None = None) -> npt.NDArray[Any]:
    """The values as a contiguous array at an address that Rust can read.

    Arrays that were unpickled from a message, as in the workers of Dask, begin anywhere.
    """
    return np.require(values, dtype, ["C", "A"])


def _slice_of(rows: range) -> slice:
    if len(rows) == 0:
        return slice(0, 0)
    # A slice cannot say "down to and with row 0" with a number.
    return slice(rows.start, None if rows.stop < 0 else rows.stop, rows.step)


def positions(selector: Any, n: int, lookup: Lookup | None, id_column: str, what: str) -> Positions:
    """Normalise a selector along an axis, as AnnData does.

    Parameters
    ----------
    selector
        ``None`` or ``...`` (all), an integer, a name, a slice of either (slices of names include
        their end), a sequence or array of integers or names, a mask, or a frame with the column
        ``id_column``.
    n
        Length of the axis.
    lookup
        Gives the positions of names; ``None`` where there are no names.
    id_column
        The column of a frame that holds positions; empty where frames do not select.
    what
        ``"cell"`` or ``"gene"``, for messages.

    Returns
    -------
    range or ndarray of int64
        In the selector's order, duplicates kept, none negative.

    Raises
    ------
    OutOfRangeError
        For an integer outside of the axis, or a mask of another length.
    UnknownNameError
        For unknown names.
    InvalidArgumentError
        For anything else.
    """
    if selector is None or selector is Ellipsis:
        return range(n)
    if isinstance(selector, slice):
        return range(n)[_integer_slice(selector, lookup, what)]
    if isinstance(selector, str):
        return _names([selector], lookup, what)
    if isinstance(selector, (bool, np.bool_)):
        raise invalid(f"{selector} selects no {what}s: give a mask with one entry per {what}")
    if isinstance(selector, (int, np.integer)):
        at = _checked(np.array([selector], dtype=object), n, what)[0]
        return range(int(at), int(at) + 1)
    if id_column and hasattr(selector, "columns"):
        if id_column not in selector.columns:
            raise invalid(f"a frame selects {what}s by its column {id_column!r}, which is missing")
        selector = selector[id_column]
    return _from_array(_as_array(selector, what), n, lookup, what)


def _integer_slice(selector: slice, lookup: Lookup | None, what: str) -> slice:
    def bound(value: Any, end: bool) -> int | None:
        if isinstance(value, str):
            found = _names([value], lookup, what)
            if len(found) != 1:
                raise invalid(f"{value!r} names {len(found)} {what}s and cannot bound a slice")
            return int(found[0]) + end
        return None if value is None else operator.index(value)

    try:
        return slice(bound(selector.start, False), bound(selector.stop, True), selector.step)
    except TypeError as e:
        raise invalid(f"{selector} is not a slice of integers or names of {what}s") from e


def _as_array(selector: Any, what: str) -> npt.NDArray[Any]:
    if isinstance(selector, (list, tuple)) and any(isinstance(s, str) for s in selector):
        # numpy would turn everything beside a string into a string.
        if not all(isinstance(s, str) for s in selector):
            raise invalid(f"a list that selects {what}s mixes names and other things")
        return np.array(selector, dtype=object)
    if hasattr(selector, "to_numpy"):
        array = np.asarray(selector.to_numpy())
    elif hasattr(selector, "toarray"):
        array = np.asarray(selector.toarray())
    elif isinstance(selector, (set, frozenset, dict)) or not hasattr(selector, "__iter__"):
        kind = type(selector).__name__
        raise invalid(f"a {kind} does not select {what}s in an order: give a list or an array")
    else:
        array = np.asarray(selector if hasattr(selector, "__len__") else list(selector))
    if array.ndim == 2 and 1 in array.shape:
        array = array.ravel()
    if array.ndim != 1:
        raise invalid(f"an array of shape {array.shape} does not select {what}s")
    return array


def _from_array(array: npt.NDArray[Any], n: int, lookup: Lookup | None, what: str) -> Positions:
    if len(array) == 0 and array.dtype != np.bool_:
        return np.empty(0, dtype=np.int64)
    if array.dtype == object:
        kinds = {type(v) for v in array}
        if kinds <= {bool, np.bool_}:
            array = array.astype(bool)
        elif kinds <= {int} or all(issubclass(k, np.integer) for k in kinds):
            return _checked(array, n, what)
    if array.dtype == np.bool_:
        if len(array) != n:
            raise from_kind(
                "out-of-range", f"a mask of {len(array)} entries, but there are {n} {what}s"
            )
        return np.flatnonzero(array).astype(np.int64, copy=False)
    if array.dtype.kind == "f":
        whole = array.astype(np.int64)
        if (whole != array).any():
            outside = array[whole != array][0]
            raise from_kind("out-of-range", f"{outside} is no position of a {what}")
        array = whole
    if array.dtype.kind in "iu":
        return _checked(array, n, what)
    if array.dtype.kind in "UOT" and all(isinstance(v, str) for v in array):
        return _names([str(v) for v in array], lookup, what)
    raise invalid(f"an array of {array.dtype} values does not select {what}s")


def _checked(array: npt.NDArray[Any], n: int, what: str) -> npt.NDArray[np.int64]:
    outside = (array < -n) | (array >= n)
    if outside.any():
        raise from_kind(
            "out-of-range",
            f"{what} {array[outside.astype(bool)][0]} is out of range: there are {n} {what}s",
        )
    result = array.astype(np.int64)
    return np.where(result < 0, result + n, result)


def _names(names: list[str], lookup: Lookup | None, what: str) -> Positions:
    if lookup is None:
        raise invalid(f"a matrix has no names of {what}s: give integers, slices or masks")
    return lookup(names)
