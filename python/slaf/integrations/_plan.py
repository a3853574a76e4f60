"""What a lazy matrix is made of: where its stored values are, and steps of arithmetic."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from slaf import _boundary as boundary
from slaf import _slaf
from slaf._boundary import Comparison, Request
from slaf._selectors import Axis, for_rust
from slaf._store import Key, Store

Floats = npt.NDArray[np.float64]

if TYPE_CHECKING:
    import scipy.sparse as sp


@dataclass(frozen=True)
class Step:
    """One step of arithmetic.

    Parameters
    ----------
    kind
        ``"cast"``, ``"widen"`` (whole numbers in int64, exactly), ``"map"`` (a function of the
        value), ``"scalar"``, ``"rows"`` or ``"columns"`` (an operation with a number, or with one
        for each row or column), ``"densify"`` (zeros are stored from here on), ``"sparsify"`` (none
        is stored), or ``"product"`` (a product of two matrices is subtracted).
    dtype
        The type of the values after the step.
    what
        The type, function or operation, as numpy names it.
    numbers
        The operand; of a product the left factor, rows x k.
    right
        Of a product the right factor, k x columns.
    mask
        One entry for each row that says whether it changes; ``None`` for all rows.
    """

    kind: str
    dtype: np.dtype[Any]
    what: str = ""
    numbers: npt.NDArray[Any] = field(default_factory=lambda: np.empty(0))
    right: npt.NDArray[np.float64] | None = None
    mask: npt.NDArray[np.bool_] | None = None

    def select(self, rows: Any, cols: Any) -> Step:
        """The step for some rows and columns."""
        mask = None if self.mask is None else self.mask[rows]
        if self.kind == "rows":
            return replace(self, numbers=self.numbers[rows], mask=mask)
        if self.kind == "columns":
            return replace(self, numbers=self.numbers[cols], mask=mask)
        if self.kind == "product":
            assert self.right is not None
            return replace(self, numbers=self.numbers[rows], right=self.right[:, cols])
        return self if mask is None else replace(self, mask=mask)

    @property
    def k(self) -> int:
        """Of a product the number of its terms; else 0."""
        return 0 if self.right is None else len(self.right)

    def native(self) -> Step:
        """The step as Rust takes it: flat arrays at addresses that it can read."""
        if self.right is None:
            return replace(self, numbers=for_rust(self.numbers))
        left, right = (for_rust(m, np.float64) for m in (self.numbers, self.right))
        return FlatProduct(
            self.kind, self.dtype, numbers=left.ravel(), right=right.ravel(), terms=self.k
        )


@dataclass(frozen=True)
class FlatProduct(Step):
    """A product whose factors are flat."""

    terms: int = 0

    @property
    def k(self) -> int:
        """The number of terms."""
        return self.terms


class Source(Protocol):
    """Where the values of a lazy matrix come from."""

    name: str

    @property
    def shape(self) -> tuple[int, int]:
        """Number of rows and of columns."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the values."""

    @property
    def encoding(self) -> str:
        """``"csr"``, ``"csc"`` or ``"dense"``: the form that the matrix has in memory."""

    def select(self, rows: Any, cols: Any) -> Source:
        """Rows and columns of the source, by positions."""

    def nnz(self) -> int:
        """Number of stored values, explicit zeros included."""

    def stored_along(self, axis: int) -> npt.NDArray[np.intp] | None:
        """Stored values of each column (0) or row (1), if that is known without reading."""

    def csr(self) -> sp.csr_matrix:
        """The matrix."""

    def dense(self) -> npt.NDArray[Any]:
        """The matrix as a dense array."""

    def compute(self, steps: list[Step]) -> _slaf.Csr:
        """The matrix after some steps: indptr, indices, values."""

    def reduce(self, steps: list[Step], request: Request) -> _slaf.Summary:
        """Statistics of the matrix after some steps."""

    def rank_sums(self, steps: list[Step], comparison: Comparison) -> _slaf.RankSums:
        """Sums of ranks of groups of rows by each column of the matrix after some steps."""

    def gram(self, steps: list[Step]) -> _slaf.Gram:
        """Products and sums of the columns of the matrix after some steps."""

    def leading(self, steps: list[Step], means: Floats, factors: Floats, k: int) -> _slaf.Leading:
        """Eigenvalues of products of columns less means and times factors, without the products."""


class Stored:
    """Rows and columns of a matrix of a store."""

    def __init__(self, store: Store, key: Key, rows: Axis, cols: Axis):
        self._store = store
        self._key = key
        self._rows = rows
        self._cols = cols
        self.name = f"{key.slot}[{key.name!r}]" if key.name else key.slot

    @property
    def shape(self) -> tuple[int, int]:
        """Number of rows and of columns."""
        return len(self._rows), len(self._cols)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the values."""
        return self._store.matrix(self._key).dtype

    @property
    def encoding(self) -> str:
        """The form that the matrix had when it was stored."""
        return self._store.matrix(self._key).encoding

    def select(self, rows: Any, cols: Any) -> Stored:
        """Choose the rows and columns at these positions."""
        return Stored(self._store, self._key, self._rows.select(rows), self._cols.select(cols))

    def nnz(self) -> int:
        """Number of stored values; read unless the store has it."""
        if self._cols.is_all and self._rows.is_all:
            return self._store.matrix(self._key).nnz
        for axis in (0, 1):
            stored = self.stored_along(axis)
            if stored is not None:
                return int(stored.sum(dtype=np.int64))
        return len(self._store.read(self._key, self._rows, self._cols).data)

    def stored_along(self, axis: int) -> npt.NDArray[np.intp] | None:
        """Stored values of each column (0) or row (1), if the store has them: whole ones of X."""
        whole, chosen = (self._rows, self._cols) if axis == 0 else (self._cols, self._rows)
        if self._key != Key("X") or not whole.is_all:
            return None
        native = self._store.native
        stored = native.nnz_per_gene() if axis == 0 else native.nnz_per_cell()
        return None if stored is None else stored[chosen.indexer()].astype(np.intp)

    def csr(self) -> sp.csr_matrix:
        """Read the matrix."""
        return self._store.csr(self._key, self._rows, self._cols)

    def dense(self) -> npt.NDArray[Any]:
        """Read the matrix as a dense array."""
        return self._store.dense(self._key, self._rows, self._cols)

    def _native(self) -> boundary.Stored:
        return boundary.Stored(self._key, self._rows.native(), self._cols.native())

    def compute(self, steps: list[Step]) -> _slaf.Csr:
        """Read the matrix through some steps."""
        return _slaf.compute_stored(self._store.native, self._native(), steps)

    def reduce(self, steps: list[Step], request: Request) -> _slaf.Summary:
        """Statistics, in one pass over the stored rows."""
        return _slaf.reduce_stored(self._store.native, self._native(), steps, request)

    def rank_sums(self, steps: list[Step], comparison: Comparison) -> _slaf.RankSums:
        """Sums of ranks, gene by gene."""
        return _slaf.rank_sums_stored(self._store.native, self._native(), steps, comparison)

    def gram(self, steps: list[Step]) -> _slaf.Gram:
        """Products and sums of columns, in one pass over the stored rows."""
        return _slaf.gram_stored(self._store.native, self._native(), steps)

    def leading(self, steps: list[Step], means: Floats, factors: Floats, k: int) -> _slaf.Leading:
        """Eigenvalues of products of columns, in some passes over the stored rows."""
        return _slaf.leading_stored(self._store.native, self._native(), steps, means, factors, k)


class InMemory:
    """A matrix that the user gave."""

    def __init__(self, matrix: Any, encoding: str, name: str = "array"):
        self._matrix = matrix
        self.encoding = encoding
        self.name = name

    @classmethod
    def of(cls, value: Any) -> InMemory:
        """Take a dense array or a sparse matrix."""
        import scipy.sparse as sp

        if hasattr(value, "tocsr"):
            matrix = sp.csr_matrix(value)
            if not matrix.has_canonical_format:
                # It shares the arrays of the user's matrix, which is not to change.
                matrix = matrix.copy()
                matrix.sum_duplicates()
            return cls(matrix, "csc" if value.format == "csc" else "csr")
        return cls(sp.csr_matrix(np.asarray(value)), "dense")

    @property
    def shape(self) -> tuple[int, int]:
        """Number of rows and of columns."""
        rows, cols = self._matrix.shape
        return rows, cols

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the values."""
        dtype: np.dtype[Any] = self._matrix.dtype
        return dtype

    def select(self, rows: Any, cols: Any) -> InMemory:
        """Choose the rows and columns at these positions."""
        matrix = self._matrix[np.asarray(rows, dtype=np.int64)]
        matrix = matrix[:, np.asarray(cols, dtype=np.int64)]
        matrix.sort_indices()
        return InMemory(matrix, self.encoding, self.name)

    def nnz(self) -> int:
        """Number of stored values."""
        return int(self._matrix.nnz)

    def stored_along(self, axis: int) -> npt.NDArray[np.intp]:
        """Stored values of each column (0) or row (1)."""
        return np.asarray(self._matrix.getnnz(axis), dtype=np.intp)

    def csr(self) -> sp.csr_matrix:
        """A copy of the matrix."""
        copy: sp.csr_matrix = self._matrix.copy()
        return copy

    def dense(self) -> npt.NDArray[Any]:
        """The matrix as a dense array."""
        array: npt.NDArray[Any] = self._matrix.toarray()
        return array

    def _native(self) -> _slaf.Csr:
        m = self._matrix
        return _slaf.Csr(for_rust(m.data), for_rust(m.indices), for_rust(m.indptr))

    def compute(self, steps: list[Step]) -> _slaf.Csr:
        """The matrix after some steps."""
        return _slaf.compute_csr(self._native(), self.shape[1], steps)

    def reduce(self, steps: list[Step], request: Request) -> _slaf.Summary:
        """Statistics of the matrix after some steps."""
        return _slaf.reduce_csr(self._native(), self.shape[1], steps, request)

    def rank_sums(self, steps: list[Step], comparison: Comparison) -> _slaf.RankSums:
        """Sums of ranks of the matrix after some steps."""
        return _slaf.rank_sums_csr(self._native(), self.shape[1], steps, comparison)

    def gram(self, steps: list[Step]) -> _slaf.Gram:
        """Products and sums of the columns of the matrix after some steps."""
        return _slaf.gram_csr(self._native(), self.shape[1], steps)

    def leading(self, steps: list[Step], means: Floats, factors: Floats, k: int) -> _slaf.Leading:
        """Eigenvalues of products of columns of the matrix after some steps."""
        return _slaf.leading_csr(self._native(), self.shape[1], steps, means, factors, k)
