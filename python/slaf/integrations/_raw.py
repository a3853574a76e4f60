"""The ``raw`` slot."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

from slaf._selectors import Axis, positions
from slaf._store import Key, Store
from slaf.integrations._extras import read_element
from slaf.integrations._lazy import LazyMatrix
from slaf.integrations._mappings import subset

if TYPE_CHECKING:
    import pandas as pd

    from slaf.integrations.anndata import LazyAnnData


class LazyRaw:
    """The data before genes were filtered, beside the cells of a :class:`LazyAnnData`."""

    def __init__(self, adata: LazyAnnData, store: Store, cols: Axis):
        self._adata = adata
        self._store = store
        self._cols = cols

    @property
    def X(self) -> LazyMatrix:
        """The matrix, cells by all genes of raw."""
        return LazyMatrix(self._store, Key("raw"), self._adata._obs_axis, self._cols)

    @cached_property
    def var(self) -> pd.DataFrame:
        """Annotation of the genes of raw."""
        from slaf._frames import to_pandas

        columns = self._store.native.raw_columns()
        info = self._store.native.frame_info("raw")
        assert columns is not None
        assert info is not None
        frame = to_pandas(columns, info)
        return frame if self._cols.is_all else frame.iloc[self._cols.array()].copy()

    @cached_property
    def varm(self) -> dict[str, Any]:
        """Arrays beside the genes of raw."""
        stored = read_element(self._store, "raw/varm") or {}
        if self._cols.is_all:
            return dict(stored)
        return {name: subset(value, self._cols) for name, value in stored.items()}

    @property
    def shape(self) -> tuple[int, int]:
        """Number of cells and number of genes of raw."""
        return self.X.shape

    @property
    def n_obs(self) -> int:
        """Number of cells."""
        return self.shape[0]

    @property
    def n_vars(self) -> int:
        """Number of genes of raw."""
        return self.shape[1]

    @property
    def obs_names(self) -> pd.Index[Any]:
        """Names of the cells."""
        return self._adata.obs_names

    @property
    def var_names(self) -> pd.Index[Any]:
        """Names of the genes of raw."""
        return self.var.index

    def __getitem__(self, index: Any) -> LazyRaw:
        from slaf.integrations.anndata import lookup_in, unpack_index

        rows, cols = unpack_index(index)
        chosen = positions(
            cols, self.n_vars, lambda names: lookup_in(self.var_names, names, "gene"), "", "gene"
        )
        return LazyRaw(self._adata[rows], self._store, self._cols.select(chosen))

    def __repr__(self) -> str:
        return f"LazyRaw with n_obs × n_vars = {self.n_obs} × {self.n_vars}"

    def to_memory(self) -> dict[str, Any]:
        """Read raw as what the constructor of AnnData takes."""
        return {"X": self.X.to_memory(), "var": self.var.copy(), "varm": self.varm}
