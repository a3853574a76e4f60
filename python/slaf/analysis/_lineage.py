"""What the store tells of the steps that were done, and whether it is still true."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from slaf._errors import SlafError, from_kind
from slaf._store import Key, Store
from slaf.analysis._digest import digest
from slaf.integrations._extras import read_element
from slaf.integrations.anndata import LazyAnnData

#: The entry of uns that has the records.
KEY = "slaf_analyze"


@dataclass(frozen=True)
class Names:
    """The names of results: as they are, or behind a prefix and ``_``."""

    prefix: str | None = None

    def __call__(self, name: str) -> str:
        return name if self.prefix is None else f"{self.prefix}_{name}"

    def slot(self, slot: str) -> str:
        """The full name of ``obs/leiden``."""
        of, _, name = slot.partition("/")
        return f"{of}/{self(name)}"


@dataclass(frozen=True)
class Record:
    """What is known of a step that was done.

    Attributes
    ----------
    function : str
        What was called.
    parameters : dict
        With what.
    found : dict
        Numbers and remarks.
    slaf_version, made : str
        Which slaf wrote it, and when (UTC, ISO 8601).
    input_version, version : int
        The version of the store that was read, and the one that was made.
    seconds : float
        How long it took.
    shape : tuple of int
        Cells and genes of the store.
    signature : str
        A digest of the parameters, and of the signatures of the steps that it builds on.
    writes : dict
        The slots that it wrote, ``"obs/leiden"`` for example, and their digests.
    """

    function: str
    parameters: dict[str, Any]
    found: dict[str, Any]
    slaf_version: str
    made: str
    input_version: int
    version: int
    seconds: float
    shape: tuple[int, int]
    signature: str
    writes: dict[str, str]

    def to_uns(self) -> dict[str, Any]:
        """As uns holds it: nested values are JSON, which keeps None and empty lists."""
        return {
            "function": self.function,
            "parameters": json.dumps(self.parameters, sort_keys=True),
            "found": json.dumps(self.found),
            "slaf_version": self.slaf_version,
            "made": self.made,
            "input_version": self.input_version,
            "version": self.version,
            "seconds": self.seconds,
            "shape": json.dumps(self.shape),
            "signature": self.signature,
            "writes": json.dumps(self.writes, sort_keys=True),
        }

    @classmethod
    def of_uns(cls, entry: Mapping[str, Any]) -> Record:
        """The record that uns holds."""
        n, m = json.loads(str(entry["shape"]))
        return cls(
            function=str(entry["function"]),
            parameters=json.loads(str(entry["parameters"])),
            found=json.loads(str(entry["found"])),
            slaf_version=str(entry["slaf_version"]),
            made=str(entry["made"]),
            input_version=int(entry["input_version"]),
            version=int(entry["version"]),
            seconds=float(entry["seconds"]),
            shape=(int(n), int(m)),
            signature=str(entry["signature"]),
            writes=dict(json.loads(str(entry["writes"]))),
        )


def records(uns: Mapping[str, Any], names: Names, path: str) -> dict[str, Record]:
    """The records of a store.

    Raises
    ------
    AlreadyExistsError
        If the entry of uns is somebody else's.
    """
    entries = uns.get(names(KEY), {})
    try:
        return {str(step): Record.of_uns(entry) for step, entry in entries.items()}
    except (AttributeError, KeyError, TypeError, ValueError) as e:
        message = (
            f"uns[{names(KEY)!r}] is no record of slaf analyze ({type(e).__name__}: {e}): drop it, "
            "or choose other names with --key-added (key_added=)"
        )
        raise from_kind("already-exists", message, path) from e


class Stored:
    """What a version of a store has, read when it is asked for and digested once.

    Parameters
    ----------
    adata
        All cells and genes of the version.
    """

    def __init__(self, adata: LazyAnnData):
        self.adata = adata
        self._digests: dict[tuple[str, tuple[int, int]], str] = {}
        self._inputs: dict[tuple[str | None, ...], str] = {}
        self._earlier: dict[int, Stored | None] = {}
        store: Store = adata._store
        self.store = store
        self.uns: Mapping[str, Any] = read_element(store, "uns") or {}
        self._slots = {f"{of}/{c}" for of in ("obs", "var") for c in store.column_names(of)}
        for slot in ("obsm", "varm", "obsp", "varp"):
            self._slots |= {f"{slot}/{name}" for name in getattr(adata, slot)}
        self._slots |= {f"uns/{name}" for name in self.uns}

    def has(self, slot: str) -> bool:
        """Whether there is a slot."""
        return slot in self._slots

    def is_same(self, slot: str, record: Record) -> bool:
        """Whether a slot is what a step wrote; cells and genes that came later do not count."""
        known = (slot, record.shape)
        if known not in self._digests:
            self._digests[known] = digest(self._read(slot, record.shape))
        return self._digests[known] == record.writes[slot]

    def is_ours(self, slot: str, record: Record) -> bool:
        """Whether a slot is what a step wrote, of the cells and genes that are left.

        Those that were deleted are known by the version that the step made, if it is still there.
        """
        return self.is_same(slot, record) or self._is_rest(slot, record)

    def input_digest(self, layer: str | None, columns: Sequence[str]) -> str:
        """The digest of what an analysis begins with; see :func:`input_digest`."""
        key = (layer, *columns)
        if key not in self._inputs:
            self._inputs[key] = digest({"input": repr(input_digest(self.adata, layer, columns))})
        return self._inputs[key]

    def _is_rest(self, slot: str, record: Record) -> bool:
        of = slot.partition("/")[0]
        if of == "uns":
            return False
        if record.version not in self._earlier:
            self._earlier[record.version] = self._version(record.version)
        old = self._earlier[record.version]
        # A version of the same number may be of a store that was here before.
        if old is None or not old.has(slot) or not old.is_same(slot, record):
            return False
        rows = self._kept(old, "obs" if of.startswith("obs") else "var")
        if rows is None:
            return False
        n = len(rows)
        was, now = old._take(slot, rows), self._take(slot, np.arange(n))
        return digest(_plain(was)) == digest(_plain(now))

    def _version(self, number: int) -> Stored | None:
        """An earlier version, unless it is gone."""
        from slaf.integrations.anndata import of_store

        try:
            store = Store(self.store.path, number, self.store.storage_options)
            return Stored(of_store(store))
        except SlafError:
            return None

    def _kept(self, old: Stored, of: str) -> Any:
        """The rows of an earlier version that are left; None if all are, or names do not tell."""
        was, now = (s.store.names(of, s.store.axis(of)) for s in (old, self))
        place = {name: i for i, name in enumerate(was)}
        if len(place) < len(was) or len(set(now)) < len(now):
            return None
        there = [place[name] for name in now if name in place]
        # Deletions keep the order, and cells that come later stand behind.
        if len(there) == len(was) or there != sorted(there):
            return None
        if any(name in place for name in now[len(there) :]):
            return None
        return np.array(there, dtype=np.int64)

    def _take(self, slot: str, rows: Any) -> Any:
        of, _, name = slot.partition("/")
        value = getattr(self.adata, of)[name]
        if of in ("obs", "var"):
            return value.iloc[rows]
        return value.tocsr()[rows][:, rows] if of in ("obsp", "varp") else value[rows]

    def _read(self, slot: str, shape: tuple[int, int]) -> Any:
        of, _, name = slot.partition("/")
        n, m = (min(a, b) for a, b in zip(shape, self.adata.shape, strict=True))
        if of in ("obs", "var"):
            return getattr(self.adata, of)[name].iloc[: n if of == "obs" else m]
        if of == "uns":
            return self.uns[name]
        value = getattr(self.adata, of)[name]
        if of in ("obsm", "varm"):
            return value[: n if of == "obsm" else m]
        return value[:n, :n]


def _plain(value: Any) -> Any:
    """A column whose categories are those of its rows, and in no order."""
    import pandas as pd

    is_categorical = isinstance(value, pd.Series) and isinstance(value.dtype, pd.CategoricalDtype)
    return value.astype(object) if is_categorical else value


def input_digest(adata: LazyAnnData, layer: str | None, columns: Sequence[str]) -> dict[str, Any]:
    """What tells the counts of a store from those of another or a grown one.

    X is not read: it is replaced with the whole store only. A layer is, once, for its sums.

    Parameters
    ----------
    adata
        All cells and genes.
    layer
        The layer that has the counts.
    columns
        Columns of obs and var that steps read, as ``"obs/donor"``.
    """
    store: Store = adata._store
    key = Key("X") if layer is None else Key("layers", layer)
    info = store.matrix(key)
    named = {of: digest(_texts(store.names(of, store.axis(of)))) for of in ("obs", "var")}
    read = {}
    for slot in columns:
        of, _, name = slot.partition("/")
        read[slot] = digest(getattr(adata, of)[name])
    sums = []
    if layer is not None:
        summary = adata.layers[layer].summarize(rows=True, columns=True)
        sums = [digest(moments.sum) for moments in (summary.of_rows(), summary.of_columns())]
    return {
        "shape": list(store.shape),
        "matrix": [*key, str(info.dtype), info.nnz, *sums],
        "names": named,
        "columns": read,
    }


def _texts(names: Iterable[str]) -> Any:
    return np.array(list(names), dtype=object)


def signature(step: str, parameters: Mapping[str, Any], before: Iterable[str]) -> str:
    """A digest of a step and all that it builds on."""
    text = json.dumps([step, dict(parameters), list(before)], sort_keys=True)
    return digest({"signature": text})
