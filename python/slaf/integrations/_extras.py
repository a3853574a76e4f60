"""What stores keep in AnnData's own on-disk format: uns and unusual entries of obsm and varm."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from slaf._store import Store


def read_element(store: Store, path: str) -> Any:
    """Read an element, for example ``"uns"`` or ``"obsm/frame"``; ``None`` if there is none."""
    with _open(store, path) as element:
        return None if element is None else read_elem()(element)


def keys_of(store: Store, path: str) -> list[str]:
    """Names of the members of an element, without reading them."""
    with _open(store, path) as element:
        return [] if element is None else list(element)


def names_below(store: Store, slot: str) -> list[str]:
    """Names of the elements of a slot."""
    prefix = f"{slot}/"
    return [p.removeprefix(prefix) for p in store.native.extra_elements() if p.startswith(prefix)]


@contextmanager
def _open(store: Store, path: str) -> Iterator[Any]:
    image = store.native.extras() if path in store.native.extra_elements() else None
    if image is None:
        yield None
        return
    import h5py

    with h5py.File(io.BytesIO(image), "r") as file:
        yield file[path]


def read_elem() -> Any:
    """Give anndata's reader of elements, wherever this version of anndata has it."""
    try:
        from anndata.io import read_elem
    except ImportError:  # anndata < 0.11.2
        from anndata.experimental import read_elem
    return read_elem
