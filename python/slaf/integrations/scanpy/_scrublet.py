"""Doublets, sample by sample."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from slaf import _processors
from slaf._errors import SlafError, from_kind, invalid
from slaf._numbers import whole
from slaf.integrations._lazy import LazyMatrix
from slaf.integrations.anndata import LazyAnnData
from slaf.integrations.scanpy._common import changeable, column, matrix_of
from slaf.integrations.scanpy._light import needed


def scrublet(
    adata: LazyAnnData,
    adata_sim: None = None,
    *,
    batch_key: str | None = None,
    threshold: float | None = None,
    copy: bool = False,
    n_jobs: int | None = None,
    **options: Any,
) -> LazyAnnData | None:
    """Tell doublets from cells by Scrublet (Wolock 2019), with a few samples in memory at a time.

    Calls ``scanpy.pp.scrublet`` with the counts of each sample; scores are those that it gives for
    all samples in memory, whatever `n_jobs` is. Give it counts.

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
    n_jobs
        How many samples are worked on, and in memory, at a time, each by a process of its own: by
        default as many as there are cores, or one by one if no two samples together have
        20,000 cells, which takes less time than starting processes.
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
    samples = _samples(adata, batch_key)
    n_jobs = _jobs(samples, None if n_jobs is None else whole("n_jobs", n_jobs, 1, 1 << 16))
    scores, predicted = np.full(adata.n_obs, np.nan), np.full(adata.n_obs, np.nan, dtype=object)
    found: dict[str, Any] = {}
    matrix = matrix_of(adata)
    parts = (matrix[cells] for cells in samples.values())
    for (name, cells), done in zip(samples.items(), _each(parts, options, n_jobs), strict=True):
        for told in done.warnings:
            warnings.warn_explicit(told.message, told.category, told.filename, told.lineno)
        if done.error is not None:
            what = "the data" if batch_key is None else f"the sample {name!s} in obs[{batch_key!r}]"
            raise invalid(
                f"Scrublet cannot work with {what}, of {len(cells):,} cells and {adata.n_vars:,} "
                f"genes: {done.error}. If these are too few, leave them out, or do not look for "
                "doublets"
            ) from done.error
        found[name] = done.uns
        places = cells[done.obs.index.astype(np.int64)]
        scores[places] = done.obs["doublet_score"].to_numpy()
        predicted[places] = done.obs["predicted_doublet"].to_numpy()
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


#: Fewer cells than these in the two largest samples are worked on sooner than processes start.
WORTH_PROCESSES = 20_000


def _jobs(samples: dict[str, npt.NDArray[np.int64]], n_jobs: int | None) -> int:
    """How many samples are worked on at a time."""
    largest = sorted(len(cells) for cells in samples.values())[-2:]
    if n_jobs is None:
        n_jobs = _processors.count() if sum(largest) >= WORTH_PROCESSES else 1
    return min(n_jobs or 1, max(len(samples), 1))


@dataclass(frozen=True)
class _Told:
    """A warning."""

    message: str
    category: type[Warning]
    filename: str
    lineno: int


@dataclass(frozen=True)
class _Done:
    """What scanpy says of a sample, or why it cannot; rows of obs have their place for a name."""

    obs: Any = None
    uns: Any = None
    error: Exception | None = None
    warnings: list[_Told] = field(default_factory=list)


def _each(parts: Iterator[LazyMatrix], options: dict[str, Any], n_jobs: int) -> Iterator[_Done]:
    """What there is to say of the samples, in their order."""
    if n_jobs == 1:
        yield from (_of_sample(part, options) for part in parts)
        return
    # Processes and not threads: the kernels that numba compiles must not be called by two threads.
    # Those of joblib, which scikit-learn brings, do not run the script of the user again.
    from joblib import Parallel, delayed

    parallel = Parallel(n_jobs=n_jobs, backend="loky", return_as="generator", max_nbytes=None)
    yield from parallel(delayed(_of_sample)(part, options) for part in parts)


def _of_sample(part: LazyMatrix, options: dict[str, Any]) -> _Done:
    """Read a sample and let scanpy look for doublets."""
    import anndata
    import pandas as pd
    import scanpy

    n_cells, n_genes = part.shape
    obs = pd.DataFrame(index=pd.RangeIndex(n_cells).astype(str))
    var = pd.DataFrame(index=pd.RangeIndex(n_genes).astype(str))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        sample = anndata.AnnData(part.to_memory(), obs=obs, var=var)
        error = None
        try:
            scanpy.pp.scrublet(sample, **options)
        except (ValueError, IndexError, ZeroDivisionError) as e:
            if isinstance(e, SlafError):
                raise
            error = e
    told = [_Told(str(w.message), w.category, w.filename, w.lineno) for w in caught]
    if error is not None:
        return _Done(error=error, warnings=told)
    return _Done(sample.obs.dropna(subset="doublet_score"), sample.uns["scrublet"], None, told)
