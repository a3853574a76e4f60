"""Aggregates and frames of lazy data sets are scanpy's."""

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from against_scanpy import NEWER, dense, sc, synthetic

import slaf
from slaf.integrations import scanpy as slaf_sc

pytestmark = pytest.mark.filterwarnings("ignore")

STATISTICS = ["sum", "mean", "var", "count_nonzero"]


def make(form):
    adata = synthetic(form=form)
    # scanpy 1.11 takes cells without a group into the last one.
    adata.obs["group"] = adata.obs["group"].cat.add_categories("none").fillna("none")
    adata.var["kind"] = pd.Categorical(["x", "y", "z"] * 30)
    adata.obsm["X_pca"] = np.random.default_rng(1).normal(size=(220, 5))
    adata.obsm["sparse"] = sp.random(220, 7, 0.3, format="csr", random_state=1, dtype="f4")
    adata.obsm["frame"] = pd.DataFrame({"p": np.arange(220.0), "q": 1}, index=adata.obs_names)
    adata.varm["PCs"] = np.random.default_rng(2).normal(size=(90, 4))
    return adata


@pytest.fixture(params=["csr", "csc", "dense"])
def pair(opened, request):
    return opened(request.param, lambda: make(request.param))


@pytest.fixture
def small_pair(opened):
    return opened("csr", lambda: make("csr"))


def assert_same_aggregates(ours, theirs, functions, exact=False):
    assert (list(ours.obs_names), list(ours.var_names)) == (
        list(theirs.obs_names),
        list(theirs.var_names),
    )
    assert sorted(ours.layers) == sorted(functions)
    for name in functions:
        got, expected = ours.layers[name], dense(theirs.layers[name])
        if NEWER:
            assert got.dtype == expected.dtype, name
        if NEWER and exact and name != "sum":
            np.testing.assert_array_equal(got, expected, err_msg=name)
        else:
            np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6, err_msg=name)
    if NEWER:
        for frame in ("obs", "var"):
            a, b = getattr(ours, frame), getattr(theirs, frame)
            pd.testing.assert_frame_equal(a, b, check_index_type=False)


@pytest.mark.parametrize("by", ["batch", ["group", "batch"]])
@pytest.mark.parametrize("layer", [None, "counts"])
@pytest.mark.parametrize("functions", [STATISTICS, ["mean", "sum"]])
def test_aggregate(pair, by, layer, functions):
    theirs, ours = pair
    a = slaf_sc.get.aggregate(ours, by, functions, layer=layer)
    b = sc.get.aggregate(theirs, by, functions, layer=layer)
    # The algorithm of means and variances is that of scanpy 1.12, to the last bit.
    assert_same_aggregates(a, b, functions, exact="var" in functions)
    assert a.obs["n_obs_aggregated"].sum() == 220


@pytest.mark.parametrize("dtype", ["i2", "i8", "u1", "f8"])
def test_aggregate_of_types(opened, dtype):
    theirs, ours = opened(f"types{dtype}", lambda: synthetic(dtype))
    # scanpy 1.11 squares small integers in their own type.
    functions = STATISTICS if NEWER else ["sum", "mean", "count_nonzero"]
    a = slaf_sc.get.aggregate(ours, "batch", functions)
    assert_same_aggregates(a, sc.get.aggregate(theirs, "batch", functions), functions)


@pytest.mark.parametrize("layer", [None, "counts"])
@pytest.mark.parametrize("by", ["kind", ["mt", "kind"]])
@pytest.mark.parametrize("functions", [STATISTICS, ["mean"]])
def test_aggregate_of_genes(pair, by, layer, functions):
    theirs, ours = pair
    for axis in ("var", 1):
        a = slaf_sc.get.aggregate(ours, by, functions, axis=axis, layer=layer)
        b = sc.get.aggregate(theirs, by, functions, axis=axis, layer=layer)
        assert_same_aggregates(a, b, functions)


def test_aggregate_of_arrays(small_pair):
    theirs, ours = small_pair
    for options in (
        {"by": "group", "obsm": "X_pca"},
        {"by": ["group", "half"], "obsm": "sparse"},
        {"by": "group", "obsm": "frame"},
        {"by": "kind", "varm": "PCs"},
    ):
        a = slaf_sc.get.aggregate(ours, func=STATISTICS, **options)
        b = sc.get.aggregate(theirs, func=STATISTICS, **options)
        assert_same_aggregates(a, b, STATISTICS)


def test_what_aggregate_does_not_take(small_pair):
    _, ours = small_pair
    with pytest.raises(slaf.UnsupportedError, match=r"median.*to_memory\(\)"):
        slaf_sc.get.aggregate(ours, "batch", ["sum", "median"])
    for options in (
        {"func": "mode"},
        {"axis": 2},
        {"dof": -1},
        {"obsm": "X_pca", "layer": "counts"},
        {"obsm": "X_pca", "axis": 1},
        {"varm": "PCs", "axis": 0},
    ):
        with pytest.raises(slaf.InvalidArgumentError):
            slaf_sc.get.aggregate(ours, **{"by": "batch", "func": "sum", **options})


@pytest.mark.skipif(not NEWER, reason="scanpy 1.11 divides by the sizes of whole groups")
@pytest.mark.parametrize("axis", ["obs", "var"])
@pytest.mark.parametrize("dof", [0, 1, 3])
def test_aggregate_with_masks_and_degrees_of_freedom(small_pair, axis, dof):
    theirs, ours = small_pair
    by, mask = ("group", "half") if axis == "obs" else ("kind", "ribo")
    options = {"func": STATISTICS, "axis": axis, "mask": mask, "dof": dof}
    a, b = slaf_sc.get.aggregate(ours, by, **options), sc.get.aggregate(theirs, by, **options)
    assert_same_aggregates(a, b, STATISTICS)


def test_aggregate_of_masked_cells_and_of_one(small_pair):
    _, ours = small_pair
    X, half = ours.X.toarray(), ours.obs["half"].to_numpy()
    result = slaf_sc.get.aggregate(ours, "batch", "mean", mask="half")
    batch = ours.obs["batch"].to_numpy()
    expected = [X[half & (batch == b)].mean(axis=0) for b in ("one", "two")]
    np.testing.assert_allclose(result.layers["mean"], expected, rtol=1e-6)
    with pytest.warns(RuntimeWarning, match="no variance"):
        variance = slaf_sc.get.aggregate(ours, "alone", "var").layers["var"]
    assert np.isnan(variance[0]).all()
    np.testing.assert_allclose(variance[1], X[1:].var(axis=0, ddof=1), rtol=1e-5)


def test_obs_df_and_var_df(small_pair):
    theirs, ours = small_pair
    for adata in (theirs, ours):
        adata.obsm["X_umap"] = np.arange(440.0).reshape(220, 2)
        adata.var["symbol"] = [f"S{i}" for i in range(90)]
        adata.varm["PCs"] = np.arange(180.0).reshape(90, 2)
    keys = ["g3", "age", "g77", "batch"]
    pd.testing.assert_frame_equal(
        slaf_sc.get.obs_df(ours, keys, [("X_umap", 1)]),
        sc.get.obs_df(theirs, keys, [("X_umap", 1)]),
    )
    for options in ({"gene_symbols": "symbol"}, {"layer": "counts", "gene_symbols": "symbol"}):
        pd.testing.assert_frame_equal(
            slaf_sc.get.obs_df(ours, ["S4", "half"], **options),
            sc.get.obs_df(theirs, ["S4", "half"], **options),
        )
    pd.testing.assert_frame_equal(
        slaf_sc.get.var_df(ours, ["c7", "mt", "c2"], [("PCs", 0)]),
        sc.get.var_df(theirs, ["c7", "mt", "c2"], [("PCs", 0)]),
    )
    with pytest.raises(KeyError, match="nothing"):
        slaf_sc.get.obs_df(ours, ["nothing"])
    ours.obs["g3"] = 1
    with pytest.raises(KeyError, match="both"):
        slaf_sc.get.obs_df(ours, ["g3"])
