"""Stored values of X and of layers: one row each, or as a sparse matrix."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any

import numpy as np

from slaf import _frames
from slaf._keywords import keywords
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
    def get_gene_expression(self, genes: Any) -> pl.DataFrame:
        """Give the stored values of some genes.

        As :meth:`get_cell_expression`, but genes come in the order of the selector, and within
        a gene the cells in row order.
        """
        rows, cols = self._store.axis("obs"), self._store.select("var", genes)
        found = self._store.read(Key("X"), rows, cols)
        order = np.argsort(found.indices, kind="stable")
        cells = np.repeat(np.arange(len(rows)), np.diff(found.indptr))
        return self._long(rows, cols, cells[order], found.indices[order], found.data[order])

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
        rows = self._store.select("obs", cell_selector)
        cols = self._store.select("var", gene_selector)
        found = self._store.read(self._key(layer), rows, cols)
        cells = np.repeat(np.arange(len(rows)), np.diff(found.indptr))
        return self._long(rows, cols, cells, found.indices, found.data)

    def _key(self, layer: str | None) -> Key:
        key = Key("X") if layer is None else Key("layers", layer)
        self._store.matrix(key)
        return key

    def _long(self, rows: Axis, cols: Axis, cells: Any, genes: Any, data: Any) -> pl.DataFrame:
        import polars as pl

        cell_ids = self._names_at("obs", rows, cells).alias("cell_id")
        gene_ids = self._names_at("var", cols, genes).alias("gene_id")
        return pl.DataFrame([cell_ids, gene_ids, pl.Series("value", data)])

    def _names_at(self, of: str, rows: Axis, at: Any) -> pl.Series:
        """Names at positions among some rows: those that occur are read, each once."""
        occurs = np.zeros(len(rows), dtype=np.bool_)
        occurs[at] = True
        if not occurs.all():
            rows = rows.select(np.flatnonzero(occurs))
        return _frames.names(self._store, of, rows).gather(np.cumsum(occurs)[at] - 1)

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
