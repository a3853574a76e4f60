"""Highly variable genes by the variance that is left of counts: the flavour of Seurat v3."""

from __future__ import annotations

import re
import warnings
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from slaf._errors import from_kind, invalid
from slaf.integrations._lazy import LazyMatrix
from slaf.integrations.anndata import LazyAnnData
from slaf.integrations.scanpy._common import as_scanpy_adds, column, mean_var, row_groups

if TYPE_CHECKING:
    import pandas as pd

Vector = npt.NDArray[np.float64]


def seurat_v3(
    adata: LazyAnnData,
    matrix: LazyMatrix,
    flavor: str,
    n_top: int,
    batch_key: str | None,
    check_values: bool,
    span: float,
) -> pd.DataFrame:
    """Genes ranked by the variance of standardised and clipped counts (Stuart 2019).

    Ranks of genes that are equal are those of numpy's ``argsort``, as in scanpy.
    """
    import pandas as pd

    all_columns = matrix.known_columns("squares", signs=check_values)
    if check_values:
        negative = all_columns.nonzero != all_columns.positive
        if negative.any() or all_columns.fractional.any():
            message = f"`{flavor=!r}` expects raw count data, but non-integers were found."
            warnings.warn(message, UserWarning, stacklevel=3)
    means, variances = mean_var(all_columns, matrix.shape[0])
    if batch_key is None:
        normalised = _normalised_variance(matrix, means, variances, span)[None]
    else:
        of_cells = column(adata, batch_key, "obs")
        if of_cells.isna().any():
            raise invalid(f"cells without a batch in obs[{batch_key!r}]: filter them first")
        batches, labels = np.unique(of_cells.to_numpy(), return_inverse=True)
        moments = _moments_of_batches(matrix, labels, len(batches))
        # One cell does not vary: it has no say in the ranks.
        several = np.flatnonzero(np.bincount(labels) > 1)
        if len(several) == 0:
            raise invalid(f"every batch in obs[{batch_key!r}] has one cell")
        normalised = np.stack(
            [_normalised_variance(matrix[labels == b], *moments[b], span) for b in several]
        )

    rank = np.argsort(np.argsort(-normalised, axis=1), axis=1).astype(np.float32)
    taken = rank < n_top
    with warnings.catch_warnings():
        # A gene that no batch took has no rank.
        warnings.simplefilter("ignore", RuntimeWarning)
        median = np.nanmedian(np.where(taken, rank, np.nan), axis=0)
    frame = pd.DataFrame(index=adata.var_names)
    frame["means"], frame["variances"] = means, variances
    n_batches = taken.sum(axis=0)
    frame["highly_variable_nbatches"] = n_batches
    frame["highly_variable_rank"] = median.astype(np.float32)
    frame["variances_norm"] = normalised.mean(axis=0)
    keys = {"highly_variable_rank": True, "highly_variable_nbatches": False}
    if flavor == "seurat_v3_paper":
        keys = dict(reversed(keys.items()))
    table = frame[list(keys)].reset_index(drop=True)
    table = table.sort_values(list(keys), ascending=list(keys.values()), na_position="last")
    chosen = np.zeros(len(frame), dtype=bool)
    chosen[table.index[: int(n_top)]] = True
    frame["highly_variable"] = chosen
    return frame if batch_key is not None else frame.drop(columns="highly_variable_nbatches")


def _moments_of_batches(
    matrix: LazyMatrix, labels: npt.NDArray[np.int64], n_batches: int
) -> list[tuple[Vector, Vector]]:
    """Mean and variance (ddof 1) of genes, for each batch."""
    sizes = np.bincount(labels, minlength=n_batches)
    groups = row_groups(labels, n_batches)
    if _scanpy_is_older_than(1, 12, 2):
        moments = matrix.summarize(columns=True, detail="squares", groups=groups).of_columns()
        return [mean_var(moments.select(b), int(n)) for b, n in enumerate(sizes)]
    whole = as_scanpy_adds(matrix)
    running = whole.summarize(columns=True, running=True, groups=groups).of_running()
    mean, var = running.with_zeros(sizes)
    var *= (sizes / np.where(sizes > 1, sizes - 1, np.nan))[:, None]
    return list(zip(mean, var, strict=True))


def _scanpy_is_older_than(*release: int) -> bool:
    """Whether the scanpy that is installed, if one is, comes before a release."""
    try:
        numbers = re.findall(r"\d+", version("scanpy"))
    except PackageNotFoundError:
        return False
    return tuple(map(int, numbers[: len(release)])) < release


def _normalised_variance(matrix: LazyMatrix, mean: Vector, var: Vector, span: float) -> Vector:
    """Variance of ``(min(x, clip) - mean) / std``, with the std that the mean lets expect."""
    n = matrix.shape[0]
    varies = var > 0
    expected = np.zeros(matrix.shape[1])
    if varies.any():
        expected[varies] = _loess(np.log10(mean[varies]), np.log10(var[varies]), span)
    std = np.sqrt(10**expected)
    limit = std * np.sqrt(n) + mean
    clipped = matrix.astype(np.float64).combine("minimum", limit).known_columns("squares")
    squares = n * mean**2 + clipped.square - 2 * clipped.sum * mean
    return np.asarray(squares / ((n - 1) * std**2))


def _loess(x: npt.NDArray[Any], y: npt.NDArray[Any], span: float) -> npt.NDArray[Any]:
    """Cleveland's local regression of degree 2."""
    try:
        from skmisc.loess import loess
    except ImportError as e:
        message = "Please install skmisc package via `pip install --user scikit-misc`"
        raise from_kind("unsupported-feature", message) from e
    # With fewer neighbours than coefficients it writes beyond its memory.
    if len(x) * span < 3:
        few = f"{len(x)} genes that vary are too few for a local regression with {span=}"
        raise invalid(f"{few}: take a larger span")
    model = loess(x, y, span=span, degree=2)
    try:
        model.fit()
    except ValueError as e:
        # skmisc gives bytes.
        told = e.args[0].decode() if e.args and isinstance(e.args[0], bytes) else e
        message = f"the local regression of variances on means failed: {told}"
        raise invalid(f"{message}; take a larger span, or filter genes") from e
    fitted: npt.NDArray[Any] = model.outputs.fitted_values
    return fitted
