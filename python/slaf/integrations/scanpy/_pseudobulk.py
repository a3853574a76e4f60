"""Sums of counts of groups of cells, for tests that take samples and not cells for replicates."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from slaf._boundary import Labels
from slaf._errors import invalid
from slaf._numbers import whole
from slaf.integrations._lazy import LazyMatrix
from slaf.integrations._workers import on_workers
from slaf.integrations.anndata import LazyAnnData
from slaf.integrations.scanpy._aggregate import groups_of
from slaf.integrations.scanpy._common import (
    checked,
    column,
    matrix_of,
    row_groups,
    some_columns,
)

if TYPE_CHECKING:
    import anndata
    import pandas as pd


def pseudobulk(
    adata: LazyAnnData,
    by: str | Collection[str],
    *,
    layer: str | None = None,
    use_raw: bool = False,
    func: Literal["sum", "mean"] = "sum",
    min_cells: int = 1,
    client: Any = None,
) -> anndata.AnnData:
    """Add up the counts of each combination of sample and group: what DESeq2 and edgeR take.

    One pass over the cells, in memory that does not grow with the number of values.

    Parameters
    ----------
    adata
        The data set. Give it counts, not logarithms.
    by
        One or several columns of obs, such as ``["donor", "cell_type"]``. Cells without a value in
        one of them are in no group.
    layer, use_raw
        What to use in place of X.
    func
        ``"sum"`` or ``"mean"``.
    min_cells
        Combinations of fewer cells are left out, and always those without any.
    client
        A ``dask.distributed.Client`` whose workers take the passes over the matrix, each reading
        the store itself. The result is the same, bit by bit.

    Returns
    -------
    anndata.AnnData
        In memory, combinations x genes, named by their values joined with ``"_"``. X is a dense
        array: sums of whole numbers are int64 (also where those are stored as floats; of uint64
        they are uint64), other sums and means float64. obs has the columns of ``by`` (categorical),
        ``n_cells`` (int64), and the other columns of obs that have a single value in each
        combination, such as the age or the treatment of a donor; var is that of the data set.

    Raises
    ------
    InvalidArgumentError
        For another function, and where a sum is beyond int64.

    Examples
    --------
    >>> from slaf.integrations import read_slaf
    >>> from slaf.integrations import scanpy as slaf_sc
    >>> bulk = slaf_sc.get.pseudobulk(read_slaf(store_path), "batch")
    >>> bulk.to_df()
        gene0  gene1  gene2  gene3
    b1      8     11      9      7
    b2      5      0      6      0
    >>> bulk.obs["n_cells"].to_dict()
    {'b1': 4, 'b2': 2}
    """
    import anndata

    adata = checked(adata, "pseudobulk")
    if func not in ("sum", "mean"):
        raise invalid(f"func {func!r} is neither 'sum' nor 'mean'")
    min_cells = whole("min_cells", min_cells, 0, (1 << 63) - 1)
    if not isinstance(by, Iterable) or isinstance(by, (bytes, Mapping)):
        raise invalid(f"by is a column of obs or a list of them, not {by!r}")
    keys = [by] if isinstance(by, str) else list(by)
    if "n_cells" in keys:
        raise invalid(
            "by names the column 'n_cells', and the result has the numbers of cells under that "
            "name: rename the column of obs"
        )
    if not keys:
        raise invalid("by names no column of obs")
    matrix = on_workers(matrix_of(adata, layer, use_raw), client)
    var = adata.raw.var if use_raw and adata.raw is not None else adata.var
    labels, obs = groups_of({key: column(adata, key, "obs") for key in keys})
    sizes = np.bincount(labels[labels >= 0], minlength=len(obs))
    kept = sizes >= max(min_cells, 1)
    # The label of no group is -1, the last.
    labels = np.append(np.where(kept, np.cumsum(kept) - 1, -1), -1)[labels]
    obs, sizes = obs[kept], sizes[kept]
    obs["n_cells"] = sizes.astype(np.int64)
    sums = _sums(matrix, row_groups(labels, len(obs)))
    X = sums if func == "sum" else np.true_divide(sums, sizes[:, None])
    for name in adata.obs_keys():
        if name not in obs:
            values = _of_groups(adata.obs[name], labels, len(obs))
            if values is not None:
                obs[name] = values.set_axis(obs.index)
    return anndata.AnnData(X, obs=obs, var=var.copy())


def _sums(matrix: LazyMatrix, groups: Labels) -> npt.NDArray[Any]:
    """Sums of groups of rows; those of floats that are whole numbers as int64."""
    is_float, parts, is_whole = matrix.dtype.kind == "f", [], True
    for part in some_columns(matrix, groups.n):
        moments = part.summarize(columns=True, groups=groups, signs=is_float).of_columns()
        parts.append(moments.sum)
        if is_float:
            is_whole &= not moments.fractional.any()
            is_whole &= bool((np.abs(moments.sum) < 2.0**53).all())
    sums = np.concatenate(parts, axis=1)
    return sums.astype(np.int64) if is_float and is_whole else sums


def _of_groups(
    values: pd.Series[Any], labels: npt.NDArray[np.int64], n: int
) -> pd.Series[Any] | None:
    """The value of each group, if there is one in each."""
    in_groups = labels >= 0
    values, labels = values[in_groups], labels[in_groups]
    if n == 0 or (values.groupby(labels).nunique(dropna=False) != 1).any():
        return None
    return values.iloc[np.unique(labels, return_index=True)[1]]
