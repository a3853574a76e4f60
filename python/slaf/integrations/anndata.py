"""A store as a lazy AnnData."""

from __future__ import annotations

import os
from collections.abc import Mapping
from copy import deepcopy
from typing import TYPE_CHECKING, Any

import numpy as np

from slaf import _frames
from slaf._errors import from_kind
from slaf._progress import bar
from slaf._selectors import Axis, Positions, positions
from slaf._store import WHAT, Key, Store
from slaf.integrations._extras import keys_of, names_below, read_element
from slaf.integrations._lazy import LazyMatrix
from slaf.integrations._mappings import LazyMapping, subset
from slaf.integrations._raw import LazyRaw

if TYPE_CHECKING:
    import anndata
    import pandas as pd

_SLOTS = ("obsm", "varm", "obsp", "varp")


def read_slaf(
    path: str | os.PathLike[str],
    *,
    version: int | None = None,
    storage_options: Mapping[str, str] | None = None,
) -> LazyAnnData:
    """Open a store as an AnnData that reads what is touched, when it is touched.

    Parameters
    ----------
    path, version, storage_options
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
    store = Store(path, version, storage_options)
    return LazyAnnData(store, store.axis("obs"), store.axis("var"), None)


class LazyAnnData:
    """The slots of an AnnData over a store.

    Slicing follows AnnData and reads nothing of the matrices; slices of slices are composed.
    ``obs``, ``var``, ``uns`` and the entries of ``obsm``, ``varm``, ``obsp`` and ``varp`` are read
    once, when they are touched, and then are ordinary objects in memory: what is changed in them
    shows in later views and in :meth:`to_memory`, and never in the store.

    Made by :func:`read_slaf`.
    """

    def __init__(self, store: Store, obs_axis: Axis, var_axis: Axis, root: LazyAnnData | None):
        self._store = store
        self._obs_axis = obs_axis
        self._var_axis = var_axis
        # The whole data set that this is a view of.
        self._root = root
        self._loaded: dict[str, Any] = {}

    def _axis(self, of: str) -> Axis:
        return self._obs_axis if of == "obs" else self._var_axis

    # Shape and names

    @property
    def n_obs(self) -> int:
        """Number of cells."""
        return len(self._obs_axis)

    @property
    def n_vars(self) -> int:
        """Number of genes."""
        return len(self._var_axis)

    @property
    def shape(self) -> tuple[int, int]:
        """Number of cells and number of genes."""
        return self.n_obs, self.n_vars

    def __len__(self) -> int:
        return self.n_obs

    @property
    def is_view(self) -> bool:
        """Whether this is a selection of another object."""
        return self._root is not None

    @property
    def isbacked(self) -> bool:
        """Always true: the matrices stay in the store."""
        return True

    @property
    def filename(self) -> str:
        """The path or URI of the store."""
        return self._store.path

    @property
    def obs_names(self) -> pd.Index[Any]:
        """Names of the cells."""
        return self._names("obs")

    @property
    def var_names(self) -> pd.Index[Any]:
        """Names of the genes."""
        return self._names("var")

    def _names(self, of: str) -> pd.Index[Any]:
        # The index of a loaded frame may have been replaced by the user.
        if of in self._loaded:
            index: pd.Index[Any] = self._loaded[of].index
            return index
        if self._root is not None and of in self._root._loaded:
            return self._root._names(of)[self._axis(of).indexer()]
        name = f"{of}_names"
        if name not in self._loaded:
            import pandas as pd

            names = np.array(self._store.names(of, self._axis(of)), dtype=object)
            info = self._store.native.frame_info(of)
            self._loaded[name] = pd.Index(names, name=info[0] if info else None)
        result: pd.Index[Any] = self._loaded[name]
        return result

    # Frames

    @property
    def obs(self) -> pd.DataFrame:
        """Annotation of the cells."""
        return self._frame("obs")

    @property
    def var(self) -> pd.DataFrame:
        """Annotation of the genes."""
        return self._frame("var")

    def _frame(self, of: str) -> pd.DataFrame:
        if of not in self._loaded:
            full = self._full_frame(of)
            if self.is_view:
                self._loaded[f"{of}_categories"] = _categories(full)
                full = _without_unused_categories(full)
            self._loaded[of] = full
        frame: pd.DataFrame = self._loaded[of]
        return frame

    def _full_frame(self, of: str) -> pd.DataFrame:
        """The rows of the frame with all categories, used or not."""
        axis = self._axis(of)
        if self._root is not None and of in self._root._loaded:
            return self._root._frame(of).iloc[axis.indexer()].copy()
        info = self._store.native.frame_info(of)
        assert info is not None
        return _frames.to_pandas(self._store.native.columns(of, None, axis.native()), info)

    # Matrices and arrays

    @property
    def X(self) -> LazyMatrix | None:
        """The matrix, or ``None`` if the data have none."""
        key = Key("X")
        return self._matrix(key) if key in self._store.matrices else None

    @property
    def layers(self) -> dict[str, LazyMatrix]:
        """The layers, each a lazy matrix."""
        keys = [k for k in self._store.matrices if k.slot == "layers"]
        return {key.name: self._matrix(key) for key in keys}

    def _matrix(self, key: Key) -> LazyMatrix:
        return LazyMatrix(self._store, key, self._obs_axis, self._var_axis)

    @property
    def raw(self) -> LazyRaw | None:
        """The data before genes were filtered, or ``None``."""
        key = Key("raw")
        if key not in self._store.matrices:
            return None
        if "raw" not in self._loaded:
            self._loaded["raw"] = LazyRaw(self, self._store, Axis(self._store.matrix(key).shape[1]))
        raw: LazyRaw = self._loaded["raw"]
        return raw

    @property
    def obsm(self) -> LazyMapping:
        """Arrays beside the cells, such as embeddings."""
        return self._mapping("obsm")

    @property
    def varm(self) -> LazyMapping:
        """Arrays beside the genes."""
        return self._mapping("varm")

    @property
    def obsp(self) -> LazyMapping:
        """Matrices of cells by cells, such as neighbour graphs."""
        return self._mapping("obsp")

    @property
    def varp(self) -> LazyMapping:
        """Matrices of genes by genes."""
        return self._mapping("varp")

    def _mapping(self, slot: str) -> LazyMapping:
        if slot not in self._loaded:
            axis = self._axis(slot[:3])
            if self._root is not None:
                self._loaded[slot] = self._root._mapping(slot).view(axis)
            elif slot.endswith("m"):
                arrays = [name for of, name in self._store.native.arrays() if of == slot[:3]]
                keys = sorted([*arrays, *names_below(self._store, slot)])
                load = _ArrayLoader(self._store, slot, frozenset(arrays))
                self._loaded[slot] = LazyMapping(slot, axis, 1, keys, load)
            else:
                keys = [k.name for k in self._store.matrices if k.slot == slot]
                load_pairs = _PairsLoader(self._store, slot)
                self._loaded[slot] = LazyMapping(slot, axis, 2, keys, load_pairs)
        mapping: LazyMapping = self._loaded[slot]
        return mapping

    @property
    def uns(self) -> dict[str, Any]:
        """Unstructured annotation."""
        if "uns" not in self._loaded:
            if self._root is None:
                self._loaded["uns"] = read_element(self._store, "uns") or {}
            else:
                self._loaded["uns"] = self._uns_of_view(deepcopy(self._root.uns))
        uns: dict[str, Any] = self._loaded["uns"]
        return uns

    def _uns_of_view(self, uns: dict[str, Any]) -> dict[str, Any]:
        """Drop the colours of categories that the view does not have, as AnnData does."""
        import anndata

        if not anndata.settings.remove_unused_categories:
            return uns
        for of in ("obs", "var"):
            if not any(f"{name}_colors" in uns for name in self._store.column_names(of)):
                continue
            frame = self._frame(of)
            for name, categories in self._loaded[f"{of}_categories"].items():
                colors = uns.get(f"{name}_colors")
                if colors is None:
                    continue
                if len(np.atleast_1d(colors)) != len(categories):
                    del uns[f"{name}_colors"]
                else:
                    kept = np.isin(categories, frame[name].cat.categories)
                    uns[f"{name}_colors"] = np.atleast_1d(colors)[kept]
        return uns

    def obs_keys(self) -> list[str]:
        """Names of the columns of :attr:`obs`."""
        return self._frame_keys("obs")

    def var_keys(self) -> list[str]:
        """Names of the columns of :attr:`var`."""
        return self._frame_keys("var")

    def _frame_keys(self, of: str) -> list[str]:
        for holder in (self, self._root):
            if holder is not None and of in holder._loaded:
                return list(holder._loaded[of].columns)
        return self._store.column_names(of)

    def uns_keys(self) -> list[str]:
        """Names in :attr:`uns`."""
        for holder in (self, self._root):
            if holder is not None and "uns" in holder._loaded:
                return list(holder._loaded["uns"])
        return keys_of(self._store, "uns")

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
        obs_axis = self._obs_axis.select(self._positions("obs", rows))
        var_axis = self._var_axis.select(self._positions("var", cols))
        return LazyAnnData(self._store, obs_axis, var_axis, self._root or self)

    def _positions(self, of: str, selector: Any) -> Positions:
        def lookup(names: list[str]) -> Positions:
            # The store knows its own names without reading them all.
            untouched = of not in self._loaded and (self._root or self) is self
            if untouched and self._axis(of).is_all and len(names) > 1:
                return self._store.resolve(of, names)
            return lookup_in(self._names(of), names, WHAT[of])

        return positions(selector, len(self._axis(of)), lookup, "", WHAT[of])

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
            **{slot: self._mapping(slot).to_memory() for slot in _SLOTS},
        )

    def compute(self) -> anndata.AnnData:
        """Read everything; the same as :meth:`to_memory`."""
        return self.to_memory()

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write an h5ad file.

        A whole data set of which nothing was touched streams from the store in bounded memory;
        anything else is read first.

        Parameters
        ----------
        path
            Where to; a file that is there is replaced.
        """
        if self.is_view or self._is_touched():
            self.to_memory().write_h5ad(path, convert_strings_to_categoricals=False)
            return
        with bar() as progress:
            self._store.native.export(path, "h5ad", True, False, progress)

    def _is_touched(self) -> bool:
        slots = [self._loaded[slot] for slot in _SLOTS if slot in self._loaded]
        in_memory = any(name in self._loaded for name in ("obs", "var", "uns", "raw"))
        return in_memory or any(mapping.touched for mapping in slots)

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


class _ArrayLoader:
    """Reads entries of obsm or varm."""

    def __init__(self, store: Store, slot: str, arrays: frozenset[str]):
        self._store = store
        self._slot = slot
        self._arrays = arrays

    def __call__(self, name: str, rows: Axis) -> Any:
        if name not in self._arrays:
            return subset(read_element(self._store, f"{self._slot}/{name}"), rows)
        values, width = self._store.native.array(self._slot[:3], name, rows.native())
        return values.reshape(len(rows), width)


class _PairsLoader:
    """Reads entries of obsp or varp."""

    def __init__(self, store: Store, slot: str):
        self._store = store
        self._slot = slot

    def __call__(self, name: str, rows: Axis) -> Any:
        return LazyMatrix(self._store, Key(self._slot, name), rows, rows).to_memory()


def unpack_index(index: Any) -> tuple[Any, Any]:
    """Split an index into the selectors of cells and genes."""
    if not isinstance(index, tuple):
        return index, None
    if sum(i is Ellipsis for i in index) > 1:
        raise from_kind("out-of-range", "an index can only have a single ellipsis ('...')")
    without = tuple(i for i in index if i is not Ellipsis)
    if len(index) == 3 and len(without) == 2:
        return without[0], without[1]
    if len(index) == 2:
        return index[0], index[1]
    if len(index) == 1:
        return index[0], None
    raise from_kind("out-of-range", f"{len(index)} indices, but there are cells and genes only")


def lookup_in(index: pd.Index[Any], names: list[str], what: str) -> Positions:
    """Find positions of names as AnnData does.

    Raises
    ------
    UnknownNameError
        For names that are not there, and for several names where names repeat.
    """
    import pandas as pd

    if len(names) == 1 and not index.is_unique:
        # One name may stand for several rows, as in pandas.
        found = np.flatnonzero(index == names[0])
    elif not index.is_unique:
        raise from_kind("ambiguous-name", f"names of {what}s repeat: make them unique first")
    else:
        found = index.get_indexer(pd.Index(names, dtype=object))
    missing = [n for n, i in zip(names, found, strict=False) if i < 0] if len(found) else names
    if missing:
        from difflib import get_close_matches

        some = ", ".join(repr(n) for n in missing[:5])
        close = get_close_matches(missing[0], [str(n) for n in index[:100_000]], n=3)
        hint = f"; did you mean {', '.join(map(repr, close))}?" if close else ""
        count = f" ({len(missing)} in all)" if len(missing) > 5 else ""
        raise from_kind(f"unknown-{what}", f"no {what} {some}{count}{hint}")
    return found.astype(np.int64)


def _categories(frame: pd.DataFrame) -> dict[str, Any]:
    import pandas as pd

    is_categorical = {c: isinstance(frame[c].dtype, pd.CategoricalDtype) for c in frame}
    return {str(c): frame[c].cat.categories for c, yes in is_categorical.items() if yes}


def _without_unused_categories(frame: pd.DataFrame) -> pd.DataFrame:
    import anndata

    if anndata.settings.remove_unused_categories:
        for name in _categories(frame):
            frame[name] = frame[name].cat.remove_unused_categories()
    return frame
