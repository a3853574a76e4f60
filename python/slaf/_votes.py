"""What labels the neighbours of cells have, and what these vote for."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from slaf._errors import SlafError, invalid
from slaf._search import Wanted, search, stored_name
from slaf._selectors import Axis
from slaf._store import Store

if TYPE_CHECKING:
    import polars as pl

Weights: TypeAlias = Literal["distance", "uniform"]
WEIGHTS = ("distance", "uniform")

# Neighbours, and numbers of labels, that are held at once.
_HITS = 1 << 22
_QUERIES = 1 << 14
# Cells whose coordinates are looked at at once.
_ROWS = 1 << 16


class Labels(NamedTuple):
    """A column of obs as numbers of its values: -1 where one is missing."""

    codes: npt.NDArray[np.int64]
    #: The values, in the order of the categories, or sorted.
    values: list[Any]


class Ballot(NamedTuple):
    """The neighbours of some queries by label: queries x labels."""

    first: int
    counts: npt.NDArray[np.int64]
    #: Shares of the weights of all neighbours; rows without neighbours are NaN.
    votes: npt.NDArray[np.float64]


def labels_of(store: Store, column: str) -> Labels:
    """Read a column of labels, by the name that obs has in SQL.

    Raises
    ------
    UnknownNameError
        If there is no such column.
    InvalidArgumentError
        For fractions.
    """
    if column == "cell_integer_id":
        raise invalid("cell_integer_id is the number of a cell, and no label")
    read = store.native.columns("obs", [stored_name(store, "obs", column)], None, False)[0]
    if read.categories is not None:
        return Labels(np.asarray(read.values).astype(np.int64), list(read.categories))
    values = read.values
    if isinstance(values, list):
        missing = np.array([v is None for v in values], dtype=np.bool_)
        array = np.array(["" if v is None else v for v in values], dtype=object)
    else:
        array = np.asarray(values)
        missing = np.zeros(len(array), np.bool_) if read.mask is None else read.mask
        if array.dtype.kind == "f":
            raise invalid(f"the column {column!r} of obs has fractions, and no labels")
    if missing.all():
        return Labels(np.full(len(missing), -1), [])
    found, codes = np.unique(array[~missing], return_inverse=True)
    all_codes = np.full(len(missing), -1, dtype=np.int64)
    all_codes[~missing] = codes
    return Labels(all_codes, found.tolist())


class Poll:
    """The cells of a store that have a label, asked for their votes.

    Parameters
    ----------
    where
        The cells that are asked, if they have a label.
    """

    def __init__(self, store: Store, key: str, column: str, where: Axis, metric: str):
        self.store, self.key, self.column, self.metric = store, key, column, metric
        self.labels = labels_of(store, column)
        codes = self.labels.codes[where.indexer()]
        self.among = where.select(np.flatnonzero(codes >= 0))
        if not len(self.among):
            raise invalid(f"no cell that is compared has a label in {column!r}")

    @cached_property
    def base(self) -> npt.NDArray[np.float64]:
        """The share of each label among the cells that can be found."""
        found = np.zeros(len(self.labels.values), np.int64)
        for start in range(0, len(self.among), _ROWS):
            part = self.among.select(range(start, min(start + _ROWS, len(self.among))))
            dense = self.store.native.array("obs", self.key, part.native())
            rows = np.asarray(dense.values).reshape(len(part), dense.width)
            is_found = ~np.isnan(rows).all(axis=1)
            if self.metric == "cosine":
                is_found &= (rows != 0).any(axis=1)
            codes = self.labels.codes[part.indexer()][is_found]
            found += np.bincount(codes, minlength=len(found))
        if not found.any():
            raise self.nobody()
        return np.asarray(found / found.sum())

    def nobody(self) -> SlafError:
        """Make the error of labels without places."""
        return invalid(
            f"no cell that is compared and has a label in {self.column!r} has a place in "
            f"obsm[{self.key!r}], where it is not NaN (with cosines: nor 0) everywhere"
        )

    def ballots(self, wanted: Wanted, k: int, weights: str, exclude_self: bool) -> Iterator[Ballot]:
        """Ask the ``k`` neighbours of each query, some queries at a time.

        The vote of a neighbour counts ``1 / distance`` with ``weights="distance"``, and if some
        are at distance 0, these alone count; with ``"uniform"`` all count the same: as
        ``sklearn.neighbors.KNeighborsClassifier``, whose ``predict_proba`` the votes are.
        """
        if weights not in WEIGHTS:
            raise invalid(f"weights={weights!r}; there are {WEIGHTS}")
        if weights == "distance" and self.metric == "ip":
            raise invalid("products are no distances that votes could be weighted by: 'uniform'")
        n_labels = len(self.labels.values)
        k = min(k, len(self.among))
        step = int(np.clip(_HITS // max(k, n_labels, 1), 1, _QUERIES))
        for first in range(0, wanted.n, step):
            part = wanted.part(first, min(first + step, wanted.n))
            hits = search(
                self.store, "obs", self.key, part, k, self.metric, self.among, exclude_self
            )
            query = np.repeat(np.arange(part.n), np.diff(hits.starts))
            places = query * n_labels + self.labels.codes[hits.rows]
            size, shape = part.n * n_labels, (part.n, n_labels)
            counts = np.bincount(places, minlength=size).reshape(shape)
            weight = None
            if weights == "distance":
                weight = _inverse(hits.distances, query, part.n)
            weighted = np.bincount(places, weight, minlength=size).reshape(shape)
            with np.errstate(invalid="ignore"):
                votes = weighted / weighted.sum(1, keepdims=True)
            yield Ballot(first, counts, votes)


def _inverse(
    distances: npt.NDArray[np.float64], query: npt.NDArray[np.int64], n: int
) -> npt.NDArray[np.float64]:
    """Weights of neighbours by their distances, the nearest of each query first."""
    # Relative to the nearest one: the weights of far cells stay apart.
    nearest = np.zeros(n)
    nearest[query[::-1]] = distances[::-1]
    at_it = distances == 0
    with np.errstate(divide="ignore", invalid="ignore"):
        weights = nearest[query] / distances
    return np.where(nearest[query] == 0, at_it, weights)


def summary(poll: Poll, wanted: Wanted, ballots: Iterator[Ballot]) -> pl.DataFrame:
    """Ballots as a long frame; see :meth:`slaf.SLAFArray.neighbors_summary`."""
    import polars as pl

    parts: dict[str, list[npt.NDArray[Any]]] = {}
    for ballot in ballots:
        there = np.flatnonzero(poll.base > 0)
        base = poll.base[there]
        counts, votes = ballot.counts[:, there], ballot.votes[:, there]
        with np.errstate(invalid="ignore"):
            fractions = counts / counts.sum(1, keepdims=True)
        order = np.lexsort([np.broadcast_to(np.arange(len(there)), counts.shape), -counts, -votes])

        def sorted_by_vote(
            values: npt.NDArray[Any], order: npt.NDArray[np.int64] = order
        ) -> npt.NDArray[Any]:
            return np.take_along_axis(np.broadcast_to(values, order.shape), order, 1).ravel()

        n = len(counts)
        for name, values in {
            "query": np.arange(ballot.first, ballot.first + n)[:, None],
            "label": there,
            "n": counts,
            "fraction": fractions,
            "base_rate": base,
            "enrichment": fractions / base,
            "vote": votes,
        }.items():
            parts.setdefault(name, []).append(sorted_by_vote(values))
    frame = pl.DataFrame({name: np.concatenate(values) for name, values in parts.items()})
    if not parts:
        names = ("query", "label", "n", "fraction", "base_rate", "enrichment", "vote")
        types = [pl.Int64] * 3 + [pl.Float64] * 4
        frame = pl.DataFrame(schema=dict(zip(names, types, strict=True)))
    query, label = frame["query"], frame["label"]
    names_of_labels = pl.Series(poll.labels.values)
    if names_of_labels.dtype == pl.String:
        names_of_labels = names_of_labels.cast(pl.Enum(names_of_labels))
    if wanted.names is not None:
        query = wanted.names.gather(query)
    return frame.with_columns(query.alias("query"), names_of_labels.gather(label).alias("label"))
