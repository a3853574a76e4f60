"""Frames of the user as tables of a query."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from slaf._errors import invalid
from slaf._forks import check_polars

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl


def frames(tables: Mapping[str, Any] | None, taken: list[str]) -> dict[str, pl.DataFrame]:
    """Make frames of polars of what `tables` of :meth:`slaf.SLAFArray.query` has.

    Raises
    ------
    InvalidArgumentError
        For what is no frame, and names that `taken` has, in whatever case.
    """
    if tables is None:
        return {}
    if not isinstance(tables, Mapping):
        raise invalid(f"tables is a dict of names and frames, not {type(tables).__name__}")
    names = {name.lower() for name in taken}
    made = {}
    for name, frame in tables.items():
        if not isinstance(name, str) or not name:
            raise invalid(f"the name of a table is a text, not {name!r}")
        if "\0" in name:
            raise invalid(f"the name {name!r} of a table has a NUL character")
        if name.lower() in names:
            raise invalid(f"there is a table {name!r} already: give yours another name")
        names.add(name.lower())
        made[name] = _with_types(name, _frame(name, frame))
    return made


def _frame(name: str, frame: Any) -> pl.DataFrame:
    import pandas as pd
    import polars as pl

    if isinstance(frame, pl.LazyFrame):
        check_polars(f"the LazyFrame {name!r}")
    try:
        if isinstance(frame, pd.DataFrame):
            return _of_pandas(frame)
        if isinstance(frame, pl.LazyFrame):
            return frame.collect()
        if isinstance(frame, pl.DataFrame):
            return frame
        if hasattr(frame, "__arrow_c_stream__") or hasattr(frame, "__arrow_c_array__"):
            return pl.DataFrame(frame)
    except (TypeError, ValueError, OverflowError, pl.exceptions.PolarsError) as e:
        raise invalid(f"table {name!r}: {e}") from e
    except BaseException as e:
        # polars panics over types of Arrow that it does not have.
        if type(e).__name__ != "PanicException":
            raise
        raise invalid(
            f"table {name!r} has a column of a type that polars does not have: {e}"
        ) from e
    what = type(frame).__name__
    raise invalid(f"table {name!r} is no frame of pandas, polars or Arrow, but {what}")


def _with_types(table: str, frame: pl.DataFrame) -> pl.DataFrame:
    """Refuse what Arrow's interface does not carry, and give a type to columns of nulls alone."""
    import polars as pl

    if not frame.columns:
        raise invalid(
            f"table {table!r} has no columns; those of pandas need a named index or columns"
        )
    for name, dtype in frame.schema.items():
        for inner_name, inner in _fields(name, dtype):
            # Arrow's names end with a NUL: polars ends the process.
            if "\0" in inner_name:
                raise invalid(f"table {table!r}: the name {inner_name!r} has a NUL character")
            if inner == pl.Object:
                raise invalid(
                    f"table {table!r}: column {name!r} holds objects of Python that are no values "
                    "of SQL: convert it, for example with .astype(str)"
                )
            if str(inner) in ("Int128", "UInt128"):
                raise invalid(
                    f"table {table!r}: column {name!r} has whole numbers beyond 64 bits: convert "
                    "it to floats or text"
                )
    nothing = [name for name, dtype in frame.schema.items() if dtype == pl.Null]
    # DuckDB has no float16.
    half = [name for name, dtype in frame.schema.items() if str(dtype) == "Float16"]
    return frame.with_columns(pl.col(nothing).cast(pl.String), pl.col(half).cast(pl.Float32))


def _fields(name: str, dtype: Any) -> Iterator[tuple[str, Any]]:
    """A column and the fields inside of it."""
    yield name, dtype
    for field in getattr(dtype, "fields", ()):
        yield from _fields(field.name, field.dtype)
    if getattr(dtype, "inner", None) is not None:
        yield from _fields(name, dtype.inner)


def _of_pandas(frame: pd.DataFrame) -> pl.DataFrame:
    """Take the columns, after the levels of the index that have names."""
    import polars as pl

    index = frame.index
    named = [(n, index.get_level_values(i).to_series()) for i, n in enumerate(index.names)]
    named = [(name, level) for name, level in named if name is not None]
    named += [(name, frame.iloc[:, i]) for i, name in enumerate(frame.columns)]
    columns: dict[str, pd.Series[Any]] = {}
    for name, column in named:
        if not isinstance(name, str):
            raise ValueError(f"the name of a column is a text, not {name!r}")
        if name in columns:
            raise ValueError(f"more than one column (or the index and a column) is named {name!r}")
        columns[name] = column
    return pl.DataFrame([_series(name, column) for name, column in columns.items()])


def _series(name: str, column: pd.Series[Any]) -> pl.Series:
    """Make a column in which a missing value, NaN among them, is null."""
    import pandas as pd
    import polars as pl

    if isinstance(column.dtype, pd.CategoricalDtype):
        categories = column.cat.categories.tolist()
        codes = column.cat.codes.to_numpy()
        # The last entry is that of the code -1, a missing value.
        values = np.array([*categories, None], dtype=object)[codes].tolist()
        is_text = all(isinstance(c, str) for c in categories)
        return pl.Series(name, values, dtype=pl.Enum(categories) if is_text else None)
    if isinstance(column.dtype, np.dtype) and column.dtype.kind in "biufM":
        return pl.Series(name, column.to_numpy(), nan_to_null=True)
    values = [None if missing else v for v, missing in zip(column, column.isna(), strict=True)]
    return pl.Series(name, values)
