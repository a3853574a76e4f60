"""Filters of cells and genes."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from slaf._errors import invalid
from slaf.integrations.anndata import LazyAnnData
from slaf.integrations.scanpy._common import changeable, checked, matrix_of

Filtered = tuple[npt.NDArray[np.bool_], npt.NDArray[Any]]


def filter_cells(
    data: LazyAnnData,
    *,
    min_counts: int | None = None,
    min_genes: int | None = None,
    max_counts: int | None = None,
    max_genes: int | None = None,
    inplace: bool = True,
    copy: bool = False,
) -> LazyAnnData | Filtered | None:
    """Keep the cells with enough, or not too many, counts or expressed genes.

    As ``scanpy.pp.filter_cells``. Bounds are inclusive; a gene is expressed where its value is
    above zero. Totals that were computed before are not computed again.

    Parameters
    ----------
    data
        The data set, which is changed: cells that do not pass are gone, in every slot.
    min_counts, min_genes, max_counts, max_genes
        The bound; exactly one.
    inplace
        Whether to change the data set, or to return what was found.
    copy
        Whether to change and return a copy.

    Returns
    -------
    ``None``, the copy, or the mask of cells to keep and the number for each cell. In place,
    ``obs["n_counts"]`` or ``obs["n_genes"]`` holds the number.
    """
    bounds = {"counts": (min_counts, max_counts), "genes": (min_genes, max_genes)}
    return _filter(data, "filter_cells", "obs", bounds, inplace, copy)


def filter_genes(
    data: LazyAnnData,
    *,
    min_counts: int | None = None,
    min_cells: int | None = None,
    max_counts: int | None = None,
    max_cells: int | None = None,
    inplace: bool = True,
    copy: bool = False,
) -> LazyAnnData | Filtered | None:
    """Keep the genes with enough, or not too many, counts or cells that express them.

    As ``scanpy.pp.filter_genes``; see :func:`filter_cells`.

    Parameters
    ----------
    data
        The data set, which is changed.
    min_counts, min_cells, max_counts, max_cells
        The bound; exactly one.
    inplace, copy
        As in :func:`filter_cells`.

    Returns
    -------
    ``None``, the copy, or the mask of genes to keep and the number for each gene. In place,
    ``var["n_counts"]`` or ``var["n_cells"]`` holds the number.
    """
    bounds = {"counts": (min_counts, max_counts), "cells": (min_cells, max_cells)}
    return _filter(data, "filter_genes", "var", bounds, inplace, copy)


def _filter(
    data: LazyAnnData,
    function: str,
    of: str,
    bounds: dict[str, tuple[int | None, int | None]],
    inplace: bool,
    copy: bool,
) -> LazyAnnData | Filtered | None:
    """Filter by the one bound that is given: of the counts, or of what is expressed."""
    given = [(what, *b) for what, b in bounds.items() for side in b if side is not None]
    if len(given) != 1:
        names = ", ".join(f"`{side}_{what}`" for side in ("min", "max") for what in bounds)
        raise invalid(f"Only provide one of the optional parameters {names} per call.")
    what, low, high = given[0]
    matrix = matrix_of(checked(data, function))
    find = matrix.known_rows if of == "obs" else matrix.known_columns
    known = find(signs=what != "counts")
    if what == "counts":
        number = known.sum.astype(matrix._sum_dtype())
    else:
        number = known.positive.astype(np.int64)
    keep: npt.NDArray[np.bool_] = number <= high if low is None else number >= low
    if not inplace:
        return keep, number
    adata = changeable(data, function, copy)
    if of == "obs":
        adata.obs[f"n_{what}"] = number
    else:
        adata.var[f"n_{what}"] = number
    if not keep.all():
        subset = adata._inplace_subset_obs if of == "obs" else adata._inplace_subset_var
        subset(keep)
    return adata if copy else None
