"""Operators of lazy matrices: those of the matrix in memory, which SciPy and numpy define."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any

import numpy as np

from slaf._errors import InvalidArgumentError, from_kind, invalid
from slaf.integrations._arithmetic import COMPARISONS, SWAPPED, Arithmetic
from slaf.integrations._like_scipy import sparse_class
from slaf.integrations._plan import Step

if TYPE_CHECKING:
    from slaf.integrations._lazy import LazyMatrix


class DivisionByZeroError(InvalidArgumentError, ZeroDivisionError):
    """A matrix is divided by the number zero."""


class Operators(Arithmetic):
    """Operators and methods with the meaning that they have for :meth:`LazyMatrix.to_memory`."""

    @property
    @abstractmethod
    def encoding(self) -> str:
        """The form that the matrix has in memory."""

    @property
    def _is_sparse(self) -> bool:
        return self.encoding != "dense"

    @property
    def _is_spmatrix(self) -> bool:
        """Whether ``*`` and ``**`` are products of matrices."""
        return self._is_sparse and not sparse_class("csr").__name__.endswith("array")

    if TYPE_CHECKING:

        def __matmul__(self, other: Any) -> Any:
            """The product with a dense matrix or vector."""

        def __rmatmul__(self, other: Any) -> Any:
            """The product of a dense matrix or vector with this one."""

    # By value

    def of_values(self, op: str, other: Any) -> LazyMatrix:
        """A binary function of numpy, the matrix first."""
        if op in COMPARISONS:
            return self._without_zeros(op, other)
        if op == "multiply":
            return self.multiply(other)
        if op == "divide":
            return self._divide(other)
        if op == "power":
            return self.power(other)
        return self._sum(op, other) if op in ("add", "subtract") else self._without_zeros(op, other)

    def of_values_reflected(self, op: str, other: Any) -> LazyMatrix:
        """A binary function of numpy, the matrix second."""
        if op in ("equal", "not_equal", *SWAPPED):
            return self._without_zeros(SWAPPED.get(op, op), other)
        if op == "multiply":
            if self._is_spmatrix and np.ndim(other) > 0:
                raise from_kind(
                    "unsupported-feature",
                    "an array * a csr_matrix is a product of matrices: write array @ X, or "
                    "X.multiply(array) for products of values",
                )
            return self.multiply(other)
        if op == "add":
            return self._sum(op, other)
        if op == "subtract" and self._is_zero(other):
            return self.apply("negative")
        return self.combine_reflected(op, other)

    def multiply(self, other: Any) -> LazyMatrix:
        """Multiply by a number, or by one for each row or column, as SciPy's ``multiply``."""
        return self._scaled("multiply", other)

    def power(self, n: Any, dtype: Any = None) -> LazyMatrix:
        """Every value to a power, as SciPy's ``power``.

        Parameters
        ----------
        n
            A number; not zero for a sparse matrix, of which what is not stored is left.
        dtype
            The type to compute in, by default that of the matrix.
        """
        matrix = self.then() if dtype is None else self.astype(dtype)
        if not self._is_sparse:
            return matrix.combine("power", n)
        if np.ndim(n) > 0:
            raise from_kind("unsupported-feature", "power() of a sparse matrix takes one number")
        if isinstance(n, (int, float, np.number, np.bool_)) and n == 0:
            raise from_kind(
                "unsupported-feature",
                "a sparse matrix to the power 0 is dense: use np.ones(X.shape, dtype=X.dtype)",
            )
        return matrix.combine("power", n, stored=True)

    def maximum(self, other: Any) -> LazyMatrix:
        """The greater of each value and a number."""
        return self._without_zeros("maximum", other)

    def minimum(self, other: Any) -> LazyMatrix:
        """The lesser of each value and a number."""
        return self._without_zeros("minimum", other)

    def _without_zeros(self, op: str, other: Any) -> LazyMatrix:
        """A comparison or an extreme, which may make zeros of what is stored."""
        return self.combine(op, other)._as_sparse_as(self)

    def _as_sparse_as(self, operand: Operators) -> LazyMatrix:
        """The matrix without stored zeros, if the operand was sparse."""
        return self.then(Step("sparsify", self.dtype)) if operand._is_sparse else self.then()

    def _scaled(self, op: str, other: Any) -> LazyMatrix:
        """A product or quotient; of a dense matrix also where zero times a number is NaN."""
        if self._is_sparse:
            return self.combine(op, other)
        numbers = np.asarray(other)
        if numbers.dtype.kind in "biuf":
            kept = np.isfinite(numbers) if op == "multiply" else (numbers != 0) & ~np.isnan(numbers)
            if not kept.all():
                return self.densified().combine(op, other)
        return self.combine(op, other)

    def _divide(self, other: Any) -> LazyMatrix:
        if not self._is_sparse:
            return self._scaled("divide", other)
        self._operand(other, "divide")
        if isinstance(other, (int, float)) and not isinstance(other, np.generic) and other == 0:
            raise DivisionByZeroError("division by zero", kind="invalid-argument")
        with np.errstate(divide="ignore"):
            # SciPy multiplies by the inverse, which rounds otherwise than a division.
            if np.ndim(other) == 0:
                return self.astype(np.float64).combine("multiply", np.float64(1 / other))
            return self.combine("multiply", np.divide(1, np.asarray(other)))

    def _sum(self, op: str, other: Any) -> LazyMatrix:
        return self.then() if self._is_zero(other) else self.combine(op, other)

    def _is_zero(self, other: Any) -> bool:
        """Whether a number is zero, beside which a sparse matrix keeps its type."""
        is_number = isinstance(other, (int, float, np.number, np.bool_))
        return self._is_sparse and is_number and bool(other == 0)

    # Operators

    def __neg__(self) -> LazyMatrix:
        if self.dtype == np.bool_:
            raise from_kind("unsupported-feature", "the negative of a matrix of bool: use X == 0")
        return self.apply("negative")

    def __abs__(self) -> LazyMatrix:
        return self.apply("absolute")

    def __add__(self, other: Any) -> LazyMatrix:
        return self._sum("add", other)

    __radd__ = __add__

    def __sub__(self, other: Any) -> LazyMatrix:
        return self._sum("subtract", other)

    def __rsub__(self, other: Any) -> LazyMatrix:
        return self.of_values_reflected("subtract", other)

    def __mul__(self, other: Any) -> Any:
        if self._is_spmatrix and np.ndim(other) > 0:
            return self @ other
        return self.multiply(other)

    def __rmul__(self, other: Any) -> Any:
        if self._is_spmatrix and np.ndim(other) > 0:
            return self.__rmatmul__(other)
        return self.multiply(other)

    def __truediv__(self, other: Any) -> LazyMatrix:
        return self._divide(other)

    def __rtruediv__(self, other: Any) -> LazyMatrix:
        return self.combine_reflected("divide", other)

    def __pow__(self, other: Any) -> LazyMatrix:
        if self._is_spmatrix:
            raise from_kind(
                "unsupported-feature",
                "csr_matrix ** n is a power of a matrix: use X.power(n) for powers of values",
            )
        return self.power(other)

    def __eq__(self, other: object) -> LazyMatrix:  # type: ignore[override]
        return self._without_zeros("equal", other)

    def __ne__(self, other: object) -> LazyMatrix:  # type: ignore[override]
        return self._without_zeros("not_equal", other)

    def __lt__(self, other: Any) -> LazyMatrix:
        return self._without_zeros("less", other)

    def __le__(self, other: Any) -> LazyMatrix:
        return self._without_zeros("less_equal", other)

    def __gt__(self, other: Any) -> LazyMatrix:
        return self._without_zeros("greater", other)

    def __ge__(self, other: Any) -> LazyMatrix:
        return self._without_zeros("greater_equal", other)

    __hash__ = None  # type: ignore[assignment]

    def __bool__(self) -> bool:
        raise invalid("the truth value of a matrix is ambiguous: use X.count_nonzero()")

    # In place: the name stands for another matrix, whose type is that of the old one

    def __imul__(self, other: Any) -> Any:
        if self._is_spmatrix and np.ndim(other) > 0:
            return self @ other
        return self._in_place("multiply", other)

    def __itruediv__(self, other: Any) -> LazyMatrix:
        if self._is_sparse and np.ndim(other) > 0:
            return self._divide(other)
        return self._in_place("divide", other)

    def __iadd__(self, other: Any) -> LazyMatrix:
        return self._sum("add", other) if self._is_sparse else self._in_place("add", other)

    def __isub__(self, other: Any) -> LazyMatrix:
        if self._is_sparse:
            return self._sum("subtract", other)
        return self._in_place("subtract", other)

    def _in_place(self, op: str, other: Any) -> LazyMatrix:
        result = self.of_values(op, other)
        if result.dtype == self.dtype or (self.dtype.kind in "biu" and result.dtype.kind == "i"):
            return result
        if self.dtype.kind == "f":
            return result.astype(self.dtype)
        raise invalid(
            f"{op} in place of a matrix of {self.dtype} gives {result.dtype}: write X = X ..., or "
            "use astype('float64')"
        )
