"""Indexes of embeddings, with which a search compares a part of the rows."""

from __future__ import annotations

from typing import Literal

from slaf import _slaf
from slaf._changing import Changing, grow_options
from slaf._errors import invalid
from slaf._numbers import axis_of, text, whole
from slaf._progress import bar
from slaf._report import Report
from slaf._search import Metric, metric_name

Kind = Literal["auto", "ivf"]
KINDS = ("auto", "ivf")

# More rows than any axis has.
_MOST = (1 << 32) - 1


class Indexing(Changing):
    """What makes indexes of embeddings, and tells what they are good for."""

    def create_index(
        self,
        key: str,
        metric: Metric = "l2",
        kind: Kind = "auto",
        *,
        axis: Literal["cell", "gene"] = "cell",
    ) -> Report:
        """Make an index of an embedding, as one new version.

        :meth:`nearest` and ``nearest`` in SQL use it by themselves, for the metric that it was made
        for: they leave out what is certain to be farther, so that their answers are the same bits
        with it and without. It pays where cells are many and their embedding has groups. Cells
        that are appended later are compared beside it. Replacing or dropping the embedding, and
        :meth:`delete_cells`, make a version without it; :meth:`optimize` and :meth:`rename` keep
        it.

        Parameters
        ----------
        key
            The array of obsm; with ``axis="gene"`` that of varm.
        metric
            ``"l2"``, ``"cosine"`` or ``"ip"``, as :meth:`nearest` takes it. An array may have an
            index for each; one for the same metric is replaced.
        kind
            ``"auto"`` makes an index from 100,000 rows on, and tells in ``notes`` where it makes
            none, because comparing all rows is as fast; ``"ivf"`` makes one: an inverted file, in
            which the rows lie in lists around centres.
        axis
            ``"cell"`` or ``"gene"``.

        Returns
        -------
        Report
            ``version``, ``written`` and ``notes``.

        Raises
        ------
        UnknownNameError
            For an unknown array, with similar ones.
        InvalidArgumentError
            For an array that cannot be searched, and for a row with coordinates that are NaN in
            part, infinite or not below 2^53.

        Examples
        --------
        >>> from slaf import SLAFArray
        >>> slaf_array = SLAFArray(growing_path)
        >>> slaf_array.create_index("X_pca").notes[0][:17]
        'no index was made'
        >>> slaf_array.create_index("X_pca", kind="ivf").written
        ['index of obsm/X_pca by l2']
        """
        if kind not in KINDS:
            raise invalid(f"kind={kind!r}; there are {KINDS}")
        with bar() as progress:
            told = _slaf.create_index(
                self._store.path,
                axis_of(axis),
                text("key", key),
                metric_name(metric),
                kind,
                grow_options(self._store),
                progress,
            )
        return self._told(told)

    def drop_index(
        self,
        key: str,
        metric: Metric | None = None,
        *,
        axis: Literal["cell", "gene"] = "cell",
    ) -> Report:
        """Take the index of an embedding out of the store, as one new version.

        The embedding and all else stay, and so do answers: all rows are compared then. Older
        versions have the index, until :meth:`gc` removes these.

        Parameters
        ----------
        key
            The array of obsm; with ``axis="gene"`` that of varm.
        metric
            Which index: by default all that the array has.
        axis
            ``"cell"`` or ``"gene"``.

        Returns
        -------
        Report
            ``version`` and ``removed``.

        Raises
        ------
        UnknownNameError
            For an unknown array, with similar ones.
        NotFoundError
            For an array without such an index, with the indexes that there are.

        Examples
        --------
        >>> from slaf import SLAFArray
        >>> slaf_array = SLAFArray(growing_path)
        >>> _ = slaf_array.create_index("X_pca", kind="ivf")
        >>> slaf_array.drop_index("X_pca").removed
        ['index of obsm/X_pca by l2']
        """
        name = None if metric is None else metric_name(metric)
        told = _slaf.drop_index(
            self._store.path, axis_of(axis), text("key", key), name, grow_options(self._store)
        )
        return self._told(told)

    def index_report(
        self,
        key: str,
        metric: Metric | None = None,
        *,
        n_queries: int = 30,
        k: int = 10,
        axis: Literal["cell", "gene"] = "cell",
    ) -> Report:
        """Search with and without the index of an embedding, and tell what it is good for.

        Parameters
        ----------
        key
            The array of obsm; with ``axis="gene"`` that of varm.
        metric
            Which index: by default the first that there is.
        n_queries
            How many rows are searched for, at even distances.
        k
            How many rows are found for each.
        axis
            ``"cell"`` or ``"gene"``.

        Returns
        -------
        Report
            ``array``; ``kind`` (``"scan"`` without an index) and ``metric``; ``rows`` of the index
            and ``rows_beyond`` it; ``lists``; ``bytes``; ``queries`` and ``k``; ``recall``, the
            part of the nearest rows that is found, 1.0 unless something is wrong; ``rows_read``,
            the part of all rows that is compared; ``seconds`` of a query, and ``seconds_scan``
            where all rows are compared.

        Raises
        ------
        UnknownNameError
            For an unknown array, with similar ones.
        InvalidArgumentError
            As :meth:`nearest`.

        Examples
        --------
        >>> from slaf import SLAFArray
        >>> report = SLAFArray(store_path).index_report("X_pca", k=2)
        >>> report.kind, report.recall, report.rows_read
        ('scan', 1.0, 1.0)
        """
        name = None if metric is None else metric_name(metric)
        n_queries, k = whole("n_queries", n_queries, 1, _MOST), whole("k", k, 1, _MOST)
        return Report(
            *_slaf.index_report(
                self._store.native, axis_of(axis), text("key", key), name, n_queries, k
            )
        )
