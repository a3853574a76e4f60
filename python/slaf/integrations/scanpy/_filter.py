"""Filters of cells and genes."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from slaf._errors import invalid
from slaf.integrations._lazy import LazyMatrix
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
    what, low, high = _only_bound(bounds, "`min_counts`, `min_genes`, `max_counts`, `max_genes`")
    matrix = matrix_of(checked(data, "filter_cells"))
    rows = matrix.known_rows()
    if what == "counts":
        number = rows.sum.astype(matrix._sum_dtype())
    else:
        number = rows.positive.astype(np.int64)
    keep = number >= low if low is not None else number <= high
    if not inplace:
        return keep, number
    adata = changeable(data, "filter_cells", copy)
    adata.obs[f"n_{what}"] = number
    if not keep.all():
        adata._inplace_subset_obs(keep)
    return adata if copy else None


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
    what, low, high = _only_bound(bounds, "`min_counts`, `min_cells`, `max_counts`, `max_cells`")
    number = _per_gene(matrix_of(checked(data, "filter_genes")), what)
    keep = number >= low if low is not None else number <= high
    if not inplace:
        return keep, number
    adata = changeable(data, "filter_genes", copy)
    adata.var[f"n_{what}"] = number
    if not keep.all():
        adata._inplace_subset_var(keep)
    return adata if copy else None


def _only_bound(
    bounds: dict[str, tuple[int | None, int | None]], names: str
) -> tuple[str, Any, Any]:
    given = [(what, *b) for what, b in bounds.items() for side in b if side is not None]
    if len(given) != 1:
        raise invalid(f"Only provide one of the optional parameters {names} per call.")
    return given[0]


def _per_gene(matrix: LazyMatrix, what: str) -> npt.NDArray[Any]:
    columns = matrix.known_columns()
    if what == "counts":
        return columns.sum.astype(matrix._sum_dtype())
    return columns.positive.astype(np.int64)
