"""Samples of cells or genes."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from slaf._errors import invalid
from slaf.integrations.anndata import LazyAnnData
from slaf.integrations.scanpy._common import axis_name, changeable, checked, column, mask_of


def sample(
    data: LazyAnnData,
    fraction: float | None = None,
    *,
    n: int | None = None,
    rng: Any = None,
    copy: bool = False,
    replace: bool = False,
    axis: str | int = "obs",
    p: str | npt.NDArray[Any] | None = None,
) -> LazyAnnData | None:
    """Draw cells or genes, with the numbers that scanpy draws for the same seed.

    As ``scanpy.pp.sample``.

    Parameters
    ----------
    data
        The data set, of which the sample is left.
    fraction, n
        Which share, or how many; one of the two.
    rng
        A seed or a generator of numpy.
    copy
        Whether to return the sample and leave the data set as it is.
    replace
        Whether one may be drawn more than once.
    axis
        ``"obs"`` or 0 for cells, ``"var"`` or 1 for genes.
    p
        Probabilities, or a mask of those that may be drawn: an array, or the name of a column.
    """
    adata = checked(data, "sample")
    of = axis_name(axis)
    there = adata.n_obs if of == "obs" else adata.n_vars
    if (fraction is None) == (n is None):
        raise invalid("Either `fraction` or `n` must be set, and not both.")
    if fraction is not None:
        if fraction < 0 or (fraction > 1 and not replace):
            raise invalid(f"`{fraction=}` needs to be within [0, 1], or above with `replace`.")
        n = int(fraction * there)
    weights = _probabilities(adata, p, of)
    generator = np.random.default_rng(rng)
    chosen = _drawn(generator, there, size=n, replace=replace, p=weights)
    return _keep(adata, chosen, of, copy)


def subsample(
    data: LazyAnnData,
    fraction: float | None = None,
    *,
    n_obs: int | None = None,
    random_state: Any = 0,
    copy: bool = False,
) -> LazyAnnData | None:
    """Draw cells without replacement, with the numbers that scanpy draws for the same seed.

    As ``scanpy.pp.subsample``, whose successor is :func:`sample`.

    Parameters
    ----------
    data
        The data set, of which the sample is left.
    fraction, n_obs
        Which share, or how many; one of the two.
    random_state
        A seed of numpy's legacy generator, or such a generator.
    copy
        Whether to return the sample and leave the data set as it is.
    """
    adata = checked(data, "subsample")
    if (fraction is None) == (n_obs is None):
        raise invalid("Either `fraction` or `n_obs` must be set, and not both.")
    if fraction is not None:
        if not 0 <= fraction <= 1:
            raise invalid(f"`{fraction=}` needs to be within [0, 1].")
        n_obs = int(fraction * adata.n_obs)
    legacy = random_state
    if not isinstance(legacy, np.random.RandomState):
        legacy = np.random.RandomState(random_state)
    return _keep(adata, _drawn(legacy, adata.n_obs, size=n_obs, replace=False), "obs", copy)


def _drawn(generator: Any, there: int, **how: Any) -> npt.NDArray[np.int64]:
    """What a generator of numpy draws."""
    try:
        chosen: npt.NDArray[np.int64] = generator.choice(there, **how)
    except ValueError as e:
        raise invalid(f"{how['size']} of {there} cannot be drawn: {e}") from e
    return chosen


def _keep(adata: LazyAnnData, chosen: npt.NDArray[Any], of: str, copy: bool) -> LazyAnnData | None:
    if copy:
        return (adata[chosen] if of == "obs" else adata[:, chosen]).copy()
    adata = changeable(adata, "sample")
    if of == "obs":
        adata._inplace_subset_obs(chosen)
    else:
        adata._inplace_subset_var(chosen)
    return None


def _probabilities(adata: LazyAnnData, p: Any, of: str) -> npt.NDArray[np.float64] | None:
    if p is None:
        return None
    n = adata.n_obs if of == "obs" else adata.n_vars
    values = column(adata, p, of).to_numpy() if isinstance(p, str) else np.asarray(p)
    if values.dtype == np.bool_:
        mask = mask_of(adata, values, of)
        assert mask is not None
        return np.asarray(mask / mask.sum())
    if values.shape != (n,):
        raise invalid(f"`p` has the shape {values.shape}, not ({n},)")
    return values.astype(np.float64)
