"""Scaling, and residuals of regressions."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from slaf._boundary import Factor
from slaf._errors import invalid
from slaf.integrations._lazy import LazyMatrix
from slaf.integrations._mappings import as_lazy
from slaf.integrations._plan import Step
from slaf.integrations.anndata import LazyAnnData
from slaf.integrations.scanpy._common import (
    changeable,
    column,
    mask_of,
    matrix_of,
    mean_var,
    put_matrix,
    row_groups,
)

if TYPE_CHECKING:
    import pandas as pd


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
        An array beside the cells to scale in place of X, in memory. var stays as it is (scanpy
        writes the means of its columns into var, and fails unless they are as many as the genes).
    mask_obs
        The cells that are scaled and that means and variances are of; others stay as they are.
    """
    import pandas as pd

    adata = changeable(data, "scale", copy)
    if layer is not None and obsm is not None:
        raise invalid("Only one of `layer` and `obsm` can be scaled at a time.")
    mask = mask_of(adata, mask_obs, "obs")
    if obsm is not None:
        value = adata.obsm[obsm]
        if isinstance(value, pd.DataFrame):
            raise invalid(f"obsm[{obsm!r}] is a frame: scale its columns, or set an array")
        matrix = as_lazy(value, value.shape, f"obsm[{obsm!r}]")
        adata.obsm[obsm] = _scaled(matrix, zero_center, max_value, mask)[0].to_memory()
        return adata if copy else None
    names = ("mean", "std")
    if mask_obs is not None:
        of = f"of {mask_obs}" if isinstance(mask_obs, str) else "with mask"
        names = (f"mean {of}", f"std {of}")
    matrix, adata.var[names[0]], adata.var[names[1]] = _scaled(
        matrix_of(adata, layer), zero_center, max_value, mask
    )
    put_matrix(adata, matrix, layer)
    return adata if copy else None


def _scaled(
    matrix: LazyMatrix,
    zero_center: bool,
    max_value: float | None,
    mask: npt.NDArray[np.bool_] | None,
) -> tuple[LazyMatrix, npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """The scaled matrix, and the means and standard deviations of its columns."""
    matrix = matrix.astype(np.float64) if matrix.dtype.kind in "biu" else matrix
    scaled_cells = matrix if mask is None else matrix[mask]
    mean, var = mean_var(scaled_cells.known_columns("squares"), scaled_cells.shape[0])
    std = np.sqrt(var)
    std[std == 0] = 1
    if zero_center:
        if matrix.encoding != "dense":
            message = "zero-centering a sparse array/matrix densifies it."
            warnings.warn(message, UserWarning, stacklevel=3)
            # A sparse matrix less float64 means is no longer of its own type.
            matrix = matrix.astype(np.float64) if mask is None else matrix
        matrix = matrix.densified().combine_in("subtract", mean, mask)
    matrix = matrix.combine_in("divide", std, mask)
    if max_value is not None:
        matrix = matrix.combine_in("minimum", max_value, mask)
        if zero_center:
            matrix = matrix.combine_in("maximum", -max_value, mask)
    return matrix, mean, std


def regress_out(
    adata: LazyAnnData,
    keys: str | Sequence[str],
    *,
    layer: str | None = None,
    n_jobs: int | None = None,
    copy: bool = False,
) -> LazyAnnData | None:
    """Replace values by residuals of a linear regression on columns of obs, lazily.

    As ``scanpy.pp.regress_out``: ordinary least squares with an intercept for each gene on numeric
    keys; on one categorical key, what differs from the mean of the gene in the category. One pass
    computes the coefficients; the lazy matrix of residuals is dense. Its values keep their type on
    independent numeric keys, and otherwise are float64.

    Parameters
    ----------
    adata
        The data set, whose X is changed.
    keys
        Numeric columns of obs, or one categorical column. Columns of strings are made categorical.
        Of keys that depend linearly on each other the least-squares fit of smallest norm is taken.
    layer
        What to use in place of X.
    n_jobs
        Without effect: threads are as many as cores.
    copy
        Whether to change and return a copy.

    Raises
    ------
    InvalidArgumentError
        For cells that have no category or no number (scanpy takes 0 for the mean of the former),
        for a categorical key beside others, and for NaN and infinite values with a categorical key.

    Notes
    -----
    A gene that is the same in all cells stays as it is, unless keys are numeric and independent.
    """
    import pandas as pd

    adata = changeable(adata, "regress_out", copy)
    keys = [keys] if isinstance(keys, str) else list(keys)
    matrix = matrix_of(adata, layer)
    if matrix.dtype.kind in "biu":
        matrix = matrix.astype(np.float32 if matrix.dtype.itemsize <= 4 else np.float64)
    adata.strings_to_categoricals(adata.obs)
    columns = pd.DataFrame({key: column(adata, key, "obs") for key in keys})
    missing = [key for key in keys if columns[key].isna().any()]
    if missing:
        raise invalid(f"cells without a value in obs[{missing[0]!r}]: filter them first")
    categorical = [isinstance(columns[k].dtype, pd.CategoricalDtype) for k in keys]
    if any(categorical):
        if len(keys) > 1:
            raise invalid("If providing categorical variable, only a single one is allowed.")
        result = _less_category_means(matrix, columns[keys[0]])
    else:
        wrong = [k for k in keys if not pd.api.types.is_numeric_dtype(columns[k].dtype)]
        if wrong:
            raise invalid(f"obs[{wrong[0]!r}] is neither numeric nor categorical")
        numbers = columns.to_numpy(dtype=np.float64)
        result = residuals(matrix, np.column_stack([np.ones(adata.n_obs), numbers]))
    put_matrix(adata, result, layer)
    return adata if copy else None


def _less_category_means(matrix: LazyMatrix, labels: pd.Series[Any]) -> LazyMatrix:
    """What the regression on the means of categories leaves: the difference from them.

    The regression of numbers on the means of their groups has intercept 0 and slope 1.
    """
    categorical = labels.cat.remove_unused_categories()
    codes, n = categorical.cat.codes.to_numpy().astype(np.int64), len(categorical.cat.categories)
    matrix = matrix.astype(np.float64)
    moments = matrix.summarize(columns=True, detail="all", groups=row_groups(codes, n)).of_columns()
    means = moments.sum / np.bincount(codes, minlength=n)[:, None]
    if not np.isfinite(means).all():
        raise invalid("regression on categories of a matrix with NaN or infinite values")
    means[:, moments.min.min(axis=0) == moments.max.max(axis=0)] = 0
    one_hot = (codes[:, None] == np.arange(n)).astype(np.float64)
    return matrix.densified().then(Step("product", matrix.dtype, numbers=one_hot, right=means))


def residuals(matrix: LazyMatrix, regressors: npt.NDArray[np.float64]) -> LazyMatrix:
    """``X - R @ C``, where ``C`` are the coefficients of least squares, found in one pass.

    ``C`` is ``inv(R.T @ R) @ R.T @ X``, as in scanpy; where the inverse does not exist,
    ``pinv(R) @ X``, which gives the residuals of scanpy's generalised linear model.
    """
    if np.linalg.matrix_rank(regressors) == regressors.shape[1]:
        left = np.linalg.inv(regressors.T @ regressors) @ regressors.T
        coefficients = left @ matrix.astype(np.float64)
    else:
        matrix = matrix.astype(np.float64)
        left = np.asarray(np.linalg.pinv(regressors), dtype=np.float64)
        summary = matrix.summarize(columns=True, detail="all", left=Factor.of(left.T))
        moments, coefficients = summary.of_columns(), summary.left.reshape(len(left), -1)
        coefficients[:, moments.min == moments.max] = 0
    return matrix.densified().then(
        Step("product", matrix.dtype, numbers=regressors, right=coefficients)
    )
