"""A store as a lazy AnnData."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping
from copy import deepcopy
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from slaf._errors import from_kind, invalid
from slaf._keywords import keywords
from slaf._selectors import Axis, Positions, positions
from slaf._store import WHAT, Store
from slaf.integrations._annotation import Annotation
from slaf.integrations._contents import SLOTS, Contents, categories, without_unused_categories
from slaf.integrations._extras import keys_of
from slaf.integrations._foreign import Foreign
from slaf.integrations._index import lookup_in, unpack_index
from slaf.integrations._lazy import LazyMatrix
from slaf.integrations._mappings import Layers, LazyMapping, as_lazy
from slaf.integrations._raw import Genes, LazyRaw
from slaf.integrations._whole import Whole

if TYPE_CHECKING:
    import anndata
    import pandas as pd


@keywords(renamed={"filename": "path"}, ignored={"backend": None})
def read_slaf(
    path: str | os.PathLike[str],
    *,
    version: int | None = None,
    storage_options: Mapping[str, str] | None = None,
    verify: Literal["first-touch"] | None = None,
) -> LazyAnnData:
    """Open a store as an AnnData that reads what is touched, when it is touched.

    Parameters
    ----------
    path, version, storage_options, verify
        As in :class:`slaf.SLAFArray`.

    Examples
    --------
    >>> from slaf.integrations import read_slaf
    >>> adata = read_slaf(store_path)
    >>> subset = adata[adata.obs.batch == "b1", :]
    >>> first_two_cells = subset[:2, :]
    >>> first_two_cells.X.compute().toarray()
    array([[1., 0., 0., 2.],
           [0., 3., 0., 0.]], dtype=float32)
    """
    return of_store(Store(path, version, storage_options, verify))


def of_store(store: Store) -> LazyAnnData:
    """The whole of a store that is open."""
    adata = LazyAnnData(Contents.of_store(store), None)
    if any(key.slot == "raw" for key in store.matrices):
        adata._contents.raw = LazyRaw.stored(adata, store)
    return adata


class LazyAnnData(Annotation, Whole, Foreign):
    """The slots of an AnnData over a store.

    Slicing follows AnnData and reads nothing of the matrices; slices of slices are composed. X and
    the layers are :class:`LazyMatrix`. Columns of ``obs`` and ``var``, ``uns`` and the entries of
    ``obsm``, ``varm``, ``obsp`` and ``varp`` are read once, when they are touched, and then are
    ordinary objects in memory. Names of cells and genes are read when something needs them.

    Everything can be changed and set, in memory: it shows in later views and in :meth:`to_memory`,
    and in the store only after :meth:`save`. :meth:`write` writes the present state elsewhere.
    Frames of a view are its own copies, so that a changed column shows in the view alone; setting
    anything else of a view makes it an actual object first, with anndata's
    ``ImplicitModificationWarning``.

    Made by :func:`read_slaf`. It is no ``anndata.AnnData``: functions that need one refuse it with
    an error that tells what to do. scanpy's functions that only take genes apart, its plots and
    ``sc.get.obs_df`` among them, take it as it is.
    """

    _called = "a lazy AnnData"

    def _like(self) -> type:
        import anndata

        return anndata.AnnData

    def __init__(self, contents: Contents, rows: dict[str, Axis] | None):
        self._contents = contents
        # The cells and genes of the contents that a view shows; `None` for all of them.
        self._rows = rows
        self._forget_view()

    def _forget_view(self) -> None:
        # What a view has read.
        self._frames: dict[str, pd.DataFrame] = {}
        self._categories: dict[str, dict[str, Any]] = {}
        self._mappings: dict[str, LazyMapping] = {}
        self._uns: dict[str, Any] | None = None

    @property
    def _store(self) -> Store:
        return self._contents.store

    @property
    def is_view(self) -> bool:
        """Whether this is a selection of another object."""
        return self._rows is not None

    @property
    def isbacked(self) -> bool:
        """Always true: the matrices stay in the store."""
        return True

    @property
    def filename(self) -> str:
        """The path or URI of the store."""
        return self._store.path

    # Matrices and arrays

    @property
    def X(self) -> LazyMatrix | None:
        """The matrix, or ``None`` if the data have none; set with any matrix of the shape."""
        X = self._contents.X
        return None if X is None else self._shown(X)

    @X.setter
    def X(self, value: Any) -> None:
        lazy = None if value is None else as_lazy(value, self.shape, "X")
        self._make_actual("X")
        if lazy is None:
            self._contents.matrices.pop("X", None)
        else:
            self._contents.matrices["X"] = lazy
        self._contents.change()

    @X.deleter
    def X(self) -> None:
        self.X = None

    def _shown(self, matrix: LazyMatrix) -> LazyMatrix:
        if self._rows is None:
            return matrix
        return matrix.select(self._rows["obs"].rows, self._rows["var"].rows)

    @property
    def layers(self) -> Layers:
        """The layers, each a lazy matrix; set with any matrix of the shape."""
        if self._rows is None:
            return Layers(self._contents.layers, self.shape, changed=self._contents.change)
        shown = {name: self._shown(layer) for name, layer in self._contents.layers.items()}
        return Layers(shown, self.shape, own=self._own_layers)

    @layers.setter
    def layers(self, layers: Mapping[str, Any]) -> None:
        lazy = {k: as_lazy(v, self.shape, f"layers[{k!r}]") for k, v in layers.items()}
        self._make_actual("layers")
        self._contents.layers = lazy
        self._contents.change()

    @layers.deleter
    def layers(self) -> None:
        self.layers = {}

    def _own_layers(self) -> Layers:
        self._make_actual("layers")
        return self.layers

    @property
    def raw(self) -> LazyRaw | None:
        """The data before genes were filtered, or ``None``; set with a data set of these cells."""
        raw = self._contents.raw
        return None if raw is None else raw.beside(self, self._axis("obs"))

    @raw.setter
    def raw(self, value: Any) -> None:
        raw = None
        if value is not None:
            if not hasattr(value, "X") or value.X is None or not hasattr(value, "varm"):
                raise invalid("raw is set with an AnnData or LazyAnnData that has X, or with None")
            X = as_lazy(value.X, (self.n_obs, value.X.shape[1]), "raw")
            var, varm = value.var.copy(), {k: deepcopy(value.varm[k]) for k in value.varm}
            raw = (X, Genes(lambda: (var, varm)))
        self._make_actual("raw")
        self._contents.raw = None if raw is None else LazyRaw(self, *raw)
        self._contents.change()

    @raw.deleter
    def raw(self) -> None:
        self.raw = None

    @property
    def obsm(self) -> LazyMapping:
        """Arrays beside the cells, such as embeddings."""
        return self._mapping("obsm")

    @obsm.setter
    def obsm(self, value: Mapping[str, Any]) -> None:
        self._set_mapping("obsm", value)

    @obsm.deleter
    def obsm(self) -> None:
        self._set_mapping("obsm", {})

    @property
    def varm(self) -> LazyMapping:
        """Arrays beside the genes."""
        return self._mapping("varm")

    @varm.setter
    def varm(self, value: Mapping[str, Any]) -> None:
        self._set_mapping("varm", value)

    @varm.deleter
    def varm(self) -> None:
        self._set_mapping("varm", {})

    @property
    def obsp(self) -> LazyMapping:
        """Matrices of cells by cells, such as neighbour graphs."""
        return self._mapping("obsp")

    @obsp.setter
    def obsp(self, value: Mapping[str, Any]) -> None:
        self._set_mapping("obsp", value)

    @obsp.deleter
    def obsp(self) -> None:
        self._set_mapping("obsp", {})

    @property
    def varp(self) -> LazyMapping:
        """Matrices of genes by genes."""
        return self._mapping("varp")

    @varp.setter
    def varp(self, value: Mapping[str, Any]) -> None:
        self._set_mapping("varp", value)

    @varp.deleter
    def varp(self) -> None:
        self._set_mapping("varp", {})

    def _mapping(self, slot: str) -> LazyMapping:
        if self._rows is None:
            return self._contents.mappings[slot]
        if slot not in self._mappings:
            own = partial(self._own_mapping, slot)
            axis = self._axis(slot[:3])
            self._mappings[slot] = self._contents.mappings[slot].select(axis, own)
        return self._mappings[slot]

    def _own_mapping(self, slot: str) -> LazyMapping:
        self._make_actual(slot)
        return self._mapping(slot)

    def _set_mapping(self, slot: str, value: Mapping[str, Any]) -> None:
        entries = dict(value)
        self._make_actual(slot)
        mapping = self._mapping(slot)
        for name in list(mapping):
            del mapping[name]
        mapping.update(entries)

    @property
    def uns(self) -> dict[str, Any]:
        """Unstructured annotation."""
        if self._rows is None:
            return self._contents.get_uns()
        if self._uns is None:
            self._uns = self._uns_of_view(deepcopy(self._contents.get_uns()))
        return self._uns

    @uns.setter
    def uns(self, value: Mapping[str, Any]) -> None:
        self._make_actual("uns")
        self._contents.uns = dict(value)

    @uns.deleter
    def uns(self) -> None:
        self.uns = {}

    def _uns_of_view(self, uns: dict[str, Any]) -> dict[str, Any]:
        """Drop the colours of categories that the view does not have, as AnnData does."""
        import anndata

        if not anndata.settings.remove_unused_categories:
            return uns
        for of in ("obs", "var"):
            if not any(f"{name}_colors" in uns for name in self._frame_keys(of)):
                continue
            left = categories(self._frame(of))
            for name, before in self._categories[of].items():
                colors = uns.get(f"{name}_colors")
                if colors is None or name not in left:
                    continue
                if len(np.atleast_1d(colors)) != len(before):
                    del uns[f"{name}_colors"]
                else:
                    kept = np.isin(before, left[name])
                    uns[f"{name}_colors"] = np.atleast_1d(colors)[kept]
        return uns

    def obsm_keys(self) -> list[str]:
        """Names in :attr:`obsm`."""
        return list(self.obsm)

    def varm_keys(self) -> list[str]:
        """Names in :attr:`varm`."""
        return list(self.varm)

    def uns_keys(self) -> list[str]:
        """Names in :attr:`uns`."""
        for uns in (self._uns, self._contents.uns):
            if uns is not None:
                return list(uns)
        return keys_of(self._store, "uns")

    # Values beside cells and genes

    def obs_vector(self, k: str, layer: str | None = None) -> Any:
        """One value for each cell: a column of obs as pandas has it, or a gene of X or a layer."""
        return self._vector(k, layer, "obs", "var")

    def var_vector(self, k: str, layer: str | None = None) -> Any:
        """One value for each gene: a column of var as pandas has it, or a cell of X or a layer."""
        return self._vector(k, layer, "var", "obs")

    def _vector(self, k: str, layer: str | None, of: str, other: str) -> Any:
        in_frame, in_names = k in self._frame(of), k in self._names(other)
        if in_frame and in_names:
            raise from_kind("ambiguous-name", f"{k!r} is a column of {of} and in {other}_names")
        if in_frame:
            return self._frame(of)[k].values
        found = self[:, k] if of == "obs" else self[k]
        matrix = found.X if layer is None else found.layers[layer]
        if matrix is None:
            raise invalid("there is no X")
        return matrix.toarray().ravel()

    def to_df(self, layer: str | None = None) -> pd.DataFrame:
        """X or a layer as a dense frame, cells x genes."""
        import pandas as pd

        matrix = self.X if layer is None else self.layers[layer]
        if matrix is None:
            raise invalid("X is None, cannot convert to a frame")
        return pd.DataFrame(matrix.toarray(), index=self.obs_names, columns=self.var_names)

    # Slicing

    def __getitem__(self, index: Any) -> LazyAnnData:
        """Choose cells, or cells and genes, as AnnData does.

        Parameters
        ----------
        index
            For the cells or for both axes: names, integers, slices, masks, arrays or lists of
            them, pandas Series (their values), or ``...``.

        Returns
        -------
        LazyAnnData
            A view; its rows have the order of the selectors.
        """
        rows, cols = unpack_index(index)
        chosen = {"obs": self._positions("obs", rows), "var": self._positions("var", cols)}
        axes = {of: self._axis(of).select(places) for of, places in chosen.items()}
        part = LazyAnnData(self._contents, axes)
        # What was read of a view may have been changed in it.
        for of, frame in self._frames.items():
            rows_of_frame = frame.iloc[Axis(len(frame)).select(chosen[of]).indexer()].copy()
            part._categories[of] = categories(rows_of_frame)
            part._frames[of] = without_unused_categories(rows_of_frame)
        if self._uns is not None or self._frames:
            # Its colours are those of the categories that this view has left.
            part._uns = part._uns_of_view(deepcopy(self.uns))
        return part

    def _positions(self, of: str, selector: Any) -> Positions:
        contents = self._contents

        def lookup(names: list[str]) -> Positions:
            # The store knows its own names without making objects of all.
            untouched = of not in contents.frames and contents.axes[of].is_all
            if self._rows is None and untouched:
                # One name may stand for several rows, as in pandas.
                if len(names) == 1 and len(found := self._store.native.rows_named(of, names[0])):
                    return found
                return self._store.resolve(of, names)
            return lookup_in(self._names(of), names, WHAT[of])

        return positions(selector, len(self._axis(of)), lookup, "", WHAT[of])

    # Copies and subsets

    def copy(self) -> LazyAnnData:
        """An object that changes independently; matrices stay lazy and in the store."""
        other = LazyAnnData(self._contents, self._rows)
        if self._rows is None:
            other._contents = self._contents.copy()
        else:
            other._frames = {of: frame.copy() for of, frame in self._frames.items()}
            other._categories = dict(self._categories)
            other._uns = deepcopy(self._uns)
            other._become_actual()
        if other._contents.raw is not None:
            other._contents.raw = other._contents.raw.beside(other, Axis(other.n_obs))
        return other

    def _make_actual(self, what: str) -> None:
        """Before something is set: a view becomes an object of its own."""
        if self._rows is None:
            return
        from anndata import ImplicitModificationWarning

        warnings.warn(
            f"Setting `{what}` of a view: it becomes an actual object.",
            ImplicitModificationWarning,
            stacklevel=4,
        )
        self._become_actual()

    def _become_actual(self) -> None:
        assert self._rows is not None
        uns = self.uns
        contents = self._contents.subset(self._rows["obs"], self._rows["var"])
        contents.frames.update(self._frames)
        contents.uns = uns
        contents.raw = self.raw
        self._contents, self._rows = contents, None
        self._forget_view()

    def _init_as_actual(self, other: LazyAnnData) -> None:
        """Become another object, as scanpy makes a view that it is given its copy."""
        self._contents, self._rows = other._contents, other._rows
        self._forget_view()
        if self._contents.raw is not None:
            self._contents.raw = self._contents.raw.beside(self, Axis(self.n_obs))

    def _inplace_subset_obs(self, index: Any) -> None:
        """Keep some cells; views that were made before keep what they show."""
        self._subset(lambda: self[index])

    def _inplace_subset_var(self, index: Any) -> None:
        """Keep some genes; views that were made before keep what they show."""
        self._subset(lambda: self[:, index])

    def _subset(self, choose: Callable[[], LazyAnnData]) -> None:
        self._init_as_actual(choose().copy())

    def _of(self, contents: Contents) -> LazyAnnData:
        return LazyAnnData(contents, None)

    def with_genes(
        self, matrix: LazyMatrix, var: pd.DataFrame, varm: Mapping[str, Any]
    ) -> LazyAnnData:
        """These cells with another matrix, whose genes ``var`` describes."""
        source = self.copy()._contents
        contents = Contents(self._store, {"obs": source.axes["obs"], "var": Axis(len(var))})
        contents.frames = {"obs": source.frame("obs"), "var": var}
        contents.matrices["X"] = matrix
        contents.uns = source.get_uns()
        contents.mappings = {
            slot: source.mappings[slot]
            if slot.startswith("obs")
            else LazyMapping(slot, contents.axes["var"], 1 if slot == "varm" else 2, [], _nothing)
            for slot in SLOTS
        }
        contents.mappings["varm"].update(varm)
        return LazyAnnData(contents, None)

    # Reading all

    def to_memory(self) -> anndata.AnnData:
        """Read everything.

        Returns
        -------
        anndata.AnnData
            With every slot, the matrices in their original encoding and type.
        """
        import anndata

        return anndata.AnnData(
            X=None if self.X is None else self.X.to_memory(),
            obs=self.obs.copy(),
            var=self.var.copy(),
            uns=deepcopy(self.uns),
            layers={name: layer.to_memory() for name, layer in self.layers.items()},
            raw=None if self.raw is None else self.raw.to_memory(),
            **{slot: self._mapping(slot).to_memory() for slot in SLOTS},
        )

    def compute(self) -> anndata.AnnData:
        """Read everything; the same as :meth:`to_memory`."""
        return self.to_memory()

    def to_dask(self, chunk_rows: int = 8192) -> anndata.AnnData:
        """An AnnData whose X and layers are dask arrays of CSR chunks.

        Each chunk is read by SLAF in whichever process computes it. What scanpy does with dask
        runs on it, in one process or in the workers of a ``dask.distributed`` cluster that reach
        the store by the same path. Everything else is read now.

        Parameters
        ----------
        chunk_rows
            Cells of a chunk.

        Returns
        -------
        anndata.AnnData
            Its matrices are float or integer as the stored ones; a matrix that arithmetic has
            made dense comes in dense chunks.
        """
        from slaf.integrations._dask import to_dask

        return to_dask(self, chunk_rows)

    def __repr__(self) -> str:
        text = f"LazyAnnData object with n_obs × n_vars = {self.n_obs} × {self.n_vars}"
        text = f"{'View of ' if self.is_view else ''}{text} backed at {self.filename!r}"
        slots: dict[str, list[str]] = {
            "obs": self.obs_keys(),
            "var": self.var_keys(),
            "uns": self.uns_keys(),
            "obsm": list(self.obsm),
            "varm": list(self.varm),
            "layers": list(self.layers),
            "obsp": list(self.obsp),
            "varp": list(self.varp),
        }
        for slot, keys in slots.items():
            if keys:
                text += f"\n    {slot}: {str(keys)[1:-1]}"
        return text


def _nothing(name: str, rows: Axis) -> Any:
    raise KeyError(name)
