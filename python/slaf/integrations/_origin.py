"""What of a store a lazy AnnData shows, for readers that go to the store themselves."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any, NamedTuple

from slaf._errors import invalid
from slaf._selectors import Axis
from slaf._store import Key, Store
from slaf.integrations._plan import Stored

if TYPE_CHECKING:
    import pandas as pd

    from slaf import _slaf
    from slaf.integrations.anndata import LazyAnnData


class Origin(NamedTuple):
    """Stored rows and columns."""

    store: Store
    cells: Axis
    genes: Axis


def origin(adata: LazyAnnData, key: Key) -> Origin:
    """Give the stored cells and genes that a matrix of a lazy AnnData shows.

    Raises
    ------
    InvalidArgumentError
        If the matrix is no longer what the store has.
    """
    matrix = adata.X if key.slot == "X" else adata.layers.get(key.name)
    name = f"{key.slot}[{key.name!r}]" if key.name else key.slot
    if matrix is None:
        adata._store.matrix(key)
        raise invalid(f"{name} was removed from the lazy AnnData: pass SLAFArray to load it")
    source = matrix._source
    if matrix._steps or not isinstance(source, Stored) or source._key != key:
        raise invalid(
            f"{name} of the lazy AnnData was changed in memory, and a loader reads the store: pass "
            f"SLAFArray({adata.filename!r}) to load what is stored, with normalize= and log1p= of "
            "the loader, or write the data and convert them"
        )
    return Origin(source._store, source._rows, source._cols)


def measured_in(adata: LazyAnnData) -> _slaf.Measured | None:
    """Give which genes were measured in which cells, for a store that is made of a lazy AnnData.

    ``None`` where there is nothing to tell; with a warning, where X was changed so that zeros of
    genes that were not measured may be values.
    """
    known = adata._store.native.measured_of(
        adata._axis("obs").native(), adata._axis("var").native()
    )
    X = adata.X
    if known is None or X is None:
        return known
    source, steps = X._source, [step.kind for step in X._steps]
    is_stored = isinstance(source, Stored) and source._key == Key("X")
    if is_stored and not {"densify", "product"} & set(steps):
        return known
    warnings.warn(
        "which genes were measured in which cells is not kept: X was changed in memory, so that "
        "what was zero may have values",
        UserWarning,
        stacklevel=3,
    )
    return None


def changed(adata: LazyAnnData, of: str) -> list[str]:
    """Name the columns of obs or var that are not as stored, the index as ``"index"``.

    Frames that nobody has touched are not read.
    """
    if of not in adata._frames and of not in adata._contents.frames:
        return []
    frame = adata.obs if of == "obs" else adata.var
    contents = adata._contents
    stored = contents.store_frame(of, adata._axis(of))
    names = [] if list(frame.index) == list(stored.index) else ["index"]
    for column in frame.columns:
        if column not in stored.columns or not _same(frame[column], stored[column]):
            names.append(str(column))
    return names


def _same(one: pd.Series[Any], other: pd.Series[Any]) -> bool:
    """Whether values are equal, whatever categories no row has."""
    a, b = (s.astype(object).reset_index(drop=True) for s in (one, other))
    return bool(((a == b) | (a.isna() & b.isna())).fillna(False).all())
