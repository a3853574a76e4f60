"""A matrix that is read and computed when it is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from slaf import _slaf
from slaf._boundary import Comparison, Request
from slaf._errors import from_kind, invalid
from slaf._selectors import Axis, Positions, positions
from slaf._store import Key, Store
from slaf.integrations._arithmetic import BINARY, COMPARISONS, UNARY
from slaf.integrations._foreign import Foreign, not_lazy
from slaf.integrations._like_scipy import LikeSciPy, sparse_class
from slaf.integrations._operators import Operators
from slaf.integrations._plan import Floats, Source, Step, Stored
from slaf.integrations._statistics import Statistics
from slaf.integrations._transposed import Transposed

if TYPE_CHECKING:
    import scipy.sparse as sp


class LazyMatrix(Operators, Statistics, LikeSciPy, Foreign):
    """Rows and columns of a matrix, and arithmetic on them, not done yet.

    Slicing and arithmetic give another lazy matrix and read nothing; :meth:`compute` and
    :meth:`toarray` read, and so do the reductions (:meth:`sum`, :meth:`mean`, :meth:`var`,
    :meth:`std`, :meth:`min`, :meth:`max`, :meth:`count_nonzero`) and ``@``, in one or two passes
    and without the matrix in memory.

    Arithmetic is that of the matrix that :meth:`to_memory` gives: types and values are SciPy's, or
    numpy's if that is an array. So dividing a sparse matrix by a number gives float64, comparisons
    store no zeros, ``*`` with an array and ``**`` are those of matrices where it is a
    ``csr_matrix``, and :meth:`multiply` and :meth:`power` those of values. Arrays are broadcast
    along the rows or the columns: ``X / totals[:, None]``. Multiplying, dividing and powers leave
    what is not stored. Three things go further. Whole numbers are computed in int64, and an
    overflow is an error, where SciPy keeps narrow types and wraps (float16 becomes float32). What
    changes zeros, such as ``X + 1``, which SciPy refuses, gives a lazy matrix whose :meth:`compute`
    is a dense array. Functions of numpy that SciPy does not know, such as ``np.multiply(X,
    totals[:, None])``, are of values.

    Reductions, and attributes such as ``data``, ``indices`` and ``indptr``, are those of the matrix
    that :meth:`to_memory` gives: of a sparse one, sums are ``np.matrix``. Such attributes read the
    matrix each time and cannot be written into.

    Examples
    --------
    >>> import numpy as np
    >>> from slaf.integrations import read_slaf
    >>> X = read_slaf(store_path).X
    >>> X[1:3, ::-1]
    LazyMatrix(X, shape=(2, 4), dtype=float32)
    >>> np.log1p(X[1:3, ::-1] * 2).toarray().round(2)
    array([[0.  , 0.  , 1.95, 0.  ],
           [2.2 , 0.  , 0.  , 0.  ]], dtype=float32)
    >>> X.sum(axis=0).A1
    array([13., 11., 15.,  7.], dtype=float32)
    """

    ndim = 2
    _called = "a lazy matrix"

    def __init__(self, source: Source, steps: tuple[Step, ...] = ()):
        self._source = source
        self._steps = steps
        self._known = {}

    def __reduce__(self) -> tuple[Any, ...]:
        return LazyMatrix, (self._source, self._steps)

    @classmethod
    def stored(cls, store: Store, key: Key, rows: Axis, cols: Axis) -> LazyMatrix:
        """Rows and columns of a matrix of a store."""
        return cls(Stored(store, key, rows, cols))

    @property
    def name(self) -> str:
        """Where the values come from."""
        return self._source.name

    @property
    def shape(self) -> tuple[int, int]:
        """Number of rows and of columns."""
        return self._source.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the values."""
        return self._steps[-1].dtype if self._steps else self._source.dtype

    @property
    def is_dense(self) -> bool:
        """Whether arithmetic has changed zeros, so that :meth:`compute` gives a dense array."""
        zeros = [step.kind for step in self._steps if step.kind in ("densify", "sparsify")]
        return zeros[-1:] == ["densify"]

    @property
    def encoding(self) -> str:
        """``"csr"``, ``"csc"`` or ``"dense"``: what :meth:`to_memory` gives."""
        return "dense" if self.is_dense else self._source.encoding

    @property
    def nnz(self) -> int:
        """Number of stored values, explicit zeros included.

        Known without reading for a whole matrix and for whole rows and columns of X; otherwise the
        selection is read, and computed if it is a comparison.
        """
        if self.is_dense:
            return self.shape[0] * self.shape[1]
        if any(step.kind == "sparsify" for step in self._steps):
            return len(self._source.compute(self.native_steps()).data)
        return self._source.nnz()

    def stored_along(self, axis: int) -> npt.NDArray[np.intp] | None:
        """Stored values of each column (0) or row (1), if that is known without reading."""
        if any(step.kind in ("densify", "sparsify") for step in self._steps):
            return None
        return self._source.stored_along(axis)

    def __len__(self) -> int:
        return self.shape[0]

    def __repr__(self) -> str:
        steps = "".join(f" -> {s.what or s.kind}" for s in self._steps if s.kind != "cast")
        return f"LazyMatrix({self._source.name}{steps}, shape={self.shape}, dtype={self.dtype})"

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
            positions(rows, self.shape[0], None, "", "row"),
            positions(cols, self.shape[1], None, "", "column"),
        )
        if all(isinstance(i, (int, np.integer)) for i in (rows, cols)):
            return result.toarray()[0, 0]
        return result

    def select(self, rows: Positions, cols: Positions) -> LazyMatrix:
        """Choose the rows and columns at these positions."""
        if _is_all(rows, self.shape[0]) and _is_all(cols, self.shape[1]):
            return self
        source = self._source.select(rows, cols)
        row_index, col_index = _indexer(rows), _indexer(cols)
        chosen = LazyMatrix(source, tuple(s.select(row_index, col_index) for s in self._steps))
        chosen_whole = {"rows": (cols, self.shape[1]), "columns": (rows, self.shape[0])}
        for axis, index in (("rows", row_index), ("columns", col_index)):
            if axis not in self._known or not _is_all(*chosen_whole[axis]):
                continue
            detail, known = self._known[axis]
            # Sums that did not fit may be those that were not chosen.
            if known.sum_if_fits is not None:
                chosen._known[axis] = detail, known.select(index)
        return chosen

    def then(self, *steps: Step) -> LazyMatrix:
        """The matrix after some more steps."""
        return LazyMatrix(self._source, (*self._steps, *steps)) if steps else self

    def copy(self) -> LazyMatrix:
        """The same matrix: lazy matrices do not change."""
        return self

    def native_steps(self) -> list[Step]:
        """The steps as Rust takes them."""
        return [step.native() for step in self._steps]

    def compute(self) -> Any:
        """Read the matrix.

        Returns
        -------
        scipy.sparse.csr_matrix
            Whatever the original encoding was; or a dense array if :attr:`is_dense`. With
            anndata's setting ``use_sparse_array_on_read`` a ``csr_array``, as everywhere here.
        """
        return self.toarray() if self.is_dense else self.tocsr()

    def tocsr(self) -> sp.csr_matrix:
        """Read the matrix as a ``scipy.sparse.csr_matrix``, every value stored if it is dense."""
        made = sparse_class("csr")
        matrix: sp.csr_matrix
        if not self._steps:
            matrix = self._source.csr()
            return matrix if isinstance(matrix, made) else made(matrix)
        parts = self._source.compute(self.native_steps())
        matrix = made((parts.data, parts.indices, parts.indptr), shape=self.shape)
        # Rust promises it, and SciPy would spend a pass to find out.
        matrix.has_canonical_format = True
        return matrix

    def tocsc(self) -> Any:
        """Read the matrix as a ``scipy.sparse.csc_matrix``."""
        return self.tocsr().tocsc()

    def toarray(self) -> npt.NDArray[Any]:
        """Read the matrix as a dense array of shape :attr:`shape`."""
        if not self._steps:
            return self._source.dense()
        if self.is_dense:
            return self._source.compute(self.native_steps()).data.reshape(self.shape)
        array: npt.NDArray[Any] = self.tocsr().toarray()
        return array

    def to_memory(self) -> Any:
        """Read the matrix in its original encoding: CSR, CSC or a dense array."""
        if self.encoding == "dense":
            return self.toarray()
        return self.tocsc() if self.encoding == "csc" else self.tocsr()

    @property
    def T(self) -> LazyMatrix:
        """The transpose, lazily; of its reductions sums and products stream."""
        return self.transpose()

    def transpose(self, axes: None = None) -> LazyMatrix:
        """The transpose, lazily; ``axes`` is there for numpy's signature."""
        if not self._steps and isinstance(self._source, Transposed):
            return self._source.matrix
        return LazyMatrix(Transposed(self))

    def reduce(self, request: Request) -> _slaf.Summary:
        """Statistics as the source gives them; see :meth:`summarize`."""
        return self._source.reduce(self.native_steps(), request)

    def rank_sums(self, comparison: Comparison) -> _slaf.RankSums:
        """Sums of ranks of groups of rows by each column; arrays are columns x groups, flat."""
        return self._source.rank_sums(self.native_steps(), comparison)

    def gram(self) -> _slaf.Gram:
        """Products of all pairs of columns, and their sums, in one pass.

        Memory is that of two matrices of columns x columns in float64.

        Raises
        ------
        InvalidArgumentError
            For NaN and infinite values.
        """
        return self._source.gram(self.native_steps())

    def leading(self, means: Floats, factors: Floats, k: int) -> _slaf.Leading:
        """Eigenvalues of the products of columns less ``means`` and times ``factors``.

        The products are not computed: each 32 vectors of a Krylov space take a pass.
        """
        return self._source.leading(self.native_steps(), means, factors, k)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        name = ufunc.__name__
        if method == "__call__" and not kwargs:
            if name in UNARY:
                return self.apply(name)
            if name == "matmul":
                left, right = inputs
                return self @ right if left is self else self.__rmatmul__(left)
            if name in BINARY or name in COMPARISONS:
                left, right = inputs
                if isinstance(left, LazyMatrix):
                    return left.of_values(name, right)
                return self.of_values_reflected(name, left)
        how = name if method == "__call__" else f"{name}.{method}"
        raise not_lazy(f"np.{how} of a lazy matrix")


def _is_all(chosen: Positions, n: int) -> bool:
    return isinstance(chosen, range) and chosen == range(n)


def _indexer(chosen: Positions) -> Any:
    return np.asarray(chosen, dtype=np.int64)


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
