"""Functions of scanpy that need annotation and no matrix: they get an AnnData that has no other."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from copy import deepcopy
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np

from slaf._errors import from_kind
from slaf.integrations.anndata import LazyAnnData
from slaf.integrations.scanpy._common import changeable, column

if TYPE_CHECKING:
    import anndata


def needed(module: str, what: str, extra: str = "analysis") -> None:
    """Check that an optional module is installed, without importing it.

    Raises
    ------
    UnsupportedError
        If it is not; the message names the extra that has it.
    """
    if find_spec(module) is None:
        raise from_kind(
            "unsupported-feature", f"{what} needs {module}: pip install 'slaf[{extra}]'"
        )


@dataclass(frozen=True)
class Needs:
    """What a function reads of a data set.

    Attributes
    ----------
    obs, obsm, obsp, uns
        Names of columns and entries; those of uns that are not there are left out.
    X
        Whether it reads X as well.
    """

    obs: Iterable[str] = ()
    obsm: Iterable[str] = ()
    obsp: Iterable[str] = ()
    uns: Iterable[str] = ()
    X: bool = False


def light(adata: LazyAnnData, needs: Needs) -> anndata.AnnData:
    """An AnnData in memory that has these slots alone. What can be changed in place is copied."""
    import anndata
    import pandas as pd

    obs = pd.DataFrame({name: column(adata, name, "obs").copy() for name in needs.obs})
    var = pd.DataFrame(index=adata.var_names)
    X = None if not needs.X or adata.X is None else adata.X.to_memory()
    small = anndata.AnnData(X, obs=obs.set_axis(adata.obs_names), var=var)
    small.obsm.update({name: np.array(adata.obsm[name]) for name in needs.obsm})
    small.obsp.update({name: adata.obsp[name].copy() for name in needs.obsp})
    small.uns.update({name: deepcopy(adata.uns[name]) for name in needs.uns if name in adata.uns})
    return small


def run(
    adata: LazyAnnData,
    what: str,
    needs: Callable[[LazyAnnData], Needs],
    call: Callable[[anndata.AnnData], Any],
    copy: bool,
) -> LazyAnnData | None:
    """Call a function with what it needs, and put what it wrote into the data set.

    Parameters
    ----------
    adata
        The data set.
    what
        What the function is called, for messages.
    needs
        What it reads, of a data set that is no view.
    call
        Calls it.
    copy
        Whether to change and return a copy.
    """
    needed("scanpy", what, "scanpy")
    adata = changeable(adata, what, copy)
    small = light(adata, needs(adata))
    before = {slot: dict(getattr(small, slot)) for slot in ("obsm", "obsp", "varm")}
    columns = small.obs.copy()
    call(small)
    for name, values in small.obs.items():
        if name not in columns or not values.equals(columns[name]):
            adata.obs[name] = values.set_axis(adata.obs.index)
    for slot, entries in before.items():
        for name, value in getattr(small, slot).items():
            if name not in entries or value is not entries[name]:
                getattr(adata, slot)[name] = value
    adata.uns.update(small.uns)
    return adata if copy else None
