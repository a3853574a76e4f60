"""Aggregates of groups of cells."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from slaf._errors import from_kind, invalid
from slaf.integrations.anndata import LazyAnnData
from slaf.integrations.scanpy._common import checked, mask_of, matrix_of

if TYPE_CHECKING:
    import anndata

FUNCTIONS = ("sum", "mean", "var", "count_nonzero")


def aggregate(
    adata: LazyAnnData,
    by: str | Collection[str],
    func: str | Iterable[str],
    *,
    axis: str | int | None = None,
    mask: npt.NDArray[np.bool_] | str | None = None,
    dof: int = 1,
    layer: str | None = None,
    obsm: str | None = None,
    varm: str | None = None,
) -> anndata.AnnData:
    """Sum, mean, variance or number of nonzero values of each group of cells: pseudobulk.

    As ``scanpy.get.aggregate`` of 1.12: ``obs["n_obs_aggregated"]`` has the number of cells of
    each group, a masked cell is in no group, and the variance of one cell is NaN with a
    RuntimeWarning (1.11 divides masked means by the sizes of whole groups).

    Parameters
    ----------
    adata
        The data set.
    by
        One or several columns of obs; combinations that no cell has are left out.
    func
        One or several of ``"sum"``, ``"mean"``, ``"var"`` and ``"count_nonzero"``.
    axis
        ``"obs"`` or 0.
    mask
        The cells to take: an array, or the name of a column.
    dof
        Degrees of freedom that the variance loses.
    layer
        What to use in place of X.
    obsm, varm
        Not offered.

    Returns
    -------
    anndata.AnnData
        In memory, groups x genes: a dense float64 layer for each function, without X. One pass,
        two with ``"var"``.
    """
    adata = checked(adata, "aggregate")
    if axis not in (None, "obs", 0) or obsm is not None or varm is not None:
        message = "aggregate of genes, obsm or varm is not offered: use scanpy's"
        raise from_kind("unsupported-feature", f"{message} with adata.to_memory()")
    functions = [func] if isinstance(func, str) else list(func)
    unknown = [f for f in functions if f not in FUNCTIONS]
    if unknown:
        raise invalid(f"func {unknown} is not one of {FUNCTIONS}")
    labels, groups = _groups(adata, [by] if isinstance(by, str) else list(by))
    kept = mask_of(adata, mask, "obs")
    if kept is not None:
        labels = np.where(kept, labels, -1)
    n_groups = len(groups)
    sizes = np.bincount(labels[labels >= 0], minlength=n_groups)
    layers = _layers(adata, layer, labels, sizes, functions, dof)
    import anndata

    groups["n_obs_aggregated"] = sizes
    return anndata.AnnData(layers=layers, obs=groups, var=adata.var.copy())


def _groups(adata: LazyAnnData, by: list[str]) -> tuple[npt.NDArray[np.int64], pd.DataFrame]:
    """The group of each cell, -1 for none, and the groups that there are, in order."""
    columns = [pd.Categorical(adata.obs[key]).remove_unused_categories() for key in by]
    codes = np.stack([c.codes.astype(np.int64) for c in columns])
    shape = [len(c.categories) for c in columns]
    missing = (codes < 0).any(axis=0)
    combined = np.ravel_multi_index(tuple(np.maximum(codes, 0)), shape)
    present, labels = np.unique(combined[~missing], return_inverse=True)
    all_labels = np.full(adata.n_obs, -1, dtype=np.int64)
    all_labels[~missing] = labels
    of_groups = np.unravel_index(present, shape)
    data = {
        key: pd.Categorical.from_codes(code, column.categories)
        for key, code, column in zip(by, of_groups, columns, strict=True)
    }
    texts = [[str(value) for value in column] for column in data.values()]
    index = pd.Index(["_".join(parts) for parts in zip(*texts, strict=True)], dtype=object)
    return all_labels, pd.DataFrame(data, index=index)


def _layers(
    adata: LazyAnnData,
    layer: str | None,
    labels: npt.NDArray[np.int64],
    sizes: npt.NDArray[np.int64],
    functions: list[str],
    dof: int,
) -> dict[str, Any]:
    matrix, n_groups = matrix_of(adata, layer), len(sizes)
    groups = (np.where(labels < 0, n_groups, labels).astype(np.uint32), n_groups)
    request: dict[str, Any] = {"groups": groups}
    if "var" in functions:
        # Distances to the mean of all cells lose nothing where the mean is large.
        mean = np.true_divide(matrix.known_columns().sum, max(matrix.shape[0], 1))
        request["centres"] = centre = mean.astype(np.float64)
        request["detail"] = "squares"
    moments = matrix.summarize(columns=True, **request).of_columns()
    n = sizes[:, None]
    with np.errstate(invalid="ignore", divide="ignore"):
        means = np.true_divide(moments.sum, n)
        layers = {
            "sum": moments.sum.astype(np.float64),
            "mean": means,
            "count_nonzero": moments.nonzero.astype(np.float64),
        }
        if "var" in functions:
            zeros = n - moments.nonzero.astype(np.int64)
            squares = moments.square + zeros * centre**2 - n * (means - centre) ** 2
            layers["var"] = np.maximum(squares, 0) / np.where(n > dof, n - dof, np.nan)
            if (sizes <= dof).any():
                message = "groups with as few cells as degrees of freedom have no variance"
                warnings.warn(message, RuntimeWarning, stacklevel=4)
    return {name: layers[name] for name in functions}
