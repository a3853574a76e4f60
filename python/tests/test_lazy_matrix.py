"""Arithmetic and reductions of lazy matrices against numpy."""

import operator
import pickle

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from strategies import matrices

import slaf
from slaf.data import SLAFConverter
from slaf.integrations import read_slaf
from slaf.integrations._lazy import LazyMatrix
from slaf.integrations._plan import InMemory

FUNCTIONS = [np.log1p, np.expm1, np.sqrt, np.square, np.abs, np.negative, np.sign, np.floor]
ROUNDING = [np.ceil, np.rint, np.trunc]
OPERATORS = [np.add, np.subtract, np.multiply, np.divide]
COMPARISONS = [operator.eq, operator.ne, operator.lt, operator.le, operator.gt, operator.ge]


@pytest.fixture(scope="module")
def counts(tmp_path_factory):
    """A lazy matrix of counts, and the dense one."""
    random = np.random.default_rng(3)
    dense = random.poisson(random.gamma(0.3, 3, 40), (150, 40)).astype(np.float32)
    names = [
        pd.Index([f"{p}{i}" for i in range(n)]) for p, n in zip("cg", dense.shape, strict=True)
    ]
    adata = ad.AnnData(
        sp.csr_matrix(dense), obs=pd.DataFrame(index=names[0]), var=pd.DataFrame(index=names[1])
    )
    path = tmp_path_factory.mktemp("counts") / "counts.slaf"
    SLAFConverter().convert_anndata(adata, path)
    return read_slaf(path).X, dense


def close(ours, theirs, rtol=1e-6):
    ours = ours.toarray() if hasattr(ours, "toarray") else ours
    np.testing.assert_allclose(ours, theirs, rtol=rtol, atol=1e-6)


def flat(result):
    """A result of a reduction, which is a matrix of a sparse matrix, as numpy gives it."""
    result = result.toarray() if sp.issparse(result) else result
    return np.asarray(result).ravel() if np.ndim(result) else result


@st.composite
def operations(draw):
    """What becomes of a lazy and of a dense matrix, at once."""
    kind = draw(st.sampled_from(["function", "scalar", "rows", "columns", "slice", "astype"]))
    if kind == "function":
        function = draw(st.sampled_from(FUNCTIONS + ROUNDING))
        return lambda x: function(x) if function is not np.sqrt else function(np.abs(x))
    if kind == "astype":
        return lambda x: x.astype(np.float64)
    if kind == "slice":
        step = draw(st.sampled_from([1, 2, -1]))
        stop = draw(st.integers(1, 40))
        return lambda x: x[::step, : min(stop, x.shape[1])]
    op = draw(st.sampled_from(OPERATORS))
    seed = draw(st.integers(0, 99))

    def numbers(shape):
        return np.random.default_rng(seed).uniform(0.5, 2, shape).astype(np.float32)

    if kind == "scalar":
        number = draw(st.sampled_from([2, 0.5, np.float32(3), np.float64(1.5), -1]))
        return lambda x: op(x, number)
    if kind == "rows":
        return lambda x: op(x, numbers((x.shape[0], 1)))
    return lambda x: op(x, numbers(x.shape[1]))


@given(st.lists(operations(), min_size=1, max_size=5), st.booleans())
def test_chains_of_operations(counts, chain, is_dense):
    ours, theirs = counts
    if is_dense:
        ours = LazyMatrix(InMemory.of(theirs))
    else:
        # SciPy divides in float64.
        ours, theirs = ours.astype(np.float64), theirs.astype(np.float64)
    with np.errstate(all="ignore"):
        for operation in chain:
            ours, theirs = operation(ours), operation(theirs)
            if not np.isfinite(theirs).all() or np.abs(theirs).max() > 1e6:
                return
    assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype)
    close(ours, theirs, rtol=1e-4)
    scale = max(float(np.abs(theirs).max()), 1.0)
    for axis in (None, 0, 1):
        wide = theirs.astype(np.float64)
        for name in ("sum", "mean", "min", "max", "var", "std"):
            expected = getattr(wide, name)(axis=axis)
            got = flat(getattr(ours, name)(axis=axis))
            assert np.shape(got) == np.shape(expected)
            atol = 1e-3 * scale * (theirs.size if name == "sum" else scale)
            np.testing.assert_allclose(got, expected, rtol=1e-4, atol=atol * 1e-2, err_msg=name)
    np.testing.assert_array_equal(ours.compute().shape, theirs.shape)


@settings(max_examples=30)
@given(data=st.data())
def test_reductions_of_every_type(data, tmp_path_factory):
    n, m = data.draw(st.integers(1, 9)), data.draw(st.integers(1, 7))
    matrix = data.draw(matrices(n, m))
    adata = ad.AnnData(np.zeros((n, m), dtype="f4"))
    adata.layers["a"] = matrix
    path = tmp_path_factory.mktemp("types") / "a.slaf"
    SLAFConverter().convert_anndata(adata, path)
    lazy = read_slaf(path).layers["a"]
    dense = matrix.toarray() if sp.issparse(matrix) else matrix
    limits = np.iinfo(np.uint64 if dense.dtype == np.uint64 else np.int64)
    with np.errstate(all="ignore"):
        for axis in (None, 0, 1):
            for name in ("min", "max"):
                got, expected = flat(getattr(lazy, name)(axis)), getattr(dense, name)(axis)
                assert got.dtype == expected.dtype
                np.testing.assert_array_equal(got, expected)
            assert np.array_equal(lazy.count_nonzero(axis), np.count_nonzero(dense, axis))
            if dense.dtype.kind == "f":
                continue
            expected = dense.astype(object).sum(axis)
            parts = dense.astype(object).sum(0 if axis is None else axis)
            if any(not limits.min <= s <= limits.max for s in [*parts, *np.ravel(expected)]):
                with pytest.raises(slaf.InvalidArgumentError, match="overflows"):
                    lazy.sum(axis)
                continue
            assert np.array_equal(flat(lazy.sum(axis)), expected)
            assert lazy.sum(axis).dtype == dense.sum(axis).dtype


@pytest.mark.parametrize("dtype", ["i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8"])
def test_integers_do_not_overflow(dtype, store_path):
    adata = read_slaf(store_path)
    top = np.iinfo(dtype).max
    dense = np.full((6, 4), top, dtype=dtype)
    adata.X = dense
    assert adata.X.count_nonzero() == 24
    assert adata.X.max() == adata.X.min() == top
    if dtype in ("i8", "u8"):
        with pytest.raises(slaf.InvalidArgumentError, match="overflows"):
            adata.X.sum()
        # The sum of one row is known though those of others are not.
        np.testing.assert_array_equal(adata.X[:1].sum(axis=0), dense[0])
        np.testing.assert_array_equal(adata.X.count_nonzero(axis=0), [6] * 4)
        assert adata.X[:, :1].sum(axis=1).dtype == adata.X.dtype
    if dtype == "u8":
        return
    if dtype == "i8":
        with pytest.raises(slaf.InvalidArgumentError, match="overflows int64"):
            (adata.X * 2).compute()
        return
    wide = dense.astype(np.int64)
    assert adata.X.sum() == wide.sum()
    np.testing.assert_array_equal((adata.X * 3).toarray(), wide * 3)
    np.testing.assert_array_equal((adata.X + 1).toarray(), wide + 1)
    np.testing.assert_array_equal((adata.X @ np.ones((4, 2), dtype="i8")), wide[:, :2] * 4)


@pytest.mark.parametrize("compare", COMPARISONS)
@pytest.mark.parametrize("number", [0, 1, 2.5, -1, np.nan])
def test_comparisons(counts, compare, number):
    lazy, dense = counts
    ours, theirs = compare(lazy, number), compare(dense, number)
    assert ours.dtype == np.bool_
    np.testing.assert_array_equal(ours.toarray(), theirs)
    np.testing.assert_array_equal(flat(ours.sum(axis=0)), theirs.sum(axis=0))
    np.testing.assert_array_equal(compare(number, lazy).toarray(), compare(number, dense))


def test_products(counts):
    lazy, dense = counts
    random = np.random.default_rng(1)
    right, left = random.normal(size=(40, 3)), random.normal(size=(5, 150))
    close(lazy @ right, dense @ right)
    close(lazy @ right[:, 0], dense @ right[:, 0])
    close(lazy.dot(right), dense @ right)
    close(left @ lazy, left @ dense)
    close(left[0] @ lazy, left[0] @ dense)
    close((lazy - 1) @ right, (dense - 1) @ right)
    assert (lazy @ right.astype("f4")).dtype == np.float32
    for wrong in (right.T, "no", sp.csr_matrix(right), lazy):
        with pytest.raises((slaf.InvalidArgumentError, slaf.UnsupportedError)):
            lazy @ wrong


def test_numpy_and_scipy_read_it(counts):
    lazy, dense = counts
    np.testing.assert_array_equal(np.asarray(lazy), dense)
    np.testing.assert_array_equal(np.array(np.log1p(lazy)), np.log1p(lazy).toarray())
    assert np.asarray(lazy + 1).shape == dense.shape
    np.testing.assert_array_equal(sp.csr_matrix(lazy).toarray(), dense)
    np.testing.assert_allclose(np.sum(lazy, axis=0).A1, dense.sum(axis=0))
    np.testing.assert_allclose(np.mean(lazy), dense.mean(), rtol=1e-6)
    np.testing.assert_allclose(flat(np.max(lazy, axis=1)), dense.max(axis=1))


def test_what_is_not_lazy_says_what_to_do(counts):
    lazy, dense = counts
    for attempt in (
        lambda: np.exp(lazy),
        lambda: np.add.reduce(lazy),
        lambda: lazy + lazy,
        lambda: lazy.multiply(dense),
        lambda: 1 / lazy,
        lambda: np.concatenate([lazy, lazy]),
        lambda: np.where(lazy, 1, 0),
        lambda: lazy == lazy,
        lambda: lazy.eliminate_zeros(),
        lambda: lazy.__setitem__(0, 1),
        lambda: setattr(lazy, "data", np.ones(3)),
        lambda: lazy.sum(out=dense),
        lambda: np.multiply(lazy, 2, out=dense),
    ):
        with pytest.raises(slaf.UnsupportedError):
            attempt()
    for attempt in (
        lambda: lazy * np.ones(3),
        lambda: lazy * 1j,
        lambda: bool(lazy),
        lambda: lazy[:0].max(axis=0),
        lambda: (
            np.asarray(lazy, copy=False)
            if np.lib.NumpyVersion(np.__version__) >= "2.0.0"
            else lazy.__array__(copy=False)
        ),
    ):
        with pytest.raises(ValueError, match=r"."):
            attempt()
    with pytest.raises(IndexError):
        lazy.sum(axis=2)


def test_variance_is_accurate_where_the_mean_is_large(store_path):
    adata = read_slaf(store_path)
    dense = 1e8 + np.random.default_rng(0).normal(size=(6, 4))
    adata.X = dense
    for axis in (None, 0, 1):
        np.testing.assert_allclose(adata.X.var(axis=axis), dense.var(axis=axis), rtol=1e-6)
    np.testing.assert_allclose(adata.X.std(axis=0, ddof=1), dense.std(axis=0, ddof=1), rtol=1e-6)


def test_nan_spreads_as_in_numpy(store_path):
    adata = read_slaf(store_path)
    dense = np.arange(24.0).reshape(6, 4)
    dense[2, 1] = np.nan
    adata.X = dense
    for name in ("sum", "mean", "min", "max", "var"):
        for axis in (None, 0, 1):
            np.testing.assert_array_equal(
                np.isnan(getattr(adata.X, name)(axis=axis)),
                np.isnan(getattr(dense, name)(axis=axis)),
            )


def test_it_pickles(counts):
    lazy, _ = counts
    matrix = np.log1p(lazy[::2] / (lazy.sum(axis=1)[::2] + 1)) - 1
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(matrix)).toarray(), matrix.toarray())


@settings(max_examples=20)
@given(hnp.arrays("f4", (9, 5), elements=st.floats(-3, 3, width=32)))
def test_matrices_of_the_user_compute_alike(store_path, dense):
    lazy = read_slaf(store_path)
    lazy = lazy[[0, 1, 2, 3, 4, 5, 0, 1, 2]][:, [0, 1, 2, 3, 0]].copy()
    for value in (dense, sp.csr_matrix(dense), sp.csc_matrix(dense)):
        lazy.layers["a"] = value
        layer = lazy.layers["a"]
        np.testing.assert_array_equal(layer.toarray(), dense)
        assert type(layer.to_memory()) is type(value)
        close(np.expm1(layer[1:, ::-1]), np.expm1(dense[1:, ::-1]), rtol=1e-5)
        close(flat(layer.sum(axis=0)), dense.sum(axis=0), rtol=1e-4)


def test_counts_have_the_type_of_numpy(store_path):
    adata = read_slaf(store_path)
    X = read_slaf(store_path).to_memory().X
    for axis in (0, 1):
        counts = adata.X.count_nonzero(axis=axis)
        assert counts.dtype == np.int64
        np.testing.assert_array_equal(counts, np.count_nonzero(X.toarray(), axis=axis))
    assert (counts - 10).min() < 0
