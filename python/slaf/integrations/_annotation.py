"""The cells and genes of a data set: how many there are, their names and their annotation."""

from __future__ import annotations

import sys
from abc import abstractmethod
from typing import TYPE_CHECKING, Any

from slaf._errors import from_kind, invalid
from slaf._selectors import Axis
from slaf._store import WHAT
from slaf.integrations._contents import Contents, categories, without_unused_categories
from slaf.integrations._foreign import is_concat, needs_matrix, not_in_memory

if TYPE_CHECKING:
    import pandas as pd


class Annotation:
    """What a :class:`LazyAnnData` tells of its axes."""

    _contents: Contents
    # The cells and genes of the contents that a view shows; `None` for all of them.
    _rows: dict[str, Axis] | None
    # Frames that a view has read, and the categories that they had before unused ones were dropped.
    _frames: dict[str, pd.DataFrame]
    _categories: dict[str, dict[str, Any]]

    @abstractmethod
    def _make_actual(self, what: str) -> None:
        """Before something is set: a view becomes an object of its own."""

    def _axis(self, of: str) -> Axis:
        return Axis(self._contents.n(of)) if self._rows is None else self._rows[of]

    # Shape and names

    @property
    def n_obs(self) -> int:
        """Number of cells."""
        return len(self._axis("obs"))

    @property
    def n_vars(self) -> int:
        """Number of genes."""
        return len(self._axis("var"))

    @property
    def shape(self) -> tuple[int, int]:
        """Number of cells and number of genes."""
        if is_concat(sys._getframe(1)):
            # It drops a lazy matrix or makes it dense; this is what it asks for first.
            raise not_in_memory("anndata.concat")
        return self.n_obs, self.n_vars

    def __len__(self) -> int:
        return self.n_obs

    @property
    def obs_names(self) -> pd.Index[Any]:
        """Names of the cells."""
        return self._names("obs")

    @obs_names.setter
    def obs_names(self, names: Any) -> None:
        self._set_names("obs", names)

    @property
    def var_names(self) -> pd.Index[Any]:
        """Names of the genes."""
        return self._names("var")

    @var_names.setter
    def var_names(self, names: Any) -> None:
        self._set_names("var", names)

    def _names(self, of: str) -> pd.Index[Any]:
        # The index of a loaded frame may have been replaced by the user.
        if of in self._frames:
            return self._frames[of].index
        return self._contents.rows_of_names(of, self._axis(of))

    def _set_names(self, of: str, names: Any) -> None:
        import pandas as pd

        index = names if isinstance(names, pd.Index) else pd.Index(list(names))
        if len(index) != len(self._axis(of)):
            raise invalid(f"{len(index)} names for {len(self._axis(of))} {WHAT[of]}s")
        self._make_actual(f"{of}_names")
        self._frame(of).index = index

    def obs_names_make_unique(self, join: str = "-") -> None:
        """Append numbers to repeated names of cells, as AnnData does."""
        self._make_unique("obs", join)

    def var_names_make_unique(self, join: str = "-") -> None:
        """Append numbers to repeated names of genes, as AnnData does."""
        self._make_unique("var", join)

    def _make_unique(self, of: str, join: str) -> None:
        from anndata.utils import make_index_unique

        names = self._names(of)
        if not names.is_unique:
            self._set_names(of, make_index_unique(names, join))

    # Frames

    @property
    def obs(self) -> pd.DataFrame:
        """Annotation of the cells."""
        return self._frame("obs")

    @obs.setter
    def obs(self, frame: pd.DataFrame) -> None:
        self._set_frame("obs", frame)

    @property
    def var(self) -> pd.DataFrame:
        """Annotation of the genes."""
        return self._frame("var")

    @var.setter
    def var(self, frame: pd.DataFrame) -> None:
        self._set_frame("var", frame)

    def _frame(self, of: str) -> pd.DataFrame:
        if self._rows is None:
            return self._contents.frame(of)
        if of not in self._frames:
            full = self._contents.rows_of_frame(of, self._axis(of))
            self._categories[of] = categories(full)
            self._frames[of] = without_unused_categories(full)
        return self._frames[of]

    def _set_frame(self, of: str, frame: Any) -> None:
        import pandas as pd

        if not isinstance(frame, pd.DataFrame):
            raise invalid(f"{of} must be a DataFrame, not a {type(frame).__name__}")
        if len(frame) != len(self._axis(of)):
            raise invalid(f"{of} needs {len(self._axis(of))} rows, not {len(frame)}")
        self._make_actual(of)
        self._contents.frames[of] = frame.copy()

    def rename_categories(self, key: str, categories: Any) -> None:
        """Rename the categories of a column of obs or var.

        Parameters
        ----------
        key
            Name of the column.
        categories
            New names, in the order of the old ones, or a dict from old to new ones.
        """
        of = "obs" if key in self.obs_keys() else "var"
        if key not in self._frame(of):
            raise from_kind("unknown-column", f"no column {key!r} in obs and var")
        self._make_actual(of)
        self._frame(of)[key] = self._frame(of)[key].cat.rename_categories(categories)

    def strings_to_categoricals(self, df: pd.DataFrame | None = None) -> None:
        """Make columns of repeated strings categorical, as AnnData does."""
        from natsort import natsorted
        from pandas.api.types import infer_dtype

        for frame in [self._frame("obs"), self._frame("var")] if df is None else [df]:
            for name in frame:
                if infer_dtype(frame[name], skipna=True) != "string":
                    continue
                column = frame[name].astype("category")
                if len(column.cat.categories) < len(column):
                    in_order = natsorted(column.cat.categories)
                    frame[name] = column.cat.reorder_categories(in_order)

    def _sanitize(self) -> None:
        """What scanpy's functions begin with."""
        if needs_matrix(sys._getframe(1)):
            raise not_in_memory("scanpy")
        self.strings_to_categoricals()

    def obs_keys(self) -> list[str]:
        """Names of the columns of :attr:`obs`."""
        return self._frame_keys("obs")

    def var_keys(self) -> list[str]:
        """Names of the columns of :attr:`var`."""
        return self._frame_keys("var")

    def _frame_keys(self, of: str) -> list[str]:
        return list(self._frames[of].columns) if of in self._frames else self._contents.columns(of)
