"""Turns what was measured into one table: medians, and ratios against SLAF."""

from __future__ import annotations

import statistics
from typing import Any

import registry

# The sentences of the project's README, each checked against the run: title, task, rival.
CLAIMS = (
    ("random access (64 random cells) against Parquet", "cells_64", "parquet"),
    ("random access (1,000 random cells) against Parquet", "cells_1000", "parquet"),
    ("filtering of metadata against HDF5", "filter", "h5ad"),
    ("counts of filtered cells against HDF5", "filter_counts", "h5ad"),
)


def render(results: dict[str, Any]) -> str:
    """Markdown: the table, the claims, and why some fields are empty."""
    columns: dict[str, Any] = results["columns"]
    names = [column.name for column in registry.COLUMNS if column.name in columns]
    nonzeros = results["data"]["nonzeros"]
    notes: dict[str, list[str]] = {}
    lines = [
        heading(results),
        "",
        "| task | " + " | ".join(names) + " |",
        "|---|" + "---:|" * len(names),
    ]

    def row(title: str, suffix: str, task: str, mode: str, measure: Any, unit: Any) -> None:
        values = {name: number(columns[name], task, mode, measure) for name in names}
        if all(value is None for value in values.values()):
            return
        own = values.get(registry.SLAF)
        own = own if isinstance(own, float) else None
        cells = [
            text_of(value, None if name == registry.SLAF else own, unit)
            for name, value in values.items()
        ]
        lines.append(f"| {title}{suffix} | " + " | ".join(cells) + " |")
        for name, value in values.items():
            if isinstance(value, str):
                note = f"{name}: {value}"
                if title not in notes.setdefault(note, []):
                    notes[note].append(title)

    row("convert", "", "build", "once", lambda a: a["seconds"], seconds)
    row("convert", ", peak MB", "build", "once", lambda a: a["peak_mb"], megabytes)
    row("size", ", MB", "build", "once", lambda a: a["bytes"] / 1e6, megabytes)
    row("size", ", bytes per nonzero", "build", "once", lambda a: a["bytes"] / nonzeros, plain)
    for task, question in registry.TASKS.items():
        row(question.title, "", task, "warm", median_warm, seconds)
        row(question.title, ", cold", task, "cold", median_cold, seconds)
        row(question.title, ", peak MB", task, "warm", lambda a: a["peak_mb"], megabytes)
    lines += ["", *claims(columns), *explain(notes)]
    return "\n".join(lines)


def heading(results: dict[str, Any]) -> str:
    """What was measured, and on what."""
    data, machine = results["data"], results["machine"]
    return (
        f"{data['n_obs']:,} cells x {data['n_vars']:,} genes, {data['nonzeros']:,} nonzeros; "
        f"{machine['processor']}, {machine['cores']} cores, {machine['memory_gb']} GB. "
        "Medians; in brackets, how many times SLAF's."
    )


def number(column: dict[str, Any], task: str, mode: str, measure: Any) -> float | str | None:
    """A measurement, the reason why there is none, or None if there is nothing to tell."""
    answer = column.get(task, {}).get(mode)
    if answer is None:
        return None
    if "not_available" in answer:
        return f"n/a: {answer['not_available']}"
    if "failed" in answer:
        return f"failed: {answer['failed']}"
    if answer.get("wrong"):
        return f"WRONG: {answer['wrong']}"
    value = measure(answer)
    return None if value is None else float(value)


def median_warm(answer: dict[str, Any]) -> float:
    """Median of opening, or of the queries after the first, which warms the store up."""
    times = answer["query"] or answer["open"]
    # A query as long as the whole budget ran once.
    return statistics.median(times[1:] or times)


def median_cold(answer: dict[str, Any]) -> float:
    """Median of opening and one query, both from files that are not in the page cache."""
    if not answer["query"]:
        return statistics.median(answer["open"])
    pairs = zip(answer["open"], answer["query"], strict=True)
    return statistics.median(opened + asked for opened, asked in pairs)


def text_of(value: float | str | None, own: float | None, unit: Any) -> str:
    """A field of the table."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value.split(":", 1)[0]
    return f"{unit(value)} ({value / own:.2g}x)" if own else str(unit(value))


def seconds(value: float) -> str:
    """A duration with three digits or so."""
    if value < 1:
        return f"{value * 1e3:.3g} ms"
    return f"{value:.3g} s" if value < 100 else f"{value:.0f} s"


def megabytes(value: float) -> str:
    """A size in MB."""
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def plain(value: float) -> str:
    """A number as it is."""
    return f"{value:.2f}"


def claims(columns: dict[str, Any]) -> list[str]:
    """The ratios that the README may state."""
    lines = []
    for title, task, rival in CLAIMS:
        for mode, measure in (("warm", median_warm), ("cold", median_cold)):
            own = number(columns.get(registry.SLAF, {}), task, mode, measure)
            other = number(columns.get(rival, {}), task, mode, measure)
            if isinstance(own, float) and isinstance(other, float):
                lines.append(
                    f"- {title}, {mode}: {other / own:.2g}x "
                    f"(SLAF {seconds(own)}, {rival} {seconds(other)})"
                )
    return [*lines, ""] if lines else []


def explain(notes: dict[str, list[str]]) -> list[str]:
    """Why fields have no number, one line for each reason."""
    return [f"- {note} ({'; '.join(titles)})" for note, titles in notes.items()]
