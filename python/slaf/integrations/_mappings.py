"""The slots of AnnData that map names to arrays."""

from __future__ import annotations

from collections.abc import Callable, Iterator, MutableMapping
from copy import deepcopy
from typing import Any

import numpy as np

from slaf._errors import invalid
from slaf._selectors import Axis

Load = Callable[[str, Axis], Any]


class LazyMapping(MutableMapping[str, Any]):
    """A slot whose entries are read when they are touched.

    Entries can be set and deleted in memory; the store does not change. A view sees the entries
    that its parent had in memory when the view first touched them.

    Parameters
    ----------
    slot
        The name of the slot, for messages.
    axis
        The rows that the slot shows.
    ndim
        How many leading axes of an entry follow ``axis``: 1 in obsm, 2 in obsp.
    keys
        Names of the stored entries.
    load
        Reads some rows of an entry.
    parent
        The mapping of the whole data set, for a view.
    """

    def __init__(
        self,
        slot: str,
        axis: Axis,
        ndim: int,
        keys: list[str],
        load: Load,
        parent: LazyMapping | None = None,
    ):
        self._slot = slot
        self._axis = axis
        self._ndim = ndim
        self._stored = dict.fromkeys(keys)
        self._load = load
        self._parent = parent
        self._values: dict[str, Any] = {}

    def view(self, axis: Axis) -> LazyMapping:
        """The same slot with other rows."""
        return LazyMapping(self._slot, axis, self._ndim, list(self), self._load, self)

    def __getitem__(self, name: str) -> Any:
        if name not in self._values:
            if name not in self._stored:
                raise KeyError(f"{name!r} is not in {self._slot}; there are {list(self)}")
            self._values[name] = self._read(name)
        return self._values[name]

    def _read(self, name: str) -> Any:
        if self._parent is not None and name in self._parent._values:
            return subset(self._parent._values[name], self._axis, self._ndim)
        return self._load(name, self._axis)

    def __setitem__(self, name: str, value: Any) -> None:
        shape = np.shape(value) if not hasattr(value, "shape") else value.shape
        n = len(self._axis)
        if tuple(shape[: self._ndim]) != (n,) * self._ndim:
            wanted = " x ".join([str(n)] * self._ndim)
            raise invalid(f"{self._slot}[{name!r}] needs {wanted} rows, not shape {tuple(shape)}")
        self._values[name] = value

    def __delitem__(self, name: str) -> None:
        if name not in self:
            raise KeyError(name)
        self._values.pop(name, None)
        self._stored.pop(name, None)

    def __contains__(self, name: object) -> bool:
        return name in self._stored or name in self._values

    def __iter__(self) -> Iterator[str]:
        return iter(self._stored | self._values)

    def __len__(self) -> int:
        return len(self._stored | self._values)

    def __repr__(self) -> str:
        return f"{self._slot} with keys: {', '.join(self)}"

    def to_memory(self) -> dict[str, Any]:
        """Give all entries as objects of their own."""
        values = self._values
        return {n: deepcopy(values[n]) if n in values else self._read(n) for n in self}

    @property
    def touched(self) -> bool:
        """Whether any entry is in memory, and so could differ from the store."""
        return bool(self._values)


def subset(value: Any, rows: Axis, ndim: int = 1) -> Any:
    """Choose rows (and with ``ndim=2`` the same columns) of an array, matrix or frame."""
    index = rows.array()
    if hasattr(value, "iloc"):
        return value.iloc[index]
    value = value[index]
    return value if ndim == 1 else value[:, index]
