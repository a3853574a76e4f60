"""Texts and parameters of queries, the same for both engines."""

from __future__ import annotations

import datetime
import math
from collections.abc import Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import numpy as np

from slaf import _user_tables
from slaf._errors import from_kind, invalid
from slaf._numbers import flag

if TYPE_CHECKING:
    import polars as pl

    from slaf._store import Store

# The digits that a decimal has at most.
_DIGITS = 38


def asked(
    store: Store,
    sql: str,
    params: Any,
    timeout: float | None,
    tables: Mapping[str, Any] | None,
    dialect: str,
    measured: bool,
) -> tuple[str, Any, float | None, list[tuple[str, pl.DataFrame]], str, bool]:
    """Give the arguments of a query as Rust takes them; see :meth:`slaf.SLAFArray.query`."""
    _check_text(sql)
    values = plain(params)
    frames = {} if tables is None else _user_tables.frames(tables, store.native.tables())
    return sql, values, timeout, list(frames.items()), dialect, flag("measured", measured)


def _check_text(text: Any) -> None:
    """Refuse what is no text of Unicode."""
    if not isinstance(text, str):
        raise invalid(f"a query is a text, not {type(text).__name__}")
    try:
        text.encode()
    except UnicodeEncodeError as e:
        raise from_kind("invalid-query", f"the query is no text of Unicode: {e}") from e


def plain(params: Any) -> dict[str, Any] | list[Any] | None:
    """Make values of Python of what `params` of :meth:`slaf.SLAFArray.query` has.

    Raises
    ------
    InvalidArgumentError
        For what is neither a sequence nor a dict, and for values that SQL does not have.
    """
    if params is None:
        return None
    if isinstance(params, Mapping):
        for name in params:
            if not isinstance(name, str) or not name:
                raise invalid(f"the name of a parameter is a text, not {name!r}")
        return {name: _value(value) for name, value in params.items()}
    if isinstance(params, str) or hasattr(params, "columns"):
        what = type(params).__name__
        raise invalid(f"params is a {what}; pass a list of values or a dict")
    try:
        values = list(params)
    except TypeError:
        what = type(params).__name__
        raise invalid(f"params is of type {what}; pass a list of values or a dict") from None
    return [_value(value) for value in values]


def _value(value: Any) -> Any:
    if type(value) in (str, int, float, bool):
        return _plain_scalar(value)
    elements = _elements(value)
    if elements is None:
        return _scalar(value)
    if any(_elements(element) is not None for element in elements):
        raise invalid("a list of lists as a parameter")
    values = [_scalar(element) for element in elements]
    # A truth value beside numbers is one of them, as in numpy.
    if any(isinstance(v, bool) for v in values) and not all(
        v is None or isinstance(v, bool) for v in values
    ):
        values = [int(v) if isinstance(v, bool) else v for v in values]
    texts = [v for v in values if isinstance(v, str)]
    if texts and any(v is not None and not isinstance(v, str) for v in values):
        raise invalid("a list with texts and other values as a parameter: make them of one type")
    return values


def _elements(value: Any) -> list[Any] | None:
    """The elements of a list, a set, an array or a column."""
    if isinstance(value, (list, tuple, set, frozenset, range)):
        return list(value)
    if isinstance(value, np.ndarray):
        if value.ndim == 0:
            return None
        # Not `tolist`, which makes numbers of points in time.
        return list(value)
    for method in ("to_pylist", "to_list", "tolist"):
        if hasattr(value, method) and not isinstance(value, np.generic):
            return list(getattr(value, method)())
    return None


def _scalar(value: Any) -> Any:
    import pandas as pd

    if isinstance(value, np.ndarray):
        value = value[()]
    if hasattr(value, "as_py"):
        value = value.as_py()
    if value is None or value is pd.NA or value is pd.NaT:
        return None
    if isinstance(value, np.generic):
        return _of_numpy(value)
    if isinstance(value, (str, bool, float, int)):
        return _plain_scalar(value)
    if isinstance(value, Decimal):
        if not value.is_finite():
            return float(value)
        _, digits, exponent = value.as_tuple()
        if max(len(digits), -int(exponent), len(digits) + int(exponent)) > _DIGITS:
            raise invalid(f"a parameter of more than {_DIGITS} digits")
        return value
    if isinstance(value, (datetime.date, datetime.time, datetime.timedelta)):
        return value
    raise invalid(
        f"a parameter of type {type(value).__name__}; pass None, bool, int, float, str, Decimal, "
        "date, time, datetime, timedelta or a list of these"
    )


def _plain_scalar(value: str | float) -> Any:
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError as e:
            raise invalid(f"a parameter is no text of Unicode: {e}") from e
        return str(value)
    if isinstance(value, (bool, float)):
        return value
    return _within(int(value), abs(value))


def _within(value: int, size: int) -> int:
    if size >= 10**_DIGITS:
        raise invalid(f"an integer parameter of more than {_DIGITS} digits")
    return value


def _of_numpy(value: np.generic) -> Any:
    import pandas as pd

    kind = value.dtype.kind
    if isinstance(value, np.datetime64):
        return None if np.isnat(value) else pd.Timestamp(value)
    if isinstance(value, np.timedelta64):
        return None if np.isnat(value) else pd.Timedelta(value)
    if kind == "f":
        exact = float(value)
        if not math.isnan(exact) and exact != value:
            raise invalid(f"the parameter {value} is no float64")
        return exact
    if kind in "biuU":
        return _scalar(value.item())
    raise invalid(f"a parameter of type {type(value).__name__}")
