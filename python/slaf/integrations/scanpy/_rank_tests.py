"""Tests of differential expression: scores and p-values, groups x genes."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from slaf._boundary import Comparison, Labels
from slaf._errors import from_kind, invalid
from slaf.integrations._lazy import LazyMatrix
from slaf.integrations.scanpy._common import some_columns

if TYPE_CHECKING:
    import pandas as pd

    from slaf._slaf import RankSums

Floats: TypeAlias = npt.NDArray[np.float64]
SHARES = ("nonzero", "nonzero_others")


@dataclass(frozen=True)
class Groups:
    """Groups of cells, of which some are compared.

    Attributes
    ----------
    names
        What the groups are called.
    labels
        The group of each cell, ``len(names)`` for none.
    reference
        The group that the others are compared with; ``None`` for all other cells.
    """

    names: list[str]
    labels: npt.NDArray[np.uint32]
    reference: int | None

    @property
    def sizes(self) -> npt.NDArray[np.int64]:
        """How many cells each group has, and then those in no group."""
        return np.bincount(self.labels, minlength=len(self.names) + 1)

    @property
    def compared(self) -> list[int]:
        """The groups that are compared with something."""
        return [g for g in range(len(self.names)) if g != self.reference]

    def other_sizes(self) -> npt.NDArray[np.int64]:
        """How many cells each group is compared with."""
        sizes = self.sizes
        if self.reference is not None:
            return np.full(len(self.names), sizes[self.reference])
        return len(self.labels) - sizes[:-1]

    def others(self, of_groups: npt.NDArray[Any], ufunc: np.ufunc) -> npt.NDArray[Any]:
        """Put together what each group is compared with.

        Nothing is taken away from a total, so that nothing cancels: what is zero in all other
        groups is zero.

        Parameters
        ----------
        of_groups
            A statistic of each group and of the cells in none: (groups + 1) x genes.
        ufunc
            Puts two together.
        """
        n = len(self.names)
        if self.reference is not None:
            return np.broadcast_to(of_groups[self.reference], (n, of_groups.shape[1]))
        # What is known of no cells is left out.
        rows = of_groups if self.sizes[-1] else of_groups[:-1]
        up_to = ufunc.accumulate(rows[:-1], axis=0)
        behind = ufunc.accumulate(rows[:0:-1], axis=0)[::-1]
        between = ufunc(up_to[:-1], behind[1:])
        return np.concatenate([behind[:1], between, up_to[-1:]])[:n]


@dataclass(frozen=True)
class Tested:
    """What a test found, groups x genes.

    Attributes
    ----------
    scores
        The statistic of the test.
    pvals
        Two-sided p-values; ``None`` of a method that has none.
    folds
        Binary logarithms of fold changes, likewise.
    nonzero, nonzero_others
        Shares of values other than zero in the group, and in all other cells, likewise.
    is_counts
        Whether every value is an integer and none negative.
    """

    scores: Floats
    pvals: Floats | None = None
    folds: Floats | None = None
    nonzero: Floats | None = None
    nonzero_others: Floats | None = None
    is_counts: bool = False


def t_test(
    matrix: LazyMatrix, groups: Groups, fold: Callable[[Floats, Floats], Floats], overestim: bool
) -> Tested:
    """Welch's t-test (1947), two-sided, with scanpy's moments.

    The variance is ``(E[x^2] - E[x]^2) n / (n - 1)``. Of values that are all equal it is 0, and
    their mean is the value, so that rounding makes no difference where there is none; scanpy finds
    differences of rounding errors there.

    Parameters
    ----------
    matrix, groups
        The values, and the groups of its rows.
    fold
        Fold changes of means in and out of groups.
    overestim
        Take the other cells for as few as those of the group.
    """
    import scipy.stats

    parts, n, n_other = [], groups.sizes[:-1, None], groups.other_sizes()[:, None]
    for moments in _moments(matrix, groups, "all"):
        is_counts = not moments.fractional.any() and bool((moments.min >= 0).all())
        low = groups.others(moments.min, np.minimum)
        high = groups.others(moments.max, np.maximum)
        sums = groups.others(moments.sum.astype(np.float64), np.add)
        squares = groups.others(moments.square, np.add)
        ours = moments.select(slice(-1))
        mean, var = _mean_var(ours.sum, ours.square, ours.min, ours.max, n)
        mean_other, var_other = _mean_var(sums, squares, low, high, n_other)
        with np.errstate(invalid="ignore", divide="ignore"), warnings.catch_warnings():
            # SciPy warns of moments of equal values.
            warnings.simplefilter("ignore", RuntimeWarning)
            scores, pvals = scipy.stats.ttest_ind_from_stats(
                *(mean, np.sqrt(var), n),
                *(mean_other, np.sqrt(var_other), n if overestim else n_other),
                equal_var=False,
            )
        # Equal means without variance.
        scores, pvals = np.where(np.isnan(scores), 0.0, scores), np.where(np.isnan(pvals), 1, pvals)
        counts = moments.nonzero.astype(np.int64)
        shares = _shares(counts, groups)
        parts.append(Tested(scores, pvals, fold(mean, mean_other), *shares, is_counts))
    return _side_by_side(parts)


def _mean_var(
    total: npt.NDArray[Any],
    squares: Floats,
    low: npt.NDArray[Any],
    high: npt.NDArray[Any],
    n: npt.NDArray[np.int64],
) -> tuple[Floats, Floats]:
    with np.errstate(invalid="ignore", divide="ignore"):
        is_constant = low == high
        mean = np.where(is_constant, low, np.true_divide(total, n))
        var = np.where(is_constant, 0.0, squares / n - mean**2)
        # As in scanpy, which takes the variance of one value for 0.
        return mean, var * (n / np.maximum(n - 1, 1))


def wilcoxon(
    matrix: LazyMatrix,
    groups: Groups,
    fold: Callable[[Floats, Floats], Floats],
    ties: bool,
    names: pd.Index[Any],
) -> Tested:
    """Wilcoxon's rank-sum test (1945) in its normal approximation, two-sided.

    Equal values have their average rank; there is no correction for continuity. ``ties`` puts the
    tie correction on the variance.

    Raises
    ------
    InvalidArgumentError
        For a gene that has NaN.
    """
    # Cells in no group are one more, for their sums.
    n = len(groups.names) + 1
    comparison = Comparison(groups=Labels(groups.labels, n), reference=groups.reference, ties=ties)
    parts, first = [], 0
    for part in some_columns(matrix, n):
        found = part.rank_sums(comparison)
        if found.nan is not None:
            raise invalid(
                f"gene {names[first + found.nan]!r} has NaN, which has no rank: leave the gene out "
                "with mask_var, or replace NaN"
            )
        parts.append(_of_ranks(found, part.shape[1], groups, fold, ties))
        first += part.shape[1]
    return _side_by_side(parts)


def _of_ranks(
    found: RankSums,
    n_genes: int,
    groups: Groups,
    fold: Callable[[Floats, Floats], Floats],
    ties: bool,
) -> Tested:
    """What rank sums of some genes say."""
    from scipy.special import ndtr

    n_groups = len(groups.names)

    def of_groups(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return array.reshape(n_genes, n_groups + 1).T

    n, n_other = groups.sizes[:-1], groups.other_sizes()
    scores, pvals = np.empty((n_groups, n_genes)), np.empty((n_groups, n_genes))
    rank_sums = of_groups(found.rank_sums)
    for g in range(n_groups):
        total = int(n[g] + n_other[g])
        coefficient: Any = 1
        if ties:
            coefficient = found.ties if groups.reference is None else of_groups(found.ties)[g]
        size, size_other = int(n[g]), int(n_other[g])
        with np.errstate(invalid="ignore", divide="ignore"):
            std = np.sqrt(coefficient * size * size_other * (total + 1) / 12.0)
            z = (rank_sums[g] - (size * (total + 1) / 2.0)) / std
        # All values are equal.
        scores[g] = np.where(np.isnan(z), 0.0, z)
        pvals[g] = 2 * ndtr(-np.abs(scores[g]))
    sums = of_groups(found.sums)
    mean = sums[:-1] / n[:, None]
    mean_other = groups.others(sums, np.add) / n_other[:, None]
    shares = _shares(of_groups(found.nonzero).astype(np.int64), groups)
    return Tested(scores, pvals, fold(mean, mean_other), *shares, found.is_counts)


def logreg(matrix: LazyMatrix, groups: Groups, codes: npt.NDArray[Any], **kwds: Any) -> Tested:
    """Coefficients of a logistic regression on all genes; reads the cells of the groups.

    Parameters
    ----------
    matrix, groups
        The values, and the groups of its rows.
    codes
        What is to be predicted, one number for each cell, rising with the categories.
    **kwds
        Arguments of ``sklearn.linear_model.LogisticRegression``.
    """
    if len(groups.names) == 1:
        raise invalid("Cannot perform logistic regression on a single cluster.")
    try:
        from sklearn.linear_model import LogisticRegression
    except ImportError as e:
        raise from_kind(
            "unsupported-feature", 'method="logreg" needs scikit-learn: pip install slaf[scanpy]'
        ) from e
    chosen = groups.labels < len(groups.names)
    classifier = LogisticRegression(**kwds)
    classifier.fit(matrix[chosen].to_memory(), codes[chosen])
    found = np.asarray(classifier.coef_, dtype=np.float64)
    if len(groups.names) == 2:
        return Tested(found[[0, 0]])
    existing = list(classifier.classes_)
    of_groups = [codes[groups.labels == g][0] for g in range(len(groups.names))]
    return Tested(found[[existing.index(code) for code in of_groups]])


def group_means(matrix: LazyMatrix, groups: Groups) -> tuple[Floats, Floats]:
    """Means of each group, and of what it is compared with; groups x genes."""
    parts = []
    for moments in _moments(matrix, groups, "sums"):
        sums = moments.sum.astype(np.float64)
        others = groups.others(sums, np.add) / groups.other_sizes()[:, None]
        parts.append((sums[:-1] / groups.sizes[:-1, None], others))
    mean, others = (np.concatenate(part, axis=1) for part in zip(*parts, strict=True))
    return mean, others


def undo_log(means: Floats, base: float | None) -> Floats:
    """``base**x - 1``, ``e`` if there is no base."""
    return np.expm1(means if base is None else means * np.log(base))


def log2_fold(ours: Floats, others: Floats) -> Floats:
    """Binary logarithms of fold changes; a little is added, so that none is infinite."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.log2((ours + 1e-9) / (others + 1e-9))


def exponentials(matrix: LazyMatrix, base: float | None) -> LazyMatrix:
    """``base**x - 1`` of every value, ``e`` if there is no base, in the type of the matrix."""
    if base is not None:
        matrix = matrix.combine_in("multiply", np.log(base))
    return matrix.apply("expm1")


def _moments(matrix: LazyMatrix, groups: Groups, detail: str) -> Iterator[Any]:
    """Statistics of the groups and of the cells in none, some genes at a time."""
    n = len(groups.names) + 1
    labels = Labels(groups.labels, n)
    for part in some_columns(matrix, n):
        yield part.summarize(columns=True, detail=detail, groups=labels).of_columns()


def _shares(counts: npt.NDArray[np.int64], groups: Groups) -> tuple[Floats, Floats]:
    """Shares of values other than zero, in groups and in what they are compared with."""
    others = groups.others(counts, np.add) / groups.other_sizes()[:, None]
    return counts[:-1] / groups.sizes[:-1, None], others


def _side_by_side(parts: list[Tested]) -> Tested:
    if len(parts) == 1:
        return parts[0]

    def joined(name: str) -> Any:
        return np.concatenate([getattr(part, name) for part in parts], axis=1)

    arrays = {name: joined(name) for name in ("scores", "pvals", "folds", *SHARES)}
    return Tested(**arrays, is_counts=all(part.is_counts for part in parts))
