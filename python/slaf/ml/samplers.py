"""Which cells a model sees: weighted, balanced, mixed, in sets, and splits.

The classes say what is wanted; :class:`slaf.ml.dataloaders.SLAFDataLoader` does it, in Rust. All
of it is a function of (seed, epoch, position), so that runs can be repeated and resumed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = ["Balanced", "Mixture", "Sets", "Split", "Weighted"]


@dataclass(frozen=True)
class Weighted:
    """Cells drawn by weight.

    Parameters
    ----------
    weights
        One number for each cell of the store (of all stores, one after the other), or the name of
        a numeric column of obs. Finite and not negative; 0 leaves a cell out.
    n
        Cells of an epoch; by default as many as are selected.
    replacement
        With replacement, a cell may come more than once (alias method, Vose 1991). Without, the
        cells are the first `n` of a weighted order (Efraimidis and Spirakis 2006).
    """

    weights: str | Sequence[float] | npt.NDArray[Any]
    n: int | None = None
    replacement: bool = True


@dataclass(frozen=True)
class Balanced:
    """Cells drawn so that every value of a column of obs comes equally often.

    Each cell has the weight 1 / (number of selected cells with its value). Without replacement,
    rare values are used up, and an epoch is balanced only for as long as they last.

    Parameters
    ----------
    column
        A column of obs; cells without a value are left out.
    n, replacement
        As in :class:`Weighted`.
    """

    column: str
    n: int | None = None
    replacement: bool = True


@dataclass(frozen=True)
class Mixture:
    """Several stores, mixed by proportion.

    In every 4,096 cells each store has its share to one cell. A store that is used up begins
    anew, in another order.

    Parameters
    ----------
    proportions
        One number for each store, in any scale.
    n
        Cells of an epoch; by default as many as the stores have together.
    """

    proportions: Sequence[float]
    n: int | None = None


@dataclass(frozen=True)
class Sets:
    """Cells of one group together, followed by matched controls, for models of perturbations.

    Rows `i` to `i + set_size + n_controls` of a batch are a set; the batch has a mask
    ``is_control``. In an epoch each cell of a group comes once, and the last set of a group is
    filled with cells of its first; controls are drawn anew for each set.

    Parameters
    ----------
    group
        The column of obs with the perturbation.
    control
        Its value for controls.
    match
        Columns of obs in which controls equal the cells beside them (cell line, batch). Sets are
        of one combination of `group` and these.
    set_size, n_controls
        Cells and controls of a set. The batch size is a multiple of their sum.
    """

    group: str
    control: str
    match: Sequence[str] = ()
    set_size: int = 32
    n_controls: int = 32


@dataclass(frozen=True)
class Split:
    """One part of the data, for example for training.

    Which part a cell belongs to depends on a hash of its row number, or of its group's name, and
    on `seed`: it is the same in every run, and appended cells change no other cell's part. Parts
    have their fractions on average.

    Parameters
    ----------
    part
        A name in `fractions`.
    fractions
        The parts with their shares, in any scale.
    by
        Columns of obs: cells that are equal in all of them are in the same part, such as those of
        one donor. A selected cell without a value is an error: leave it out with ``where=``.
    seed
        Another seed makes another split; it is not the seed of the loader.

    Examples
    --------
    >>> from slaf import SLAFArray
    >>> from slaf.ml import Split, SLAFDataLoader
    >>> array = SLAFArray(store_path)
    >>> halves = {"train": 1, "val": 1}
    >>> parts = [SLAFDataLoader(array, split=Split(part, halves)) for part in halves]
    >>> sum(part.n_cells for part in parts)
    6
    """

    part: str = "train"
    fractions: Mapping[str, float] = field(
        default_factory=lambda: {"train": 0.8, "val": 0.1, "test": 0.1}
    )
    by: str | Sequence[str] = ()
    seed: int = 0


SamplerLike: TypeAlias = "Weighted | Balanced | Mixture | Sets"


def columns_of(what: SamplerLike | Split | None) -> list[str]:
    """Name the columns of obs that a sampler or a split reads."""
    match what:
        case Split(by=str(column)) | Weighted(weights=str(column)) | Balanced(column=column):
            return [column]
        case Split(by=columns):
            return list(columns)
        case Sets(group=group, match=match):
            return [group, *match]
        case _:
            return []


def interval(split: Split) -> tuple[float, float]:
    """Give the part of 0..1 that a split takes.

    Raises
    ------
    InvalidArgumentError
        For fractions that are negative or all 0, and an unknown part.
    """
    from slaf._errors import invalid

    if split.part not in split.fractions:
        raise invalid(f"no part {split.part!r} in {list(split.fractions)}")
    try:
        shares = np.array(list(split.fractions.values()), dtype=np.float64)
    except (TypeError, ValueError, OverflowError) as e:
        raise invalid(f"fractions of a split are numbers: {e}") from e
    if not (np.isfinite(shares).all() and (shares >= 0).all() and shares.sum() > 0):
        raise invalid("fractions of a split are finite, not negative, and not all 0")
    ends = np.cumsum(shares) / shares.sum()
    ends[-1] = 1.0
    at = list(split.fractions).index(split.part)
    return (float(ends[at - 1]) if at else 0.0), float(ends[at])
