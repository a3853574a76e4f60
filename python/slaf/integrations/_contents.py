"""The present state of a data set: what the store has, and what was set since."""

from __future__ import annotations

from copy import deepcopy
from functools import partial
from typing import TYPE_CHECKING, Any

from slaf import _frames
from slaf._selectors import Axis
from slaf._store import Store
from slaf.integrations._extras import names_below, read_element
from slaf.integrations._lazy import LazyMatrix
from slaf.integrations._mappings import ArrayLoader, LazyMapping, PairsLoader

if TYPE_CHECKING:
    import pandas as pd

    from slaf.integrations._raw import LazyRaw

SLOTS = ("obsm", "varm", "obsp", "varp")


class Contents:
    """Everything of a data set.

    Frames, names and ``uns`` are read when they are touched. A subset is another ``Contents``:
    what views show does not change under them.
    """

    def __init__(self, store: Store, axes: dict[str, Axis]):
        self.store = store
        # The stored cells and genes that are there.
        self.axes = axes
        # Frames that were read or set, and those that nobody has read more than columns of.
        self.frames: dict[str, pd.DataFrame] = {}
        self.deferred: dict[str, pd.DataFrame] = {}
        self.names: dict[str, pd.Index[Any]] = {}
        self.matrices: dict[str, LazyMatrix] = {}
        self.layers: dict[str, LazyMatrix] = {}
        self.mappings: dict[str, LazyMapping] = {}
        self.uns: dict[str, Any] | None = None
        # What save() wrote of this object, where the store gives it back as another type.
        self.saved: dict[str, Any] = {}
        self.raw: LazyRaw | None = None
        # Whether cells, genes and matrices are those of the store.
        self.is_stored = False
        self.is_subset = False

    @classmethod
    def of_store(cls, store: Store) -> Contents:
        """All that a store has."""
        contents = cls(store, {"obs": store.axis("obs"), "var": store.axis("var")})
        contents.is_stored = True
        for key in store.matrices:
            if key.slot in ("X", "layers"):
                matrix = LazyMatrix.stored(store, key, store.axis("obs"), store.axis("var"))
                (contents.matrices if key.slot == "X" else contents.layers)[key.name or "X"] = (
                    matrix
                )
        for slot in SLOTS:
            axis = contents.axes[slot[:3]]
            if slot.endswith("m"):
                arrays = [a.name for a in store.native.arrays() if a.of == slot[:3]]
                keys = sorted([*arrays, *names_below(store, slot)])
                load = ArrayLoader(store, slot, frozenset(arrays))
                contents.mappings[slot] = LazyMapping(slot, axis, 1, keys, load)
            else:
                keys = [k.name for k in store.matrices if k.slot == slot]
                contents.mappings[slot] = LazyMapping(slot, axis, 2, keys, PairsLoader(store, slot))
        return contents

    def change(self) -> None:
        """Notes that a matrix is no longer what the store has."""
        self.is_stored = False

    def n(self, of: str) -> int:
        """Number of cells or genes."""
        return len(self.axes[of])

    @property
    def X(self) -> LazyMatrix | None:
        """The matrix, if there is one."""
        return self.matrices.get("X")

    def frame(self, of: str) -> pd.DataFrame:
        """The annotation of the cells or genes, which may be changed in place."""
        if of in self.frames:
            return self.frames[of]
        if self.is_subset or not self.store.column_names(of):
            frame = self.rows_of_frame(of, Axis(self.n(of)))
            self.frames[of] = without_unused_categories(frame) if self.is_subset else frame
            return self.frames[of]
        if of not in self.deferred:
            from slaf.integrations._deferred import DeferredFrame, Source

            source = Source(self.store, of, self.axes[of])
            self.deferred[of] = DeferredFrame.of(source, partial(self._loaded, of))
        return self.deferred[of]

    def _loaded(self, of: str) -> None:
        """A deferred frame has become an ordinary one, which may be changed from now on."""
        frame = self.deferred.pop(of)
        # Another may have been set meanwhile.
        self.frames.setdefault(of, frame)

    def rows_of_frame(self, of: str, rows: Axis) -> pd.DataFrame:
        """A copy of some rows of a frame, with all categories, used or not."""
        if of in self.frames:
            return self.frames[of].iloc[rows.indexer()].copy()
        return self.store_frame(of, rows)

    def store_frame(self, of: str, rows: Axis) -> pd.DataFrame:
        """Some rows of a frame as the store has them."""
        info = self.store.native.frame_info(of)
        assert info is not None
        stored = self.axes[of].select(rows.rows)
        columns = self.store.native.columns(of, None, stored.native())
        return _frames.to_pandas(columns, info, is_selection=not stored.is_all)

    def rows_of_names(self, of: str, rows: Axis) -> pd.Index[Any]:
        """Names of some cells or genes."""
        if of in self.frames:
            index: pd.Index[Any] = self.frames[of].index[rows.indexer()]
            return index
        if of in self.names:
            known: pd.Index[Any] = self.names[of][rows.indexer()]
            return known
        stored = self.axes[of].select(rows.rows)
        names = self.store.names(of, stored)
        info = self.store.native.frame_info(of)
        index = _frames.text_index(names, is_selection=not stored.is_all)
        index = index.rename(info.index_name if info else None)
        if rows.is_all:
            self.names[of] = index
        return index

    def columns(self, of: str) -> list[str]:
        """Names of the columns of a frame."""
        if of in self.frames:
            return list(self.frames[of].columns)
        return self.store.column_names(of)

    def get_uns(self) -> dict[str, Any]:
        """Unstructured annotation, which may be changed in place."""
        if self.uns is None:
            self.uns = read_element(self.store, "uns") or {}
        return self.uns

    def copy(self) -> Contents:
        """The same contents, which change independently."""
        other = Contents(self.store, dict(self.axes))
        other.frames = {of: frame.copy() for of, frame in self.frames.items()}
        other.names = dict(self.names)
        other.matrices, other.layers = dict(self.matrices), dict(self.layers)
        for slot, mapping in self.mappings.items():
            other.mappings[slot] = mapping.select(Axis(self.n(slot[:3])))
            other.mappings[slot].changed = mapping.changed
        other.uns = deepcopy(self.uns)
        other.saved = dict(self.saved)
        other.raw = self.raw
        other.is_stored, other.is_subset = self.is_stored, self.is_subset
        return other

    def subset(self, obs: Axis, var: Axis) -> Contents:
        """Some cells and genes; frames and ``uns`` are the caller's to fill in."""
        rows = {"obs": obs, "var": var}
        other = Contents(self.store, {of: self.axes[of].select(rows[of].rows) for of in rows})
        other.is_subset = True
        for of, chosen in rows.items():
            if of in self.frames:
                other.frames[of] = without_unused_categories(self.rows_of_frame(of, chosen))
            elif of in self.names:
                other.names[of] = self.names[of][chosen.indexer()]
        for name, matrix in self.matrices.items():
            other.matrices[name] = matrix.select(obs.rows, var.rows)
        for name, matrix in self.layers.items():
            other.layers[name] = matrix.select(obs.rows, var.rows)
        for slot, mapping in self.mappings.items():
            other.mappings[slot] = mapping.select(rows[slot[:3]])
        return other


def categories(frame: pd.DataFrame) -> dict[str, Any]:
    """The categories of each categorical column."""
    import pandas as pd

    is_categorical = {c: isinstance(frame[c].dtype, pd.CategoricalDtype) for c in frame}
    return {str(c): frame[c].cat.categories for c, yes in is_categorical.items() if yes}


def without_unused_categories(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame, as anndata's setting has it with or without categories that no row has."""
    import anndata

    if anndata.settings.remove_unused_categories:
        for name in categories(frame):
            frame[name] = frame[name].cat.remove_unused_categories()
    return frame
