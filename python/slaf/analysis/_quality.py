"""Which cells pass quality control, and why others do not."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from slaf._errors import from_kind
from slaf.analysis._parameters import Parameters
from slaf.integrations.anndata import LazyAnnData

if TYPE_CHECKING:
    import pandas as pd

#: Columns of var that hold symbols in files of 10x, CELLxGENE, Ensembl and others.
SYMBOLS = (
    "symbol", "symbols", "gene_symbol", "gene_symbols", "gene_name", "gene_names",
    "gene_short_name", "feature_name", "feature_names", "SYMBOL", "Symbol", "Gene", "gene",
)  # fmt: skip
#: Genes on the mitochondrial chromosome, of human, mouse and rat (``MT-``, ``mt-``, ``Mt-``); in
#: references of several genomes names begin with that of the genome.
_MT = re.compile(r"(?:(?:GRCh|GRCm|hg|mm)\d+_+)?(?:MT|mt|Mt)-")
#: Ribosomal proteins, by the prefixes of "Single-cell best practices".
_RIBO = re.compile(r"(?:(?:GRCh|GRCm|hg|mm)\d+_+)?(?:RP[SL]|Rp[sl])")
_ENSEMBL = re.compile(r"ENS[A-Z]*G\d{6,}")
#: How many of the largest genes of a cell the share is taken of.
TOP = 20

_Mask = npt.NDArray[np.bool_]


def symbols_of(adata: LazyAnnData, column: str | None) -> tuple[npt.NDArray[Any], str | None]:
    """Symbols of genes, and the column of var that they come from; ``None`` for the names.

    Without a column they are the names, unless most of these are numbers of Ensembl, or none of
    them begins as a mitochondrial gene, and a column of :data:`SYMBOLS` has such genes.

    Raises
    ------
    UnknownNameError
        If the column is not there.
    """
    names = np.asarray(adata.var_names, dtype=object)
    if column is not None:
        if column not in adata.var:
            there = list(adata.var.columns)
            raise from_kind("unknown-column", f"no column {column!r} in var; there are {there}")
        return _filled(adata, column, names), column
    is_ensembl = sum(bool(_ENSEMBL.match(str(n))) for n in names) > len(names) / 2
    if not is_ensembl and marked(names, _MT).any():
        return names, None
    found = [c for c in SYMBOLS if c in adata.var]
    of_columns = {c: _filled(adata, c, names) for c in found}
    for name, symbols in of_columns.items():
        if marked(symbols, _MT).any():
            return symbols, name
    if is_ensembl and found:
        return of_columns[found[0]], found[0]
    return names, None


def _filled(adata: LazyAnnData, column: str, names: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """A column of texts; a gene without one keeps its name."""
    values = adata.var[column].astype(object)
    filled: npt.NDArray[Any] = np.where(values.isna(), names, values)
    return filled


def marked(symbols: npt.NDArray[Any], pattern: re.Pattern[str]) -> _Mask:
    """Which symbols begin as a pattern says."""
    return np.array([bool(pattern.match(str(symbol))) for symbol in symbols], dtype=bool)


def gene_sets(symbols: npt.NDArray[Any]) -> dict[str, _Mask]:
    """The mitochondrial and the ribosomal genes, where there are some."""
    sets = {"mt": marked(symbols, _MT), "ribo": marked(symbols, _RIBO)}
    return {name: mask for name, mask in sets.items() if mask.any()}


@dataclass(frozen=True)
class _Rule:
    """What rejects a cell: a metric at or beyond a bound, or far from its median."""

    reason: str
    metric: str
    low: float | None = None
    high: float | None = None
    mads: float | None = None
    logarithm: bool = False


def _rules(p: Parameters) -> list[_Rule]:
    total, genes, mt = "total_counts", "n_genes_by_counts", "pct_counts_mt"
    rules = [
        _Rule("few counts", total, low=p.min_counts),
        _Rule("many counts", total, high=p.max_counts),
        _Rule("few genes", genes, low=p.min_genes),
        _Rule("many genes", genes, high=p.max_genes),
        _Rule("high mt", mt, high=p.max_pct_mt),
        _Rule("counts far from median", total, mads=p.mads, logarithm=True),
        _Rule("genes far from median", genes, mads=p.mads, logarithm=True),
        _Rule(f"top {TOP} genes far from median", f"pct_counts_in_top_{TOP}_genes", mads=p.mads),
        _Rule("mt far from median", mt, mads=p.mads_mt),
    ]
    return [r for r in rules if (r.low, r.high, r.mads) != (None, None, None)]


@dataclass(frozen=True)
class Judged:
    """What quality control says of the cells.

    Attributes
    ----------
    passes : ndarray of bool
        Which cells pass.
    reasons : Series
        Why a cell does not, joined by ``"; "``; categorical, missing for those that pass.
    counts : dict
        How many cells each reason rejects; a cell may have several.
    bounds : list of dict
        The bounds of each metric and batch: what lies outside is rejected.
    notes : list of str
        What was not looked at, and why.
    """

    passes: _Mask
    reasons: pd.Series[Any]
    counts: dict[str, int]
    bounds: list[dict[str, Any]]
    notes: list[str]


def judge(
    metric: Callable[[str], npt.NDArray[Any] | None], batches: pd.Series[Any] | None, p: Parameters
) -> Judged:
    """Decide which cells pass.

    Parameters
    ----------
    metric
        Gives a metric of the cells by its name, ``None`` for one that there is not.
    batches
        The batch of each cell; ``None`` for one of all.
    p
        The bounds.
    """
    import pandas as pd

    total = metric("total_counts")
    assert total is not None
    counted = total > 0
    fails: dict[str, _Mask] = {"no counts": ~counted}
    bounds: list[dict[str, Any]] = []
    notes: list[str] = []
    groups: dict[str | None, _Mask] = {None: counted}
    if batches is not None:
        values = batches.astype(str).to_numpy()
        groups = {name: (values == name) & counted for name in dict.fromkeys(sorted(values))}
    for rule in _rules(p):
        values_of = metric(rule.metric)
        if values_of is None:
            notes.append(f"{rule.reason}: not looked at, there is no {rule.metric}")
            continue
        values = np.asarray(values_of, dtype=np.float64)
        bad = np.zeros(len(values), dtype=bool)
        if rule.mads is None:
            bad |= (values < rule.low) if rule.low is not None else (values >= rule.high)
            bounds.append(_bound(rule, None, rule.low, rule.high))
            fails[rule.reason] = bad & counted
            continue
        shown = np.log1p(values) if rule.logarithm else values
        for name, group in groups.items():
            if not group.any():
                continue
            median = float(np.median(shown[group]))
            mad = float(np.median(np.abs(shown[group] - median)))
            where = "" if name is None else f" in batch {name!r}"
            if mad == 0:
                notes.append(
                    f"{rule.reason}: not looked at{where}, more than half of the cells are the same"
                )
                continue
            low, high = median - rule.mads * mad, median + rule.mads * mad
            bad |= group & ((shown < low) | (shown > high))
            ends = (np.expm1(low), np.expm1(high)) if rule.logarithm else (low, high)
            bounds.append(_bound(rule, name, *map(float, ends)))
        fails[rule.reason] = bad
    fails = {reason: bad for reason, bad in fails.items() if bad.any()}
    passes = ~np.any(list(fails.values()), axis=0) if fails else np.ones(len(total), dtype=bool)
    # Few cells fail, and fewer reasons are found with each other.
    words = list(fails)
    texts = np.full(len(total), None, dtype=object)
    for row in np.flatnonzero(~passes):
        texts[row] = "; ".join(word for word in words if fails[word][row])
    reasons = pd.Series(pd.Categorical(texts, sorted({t for t in texts if t is not None})))
    counts = {reason: int(bad.sum()) for reason, bad in fails.items()}
    return Judged(passes, reasons, counts, bounds, notes)


def _bound(rule: _Rule, batch: str | None, low: Any, high: Any) -> dict[str, Any]:
    return {
        "reason": rule.reason,
        "metric": rule.metric,
        "batch": batch,
        "low": low,
        "high": high,
        "mads": rule.mads,
    }
