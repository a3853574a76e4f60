"""What lazy objects say to code that takes them for data in memory."""

from __future__ import annotations

import sys
from types import FrameType
from typing import Any, NoReturn

from slaf._errors import SlafError, UnsupportedError, from_kind

INSTEAD = (
    "call its like in slaf.integrations.pp, tl or get, or use adata.to_memory(), which reads "
    "everything"
)
#: scanpy's modules that take single genes apart, which numpy reads for them.
_OF_GENES = ("scanpy.get.get", "scanpy.plotting")
#: scanpy's module that takes frames of genes, and an AnnData for its frame.
_OF_FRAMES = "scanpy.plotting._preprocessing"
#: scanpy's modules that would write into uns before they come upon the matrix.
_OF_MATRICES = ("scanpy.preprocessing.", "scanpy.tools._rank_genes_groups")
#: Modules that ask for others: `isinstance` of abstract classes, and SciPy's `issparse`.
_ON_BEHALF = ("abc", "scipy._lib._sparse", "scipy.sparse._base")


class NotOfferedError(UnsupportedError, AttributeError):
    """An attribute or function that works on data in memory only."""


def not_lazy(what: str) -> SlafError:
    """Make the error about an operation that needs the matrix in memory."""
    return from_kind(
        "unsupported-feature",
        f"{what} is not lazy: use X.compute(); for functions of scanpy {INSTEAD}",
    )


def not_in_memory(what: str) -> SlafError:
    """Make the error about a function that needs the data set in memory."""
    return from_kind(
        "unsupported-feature", f"{what} takes an AnnData in memory, not a lazy one: {INSTEAD}"
    )


def is_concat(frame: FrameType) -> bool:
    """Whether the code of a frame is ``anndata.concat``."""
    return frame.f_globals.get("__name__") == "anndata._core.merge"


def needs_matrix(frame: FrameType | None) -> bool:
    """Whether the code of a frame works for a function of scanpy that reads the whole matrix."""
    while frame is not None and frame.f_globals.get("__name__") == "scanpy._utils":
        frame = frame.f_back
    return frame is not None and str(frame.f_globals.get("__name__")).startswith(_OF_MATRICES)


def _asker(frame: FrameType | None) -> str | None:
    """The module of scanpy or anndata that asks for a class to choose what it does."""
    while frame is not None and frame.f_globals.get("__name__") in _ON_BEHALF:
        frame = frame.f_back
    if frame is None:
        return None
    module = str(frame.f_globals.get("__name__", ""))
    if module == "functools" and "dispatch" in frame.f_locals:
        # A function of `singledispatch` is in the module of its fallback.
        module = str(getattr(frame.f_locals["dispatch"](object), "__module__", ""))
    if module.startswith(_OF_GENES):
        return None
    return module if module.startswith(("scanpy.", "anndata._core.")) else None


class Foreign:
    """Refuses to be taken for something else, with errors that tell what to do.

    scanpy and AnnData decide by classes what they do, and take what they do not know for an array,
    which makes it dense, loses it or fails far from the reason. Both ``isinstance`` and
    ``functools.singledispatch`` ask an object for its ``__class__``.
    """

    #: What messages call the object.
    _called = "a lazy object"

    def _like(self) -> type:
        """The class of objects in memory that have the same frames."""
        return type(self)

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        if sys._getframe(1).f_globals.get("__name__") == _OF_FRAMES:
            return self._like()
        asker = _asker(sys._getframe(1))
        if asker is not None:
            raise not_in_memory(f"{asker.partition('.')[0]} ({asker})")
        return type(self)

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        raise NotOfferedError(
            f"{self._called} has no {name!r}: {INSTEAD}", kind="unsupported-feature"
        )


def not_offered(module: str) -> Any:
    """The ``__getattr__`` of a module: names what to do about functions that are not there."""

    def missing(name: str) -> NoReturn:
        if name.startswith("_"):
            raise AttributeError(name)
        raise NotOfferedError(
            f"slaf does not offer {module}.{name}: call scanpy's with adata.to_memory(), or with "
            "adata.to_dask() where scanpy works with dask",
            kind="unsupported-feature",
        )

    return missing
