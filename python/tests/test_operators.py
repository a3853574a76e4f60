"""Operators of lazy matrices against SciPy's and numpy's of the same matrix in memory."""

import operator

import anndata as ad
import numpy as np
import pytest
import scipy.sparse as sp

import slaf
from slaf.integrations._lazy import LazyMatrix
from slaf.integrations._plan import InMemory

OPERATORS = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "//": operator.floordiv,
    "%": operator.mod,
    "**": operator.pow,
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "multiply": lambda x, n: x.multiply(n),
    "power": lambda x, n: x.power(n),
    "maximum": lambda x, n: x.maximum(n),
    "minimum": lambda x, n: x.minimum(n),
    "+=": operator.iadd,
    "-=": operator.isub,
    "*=": operator.imul,
    "/=": operator.itruediv,
}
SCALARS = [
    2,
    0,
    -1,
    2.5,
    0.0,
    float("nan"),
    True,
    False,
    np.float32(3),
    np.float64(3),
    np.float16(2),
    np.int8(3),
    np.int64(3),
    np.uint64(3),
    np.bool_(True),
]
DTYPES = ["f4", "f8", "?", "u1", "u2", "i4", "i8", "u8"]
DENSE = np.array([[0, 1, 5, 0], [7, 0, 0, 200], [2, 3, 1, 0]])
ERRORS = (slaf.SlafError, TypeError)


@pytest.fixture(params=["csr_matrix", "csc_matrix", "csr_array", "dense"])
def form(request):
    """A class of matrices, and AnnData's setting that gives it."""
    is_array = request.param == "csr_array"
    if is_array and not hasattr(ad.settings, "use_sparse_array_on_read"):
        pytest.skip("this version of anndata reads sparse matrices only")
    if not hasattr(ad.settings, "use_sparse_array_on_read"):
        yield request.param
        return
    with ad.settings.override(use_sparse_array_on_read=is_array):
        yield request.param


def pair(form, dense):
    """A lazy matrix, and the one in memory."""
    memory, taken = (dense.copy() if form == "dense" else getattr(sp, form)(dense) for _ in "ab")
    return LazyMatrix(InMemory.of(taken)), memory


def computed(value):
    return value.to_memory() if isinstance(value, LazyMatrix) else value


def attempt(op, *args):
    """What an operation gives, computed, or the error that it raises."""
    try:
        return computed(op(*args))
    except Exception as e:
        return e


def dense(value):
    return value.toarray() if sp.issparse(value) else np.asarray(value)


def equal(ours, theirs):
    if dense(ours).shape != dense(theirs).shape:
        return False
    rtol = 3e-7 if np.float32 in (ours.dtype, theirs.dtype) else 1e-15
    return np.allclose(dense(ours), dense(theirs), rtol=rtol, atol=0, equal_nan=True)


def is_wider(ours, theirs, dtype, number):
    """Whether the type is one of those that the documentation says to be wider than SciPy's."""
    if ours.dtype == np.int64:
        raises = isinstance(theirs, Exception)
        return np.dtype(dtype).kind in "biu" and (raises or theirs.dtype.kind in "biu")
    return ours.dtype == np.float32 and isinstance(number, np.float16)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("symbol", OPERATORS)
def test_every_operator_with_every_number(symbol, dtype, form):
    op, of_memory = OPERATORS[symbol], OPERATORS[symbol]
    if form == "dense" and symbol.isalpha():
        of_memory = getattr(np, symbol)
    has_swapped = not symbol.isalpha() and symbol not in ("+=", "-=", "*=", "/=")
    for number in SCALARS:
        for swap in (False, True)[: 1 + has_swapped]:

            def run(op, matrix, number=number, swap=swap):
                return attempt(op, number, matrix) if swap else attempt(op, matrix, number)

            lazy, memory = pair(form, DENSE.astype(dtype))
            ours, theirs = run(op, lazy), run(of_memory, memory)
            what = f"{number!r} {symbol} matrix" if swap else f"matrix {symbol} {number!r}"
            if isinstance(ours, Exception):
                assert isinstance(ours, ERRORS), what
                # These are not lazy.
                refused = symbol in ("//", "%") or (swap and symbol in ("/", "**"))
                assert isinstance(theirs, Exception) or refused, f"{what}: {ours}"
                continue
            is_same = not isinstance(theirs, Exception) and ours.dtype == theirs.dtype
            if is_same and equal(ours, theirs):
                assert type(ours) is type(theirs), what
                continue
            # SciPy refuses or wraps: the values are those of the matrix in float64.
            wide = DENSE.astype(dtype).astype("f8")
            exact = run(of_memory, pair(form, wide)[1])
            if isinstance(exact, Exception):
                assert symbol[0] in "+-", what
                assert form != "dense", what
                exact = run(of_memory, wide)
                assert ours.dtype.kind in "if", what
            else:
                assert is_wider(ours, theirs, dtype, number), f"{what}: {ours.dtype}"
            assert equal(ours, exact), what


@pytest.mark.parametrize("dtype", ["f4", "i4"])
def test_arrays_along_an_axis(dtype, form):
    lazy, memory = pair(form, DENSE.astype(dtype))
    rows, cols = np.array([[2.0], [3], [4]]), np.array([[2.0, 3, 4, 5]])
    for numbers in (rows, cols, rows.astype("f4"), cols.astype("i8")):
        ours, theirs = lazy / numbers, memory / numbers
        assert ours.dtype == theirs.dtype
        assert equal(ours.to_memory(), theirs)
        for compare in (operator.gt, operator.le, operator.eq):
            assert equal(compare(lazy, numbers).to_memory(), compare(memory, numbers))
        if form != "dense":
            assert equal(lazy.multiply(numbers).to_memory(), memory.multiply(numbers))


def test_products_of_matrices_are_those_of_scipy(form):
    lazy, memory = pair(form, DENSE.astype("f4"))
    if form in ("csr_matrix", "csc_matrix"):
        for right in (np.arange(4.0), np.ones((4, 2))):
            np.testing.assert_allclose(lazy * right, memory * right)
        for wrong in (np.ones((3, 1)), np.ones(3)):
            with pytest.raises(ValueError, match="shapes"):
                lazy * wrong
            with pytest.raises(ValueError, match="dimension mismatch"):
                memory * wrong
        with pytest.raises(slaf.UnsupportedError, match="array @ X"):
            np.ones(3) * lazy
        with pytest.raises(slaf.UnsupportedError, match=r"X\.power"):
            lazy**2
    else:
        assert equal((lazy * np.arange(4.0)).to_memory(), memory * np.arange(4.0))
        assert equal((lazy**2).to_memory(), memory**2)


@pytest.mark.filterwarnings("ignore::scipy.sparse.SparseEfficiencyWarning")
def test_comparisons_store_what_scipy_stores(form):
    if form == "dense":
        pytest.skip("an array stores everything")
    lazy, memory = pair(form, DENSE.astype("f4"))
    for op, number in ((operator.gt, 1), (operator.eq, 0), (operator.ge, 0), (operator.ne, 5)):
        ours = op(lazy, number)
        theirs = op(memory, number)
        assert ours.nnz == theirs.nnz
        np.testing.assert_array_equal(ours.getnnz(axis=0), (theirs.toarray() != 0).sum(axis=0))
        np.testing.assert_array_equal(ours.sum(axis=1), theirs.sum(axis=1))
        assert type(ours.sum(axis=1)) is type(theirs.sum(axis=1))
        assert ours[1:].nnz == theirs[1:].nnz


@pytest.mark.parametrize("number", [2**64 - 1, 2**63, 2**53 + 1, -1, 0])
@pytest.mark.parametrize("compare", [operator.eq, operator.lt, operator.ge])
def test_large_whole_numbers_are_compared_exactly(number, compare):
    values = np.array([[2**64 - 1, 2**64 - 2, 2**63], [2**53 + 1, 2**53, 0]], dtype="u8")
    lazy, memory = pair("dense", values)
    number = np.uint64(number) if number >= 0 else number
    np.testing.assert_array_equal(compare(lazy, number).to_memory(), compare(memory, number))


def test_large_whole_numbers_are_computed_exactly_or_refused():
    lazy, _ = pair("csr_matrix", np.array([[2**53 + 1, 0]], dtype="u8"))
    np.testing.assert_array_equal((lazy * 3).toarray(), [[3 * (2**53 + 1), 0]])
    too_large, _ = pair("csr_matrix", np.array([[2**63, 0]], dtype="u8"))
    with pytest.raises(slaf.InvalidArgumentError, match="overflows int64"):
        (too_large * 1).compute()
    with pytest.raises(slaf.InvalidArgumentError, match="beyond int64"):
        lazy * np.uint64(2**63)
