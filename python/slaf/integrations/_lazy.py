"""A matrix of a store that is read when it is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from slaf._errors import from_kind, invalid
from slaf._selectors import Axis, Positions, positions
from slaf._store import Key, MatrixInfo, Store

if TYPE_CHECKING:
    import scipy.sparse as sp


class LazyMatrix:
    """Rows and columns of a matrix in a store.

    Slicing gives another lazy matrix and reads nothing; :meth:`compute` and :meth:`toarray` read.

    Examples
    --------
    >>> from slaf.integrations import read_slaf
    >>> X = read_slaf(store_path).X
    >>> X[1:3, ::-1]
    LazyMatrix(X, shape=(2, 4), dtype=float32)
    >>> X[1:3, ::-1].toarray()
    array([[0., 0., 3., 0.],
           [4., 0., 0., 0.]], dtype=float32)
    """

    ndim = 2

    def __init__(self, store: Store, key: Key, rows: Axis, cols: Axis):
        self._store = store
        self._key = key
        self._rows = rows
        self._cols = cols

    @property
    def _info(self) -> MatrixInfo:
        return self._store.matrix(self._key)

    @property
    def shape(self) -> tuple[int, int]:
        """Number of rows and of columns."""
        return len(self._rows), len(self._cols)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the values."""
        return self._info.dtype

    @property
    def nnz(self) -> int:
        """Number of stored values, explicit zeros included.

        Known without reading for a whole matrix and for whole rows of X; otherwise the selection
        is read.
        """
        if self._cols.is_all and self._rows.is_all:
            return self._info.nnz
        if self._cols.is_all and self._key == Key("X"):
            per_cell = self._store.native.nnz_per_cell()
            return int(per_cell[self._rows.indexer()].sum(dtype=np.int64))
        return len(self._store.read(self._key, self._rows, self._cols)[0])

    def __len__(self) -> int:
        return len(self._rows)

    def __repr__(self) -> str:
        name = f"{self._key.slot}[{self._key.name!r}]" if self._key.name else self._key.slot
        return f"LazyMatrix({name}, shape={self.shape}, dtype={self.dtype})"

    def __getitem__(self, index: Any) -> Any:
        """Choose rows, or rows and columns.

        Parameters
        ----------
        index
            Integers, slices, integer arrays or masks, for the rows or for both axes. Two arrays
            must have the shapes that ``np.ix_`` gives.

        Returns
        -------
        LazyMatrix, or a scalar for two integers
        """
        rows, cols = _two_axes(index)
        both_arrays = _is_array(rows) and _is_array(cols)
        if both_arrays and not (np.ndim(rows) == 2 and np.ndim(cols) == 2):
            raise invalid("to choose rows and columns by two arrays, wrap them in np.ix_")
        result = self.select(
            positions(rows, len(self._rows), None, "", "row"),
            positions(cols, len(self._cols), None, "", "column"),
        )
        if all(isinstance(i, (int, np.integer)) for i in (rows, cols)):
            return result.toarray()[0, 0]
        return result

    def select(self, rows: Positions, cols: Positions) -> LazyMatrix:
        """Choose the rows and columns at these positions."""
        return LazyMatrix(self._store, self._key, self._rows.select(rows), self._cols.select(cols))

    def compute(self) -> sp.csr_matrix:
        """Read the matrix.

        Returns
        -------
        scipy.sparse.csr_matrix
            In the type of the stored matrix, whatever its original encoding was.
        """
        return self._store.csr(self._key, self._rows, self._cols)

    def toarray(self) -> npt.NDArray[Any]:
        """Read the matrix as a dense array of shape :attr:`shape`."""
        return self._store.dense(self._key, self._rows, self._cols)

    def to_memory(self) -> Any:
        """Read the matrix in its original encoding: CSR, CSC or a dense array."""
        encoding = self._info.encoding
        if encoding == "dense":
            return self.toarray()
        matrix = self.compute()
        return matrix.tocsc() if encoding == "csc" else matrix

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        if copy is False:
            raise invalid("a lazy matrix has no array without reading it")
        array = self.toarray()
        return array if dtype is None else array.astype(dtype, copy=False)


def _two_axes(index: Any) -> tuple[Any, Any]:
    if not isinstance(index, tuple):
        return index, None
    without = tuple(i for i in index if i is not Ellipsis)
    if len(without) > 2 or len(index) - len(without) > 1:
        raise from_kind("out-of-range", f"{len(index)} indices for a matrix with 2 axes")
    if len(without) == 2:
        return without[0], without[1]
    if not without:
        return None, None
    # `X[..., columns]` counts from the end.
    return (None, without[0]) if index[0] is Ellipsis else (without[0], None)


def _is_array(index: Any) -> bool:
    return not (index is None or isinstance(index, (slice, int, np.integer)))
