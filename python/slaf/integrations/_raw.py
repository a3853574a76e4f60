"""The ``raw`` slot."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from slaf._selectors import Axis, positions
from slaf._store import Key, Store
from slaf.integrations._extras import read_element
from slaf.integrations._index import lookup_in, unpack_index
from slaf.integrations._lazy import LazyMatrix
from slaf.integrations._mappings import subset

if TYPE_CHECKING:
    import pandas as pd

    from slaf.integrations.anndata import LazyAnnData


class Genes:
    """Annotation of the genes of raw, read when it is touched."""

    def __init__(self, load: Callable[[], tuple[pd.DataFrame, dict[str, Any]]]):
        self._load = load
        self._loaded: tuple[pd.DataFrame, dict[str, Any]] | None = None

    def get(self) -> tuple[pd.DataFrame, dict[str, Any]]:
        """The frame, and arrays beside it."""
        if self._loaded is None:
            self._loaded = self._load()
        return self._loaded

    @classmethod
    def stored(cls, store: Store) -> Genes:
        """Those of a store."""

        def load() -> tuple[pd.DataFrame, dict[str, Any]]:
            from slaf._frames import to_pandas

            columns = store.native.raw_columns()
            info = store.native.frame_info("raw")
            assert columns is not None
            assert info is not None
            return to_pandas(columns, info), dict(read_element(store, "raw/varm") or {})

        return cls(load)

    def select(self, cols: Axis) -> Genes:
        """Some of the genes."""

        def load() -> tuple[pd.DataFrame, dict[str, Any]]:
            var, varm = self.get()
            return var.iloc[cols.array()].copy(), {k: subset(v, cols) for k, v in varm.items()}

        return self if cols.is_all else Genes(load)

    def __reduce__(self) -> tuple[Any, ...]:
        return _loaded_genes, self.get()


def _loaded_genes(var: pd.DataFrame, varm: dict[str, Any]) -> Genes:
    return Genes(lambda: (var, varm))


class LazyRaw:
    """The data before genes were filtered, beside the cells of a :class:`LazyAnnData`."""

    def __init__(self, adata: LazyAnnData, matrix: LazyMatrix, genes: Genes):
        self._adata = adata
        self._matrix = matrix
        self._genes = genes

    @classmethod
    def stored(cls, adata: LazyAnnData, store: Store) -> LazyRaw:
        """The raw of a store."""
        n_obs, n_vars = store.matrix(Key("raw")).shape
        matrix = LazyMatrix.stored(store, Key("raw"), Axis(n_obs), Axis(n_vars))
        return cls(adata, matrix, Genes.stored(store))

    @property
    def X(self) -> LazyMatrix:
        """The matrix, cells by all genes of raw."""
        return self._matrix

    @property
    def var(self) -> pd.DataFrame:
        """Annotation of the genes of raw."""
        return self._genes.get()[0]

    @property
    def varm(self) -> dict[str, Any]:
        """Arrays beside the genes of raw."""
        return self._genes.get()[1]

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

    def beside(self, adata: LazyAnnData, rows: Axis) -> LazyRaw:
        """Some cells, which are those of another object."""
        everything = range(self.n_vars)
        return LazyRaw(adata, self._matrix.select(rows.rows, everything), self._genes)

    def __getitem__(self, index: Any) -> LazyRaw:
        rows, cols = unpack_index(index)
        chosen = positions(
            cols, self.n_vars, lambda names: lookup_in(self.var_names, names, "gene"), "", "gene"
        )
        view = self._adata[rows]
        raw = self if view.raw is None else view.raw
        axis = Axis(self.n_vars).select(chosen)
        return LazyRaw(view, raw.X.select(range(view.n_obs), chosen), self._genes.select(axis))

    def obs_vector(self, k: str) -> Any:
        """The values of a gene, one for each cell."""
        return self[:, k].X.ravel()

    def var_vector(self, k: str) -> Any:
        """One value for each gene: a column of var as pandas has it, or the values of a cell."""
        return self.var[k].values if k in self.var else self[k].X.ravel()

    def to_adata(self) -> LazyAnnData:
        """Give raw as a data set of its own, with the cells' annotation."""
        return self._adata.with_genes(self.X, self.var.copy(), dict(self.varm))

    def __repr__(self) -> str:
        return f"LazyRaw with n_obs × n_vars = {self.n_obs} × {self.n_vars}"

    def to_memory(self) -> dict[str, Any]:
        """Read raw as what the constructor of AnnData takes."""
        return {"X": self.X.to_memory(), "var": self.var.copy(), "varm": self.varm}
