"""Columns of obs as numbers."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from slaf._errors import from_kind, invalid
from slaf._forks import check_polars
from slaf._frames import public_names
from slaf._store import Store

if TYPE_CHECKING:
    import polars as pl


def column(store: Store, name: str) -> pl.Series:
    """Read a column of obs, in row order.

    Raises
    ------
    UnknownNameError
        If there is no such column.
    """
    import polars as pl

    names = store.column_names("obs")
    if name not in names:
        raise from_kind("unknown-column", f"no column {name!r}; there are {names}", "obs")
    check_polars(f"column {name!r} of obs")
    public = public_names(names, "obs")[names.index(name)]
    wanted = [public, "cell_integer_id"]
    parts = [pl.DataFrame(part) for part in store.native.scan("cells", wanted, None, None)]
    if not parts:
        return pl.Series(name, [], dtype=pl.String)
    # Batches of one dictionary each: as text they have one type.
    is_text = parts[0][public].dtype in (pl.Categorical, pl.Enum)
    if is_text:
        parts = [part.with_columns(pl.col(public).cast(pl.String)) for part in parts]
    return pl.concat(parts).sort("cell_integer_id")[public].alias(name)


def labels_of(store: Store, name: str, values: pl.Series) -> list[str]:
    """Give the labels of a column: the categories of a categorical, or what occurs, sorted."""
    import polars as pl

    info = store.native.frame_info("obs")
    if info and any(c.name == name and c.kind == "categorical" for c in info.columns):
        categories = store.native.columns("obs", [name], (0, 0))[1].categories
        return [str(c) for c in (categories if categories is not None else [])]
    return values.drop_nulls().unique().sort().cast(pl.String).to_list()


def is_label(values: pl.Series) -> bool:
    """Tell whether a column is encoded by a table."""
    import polars as pl

    return values.dtype == pl.String


def encode(values: pl.Series, labels: Sequence[str], unknown: int) -> npt.NDArray[np.int64]:
    """Give each value its place in `labels`, and `unknown` to others and to missing ones."""
    import polars as pl

    codes = pl.int_range(len(labels), eager=True)
    text = values.cast(pl.String)
    encoded = text.replace_strict(
        pl.Series(list(labels), dtype=pl.String), codes, default=unknown, return_dtype=pl.Int64
    )
    return encoded.fill_null(unknown).to_numpy().astype(np.int64)


def numbers(values: pl.Series) -> npt.NDArray[Any]:
    """Give a numeric or boolean column as int64, float32, float64 or bool.

    Raises
    ------
    InvalidArgumentError
        For missing values that are not floating-point, and for other types.
    """
    import polars as pl

    if values.dtype.is_float():
        single = values.dtype == pl.Float32
        floats = values.cast(pl.Float32 if single else pl.Float64).fill_null(float("nan"))
        return floats.to_numpy().copy()
    if not (values.dtype.is_integer() or values.dtype == pl.Boolean):
        raise invalid(f"obs column {values.name!r} of type {values.dtype} cannot be in a batch")
    if values.null_count():
        message = f"obs column {values.name!r} has missing values: give it a table in codes="
        raise invalid(message)
    if values.dtype == pl.Boolean:
        return values.to_numpy().copy()
    return values.cast(pl.Int64).to_numpy().copy()


def groups(
    stores: Sequence[Store], names: Sequence[str]
) -> tuple[npt.NDArray[np.int64], list[Any]]:
    """Number the combinations of values of columns over all stores.

    Returns
    -------
    codes, combinations
        -1 where a value is missing (of floats, NaN too); combinations are tuples of texts, sorted.
    """
    import polars as pl

    def texts(store: Store, name: str) -> pl.Series:
        values = column(store, name)
        return (values.fill_nan(None) if values.dtype.is_float() else values).cast(pl.String)

    frames = [pl.DataFrame({n: texts(s, n) for n in names}) for s in stores]
    frame = pl.concat(frames)
    there = frame.drop_nulls().unique().sort(by=list(names))
    table = there.with_row_index("code")
    codes = frame.join(table, on=list(names), how="left", maintain_order="left")["code"]
    numbers = codes.cast(pl.Int64).fill_null(-1).to_numpy().astype(np.int64)
    return numbers, there.rows()


def hashed(values: Sequence[str]) -> int:
    """Give a key for :func:`slaf._slaf.split_points` that is the same on every machine."""
    digest = hashlib.blake2b(digest_size=8)
    for value in values:
        digest.update(len(value).to_bytes(8, "little"))
        digest.update(value.encode())
    return int.from_bytes(digest.digest(), "little")
