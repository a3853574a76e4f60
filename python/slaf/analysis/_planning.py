"""What an analysis is asked: of which store, under which names, and which steps are to be done."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from slaf import _slaf
from slaf._array import SLAFArray
from slaf._errors import from_kind, invalid
from slaf._numbers import path_text, text
from slaf._store import Store
from slaf.analysis._lineage import Names, Record, Stored, records, signature
from slaf.analysis._parameters import Parameters
from slaf.analysis._quality import symbols_of
from slaf.analysis._steps import Step, planned
from slaf.analysis._summary import Planned
from slaf.integrations._save import is_changed
from slaf.integrations.anndata import LazyAnnData, of_store
from slaf.integrations.scanpy._light import needed


@dataclass(frozen=True)
class Target:
    """The store, and what results are called in it."""

    path: str
    storage_options: Mapping[str, str]
    names: Names

    def open(self) -> Stored:
        """The newest version."""
        return Stored(of_store(Store(self.path, None, self.storage_options)))


def target_of(
    store: Any, storage_options: Mapping[str, str] | None, key_added: str | None
) -> Target:
    names = Names(None if key_added is None else text("key_added", key_added))
    if key_added is not None and ("/" in key_added or not key_added):
        raise invalid(f"key_added is a word without slashes, not {key_added!r}")
    if isinstance(store, (SLAFArray, LazyAnnData)):
        opened: Store = store._store
        if isinstance(store, LazyAnnData):
            _refuse_changed(store)
        return Target(opened.path, opened.storage_options, names)
    return Target(path_text("the store", store), dict(storage_options or {}), names)


def _refuse_changed(adata: LazyAnnData) -> None:
    """Refuse a data set that differs from its store."""
    if is_changed(adata):
        raise invalid(
            "an analysis is of all that a store holds, and this data set is a part of it or was "
            "changed: save() what was changed, or write() a store of the part"
        )


def planned_of(target: Target, p: Parameters) -> tuple[Stored, list[Planned]]:
    """Which steps are to be done.

    Raises
    ------
    AlreadyExistsError
        For names that are not ours.
    """
    stored = target.open()
    _check_input(stored, p)
    known = records(stored.uns, target.names, target.path)
    signatures = signatures_of(stored, p)
    steps: list[Planned] = []
    for step in planned(p):
        state, why = _state(stored, known, step, signatures, {s.step.name: s for s in steps})
        record = known.get(step.name)
        slots = [target.names.slot(slot) for slot in step.writes]
        steps.append(
            Planned(step, state, why, slots, signatures[step.name], record if why == "" else None)
        )
        if state != "done":
            refuse_foreign(stored, slots, known)
    return stored, steps


def _check_input(stored: Stored, p: Parameters) -> None:
    """Refuse what no step could work with."""
    adata, path = stored.adata, stored.store.path
    if p.layer is None and adata.X is None:
        raise from_kind("invalid-argument", "the store has no X: name a layer", path)
    if p.layer is not None and p.layer not in adata.layers:
        there = list(adata.layers)
        raise from_kind("unknown-table", f"no layers[{p.layer!r}]; there are {there}", path)
    if p.batch_key is not None:
        if p.batch_key not in adata.obs:
            message = f"no column {p.batch_key!r} in obs; there are {list(adata.obs.columns)}"
            raise from_kind("unknown-column", message, path)
        missing = adata.obs[p.batch_key].isna().to_numpy()
        if missing.any():
            first = adata.obs_names[int(missing.argmax())]
            raise from_kind(
                "invalid-argument",
                f"{int(missing.sum()):,} cells have no value in obs[{p.batch_key!r}], the first is "
                f"{first!r}: give them one with slaf annotate, or make a store without them with "
                "slaf filter --where",
                path,
            )
    # A column that is not there is refused.
    symbols_of(adata, p.symbols)


def root_of(stored: Stored, p: Parameters) -> str:
    """A digest of what the first steps read."""
    _, symbols = symbols_of(stored.adata, p.symbols)
    columns = [f"var/{symbols}"] if symbols is not None else []
    columns += [f"obs/{p.batch_key}"] if p.batch_key is not None else []
    return stored.input_digest(p.layer, columns)


def signatures_of(stored: Stored, p: Parameters) -> dict[str, str]:
    """The signature of each planned step."""
    found = {"": root_of(stored, p)}
    values = asdict(p)
    for step in planned(p):
        own = {name: values[name] for name in step.parameters}
        before = [found[name] for name in step.after if name in found] or [found[""]]
        found[step.name] = signature(step.name, own, before)
    return found


def _state(
    stored: Stored,
    known: Mapping[str, Record],
    step: Step,
    signatures: Mapping[str, str],
    before: Mapping[str, Planned],
) -> tuple[str, str]:
    """Whether a step is ``"done"``, ``"to do"`` or to ``"redo"``, and why."""
    record = known.get(step.name)
    if record is None:
        return "to do", "new"
    redone = [name for name in step.after if name in before and before[name].state != "done"]
    if redone:
        return "redo", f"{redone[0]} is done again"
    if record.shape != stored.adata.shape:
        return "redo", "cells or genes were added or removed"
    if record.signature != signatures[step.name]:
        return "redo", "parameters or cells changed"
    gone = [slot for slot in record.writes if not stored.has(slot)]
    if gone:
        return "redo", f"{gone[0]} is gone"
    other = [slot for slot in record.writes if not stored.is_same(slot, record)]
    return ("redo", f"{other[0]} was changed") if other else ("done", "")


def refuse_foreign(stored: Stored, slots: Sequence[str], known: Mapping[str, Record]) -> None:
    """Refuse to write over what no analysis has written."""
    makers = {slot: record for record in known.values() for slot in record.writes}
    for slot in filter(stored.has, slots):
        record = makers.get(slot)
        if record is not None and stored.is_ours(slot, record):
            continue
        told = "and slaf analyze did not make it"
        if record is not None:
            told = f"and it was changed since slaf analyze made it in version {record.version}"
        raise from_kind(
            "already-exists",
            f"the store has {slot}, {told}: rename or drop it, or give all results a prefix with "
            "--key-added PREFIX (key_added=)",
            stored.store.path,
        )


def check_installed(steps: Sequence[Step], p: Parameters, with_report: bool) -> None:
    """Refuse at the beginning what would fail later for a package."""
    modules = {
        "doublets": ["scanpy", "skimage"],
        "hvg": ["skmisc"] if p.flavor.startswith("seurat_v3") else [],
        "harmony": ["scanpy", "harmonypy"],
        "umap": ["scanpy", "umap"],
        "clusters": ["scanpy", "igraph"],
    }
    for step in steps:
        for module in modules.get(step.name, []):
            needed(module, f"the step {step.name!r} of an analysis")
    if with_report:
        needed("matplotlib", "the report of an analysis")


def check_writable(path: str, steps: Sequence[Planned]) -> None:
    """Refuse a local store that cannot be written into, before anything is computed."""
    local = _slaf.local_path(path)
    if local is None or all(step.state == "done" for step in steps):
        return
    if not os.access(local, os.W_OK):
        message = "the store cannot be written into, and each step of an analysis is written there"
        raise from_kind("permission-denied", message, path)
