"""Highly variable genes by dispersion: the flavours of Seurat and Cell Ranger."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from slaf._errors import invalid
from slaf.integrations._lazy import LazyMatrix
from slaf.integrations._statistics import Moments
from slaf.integrations._workers import on_workers
from slaf.integrations.anndata import LazyAnnData
from slaf.integrations.scanpy._common import (
    changeable,
    checked,
    column,
    matrix_of,
    mean_var,
    row_groups,
)
from slaf.integrations.scanpy._hvg_v3 import seurat_v3

if TYPE_CHECKING:
    import pandas as pd

DEFAULT_CUTOFFS = {"min_disp": 0.5, "max_disp": np.inf, "min_mean": 0.0125, "max_mean": 3}


def highly_variable_genes(
    adata: LazyAnnData,
    *,
    layer: str | None = None,
    n_top_genes: int | None = None,
    min_disp: float = 0.5,
    max_disp: float = np.inf,
    min_mean: float = 0.0125,
    max_mean: float = 3,
    span: float = 0.3,
    n_bins: int = 20,
    flavor: str = "seurat",
    subset: bool = False,
    inplace: bool = True,
    batch_key: str | None = None,
    check_values: bool = True,
    client: Any = None,
) -> pd.DataFrame | None:
    """Genes that vary more than others of their mean.

    As ``scanpy.pp.highly_variable_genes``. Means and variances stream: one pass, batches included;
    with ``"seurat_v3"`` one for all, one for the batches, and one more for each batch. What is left
    has the size of the genes.

    The local regression of ``"seurat_v3"`` turns on the last bits of means, so that these are
    computed as scanpy does: of batches by Welford's algorithm, which is scanpy's since 1.12.2, or
    from sums if the scanpy that is installed is older.

    Parameters
    ----------
    adata
        The data set: logarithms for ``"seurat"`` and ``"cell_ranger"``, counts for the others.
    layer
        What to use in place of X.
    n_top_genes
        How many genes; then cut-offs are ignored. 2000 by default with ``"seurat_v3"``.
    min_disp, max_disp, min_mean, max_mean
        Cut-offs of the normalised dispersion and of the mean.
    span
        Share of the genes that each local regression of ``"seurat_v3"`` uses.
    n_bins
        Bins of means of ``"seurat"``.
    flavor
        ``"seurat"`` (Satija 2015), ``"cell_ranger"`` (Zheng 2017), ``"seurat_v3"`` or
        ``"seurat_v3_paper"`` (Stuart 2019), which differ in how batches are merged.
    subset
        Whether to keep these genes only.
    inplace
        Whether to write into var, or to return a frame.
    batch_key
        A column of obs: genes are selected within each batch and merged.
    check_values
        Whether to warn if ``"seurat_v3"`` is given something else than counts.
    client
        A ``dask.distributed.Client`` whose workers take the passes over the matrix, each reading
        the store itself. The result is the same, bit by bit.

    Returns
    -------
    ``None`` or a frame of the genes. ``highly_variable`` (bool), ``means`` and, by flavour,
    ``dispersions`` and ``dispersions_norm`` (float32 in var), or ``variances``,
    ``variances_norm`` and ``highly_variable_rank``; with batches ``highly_variable_nbatches`` and
    ``highly_variable_intersection``.

    Raises
    ------
    InvalidArgumentError
        ``Bin edges must be unique``, if more than a tenth of the genes have the same mean with
        ``"cell_ranger"``: filter genes first. For infinite values, too.

    Notes
    -----
    A gene with NaN has no dispersion and is not taken (scanpy raises a KeyError). In a batch of one
    cell, and where nothing varies, no gene has one, and none is taken (scanpy fails for
    ``n_top_genes``); its means count with ``"seurat"`` and ``"cell_ranger"``.
    """
    adata = changeable(adata, "highly_variable_genes") if inplace else checked(adata, "this")
    matrix = on_workers(matrix_of(adata, layer), client)
    if flavor in ("seurat_v3", "seurat_v3_paper"):
        top = 2000 if n_top_genes is None else n_top_genes
        frame = seurat_v3(adata, matrix, flavor, top, batch_key, check_values, span)
    else:
        cutoffs = Cutoffs(min_disp, max_disp, min_mean, max_mean, n_top_genes)
        frame = _by_dispersion(adata, matrix, flavor, n_bins, batch_key, cutoffs)
    if not inplace:
        return frame.loc[frame["highly_variable"]] if subset else frame
    adata.uns["hvg"] = {"flavor": flavor}
    for name in frame.columns.drop("mean_bin", errors="ignore"):
        values = frame[name].to_numpy()
        adata.var[name] = values.astype(np.float32) if name == "dispersions_norm" else values
    if subset:
        adata._inplace_subset_var(frame["highly_variable"].to_numpy())
    return None


@dataclass(frozen=True)
class Cutoffs:
    """Which genes to take: so many, or those within bounds."""

    min_disp: float
    max_disp: float
    min_mean: float
    max_mean: float
    n_top: int | None

    def __post_init__(self) -> None:
        given = {name: getattr(self, name) for name in DEFAULT_CUTOFFS}
        if self.n_top is not None and given != DEFAULT_CUTOFFS:
            message = "If you pass `n_top_genes`, all cutoffs are ignored."
            warnings.warn(message, UserWarning, stacklevel=4)

    def within(self, mean: Any, dispersion: Any) -> npt.NDArray[np.bool_]:
        """Genes within the bounds, which are exclusive."""
        above = (mean > self.min_mean) & (dispersion > self.min_disp)
        return np.asarray(above & (mean < self.max_mean) & (dispersion < self.max_disp))

    def select(
        self, mean: Any, dispersion: npt.NDArray[np.float64], batch: str | None
    ) -> npt.NDArray[np.bool_]:
        """The genes of one batch; more than ``n_top`` where dispersions are equal."""
        if self.n_top is None:
            return self.within(mean, np.nan_to_num(dispersion))
        known = np.sort(dispersion[~np.isnan(dispersion)])
        if len(known) == 0:
            if batch is not None:
                return np.zeros(len(dispersion), dtype=bool)
            raise invalid("no gene has a dispersion: none varies")
        n = min(self.n_top, len(dispersion))
        if n > len(known):
            warnings.warn(
                "`n_top_genes` > number of normalized dispersions, returning all genes with "
                "normalized dispersions.",
                UserWarning,
                stacklevel=5,
            )
            n = len(known)
        return np.asarray(np.nan_to_num(dispersion, nan=-np.inf) >= known[-n])


def _by_dispersion(
    adata: LazyAnnData,
    matrix: LazyMatrix,
    flavor: str,
    n_bins: int,
    batch_key: str | None,
    cutoffs: Cutoffs,
) -> pd.DataFrame:
    if flavor not in ("seurat", "cell_ranger"):
        raise invalid(
            '`flavor` needs to be "seurat", "cell_ranger", "seurat_v3" or "seurat_v3_paper"'
        )
    if flavor == "seurat":
        base = adata.uns["log1p"].get("base") if "log1p" in adata.uns_keys() else None
        matrix = matrix if base is None else matrix.combine_in("multiply", np.log(base))
        matrix = matrix.expm1()
    genes = adata.var_names
    if not batch_key:
        moments = matrix.known_columns("squares")
        frame = _one_batch(moments, matrix.shape[0], flavor, n_bins, cutoffs)
        return frame.set_index(genes)
    adata.strings_to_categoricals(adata.obs)
    batches = column(adata, batch_key, "obs").cat
    n_batches = len(batches.categories)
    labels = batches.codes.to_numpy().astype(np.int64)
    groups = row_groups(labels, n_batches)
    summary = matrix.summarize(columns=True, detail="squares", signs=True, groups=groups)
    moments = summary.of_columns()
    sizes = np.bincount(labels[labels >= 0], minlength=n_batches)
    frames = []
    for batch in range(n_batches):
        if sizes[batch] == 0:
            continue
        of_batch = moments.select(batch)
        expressed = of_batch.positive >= 1
        name = str(batches.categories[batch])
        found = _one_batch(
            of_batch.select(expressed), int(sizes[batch]), flavor, n_bins, cutoffs, name
        ).drop(columns="mean_bin")
        found = found.set_index(np.flatnonzero(expressed))
        filled = found.reindex(np.arange(len(genes)))
        absent = ~expressed
        filled.loc[absent, ["means", "dispersions", "dispersions_norm"]] = 0.0
        filled["highly_variable"] = filled["highly_variable"].where(expressed, False).astype(int)
        frames.append(filled)
    if not moments.positive[sizes > 0].any():
        raise invalid(f"no gene is expressed in any batch of obs[{batch_key!r}]")
    return _merged(frames, genes, cutoffs)


def _merged(frames: list[pd.DataFrame], genes: pd.Index[Any], cutoffs: Cutoffs) -> pd.DataFrame:
    """The batches together: means over batches, and the number of batches that took a gene."""
    import pandas as pd

    names = ["means", "dispersions", "dispersions_norm"]
    with warnings.catch_warnings():
        # A gene whose dispersion no batch knows.
        warnings.simplefilter("ignore", RuntimeWarning)
        means = {n: np.nanmean([f[n].to_numpy() for f in frames], axis=0) for n in names}
    merged = pd.DataFrame(means, index=genes)
    taken = np.sum([f["highly_variable"].to_numpy() for f in frames], axis=0)
    if cutoffs.n_top is None:
        merged["dispersions_norm"] = merged["dispersions_norm"].fillna(0)
        chosen = cutoffs.within(merged["means"], merged["dispersions_norm"])
    else:
        dispersion = merged["dispersions_norm"].to_numpy()
        order = np.lexsort((genes.to_numpy(dtype=str), -dispersion, -taken))
        chosen = np.zeros(len(genes), dtype=bool)
        chosen[order[: cutoffs.n_top]] = True
    merged["highly_variable"] = chosen
    merged["highly_variable_nbatches"] = taken
    merged["highly_variable_intersection"] = taken == len(frames)
    return merged


def _one_batch(
    moments: Moments,
    n: int,
    flavor: str,
    n_bins: int,
    cutoffs: Cutoffs,
    batch: str | None = None,
) -> pd.DataFrame:
    """Dispersions of genes, and normalised among genes of similar means."""
    import pandas as pd

    mean, var = mean_var(moments, n)
    mean[mean == 0] = 1e-12
    dispersion = var / mean
    if flavor == "seurat":
        dispersion[dispersion == 0] = np.nan
        with np.errstate(invalid="ignore"):
            dispersion = np.log(dispersion)
        mean = np.log1p(mean)
    frame = pd.DataFrame({"means": mean, "dispersions": dispersion})
    if batch is not None and (n == 1 or len(frame) == 0):
        # One cell does not vary, nor do genes that are not there.
        return frame.assign(mean_bin=np.nan, dispersions_norm=np.nan, highly_variable=False)
    bins: Any = n_bins
    if flavor == "cell_ranger":
        edges = np.percentile(mean, np.arange(10, 105, 5))
        bins = np.concatenate([[-np.inf], edges, [np.inf]])
    try:
        frame["mean_bin"] = pd.cut(frame["means"], bins=bins)
    except ValueError as e:
        of_batch = "" if batch is None else f" of batch {batch!r}"
        raise invalid(f"means of genes{of_batch} make no bins: {e}; filter genes first") from e
    binned = frame["dispersions"].groupby(frame["mean_bin"], observed=True)
    if flavor == "seurat":
        centre, spread = binned.transform("mean"), binned.transform("std")
        # A gene alone in its bin is normalised to 1.
        alone = spread.isna()
        spread, centre = spread.where(~alone, centre), centre.where(~alone, 0.0)
    else:
        centre, spread = binned.transform("median"), binned.transform(_mad)
    with np.errstate(invalid="ignore", divide="ignore"):
        frame["dispersions_norm"] = (frame["dispersions"] - centre) / spread
    normalised = frame["dispersions_norm"].to_numpy()
    frame["highly_variable"] = cutoffs.select(mean, normalised, batch)
    return frame


def _mad(values: pd.Series[float]) -> float:
    """Median absolute deviation, scaled to the standard deviation of a normal distribution."""
    normal = 0.6744897501960817
    return float((values - values.median()).abs().median() / normal)
