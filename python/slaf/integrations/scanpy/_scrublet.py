"""Doublets, sample by sample."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from slaf._errors import SlafError, from_kind, invalid
from slaf.integrations.anndata import LazyAnnData
from slaf.integrations.scanpy._common import changeable, column, matrix_of
from slaf.integrations.scanpy._light import needed

if TYPE_CHECKING:
    import pandas as pd


def scrublet(
    adata: LazyAnnData,
    adata_sim: None = None,
    *,
    batch_key: str | None = None,
    threshold: float | None = None,
    copy: bool = False,
    **options: Any,
) -> LazyAnnData | None:
    """Tell doublets from cells by Scrublet (Wolock 2019), with one sample in memory at a time.

    Calls ``scanpy.pp.scrublet`` with the counts of each sample; scores are those that it gives for
    all samples in memory. Give it counts.

    Parameters
    ----------
    adata
        The data set; ``obs["doublet_score"]`` (float64), ``obs["predicted_doublet"]`` (bool) and
        ``uns["scrublet"]`` are set. Cells with values in fewer than three genes, which Scrublet
        leaves out, have NaN (scanpy fails there with a ``batch_key``).
    adata_sim
        Doublets that are simulated already are not taken.
    batch_key
        The column of obs that has the sample of each cell; all cells are one sample by default.
    threshold
        The score above which cells are doublets; found between two modes by default.
    copy
        Whether to change and return a copy.
    **options
        Arguments of ``scanpy.pp.scrublet``.

    Raises
    ------
    UnsupportedError
        With ``adata_sim``; without scanpy or, without a threshold, scikit-image:
        ``pip install 'slaf[analysis]'``.
    InvalidArgumentError
        For cells that are in no sample, and samples that are too small.
    """
    needed("scanpy", "scrublet", "scanpy")
    if threshold is None:
        needed("skimage", "scrublet without a threshold")
    if adata_sim is not None:
        message = "scrublet of slaf simulates doublets itself: call scanpy's with adata_sim"
        raise from_kind("unsupported-feature", message)
    adata = changeable(adata, "scrublet", copy)
    options["threshold"] = threshold
    scores, predicted = np.full(adata.n_obs, np.nan), np.full(adata.n_obs, np.nan, dtype=object)
    found: dict[str, Any] = {}
    for name, cells in _samples(adata, batch_key).items():
        try:
            obs, found[name] = _of_sample(adata, cells, options)
        except (ValueError, IndexError, ZeroDivisionError) as e:
            if isinstance(e, SlafError):
                raise
            what = "the data" if batch_key is None else f"the sample {name!s} in obs[{batch_key!r}]"
            raise invalid(
                f"Scrublet cannot work with {what}, of {len(cells):,} cells and {adata.n_vars:,} "
                f"genes: {e}. If these are too few, leave them out, or do not look for doublets"
            ) from e
        places = cells[obs.index.astype(np.int64)]
        scores[places] = obs["doublet_score"].to_numpy()
        predicted[places] = obs["predicted_doublet"].to_numpy()
    adata.obs["doublet_score"] = scores
    is_left_out = np.isnan(scores).any()
    adata.obs["predicted_doublet"] = predicted if is_left_out else predicted.astype(np.bool_)
    if batch_key is None:
        adata.uns["scrublet"] = found[""]
    else:
        adata.uns["scrublet"] = {"batches": found, "batched_by": batch_key}
    return adata if copy else None


def _samples(adata: LazyAnnData, batch_key: str | None) -> dict[str, npt.NDArray[np.int64]]:
    """The cells of each sample, in the order of their names."""
    if batch_key is None:
        return {"": np.arange(adata.n_obs)}
    labels = column(adata, batch_key, "obs")
    if labels.isna().any():
        raise invalid(f"cells without a value in obs[{batch_key!r}]: filter them first")
    values = np.asarray(labels)
    return {name: np.flatnonzero(values == name) for name in np.unique(values)}


def _of_sample(
    adata: LazyAnnData, cells: npt.NDArray[np.int64], options: dict[str, Any]
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """What scanpy says of a sample; rows are named by their place in it."""
    import anndata
    import pandas as pd
    import scanpy

    obs = pd.DataFrame(index=pd.RangeIndex(len(cells)).astype(str))
    var = pd.DataFrame(index=pd.RangeIndex(adata.n_vars).astype(str))
    sample = anndata.AnnData(matrix_of(adata)[cells].to_memory(), obs=obs, var=var)
    scanpy.pp.scrublet(sample, **options)
    return sample.obs.dropna(subset="doublet_score"), sample.uns["scrublet"]
