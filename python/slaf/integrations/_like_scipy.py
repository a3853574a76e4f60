"""What SciPy's matrices and numpy's arrays offer beside arithmetic and reductions."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
import numpy.typing as npt

from slaf._errors import from_kind, invalid
from slaf.integrations._foreign import NotOfferedError, not_lazy

if TYPE_CHECKING:
    from slaf.integrations._lazy import LazyMatrix

#: Values of a chunk, zeros counted, when a matrix is read piece by piece.
CHUNK = 2**25
#: numpy's functions that are methods of a lazy matrix.
METHODS = {
    **{name: name for name in ("sum", "mean", "var", "std", "min", "max", "count_nonzero")},
    "amin": "min",
    "amax": "max",
    "nonzero": "nonzero",
    "transpose": "transpose",
    "ravel": "ravel",
}


def sparse_class(form: str) -> Any:
    """SciPy's class in which AnnData holds a CSR or CSC matrix that it reads, by its settings."""
    import anndata
    import scipy.sparse as sp

    is_array = getattr(anndata.settings, "use_sparse_array_on_read", False)
    return getattr(sp, f"{form}_{'array' if is_array else 'matrix'}")


def _part(name: str) -> Any:
    """One of the three arrays of a compressed matrix: computed, and not to be changed."""

    def get(matrix: LikeSciPy) -> npt.NDArray[Any]:
        matrix._needs_compressed(name)
        part: npt.NDArray[Any] = getattr(matrix.to_memory(), name)
        # What is written into it would be lost.
        part.flags.writeable = False
        return part

    def put(matrix: LikeSciPy, value: Any) -> NoReturn:
        raise matrix._unchangeable()

    return property(get, put, doc=f"``{name}`` of the matrix in memory, read each time.")


class LikeSciPy:
    """Attributes and methods of the matrix that :meth:`LazyMatrix.to_memory` gives."""

    data = _part("data")
    indices = _part("indices")
    indptr = _part("indptr")

    @property
    @abstractmethod
    def shape(self) -> tuple[int, int]:
        """Number of rows and of columns."""

    @property
    @abstractmethod
    def encoding(self) -> str:
        """The form that the matrix has in memory."""

    @property
    @abstractmethod
    def nnz(self) -> int:
        """Number of stored values."""

    @abstractmethod
    def stored_along(self, axis: int) -> npt.NDArray[np.intp] | None:
        """Stored values of each column (0) or row (1), if that is known without reading."""

    @abstractmethod
    def to_memory(self) -> Any:
        """Read the matrix in its original encoding."""

    @abstractmethod
    def tocsr(self) -> Any:
        """Read the matrix as CSR."""

    @abstractmethod
    def toarray(self) -> npt.NDArray[Any]:
        """Read the matrix as a dense array."""

    @abstractmethod
    def __getitem__(self, index: Any) -> Any:
        """Choose rows, or rows and columns."""

    def _needs_compressed(self, name: str) -> None:
        if self.encoding == "dense":
            message = f"a lazy matrix that is dense has no {name!r}: use X.toarray()"
            raise NotOfferedError(message, kind="unsupported-feature")

    def _unchangeable(self) -> Exception:
        message = (
            "a lazy matrix does not change in place: use arithmetic, or set what was changed in "
            "memory, as in `adata.X = X`"
        )
        return from_kind("unsupported-feature", message)

    def __setitem__(self, index: Any, value: Any) -> NoReturn:
        raise self._unchangeable()

    def __iter__(self) -> Iterator[Any]:
        return (self[row] for row in range(self.shape[0]))

    @property
    def format(self) -> str:
        """``"csr"`` or ``"csc"``, as SciPy names them."""
        self._needs_compressed("format")
        return self.encoding

    @property
    def size(self) -> int:
        """Number of stored values, or of all values of a dense matrix."""
        return self.shape[0] * self.shape[1] if self.encoding == "dense" else self.nnz

    def getnnz(self, axis: int | None = None) -> Any:
        """Number of stored values, in all or of each column (``axis=0``) or row (``axis=1``)."""
        if axis is None:
            return self.nnz
        if axis not in (0, 1, -1, -2):
            raise from_kind("out-of-range", f"axis {axis} of a matrix with 2 axes")
        stored = self.stored_along(axis % 2)
        if stored is not None:
            return stored
        parts = (part.tocsr() for part in row_chunks(self))
        if axis in (1, -1):
            return np.concatenate(
                [np.empty(0, dtype=np.intp), *(np.diff(p.indptr).astype(np.intp) for p in parts)]
            )
        counts = np.zeros(self.shape[1], dtype=np.intp)
        for part in parts:
            counts += np.bincount(part.indices, minlength=self.shape[1])
        return counts

    def todense(self) -> Any:
        """Read the matrix as a ``np.matrix``; an array by AnnData's setting for sparse arrays."""
        array = self.toarray()
        return array if sparse_class("csr").__name__ == "csr_array" else array.view(np.matrix)

    def tocoo(self) -> Any:
        """Read the matrix as SciPy's COO."""
        return self.tocsr().tocoo()

    def asformat(self, format: str | None) -> Any:  # noqa: A002 - the name in SciPy
        """Read the matrix in a format of SciPy; ``None`` for its own."""
        matrix = self.to_memory()
        if format is None:
            return matrix
        return (self.tocsr() if isinstance(matrix, np.ndarray) else matrix).asformat(format)

    def nonzero(self) -> Any:
        """Rows and columns of the values that are not zero."""
        return self.to_memory().nonzero()

    def ravel(self) -> npt.NDArray[Any]:
        """All values, zeros too, row by row."""
        return self.toarray().ravel()

    flatten = ravel

    def getrow(self, i: int) -> Any:
        """One row, lazily."""
        return self[i]

    def getcol(self, j: int) -> Any:
        """One column, lazily."""
        return self[:, j]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        if dtype is not None and np.dtype(dtype) == object:
            # SciPy makes arrays of blocks so, and takes a matrix for one object.
            one = np.empty((), dtype=object)
            one[()] = self
            return one
        if copy is False:
            raise invalid("a lazy matrix has no array without reading it")
        array = self.toarray()
        return array if dtype is None else array.astype(dtype, copy=False)

    def __array_function__(
        self, function: Callable[..., Any], types: Any, args: Any, kwargs: Any
    ) -> Any:
        name = function.__name__
        if args and args[0] is self:
            if name in METHODS:
                return getattr(self, METHODS[name])(*args[1:], **kwargs)
            if name in ("shape", "ndim"):
                return getattr(self, name)
        raise not_lazy(f"np.{name} of a lazy matrix")


def row_chunks(matrix: Any) -> Iterator[LazyMatrix]:
    """The matrix in pieces of whole rows that fit in memory; none of no rows."""
    rows, cols = matrix.shape
    step = max(1, CHUNK // max(1, cols))
    return (matrix[start : start + step] for start in range(0, rows, step))
