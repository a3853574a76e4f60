"""Search by similarity: cells and genes that are near to others."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence, Set
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from slaf import _frames, _slaf
from slaf._errors import from_kind, invalid
from slaf._numbers import flag, text, whole
from slaf._selectors import Axis, for_rust
from slaf._store import WHAT, Store

if TYPE_CHECKING:
    import polars as pl

    from slaf._slaf import ArrowStream

Metric: TypeAlias = Literal["l2", "cosine", "ip"]
METRICS = ("l2", "cosine", "ip")

# More neighbours than any axis has rows.
_MOST = (1 << 32) - 1


class Wanted(NamedTuple):
    """What is searched for, as Rust takes it, and what its parts are called."""

    query: npt.NDArray[np.float64] | tuple[int, int] | npt.NDArray[np.int64] | None
    dims: int
    n: int
    #: Names of cells or genes; ``None`` for points, which have numbers.
    names: pl.Series | None

    def part(self, start: int, stop: int) -> Wanted:
        """Consecutive ones of them."""
        query = self.query
        if self.dims:
            assert isinstance(query, np.ndarray)
            query = query[start * self.dims : stop * self.dims]
        elif query is None:
            query = (start, stop)
        elif isinstance(query, tuple):
            query = (query[0] + start, query[0] + stop)
        else:
            query = query[start:stop]
        names = None if self.names is None else self.names[start:stop]
        return Wanted(query, self.dims, stop - start, names)


def points(values: npt.NDArray[Any], names: pl.Series | None = None) -> Wanted:
    """Rows of coordinates."""
    values = np.atleast_2d(values)
    array = for_rust(values, np.float64).ravel()
    return Wanted(array, values.shape[1], len(values), names)


def metric_name(metric: Any) -> str:
    """Check a metric; ``"euclidean"`` is the one that is called l2 here."""
    name = "l2" if metric == "euclidean" else metric
    if name not in METRICS:
        raise invalid(f"metric={metric!r}; there are {METRICS}")
    return str(name)


def wanted_of(store: Store, of: str, query: Any, query_key: str) -> Wanted:
    """Find out what a user searches for.

    Parameters
    ----------
    query
        As :meth:`Search.nearest` takes it.
    query_key
        The array of another store in which its cells have coordinates.
    """
    if isinstance(query, tuple) and len(query) == 2 and isinstance(query[0], Search):
        other, selector = query
        rows = other._store.select(of, selector)
        dense = other._store.native.array(of, query_key, rows.native())
        values = np.asarray(dense.values).reshape(len(rows), dense.width)
        return points(values, _frames.names(other._store, of, rows))
    if isinstance(query, tuple) and any(hasattr(part, "obs_names") for part in query):
        raise invalid(
            "cells of another store are (SLAFArray(path), cells); of an AnnData search for their "
            "coordinates: adata[cells].obsm[key]"
        )
    coordinates = _coordinates(query)
    if coordinates is not None:
        return points(coordinates)
    rows = store.select(of, query)
    return Wanted(rows.native(), 0, len(rows), _frames.names(store, of, rows))


def _coordinates(query: Any) -> npt.NDArray[Any] | None:
    """The query as points, unless it selects cells or genes."""
    if query is None or query is Ellipsis or isinstance(query, (str, slice, int, np.integer)):
        return None
    if isinstance(query, np.ma.MaskedArray):
        raise invalid("a masked array is no query: fill or leave out what is masked")
    if hasattr(query, "columns") or isinstance(query, (set, frozenset, dict)):
        return None
    try:
        array = np.asarray(query)
    except ValueError as e:
        raise invalid(f"no vectors and no names or numbers: {e}") from e
    if array.ndim == 2 and array.dtype.kind in "fiub":
        return array
    if array.ndim == 1 and array.dtype.kind == "f" and len(array):
        return array
    if array.dtype.kind == "c" or array.ndim > 1:
        raise invalid(
            f"a query of shape {array.shape} and type {array.dtype} is no vector or matrix"
        )
    return None


class Search:
    """What a :class:`slaf.SLAFArray` finds by similarity."""

    @property
    @abstractmethod
    def _store(self) -> Store:
        """The store."""

    @abstractmethod
    def _where(self, of: str, condition: str) -> npt.NDArray[np.bool_]:
        """Tell which rows of obs or var fulfil a condition in SQL."""

    def nearest(
        self,
        query: Any,
        k: int = 10,
        key: str = "X_pca",
        where: str | None = None,
        include: Sequence[str] = ("distance",),
        *,
        metric: Metric = "l2",
        exclude_self: bool = False,
        query_key: str | None = None,
    ) -> pl.DataFrame:
        """Find the cells that are nearest to others, or to points, by an embedding.

        The answer is that of comparing every cell, and the same bits with any number of threads and
        with an index (:meth:`create_index`).
        Distances are computed in float64 from the stored values. Of cells at the same distance
        those of smaller number come first.

        Parameters
        ----------
        query
            A name of a cell or several, or whatever else selects cells in :meth:`get_submatrix`
            (whole numbers, slices, masks, frames of :meth:`filter_cells`); a vector or a matrix
            (points x columns) of coordinates: floats in one dimension, or numbers in two; or
            cells of another store, as ``(other, selector)``.
        k
            How many cells for each query; fewer where there are fewer.
        key
            The array of obsm with the coordinates of the cells.
        where
            A condition in SQL, as in :meth:`filter_cells`: only cells that fulfil it are found.
        include
            Further columns: ``"distance"``, ``"cell_integer_id"``, and columns of :attr:`obs`, also
            with ``obs:`` before their names: ``"obs:distance"`` is the column of obs.
        metric
            ``"l2"``, the root of the sum of squared differences; ``"cosine"``, one minus the cosine
            of the angle: cells that are zero everywhere have no direction, and are not found; or
            ``"ip"``, the negative of the sum of products, so that the largest product is nearest.
        exclude_self
            Leave a cell out of what is found for itself. By default it is found, mostly first and
            at distance 0. Without effect for points and cells of another store.
        query_key
            The array of the other store; `key` by default.

        Returns
        -------
        polars.DataFrame
            ``query`` (the name of the cell, or the number of the point from 0), ``rank`` (int64,
            from 1), ``cell_id``, and what `include` names, ``distance`` as float64; query by query
            in their order. A column of obs that has the name of another column of this frame gets
            ``obs:`` before its name.

        Raises
        ------
        UnknownNameError
            For an unknown array, cell or column, with similar ones.
        InvalidArgumentError
            For points of another width than the array's; for coordinates that are NaN, infinite or
            not below 2^53, in a query or in a cell that is compared (one that is NaN everywhere is
            not found): name the others with `where`;
            with ``"cosine"`` for a query that is zero everywhere.
        OutOfRangeError
            For numbers of cells that there are not.

        Examples
        --------
        >>> from slaf import SLAFArray
        >>> slaf_array = SLAFArray(store_path)
        >>> slaf_array.nearest("cell2", k=2, include=["batch", "distance"], exclude_self=True)
        shape: (2, 5)
        ┌───────┬──────┬─────────┬───────┬──────────┐
        │ query ┆ rank ┆ cell_id ┆ batch ┆ distance │
        │ ---   ┆ ---  ┆ ---     ┆ ---   ┆ ---      │
        │ str   ┆ i64  ┆ str     ┆ enum  ┆ f64      │
        ╞═══════╪══════╪═════════╪═══════╪══════════╡
        │ cell2 ┆ 1    ┆ cell1   ┆ b1    ┆ 2.828427 │
        │ cell2 ┆ 2    ┆ cell3   ┆ b2    ┆ 2.828427 │
        └───────┴──────┴─────────┴───────┴──────────┘
        >>> slaf_array.nearest([0.5, 1.0], k=1, where="batch = 'b2'")["cell_id"].to_list()
        ['cell3']
        """
        return self._nearest("obs", query, k, key, where, include, metric, exclude_self, query_key)

    def nearest_genes(
        self,
        query: Any,
        k: int = 10,
        key: str = "PCs",
        where: str | None = None,
        include: Sequence[str] = ("distance",),
        *,
        metric: Metric = "cosine",
        exclude_self: bool = False,
        query_key: str | None = None,
    ) -> pl.DataFrame:
        """Find the genes that are nearest to others, or to points, by an array of varm.

        As :meth:`nearest`, with ``gene_id`` and columns of :attr:`var`. The default metric is
        ``"cosine"``: loadings of genes of the same programme differ in length. scanpy's loadings
        are zero for genes that were not used; these have no direction, and are not found.

        Examples
        --------
        >>> from slaf import SLAFArray
        >>> SLAFArray(store_path).nearest_genes("gene3", k=2)["gene_id"].to_list()
        ['gene3', 'gene2']
        """
        return self._nearest("var", query, k, key, where, include, metric, exclude_self, query_key)

    def gene_ranking(
        self,
        key: str = "PCs",
        k: int | None = None,
        *,
        genes: Any = None,
        metric: Metric = "cosine",
    ) -> ArrowStream:
        """Give the other genes in the order of their distance, for each gene.

        Parameters
        ----------
        key
            The array of varm with the coordinates of the genes.
        k
            How many others of each gene; all by default.
        genes
            A selector of the genes whose others are ranked; all by default.
        metric
            As in :meth:`nearest_genes`. With ``"cosine"``, genes that are zero everywhere have no
            ranking and are in none.

        Returns
        -------
        ArrowStream
            ``query`` (the gene), ``rank`` (int64, from 1), ``gene_id`` and ``distance`` (float64).
            The table has genes x genes rows, and is found while it is read, some 4 million rows at
            a time: for ``polars.DataFrame``, ``pyarrow.RecordBatchReader.from_stream``, and others
            that read ``__arrow_c_stream__``. It can be read once.

        Raises
        ------
        UnknownNameError
            For an unknown array or gene.
        InvalidArgumentError
            While it is read: for coordinates that are NaN, infinite or not below 2^53.

        Examples
        --------
        >>> import polars as pl
        >>> from slaf import SLAFArray
        >>> ranking = pl.DataFrame(SLAFArray(store_path).gene_ranking(k=1))
        >>> ranking.select("query", "gene_id").rows()[:2]
        [('gene0', 'gene1'), ('gene1', 'gene2')]
        """
        store = self._store
        rows = store.select("var", genes)
        n = _MOST if k is None else whole("k", k, 0, _MOST)
        arguments = (text("key", key), rows.native(), n, metric_name(metric))
        return _slaf.rankings(store.native, "var", *arguments)

    def neighbors_summary(
        self,
        query: Any,
        labels: str,
        k: int = 1000,
        key: str = "X_pca",
        where: str | None = None,
        *,
        metric: Metric = "l2",
        weights: Literal["distance", "uniform"] = "distance",
        exclude_self: bool = False,
        query_key: str | None = None,
    ) -> pl.DataFrame:
        """Say which labels the cells have that are nearest to others, or to points.

        Cells without a label are not asked. Queries are worked on some at a time: memory grows
        with queries x labels, and not with `k`.

        Parameters
        ----------
        query, key, where, metric, exclude_self, query_key
            As in :meth:`nearest`.
        labels
            A column of :attr:`obs` that is no fraction.
        k
            How many neighbours of each query are asked.
        weights
            What the vote of a neighbour counts: ``"distance"``, 1 / distance, and if some are at
            distance 0, these alone; or ``"uniform"``, the same for all. The votes are those of
            ``sklearn.neighbors.KNeighborsClassifier.predict_proba``.

        Returns
        -------
        polars.DataFrame
            A row for each query and each label that a compared cell has, of each query the label
            with most votes first: ``query`` and ``label``; ``n``, how many of the neighbours have
            it; ``fraction``, ``n`` by the number of neighbours; ``base_rate``, its fraction among
            all cells that are compared; ``enrichment``, ``fraction / base_rate``; and ``vote``, its
            share of the weights. The vote of the first row is the confidence in its label.

        Raises
        ------
        UnknownNameError, InvalidArgumentError, OutOfRangeError
            As :meth:`nearest`; also where no cell that is compared has a label.

        Examples
        --------
        >>> from slaf import SLAFArray
        >>> found = SLAFArray(store_path).neighbors_summary("cell0", "batch", k=3)
        >>> found.select("label", "n", "fraction", "enrichment", "vote")
        shape: (2, 5)
        ┌───────┬─────┬──────────┬────────────┬──────┐
        │ label ┆ n   ┆ fraction ┆ enrichment ┆ vote │
        │ ---   ┆ --- ┆ ---      ┆ ---        ┆ ---  │
        │ enum  ┆ i64 ┆ f64      ┆ f64        ┆ f64  │
        ╞═══════╪═════╪══════════╪════════════╪══════╡
        │ b1    ┆ 3   ┆ 1.0      ┆ 1.5        ┆ 1.0  │
        │ b2    ┆ 0   ┆ 0.0      ┆ 0.0        ┆ 0.0  │
        └───────┴─────┴──────────┴────────────┴──────┘
        """
        from slaf._votes import Poll, summary

        store = self._store
        k, key = whole("k", k, 1, _MOST), text("key", key)
        among = self._among("obs", where)
        poll = Poll(store, key, text("labels", labels), among, metric_name(metric))
        query_key = key if query_key is None else text("query_key", query_key)
        wanted = wanted_of(store, "obs", query, query_key)
        ballots = poll.ballots(wanted, k, weights, exclude_self)
        return summary(poll, wanted, ballots)

    def _nearest(
        self,
        of: str,
        query: Any,
        k: int,
        key: str,
        where: str | None,
        include: Sequence[str],
        metric: str,
        exclude_self: bool,
        query_key: str | None,
    ) -> pl.DataFrame:
        store = self._store
        columns = _Columns(store, of, include)
        k, key = whole("k", k, 0, _MOST), text("key", key)
        query_key = key if query_key is None else text("query_key", query_key)
        wanted = wanted_of(store, of, query, query_key)
        among = self._among(of, where)
        hits = search(store, of, key, wanted, k, metric_name(metric), among, exclude_self)
        return columns.frame(wanted, hits)

    def _among(self, of: str, where: str | None) -> Axis:
        """The rows that fulfil a condition."""
        rows = self._store.axis(of)
        return rows if where is None else rows.select(np.flatnonzero(self._where(of, where)))


def search(
    store: Store,
    of: str,
    key: str,
    wanted: Wanted,
    k: int,
    metric: str,
    among: Axis,
    exclude_self: bool = False,
) -> _slaf.Hits:
    """Find the rows of an array that are nearest to each query."""
    return _slaf.search(
        store.native,
        of,
        key,
        wanted.query,
        wanted.dims,
        k,
        metric,
        among.native(),
        flag("exclude_self", exclude_self),
    )


class _Columns:
    """The columns of an answer, checked before the search."""

    def __init__(self, store: Store, of: str, include: Sequence[str]):
        if isinstance(include, (str, bytes)):
            raise invalid(f"include={include!r} is one text: give a list of names")
        if isinstance(include, (Mapping, Set)) or not isinstance(include, Iterable):
            what = type(include).__name__
            raise invalid(f"include is of type {what}: give a list of names, [] for none")
        self._store, self._of = store, of
        self._include = [text("include", name) for name in include]
        number = f"{WHAT[of]}_integer_id"
        own = {"distance", number}
        #: By the names in `include`: columns of obs or var by their names in the store.
        self._stored: dict[str, str] = {}
        for name in self._include:
            if name not in own:
                self._stored[name] = stored_name(store, of, name, sorted(own))
        meant = [(self._stored.get(n), n in own and n) for n in self._include]
        if len(set(meant)) < len(meant):
            raise invalid(f"a column comes twice in include={self._include}")

    def frame(self, wanted: Wanted, hits: _slaf.Hits) -> pl.DataFrame:
        import polars as pl

        store, of = self._store, self._of
        counts = np.diff(hits.starts)
        places = np.repeat(np.arange(wanted.n), counts)
        rows = Axis(store.shape[0 if of == "obs" else 1], hits.rows.astype(np.int64))
        stored = list(self._stored.values())
        read = _frames.to_polars(
            store.native.frame_rows(of, rows.native(), stored), store, of, rows, stored
        )
        ranks = np.arange(len(places)) - np.repeat(hits.starts[:-1], counts) + 1
        query = pl.Series(places) if wanted.names is None else wanted.names.gather(places)
        name = f"{WHAT[of]}_id"
        series = [query.alias("query"), pl.Series("rank", ranks), read[name]]
        of_frame = iter(read.get_columns()[read.width - len(stored) :])
        taken = {"query", "rank", name, *(n for n in self._include if n not in self._stored)}
        for column in self._include:
            if column == "distance":
                series.append(pl.Series(column, hits.distances))
            elif column not in self._stored:
                series.append(read[column])
            else:
                shown = column
                while shown in taken:
                    shown = f"{of}:{shown}"
                taken.add(shown)
                series.append(next(of_frame).alias(shown))
        return pl.DataFrame(series)


def stored_name(store: Store, of: str, name: str, own: Sequence[str] = ()) -> str:
    """Give the name in the store of a column of obs or var.

    Parameters
    ----------
    name
        Its name in SQL, or that behind ``obs:`` or ``var:``.
    own
        Columns that there are beside these, for messages.

    Raises
    ------
    UnknownNameError
        If there is no such column.
    """
    stored = store.column_names(of)
    public = dict(zip(_frames.public_names(stored, of), stored, strict=True))
    found = public.get(name, public.get(name.removeprefix(f"{of}:")))
    if found is None:
        near = get_close_matches(name, [*own, *public], 1)
        if near and near[0] not in stored:
            hint = f"no column {name!r} in {of}; did you mean {near[0]!r}?"
            raise from_kind("unknown-column", hint)
        # Rust names near ones, of the columns that are stored.
        if name not in stored:
            store.native.columns(of, [name], (0, 0))
        raise from_kind("unknown-column", f"no column {name!r}; there are {[*own, *public]}")
    return found
