"""Scaling, and residuals of regressions."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from slaf._errors import from_kind, invalid
from slaf.integrations._lazy import LazyMatrix
from slaf.integrations._plan import Step
from slaf.integrations.anndata import LazyAnnData
from slaf.integrations.scanpy._common import changeable, mask_of, matrix_of, mean_var, put_matrix


def scale(
    data: LazyAnnData,
    *,
    zero_center: bool = True,
    max_value: float | None = None,
    copy: bool = False,
    layer: str | None = None,
    obsm: str | None = None,
    mask_obs: npt.NDArray[np.bool_] | str | None = None,
) -> LazyAnnData | None:
    """Scale genes to unit variance, and to zero mean, lazily.

    As ``scanpy.pp.scale``: means and variances (ddof 1) take one pass; a variance of 0 counts as
    1. Integers become float64, and so does a sparse matrix with ``zero_center``, which makes the
    lazy matrix dense: computing it takes the memory of a dense matrix, and reductions of it do
    not.

    Parameters
    ----------
    data
        The data set, whose X is changed; ``var["mean"]`` and ``var["std"]`` are set.
    zero_center
        Whether to subtract means.
    max_value
        Values are clipped to this afterwards, and with ``zero_center`` to its negative.
    copy
        Whether to change and return a copy.
    layer
        What to use in place of X.
    obsm
        Not offered.
    mask_obs
        The cells that are scaled and that means and variances are of; others stay as they are.
    """
    if obsm is not None:
        message = "scale of an obsm is not offered: use scanpy's with adata.to_memory()"
        raise from_kind("unsupported-feature", message)
    adata = changeable(data, "scale", copy)
    names = ("mean", "std")
    if mask_obs is not None:
        of = f"of {mask_obs}" if isinstance(mask_obs, str) else "with mask"
        names = (f"mean {of}", f"std {of}")
    mask = mask_of(adata, mask_obs, "obs")
    matrix = matrix_of(adata, layer)
    matrix = matrix.astype(np.float64) if matrix.dtype.kind in "biu" else matrix
    scaled_cells = matrix if mask is None else matrix[mask]
    mean, var = mean_var(scaled_cells.known_columns("squares"), scaled_cells.shape[0])
    std = np.sqrt(var)
    std[std == 0] = 1
    if zero_center:
        if matrix.encoding != "dense":
            message = "zero-centering a sparse array/matrix densifies it."
            warnings.warn(message, UserWarning, stacklevel=2)
            # A sparse matrix less float64 means is no longer of its own type.
            matrix = matrix.astype(np.float64) if mask is None else matrix
        matrix = matrix.densified().combine_in("subtract", mean, mask)
    matrix = matrix.combine_in("divide", std, mask)
    if max_value is not None:
        matrix = matrix.combine_in("minimum", max_value, mask)
        if zero_center:
            matrix = matrix.combine_in("maximum", -max_value, mask)
    adata.var[names[0]], adata.var[names[1]] = mean, std
    put_matrix(adata, matrix, layer)
    return adata if copy else None


def regress_out(
    adata: LazyAnnData,
    keys: str | Sequence[str],
    *,
    layer: str | None = None,
    n_jobs: int | None = None,
    copy: bool = False,
) -> LazyAnnData | None:
    """Replace values by residuals of a linear regression on columns of obs, lazily.

    As ``scanpy.pp.regress_out`` with numeric keys: ordinary least squares with an intercept for
    each gene. One pass computes the coefficients; the lazy matrix of residuals is dense.

    Parameters
    ----------
    adata
        The data set, whose X is changed.
    keys
        Numeric columns of obs.
    layer
        What to use in place of X.
    n_jobs
        Without effect: threads are as many as cores.
    copy
        Whether to change and return a copy.

    Raises
    ------
    UnsupportedError
        For a categorical key, and for keys that depend linearly on each other: scanpy fits a
        generalised linear model to these.
    """
    adata = changeable(adata, "regress_out", copy)
    keys = [keys] if isinstance(keys, str) else list(keys)
    matrix = matrix_of(adata, layer)
    if matrix.dtype.kind in "biu":
        matrix = matrix.astype(np.float32 if matrix.dtype.itemsize <= 4 else np.float64)
    columns = adata.obs[keys]
    categorical = [isinstance(columns[k].dtype, pd.CategoricalDtype) for k in keys]
    if any(categorical):
        if len(keys) > 1:
            raise invalid("If providing categorical variable, only a single one is allowed.")
        message = f"regress_out on the categories of {keys[0]!r} is not offered: use scanpy's"
        raise from_kind("unsupported-feature", f"{message} with adata.to_memory()")
    regressors = np.column_stack([np.ones(adata.n_obs), columns.to_numpy(dtype=np.float64)])
    put_matrix(adata, residuals(matrix, regressors), layer)
    return adata if copy else None


def residuals(matrix: LazyMatrix, regressors: npt.NDArray[np.float64]) -> LazyMatrix:
    """``X - R @ inv(R.T @ R) @ R.T @ X``, with the product of R and X taken in one pass."""
    gram = regressors.T @ regressors
    if np.linalg.det(gram) == 0:
        message = "the keys depend linearly on each other: use scanpy's with adata.to_memory()"
        raise from_kind("unsupported-feature", message)
    coefficients = np.linalg.inv(gram) @ (regressors.T @ matrix.astype(np.float64))
    return matrix.densified().then(
        Step("product", matrix.dtype, numbers=regressors, right=coefficients)
    )
