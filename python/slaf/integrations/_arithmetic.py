"""Arithmetic of lazy matrices: which steps an operation means."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from slaf import _slaf
from slaf._errors import invalid
from slaf.integrations._foreign import not_lazy
from slaf.integrations._plan import Step

if TYPE_CHECKING:
    from slaf.integrations._lazy import LazyMatrix

FLOAT_ONLY = frozenset({"sqrt", "log1p", "expm1", "floor", "ceil", "rint", "trunc"})
UNARY = frozenset({"negative", "absolute", "sign", "square", *FLOAT_ONLY})
BINARY = frozenset({"add", "subtract", "multiply", "divide", "power", "minimum", "maximum"})
COMPARISONS = frozenset({"equal", "not_equal", "less", "less_equal", "greater", "greater_equal"})
INT64_MAX = np.iinfo(np.int64).max
SWAPPED = {
    "less": "greater",
    "less_equal": "greater_equal",
    "greater": "less",
    "greater_equal": "less_equal",
}


def working_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The type in which values are computed: float32, float64, or int64 for integers and bool."""
    if dtype in (np.float32, np.float64):
        return dtype
    if dtype.kind in "biu":
        return np.dtype(np.int64)
    if dtype == np.float16:
        return np.dtype(np.float32)
    raise invalid(f"a lazy matrix has no values of type {dtype}")


class Arithmetic:
    """Operators and functions that append steps to a plan."""

    # numpy leaves operators between its arrays and this to the methods below.
    __array_priority__ = 1000

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
    def is_dense(self) -> bool:
        """Whether every value is computed, zeros too."""

    @abstractmethod
    def then(self, *steps: Step) -> LazyMatrix:
        """The matrix after some more steps."""

    def astype(self, dtype: Any, copy: bool = True) -> LazyMatrix:
        """The matrix in another type; ``copy`` is there for numpy's signature."""
        dtype = np.dtype(dtype)
        return self.then() if dtype == self.dtype else self.then(Step("cast", dtype, str(dtype)))

    def densified(self) -> LazyMatrix:
        """The matrix with its zeros stored, for steps that change them."""
        return self.then() if self.is_dense else self.then(Step("densify", self.dtype))

    def _working(self, dtype: np.dtype[Any]) -> LazyMatrix:
        """The matrix in a type of :func:`working_dtype`, whole numbers exactly."""
        is_exact = self.dtype == np.uint64 and dtype == np.int64
        return self.then(Step("widen", dtype)) if is_exact else self.astype(dtype)

    def apply(self, function: str) -> LazyMatrix:
        """A function of :data:`UNARY` of every value, in float64 where it needs floats."""
        dtype = working_dtype(self.dtype)
        if function in FLOAT_ONLY and dtype.kind != "f":
            dtype = np.dtype(np.float64)
        return self._working(dtype).then(Step("map", dtype, function))

    def combine(self, op: str, other: Any, *, stored: bool = False) -> LazyMatrix:
        """An operation of :data:`BINARY` or :data:`COMPARISONS` with numbers, as numpy's.

        Parameters
        ----------
        op, other
            The operation, and a number, or one for each row or column.
        stored
            Leave what is not stored, also where it would change.
        """
        kind, numbers, weak = self._operand(other, op)
        dtype = np.result_type(self.dtype, other if weak else numbers.dtype)
        if op in COMPARISONS and dtype.kind in "biu":
            dtype = _comparable(self.dtype, numbers)
        else:
            dtype = working_dtype(dtype)
        if op == "divide" and dtype.kind != "f":
            dtype = np.dtype(np.float64)
        if op == "power" and dtype.kind != "f" and bool((numbers < 0).any()):
            raise invalid("integers to negative powers are no integers: use astype('float64')")
        return self._then_combine(op, kind, _cast(numbers, dtype), dtype, stored=stored)

    def combine_in(
        self, op: str, other: Any, mask: npt.NDArray[np.bool_] | None = None
    ) -> LazyMatrix:
        """An operation with float64 numbers, computed in float64 and rounded to the matrix's type.

        This is what numpy does in place. ``mask`` names the rows that change.
        """
        kind, numbers, _ = self._operand(other, op)
        return self._then_combine(op, kind, numbers.astype(np.float64), self.dtype, mask)

    def _then_combine(
        self,
        op: str,
        kind: str,
        numbers: npt.NDArray[Any],
        dtype: np.dtype[Any],
        mask: npt.NDArray[np.bool_] | None = None,
        *,
        stored: bool = False,
    ) -> LazyMatrix:
        ready = self._working(dtype)
        if not stored and not _slaf.keeps_zeros(op, numbers):
            ready = ready.densified()
        result = np.dtype(np.bool_) if op in COMPARISONS else dtype
        return ready.then(Step(kind, result, op, numbers, mask=mask))

    def combine_reflected(self, op: str, other: Any) -> LazyMatrix:
        """An operation whose first operand is ``other``."""
        if op in ("add", "multiply", "minimum", "maximum", "equal", "not_equal"):
            return self.combine(op, other)
        if op == "subtract":
            kind, numbers, weak = self._operand(other, op)
            dtype = working_dtype(np.result_type(self.dtype, other if weak else numbers.dtype))
            negative = self._working(dtype).apply("negative")
            return negative._then_combine("add", kind, _cast(numbers, dtype), dtype)
        if op in SWAPPED:
            return self.combine(SWAPPED[op], other)
        raise not_lazy(f"np.{op} with a lazy matrix as its second operand")

    def _operand(self, other: Any, op: str) -> tuple[str, npt.NDArray[Any], bool]:
        """The kind of a step, its numbers, and whether the number takes the matrix's type."""
        if isinstance(other, Arithmetic) or hasattr(other, "tocsr"):
            raise not_lazy(f"np.{op} of a lazy and another matrix")
        numbers = np.asarray(other)
        if numbers.dtype.kind not in "biuf":
            raise invalid(f"np.{op} of a lazy matrix and {numbers.dtype} values")
        if numbers.size == 1 and numbers.ndim <= 2:
            return "scalar", numbers.ravel(), isinstance(other, (bool, int, float))
        rows, cols = self.shape
        if numbers.shape == (rows, 1):
            return "rows", numbers.ravel(), False
        if numbers.shape in ((cols,), (1, cols)):
            return "columns", numbers.ravel(), False
        if numbers.shape == self.shape:
            raise not_lazy(f"np.{op} with a whole matrix")
        raise invalid(
            f"operands could not be broadcast together with shapes {self.shape} {numbers.shape}"
        )

    def log1p(self) -> LazyMatrix:
        """``log(1 + x)`` of every value."""
        return self.apply("log1p")

    def expm1(self) -> LazyMatrix:
        """``exp(x) - 1`` of every value."""
        return self.apply("expm1")

    def sqrt(self) -> LazyMatrix:
        """Square root of every value."""
        return self.apply("sqrt")


def _comparable(dtype: np.dtype[Any], numbers: npt.NDArray[Any]) -> np.dtype[Any]:
    """A type in which whole values can be compared with these whole numbers, exactly."""
    if dtype != np.uint64:
        return np.dtype(np.int64)
    # Below zero a rounded value compares as the exact one.
    return np.dtype(np.float64) if bool((numbers < 0).any()) else dtype


def _cast(numbers: npt.NDArray[Any], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    if dtype == np.int64 and numbers.dtype == np.uint64 and bool((numbers > INT64_MAX).any()):
        raise invalid(f"{numbers.max()} is beyond int64: use astype('float64')")
    return numbers.astype(dtype)
