"""How well an order mixes cells."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from slaf._report import Report
from slaf.ml import _labels

if TYPE_CHECKING:
    from slaf.ml._plan import Plan

# Random orders that the ideal entropy is the mean of.
_TRIALS = 3


def shuffle_report(plan: Plan, label: str | None, epoch: int) -> Report:
    """See :meth:`slaf.ml.dataloaders.SLAFDataLoader.shuffle_report`."""
    cells = plan.sampler.cells(epoch, 0, len(plan.sampler))
    fields: dict[str, object] = {
        "n": len(cells),
        "exact_cover": _covers(plan, cells),
        "neighbour_ratio": neighbour_ratio(cells, plan.batch_size),
    }
    text = f"{len(cells):,} cells, {'each once' if fields['exact_cover'] else 'not each once'}; "
    text += f"neighbours meet {fields['neighbour_ratio']:.2f} times as often as by chance"
    if label is not None:
        codes = _labels.groups(plan.stores, [label])[0][cells]
        rng = np.random.default_rng(0)
        trials = [entropy(rng.permutation(codes), plan.batch_size) for _ in range(_TRIALS)]
        fields["label_entropy"] = entropy(codes, plan.batch_size)
        fields["ideal_label_entropy"] = float(np.mean(trials))
        text += (
            f"; {fields['label_entropy']:.3f} bits of {label!r} in a batch, "
            f"{fields['ideal_label_entropy']:.3f} by chance"
        )
    return Report(text, json.dumps(fields))


def _covers(plan: Plan, cells: npt.NDArray[np.int64]) -> bool:
    return len(cells) == plan.n_cells and len(np.unique(cells)) == len(cells)


def neighbour_ratio(cells: npt.NDArray[np.int64], batch_size: int) -> float:
    """Count neighbours that meet in a batch, relative to the expectation of a full shuffle.

    Neighbours are cells that follow each other when the cells of the epoch are sorted.
    """
    n = len(cells)
    if n < 2:
        return 1.0
    order = np.argsort(cells, kind="stable")
    batch_of = np.arange(n) // batch_size
    together = np.count_nonzero(np.diff(batch_of[order]) == 0)
    sizes = np.bincount(batch_of).astype(np.float64)
    # Any pair is in one batch with the probability sum(s (s - 1)) / (n (n - 1)).
    expected = (sizes * (sizes - 1)).sum() / n
    return float(together / expected) if expected else 1.0


def entropy(codes: npt.NDArray[np.int64], batch_size: int) -> float:
    """Give the mean entropy of the codes in a batch, in bits."""
    n_codes = int(codes.max(initial=0)) + 2
    batch_of = np.arange(len(codes)) // batch_size
    _, first, counts = np.unique(
        batch_of * n_codes + codes + 1, return_index=True, return_counts=True
    )
    sizes = np.bincount(batch_of)
    share = counts / sizes[batch_of[first]]
    return float(-(share * np.log2(share)).sum() / len(sizes)) if len(codes) else 0.0
