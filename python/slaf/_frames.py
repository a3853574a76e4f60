"""obs and var for polars and pandas."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from slaf._selectors import Axis
from slaf._store import WHAT, Store

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl

    from slaf._slaf import ArrowStream, Column, FrameInfo


def public_names(columns: list[str], of: str) -> list[str]:
    """Give the names of the user's columns beside the ids of the frame, as SQL has them."""
    taken = {f"{WHAT[of]}_id", f"{WHAT[of]}_integer_id"}
    names = []
    for column in columns:
        name = column
        while name in taken:
            name = f"{of}:{name}"
        taken.add(name)
        names.append(name)
    return names


def of_stream(stream: ArrowStream) -> pl.DataFrame:
    """Give the batches of a stream as a frame.

    A batch is a struct to polars. Its columns are taken out here: ``pl.DataFrame`` of polars 1
    makes a lazy query of that, which takes longer than an answer about one cell.
    """
    import polars as pl

    return pl.Series("", stream).struct.unnest()


def names(store: Store, of: str, rows: Axis) -> pl.Series:
    """Names of cells or genes, without an object of Python for each."""
    return of_stream(store.native.names(of, rows.native()))["name"]


def to_polars(
    stream: ArrowStream, store: Store, of: str, rows: Axis, columns: list[str] | None = None
) -> pl.DataFrame:
    """Make the frame that :attr:`slaf.SLAFArray.obs` documents from a batch of obs or var.

    Of some `columns` only, if these are given.
    """
    import polars as pl

    what = WHAT[of]
    all_columns = store.column_names(of)
    public = dict(zip(all_columns, public_names(all_columns, of), strict=True))
    columns = all_columns if columns is None else columns
    # The stream numbers the columns: names of users may repeat those of the ids.
    frame = of_stream(stream)
    series = [frame["0"].alias(f"{what}_id"), pl.Series(f"{what}_integer_id", rows.array())]
    for i, name in enumerate(columns):
        column = frame[str(i + 1)].alias(public[name])
        if column.dtype == pl.Categorical:
            column = column.cast(store.enum(of, name))
        series.append(column)
    return pl.DataFrame(series)


def to_pandas(
    columns: list[Column],
    info: FrameInfo,
    is_selection: bool = False,
) -> pd.DataFrame:
    """Make the frame that anndata reads from an h5ad file.

    Parameters
    ----------
    columns
        The columns as Rust gives them, the index first.
    info
        What the store tells of the frame.
    is_selection
        Whether there are more rows than these.
    """
    import pandas as pd

    index, *rest = columns
    names = [column.name for column in info.columns]
    data = {
        about.name: _pandas_column(column, about.kind, about.ordered, is_selection)
        for column, about in zip(rest, info.columns, strict=True)
    }
    names_of_rows = pd.Index(_plain(index.values, is_selection))
    frame = pd.DataFrame(data, index=names_of_rows, columns=names if names else None)
    frame.index.name = info.index_name
    return frame


def _pandas_column(column: Column, kind: str, ordered: bool, is_selection: bool) -> Any:
    import pandas as pd

    values, mask, categories = column.values, column.mask, column.categories
    if categories is not None:
        known: Any = categories
        if isinstance(categories, list):
            known = np.array(categories, dtype=object)
        return pd.Categorical.from_codes(np.asarray(values), known, ordered=ordered)
    if kind not in ("nullable", "nullable-nan"):
        return _plain(values, is_selection)
    if isinstance(values, list):
        # Before pandas 3, whose text is `str`, anndata knows `string` only.
        is_str = kind == "nullable-nan" and int(pd.__version__.split(".")[0]) >= 3
        dtype = pd.StringDtype(na_value=np.nan) if is_str else pd.StringDtype()
        return pd.array([pd.NA if v is None else v for v in values], dtype=dtype)
    missing = np.zeros(len(values), dtype=np.bool_) if mask is None else mask
    if values.dtype == np.bool_:
        return pd.arrays.BooleanArray(values, missing)
    if values.dtype.kind == "f":
        # Whole numbers of one source, fractions of another: anndata writes no nullable floats.
        return np.where(missing, np.nan, values)
    return pd.arrays.IntegerArray(values, missing)


def _plain(values: Any, is_selection: bool) -> Any:
    if not isinstance(values, list):
        return values
    return np.array(values, dtype=object) if values else text_index(values, is_selection)


def text_index(texts: list[str], is_selection: bool) -> pd.Index[Any]:
    """The texts in the type in which pandas holds text, as it does for anndata.

    pandas infers it from values, of which an empty selection has none.
    """
    import pandas as pd

    inferred_from = texts if texts or not is_selection else [""]
    index: pd.Index[Any] = pd.Index(np.array(inferred_from, dtype=object))
    return index[: len(texts)]
