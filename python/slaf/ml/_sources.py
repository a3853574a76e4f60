"""What a loader or a tokenizer is given: stores, and which of their cells and genes."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

from slaf import SLAFArray
from slaf._array import _reopen
from slaf._errors import invalid
from slaf._selectors import Axis
from slaf._store import Key, Store

if TYPE_CHECKING:
    from slaf.integrations import LazyAnnData

One: TypeAlias = "SLAFArray | LazyAnnData | str | os.PathLike[str]"


class Source(NamedTuple):
    """A store, and the cells and genes that are chosen in it; ``None`` for all."""

    array: SLAFArray
    cells: Axis | None = None
    genes: Axis | None = None
    # The lazy AnnData that it was, whose frames may differ from those of the store.
    lazy: LazyAnnData | None = None

    @property
    def store(self) -> Store:
        """The store."""
        return self.array._store


_X = Key("X")


def take(
    given: One | Iterable[One], cells: Any = None, genes: Any = None, key: Key = _X
) -> list[Source]:
    """Understand what is given as `slaf_array`.

    Parameters
    ----------
    given
        A :class:`slaf.SLAFArray`, a lazy AnnData, a path, or several of them.
    cells, genes
        Selectors; those of cells are for one source.
    key
        The matrix that is read: of a lazy AnnData, it must be as stored.

    Raises
    ------
    InvalidArgumentError
        For anything else, and for a lazy AnnData whose matrix or names were changed.
    """
    from slaf.integrations.anndata import LazyAnnData

    is_one = isinstance(given, (SLAFArray, LazyAnnData, str, os.PathLike))
    if not is_one and not isinstance(given, Iterable):
        raise invalid(_not_a_source(given))
    many: list[Any] = [given] if is_one else list(given)  # type: ignore[arg-type]
    if not many:
        raise invalid("no store to load from")
    if cells is not None and len(many) > 1:
        raise invalid("cells are chosen in one store: use where= or split= with several")
    sources = []
    for i, one in enumerate(many):
        if isinstance(one, LazyAnnData):
            # The genes of the first are looked for by name in the others.
            sources.append(_of_lazy(one, cells, genes if i == 0 else None, key))
            continue
        if isinstance(one, (str, os.PathLike)):
            one = SLAFArray(one, load_metadata=False)
        if not isinstance(one, SLAFArray):
            raise invalid(_not_a_source(one))
        store = one._store
        sources.append(
            Source(
                one,
                None if cells is None else store.select("obs", cells),
                None if genes is None or i > 0 else store.select("var", genes),
            )
        )
    return sources


def _of_lazy(adata: LazyAnnData, cells: Any, genes: Any, key: Key) -> Source:
    from slaf.integrations._origin import changed, origin

    if cells is not None:
        adata = adata[cells]
    if genes is not None:
        adata = adata[:, genes]
    store, rows, cols = origin(adata, key)
    if "index" in changed(adata, "var"):
        raise invalid(
            "names of genes were changed in the lazy AnnData, and a loader reads the store: pass "
            f"SLAFArray({store.path!r})"
        )
    array = _reopen(store, load_metadata=False)
    return Source(array, None if rows.is_all else rows, None if cols.is_all else cols, adata)


def verified(source: Source, verify: Literal["first-touch"]) -> Source:
    """Give a source whose files are compared with their hashes."""
    store = source.store.verified(verify)
    return source._replace(array=_reopen(store, load_metadata=False))


def whole(given: One, what: str) -> SLAFArray:
    """Give the store of a tokenizer, which is for all cells and genes.

    Raises
    ------
    InvalidArgumentError
        For a part of a store, or one that was changed in memory.
    """
    if isinstance(given, (list, tuple)):
        raise invalid(f"a {what} is made for one store; the loader matches it to several")
    (source,) = take(given)
    if source.cells is not None or source.genes is not None:
        raise invalid(
            f"a {what} is made for a whole store, and this is a part of one: pass "
            f"SLAFArray({source.array.path!r}), and the cells to the loader or to tokenize()"
        )
    refuse_changed([source], [], tokens=True)
    return source.array


def refuse_changed(
    sources: Sequence[Source], names: Iterable[str], where: str | None = None, *, tokens: bool
) -> None:
    """Refuse columns of a lazy AnnData that are read of the store and differ from it.

    Raises
    ------
    InvalidArgumentError
        If obs has other values than the store in one of `names` or in a column that `where`
        mentions, or, where `tokens` are looked up in it, var in any stored column.
    """
    used = list(names)
    for source in sources:
        if source.lazy is None:
            continue
        path = source.store.path
        of_obs = changed_columns(source, "obs") if used or where else []
        stale = [c for c in of_obs if c in used or (where is not None and c in where)]
        places = [f"obs[{c!r}]" for c in stale]
        if tokens:
            stored = source.store.column_names("var")
            places += [f"var[{c!r}]" for c in changed_columns(source, "var") if c in stored]
        if places:
            raise invalid(
                f"{', '.join(places)} of the lazy AnnData was changed in memory, and a loader "
                f"reads the store: write the data and convert them, or pass SLAFArray({path!r}) "
                "to use what is stored"
            )


def changed_columns(source: Source, of: str) -> list[str]:
    """Name the columns of the lazy AnnData that are not as stored."""
    from slaf.integrations._origin import changed

    return [] if source.lazy is None else changed(source.lazy, of)


def _not_a_source(given: Any) -> str:
    kind = f"{type(given).__module__.split('.')[0]}.{type(given).__name__}"
    hint = ""
    if hasattr(given, "obs") and hasattr(given, "var"):
        hint = "; SLAFConverter().convert_anndata(adata, path) makes a store of it"
    return f"expected a SLAFArray, a lazy AnnData or the path of a store, not a {kind}{hint}"
