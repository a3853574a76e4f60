"""Results of functions, written into the store at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from slaf._errors import ConflictError, from_kind, invalid
from slaf._growing import add_slots
from slaf._store import Store
from slaf.integrations._extras import read_element

if TYPE_CHECKING:
    from slaf.integrations.anndata import LazyAnnData

#: Tries to change `uns` while others change it.
_TRIES = 20


def check_writable(adata: LazyAnnData) -> None:
    """Refuse what is not all cells and genes of a store, in its order.

    Raises
    ------
    InvalidArgumentError
        For a view and for a subset.
    """
    contents = adata._contents
    sizes = zip(("obs", "var"), contents.store.shape, strict=True)
    whole = all(contents.axes[of].is_all and len(contents.axes[of]) == n for of, n in sizes)
    if adata.is_view or contents.is_subset or not whole:
        raise invalid(
            "write=True writes results into the store, and this is a part of it: write() makes a "
            "store of the part"
        )


def write_results(adata: LazyAnnData, slots: Mapping[str, Mapping[str, Any]]) -> None:
    """Write entries of obsm, varm, obsp and uns as the next version of the store, in one commit.

    Entries of the same name are replaced, others stay, also those that others write meanwhile. The
    data set is one of the new version afterwards.

    Raises
    ------
    ConflictError
        If others change ``uns`` all the time.
    """
    contents = adata._contents
    store = contents.store
    for _ in range(_TRIES):
        uns = read_element(store, "uns") or {}
        try:
            version, _report = add_slots(
                store, {**slots, "uns": {**uns, **slots["uns"]}}, overwrite=True
            )
        except ConflictError:
            store = Store(store.path, None, store.storage_options, store.verify)
            continue
        contents.store = Store(store.path, version, store.storage_options, store.verify)
        return
    raise from_kind("conflict", "others change uns all the time; try again", store.path)
