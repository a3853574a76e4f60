"""Lazy matrices with their axes exchanged."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from slaf.integrations._plan import Csr, InMemory, Native

if TYPE_CHECKING:
    import scipy.sparse as sp

    from slaf.integrations._lazy import LazyMatrix

#: What one pass over the stored rows tells of columns as well.
_OF_BOTH = {"rows", "columns", "detail", "dot", "left"}
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

    def csr(self) -> sp.csr_matrix:
        """Read the matrix."""
        return self.matrix.tocsr().T.tocsr()

    def dense(self) -> npt.NDArray[Any]:
        """Read the matrix as a dense array."""
        return np.ascontiguousarray(self.matrix.toarray().T)

    def _read(self) -> InMemory:
        return InMemory.of(self.csr())

    def compute(self, steps: list[Native]) -> Csr:
        """Read the matrix through some steps."""
        return self._read().compute(steps)

    def reduce(self, steps: list[Native], request: dict[str, Any]) -> dict[str, Any]:
        """Statistics: sums and products stream, anything else reads the matrix."""
        if steps or set(request) - _OF_BOTH or request.get("detail", "sums") != "sums":
            return self._read().reduce(steps, request)
        swapped = {"rows": request.get("columns", False), "columns": request.get("rows", False)}
        for ours, theirs in (("dot", "left"), ("left", "dot")):
            if ours in request:
                swapped[theirs] = request[ours]
        found = self.matrix.reduce(swapped)
        result = {**found, "rows": found["columns"], "columns": found["rows"]}
        for ours, theirs, n in (("dot", "left", 0), ("left", "dot", 1)):
            if ours in request:
                k = request[ours][1]
                of_k = (k, self.shape[n]) if ours == "dot" else (self.shape[n], k)
                result[ours] = np.ascontiguousarray(found[theirs].reshape(of_k).T).ravel()
        return result
