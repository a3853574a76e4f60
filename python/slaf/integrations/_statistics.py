"""Reductions of lazy matrices."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from slaf import _slaf
from slaf._boundary import Factor, Request
from slaf._errors import from_kind, invalid
from slaf._selectors import for_rust
from slaf.integrations._like_scipy import sparse_class

#: How much may be known of rows and columns.
DETAILS = ("sums", "squares", "all")
#: Integers above this have no exact float64.
EXACT = 2**53


@dataclass(frozen=True)
class Moments:
    """Counts and sums of rows, or of columns (of groups: groups x columns, rows x groups).

    Attributes
    ----------
    nonzero, nan : ndarray of uint32
        How many values are not zero, are NaN and were left out.
    positive_if_asked, fractional_if_asked : ndarray of uint32, or ``None``
        How many values are above zero, and are no integers, if that was asked for.
    square : ndarray of float64
        With detail ``"squares"``: sums over nonzero values of the squared distance to a centre,
        of columns the one that was given (0 if none was), of rows the mean of the row.
    min, max : ndarray of float64, or int64 of integers (uint64 of uint64)
        With detail ``"all"``; zeros included.
    sum_if_fits : ndarray like ``min``, or ``None``
        ``None`` if a sum is beyond the type.
    """

    nonzero: npt.NDArray[np.uint32]
    nan: npt.NDArray[np.uint32]
    positive_if_asked: npt.NDArray[np.uint32] | None
    fractional_if_asked: npt.NDArray[np.uint32] | None
    square: npt.NDArray[np.float64]
    min: npt.NDArray[Any]
    max: npt.NDArray[Any]
    sum_if_fits: npt.NDArray[Any] | None

    @classmethod
    def of(cls, native: _slaf.Stats, shape: tuple[int, ...], signs: bool) -> Moments:
        """The statistics that Rust gave."""
        return cls(
            nonzero=native.nonzero.reshape(shape),
            nan=native.nan.reshape(shape),
            positive_if_asked=native.positive.reshape(shape) if signs else None,
            fractional_if_asked=native.fractional.reshape(shape) if signs else None,
            square=native.square.reshape(shape),
            min=native.min.reshape(shape),
            max=native.max.reshape(shape),
            sum_if_fits=None if native.sum is None else native.sum.reshape(shape),
        )

    @property
    def positive(self) -> npt.NDArray[np.uint32]:
        """How many values are above zero, which was asked for."""
        assert self.positive_if_asked is not None
        return self.positive_if_asked

    @property
    def fractional(self) -> npt.NDArray[np.uint32]:
        """How many values are no integers, which was asked for."""
        assert self.fractional_if_asked is not None
        return self.fractional_if_asked

    @property
    def sum(self) -> npt.NDArray[Any]:
        """The sums.

        Raises
        ------
        InvalidArgumentError
            If one is beyond int64.
        """
        if self.sum_if_fits is None:
            raise invalid("a sum overflows int64: use astype('float64')")
        return self.sum_if_fits

    def select(self, index: Any) -> Moments:
        """The statistics of some rows or columns."""
        return self._each(lambda array: array[index])

    def transpose(self) -> Moments:
        """The statistics of groups with the axes exchanged."""
        return self._each(lambda array: array.T)

    def _each(self, change: Callable[[Any], Any]) -> Moments:
        arrays: list[Any] = [getattr(self, field.name) for field in fields(self)]
        changed: list[Any] = [None if array is None else change(array) for array in arrays]
        return Moments(*changed)

    def variance(self, n: Any, centre: Any, ddof: int) -> npt.NDArray[np.float64]:
        """Variance of ``n`` values, when ``square`` is about ``centre``, which is the mean."""
        squares = self.square + (n - self.nonzero.astype(np.int64)) * centre**2
        return np.asarray(np.true_divide(squares, n - ddof))


@dataclass(frozen=True)
class Running:
    """Statistics of the stored values of columns, groups x columns, by Welford's algorithm.

    Attributes
    ----------
    stored : ndarray of uint32
        How many values are stored, zeros among them.
    mean, square : ndarray of float64
        Their mean, and the sum of squared deviations from it, updated value by value in the order
        of the rows.
    """

    stored: npt.NDArray[np.uint32]
    mean: npt.NDArray[np.float64]
    square: npt.NDArray[np.float64]

    def with_zeros(
        self, sizes: npt.NDArray[np.int64]
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Mean and variance (ddof 0) of groups of so many values; of none 0.

        What is not stored is a block of zeros that is merged by the formula of Chan (1979), with
        the roundings of ``scanpy.get.aggregate``.
        """
        n = sizes[:, None]
        stored = self.stored.astype(np.int64)
        zeros = n - stored
        some = (zeros > 0) & (stored > 0)
        with np.errstate(invalid="ignore", divide="ignore"):
            mean = np.where(some, self.mean * stored / n, self.mean)
            between = self.mean * self.mean * stored * zeros / n
            var = np.where(some, self.square + between, self.square) / n
        return mean, np.where(n == 0, 0.0, var)


class Summary:
    """The answer of :meth:`Statistics.summarize`."""

    def __init__(self, native: Any, n_rows: int, n_cols: int, request: Request):
        groups, of_columns = request.groups, request.column_groups
        signs = request.signs or request.detail == "all"
        shape = (n_rows,) if of_columns is None else (n_rows, of_columns.n)
        self.rows = Moments.of(native.rows, shape, signs) if request.rows else None
        shape = (n_cols,) if groups is None else (groups.n, n_cols)
        self.columns = Moments.of(native.columns, shape, signs) if request.columns else None
        self.running: Running | None = None
        if native.running is not None:
            of = native.running
            parts = (part.reshape(-1, n_cols) for part in (of.stored, of.mean, of.square))
            self.running = Running(*parts)
        self.top: npt.NDArray[np.float64] = native.top.reshape(n_rows, len(request.top))
        self.dot: npt.NDArray[np.float64] = native.dot
        self.left: npt.NDArray[np.float64] = native.left

    def of_rows(self) -> Moments:
        """The statistics of rows, which were asked for."""
        assert self.rows is not None
        return self.rows

    def of_columns(self) -> Moments:
        """The statistics of columns, which were asked for."""
        assert self.columns is not None
        return self.columns

    def of_running(self) -> Running:
        """The running statistics, which were asked for."""
        assert self.running is not None
        return self.running


class Statistics:
    """Reductions that stream: memory does not grow with the number of stored values.

    Sums are accumulated in float64, of integers exactly; one that is beyond int64 (uint64 of
    uint64) is an error where it is asked for. Results along an axis are what the matrix in memory
    gives: ``np.matrix`` of a sparse matrix (of its ``max`` and ``min`` a COO matrix), and
    one-dimensional arrays of a dense one; scalars for ``axis=None``. Types are numpy's.
    """

    # Statistics of the rows and of the columns that are known, and in which detail.
    _known: dict[str, tuple[str, Moments]]

    @property
    @abstractmethod
    def shape(self) -> tuple[int, int]:
        """Number of rows and of columns."""

    @property
    @abstractmethod
    def dtype(self) -> np.dtype[Any]:
        """Type of the values."""

    @property
    @abstractmethod
    def encoding(self) -> str:
        """The form that the matrix has in memory."""

    @abstractmethod
    def reduce(self, request: Request) -> Any:
        """Statistics as the source gives them."""

    def summarize(self, **wanted: Any) -> Summary:
        """Several statistics in one pass over the stored rows.

        Parameters
        ----------
        **wanted
            The fields of :class:`slaf._boundary.Request`.
        """
        request = Request(**wanted)
        summary = Summary(self.reduce(request), *self.shape, request)
        if not request.skip_nan:
            if summary.rows is not None and request.column_groups is None:
                self._know("rows", request.detail, summary.rows)
            if summary.columns is not None and request.groups is None and request.centres is None:
                self._know("columns", request.detail, summary.columns)
        return summary

    def _know(self, axis: str, detail: str, moments: Moments) -> None:
        if not self._knows(axis, detail, moments.positive_if_asked is not None):
            self._known[axis] = detail, moments

    def _knows(self, axis: str, detail: str, signs: bool) -> bool:
        if axis not in self._known:
            return False
        known, moments = self._known[axis]
        is_enough = DETAILS.index(known) >= DETAILS.index(detail)
        return is_enough and (moments.positive_if_asked is not None or not signs)

    def known_rows(self, detail: str = "sums", signs: bool = False) -> Moments:
        """Statistics of the rows, which are read if they are not known."""
        if self._knows("rows", detail, signs):
            return self._known["rows"][1]
        return self.summarize(rows=True, detail=detail, signs=signs).of_rows()

    def known_columns(self, detail: str = "sums", signs: bool = False) -> Moments:
        """Statistics of the columns, which are read if they are not known."""
        if self._knows("columns", detail, signs):
            return self._known["columns"][1]
        return self.summarize(columns=True, detail=detail, signs=signs).of_columns()

    def _moments(
        self, axis: int | None, detail: str = "sums", centres: Any = None
    ) -> tuple[Moments, int]:
        """Statistics along an axis, and of how many values each is."""
        if axis in (1, -1):
            return self.known_rows(detail), self.shape[1]
        if axis not in (None, 0, -2):
            raise from_kind("out-of-range", f"axis {axis} of a matrix with 2 axes")
        if centres is None:
            return self.known_columns(detail), self.shape[0]
        centres = for_rust(centres, np.float64)
        return self.summarize(
            columns=True, detail=detail, centres=centres
        ).of_columns(), self.shape[0]

    def _sum_dtype(self) -> np.dtype[Any]:
        if self.dtype.kind == "f":
            return self.dtype
        return np.dtype(np.uint64 if self.dtype.kind == "u" else np.int64)

    def _mean_dtype(self) -> np.dtype[Any]:
        return self.dtype if self.dtype.kind == "f" else np.dtype(np.float64)

    def _as_in_memory(self, values: Any, axis: int | None, dtype: Any, keepdims: bool) -> Any:
        """A result of a reduction in the type that the matrix in memory gives."""
        values = np.asarray(values).astype(dtype)
        if axis is None:
            return values.reshape(1, 1) if keepdims else values[()]
        two = values[:, None] if axis in (1, -1) else values[None]
        if self.encoding != "dense" and not sparse_class("csr").__name__.endswith("array"):
            return two.view(np.matrix)
        return two if keepdims else values

    def sum(
        self, axis: int | None = None, dtype: Any = None, out: None = None, keepdims: bool = False
    ) -> Any:
        """Sum over all values, over each column (``axis=0``) or each row (``axis=1``)."""
        _no_out(out)
        sums = self._moments(axis)[0].sum
        result = _exact_sum(sums) if axis is None else sums
        return self._as_in_memory(result, axis, dtype or self._sum_dtype(), keepdims)

    def mean(
        self, axis: int | None = None, dtype: Any = None, out: None = None, keepdims: bool = False
    ) -> Any:
        """Mean over all values, over each column or each row; of integers in float64."""
        _no_out(out)
        moments, n = self._moments(axis)
        total = _exact_sum(moments.sum) if axis is None else moments.sum
        n = self.shape[0] * self.shape[1] if axis is None else n
        means = np.true_divide(total, n)
        return self._as_in_memory(means, axis, dtype or self._mean_dtype(), keepdims)

    def var(
        self,
        axis: int | None = None,
        dtype: Any = None,
        out: None = None,
        ddof: int = 0,
        keepdims: bool = False,
    ) -> Any:
        """Variance; ``axis=0`` and ``axis=None`` take two passes, which keeps it accurate.

        In the form of :meth:`mean`; SciPy's matrices have none.
        """
        _no_out(out)
        var = self._variance(axis, ddof)
        return self._as_in_memory(var, axis, dtype or self._mean_dtype(), keepdims)

    def std(
        self,
        axis: int | None = None,
        dtype: Any = None,
        out: None = None,
        ddof: int = 0,
        keepdims: bool = False,
    ) -> Any:
        """Standard deviation; see :meth:`var`."""
        _no_out(out)
        std = np.sqrt(self._variance(axis, ddof))
        return self._as_in_memory(std, axis, dtype or self._mean_dtype(), keepdims)

    def _variance(self, axis: int | None, ddof: int) -> Any:
        rows, cols = self.shape
        of_rows = axis in (1, -1)
        moments, n = self._moments(axis, "squares" if of_rows else "sums")
        if axis is None:
            n = rows * cols
            centre = np.full(cols, np.true_divide(_exact_sum(moments.sum), n))
        else:
            centre = np.true_divide(moments.sum, n)
        if not of_rows:
            moments, _ = self._moments(axis, "squares", centre)
        if axis is not None:
            return moments.variance(n, centre, ddof)
        return moments.variance(rows, centre, 0).sum() * rows / (n - ddof)

    def min(self, axis: int | None = None, out: None = None, keepdims: bool = False) -> Any:
        """Least value, zeros included; NaN if there is one."""
        _no_out(out)
        return self._extreme("min", axis, keepdims)

    def max(self, axis: int | None = None, out: None = None, keepdims: bool = False) -> Any:
        """Greatest value, zeros included; NaN if there is one."""
        _no_out(out)
        return self._extreme("max", axis, keepdims)

    def _extreme(self, name: str, axis: int | None, keepdims: bool) -> Any:
        rows, cols = self.shape
        if (rows * cols if axis is None else (cols if axis in (1, -1) else rows)) == 0:
            raise invalid(f"{name} of no values")
        extremes = getattr(self._moments(axis, "all")[0], name)
        if axis is None:
            extremes = getattr(np, name)(extremes)
        elif self.encoding != "dense":
            # Of one row or column, SciPy gives it back in the form that its versions differ in.
            two = extremes.astype(self.dtype)
            two = two[:, None] if axis in (1, -1) else two[None]
            return getattr(sparse_class("csr")(two), name)(axis=axis)
        return self._as_in_memory(extremes, axis, self.dtype, keepdims)

    def count_nonzero(self, axis: int | None = None) -> Any:
        """How many values are not zero."""
        counts = self._moments(axis)[0].nonzero
        return int(counts.sum()) if axis is None else counts.astype(np.int64)

    def __matmul__(self, other: Any) -> npt.NDArray[Any]:
        """The product with a dense matrix or vector, in one pass."""
        weights, dtype = self._factor(other, self.shape[1], 0)
        product = self.summarize(rows=True, dot=Factor.of(weights)).dot
        return _product(product.reshape(self.shape[0], *weights.shape[1:]), dtype)

    def dot(self, other: Any) -> npt.NDArray[Any]:
        """The product with a dense matrix or vector: ``X @ other``."""
        return self.__matmul__(other)

    def __rmatmul__(self, other: Any) -> npt.NDArray[Any]:
        """The product of a dense matrix or vector with this one, in one pass."""
        weights, dtype = self._factor(other, self.shape[0], -1)
        product = self.summarize(columns=True, left=Factor.of(weights.T)).left
        return _product(product.reshape(*weights.shape[:-1], self.shape[1]), dtype)

    def _factor(self, other: Any, n: int, axis: int) -> tuple[npt.NDArray[Any], np.dtype[Any]]:
        if isinstance(other, Statistics) or hasattr(other, "tocsr"):
            message = "the product of a lazy and a sparse matrix is not lazy: use X.compute()"
            raise from_kind("unsupported-feature", message)
        weights = np.asarray(other)
        if (
            weights.ndim not in (1, 2)
            or weights.shape[axis] != n
            or weights.dtype.kind not in "biuf"
        ):
            factors = f"{self.shape} and {weights.shape} ({weights.dtype})"
            raise invalid(f"matmul of shapes {factors} is not defined")
        dtype = np.result_type(self.dtype, weights.dtype)
        return weights, np.dtype(np.int64) if dtype.kind in "biu" else dtype


def _no_out(out: None) -> None:
    if out is not None:
        raise from_kind("unsupported-feature", "reductions of lazy matrices take no out=")


def _exact_sum(sums: npt.NDArray[Any]) -> Any:
    """The sum; of integers with an error where numpy would wrap."""
    if sums.dtype.kind == "f":
        return sums.sum()
    total, limits = sum(int(s) for s in sums), np.iinfo(sums.dtype)
    if not limits.min <= total <= limits.max:
        raise invalid(f"a sum overflows {sums.dtype}: use astype('float64')")
    return sums.dtype.type(total)


def _product(product: npt.NDArray[np.float64], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    if dtype.kind in "iu" and product.size and np.abs(product).max() > EXACT:
        raise invalid("a product of integers is beyond 2^53: use astype('float64')")
    return product.astype(dtype)
