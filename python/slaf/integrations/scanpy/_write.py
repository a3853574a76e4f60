"""Results of functions, written into the store at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from slaf._errors import invalid
from slaf._growing import add_beside_uns
from slaf._store import Store

if TYPE_CHECKING:
    from slaf.integrations.anndata import LazyAnnData


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


def put_results(adata: LazyAnnData, slots: Mapping[str, Mapping[str, Any]], *, write: bool) -> None:
    """Put entries of obsm, varm, obsp and uns into a data set; those of the same name are replaced.

    With ``write`` they go into the store first, as its next version, in one commit. Other entries
    stay there, also those that others write meanwhile. The data set is one of the new version
    afterwards.

    Raises
    ------
    ConflictError
        If others change ``uns`` all the time.
    """
    if write:
        contents = adata._contents
        store = contents.store

        def opened(number: int) -> Store:
            if number == 0:
                return store
            return Store(store.path, None, store.storage_options, store.verify)

        def merged(uns: Mapping[str, Any]) -> Mapping[str, Any]:
            return {**slots, "uns": {**uns, **slots["uns"]}}

        version, _ = add_beside_uns(opened, merged)
        contents.store = Store(store.path, version, store.storage_options, store.verify)
        # Of an older version, which others may have changed.
        contents.saved.clear()
    for slot, entries in slots.items():
        getattr(adata, slot).update(entries)
