"""Conditions of ``filter_cells`` and ``filter_genes`` on the values of a column."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from slaf._errors import invalid
from slaf._slaf import Column

_COMPARISON = re.compile(r"\s*(>=|<=|==|!=|>|<|=)\s*(\S+)\s*")
_OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    ">=": operator.ge,
    "<=": operator.le,
    "==": operator.eq,
    "=": operator.eq,
    "!=": operator.ne,
    ">": operator.gt,
    "<": operator.lt,
}


def mask(column: Column, condition: Any) -> npt.NDArray[np.bool_]:
    """Tell which rows fulfil a condition.

    Parameters
    ----------
    column
        A column as Rust gives it.
    condition
        A scalar (equals; ``None`` and NaN match missing values), a list or array (is one of), or,
        for a numeric column only, a text such as ``">=500"``. A missing value fulfils no other
        condition.

    Raises
    ------
    InvalidArgumentError
        If the condition does not fit to the type of the column.
    """
    name, values, missing = column.name, column.values, column.mask
    missing_too = _wants_missing(condition)
    if column.categories is not None:
        # Each category is looked at once; -1, a missing value, takes the last entry.
        codes = np.asarray(values)
        of_categories = mask(Column(name, column.categories), condition)
        wanted = np.flatnonzero(of_categories)
        if len(wanted) == 1 and not missing_too:
            return np.asarray(codes == wanted[0], dtype=np.bool_)
        return np.append(of_categories, missing_too)[codes]
    if isinstance(values, list):
        present = np.array([v is not None for v in values], dtype=np.bool_)
        found = _match_text(name, values, condition)
    else:
        present = np.ones(len(values), dtype=np.bool_) if missing is None else ~missing
        if values.dtype.kind == "f":
            present &= ~np.isnan(values)
        found = _match_numbers(name, values, condition)
    found &= present
    return found | ~present if missing_too else found


def _options(condition: Any) -> list[Any] | None:
    """The alternatives of a condition that is a list, an array or a set."""
    if isinstance(condition, str) or not hasattr(condition, "__iter__"):
        return None
    return list(condition.tolist() if hasattr(condition, "tolist") else condition)


def _is_missing(value: Any) -> bool:
    # NaN and pandas' NaT differ from themselves; pandas' NA compares to neither.
    return value is None or type(value).__name__ == "NAType" or bool(value != value)


def _wants_missing(condition: Any) -> bool:
    options = _options(condition)
    return any(map(_is_missing, [condition] if options is None else options))


def _wanted(condition: Any) -> list[Any]:
    options = _options(condition)
    return [v for v in ([condition] if options is None else options) if not _is_missing(v)]


def _match_text(name: str, values: list[str | None], condition: Any) -> npt.NDArray[np.bool_]:
    wanted = _wanted(condition)
    for value in wanted:
        if not isinstance(value, str):
            raise invalid(f"column {name!r} holds text, and {value!r} is none")
    options = set(wanted)
    return np.fromiter((v in options for v in values), dtype=np.bool_, count=len(values))


def _match_numbers(name: str, values: npt.NDArray[Any], condition: Any) -> npt.NDArray[np.bool_]:
    is_bool = values.dtype == np.bool_
    if isinstance(condition, str):
        parts = _COMPARISON.fullmatch(condition)
        number = None if parts is None or is_bool else _number(parts[2])
        if parts is None or number is None:
            fits = "True or False" if is_bool else 'a number or a comparison such as ">=500"'
            raise invalid(f"column {name!r} is {values.dtype}: give {fits}, not {condition!r}")
        return np.asarray(_OPERATORS[parts[1]](values, number), dtype=np.bool_)
    found = np.zeros(len(values), dtype=np.bool_)
    for value in _wanted(condition):
        if isinstance(value, (bool, np.bool_)) != is_bool or not isinstance(
            value, (bool, np.bool_, int, float, np.number)
        ):
            raise invalid(f"column {name!r} is {values.dtype}, and {value!r} does not fit to it")
        found |= values == value
    return found


def _number(text: str) -> int | float | None:
    for parse in (int, float):
        try:
            return parse(text)
        except ValueError:
            pass
    return None
