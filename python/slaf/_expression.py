"""Stored values of X and of layers: one row each, or as a sparse matrix."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any

from slaf import _frames
from slaf._keywords import keywords
from slaf._numbers import flag
from slaf._selectors import Axis
from slaf._store import Key, Store

if TYPE_CHECKING:
    import polars as pl
    import scipy.sparse as sp


class Expression:
    """What a :class:`slaf.SLAFArray` tells of its values."""

    @property
    @abstractmethod
    def _store(self) -> Store:
        """The store."""

    @keywords(renamed={"cell_ids": "cells"})
    def get_cell_expression(self, cells: Any) -> pl.DataFrame:
        """Give the stored values of some cells.

        Parameters
        ----------
        cells
            A selector as in :meth:`get_submatrix`.

        Returns
        -------
        polars.DataFrame
            Columns ``cell_id``, ``gene_id`` and ``value``; cells in the order of the selector,
            genes in row order.
        """
        return self.get_submatrix(cells, None)

    @keywords(renamed={"gene_ids": "genes"})
    def get_gene_expression(self, genes: Any, *, measured: bool = False) -> pl.DataFrame:
        """Give the stored values of some genes.

        As :meth:`get_cell_expression`, but genes come in the order of the selector, and within
        a gene the cells in row order.

        Parameters
        ----------
        genes
            A selector as in :meth:`get_submatrix`.
        measured
            Give a row for each cell in which the gene was measured (see :meth:`sources`), zeros
            among them, so that what is computed of the rows is computed of these cells.
        """
        rows, cols = self._store.axis("obs"), self._store.select("var", genes)
        if flag("measured", measured):
            return _frames.of_stream(self._store.native.values_where_measured(cols.native()))
        return self._triplets(Key("X"), rows, cols, by_gene=True)

    @keywords(renamed={"layer_name": "layer"}, ignored={"table_name": "expression"})
    def get_submatrix(
        self, cell_selector: Any = None, gene_selector: Any = None, layer: str | None = None
    ) -> pl.DataFrame:
        """Give the stored values of some genes in some cells, one row each.

        Parameters
        ----------
        cell_selector, gene_selector
            ``None`` (all), an integer (negative ones count from the end), a name, a slice, a list
            or array of integers or names, a mask, or a frame given by :meth:`filter_cells` or
            :meth:`filter_genes`.
        layer
            The name of a layer; X by default.

        Returns
        -------
        polars.DataFrame
            Columns ``cell_id``, ``gene_id`` and ``value``, in the order of the selectors.

        Raises
        ------
        UnknownNameError
            For unknown names: lists up to five, with similar ones.
        OutOfRangeError
            For integers outside of the axis, and masks of another length.

        Examples
        --------
        >>> from slaf import SLAFArray
        >>> slaf_array = SLAFArray(store_path)
        >>> slaf_array.get_submatrix("cell1", ["gene1", "gene0"]).rows()
        [('cell1', 'gene1', 3.0)]
        """
        if isinstance(cell_selector, str):
            # In one call: the name is known, and need not be read again.
            key, cols = self._key(layer), self._store.select("var", gene_selector)
            native = self._store.native
            return _frames.of_stream(native.triplets_of_cell(key, cell_selector, cols.native()))
        rows = self._store.select("obs", cell_selector)
        cols = self._store.select("var", gene_selector)
        return self._triplets(self._key(layer), rows, cols, by_gene=False)

    def _key(self, layer: str | None) -> Key:
        key = Key("X") if layer is None else Key("layers", layer)
        self._store.matrix(key)
        return key

    def _triplets(self, key: Key, rows: Axis, cols: Axis, by_gene: bool) -> pl.DataFrame:
        # Names are views of bytes that are there once, and no objects of Python.
        stream = self._store.native.triplets(key, rows.native(), cols.native(), by_gene)
        return _frames.of_stream(stream)

    def to_csr(
        self, cells: Any = None, genes: Any = None, layer: str | None = None
    ) -> sp.csr_matrix:
        """Give a part of X or of a layer as a sparse matrix.

        Parameters
        ----------
        cells, genes
            Selectors as in :meth:`get_submatrix`.
        layer
            The name of a layer; X by default.

        Returns
        -------
        scipy.sparse.csr_matrix
            Of shape ``(len(cells), len(genes))`` in the order of the selectors, in the type of the
            stored matrix, with sorted indices.

        Examples
        --------
        >>> from slaf import SLAFArray
        >>> SLAFArray(store_path).to_csr([1, 0], slice(0, 2)).toarray()
        array([[0., 3.],
               [1., 0.]], dtype=float32)
        """
        rows, cols = self._store.select("obs", cells), self._store.select("var", genes)
        return self._store.csr(self._key(layer), rows, cols)
