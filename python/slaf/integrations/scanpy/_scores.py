"""Scores of gene sets."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from slaf._errors import InvalidArgumentError, invalid
from slaf.integrations._lazy import LazyMatrix
from slaf.integrations.anndata import LazyAnnData
from slaf.integrations.scanpy._common import checked, matrix_of

if TYPE_CHECKING:
    import pandas as pd

Genes: TypeAlias = "Sequence[str] | pd.Index[Any]"


class NoControlGenesError(InvalidArgumentError, RuntimeError):
    """No gene is left to compare with; scanpy raises a RuntimeError."""

    kind = "invalid-argument"


def score_genes(
    adata: LazyAnnData,
    gene_list: Genes,
    *,
    ctrl_as_ref: bool = True,
    ctrl_size: int = 50,
    gene_pool: Genes | None = None,
    n_bins: int = 25,
    score_name: str = "score",
    random_state: int | None = 0,
    copy: bool = False,
    use_raw: bool | None = None,
    layer: str | None = None,
) -> LazyAnnData | None:
    """Mean expression of a set of genes, less that of control genes of similar expression.

    As ``scanpy.tl.score_genes`` (Satija 2015): for each bin of mean expression that has a gene of
    the list, ``ctrl_size`` genes of the pool are drawn with numpy's global generator, as scanpy
    1.11 and 1.12 draw them. NaN is left out of means.

    Parameters
    ----------
    adata
        The data set; ``obs[score_name]`` is set (float64).
    gene_list
        Names; unknown ones are ignored with a warning.
    ctrl_as_ref
        Whether genes of the list can be drawn, and are then dropped, or cannot be drawn.
    ctrl_size
        Control genes of each bin.
    gene_pool
        Genes to draw from; all by default.
    n_bins
        Bins of mean expression.
    score_name
        Name of the column.
    random_state
        The seed; ``None`` to go on with numpy's global generator.
    copy
        Whether to change and return a copy.
    use_raw
        Whether to use raw; ``None`` if there is one.
    layer
        What to use in place of X.
    """
    import pandas as pd

    adata = checked(adata, "score_genes")
    adata = adata.copy() if copy else adata
    if use_raw is None:
        use_raw = layer is None and adata.raw is not None
    matrix = matrix_of(adata, layer, use_raw)
    raw = adata.raw
    names = raw.var_names if use_raw and raw is not None else adata.var_names
    if random_state is not None:
        np.random.seed(random_state)

    listed = pd.Index([gene_list] if isinstance(gene_list, str) else gene_list)
    unknown = listed.difference(names, sort=False)
    if len(unknown):
        message = f"genes are not in var_names and ignored: {list(unknown)}"
        warnings.warn(message, UserWarning, stacklevel=2)
    listed = listed.intersection(names)
    pool = names if gene_pool is None else pd.Index(gene_pool).intersection(names)
    if len(listed) == 0:
        raise invalid("No valid genes were passed for scoring.")
    if len(pool) == 0:
        raise invalid("No valid genes were passed for reference set.")

    controls = _controls(matrix, names, listed, pool, ctrl_as_ref, ctrl_size, n_bins)
    means = [_nan_means(_genes(matrix, names, genes), "rows") for genes in (listed, controls)]
    adata.obs[score_name] = pd.Series(means[0] - means[1], index=adata.obs_names, dtype="float64")
    return adata if copy else None


def _controls(
    matrix: LazyMatrix,
    names: pd.Index[Any],
    listed: pd.Index[Any],
    pool: pd.Index[Any],
    ctrl_as_ref: bool,
    ctrl_size: int,
    n_bins: int,
) -> pd.Index[Any]:
    """Genes of the pool from the bins of mean expression that the listed genes are in."""
    import pandas as pd

    mean = pd.Series(
        _nan_means(_genes(matrix, names, pool), "columns"), index=pool.astype("string")
    )
    mean = mean[np.isfinite(mean)]
    per_bin = int(np.round(len(mean) / (n_bins - 1)))
    bins = mean.rank(method="min") // per_bin
    listed = listed.astype("string")
    may_be_drawn = ctrl_as_ref | ~bins.index.isin(listed)
    controls = pd.Index([], dtype="string")
    for number in np.unique(bins.loc[listed]):
        drawn = bins[(bins == number) & may_be_drawn].index
        if len(drawn) == 0:
            message = (
                f"No control genes for cut={number}. You might want to increase gene_pool size"
            )
            warnings.warn(f"{message} (current size: {len(pool)})", UserWarning, stacklevel=3)
        if ctrl_size < len(drawn):
            drawn = drawn.to_series().sample(ctrl_size).index
        if ctrl_as_ref:
            drawn = drawn.difference(listed)
        controls = controls.union(drawn)
    if len(controls) == 0:
        hint = " Try setting `ctrl_as_ref=False`." if ctrl_as_ref else ""
        raise NoControlGenesError(f"No control genes found in any cut.{hint}")
    return controls


def _genes(matrix: LazyMatrix, names: pd.Index[Any], genes: pd.Index[Any]) -> LazyMatrix:
    # scanpy takes the whole matrix for as many genes as there are.
    if len(genes) == len(names):
        return matrix
    chosen: LazyMatrix = matrix[:, names.astype("string").get_indexer(genes.astype("string"))]
    return chosen


def _nan_means(matrix: LazyMatrix, axis: str) -> npt.NDArray[np.float64]:
    """Means of rows or columns in float64, NaN left out."""
    summary = matrix.summarize(**{axis: True}, skip_nan=True)
    moments = summary.of_rows() if axis == "rows" else summary.of_columns()
    n = matrix.shape[1] if axis == "rows" else matrix.shape[0]
    with np.errstate(invalid="ignore"):
        return np.asarray(np.true_divide(moments.sum, n - moments.nan.astype(np.int64)))


def score_genes_cell_cycle(
    adata: LazyAnnData,
    *,
    s_genes: Sequence[str],
    g2m_genes: Sequence[str],
    copy: bool = False,
    **kwargs: Any,
) -> LazyAnnData | None:
    """Scores of the S and G2M phases, and the phase of each cell.

    As ``scanpy.tl.score_genes_cell_cycle``: S, unless the score of G2M is higher; G1 if both are
    negative.

    Parameters
    ----------
    adata
        The data set; ``obs["S_score"]``, ``obs["G2M_score"]`` and ``obs["phase"]`` are set.
    s_genes, g2m_genes
        Names of the genes of each phase.
    copy
        Whether to change and return a copy.
    **kwargs
        For :func:`score_genes`; ``ctrl_size`` is the length of the shorter list.
    """
    import pandas as pd

    adata = checked(adata, "score_genes_cell_cycle")
    adata = adata.copy() if copy else adata
    ctrl_size = min(len(s_genes), len(g2m_genes))
    for genes, name in ((s_genes, "S_score"), (g2m_genes, "G2M_score")):
        score_genes(adata, genes, score_name=name, ctrl_size=ctrl_size, **kwargs)
    s, g2m = adata.obs["S_score"].to_numpy(), adata.obs["G2M_score"].to_numpy()
    phase = np.where((s < 0) & (g2m < 0), "G1", np.where(g2m > s, "G2M", "S"))
    adata.obs["phase"] = pd.Series(phase, index=adata.obs_names, dtype=object)
    return adata if copy else None
