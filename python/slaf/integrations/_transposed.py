"""Lazy matrices with their axes exchanged."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from slaf import _slaf
from slaf._boundary import Comparison, Factor, Request
from slaf.integrations._plan import Floats, InMemory, Step

if TYPE_CHECKING:
    import scipy.sparse as sp

    from slaf.integrations._lazy import LazyMatrix

_FORMS = {"csr": "csc", "csc": "csr", "dense": "dense"}


class Transposed:
    """A lazy matrix as the source of its transpose."""

    def __init__(self, matrix: LazyMatrix):
        self.matrix = matrix
        self.name = f"{matrix.name}.T"

    @property
    def shape(self) -> tuple[int, int]:
        """Number of rows and of columns."""
        rows, cols = self.matrix.shape
        return cols, rows

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the values."""
        return self.matrix.dtype

    @property
    def encoding(self) -> str:
        """The form in memory: that of a transpose in SciPy."""
        return _FORMS[self.matrix.encoding]

    def select(self, rows: Any, cols: Any) -> Transposed:
        """Choose the rows and columns at these positions."""
        return Transposed(self.matrix.select(cols, rows))

    def nnz(self) -> int:
        """Number of stored values."""
        return self.matrix.nnz

    def stored_along(self, axis: int) -> npt.NDArray[np.intp] | None:
        """Stored values of each column (0) or row (1), if that is known without reading."""
        return self.matrix.stored_along(1 - axis)

    def csr(self) -> sp.csr_matrix:
        """Read the matrix."""
        return self.matrix.tocsr().T.tocsr()

    def dense(self) -> npt.NDArray[Any]:
        """Read the matrix as a dense array."""
        return np.ascontiguousarray(self.matrix.toarray().T)

    def _read(self) -> InMemory:
        return InMemory.of(self.csr())

    def compute(self, steps: list[Step]) -> _slaf.Csr:
        """Read the matrix through some steps."""
        return self._read().compute(steps)

    def rank_sums(self, steps: list[Step], comparison: Comparison) -> _slaf.RankSums:
        """Sums of ranks; reads the matrix."""
        return self._read().rank_sums(steps, comparison)

    def reduce(self, steps: list[Step], request: Request) -> _slaf.Summary:
        """Statistics: sums and products stream, anything else reads the matrix."""
        # What one pass over the stored rows tells of columns as well.
        others = (request.groups, request.column_groups, request.centres)
        is_plain = request.detail == "sums" and not (
            request.skip_nan or request.running or request.top
        )
        if steps or not is_plain or any(other is not None for other in others):
            return self._read().reduce(steps, request)
        found = self.matrix.reduce(
            Request(
                rows=request.columns,
                columns=request.rows,
                signs=request.signs,
                dot=request.left,
                left=request.dot,
            )
        )
        rows, cols = self.shape
        return _slaf.Summary(
            rows=found.columns,
            columns=found.rows,
            dot=_turned(found.left, request.dot, rows, of_rows=False),
            left=_turned(found.dot, request.left, cols, of_rows=True),
            top=found.top,
            running=None,
        )

    def gram(self, steps: list[Step]) -> _slaf.Gram:
        """Products and sums of columns, of the matrix in memory."""
        return self._read().gram(steps)

    def leading(self, steps: list[Step], means: Floats, factors: Floats, k: int) -> _slaf.Leading:
        """Eigenvalues of products of columns, of the matrix in memory."""
        return self._read().leading(steps, means, factors, k)


def _turned(
    product: npt.NDArray[np.float64], factor: Factor | None, n: int, *, of_rows: bool
) -> npt.NDArray[np.float64]:
    """The transpose of a product with a factor, flat."""
    if factor is None:
        return product
    shape = (n, factor.k) if of_rows else (factor.k, n)
    return np.ascontiguousarray(product.reshape(shape).T).ravel()
