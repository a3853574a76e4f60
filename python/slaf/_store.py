"""What :class:`slaf.SLAFArray` and ``LazyAnnData`` share: a store, opened, with numpy's types."""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from slaf import _slaf
from slaf._errors import from_kind, invalid
from slaf._numbers import text, whole
from slaf._selectors import Axis, Positions, positions

if TYPE_CHECKING:
    import polars as pl
    import scipy.sparse as sp

WHAT = {"obs": "cell", "var": "gene"}


def _path(path: Any) -> str:
    try:
        name = os.fsdecode(os.fspath(path))
    except TypeError as e:
        raise invalid(f"the path of a store is a text or a path, not {path!r}") from e
    return text("path", name)


def _texts_by_text(options: Any) -> dict[str, str]:
    """Check options of an object store; values may be secrets, and are not repeated."""
    if not isinstance(options, Mapping):
        raise invalid(f"storage_options is a dict of texts, not a {type(options).__name__}")
    for name, value in options.items():
        if not isinstance(name, str) or not isinstance(value, str):
            kind = type(value).__name__
            raise invalid(f"storage_options is a dict of texts: {name!r} has a {kind}")
    return dict(options)


def _seconds(time: datetime) -> int:
    """Seconds since 1970; a time without a zone is one of this machine."""
    try:
        return max(0, int(time.timestamp()))
    except (OverflowError, ValueError) as e:
        raise invalid(f"version={time!r} is no time that a store can be of") from e


def _texts(values: Any) -> list[str]:
    """The values of a column that is known to hold text and no missing values."""
    return list(values)


class Key(NamedTuple):
    """Which matrix of a store: a slot and, in layers, obsp and varp, a name."""

    slot: str
    name: str = ""


class MatrixInfo(NamedTuple):
    """What a store tells of a matrix without reading it."""

    encoding: str
    dtype: np.dtype[Any]
    shape: tuple[int, int]
    nnz: int


class Store:
    """A version of a store, opened; cheap to share between objects and threads.

    Parameters
    ----------
    path
        A local path or a URI.
    version
        The version to open, its tag, or a time at which it was the newest; the newest by default.
    storage_options
        Options of the object store, as Lance names them.
    verify
        ``"first-touch"``, or ``None``.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        version: int | str | datetime | None,
        storage_options: Mapping[str, str] | None,
        verify: Literal["first-touch"] | None = None,
    ):
        if verify not in (None, "first-touch"):
            raise invalid(f"verify={verify!r}; there are 'first-touch' and None")
        self.storage_options = _texts_by_text(storage_options or {})
        if isinstance(version, (str, datetime)):
            tag = text("version", version) if isinstance(version, str) else None
            time = _seconds(version) if isinstance(version, datetime) else None
            version = _slaf.find_version(_path(path), tag, time, self.storage_options)
        elif version is not None:
            version = whole("version", version, 1, (1 << 64) - 1)
        self.verify = verify
        self.native = _slaf.Dataset(
            _path(path), version, self.storage_options, verify == "first-touch"
        )
        self.version = self.native.version
        self.shape = self.native.shape
        self.matrices = {
            Key(m.slot, m.name): MatrixInfo(m.encoding, np.dtype(m.dtype), m.shape, m.nnz)
            for m in self.native.matrices()
        }
        # What never changes of this version, once it was asked for.
        self._column_names: dict[str, list[str]] = {}
        self._enums: dict[tuple[str, str], pl.Enum] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        # Another process may be in another folder.
        local = _slaf.local_path(self.path)
        path = self.path if local is None else os.path.abspath(local)
        return Store, (path, self.version, self.storage_options, self.verify)

    def verified(self, verify: Literal["first-touch"]) -> Store:
        """Give this version with another `verify`."""
        if verify == self.verify:
            return self
        return Store(self.path, self.version, self.storage_options, verify)

    @property
    def path(self) -> str:
        """The path or URI that was opened."""
        return self.native.uri

    def axis(self, of: str) -> Axis:
        """All rows of an axis, ``"obs"`` or ``"var"``."""
        return Axis(self.shape[0 if of == "obs" else 1])

    def resolve(self, of: str, names: list[str]) -> npt.NDArray[np.int64]:
        """Positions of the cells or genes with these names."""
        return self.native.resolve(of, names)

    def positions(self, of: str, selector: Any) -> Positions:
        """Normalise a user's selector along an axis of the store."""
        what = WHAT[of]
        n = self.shape[0 if of == "obs" else 1]
        return positions(
            selector, n, lambda names: self.resolve(of, names), f"{what}_integer_id", what
        )

    def select(self, of: str, selector: Any) -> Axis:
        """Give the rows that a user's selector means."""
        return self.axis(of).select(self.positions(of, selector))

    def names(self, of: str, rows: Axis) -> list[str]:
        """Names of cells or genes."""
        return _texts(self.native.columns(of, [], rows.native())[0].values)

    def column_names(self, of: str) -> list[str]:
        """Names of the user's columns of obs or var, in order."""
        if of not in self._column_names:
            info = self.native.frame_info(of)
            names = [] if info is None else [column.name for column in info.columns]
            self._column_names[of] = names
        return list(self._column_names[of])

    def categories(self, of: str, column: str) -> list[str]:
        """All categories of a categorical column of strings, in order."""
        _, read = self.native.columns(of, [column], (0, 0))
        return _texts(read.categories)

    def enum(self, of: str, column: str) -> pl.Enum:
        """The type that polars has for a categorical column of strings."""
        import polars as pl

        if (of, column) not in self._enums:
            self._enums[of, column] = pl.Enum(self.categories(of, column))
        return self._enums[of, column]

    def matrix(self, key: Key) -> MatrixInfo:
        """Describe a matrix.

        Raises
        ------
        UnknownNameError
            If the store does not have it.
        """
        if key in self.matrices:
            return self.matrices[key]
        names = [k.name for k in self.matrices if k.slot == key.slot and k.name]
        what = f"{key.slot}[{key.name!r}]" if key.name else key.slot
        there = f"; there are {names}" if names else ""
        raise from_kind("unknown-table", f"no {what} in this store{there}", self.path)

    def read(self, key: Key, rows: Axis, cols: Axis) -> _slaf.Csr:
        """Read a part of a matrix.

        Returns
        -------
        _slaf.Csr
            With sorted indices; the arrays are Rust's memory, not a copy.
        """
        return self.native.read(key, rows.native(), cols.native())

    def csr(self, key: Key, rows: Axis, cols: Axis) -> sp.csr_matrix:
        """Read a part of a matrix as a ``scipy.sparse.csr_matrix``."""
        import scipy.sparse as sp

        parts = self.read(key, rows, cols)
        arrays = (parts.data, parts.indices, parts.indptr)
        matrix = sp.csr_matrix(arrays, shape=(len(rows), len(cols)))
        # Rust promises both, and SciPy would spend a pass to find out.
        matrix.has_sorted_indices = True
        matrix.has_canonical_format = True
        return matrix

    def dense(self, key: Key, rows: Axis, cols: Axis) -> npt.NDArray[Any]:
        """Read a part of a matrix as a dense array."""
        parts = self.read(key, rows, cols)
        result = np.zeros((len(rows), len(cols)), dtype=parts.data.dtype)
        # SciPy's toarray adds to zeros, which loses the sign of -0.0.
        result[np.repeat(np.arange(len(rows)), np.diff(parts.indptr)), parts.indices] = parts.data
        return result
