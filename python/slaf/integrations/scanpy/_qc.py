"""Quality control."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from slaf._boundary import Factor
from slaf._errors import from_kind, invalid
from slaf.integrations._index import lookup_in
from slaf.integrations._workers import on_workers
from slaf.integrations.anndata import LazyAnnData
from slaf.integrations.scanpy._common import checked, column, matrix_of

if TYPE_CHECKING:
    import pandas as pd


def calculate_qc_metrics(
    adata: LazyAnnData,
    *,
    expr_type: str = "counts",
    var_type: str = "genes",
    qc_vars: Collection[str] | str = (),
    percent_top: Collection[int] | None = (50, 100, 200, 500),
    layer: str | None = None,
    use_raw: bool = False,
    inplace: bool = False,
    log1p: bool = True,
    client: Any = None,
) -> tuple[pd.DataFrame, pd.DataFrame] | None:
    """Quality control metrics of cells and genes, in one pass.

    The arguments and results are those of ``scanpy.pp.calculate_qc_metrics`` (scater's
    calculateQCMetrics, McCarthy 2017); explicit zeros count as zeros.

    Parameters
    ----------
    adata
        The data set.
    expr_type, var_type
        Words of the names of the columns.
    qc_vars
        Names of boolean columns of var, such as ``"mt"``, whose share of the counts is wanted.
    percent_top
        For each number n the share of the counts that the n most expressed genes have.
    layer, use_raw
        What to use in place of X. Genes of raw are matched by name: those of the data set get the
        numbers that they have in raw (scanpy goes by position), and totals of cells are over all
        genes of raw.
    inplace
        Whether to put the columns into obs and var, or to return them as two frames.
    log1p
        Whether to add columns of ``log(1 + x)``.
    client
        A ``dask.distributed.Client`` whose workers take the passes over the matrix, each reading
        the store itself. The result is the same, bit by bit.

    Returns
    -------
    ``None``, or a frame of the cells and one of the genes. Of cells: ``n_genes_by_counts`` (int32,
    int64 of a dense X), ``total_counts`` (the type of the sums of X),
    ``pct_counts_in_top_{n}_genes`` (float64, percent), ``total_counts_{v}`` and
    ``pct_counts_{v}``. Of genes:
    ``n_cells_by_counts``, ``mean_counts`` (in the type of X, as in scanpy 1.12; float64 for
    integers), ``pct_dropout_by_counts``, ``total_counts``. Shares of cells without counts are NaN.

    Raises
    ------
    OutOfRangeError
        If ``percent_top`` asks for more genes than there are.
    UnknownNameError
        For a column that is not there. With ``use_raw``, for genes that raw does not have, for
        names that repeat, and for a column that tells nothing of genes that are in raw only.
    """
    import pandas as pd

    adata = checked(adata, "calculate_qc_metrics")
    matrix = on_workers(matrix_of(adata, layer, use_raw), client)
    qc_vars = [qc_vars] if isinstance(qc_vars, str) else list(qc_vars)
    top = sorted(percent_top or ())
    if top and not (top[0] > 0 and top[-1] <= matrix.shape[1]):
        raise from_kind("out-of-range", "Positions outside range of features.")
    of_vars = None
    places = _places_in_raw(adata) if use_raw else None
    if qc_vars:
        chosen = np.stack([_marked(adata, v, places) for v in qc_vars], axis=1)
        of_vars = Factor.of(chosen)
    summary = matrix.summarize(rows=True, columns=True, top=top, dot=of_vars)
    sum_dtype = matrix._sum_dtype()
    totals_of_vars = summary.dot.reshape(matrix.shape[0], len(qc_vars)).T
    if not np.isfinite(totals_of_vars).all():
        # NaN and infinities of other genes are in the product, too.
        totals_of_vars = np.stack([matrix[:, c].known_rows().sum for c in chosen.T])

    def logged(frame: pd.DataFrame, name: str) -> None:
        if log1p:
            frame[f"log1p_{name}"] = np.log1p(frame[name])

    cells, rows = pd.DataFrame(index=adata.obs_names), summary.of_rows()
    cells[name := f"n_{var_type}_by_{expr_type}"] = rows.nonzero.astype(
        np.int64 if matrix.encoding == "dense" else np.int32
    )
    logged(cells, name)
    total = rows.sum.astype(sum_dtype)
    cells[name := f"total_{expr_type}"] = total
    logged(cells, name)
    with np.errstate(invalid="ignore", divide="ignore"):
        for i, n in enumerate(top):
            cells[f"pct_{expr_type}_in_top_{n}_{var_type}"] = summary.top[:, i] / total * 100
        for i, v in enumerate(qc_vars):
            part = totals_of_vars[i].astype(sum_dtype)
            cells[name := f"total_{expr_type}_{v}"] = part
            logged(cells, name)
            cells[f"pct_{expr_type}_{v}"] = part / total * 100

    genes, columns, n = pd.DataFrame(index=adata.var_names), summary.of_columns(), matrix.shape[0]
    columns = columns if places is None else columns.select(places)
    genes[f"n_cells_by_{expr_type}"] = columns.nonzero.astype(np.int64)
    with np.errstate(invalid="ignore"):
        mean = np.true_divide(columns.sum, n).astype(matrix._mean_dtype())
        genes[name := f"mean_{expr_type}"] = mean
        logged(genes, name)
        dropout = (1 - columns.nonzero.astype(np.int64) / n) * 100
        genes[f"pct_dropout_by_{expr_type}"] = dropout
    genes[name := f"total_{expr_type}"] = columns.sum.astype(sum_dtype)
    logged(genes, name)
    if not inplace:
        return cells, genes
    adata.obs[cells.columns] = cells
    adata.var[genes.columns] = genes
    return None


def _places_in_raw(adata: LazyAnnData) -> npt.NDArray[np.int64]:
    """Where raw has the genes of the data set."""
    assert adata.raw is not None
    ours, theirs = adata.var_names, adata.raw.var_names
    if ours.equals(theirs):
        return np.arange(len(ours))
    for names, of in ((ours, "var_names"), (theirs, "raw.var_names")):
        if not names.is_unique:
            message = f"genes of raw are matched by name, and names in {of} repeat"
            raise from_kind("ambiguous-name", message)
    return np.asarray(lookup_in(theirs, list(ours), "gene"))


def _marked(
    adata: LazyAnnData, name: str, places: npt.NDArray[np.int64] | None
) -> npt.NDArray[np.bool_]:
    """Which genes of the matrix a boolean column marks; of raw, if places in it are given."""
    if places is None:
        return _as_bool(column(adata, name, "var"))
    assert adata.raw is not None
    if len(places) == adata.raw.n_vars:
        marked = np.zeros(len(places), dtype=bool)
        marked[places] = _as_bool(column(adata, name, "var"))
        return marked
    if name not in adata.raw.var:
        message = f"no column {name!r} in raw.var, and raw has genes that var does not have"
        raise from_kind("unknown-column", message)
    return _as_bool(adata.raw.var[name])


def _as_bool(values: pd.Series[Any]) -> npt.NDArray[np.bool_]:
    if values.isna().any():
        raise invalid(f"genes without a value in var[{values.name!r}]: fill them first")
    return values.to_numpy().astype(bool)
