"""Values of cells or genes side by side."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from slaf._errors import from_kind, invalid
from slaf.integrations.anndata import LazyAnnData
from slaf.integrations.scanpy._common import checked, matrix_of

if TYPE_CHECKING:
    import pandas as pd


def obs_df(
    adata: LazyAnnData,
    keys: Collection[str] = (),
    obsm_keys: Iterable[tuple[str, int]] = (),
    *,
    layer: str | None = None,
    gene_symbols: str | None = None,
    use_raw: bool = False,
) -> pd.DataFrame:
    """Columns of obs, genes and columns of obsm, as a frame of the cells.

    As ``scanpy.get.obs_df``. Only these genes are read.

    Parameters
    ----------
    adata
        The data set.
    keys
        Names of genes, or columns of obs.
    obsm_keys
        Pairs of a name in obsm and the number of a column.
    layer
        What to use in place of X.
    gene_symbols
        The column of var in which to look for genes.
    use_raw
        Whether genes are those of raw.

    Raises
    ------
    UnknownNameError
        For keys that are not there, are in both places, or name several genes.
    """
    import pandas as pd

    adata = checked(adata, "obs_df")
    raw = adata.raw if use_raw else None
    if use_raw and raw is None:
        raise invalid("`use_raw=True`, but there is no raw")
    var = adata.var if raw is None else raw.var
    names = var.index if gene_symbols is None else pd.Index(var[gene_symbols])
    keys = [keys] if isinstance(keys, str) else list(keys)
    genes = _found(adata.obs, names, var.index, keys, "obs", "var")
    values = matrix_of(adata, layer, use_raw)[:, list(genes.values())] if genes else None
    return _frame(
        adata.obs,
        keys,
        genes,
        None if values is None else values.toarray(),
        {(k, i): adata.obsm[k] for k, i in obsm_keys},
    )


def var_df(
    adata: LazyAnnData,
    keys: Collection[str] = (),
    varm_keys: Iterable[tuple[str, int]] = (),
    *,
    layer: str | None = None,
) -> pd.DataFrame:
    """Columns of var, cells and columns of varm, as a frame of the genes.

    As ``scanpy.get.var_df``. Only these cells are read.

    Parameters
    ----------
    adata
        The data set.
    keys
        Names of cells, or columns of var.
    varm_keys
        Pairs of a name in varm and the number of a column.
    layer
        What to use in place of X.

    Raises
    ------
    UnknownNameError
        For keys that are not there, or are in both places.
    """
    adata = checked(adata, "var_df")
    keys = [keys] if isinstance(keys, str) else list(keys)
    cells = _found(adata.var, adata.obs_names, adata.obs_names, keys, "var", "obs")
    values = matrix_of(adata, layer)[list(cells.values())].toarray().T if cells else None
    return _frame(adata.var, keys, cells, values, {(k, i): adata.varm[k] for k, i in varm_keys})


def _found(
    frame: pd.DataFrame,
    names: pd.Index[Any],
    index: pd.Index[Any],
    keys: list[str],
    of: str,
    other: str,
) -> dict[str, int]:
    """Positions of the keys that are no columns of the frame."""
    if not frame.columns.is_unique:
        raise invalid(f"adata.{of} contains duplicated columns: rename or remove them first")
    if not index.is_unique:
        raise from_kind(
            "ambiguous-name",
            f"{other}_names contains duplicated items: use `adata.{other}_names_make_unique()`",
        )
    both = [k for k in keys if k in frame.columns and k in names]
    if both:
        message = f"The key {both[0]!r} is found in both adata.{of} and {other}_names."
        raise from_kind("ambiguous-name", message)
    wanted = [k for k in dict.fromkeys(keys) if k not in frame.columns]
    missing = [k for k in wanted if k not in names]
    if missing:
        place = f"columns of `adata.{of}` or in {other}_names"
        raise from_kind("unknown-column", f"Could not find keys {missing!r} in {place}.")
    found = {k: np.flatnonzero(names == k) for k in wanted}
    several = [k for k, at in found.items() if len(at) > 1]
    if several:
        raise from_kind("ambiguous-name", f"Found duplicate entries for {several[0]!r}.")
    return {k: int(at[0]) for k, at in found.items()}


def _frame(
    frame: pd.DataFrame,
    keys: list[str],
    found: dict[str, int],
    values: Any,
    beside: dict[tuple[str, int], Any],
) -> pd.DataFrame:
    import pandas as pd

    columns = [frame[[k for k in dict.fromkeys(keys) if k not in found]]]
    if values is not None:
        columns.insert(0, pd.DataFrame(values, columns=list(found), index=frame.index))
    result = pd.concat(columns, axis=1)[keys]
    for (name, i), value in beside.items():
        if isinstance(value, pd.DataFrame):
            result[f"{name}-{i}"] = value.loc[:, i]
        else:
            column = value[:, [i]]
            dense = column.toarray() if hasattr(column, "toarray") else np.asarray(column)
            result[f"{name}-{i}"] = dense.ravel()
    return result
