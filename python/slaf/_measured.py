"""Which genes were measured in which cells, and statistics that know it."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from slaf import _frames
from slaf._numbers import flag
from slaf._store import Key, Store

if TYPE_CHECKING:
    import polars as pl


class Measured:
    """What a :class:`slaf.SLAFArray` tells of genes that were not measured in all cells.

    Cells of several sources are stored over the genes of all of them. A gene that a source does not
    have is stored as zero in its cells, as ``anndata.concat(join="outer", fill_value=0)`` has it;
    here is told that it was not measured.
    """

    @property
    @abstractmethod
    def _store(self) -> Store:
        """The store."""

    @abstractmethod
    def _key(self, layer: str | None) -> Key:
        """X, or a layer."""

    def sources(self) -> pl.DataFrame:
        """Give the sources of the cells, by what they measured.

        Returns
        -------
        polars.DataFrame
            A row for each source, in the order of the cells: ``source_id``, ``source`` (its name;
            null for cells that were there before the first append, and for a store in which all
            genes were measured in all cells), ``first_cell``, ``n_cells``, and ``n_genes``, how
            many genes it measured. Cells ``first_cell`` to ``first_cell + n_cells - 1`` are its
            own. Neighbours of one name that measured the same genes are one source.

        Examples
        --------
        >>> from slaf import SLAFArray
        >>> SLAFArray(store_path).sources().rows()
        [(0, None, 0, 6, 4)]
        """
        return _frames.of_stream(self._store.native.source_table())

    def measured(self, genes: Any = None) -> pl.DataFrame:
        """Tell in how many cells, and by which sources, genes were measured.

        Parameters
        ----------
        genes
            A selector as in :meth:`get_submatrix`; all by default.

        Returns
        -------
        polars.DataFrame
            A row for each gene, in the order of the selector: ``gene_id``, ``gene_integer_id``,
            ``n_cells``, and ``source_ids``, a list of the sources that measured it.

        Examples
        --------
        >>> from slaf import SLAFArray
        >>> SLAFArray(store_path).measured("gene1").rows()
        [('gene1', 1, 6, [0])]
        """
        cols = self._store.select("var", genes)
        return _frames.of_stream(self._store.native.measured_table(cols.native()))

    def is_measured(self, cells: Any = None, genes: Any = None) -> npt.NDArray[np.bool_]:
        """Tell of each gene in each cell whether it was measured there.

        Parameters
        ----------
        cells, genes
            Selectors as in :meth:`get_submatrix`.

        Returns
        -------
        ndarray of bool
            Cells x genes, in the order of the selectors; a byte for each.

        Examples
        --------
        >>> from slaf import SLAFArray
        >>> SLAFArray(store_path).is_measured([0, 1], ["gene0", "gene3"])
        array([[ True,  True],
               [ True,  True]])
        """
        rows, cols = self._store.select("obs", cells), self._store.select("var", genes)
        mask = self._store.native.measured_mask(rows.native(), cols.native())
        return mask.reshape(len(rows), len(cols))

    def gene_statistics(
        self, genes: Any = None, *, layer: str | None = None, measured: bool = False
    ) -> pl.DataFrame:
        """Give counts, mean and variance of genes.

        Parameters
        ----------
        genes
            A selector as in :meth:`get_submatrix`; all by default.
        layer
            The name of a layer; X by default.
        measured
            Over the cells in which each gene was measured, and not over all.

        Returns
        -------
        polars.DataFrame
            A row for each gene, in the order of the selector: ``gene_id``, ``gene_integer_id``,
            ``n_cells`` (over how many cells), ``n_expressing`` (in how many the value is not zero),
            ``total``, ``mean`` (null of no cell) and ``variance`` (with ``n_cells - 1``, as
            scanpy's; null of fewer than two cells).

        Examples
        --------
        >>> from slaf import SLAFArray
        >>> frame = SLAFArray(store_path).gene_statistics("gene1")
        >>> frame.select("gene_id", "n_cells", "n_expressing", "total").rows()
        [('gene1', 6, 2, 11.0)]
        """
        key, cols = self._key(layer), self._store.select("var", genes)
        native, only = self._store.native, flag("measured", measured)
        return _frames.of_stream(native.gene_statistics(key, cols.native(), only))
