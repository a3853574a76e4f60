"""What the functions share: where their matrix is, and where results go."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from slaf._boundary import Labels
from slaf._errors import from_kind, invalid
from slaf.integrations._lazy import LazyMatrix
from slaf.integrations._statistics import Moments
from slaf.integrations.anndata import LazyAnnData

if TYPE_CHECKING:
    import pandas as pd

#: What scanpy has no function for.
NOT_OF_SCANPY = ("annotate", "label_transfer", "pseudobulk")

#: Statistics of more groups x genes than this are found some genes at a time.
AT_ONCE = 1 << 23


def checked(adata: Any, what: str) -> LazyAnnData:
    """The argument, if it is a lazy AnnData."""
    if not isinstance(adata, LazyAnnData):
        instead = "call scanpy's"
        if what in NOT_OF_SCANPY:
            instead = "make a store: SLAFConverter().convert_anndata(adata, path)"
        raise invalid(
            f"{what} of slaf takes what read_slaf() gives, not {type(adata).__name__}; for an "
            f"AnnData in memory {instead}"
        )
    lazy: LazyAnnData = adata
    return lazy


def changeable(adata: Any, what: str, copy: bool = False) -> LazyAnnData:
    """The object to change: the argument or its copy, no view."""
    lazy = checked(adata, what)
    if copy:
        return lazy.copy()
    if lazy.is_view:
        warnings.warn("Received a view of an AnnData. Making a copy.", UserWarning, stacklevel=3)
        lazy._become_actual()
    return lazy


def matrix_of(adata: LazyAnnData, layer: str | None = None, use_raw: bool = False) -> LazyMatrix:
    """X, a layer, or X of raw."""
    if use_raw and layer is not None:
        raise invalid(f"Cannot use expression from both layer and raw: {use_raw=!r}, {layer=!r}")
    if use_raw:
        if adata.raw is None:
            raise invalid("`use_raw=True`, but there is no raw: set adata.raw first")
        return adata.raw.X
    if layer is not None:
        return adata.layers[layer]
    if adata.X is None:
        raise invalid("the data set has no X; name a layer")
    return adata.X


def put_matrix(adata: LazyAnnData, matrix: LazyMatrix, layer: str | None) -> None:
    """Replace X or a layer."""
    if layer is None:
        adata.X = matrix
    else:
        adata.layers[layer] = matrix


def mean_var(moments: Moments, n: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Mean and variance (ddof 1, but of one value 0) of columns of ``n`` values.

    The formula is ``E[x^2] - E[x]^2`` in float64, as in ``scanpy.preprocessing._utils``.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.true_divide(moments.sum, n)
        var = moments.square / n - mean**2
    return mean, var if n == 1 else var * (n / (n - 1))


def row_groups(labels: npt.NDArray[np.integer[Any]], n: int) -> Labels:
    """Groups as :meth:`Statistics.summarize` takes them, of labels that are -1 for no group."""
    return Labels(np.where(labels < 0, n, labels).astype(np.uint32), n)


def some_columns(matrix: LazyMatrix, n_groups: int) -> Iterator[LazyMatrix]:
    """The columns of a matrix in pieces for statistics of so many groups; at least one piece."""
    step = max(AT_ONCE // max(n_groups, 1), 1)
    for start in range(0, max(matrix.shape[1], 1), step):
        yield matrix[:, start : start + step]


def as_scanpy_adds(matrix: LazyMatrix) -> LazyMatrix:
    """The matrix with the zeros stored that scanpy's running means count one by one."""
    return matrix.densified() if matrix.encoding == "dense" else matrix


def column(adata: LazyAnnData, name: str, of: str) -> pd.Series[Any]:
    """A column of obs or var.

    Raises
    ------
    UnknownNameError
        If there is none of that name.
    """
    frame = adata.obs if of == "obs" else adata.var
    if name not in frame:
        raise from_kind("unknown-column", f"no column {name!r} in {of}; there are {list(frame)}")
    return frame[name]


def mask_of(adata: LazyAnnData, mask: Any, of: str) -> npt.NDArray[np.bool_] | None:
    """A mask along an axis: an array, or the name of a column of booleans."""
    if mask is None:
        return None
    frame, n = (adata.obs, adata.n_obs) if of == "obs" else (adata.var, adata.n_vars)
    if isinstance(mask, str):
        if mask not in frame:
            raise invalid(f"Did not find `adata.{of}[{mask!r}]`.")
        mask = frame[mask].to_numpy()
    array = np.asarray(mask)
    if array.shape != (n,):
        raise invalid(f"The shape of the mask {array.shape} does not match the data ({n},)")
    if array.dtype != np.bool_:
        raise invalid("The mask must be a boolean array")
    return array


def axis_name(axis: Any) -> str:
    """``"obs"`` or ``"var"``, of what scanpy takes for an axis."""
    if axis in (0, "obs"):
        return "obs"
    if axis in (1, "var"):
        return "var"
    raise invalid(f"`axis` must be 'obs', 0, 'var' or 1, not {axis!r}")
