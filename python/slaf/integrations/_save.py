"""What was changed on a lazy AnnData, written into its store."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from copy import deepcopy
from typing import TYPE_CHECKING, Any

import numpy as np

from slaf import _slaf
from slaf._changing import grow_options
from slaf._errors import ConflictError, InvalidArgumentError, from_kind, invalid
from slaf._growing import add_slots
from slaf._report import Report
from slaf._selectors import Axis
from slaf._store import WHAT, Key, Store
from slaf.integrations._contents import SLOTS, Contents
from slaf.integrations._deferred import DeferredFrame, Source
from slaf.integrations._extras import read_element
from slaf.integrations._plan import Stored

if TYPE_CHECKING:
    from slaf.integrations._lazy import LazyMatrix
    from slaf.integrations.anndata import LazyAnnData


def save(adata: LazyAnnData) -> Report:
    """Write what was changed as the next version of the store; see ``LazyAnnData.save``."""
    contents = adata._contents
    store = contents.store
    whole = all(contents.axes[of].is_all and len(contents.axes[of]) == n for of, n in _shape(store))
    if adata.is_view or contents.is_subset or not whole:
        raise invalid(
            "this is a part of the store, and save() writes what was changed of all of it: write() "
            "makes a store of the part"
        )
    changes = _Changes(contents)
    if changes.left:
        warnings.warn(
            f"{' and '.join(changes.left)} of a store stay as they are, and were not written: save "
            "a layer in place of X, or write() a new store",
            UserWarning,
            stacklevel=3,
        )
    if not changes.slots and not changes.dropped:
        fields = {"version": store.version, "written": [], "removed": []}
        return Report("nothing was changed", json.dumps({**fields, "left": changes.left}))
    version, report = _write(store, changes)
    _rebase(contents, Store(store.path, version, store.storage_options, store.verify), changes)
    return Report(str(report), json.dumps({**report.to_dict(), "left": changes.left}))


def _write(store: Store, changes: _Changes) -> tuple[int, Report]:
    """Write changes over the newest version, if it has the same cells, genes and old values."""
    base, tried = store, False
    while True:
        _refuse_other_shape(store)
        try:
            return add_slots(
                base, changes.slots, overwrite=True, drop=changes.dropped, keep_changes=True
            )
        except ConflictError:
            newest = _newest(store)
            # A rewriting, as by optimize(), moves values and changes none.
            if tried or not _is_alike(store, newest, changes):
                raise
            base, tried = newest, True
        except InvalidArgumentError:
            # Cells may have come since they were counted.
            _refuse_other_shape(store)
            raise


def _newest(store: Store) -> Store:
    newest = _slaf.newest_version(store.path, grow_options(store))
    return Store(store.path, newest, store.storage_options, store.verify)


def _refuse_other_shape(store: Store) -> None:
    newest = _newest(store)
    for of, then, now in zip(("cells", "genes"), store.shape, newest.shape, strict=True):
        if then != now:
            raise from_kind(
                "conflict",
                f"others added or removed {of} since version {store.version} was opened, which "
                f"has {then} and version {newest.version} has {now}: nothing was written; open the "
                "store again with read_slaf, and repeat the change",
                store.path,
            )


def _is_alike(one: Store, other: Store, changes: _Changes) -> bool:
    """Whether two versions have the same names, and the same values of what was changed."""
    if one.shape != other.shape:
        return False
    if any(one.names(of, one.axis(of)) != other.names(of, other.axis(of)) for of in WHAT):
        return False
    ours, theirs = Contents.of_store(one), Contents.of_store(other)
    return all(same(_value(ours, name), _value(theirs, name)) for name in changes.names())


def _value(contents: Contents, name: str) -> Any:
    """What is stored under a name such as ``"obs/n"``; ``None`` if there is nothing."""
    slot, _, key = name.partition("/")
    if slot == "uns":
        return contents.get_uns()
    if slot in WHAT:
        return contents.frame(slot)[key] if key in contents.columns(slot) else None
    if slot == "layers":
        return contents.layers[key].to_memory() if key in contents.layers else None
    value: Any = contents.mappings[slot].get(key)
    return value.to_memory() if hasattr(value, "to_memory") else value


def is_changed(adata: LazyAnnData) -> bool:
    """Whether a data set is a part of its store, or differs from it."""
    contents = adata._contents
    if adata.is_view or contents.is_subset:
        return True
    changes = _Changes(contents)
    return bool(changes.slots or changes.dropped or changes.left)


def _shape(store: Store) -> list[tuple[str, int]]:
    return [("obs", store.shape[0]), ("var", store.shape[1])]


class _Changes:
    """What differs between contents and their store."""

    def __init__(self, contents: Contents):
        self.slots: dict[str, Any] = {}
        self.dropped: list[str] = []
        # What is changed, and cannot be written.
        self.left: list[str] = []
        self._saved = contents.saved
        store = contents.store
        stored = Contents.of_store(store)
        for of, n in _shape(store):
            if of in contents.frames:
                self._frame(of, contents.frames[of], contents.store_frame(of, Axis(n)))
        self._matrices(contents)
        for slot in SLOTS:
            self._mapping(slot, contents.mappings[slot], stored.mappings[slot])
        if contents.uns is not None:
            before = read_element(store, "uns") or {}
            if not contents.uns and before:
                self.dropped.append("uns")
            elif not self._is_same("uns", contents.uns, before):
                self.slots["uns"] = contents.uns

    def _is_same(self, name: str, value: Any, stored: Any) -> bool:
        """Whether a value is what is stored, or what was saved as that."""
        return same(value, stored) or (name in self._saved and same(value, self._saved[name]))

    def names(self) -> list[str]:
        """What is replaced or dropped, such as ``"obs/n"``."""
        names = list(self.dropped)
        for slot, value in self.slots.items():
            names += [slot] if slot == "uns" else [f"{slot}/{name}" for name in value]
        return names

    def _frame(self, of: str, frame: Any, stored: Any) -> None:
        if list(frame.index) != list(stored.index):
            raise invalid(f"the names in {of} were changed, and a store keeps its own")
        columns = [
            c
            for c in frame
            if c not in stored or not self._is_same(f"{of}/{c}", frame[c], stored[c])
        ]
        if columns:
            self.slots[of] = frame[columns]
        self.dropped += [f"{of}/{c}" for c in stored if c not in frame]

    def _matrices(self, contents: Contents) -> None:
        store = contents.store
        X = contents.X
        if (X is None) != (Key("X") not in store.matrices) or (
            X is not None and not _is_stored(X, Key("X"))
        ):
            self.left.append("X")
        raw = contents.raw
        if (raw is None) != (Key("raw") not in store.matrices) or (
            raw is not None and not _is_stored(raw.X, Key("raw"))
        ):
            self.left.append("raw")
        layers = {
            name: layer.to_memory()
            for name, layer in contents.layers.items()
            if not _is_stored(layer, Key("layers", name))
        }
        if layers:
            self.slots["layers"] = layers
        there = [k.name for k in store.matrices if k.slot == "layers"]
        self.dropped += [f"layers/{name}" for name in there if name not in contents.layers]

    def _mapping(self, slot: str, mapping: Any, stored: Any) -> None:
        changed = {
            name: value
            for name, value in mapping._values.items()
            if name not in stored or not self._is_same(f"{slot}/{name}", value, stored[name])
        }
        if changed:
            self.slots[slot] = changed
        self.dropped += [f"{slot}/{name}" for name in stored if name not in mapping]


def _is_stored(matrix: LazyMatrix, key: Key) -> bool:
    """Whether a matrix is as the store has it."""
    source = matrix._source
    return (
        not matrix._steps
        and isinstance(source, Stored)
        and source._key == key
        and source._rows.is_all
        and source._cols.is_all
    )


def _rebase(contents: Contents, store: Store, changes: _Changes) -> None:
    """Show the new version.

    What was saved stays as it is in memory, and what others changed meanwhile is taken over: it
    would look like a change of this object the next time.
    """
    fresh = Contents.of_store(store)
    is_next = store.version == contents.store.version + 1
    contents.store = store
    if is_next:
        _note_saved(contents, fresh, changes)
    else:
        # All is shown as it is stored.
        contents.saved.clear()
    for of, axis in contents.axes.items():
        if of in contents.deferred:
            contents.deferred[of] = _rebased(contents.deferred[of], Source(store, of, axis))
        elif of in contents.frames and not is_next:
            _take_over(contents.frames[of], contents.store_frame(of, Axis(len(axis))))
    contents.layers.clear()
    contents.layers.update(fresh.layers)
    for slot in SLOTS:
        mapping, values = fresh.mappings[slot], contents.mappings[slot]._values
        for name, value in values.items():
            if is_next or (name in mapping and same(value, mapping[name])):
                mapping._values[name] = value
        contents.mappings[slot] = mapping
    if contents.uns is not None and not is_next:
        uns = fresh.get_uns()
        if not same(contents.uns, uns):
            contents.uns.clear()
            contents.uns.update(uns)
    contents.is_stored = not changes.left


def _note_saved(contents: Contents, fresh: Contents, changes: _Changes) -> None:
    """Keep what the store gives back as another type: it is no change the next time."""
    for name in changes.names():
        contents.saved.pop(name, None)
        # The layers of the store are shown from now on.
        if not name.startswith("layers/"):
            value = _value(contents, name)
            if not same(value, _value(fresh, name)):
                contents.saved[name] = deepcopy(value)


def _rebased(frame: Any, source: Source) -> Any:
    """A deferred frame that reads another version; one that was read meanwhile stays."""
    if isinstance(frame, DeferredFrame):
        frame.rebase(source)
    return frame


def _take_over(frame: Any, stored: Any) -> None:
    """Bring the columns of a frame to what is stored."""
    for name in [name for name in frame if name not in stored]:
        del frame[name]
    for at, name in enumerate(stored):
        if name not in frame:
            frame.insert(at, name, stored[name])
        elif not same(frame[name], stored[name]):
            frame[name] = stored[name]


def same(one: Any, other: Any) -> bool:
    """Whether two elements are the same: types, shapes and values, where NaN equals NaN."""
    import pandas as pd
    import scipy.sparse as sp

    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(same(one[k], other[k]) for k in one)
    if isinstance(one, pd.Series) and isinstance(other, pd.Series):
        return _same_dtype(one.dtype, other.dtype) and one.reset_index(drop=True).equals(
            other.reset_index(drop=True)
        )
    if isinstance(one, pd.DataFrame) and isinstance(other, pd.DataFrame):
        return bool(one.equals(other)) and all(map(_same_dtype, one.dtypes, other.dtypes))
    if sp.issparse(one) and sp.issparse(other):
        return _same_sparse(one, other)
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        return _same_arrays(one, other)
    if type(one) is not type(other):
        return False
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, (pd.api.extensions.ExtensionArray, pd.Index)):
        equals: Any = one.equals  # type: ignore[union-attr]
        return _same_dtype(one.dtype, other.dtype) and bool(equals(other))
    if pd.api.types.is_scalar(one) and pd.isna(one):
        return bool(pd.isna(other))
    try:
        return bool(one == other)
    except (TypeError, ValueError):
        return False


def _same_dtype(one: Any, other: Any) -> bool:
    # Categories without an order are the same to pandas in any order.
    if one != other:
        return False
    return not hasattr(one, "categories") or list(one.categories) == list(other.categories)


def _same_arrays(one: Any, other: Any) -> bool:
    if one.dtype != other.dtype or one.shape != other.shape:
        return False
    if one.dtype.names:
        return all(same(one[field], other[field]) for field in one.dtype.names)
    if one.dtype.hasobject:
        return all(map(same, one.ravel().tolist(), other.ravel().tolist()))
    return np.array_equal(one, other, equal_nan=one.dtype.kind in "fcmM")


def _same_sparse(one: Any, other: Any) -> bool:
    if one.format != other.format or one.dtype != other.dtype or one.shape != other.shape:
        return False
    a, b = one.tocsr().sorted_indices(), other.tocsr().sorted_indices()
    pairs = [(a.indptr, b.indptr), (a.indices, b.indices), (a.data, b.data)]
    return all(np.array_equal(x, y, equal_nan=x.dtype.kind in "fc") for x, y in pairs)
