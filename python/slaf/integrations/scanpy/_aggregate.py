"""Aggregates of groups of cells or genes."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from slaf._errors import from_kind, invalid
from slaf.integrations._lazy import LazyMatrix
from slaf.integrations._mappings import as_lazy
from slaf.integrations.anndata import LazyAnnData
from slaf.integrations.scanpy._common import (
    as_scanpy_adds,
    axis_name,
    checked,
    column,
    mask_of,
    matrix_of,
    row_groups,
    some_columns,
)

if TYPE_CHECKING:
    import anndata
    import pandas as pd

FUNCTIONS = ("sum", "mean", "var", "count_nonzero")


def aggregate(
    adata: LazyAnnData,
    by: str | Collection[str],
    func: str | Iterable[str],
    *,
    axis: str | int | None = None,
    mask: npt.NDArray[np.bool_] | str | None = None,
    dof: int = 1,
    layer: str | None = None,
    obsm: str | None = None,
    varm: str | None = None,
) -> anndata.AnnData:
    """Sum, mean, variance or number of nonzero values of each group of cells: pseudobulk.

    As ``scanpy.get.aggregate`` of 1.12: ``obs["n_obs_aggregated"]`` has the number of cells of
    each group, a masked cell is in no group, and the variance of one cell is NaN with a
    RuntimeWarning (1.11 divides masked means by the sizes of whole groups). With ``"var"``, means
    and variances are those of Welford's algorithm (1962), in the order of the cells.

    Parameters
    ----------
    adata
        The data set.
    by
        One or several columns of obs, or of var with ``axis="var"``; combinations that no cell has
        are left out.
    func
        One or several of ``"sum"``, ``"mean"``, ``"var"`` and ``"count_nonzero"``. ``"median"``
        does not stream: it needs all values of a group at once.
    axis
        ``"obs"`` or 0 for groups of cells, ``"var"`` or 1 for groups of genes; the default is
        ``"obs"`` unless ``varm`` is given.
    mask
        The cells (or genes) to take: an array, or the name of a column.
    dof
        Degrees of freedom that the variance loses.
    layer
        What to use in place of X.
    obsm, varm
        An array beside the cells (or genes) to use in place of X.

    Returns
    -------
    anndata.AnnData
        In memory, groups x genes (cells x groups with ``axis="var"``): a dense layer for each
        function, without X. Means and variances are float64; so are sums of floats, and everything
        of dense matrices. Counts are int64, as sums of integers are (of uint64 uint64). One pass.

    Raises
    ------
    UnsupportedError
        For ``"median"``.
    """
    adata = checked(adata, "aggregate")
    of = axis_name(axis if axis is not None else int(varm is not None))
    functions = [func] if isinstance(func, str) else list(func)
    if "median" in functions:
        message = "median does not stream: use scanpy.get.aggregate with adata.to_memory()"
        raise from_kind("unsupported-feature", message)
    unknown = [f for f in functions if f not in FUNCTIONS]
    if unknown:
        raise invalid(f"func {unknown} is not one of {FUNCTIONS}")
    if dof < 0:
        raise invalid(f"{dof=} is below zero")
    matrix, other, groups_are_rows = _data(adata, of, layer, obsm, varm)
    keys = [by] if isinstance(by, str) else list(by)
    labels, groups = groups_of({key: column(adata, key, of) for key in keys})
    kept = mask_of(adata, mask, of)
    if kept is not None:
        labels = np.where(kept, labels, -1)
    sizes = np.bincount(labels[labels >= 0], minlength=len(groups))
    groups["n_obs_aggregated"] = sizes
    found = _of_rows if groups_are_rows else _of_columns
    layers = _layers(found(matrix, labels, sizes, "var" in functions), sizes, dof, groups.index)
    layers["count_nonzero"] = layers["count_nonzero"].astype(np.int64)
    if matrix.encoding == "dense":
        for name in ("sum", "count_nonzero"):
            layers[name] = layers[name].astype(np.float64)
    import anndata

    result = anndata.AnnData(layers={f: layers[f] for f in functions}, obs=groups, var=other)
    return result if of == "obs" else result.T


def _data(
    adata: LazyAnnData, of: str, layer: str | None, obsm: str | None, varm: str | None
) -> tuple[LazyMatrix, pd.DataFrame, bool]:
    """The matrix, the frame of its other axis, and whether it has the grouped axis in its rows."""
    import pandas as pd

    if sum(name is not None for name in (layer, obsm, varm)) > 1:
        raise invalid("Please only provide one (or none) of varm, obsm, or layer")
    for slot, name, its_axis in (("obsm", obsm, "obs"), ("varm", varm, "var")):
        if name is None:
            continue
        if of != its_axis:
            raise invalid(f"{slot} can only be used when axis is {int(its_axis == 'var')}")
        value = (adata.obsm if slot == "obsm" else adata.varm)[name]
        names = value.columns if isinstance(value, pd.DataFrame) else range(value.shape[1])
        other = pd.DataFrame(index=pd.Index([str(n) for n in names], dtype=object))
        return as_lazy(value, value.shape, f"{slot}[{name!r}]"), other, True
    other = (adata.var if of == "obs" else adata.obs).copy()
    return matrix_of(adata, layer), other, of == "obs"


def groups_of(by: dict[str, pd.Series[Any]]) -> tuple[npt.NDArray[np.int64], pd.DataFrame]:
    """The group of each row, -1 for none, and the groups that there are, in order."""
    import pandas as pd

    columns = [pd.Categorical(values).remove_unused_categories() for values in by.values()]
    codes = np.stack([c.codes.astype(np.int64) for c in columns])
    shape = [len(c.categories) for c in columns]
    missing = np.asarray((codes < 0).any(axis=0))
    combined = np.ravel_multi_index(tuple(np.maximum(codes, 0)[:, ~missing]), shape)
    present, labels = np.unique(combined, return_inverse=True)
    all_labels = np.full(len(missing), -1, dtype=np.int64)
    all_labels[~missing] = labels
    of_groups = np.unravel_index(present, shape)
    data = {
        key: pd.Categorical.from_codes(code, of_key.categories)
        for key, code, of_key in zip(by, of_groups, columns, strict=True)
    }
    texts = [[str(value) for value in column] for column in data.values()]
    index = pd.Index(["_".join(parts) for parts in zip(*texts, strict=True)], dtype=object)
    return all_labels, pd.DataFrame(data, index=index)


@dataclass(frozen=True)
class _Found:
    """Statistics of groups: groups x genes, variances with ddof 0."""

    sum: npt.NDArray[Any]
    nonzero: npt.NDArray[Any]
    mean: npt.NDArray[np.float64]
    var: npt.NDArray[np.float64] | None


def _of_rows(
    matrix: LazyMatrix, labels: npt.NDArray[np.int64], sizes: npt.NDArray[np.int64], var: bool
) -> _Found:
    """Of groups of rows."""
    groups, parts = row_groups(labels, len(sizes)), []
    for part in some_columns(as_scanpy_adds(matrix) if var else matrix, len(sizes)):
        summary = part.summarize(columns=True, running=var, groups=groups)
        moments = summary.of_columns()
        with np.errstate(invalid="ignore", divide="ignore"):
            mean, variance = np.true_divide(moments.sum, sizes[:, None]), None
        if var:
            mean, variance = summary.of_running().with_zeros(sizes)
        parts.append((moments.sum, moments.nonzero, mean, variance))
    arrays: list[Any] = [
        None if of_parts[0] is None else np.concatenate(of_parts, axis=1)
        for of_parts in zip(*parts, strict=True)
    ]
    return _Found(*arrays)


def _of_columns(
    matrix: LazyMatrix, labels: npt.NDArray[np.int64], sizes: npt.NDArray[np.int64], var: bool
) -> _Found:
    """Of groups of columns, whose rows are taken for genes."""
    groups, detail = row_groups(labels, len(sizes)), "squares" if var else "sums"
    summary = matrix.summarize(rows=True, column_groups=groups, detail=detail)
    moments = summary.of_rows().transpose()
    n = sizes[:, None]
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.true_divide(moments.sum, n)
        variance = moments.variance(n, mean, 0) if var else None
    return _Found(moments.sum, moments.nonzero, mean, variance)


def _layers(
    found: _Found, sizes: npt.NDArray[np.int64], dof: int, names: pd.Index[Any]
) -> dict[str, Any]:
    layers = {"sum": found.sum, "mean": found.mean, "count_nonzero": found.nonzero}
    if found.var is not None:
        var = found.var
        if dof > 0:
            left = np.where(sizes > dof, sizes - dof, np.nan)
            if np.isnan(left).any():
                message = (
                    "groups with as few members as degrees of freedom have no variance: "
                    f"{list(names[np.isnan(left)])}"
                )
                warnings.warn(message, RuntimeWarning, stacklevel=3)
            var = var * (sizes / left)[:, None]
        layers["var"] = var
    return layers
