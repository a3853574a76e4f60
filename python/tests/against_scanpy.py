"""Data for comparisons with scanpy, and what is equal enough."""

from importlib.metadata import version

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

sc = pytest.importorskip("scanpy")
NEWER = tuple(int(part) for part in version("scanpy").split(".")[:2]) >= (1, 12)


def synthetic(dtype="f4", form="csr", seed=0, n=220, m=90):
    """Counts with batches, empty cells, genes without counts, constant genes, explicit zeros."""
    random = np.random.default_rng(seed)
    depth, mean = random.gamma(4, 1, n), random.gamma(0.4, 2, m)
    counts = random.poisson(np.outer(depth, mean) / 2)
    counts[[3, 17]] = 0
    counts[:, [5, 40]] = 0
    counts[np.ix_(np.arange(n) >= 110, [7])] = 0
    counts = np.minimum(counts, 120).astype(dtype)
    X = sp.csr_matrix(counts)
    # An explicit zero.
    X.data[4] = 0
    X = {"csr": X, "csc": X.tocsc(), "dense": X.toarray()}[form]
    obs = pd.DataFrame(
        {
            "batch": pd.Categorical.from_codes(2 * np.arange(n) // n, ["one", "two"]),
            "group": pd.Categorical.from_codes(random.integers(-1, 4, n), list("abcd")),
            "alone": pd.Categorical(["x"] + ["y"] * (n - 1)),
            "age": random.normal(50, 9, n),
            "half": np.arange(n) % 2 == 0,
        },
        index=[f"c{i}" for i in range(n)],
    )
    var = pd.DataFrame({"mt": np.arange(m) < 9, "ribo": np.arange(m) % 7 == 0})
    var.index = [f"g{(i * 37) % m}" for i in range(m)]
    return ad.AnnData(X, obs=obs, var=var, layers={"counts": X.copy()})


def dense(matrix):
    return matrix.toarray() if hasattr(matrix, "toarray") else np.asarray(matrix)


def assert_frames(ours, theirs, rtol=1e-5, atol=0.0):
    if not NEWER:
        # scanpy 1.12 keeps the type of X in means, 1.11 does not.
        means = theirs.columns[theirs.columns.str.contains(r"^(?:log1p_)?mean_(?!bin)")]
        theirs = theirs.astype({name: ours[name].dtype for name in means})
    assert sorted(ours.columns) == sorted(theirs.columns)
    ours = ours.loc[theirs.index]
    for name in theirs:
        a, b = ours[name], theirs[name]
        if pd.api.types.is_string_dtype(b.dtype):
            # Which type of strings pandas takes is not scanpy's business.
            assert list(a) == list(b)
            continue
        assert a.dtype == b.dtype, (name, a.dtype, b.dtype)
        if b.dtype.kind == "f":
            np.testing.assert_allclose(a, b, rtol=rtol, atol=atol, err_msg=name)
        else:
            pd.testing.assert_series_equal(a, b, check_categorical=False)


def assert_same_state(ours, theirs, rtol=1e-5, atol=0.0, x_rtol=1e-6, x_atol=0.0):
    assert ours.shape == theirs.shape
    assert_frames(ours.obs, theirs.obs, rtol, atol)
    assert_frames(ours.var, theirs.var, rtol, atol)
    assert ours.X.dtype == theirs.X.dtype
    np.testing.assert_allclose(ours.X.toarray(), dense(theirs.X), rtol=x_rtol, atol=x_atol)
    assert sorted(ours.uns) == sorted(theirs.uns)
