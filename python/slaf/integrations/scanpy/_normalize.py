"""Normalisation and logarithm."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from slaf._errors import invalid
from slaf.integrations._lazy import LazyMatrix
from slaf.integrations.anndata import LazyAnnData
from slaf.integrations.scanpy._common import changeable, matrix_of, put_matrix


def normalize_total(
    adata: LazyAnnData,
    *,
    target_sum: float | None = None,
    exclude_highly_expressed: bool = False,
    max_fraction: float = 0.05,
    key_added: str | None = None,
    layer: str | None = None,
    inplace: bool = True,
    copy: bool = False,
) -> LazyAnnData | dict[str, Any] | None:
    """Divide the counts of each cell so that all cells have the same total.

    As ``scanpy.pp.normalize_total``. Totals are over the genes and cells that are there now, and
    are computed now, in one pass (none if they are known); dividing is lazy. Values become
    ``x / (total / target_sum)`` in the type of X (float32 for integers), with scanpy's roundings.
    Cells without counts stay as they are.

    Parameters
    ----------
    adata
        The data set, whose X is changed.
    target_sum
        The total of each cell afterwards; ``None`` for the median of the totals of the cells that
        have counts, as scanpy 1.12 (1.11 takes empty cells into the median of sparse matrices).
    exclude_highly_expressed
        Whether genes that have more than ``max_fraction`` of the counts of any cell are left out
        of the totals. A cell whose total is negative leaves none out.
    max_fraction
        Between 0 and 1.
    key_added
        A column of obs for the divisors.
    layer
        What to use in place of X.
    inplace
        Whether to change the data set, or to return ``{"X": matrix, "norm_factor": divisors}``.
    copy
        Whether to change and return a copy.
    """
    if copy and not inplace:
        raise invalid("`copy=True` cannot be used with `inplace=False`.")
    if not 0 <= max_fraction <= 1:
        raise invalid("Choose max_fraction between 0 and 1.")
    adata = changeable(adata, "normalize_total", copy)
    counts = matrix_of(adata, layer)
    matrix = counts.astype(np.float32) if counts.dtype.kind in "biu" else counts
    totals = counts.known_rows().sum.astype(matrix.dtype)
    if exclude_highly_expressed:
        # In float64, as scanpy compares.
        limits = np.where(totals < 0, np.inf, max_fraction * totals.astype(np.float64))
        above = counts.astype(np.float64).combine("greater", limits[:, None])
        normal = above.known_columns().nonzero == 0
        totals = counts[:, normal].known_rows().sum.astype(matrix.dtype)
    if target_sum is None:
        target_sum = np.median(totals[totals > 0]) if (totals > 0).any() else totals.dtype.type(1)
    divisors = totals / target_sum
    if not (divisors > 0).all():
        warnings.warn("Some cells have zero counts", UserWarning, stacklevel=2)
    safe = np.where(divisors == 0, divisors.dtype.type(1), divisors)
    normalized = matrix.combine("divide", safe.astype(matrix.dtype)[:, None])
    if not inplace:
        return {"X": normalized, "norm_factor": divisors}
    if key_added is not None:
        adata.obs[key_added] = divisors
    put_matrix(adata, normalized, layer)
    return adata if copy else None


def log1p(
    data: LazyAnnData,
    *,
    base: float | None = None,
    copy: bool = False,
    chunked: bool | None = None,
    chunk_size: int | None = None,
    layer: str | None = None,
    obsm: str | None = None,
) -> LazyAnnData | None:
    """``log(1 + x)`` of every value, lazily.

    As ``scanpy.pp.log1p``: in the type of X, float32 for integers; ``uns["log1p"]`` holds the
    base.

    Parameters
    ----------
    data
        The data set, whose X is changed.
    base
        Of the logarithm; ``None`` for the natural one.
    copy
        Whether to change and return a copy.
    chunked, chunk_size
        Without effect: it is lazy.
    layer, obsm
        What to use in place of X; an entry of obsm is in memory and is replaced.
    """
    adata = changeable(data, "log1p", copy)
    if "log1p" in adata.uns_keys():
        warnings.warn("adata.X seems to be already log-transformed.", UserWarning, stacklevel=2)
    if obsm is not None:
        values = np.log1p(np.asarray(adata.obsm[obsm]))
        adata.obsm[obsm] = values if base is None else (values / np.log(base)).astype(values.dtype)
    else:
        matrix = matrix_of(adata, layer)
        matrix = matrix.astype(np.float32) if matrix.dtype.kind in "biu" else matrix
        matrix = matrix.log1p()
        if base is not None:
            matrix = matrix.combine_in("divide", np.log(base))
        put_matrix(adata, matrix, layer)
    adata.uns["log1p"] = {"base": base}
    return adata if copy else None


def sqrt(
    data: LazyAnnData,
    *,
    copy: bool = False,
    chunked: bool = False,
    chunk_size: int | None = None,
) -> LazyAnnData | None:
    """Square root of every value of X, lazily; as ``scanpy.pp.sqrt``.

    Parameters
    ----------
    data
        The data set, whose X is changed.
    copy
        Whether to change and return a copy.
    chunked, chunk_size
        Without effect: it is lazy.
    """
    adata = changeable(data, "sqrt", copy)
    matrix: LazyMatrix = matrix_of(adata).sqrt()
    put_matrix(adata, matrix, None)
    return adata if copy else None
