"""What stores keep in AnnData's own on-disk format: uns and unusual entries of obsm and varm."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from slaf._errors import SlafError, from_kind
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
    if path not in store.native.extra_elements():
        yield None
        return
    import h5py

    try:
        image = store.native.extras()
    except SlafError as e:
        place = store.path if e.location is None else e.location
        raise from_kind(e.kind, e.message, f"{place}: {path}") from e
    try:
        with h5py.File(io.BytesIO(image or b""), "r") as file:
            yield file[path]
    except (ImportError, MemoryError, SlafError, Warning):
        raise
    # anndata raises whatever the content of an element leads to, h5py the same of the file.
    except Exception as e:
        is_damage = isinstance(e, (OSError, KeyError)) or _is_of(e, "h5py")
        reason = f"{type(e).__name__}: {e}".splitlines()[0]
        message = f"cannot be read ({reason})"
        if not is_damage:
            message += "; a later anndata may read it"
        kind = "corrupt" if is_damage else "unsupported-feature"
        raise from_kind(kind, message, f"{store.path}: {path}") from e


def _is_of(error: BaseException, package: str) -> bool:
    """Tell whether an error was raised by a package, and not by what it calls."""
    traceback = error.__traceback__
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    name = "" if traceback is None else str(traceback.tb_frame.f_globals.get("__name__", ""))
    return name.split(".")[0] == package


def read_elem() -> Any:
    """Give anndata's reader of elements, wherever this version of anndata has it."""
    try:
        from anndata.io import read_elem
    except ImportError:  # anndata < 0.11.2
        from anndata.experimental import read_elem
    return read_elem
