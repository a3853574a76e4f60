"""Labels for cells, of the cells of a reference that are near to them."""

from __future__ import annotations

import os
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from slaf._array import SLAFArray
from slaf._errors import invalid
from slaf._numbers import flag, text, whole
from slaf._search import Metric, Wanted, metric_name, points
from slaf._votes import Poll, Weights, summary
from slaf.integrations.anndata import LazyAnnData
from slaf.integrations.scanpy._common import changeable, checked, column
from slaf.integrations.scanpy._neighbors import coordinates

if TYPE_CHECKING:
    import pandas as pd

_MOST = 1 << 31


def label_transfer(
    adata: LazyAnnData,
    reference: SLAFArray | str | os.PathLike[str],
    labels: str,
    *,
    k: int = 15,
    key: str = "X_pca",
    reference_key: str | None = None,
    where: str | None = None,
    metric: Metric = "l2",
    weights: Weights = "distance",
    key_added: str | None = None,
    copy: bool = False,
) -> LazyAnnData | None:
    """Give each cell the label that its neighbours in a reference vote for.

    The neighbours are exact, and labels, votes and confidence those of scikit-learn's
    ``KNeighborsClassifier``. Cells are worked on some at a time, whatever `k` is.

    Parameters
    ----------
    adata
        The cells, whose coordinates are in the same space as those of the reference: a PCA of the
        reference onto which they were projected, or an embedding of a model.
    reference
        A store, or its path.
    labels
        A column of the obs of the reference. Its cells without a label are not asked.
    k
        How many neighbours are asked.
    key, reference_key
        The arrays of obsm with the coordinates, here and in the reference; the latter is `key` by
        default.
    where
        A condition in SQL, for the cells of the reference that are asked.
    metric, weights
        As in :meth:`slaf.SLAFArray.neighbors_summary`.
    key_added
        ``obs[key_added]`` gets the labels (categorical, with all categories of the reference), and
        ``obs[f"{key_added}_confidence"]`` their share of the votes (float64); by default
        ``f"{labels}_transferred"``. ``adata.save()`` writes them. Cells without a place, whose
        coordinates are NaN everywhere, get no label and no confidence; a warning says how many.
    copy
        Whether to change and return a copy.

    Raises
    ------
    UnknownNameError
        For an unknown column, or array of the reference.
    InvalidArgumentError
        As :meth:`slaf.SLAFArray.neighbors_summary`.

    Examples
    --------
    >>> from slaf.integrations import read_slaf, tl
    >>> adata = read_slaf(store_path)
    >>> tl.label_transfer(adata, store_path, "batch", k=1, where="batch = 'b1'")
    >>> adata.obs["batch_transferred"].tolist()
    ['b1', 'b1', 'b1', 'b1', 'b1', 'b1']
    """
    import pandas as pd

    copy, labels = flag("copy", copy), text("labels", labels)
    name = f"{labels}_transferred" if key_added is None else text("key_added", key_added)
    adata = changeable(adata, "label_transfer", copy)
    poll = _poll(reference, labels, key, reference_key, where, metric)
    wanted, placed = _placed(adata, key, "get no label")
    winners = np.full(adata.n_obs, -1)
    confidence = np.full(adata.n_obs, np.nan)
    k = whole("k", k, 1, _MOST)
    for ballot in poll.ballots(wanted, k, weights, False):
        part = placed[ballot.first : ballot.first + len(ballot.votes)]
        asked = ballot.counts.any(1)
        # Of labels with as many votes the first one, as there.
        winners[part] = np.where(asked, np.nan_to_num(ballot.votes).argmax(1), -1)
        confidence[part] = np.where(asked, ballot.votes.max(1), np.nan)
    if len(placed) and (winners < 0).all():
        raise poll.nobody()
    values = pd.Index(poll.labels.values)
    adata.obs[name] = pd.Categorical.from_codes(winners, values)
    adata.obs[f"{name}_confidence"] = confidence
    return adata if copy else None


def annotate(
    adata: LazyAnnData,
    reference: SLAFArray | str | os.PathLike[str],
    labels: str,
    *,
    groupby: str | None = None,
    k: int = 1000,
    key: str = "X_pca",
    reference_key: str | None = None,
    where: str | None = None,
    metric: Metric = "l2",
    weights: Weights = "distance",
) -> pd.DataFrame:
    """Say what cells are: which labels their neighbours in a reference have, and by how much more.

    Parameters
    ----------
    adata, reference, labels, k, key, reference_key, where, metric, weights
        As in :func:`label_transfer`; ``adata[cells]`` has some cells.
    groupby
        A categorical column of ``adata.obs``: the answer is for its groups, such as clusters, and
        not for each cell. Neighbours are counted for all cells of a group together, and votes are
        the means of theirs. Cells without a group are left out, and so are those without a place,
        with a warning.

    Returns
    -------
    pandas.DataFrame
        As :meth:`slaf.SLAFArray.neighbors_summary`: ``query`` (the cell or the group), ``label``,
        ``n``, ``fraction``, ``base_rate``, ``enrichment``, ``vote``; of each query the label with
        most votes first, whose vote is the confidence in it.

    Raises
    ------
    UnknownNameError, InvalidArgumentError
        As :func:`label_transfer`.

    Examples
    --------
    >>> from slaf.integrations import read_slaf, tl
    >>> adata = read_slaf(store_path)
    >>> found = tl.annotate(adata[:1], store_path, "batch", k=3)
    >>> found[["label", "n", "enrichment"]].values.tolist()
    [['b1', 3, 1.5], ['b2', 0, 0.0]]
    """
    adata = checked(adata, "annotate")
    poll = _poll(reference, labels, key, reference_key, where, metric)
    wanted, placed = _placed(adata, key, "are left out")
    ballots = poll.ballots(wanted, whole("k", k, 1, _MOST), weights, False)
    if groupby is not None:
        wanted, ballots = _by_group(
            column(adata, groupby, "obs").iloc[placed], ballots, len(poll.labels.values)
        )
    frame = summary(poll, wanted, ballots)
    pandas = frame.to_pandas()
    if groupby is not None:
        pandas["query"] = pandas["query"].astype(object)
    return pandas


def _poll(
    reference: Any,
    labels: str,
    key: str,
    reference_key: str | None,
    where: str | None,
    metric: str,
) -> Poll:
    if not isinstance(reference, SLAFArray):
        if not isinstance(reference, (str, os.PathLike)):
            raise invalid(f"a reference is a SLAFArray or a path, not a {type(reference).__name__}")
        reference = SLAFArray(reference, load_metadata=False)
    key = text("key", key) if reference_key is None else text("reference_key", reference_key)
    among = reference._among("obs", where)
    return Poll(reference._store, key, text("labels", labels), among, metric_name(metric))


def _placed(adata: LazyAnnData, key: str, fate: str) -> tuple[Wanted, npt.NDArray[np.int64]]:
    """The cells that have a place, and their numbers; a warning says what becomes of others."""
    import polars as pl

    if key not in adata.obsm:
        raise invalid(f"there is no {key!r} in obsm; there are {list(adata.obsm)}")
    values = coordinates(adata.obsm[key], f"obsm[{key!r}]")
    placed = np.flatnonzero(~np.isnan(values).all(axis=1))
    missing = len(values) - len(placed)
    names = pl.Series(list(adata.obs_names), dtype=pl.String)
    if missing:
        message = (
            f"{missing:,} of {len(values):,} cells have no place in obsm[{key!r}], where they are "
            f"NaN everywhere: they {fate}"
        )
        warnings.warn(message, UserWarning, stacklevel=3)
        values, names = values[placed], names.gather(placed)
    return points(values, names), placed


def _by_group(groups: pd.Series[Any], ballots: Any, n_labels: int) -> tuple[Wanted, Any]:
    """The ballots of cells as those of their groups."""
    import pandas as pd
    import polars as pl

    from slaf._votes import Ballot

    categories = pd.Categorical(groups)
    n = len(categories.categories)
    codes = categories.codes.astype(np.int64)
    counts = np.zeros((n, n_labels), np.int64)
    votes = np.zeros((n, n_labels))
    sizes: npt.NDArray[np.int64] = np.zeros(n, np.int64)
    for ballot in ballots:
        part = codes[ballot.first : ballot.first + len(ballot.counts)]
        votes_of_cells = ballot.counts.any(1) & (part >= 0)
        np.add.at(counts, part[votes_of_cells], ballot.counts[votes_of_cells])
        np.add.at(votes, part[votes_of_cells], ballot.votes[votes_of_cells])
        np.add.at(sizes, part[votes_of_cells], 1)
    with np.errstate(invalid="ignore"):
        votes /= sizes[:, None]
    names = pl.Series([str(name) for name in categories.categories], dtype=pl.String)
    return Wanted(None, 0, n, names), iter([Ballot(0, counts, votes)])
