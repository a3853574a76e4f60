"""Frames of pandas that read what is asked for.

A :class:`DeferredFrame` is a ``pandas.DataFrame`` of which nothing is read. Its columns are
:class:`DeferredSeries`, which have their values and not the names of rows: these compare, compute
and count. Whatever else is asked of either needs all of the frame: then it is read, and the
objects *become* a plain ``DataFrame`` and the ``Series`` of its columns, by their class and in all
that pandas keeps in them, so that nothing tells them from frames that were read at once.

Arrays of a series before that (``values``, ``to_numpy()``) are read-only: what is written into
them would be lost. Where an array cannot be made so, the frame is read.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from slaf import _frames
from slaf._selectors import Axis
from slaf._slaf import Column, FrameInfo
from slaf._store import Store


class Source:
    """obs or var of a store, read column by column and each once."""

    def __init__(self, store: Store, of: str, rows: Axis):
        info = store.native.frame_info(of)
        assert info is not None
        self.info = info
        self.names = [column.name for column in info.columns]
        self.n_rows = len(rows)
        self._store, self._of, self._rows = store, of, rows
        self._read: dict[str, Column] = {}

    def _columns(self, names: list[str], with_index: bool) -> list[Column]:
        return self._store.native.columns(self._of, names, self._rows.native(), with_index)

    def series(self, name: str) -> pd.Series[Any]:
        """A column, with positions in place of the names of rows."""
        if name not in self._read:
            [self._read[name]] = self._columns([name], False)
        about = [column for column in self.info.columns if column.name == name]
        positions = Column("", np.arange(self.n_rows))
        plain = _frames.to_pandas([positions, self._read[name]], FrameInfo(None, about))[name]
        array = _read_only(plain)
        return plain if array is None else pd.Series(array, plain.index, name=name, copy=False)

    def frame(self) -> pd.DataFrame:
        """All of it."""
        missing = [name for name in self.names if name not in self._read]
        index, *columns = self._columns(missing, True)
        read = {**self._read, **dict(zip(missing, columns, strict=True))}
        is_selection = not self._rows.is_all
        return _frames.to_pandas(
            [index, *map(read.__getitem__, self.names)], self.info, is_selection
        )


def _read_only(plain: pd.Series[Any]) -> Any:
    """The same values in memory that cannot be written; ``None`` if it cannot be made so."""
    if isinstance(plain.dtype, pd.CategoricalDtype):
        codes = _view(plain.array.codes)
        return pd.Categorical.from_codes(codes, dtype=plain.dtype)
    return _view(plain.to_numpy()) if isinstance(plain.dtype, np.dtype) else None


def _view(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """An array that cannot be written, of the same memory."""
    view = array.view()
    view.flags.writeable = False
    return view


class _Deferred:
    """What pandas keeps in an object, once something asks for it."""

    def _load(self) -> None:
        raise NotImplementedError

    @property
    def _mgr(self) -> Any:
        # All that pandas does with the content of an object begins here.
        self._load()
        return self.__dict__["_mgr"]

    @_mgr.setter
    def _mgr(self, manager: Any) -> None:
        self.__dict__["_mgr"] = manager

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            # What numpy and others look for in any object.
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        if name in self._columns():
            return self[name]  # type: ignore[index]
        self._load()
        return getattr(self, name)

    def _columns(self) -> list[str]:
        return []

    def __reduce_ex__(self, protocol: Any) -> Any:
        self._load()
        return self.__reduce_ex__(protocol)


class DeferredFrame(_Deferred, pd.DataFrame):  # type: ignore[misc]
    """obs or var before more than single columns is asked for; see the module."""

    @classmethod
    def of(cls, source: Source, loaded: Callable[[], None]) -> DeferredFrame:
        """Make a frame; ``loaded`` is called when it has become an ordinary one."""
        frame: DeferredFrame = object.__new__(cls)
        frame.__dict__.update(
            _slaf_source=source,
            _slaf_loaded=loaded,
            _slaf_series=[],
            # Of threads that come at once, one reads.
            _slaf_lock=threading.RLock(),
        )
        return frame

    def _load(self) -> None:
        with self.__dict__["_slaf_lock"]:
            if type(self) is not DeferredFrame:
                return
            frame, series = self._slaf_source.frame(), self._slaf_series
            object.__setattr__(self, "__class__", pd.DataFrame)
            pd.DataFrame.__init__(self, frame)  # type: ignore[call-arg]
            for reference in series:
                if (one := reference()) is not None:
                    one._settle(self)
            self.__dict__.pop("_slaf_loaded")()
            for name in ("_slaf_source", "_slaf_series"):
                self.__dict__.pop(name)

    def rebase(self, source: Source) -> None:
        """Read from another source from now on: the same rows of a later version."""
        with self.__dict__["_slaf_lock"]:
            if type(self) is DeferredFrame:
                self.__dict__["_slaf_source"] = source

    def _columns(self) -> list[str]:
        return list(self._slaf_source.names)

    def _defer(self, plain: pd.Series[Any], column: str | None) -> DeferredSeries:
        series: DeferredSeries = object.__new__(DeferredSeries)
        series.__dict__.update(
            _slaf_frame=self, _slaf_plain=plain, _slaf_column=column, _name=plain.name
        )
        alive = [reference for reference in self._slaf_series if reference() is not None]
        self.__dict__["_slaf_series"] = [*alive, weakref.ref(series)]
        return series

    def __getitem__(self, key: Any) -> Any:
        with self.__dict__["_slaf_lock"]:
            if type(self) is DeferredFrame and isinstance(key, str) and key in self._columns():
                return self._defer(self._slaf_source.series(key), key)
        return pd.DataFrame.__getitem__(self, key)

    @property
    def columns(self) -> pd.Index[Any]:
        """The names of the columns."""
        return pd.Index(self._columns())

    @columns.setter
    def columns(self, names: Any) -> None:
        self._load()
        self.columns = names

    @property
    def shape(self) -> tuple[int, int]:
        """Number of rows and of columns."""
        return len(self), len(self._columns())

    def __len__(self) -> int:
        return int(self._slaf_source.n_rows)


class DeferredSeries(_Deferred, pd.Series):  # type: ignore[misc]
    """A column of a :class:`DeferredFrame`, or what was computed of columns."""

    def _load(self) -> None:
        # This series settles with the frame.
        self._slaf_frame._load()

    def _settle(self, frame: pd.DataFrame) -> None:
        of, name = self.__dict__, self.__dict__["_name"]
        column, plain = of.pop("_slaf_column"), of.pop("_slaf_plain")
        # A later version may not have the column.
        if column is None or column not in frame:
            real = plain.set_axis(frame.index)
        else:
            real = pd.DataFrame.__getitem__(frame, column)
        object.__setattr__(self, "__class__", pd.Series)
        pd.Series.__init__(self, real)  # type: ignore[call-arg]
        object.__setattr__(self, "_name", name)
        # By this, pandas before 3 writes what is set in a column into its frame.
        if (cacher := getattr(real, "_cacher", None)) is not None:
            object.__setattr__(self, "_cacher", cacher)
            frame._item_cache[column] = self
        of.pop("_slaf_frame")

    def _of_rows(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """Compute a value for each row."""
        operands = [*args, *kwargs.values()]
        own = [o for o in operands if isinstance(o, DeferredSeries)]
        others = [o for o in operands if isinstance(o, (pd.Series, pd.DataFrame, pd.Index))]
        if any(o._slaf_frame is not self._slaf_frame for o in own) or len(others) > len(own):
            # Rows of other objects are found by name.
            self._load()
            return getattr(self, method)(*args, **kwargs)
        args, kwargs = tuple(map(_plain, args)), {k: _plain(v) for k, v in kwargs.items()}
        found = getattr(_plain(self), method)(*args, **kwargs)
        return self._slaf_frame._defer(found, None) if isinstance(found, pd.Series) else found

    def _of_values(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """Compute something that no names of rows are a part of."""
        return getattr(_plain(self), method)(*args, **kwargs)

    def _as_array(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """Give the values as an array, which may be the memory of the series."""
        plain = _plain(self)
        found = getattr(plain, method)(*args, **kwargs)
        is_column = self.__dict__["_slaf_column"] is not None
        return _view(found) if is_column and _is_writable(plain) else found


def _plain(value: Any) -> Any:
    if not isinstance(value, DeferredSeries):
        return value
    plain, name = value.__dict__["_slaf_plain"], value.__dict__["_name"]
    # The name may have been set since.
    return plain if plain.name is name or plain.name == name else plain.rename(name)


def _offer(name: str, how: Callable[..., Any]) -> None:
    def call(self: DeferredSeries, *args: Any, **kwargs: Any) -> Any:
        return how(self, name, *args, **kwargs)

    call.__name__, call.__doc__ = name, f"As :meth:`pandas.Series.{name}`."
    setattr(DeferredSeries, name, call)


_OPERATORS = (
    *("eq", "ne", "lt", "le", "gt", "ge", "and", "rand", "or", "ror", "xor", "rxor", "invert"),
    *("add", "radd", "sub", "rsub", "mul", "rmul", "truediv", "rtruediv", "floordiv", "mod", "pow"),
    *("neg", "abs"),
)
for _name in (
    *(f"__{operator}__" for operator in _OPERATORS),
    *("eq", "ne", "lt", "le", "gt", "ge", "isin", "between"),
    *("isna", "isnull", "notna", "notnull", "astype"),
):
    _offer(_name, DeferredSeries._of_rows)
for _name in ("to_numpy", "__array__"):
    _offer(_name, DeferredSeries._as_array)
for _name in (
    *("to_list", "tolist", "unique", "nunique", "__len__", "__iter__"),
    *("sum", "mean", "min", "max", "median", "std", "var", "any", "all", "count", "value_counts"),
):
    _offer(_name, DeferredSeries._of_values)


def _property(name: str) -> property:
    return property(lambda self: getattr(_plain(self), name))


for _name in ("_values", "dtype", "dtypes", "size", "shape", "hasnans", "is_unique"):
    setattr(DeferredSeries, _name, _property(_name))


def _array_property(name: str) -> property:
    def give(self: DeferredSeries) -> Any:
        plain = _plain(self)
        if self.__dict__["_slaf_column"] is not None and _is_writable(plain):
            self._load()
            return getattr(self, name)
        return getattr(plain, name)

    return property(give)


def _is_writable(plain: pd.Series[Any]) -> bool:
    """Whether a column's array could not be made read-only."""
    return not isinstance(plain.dtype, (np.dtype, pd.CategoricalDtype))


for _name in ("array", "values"):
    setattr(DeferredSeries, _name, _array_property(_name))
