"""An analysis: which steps are to be done, doing them, and writing what they give."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from slaf import _slaf
from slaf._array import SLAFArray
from slaf._errors import SlafError, from_kind
from slaf._growing import add_beside_uns
from slaf._numbers import flag
from slaf._report import Report
from slaf._store import Store
from slaf.analysis._digest import digest
from slaf.analysis._lineage import KEY, Record, Stored, records
from slaf.analysis._parameters import Parameters, parameters
from slaf.analysis._planning import (
    Target,
    check_installed,
    check_writable,
    planned_of,
    refuse_foreign,
    root_of,
    target_of,
)
from slaf.analysis._report import free_file, write_page
from slaf.analysis._steps import STEPS, Context, Result
from slaf.analysis._summary import Planned, report_of
from slaf.integrations._workers import check_client
from slaf.integrations.anndata import LazyAnnData

#: Tells of a step that begins: its number, how many there are, and its title. The context ends with
#: the step, whose line it is given.
Progress = Callable[[int, int, str], AbstractContextManager[Callable[[str], None]]]


def plan(
    store: Any,
    *,
    preset: str | None = None,
    key_added: str | None = None,
    storage_options: Mapping[str, str] | None = None,
    **options: Any,
) -> Report:
    """Tell what :func:`analyze` would do with the same arguments, and do nothing.

    Returns
    -------
    Report
        ``steps``: of each its ``name``, ``state`` (``"done"``, ``"to do"`` or ``"redo"``), ``why``,
        and the ``slots`` that it may write.
    """
    target = target_of(store, storage_options, key_added)
    stored, steps = planned_of(target, parameters(preset, options))
    return report_of(target.names, stored, steps, is_plan=True)


def analyze(
    store: Any,
    *,
    preset: str | None = None,
    batch_key: str | None = None,
    out: str | os.PathLike[str] | None = None,
    key_added: str | None = None,
    overwrite: bool = False,
    storage_options: Mapping[str, str] | None = None,
    progress: Progress | None = None,
    client: Any = None,
    **options: Any,
) -> Report:
    """Go from counts to clusters and markers, and write the results into the store.

    The steps are quality metrics, filters, doublets (if asked for), normalisation, variable genes,
    principal components, Harmony (with ``batch_key``), neighbours, UMAP, Leiden's clusters, and
    markers. They are the functions of :mod:`slaf.integrations.scanpy`; counts stream from the
    store. Each step is one commit, so that an analysis that was stopped goes on where it was: a
    step is skipped where its results are there, made from the same cells and genes with the same
    parameters. ``uns["slaf_analyze"]`` has a record of each.

    Cells that do not pass stay in the store. ``obs["passes_qc"]`` and ``obs["qc_reason"]`` tell
    which and why; later columns are missing for them (NaN), and graphs have no edges of them. X
    stays counts: :func:`open_analyzed` gives the cells and genes that were analysed, normalised.

    Parameters
    ----------
    store
        A path or address, a :class:`slaf.SLAFArray` (which moves to the last version), or a lazy
        AnnData without changes (which stays where it is). The newest version is analysed.
    preset
        ``"default"`` or ``"pbmc"``; see :data:`PRESETS`.
    batch_key
        See :class:`Parameters`.
    out
        Where to write a report, a file of HTML that needs no others.
    key_added
        A prefix of all names that are written: ``"run2"`` gives ``obs["run2_leiden"]``.
    overwrite
        Replace the file at ``out``. Of the store, only results of earlier analyses are replaced.
    storage_options
        Of the object store.
    progress
        Is told of each step.
    client
        A ``dask.distributed.Client`` whose workers take the passes over the counts, each reading
        the store itself: quality metrics, filters, normalisation, variable genes, components and
        markers. The results are the same, bit by bit. Doublets, neighbours, layout and clusters
        are found by this machine.
    **options
        Fields of :class:`Parameters`, in place of those of the preset.

    Returns
    -------
    Report
        ``version``, ``n_cells``, ``n_analyzed``, ``n_genes``, ``report``, and ``steps``: of each
        ``name``, ``state``, ``version``, ``seconds``, ``writes``, ``found``.

    Raises
    ------
    AlreadyExistsError
        For columns and keys of the same names that no analysis made, or that were changed since;
        for a file at ``out``.
    InvalidArgumentError
        For values that are no counts, cells without a batch, wrong parameters, too few cells, and
        a client that has no workers or is closed.
    UnsupportedError
        For packages that are missing: ``pip install 'slaf[analysis]'``.
    ConflictError
        If others change cells, genes, counts or results of finished steps meanwhile.

    Notes
    -----
    Genes are mitochondrial whose symbols begin with ``MT-`` (``mt-``, ``Mt-``), ribosomal with
    ``RPS`` or ``RPL``. Symbols are the names of genes or, where these are numbers of Ensembl or
    have none that begins so, a column such as ``symbol``, ``gene_name`` or ``feature_name``.

    Examples
    --------
    >>> from slaf.analysis import plan
    >>> [step["name"] for step in plan(store_path, key_added="mine", umap=False).steps][:3]
    ['qc', 'filter', 'normalize']
    """
    p = parameters(preset, {**options, "batch_key": batch_key})
    if client is not None:
        check_client(client)
    target = target_of(store, storage_options, key_added)
    file = None if out is None else free_file(out, flag("overwrite", overwrite))
    stored, steps = planned_of(target, p)
    check_installed([s.step for s in steps if s.state != "done"], p, file is not None)
    check_writable(target.path, steps)
    shown = progress or (lambda *_: nullcontext(lambda _: None))
    base: list[Planned] = []
    run = _Run(target, p, stored, client)
    for number, each in enumerate(steps, 1):
        if each.state == "done":
            assert each.record is not None
            run.done[each.step.name] = each.record
            base.append(each)
            continue
        with shown(number, len(steps), each.step.title) as tell:
            record = _do(run, each)
            tell(each.told(record))
        base.append(each.with_record(record))
    stored = target.open()
    if file is not None:
        with shown(len(steps), len(steps), "report"):
            _write_report(file, stored, target)
    if isinstance(store, SLAFArray):
        store.refresh()
    return report_of(target.names, stored, base, is_plan=False, out=file)


def open_analyzed(
    store: Any,
    *,
    key_added: str | None = None,
    storage_options: Mapping[str, str] | None = None,
) -> LazyAnnData:
    """Open the cells and genes that an analysis took, with logarithms of normalised counts as X.

    Parameters
    ----------
    store, key_added, storage_options
        As in :func:`analyze`.

    Returns
    -------
    LazyAnnData
        With the names of the store, also of entries of ``uns``.

    Raises
    ------
    NotFoundError
        If the store was not analysed as far as that, or lacks what says which cells and genes.
    """
    target = target_of(store, storage_options, key_added)
    stored = target.open()
    found = records(stored.uns, target.names, target.path)
    if "normalize" not in found:
        what = f"there is no analysis with key_added={key_added!r}: run slaf analyze first"
        raise from_kind("not-found", what, target.path)
    for slot in map(target.names.slot, ("obs/size_factor", "var/passes_qc")):
        if not stored.has(slot):
            raise from_kind("not-found", f"{slot} is gone: run slaf analyze again", target.path)
    layer = found["qc"].parameters.get("layer") if "qc" in found else None
    if layer is not None and layer not in stored.adata.layers:
        what = f"layers/{layer} is gone, which has the counts: run slaf analyze again"
        raise from_kind("not-found", what, target.path)
    adata = Context(stored.adata, Parameters(layer=layer), target.names).analyzed()
    adata.uns.update(stored.uns)
    adata.uns["log1p"] = {"base": None}
    return adata


def _write_report(file: Path, stored: Stored, target: Target) -> None:
    """Write the report at the end of an analysis; a failure says that only this is missing."""
    done = "the analysis is done and in the store, and only its report is missing: run the same "
    done += "again, which makes just that"
    try:
        write_page(file, stored, target.names)
    except SlafError as e:
        raise from_kind(e.kind, f"{e.message}; {done}", e.location) from e
    except Exception as e:
        raise from_kind("internal", f"{type(e).__name__}: {e}; {done}", str(file)) from e


class _Run:
    """What a run knows of the store, which others may change between and during its steps.

    Attributes
    ----------
    done : dict
        The records that hold, by the names of their steps.
    """

    def __init__(self, target: Target, p: Parameters, planned: Stored, client: Any):
        self.target, self.p, self.client = target, p, client
        self.done = dict[str, Record]()
        self.shape = planned.adata.shape
        self.root = root_of(planned, p)
        self.seen: tuple[int, str] | None = _identity(planned)
        self.own: Record | None = None

    def open(self, title: str) -> Stored:
        """The newest version, in which all that this run goes on from is as it was.

        Raises
        ------
        ConflictError
            If others changed it.
        """
        stored = self.target.open()
        # Versions do not change: what was looked at need not be read again.
        if _identity(stored) != self.seen and not self._is_own(stored):
            why = self._changed(stored)
            if why is not None:
                raise from_kind(
                    "conflict",
                    f"others changed the store before the step {title!r} was written: {why}; run "
                    "slaf analyze again: what was done is kept, and steps that this affects are "
                    "done again",
                    self.target.path,
                )
        self.seen = _identity(stored)
        return stored

    def did(self, name: str, record: Record) -> None:
        """Note a step that this run committed."""
        self.done[name] = self.own = record

    def _is_own(self, stored: Stored) -> bool:
        """Whether a version is the last that this run committed."""
        if self.own is None or stored.store.version != self.own.version:
            return False
        known = records(stored.uns, self.target.names, self.target.path)
        return stored.adata.shape == self.shape and self.own in known.values()

    def theirs(self, stored: Stored, step: Planned) -> Record | None:
        """The record of a step that another run of the same analysis did meanwhile."""
        known = records(stored.uns, self.target.names, self.target.path)
        record = known.get(step.step.name)
        if record is None or record.signature != step.signature or record.shape != self.shape:
            return None
        is_whole = all(stored.has(s) and stored.is_same(s, record) for s in record.writes)
        return record if is_whole else None

    def _changed(self, stored: Stored) -> str | None:
        if stored.adata.shape != self.shape:
            return "cells or genes came or went"
        try:
            is_same = root_of(stored, self.p) == self.root
        except (KeyError, SlafError):
            is_same = False
        if not is_same:
            return "it has other cells, genes or counts, or columns that are read have other values"
        known = records(stored.uns, self.target.names, self.target.path)
        for name, record in self.done.items():
            now = known.get(name)
            if now is None:
                return f"the record of the step {name!r} is gone"
            if (now.signature, now.writes) != (record.signature, record.writes):
                return f"another analysis did the step {name!r}"
            for slot in record.writes:
                if not stored.has(slot):
                    return f"{slot} is gone"
                if not stored.is_same(slot, record):
                    return f"{slot} has other values"
        return None


def _identity(stored: Stored) -> tuple[int, str]:
    """What tells a version from that of the same number in a store that took its place."""
    return stored.store.version, stored.store.native.write_id


def _do(run: _Run, each: Planned) -> Record:
    """Do a step, and commit what it gives."""
    started = time.perf_counter()
    target, p = run.target, run.p
    stored = run.open(each.step.title)
    theirs = run.theirs(stored, each)
    if theirs is not None:
        run.done[each.step.name] = theirs
        return theirs
    with warnings.catch_warnings():
        # Genes are told apart by their places.
        warnings.filterwarnings("ignore", "(Variable|Observation) names are not unique")
        result = each.step.run(Context(stored.adata, p, target.names, run.client))
    values = asdict(p)
    own = {name: values[name] for name in each.step.parameters}
    record = Record(
        function=each.step.function,
        parameters=own,
        found=result.found,
        slaf_version=_slaf.__version__,
        made=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        input_version=stored.store.version,
        version=0,
        seconds=round(time.perf_counter() - started, 3),
        shape=stored.adata.shape,
        signature=each.signature,
        writes={},
    )
    try:
        record = _commit(run, stored, each, result, record)
    except _DoneByOthersError as e:
        run.done[each.step.name] = e.record
        return e.record
    run.did(each.step.name, record)
    return record


class _DoneByOthersError(Exception):
    """Another run of the same analysis committed a step first."""

    def __init__(self, record: Record):
        super().__init__(record.version)
        self.record = record


def _commit(run: _Run, read: Stored, each: Planned, result: Result, record: Record) -> Record:
    """Write what a step gives with its record, beside what others write meanwhile.

    Results of steps that build on it, and those of an earlier run that it does not write again, go
    in the same commit: they describe what is no longer there.
    """
    import pandas as pd

    target, names, step = run.target, run.target.names, each.step
    given: dict[str, Any] = {}
    for of, slots in result.slots.items():
        for name, value in slots.items():
            is_column = of in ("obs", "var")
            given[names.slot(f"{of}/{name}")] = pd.Series(value) if is_column else value
    writes = {slot: digest(value) for slot, value in given.items()}
    written = record
    dropped: list[str] = []
    own: dict[str, dict[str, Any]] = {}
    for slot, value in given.items():
        of, _, name = slot.partition("/")
        if of != "uns":
            own.setdefault(of, {})[name] = value
    frames: dict[str, Any] = {of: pd.DataFrame(own.pop(of)) for of in ("obs", "var") if of in own}
    newest = read

    def opened(_: int) -> Store:
        nonlocal newest
        newest = run.open(step.title)
        if _identity(newest) != _identity(read):
            theirs = run.theirs(newest, each)
            if theirs is not None:
                raise _DoneByOthersError(theirs)
        return newest.store

    def merged(uns: Mapping[str, Any]) -> Mapping[str, Any]:
        nonlocal written
        known = records(uns, names, target.path)
        slots = [names.slot(slot) for slot in step.writes]
        refuse_foreign(newest, slots, known)
        stale = {step.name, *_built_on(step.name)}
        ours = ((s, r) for name, r in known.items() if name in stale for s in r.writes)
        # What somebody changed since is theirs, and stays.
        gone = {s for s, r in ours if s not in writes and newest.has(s) and newest.is_ours(s, r)}
        dropped[:] = sorted(s for s in gone if not s.startswith("uns/"))
        version = newest.store.version + 1
        written = Record(**{**record.__dict__, "version": version, "writes": writes})
        kept = {k: r.to_uns() for k, r in known.items() if k not in stale}
        entries = {k: v for k, v in uns.items() if f"uns/{k}" not in gone}
        entries |= {s.removeprefix("uns/"): v for s, v in given.items() if s.startswith("uns/")}
        entries[names(KEY)] = {**kept, step.name: written.to_uns()}
        return {**frames, **own, "uns": entries}

    version, _ = add_beside_uns(opened, merged, lambda: dropped)
    if version != written.version:
        # Others wrote at the same moment. The version that it is corrected in is looked at anew.
        fixed = Record(**{**written.__dict__, "version": version})
        _set_record(target, step.name, fixed)
        written = fixed
    return written


def _set_record(target: Target, name: str, record: Record) -> None:
    """Replace a record."""

    def merged(uns: Mapping[str, Any]) -> Mapping[str, Any]:
        key = target.names(KEY)
        return {"uns": {**uns, key: {**uns[key], name: record.to_uns()}}}

    add_beside_uns(lambda _: target.open().store, merged)


def _built_on(name: str) -> set[str]:
    """The steps that read results of a step, and those that read theirs."""
    found = {name}
    for step in STEPS:
        if found & set(step.after):
            found.add(step.name)
    return found - {name}
