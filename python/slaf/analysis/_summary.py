"""What an analysis tells at its end, or would do."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from slaf._report import Report
from slaf.analysis._lineage import Names, Record, Stored
from slaf.analysis._steps import Step


@dataclass(frozen=True)
class Planned:
    """A step of an analysis.

    Attributes
    ----------
    step : Step
        The step.
    state, why : str
        ``"done"``, ``"to do"`` or ``"redo"``, and why.
    slots : list of str
        What it may write.
    signature : str
        Of its parameters and all that it builds on.
    record : Record or None
        What is known of it, if it is done.
    """

    step: Step
    state: str
    why: str
    slots: list[str]
    signature: str
    record: Record | None

    def with_record(self, record: Record) -> Planned:
        """The step, done."""
        return replace(self, record=record)

    def told(self, record: Record) -> str:
        """A line about a step that is done."""
        told = found_text(self.step.name, record)
        return f"{told}{', ' if told else ''}{record.seconds:.1f} s, version {record.version}"


def found_text(name: str, record: Record) -> str:
    """What a step found, in a few words."""
    f = record.found
    if name == "qc":
        genes = [f"{n} {what} genes" for what, n in f["genes"].items()]
        return ", ".join(genes) or "no mt or ribo genes"
    if name == "filter":
        return (
            f"{f['n_passed']:,} of {f['n_cells']:,} cells and {f['n_genes_kept']:,} of "
            f"{f['n_genes']:,} genes pass"
        )
    if name == "clusters":
        return f"{len(f['sizes'])} clusters"
    words = {
        "doublets": ("n_doublets", "doublets"),
        "normalize": ("n_cells", "cells"),
        "hvg": ("n_genes", "genes"),
        "pca": ("n_comps", "components"),
        "harmony": ("n_batches", "batches"),
        "neighbors": ("n_neighbors", "neighbours of a cell"),
        "markers": ("n_groups", "clusters compared"),
    }
    if name not in words:
        return ""
    key, what = words[name]
    return f"{f[key]:,} {what}"


def report_of(
    names: Names,
    stored: Stored,
    steps: Sequence[Planned],
    *,
    is_plan: bool,
    out: Path | None = None,
) -> Report:
    """The report of :func:`slaf.analysis.analyze` or, before, of ``plan``."""
    path = stored.store.path
    rows = []
    for each in steps:
        record = each.record
        row: dict[str, Any] = {"name": each.step.name, "function": each.step.function}
        if is_plan:
            row |= {"state": each.state, "why": each.why, "slots": each.slots}
            row["version"] = None if record is None else record.version
        elif record is not None:
            row["state"] = "skipped" if each.state == "done" else "done"
            row |= {"version": record.version, "seconds": record.seconds}
            row |= {"writes": sorted(record.writes), "found": record.found}
            row["parameters"] = record.parameters
        rows.append(row)
    fields: dict[str, Any] = {
        "store": path,
        "version": stored.store.version,
        "n_cells": stored.adata.n_obs,
        "n_genes": stored.adata.n_vars,
        "steps": rows,
        "report": None if out is None else str(out),
    }
    if is_plan:
        return Report(_plan_text(steps, stored), json.dumps(fields))
    found = {each.step.name: each.record.found for each in steps if each.record is not None}
    fields["n_analyzed"] = found["normalize"]["n_cells"]
    return Report(_text(names, stored, steps, out), json.dumps(fields))


def _wrapped(words: str, slots: Sequence[str], indent: int) -> list[str]:
    margin = " " * indent
    wrapper = textwrap.TextWrapper(100, margin, margin)
    wrapper.break_long_words = wrapper.break_on_hyphens = False
    return wrapper.wrap(words + ", ".join(slots))


def _plan_text(steps: Sequence[Planned], stored: Stored) -> str:
    lines = [f"{stored.store.path}, version {stored.store.version}: nothing was done"]
    for each in steps:
        told = each.why
        if each.record is not None:
            told = f"in version {each.record.version}: would be skipped"
        lines.append(f"  {each.step.name:<10} {each.state:<6} {told}")
        if each.record is None:
            lines += _wrapped("writes ", each.slots, 20)
    return "\n".join(lines)


def _text(names: Names, stored: Stored, steps: Sequence[Planned], out: Path | None) -> str:
    path = stored.store.path
    lines = [f"{path}, version {stored.store.version}"]
    for each in steps:
        record = each.record
        assert record is not None
        was = "skipped" if each.state == "done" else "done"
        told = found_text(each.step.name, record)
        lines.append(f"  {each.step.name:<10} {was:<8} version {record.version:<5} {told}".rstrip())
        if record.writes:
            lines += _wrapped("", sorted(record.writes), 13)
        lines += [f"  {'':<10} note: {note}" for note in record.found["notes"]]
    if out is not None:
        lines.append(f"report: {out}")
    key = names("leiden")
    quoted = path.replace("'", "'\\''")
    column = f'"{key}"'
    passes = f'"{names("passes_qc")}"'
    sql = f"SELECT {column}, COUNT(*) FROM cells WHERE {passes} GROUP BY {column}"
    if not any(each.step.name == "clusters" for each in steps):
        reason = f'"{names("qc_reason")}"'
        sql = f"SELECT {reason}, COUNT(*) FROM cells GROUP BY {reason}"
    lines.append(f"next: slaf query '{quoted}' '{sql}'")
    if out is None:
        lines.append(f"      slaf analyze '{quoted}' ... --out report.html, for pictures")
    return "\n".join(lines)
