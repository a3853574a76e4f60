"""The slots of AnnData that map names to arrays."""

from __future__ import annotations

from collections.abc import Callable, Iterator, MutableMapping
from copy import deepcopy
from functools import partial
from typing import Any

import numpy as np

from slaf._errors import from_kind, invalid
from slaf._selectors import Axis
from slaf._store import Key, Store
from slaf.integrations._extras import read_element
from slaf.integrations._lazy import LazyMatrix
from slaf.integrations._plan import InMemory

#: Reads rows of an entry. The rows are numbered as those of the parent of the mapping.
Load = Callable[[str, Axis], Any]


class LazyMapping(MutableMapping[str, Any]):
    """A slot whose entries are read when they are touched.

    Entries can be set and deleted in memory; the store does not change.

    Parameters
    ----------
    slot
        The name of the slot, for messages.
    axis
        The rows that the slot shows.
    ndim
        How many leading axes of an entry follow ``axis``: 1 in obsm, 2 in obsp.
    keys
        Names of the entries to be loaded.
    load
        Reads some rows of an entry.
    own
        Called before an entry of a view changes: gives the mapping that is changed in its place.
    """

    def __init__(
        self,
        slot: str,
        axis: Axis,
        ndim: int,
        keys: list[str],
        load: Load,
        own: Callable[[], MutableMapping[str, Any]] | None = None,
    ):
        self._slot = slot
        self._axis = axis
        self._ndim = ndim
        # In order, read or not.
        self._names = dict.fromkeys(keys)
        self._load = load
        self._own = own
        self._values: dict[str, Any] = {}
        self.changed = False

    def select(
        self, axis: Axis, own: Callable[[], MutableMapping[str, Any]] | None = None
    ) -> LazyMapping:
        """The same slot with some of its rows.

        The entries are those of now. With ``own`` it is a view; else its values are its own.
        """
        load = partial(_of_part, dict(self._values), self._load, self._axis, self._ndim)
        return LazyMapping(self._slot, axis, self._ndim, list(self), load, own)

    def __getitem__(self, name: str) -> Any:
        if name not in self._values:
            if name not in self._names:
                message = f"{name!r} is not in {self._slot}; there are {list(self)}"
                raise from_kind("unknown-table", message)
            self._values[name] = self._load(name, self._axis)
        return self._values[name]

    def __setitem__(self, name: str, value: Any) -> None:
        if isinstance(value, LazyMatrix):
            # An entry is in memory.
            value = value.to_memory()
        shape = np.shape(value) if not hasattr(value, "shape") else value.shape
        n = len(self._axis)
        if tuple(shape[: self._ndim]) != (n,) * self._ndim:
            wanted = " x ".join([str(n)] * self._ndim)
            raise invalid(f"{self._slot}[{name!r}] needs {wanted} rows, not shape {tuple(shape)}")
        if self._own is not None:
            self._own()[name] = value
            return
        self._names[name] = None
        self._values[name] = value
        self.changed = True

    def __delitem__(self, name: str) -> None:
        if name not in self:
            raise KeyError(name)
        if self._own is not None:
            del self._own()[name]
            return
        self._values.pop(name, None)
        del self._names[name]
        self.changed = True

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __repr__(self) -> str:
        return f"{self._slot} with keys: {', '.join(self)}"

    def to_memory(self) -> dict[str, Any]:
        """Give all entries as objects of their own."""
        values = self._values
        return {n: deepcopy(values[n]) if n in values else self._load(n, self._axis) for n in self}

    @property
    def touched(self) -> bool:
        """Whether an entry could differ from the store."""
        return self.changed or bool(self._values)


def _of_part(
    values: dict[str, Any], load: Load, axis: Axis, ndim: int, name: str, rows: Axis
) -> Any:
    """Rows of an entry of a part: of what was read, or of the store."""
    if name in values:
        return subset(values[name], rows, ndim)
    return load(name, axis.select(rows.rows))


class Layers(MutableMapping[str, Any]):
    """The layers: lazy matrices by name, set with any matrix of the shape of the data set."""

    def __init__(
        self,
        matrices: dict[str, LazyMatrix],
        shape: tuple[int, int],
        own: Callable[[], MutableMapping[str, Any]] | None = None,
        changed: Callable[[], None] = lambda: None,
    ):
        self._matrices = matrices
        self._shape = shape
        self._own = own
        self._changed = changed

    def __getitem__(self, name: str) -> LazyMatrix:
        if name not in self._matrices:
            raise from_kind("unknown-table", f"{name!r} is not in layers; there are {list(self)}")
        return self._matrices[name]

    def __setitem__(self, name: str, value: Any) -> None:
        matrix = as_lazy(value, self._shape, f"layers[{name!r}]")
        if self._own is not None:
            self._own()[name] = matrix
        else:
            self._matrices[name] = matrix
            self._changed()

    def __delitem__(self, name: str) -> None:
        if name not in self._matrices:
            raise KeyError(name)
        if self._own is not None:
            del self._own()[name]
        else:
            del self._matrices[name]
            self._changed()

    def __iter__(self) -> Iterator[str]:
        return iter(self._matrices)

    def __len__(self) -> int:
        return len(self._matrices)

    def __repr__(self) -> str:
        return f"layers with keys: {', '.join(self)}"


def as_lazy(value: Any, shape: tuple[int, int], what: str) -> LazyMatrix:
    """A lazy matrix of a lazy, sparse or dense one.

    Raises
    ------
    InvalidArgumentError
        If it has another shape, or values that are no numbers.
    """
    if not isinstance(value, LazyMatrix):
        value = value if hasattr(value, "tocsr") else np.asarray(value)
        if value.dtype.kind not in "biuf" or value.dtype.itemsize > 8 or value.dtype == np.float16:
            raise invalid(f"{what} cannot have values of type {value.dtype}")
        if value.ndim == 2:
            value = LazyMatrix(InMemory.of(value))
    if tuple(value.shape) != shape:
        raise invalid(f"{what} needs the shape {shape}, not {tuple(value.shape)}")
    lazy: LazyMatrix = value
    return lazy


def subset(value: Any, rows: Axis, ndim: int = 1) -> Any:
    """Choose rows (and with ``ndim=2`` the same columns) of an array, matrix or frame."""
    index = rows.array()
    if hasattr(value, "iloc"):
        return value.iloc[index]
    value = value[index]
    return value if ndim == 1 else value[:, index]


class ArrayLoader:
    """Reads stored entries of obsm or varm."""

    def __init__(self, store: Store, slot: str, arrays: frozenset[str]):
        self._store = store
        self._slot = slot
        self._arrays = arrays

    def __call__(self, name: str, rows: Axis) -> Any:
        if name not in self._arrays:
            return subset(read_element(self._store, f"{self._slot}/{name}"), rows)
        array = self._store.native.array(self._slot[:3], name, rows.native())
        return array.values.reshape(len(rows), array.width)


class PairsLoader:
    """Reads stored entries of obsp or varp."""

    def __init__(self, store: Store, slot: str):
        self._store = store
        self._slot = slot

    def __call__(self, name: str, rows: Axis) -> Any:
        return LazyMatrix.stored(self._store, Key(self._slot, name), rows, rows).to_memory()
