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
SWAPPED = {
    "less": "greater",
    "less_equal": "greater_equal",
    "greater": "less",
    "greater_equal": "less_equal",
}


def working_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The type in which values are computed: float32, float64, or int64 for integers and bool.

    uint64 is computed in float64, as numpy computes it beside int64.
    """
    if dtype in (np.float32, np.float64):
        return dtype
    if dtype.kind in "biu":
        return np.dtype(np.float64 if dtype == np.uint64 else np.int64)
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

    def apply(self, function: str) -> LazyMatrix:
        """A function of :data:`UNARY` of every value, in float64 where it needs floats."""
        dtype = working_dtype(self.dtype)
        if function in FLOAT_ONLY and dtype.kind != "f":
            dtype = np.dtype(np.float64)
        return self.astype(dtype).then(Step("map", dtype, function))

    def combine(self, op: str, other: Any) -> LazyMatrix:
        """An operation of :data:`BINARY` or :data:`COMPARISONS` with numbers."""
        kind, numbers, weak = self._operand(other, op)
        if weak:
            dtype = np.result_type(self.dtype, other)
        else:
            dtype = np.result_type(self.dtype, numbers.dtype)
        dtype = working_dtype(dtype)
        if op == "divide" and dtype.kind != "f":
            dtype = np.dtype(np.float64)
        if op == "power" and dtype.kind != "f" and bool((numbers < 0).any()):
            raise invalid("integers to negative powers are no integers: use astype('float64')")
        return self._then_combine(op, kind, numbers.astype(dtype), dtype)

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
    ) -> LazyMatrix:
        ready = self.astype(dtype)
        if not _slaf.keeps_zeros(op, numbers):
            ready = ready.densified()
        result = np.dtype(np.bool_) if op in COMPARISONS else dtype
        return ready.then(Step(kind, result, op, numbers, mask=mask))

    def combine_reflected(self, op: str, other: Any) -> LazyMatrix:
        """An operation whose first operand is ``other``."""
        if op in ("add", "multiply", "minimum", "maximum", "equal", "not_equal"):
            return self.combine(op, other)
        if op == "subtract":
            return self.apply("negative").combine("add", other)
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

    def multiply(self, other: Any) -> LazyMatrix:
        """Multiply by a number, or by one for each row or column, as SciPy's ``multiply``."""
        return self.combine("multiply", other)

    def power(self, n: Any) -> LazyMatrix:
        """Every value to a power, as SciPy's ``power``."""
        return self.combine("power", n)

    def log1p(self) -> LazyMatrix:
        """``log(1 + x)`` of every value."""
        return self.apply("log1p")

    def expm1(self) -> LazyMatrix:
        """``exp(x) - 1`` of every value."""
        return self.apply("expm1")

    def sqrt(self) -> LazyMatrix:
        """Square root of every value."""
        return self.apply("sqrt")

    def __neg__(self) -> LazyMatrix:
        return self.apply("negative")

    def __abs__(self) -> LazyMatrix:
        return self.apply("absolute")

    def __add__(self, other: Any) -> LazyMatrix:
        return self.combine("add", other)

    __radd__ = __add__

    def __sub__(self, other: Any) -> LazyMatrix:
        return self.combine("subtract", other)

    def __rsub__(self, other: Any) -> LazyMatrix:
        return self.combine_reflected("subtract", other)

    def __mul__(self, other: Any) -> LazyMatrix:
        return self.combine("multiply", other)

    __rmul__ = __mul__

    def __truediv__(self, other: Any) -> LazyMatrix:
        return self.combine("divide", other)

    def __rtruediv__(self, other: Any) -> LazyMatrix:
        return self.combine_reflected("divide", other)

    def __pow__(self, other: Any) -> LazyMatrix:
        return self.combine("power", other)

    def __eq__(self, other: object) -> LazyMatrix:  # type: ignore[override]
        return self.combine("equal", other)

    def __ne__(self, other: object) -> LazyMatrix:  # type: ignore[override]
        return self.combine("not_equal", other)

    def __lt__(self, other: Any) -> LazyMatrix:
        return self.combine("less", other)

    def __le__(self, other: Any) -> LazyMatrix:
        return self.combine("less_equal", other)

    def __gt__(self, other: Any) -> LazyMatrix:
        return self.combine("greater", other)

    def __ge__(self, other: Any) -> LazyMatrix:
        return self.combine("greater_equal", other)

    __hash__ = None  # type: ignore[assignment]

    def __bool__(self) -> bool:
        raise invalid("the truth value of a matrix is ambiguous: use X.count_nonzero()")
