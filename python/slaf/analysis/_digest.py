"""Digests of what a step wrote, by which it is known again.

Values are digested as what they mean, so that a digest does not change where a store gives another
type for the same: nullable columns without missing values, arrays for lists, numpy's scalars.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np


def digest(value: Any) -> str:
    """A digest of a column, array, sparse matrix, or element of uns."""
    hasher = hashlib.blake2b(digest_size=16)
    _feed(hasher, value)
    return hasher.hexdigest()


def _tell(hasher: Any, *words: object) -> None:
    # Lengths are told, so that what follows cannot be taken for a part.
    for word in words:
        text = str(word).encode("utf-8", "surrogatepass")
        hasher.update(f"{len(text)}:".encode())
        hasher.update(text)


def _feed(hasher: Any, value: Any) -> None:
    import pandas as pd
    import scipy.sparse as sp

    if isinstance(value, Mapping):
        # Formats differ in what they do with None.
        entries = {str(k): v for k, v in value.items() if v is not None}
        _tell(hasher, "mapping", len(entries))
        for key in sorted(entries):
            _tell(hasher, key)
            _feed(hasher, entries[key])
    elif isinstance(value, pd.DataFrame):
        _tell(hasher, "frame", len(value.columns))
        _feed(hasher, value.index.to_numpy())
        for at, name in enumerate(value.columns):
            _tell(hasher, name)
            _feed(hasher, value.iloc[:, at])
    elif isinstance(value, pd.Series):
        _feed_column(hasher, value)
    elif sp.issparse(value):
        graph: Any = value
        matrix = graph.tocsr().sorted_indices()
        _tell(hasher, "sparse", matrix.shape)
        for part in (matrix.indptr.astype(np.int64), matrix.indices.astype(np.int64), matrix.data):
            _feed_array(hasher, part)
    else:
        _feed_array(hasher, np.asarray(value))


def _feed_column(hasher: Any, column: Any) -> None:
    import pandas as pd

    dtype = column.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        _tell(hasher, "categories")
        _feed_array(hasher, np.asarray(column.cat.categories.astype(object)))
        _feed_array(hasher, column.cat.codes.to_numpy().astype(np.int64))
    elif pd.api.types.is_bool_dtype(dtype) or pd.api.types.is_integer_dtype(dtype):
        missing = column.isna().to_numpy()
        kind = np.bool_ if pd.api.types.is_bool_dtype(dtype) else np.int64
        values = column.fillna(kind(0)).to_numpy().astype(kind)
        _feed_array(hasher, values)
        if missing.any():
            _feed_array(hasher, missing)
    elif pd.api.types.is_float_dtype(dtype):
        _feed_array(hasher, column.to_numpy(dtype=np.dtype(str(dtype).lower()), na_value=np.nan))
    else:
        _feed_array(hasher, np.asarray(column.astype(object)))


def _feed_array(hasher: Any, array: Any) -> None:
    if array.dtype.names is not None:
        _tell(hasher, "records", len(array.dtype.names))
        for name in array.dtype.names:
            _tell(hasher, name)
            _feed_array(hasher, np.asarray(array[name]))
    elif array.dtype.kind in "OUST":
        _tell(hasher, "texts", array.shape)
        _tell(hasher, *(_text(item) for item in array.ravel().tolist()))
    else:
        kind = array.dtype.kind
        if kind in "iu":
            array = array.astype(np.int64)
        elif kind == "f":
            # NaN has many bit patterns.
            array = np.where(np.isnan(array), array.dtype.type(np.nan), array)
        _tell(hasher, kind, array.dtype.itemsize, array.shape)
        hasher.update(np.ascontiguousarray(array).tobytes())


def _text(item: Any) -> str:
    if isinstance(item, bytes):
        return "=" + item.decode("utf-8", "surrogateescape")
    if isinstance(item, str):
        return "=" + item
    import pandas as pd

    return "?" if pd.isna(item) else f"?{item}"
