"""scanpy's functions on lazy data sets give what scanpy gives."""

import warnings

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from against_scanpy import assert_frames, assert_same_state, dense, sc, synthetic

import slaf
from slaf.integrations import read_slaf
from slaf.integrations import scanpy as slaf_sc

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture
def small_pair(opened):
    return opened("small", synthetic)


REAL = ["pbmc3k_raw.h5ad", "pbmc1k_v3_filt.h5ad"]


def open_real(opened, folder, name):
    def read():
        adata = ad.read_h5ad(folder / name)
        adata.obs_names_make_unique()
        adata.var_names_make_unique()
        adata.obs["batch"] = pd.Categorical(np.where(np.arange(adata.n_obs) % 3 == 0, "a", "b"))
        return adata

    return opened(name, read)


@pytest.fixture(params=REAL)
def real_pair(opened, request, shared_data):
    return open_real(opened, shared_data, request.param)


@pytest.fixture(params=["small", REAL[0]])
def pair(opened, request):
    if request.param == "small":
        return opened("small", synthetic)
    return open_real(opened, request.getfixturevalue("shared_data"), request.param)


# Quality control and filters


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"percent_top": None, "log1p": False},
        {"qc_vars": ["mt", "ribo"], "percent_top": [1, 7, 60]},
        {"qc_vars": "mt", "expr_type": "umis", "var_type": "features", "percent_top": [3]},
    ],
)
def test_qc(pair, options):
    theirs, ours = pair
    for adata in (theirs, ours):
        adata.var["mt"] = np.arange(adata.n_vars) < 9
        adata.var["ribo"] = np.arange(adata.n_vars) % 7 == 0
    if theirs.n_vars < 500 and "percent_top" not in options:
        options = {**options, "percent_top": [10, 90]}
    for a, b in zip(
        slaf_sc.pp.calculate_qc_metrics(ours, **options),
        sc.pp.calculate_qc_metrics(theirs, **options),
        strict=True,
    ):
        assert_frames(a, b, rtol=1e-6)
    slaf_sc.pp.calculate_qc_metrics(ours, inplace=True, **options)
    sc.pp.calculate_qc_metrics(theirs, inplace=True, **options)
    assert_frames(ours.obs, theirs.obs, rtol=1e-6)
    assert_frames(ours.var, theirs.var, rtol=1e-6)


@pytest.mark.parametrize("dtype", ["u1", "i2", "i4", "i8", "f8"])
@pytest.mark.parametrize("form", ["csr", "csc", "dense"])
def test_types_and_forms(opened, dtype, form):
    theirs, ours = opened(f"{dtype}{form}", lambda: synthetic(dtype, form))
    a, _ = slaf_sc.pp.calculate_qc_metrics(ours, percent_top=None)
    b, _ = sc.pp.calculate_qc_metrics(theirs, percent_top=None)
    # numpy's sums of small integers are int64 and uint64; scanpy's of CSR may keep less.
    assert_frames(a.astype("f8"), b.astype("f8"), rtol=1e-6)
    for module, adata in ((slaf_sc, ours), (sc, theirs)):
        module.pp.normalize_total(adata, target_sum=1e3)
        module.pp.log1p(adata)
    assert ours.X.dtype == theirs.X.dtype
    np.testing.assert_allclose(ours.X.toarray(), dense(theirs.X), rtol=1e-6)


def test_too_many_top_genes(small_pair):
    for module, adata in zip((sc, slaf_sc), small_pair, strict=True):
        with pytest.raises(IndexError, match="Positions outside range"):
            module.pp.calculate_qc_metrics(adata, percent_top=[91])


@pytest.mark.parametrize("layer", [None, "counts"])
def test_qc_of_layers_and_raw(small_pair, layer):
    theirs, ours = small_pair
    for adata in (theirs, ours):
        adata.raw = adata
    options = {"layer": layer, "use_raw": layer is None, "percent_top": None}
    for a, b in zip(
        slaf_sc.pp.calculate_qc_metrics(ours, **options),
        sc.pp.calculate_qc_metrics(theirs, **options),
        strict=True,
    ):
        assert_frames(a, b, rtol=1e-6)


FILTERS = [
    ("filter_cells", {"min_genes": 30}),
    ("filter_cells", {"max_genes": 45}),
    ("filter_cells", {"min_counts": 60}),
    ("filter_cells", {"max_counts": 4000}),
    ("filter_genes", {"min_cells": 3}),
    ("filter_genes", {"max_cells": 100}),
    ("filter_genes", {"min_counts": 20}),
    ("filter_genes", {"max_counts": 50}),
]


@pytest.mark.parametrize(("name", "options"), FILTERS)
def test_filters(pair, name, options):
    theirs, ours = pair
    for a, b in zip(
        getattr(slaf_sc.pp, name)(ours, inplace=False, **options),
        getattr(sc.pp, name)(theirs, inplace=False, **options),
        strict=True,
    ):
        np.testing.assert_array_equal(a, b)
    before = ours.shape
    copy = getattr(slaf_sc.pp, name)(ours, copy=True, **options)
    assert ours.shape == before
    getattr(slaf_sc.pp, name)(ours, **options)
    getattr(sc.pp, name)(theirs, **options)
    assert_same_state(ours, theirs)
    assert_same_state(copy, theirs)


def test_filters_take_one_bound(small_pair):
    for module, adata in zip((sc, slaf_sc), small_pair, strict=True):
        for options in ({}, {"min_counts": 1, "min_genes": 1}):
            with pytest.raises(ValueError, match="Only provide one"):
                module.pp.filter_cells(adata, **options)


def test_negative_values_are_not_expressed(opened):
    def make():
        adata = synthetic()
        adata.X = adata.X - 2 * adata.X.multiply(np.arange(90) % 3 == 0).tocsr()
        return adata

    for name, options in (("filter_cells", {"min_genes": 20}), ("filter_genes", {"min_cells": 9})):
        theirs, ours = opened("negative", make)
        getattr(slaf_sc.pp, name)(ours, **options)
        getattr(sc.pp, name)(theirs, **options)
        assert_same_state(ours, theirs)


# Normalisation


@pytest.mark.parametrize(
    "options",
    [
        {"target_sum": 1e4},
        {"target_sum": 1},
        {"target_sum": 1e4, "key_added": "factor"},
        {"exclude_highly_expressed": True, "max_fraction": 0.1, "target_sum": 1e4},
        {"exclude_highly_expressed": True, "max_fraction": 0.02, "target_sum": 50},
        {"layer": "counts", "target_sum": 1e3},
    ],
)
def test_normalize_total(pair, options):
    theirs, ours = pair
    for adata in (theirs, ours):
        adata.layers["counts"] = adata.X.copy()
    slaf_sc.pp.normalize_total(ours, **options)
    sc.pp.normalize_total(theirs, **options)
    assert_same_state(ours, theirs)
    ours, theirs = ours.layers["counts"], theirs.layers["counts"]
    np.testing.assert_array_equal(ours.toarray(), theirs.toarray())


def test_normalised_values_have_scanpys_bits(pair):
    theirs, ours = pair
    result = slaf_sc.pp.normalize_total(ours, target_sum=1e4, inplace=False)["X"]
    expected = sc.pp.normalize_total(theirs, target_sum=1e4, inplace=False)["X"]
    np.testing.assert_array_equal(result.toarray(), expected.toarray())


@pytest.mark.parametrize("exclude", [False, True])
def test_median_is_of_cells_with_counts(small_pair, exclude):
    theirs, ours = small_pair
    # scanpy takes the same median of dense matrices in both of its generations.
    theirs.X = theirs.X.toarray()
    for module, adata in ((sc, theirs), (slaf_sc, ours)):
        module.pp.normalize_total(adata, exclude_highly_expressed=exclude, max_fraction=0.1)
    np.testing.assert_allclose(ours.X.toarray(), theirs.X, rtol=1e-6)


@pytest.mark.filterwarnings("error")
def test_empty_cells_are_told(small_pair):
    with pytest.warns(UserWarning, match="Some cells have zero counts"):
        slaf_sc.pp.normalize_total(small_pair[1], target_sum=1)


@pytest.mark.parametrize("base", [None, 2, 10])
def test_log1p(pair, base):
    theirs, ours = pair
    for module, adata in ((sc, theirs), (slaf_sc, ours)):
        module.pp.normalize_total(adata, target_sum=1e4)
        module.pp.log1p(adata, base=base)
    assert_same_state(ours, theirs)
    assert ours.uns["log1p"] == theirs.uns["log1p"]
    with pytest.warns(UserWarning, match="already log"):
        slaf_sc.pp.log1p(ours)


def test_totals_are_over_what_is_there(small_pair):
    theirs, ours = small_pair
    for module, adata in ((sc, theirs), (slaf_sc, ours)):
        module.pp.filter_genes(adata, min_cells=40)
        module.pp.normalize_total(adata, target_sum=100)
        module.pp.filter_cells(adata, min_genes=20)
        module.pp.sqrt(adata)
        module.pp.normalize_total(adata, target_sum=10)
    assert_same_state(ours, theirs, x_rtol=1e-5)


# Scaling


@pytest.mark.parametrize("mask", [None, "half", "array"])
@pytest.mark.parametrize("max_value", [None, 2.0])
@pytest.mark.parametrize("zero_center", [True, False])
def test_scale(small_pair, zero_center, max_value, mask):
    theirs, ours = small_pair
    mask = np.arange(220) < 100 if mask == "array" else mask
    for module, adata in ((sc, theirs), (slaf_sc, ours)):
        module.pp.normalize_total(adata, target_sum=1e4)
        module.pp.log1p(adata)
        module.pp.scale(adata, zero_center=zero_center, max_value=max_value, mask_obs=mask)
    if mask is not None and zero_center:
        # scanpy's result is a sparse matrix with every value.
        theirs.X = dense(theirs.X)
    assert_same_state(ours, theirs, rtol=1e-4, x_rtol=1e-4, x_atol=1e-5)


def test_scale_of_integers_and_of_real_data(opened, real_pair):
    theirs, ours = opened("i4", lambda: synthetic("i4"))
    for module, adata in ((sc, theirs), (slaf_sc, ours)):
        module.pp.scale(adata)
    assert_same_state(ours, theirs, x_atol=1e-9)
    theirs, ours = real_pair
    for module, adata in ((sc, theirs), (slaf_sc, ours)):
        module.pp.filter_genes(adata, min_cells=50)
        module.pp.log1p(adata)
        module.pp.scale(adata, max_value=10)
    assert_same_state(ours[:200], theirs[:200], x_rtol=1e-4, x_atol=1e-5)


def test_reductions_of_scaled_data_do_not_need_them(small_pair):
    _, ours = small_pair
    slaf_sc.pp.log1p(ours)
    slaf_sc.pp.scale(ours)
    matrix = ours.X.toarray()
    np.testing.assert_allclose(ours.X.mean(axis=0), matrix.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(ours.X.var(axis=0), matrix.var(axis=0), rtol=1e-5)


@pytest.mark.parametrize("keys", ["age", ["age", "depth"]])
def test_regress_out(small_pair, keys):
    theirs, ours = small_pair
    for module, adata in ((sc, theirs), (slaf_sc, ours)):
        adata.obs["depth"] = np.asarray(adata.X.sum(axis=1)).ravel()
        module.pp.log1p(adata)
        module.pp.regress_out(adata, keys)
    assert_same_state(ours, theirs, x_rtol=1e-4, x_atol=1e-4)


@pytest.mark.parametrize("keys", ["batch", "group", ["age", "twice"], "words"])
def test_regress_out_of_categories_and_dependent_keys(small_pair, keys):
    theirs, ours = small_pair
    for module, adata in ((sc, theirs), (slaf_sc, ours)):
        adata.obs["group"] = adata.obs["group"].cat.add_categories("none").fillna("none")
        adata.obs["words"] = ["this", "that"] * 110
        adata.obs["age"] = adata.obs["age"].round()
        adata.obs["twice"] = adata.obs["age"] * 2
        module.pp.log1p(adata)
        module.pp.regress_out(adata, keys)
    assert_same_state(ours, theirs, x_rtol=1e-4, x_atol=1e-5)


def test_what_regress_out_does_not_take(small_pair):
    _, ours = small_pair
    ours.obs["gaps"] = ours.obs["age"].where(ours.obs["age"] > 50)
    for keys, message in (
        ("group", "without a value"),
        ("gaps", "without a value"),
        (["batch", "age"], "only a single one"),
    ):
        with pytest.raises(slaf.InvalidArgumentError, match=message):
            slaf_sc.pp.regress_out(ours, keys)


@pytest.mark.parametrize(
    "options",
    [{}, {"zero_center": False, "max_value": 1.5}, {"mask_obs": "half"}, {"max_value": 0.5}],
)
@pytest.mark.parametrize("form", ["array", "sparse"])
def test_scale_of_an_array_beside_the_cells(small_pair, form, options):
    _, ours = small_pair
    array = np.random.default_rng(5).normal(2, 3, (220, 6)).astype("f4") * (np.arange(6) > 0)
    ours.obsm["a"] = sp.csr_matrix(array) if form == "sparse" else array.copy()
    var = list(ours.var.columns)
    slaf_sc.pp.scale(ours, obsm="a", **options)
    mask = {"mask_obs": ours.obs["half"].to_numpy()} if "mask_obs" in options else {}
    given = sp.csr_matrix(array) if form == "sparse" else array.copy()
    expected = sc.pp.scale(given, **{**options, **mask})
    np.testing.assert_allclose(dense(ours.obsm["a"]), dense(expected), rtol=1e-4, atol=1e-5)
    assert list(ours.var.columns) == var
    ours.obsm["frame"] = pd.DataFrame(array, index=ours.obs_names)
    for wrong in ({"obsm": "frame"}, {"obsm": "a", "layer": "counts"}):
        with pytest.raises(slaf.InvalidArgumentError):
            slaf_sc.pp.scale(ours, **wrong)


# Highly variable genes


def prepare(module, adata, flavor, base=None):
    if flavor.startswith("seurat_v3"):
        return
    module.pp.filter_genes(adata, min_cells=3)
    module.pp.normalize_total(adata, target_sum=1e4)
    module.pp.log1p(adata, base=base)


@pytest.mark.parametrize("n_top_genes", [None, 30])
@pytest.mark.parametrize("batch_key", [None, "batch"])
@pytest.mark.parametrize("flavor", ["seurat", "cell_ranger", "seurat_v3", "seurat_v3_paper"])
def test_highly_variable_genes(pair, flavor, batch_key, n_top_genes):
    theirs, ours = pair
    if flavor.startswith("seurat_v3"):
        pytest.importorskip("skmisc")
        n_top_genes = n_top_genes or 60
    elif theirs.n_vars > 1000:
        n_top_genes = n_top_genes and 1500
    options = {"flavor": flavor, "batch_key": batch_key, "n_top_genes": n_top_genes}
    for module, adata in ((sc, theirs), (slaf_sc, ours)):
        prepare(module, adata, flavor)
        module.pp.highly_variable_genes(adata, **options)
    assert theirs.var["highly_variable"].any()
    assert_frames(ours.var, theirs.var, rtol=1e-4, atol=1e-5)
    assert ours.uns["hvg"] == theirs.uns["hvg"]


@pytest.mark.parametrize("base", [2, 10])
def test_highly_variable_genes_know_the_base(small_pair, base):
    theirs, ours = small_pair
    for module, adata in ((sc, theirs), (slaf_sc, ours)):
        prepare(module, adata, "seurat", base)
        module.pp.highly_variable_genes(adata, n_bins=7)
    assert_frames(ours.var, theirs.var, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "options",
    [
        {"subset": True, "n_top_genes": 17},
        {"min_disp": 0.1, "max_disp": 2, "min_mean": 0.5, "max_mean": 4},
        {"n_top_genes": 1000},
        {"layer": "logged", "n_top_genes": 10},
    ],
)
def test_choosing_highly_variable_genes(small_pair, options):
    theirs, ours = small_pair
    for module, adata in ((sc, theirs), (slaf_sc, ours)):
        prepare(module, adata, "seurat")
        adata.layers["logged"] = adata.X * 0.5
    a = slaf_sc.pp.highly_variable_genes(ours, inplace=False, **options)
    b = sc.pp.highly_variable_genes(theirs, inplace=False, **options)
    # Bounds of bins differ in their last digits.
    assert (a.pop("mean_bin").cat.codes.to_numpy() == b.pop("mean_bin").cat.codes.to_numpy()).all()
    assert_frames(a, b.set_index(a.index), rtol=1e-4, atol=1e-5)
    for module, adata in ((sc, theirs), (slaf_sc, ours)):
        module.pp.highly_variable_genes(adata, **options)
    assert_frames(ours.var, theirs.var, rtol=1e-4, atol=1e-5)


def test_equal_bins_are_refused(opened):
    def make():
        adata = synthetic()
        adata.X[:, :40] = 0
        return adata

    for module, adata in zip((sc, slaf_sc), opened("empty_genes", make), strict=True):
        with pytest.raises(ValueError, match="Bin edges must be unique"):
            module.pp.highly_variable_genes(adata, flavor="cell_ranger", n_top_genes=5)


@pytest.mark.filterwarnings("error")
def test_counts_are_expected(small_pair):
    pytest.importorskip("skmisc")
    _, ours = small_pair
    ours.X = ours.X * 0.5
    with pytest.warns(UserWarning, match="expects raw count data"):
        slaf_sc.pp.highly_variable_genes(ours, flavor="seurat_v3", n_top_genes=9)


# Samples and scores


@pytest.mark.parametrize(
    "options",
    [
        {"fraction": 0.3, "rng": 5},
        {"n": 30, "rng": 1, "axis": "var"},
        {"n": 400, "rng": 2, "replace": True},
        {"n": 20, "rng": 3, "p": "half"},
    ],
)
def test_sample(small_pair, options):
    if not hasattr(sc.pp, "sample"):
        pytest.skip("this scanpy has no pp.sample")
    theirs, ours = small_pair
    copy = slaf_sc.pp.sample(ours, copy=True, **options)
    for module, adata in ((sc, theirs), (slaf_sc, ours)):
        module.pp.sample(adata, **options)
    for adata in (ours, copy):
        assert list(adata.obs_names) == list(theirs.obs_names)
        assert list(adata.var_names) == list(theirs.var_names)
        np.testing.assert_array_equal(adata.X.toarray(), theirs.X.toarray())


@pytest.mark.parametrize("options", [{"fraction": 0.25}, {"n_obs": 50, "random_state": 9}])
def test_subsample(small_pair, options):
    theirs, ours = small_pair
    for module, adata in ((sc, theirs), (slaf_sc, ours)):
        module.pp.subsample(adata, **options)
    assert list(ours.obs_names) == list(theirs.obs_names)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"ctrl_as_ref": False, "random_state": 4},
        {"ctrl_size": 3, "n_bins": 5},
        {"gene_pool": [f"g{i}" for i in range(60)], "n_bins": 9},
        {"layer": "counts", "score_name": "s"},
    ],
)
def test_score_genes(small_pair, options):
    theirs, ours = small_pair
    genes = ["g1", "g20", "g33", "g33", "g59"]
    for module, adata in ((sc, theirs), (slaf_sc, ours)):
        module.pp.log1p(adata)
        module.tl.score_genes(adata, genes, **options)
    assert_frames(ours.obs, theirs.obs, rtol=1e-5, atol=1e-6)


def test_score_genes_of_real_data(real_pair):
    theirs, ours = real_pair
    s, g2m = list(theirs.var_names[100:140]), list(theirs.var_names[5000:5050])
    for module, adata in ((sc, theirs), (slaf_sc, ours)):
        module.pp.normalize_total(adata, target_sum=1e4)
        module.pp.log1p(adata)
        module.tl.score_genes_cell_cycle(adata, s_genes=s, g2m_genes=g2m)
    assert_frames(ours.obs, theirs.obs, rtol=1e-5, atol=1e-7)


def test_score_genes_leaves_nan_out(opened):
    def make():
        adata = synthetic()
        adata.X.data[::11] = np.nan
        return adata

    theirs, ours = opened("nan", make)
    for module, adata in ((sc, theirs), (slaf_sc, ours)):
        module.tl.score_genes(adata, ["g1", "g20", "g33"])
    assert_frames(ours.obs, theirs.obs, rtol=1e-5, atol=1e-7)


@pytest.mark.filterwarnings("error")
def test_unknown_genes_are_told(small_pair):
    _, ours = small_pair
    with pytest.warns(UserWarning, match="nowhere"):
        slaf_sc.tl.score_genes(ours, ["g1", "nowhere"])
    with (
        pytest.raises(ValueError, match="No valid genes"),
        pytest.warns(UserWarning, match="ignored"),
    ):
        slaf_sc.tl.score_genes(ours, ["nowhere"])


# The whole, and the edges


def test_the_tutorial_up_to_variable_genes(shared_data, opened):
    theirs, ours = opened("tutorial", lambda: ad.read_h5ad(shared_data / "pbmc3k_raw.h5ad"))
    for module, adata in ((sc, theirs), (slaf_sc, ours)):
        adata.var_names_make_unique()
        module.pp.filter_cells(adata, min_genes=200)
        module.pp.filter_genes(adata, min_cells=3)
        adata.var["mt"] = adata.var["symbol"].str.startswith("MT-")
        module.pp.calculate_qc_metrics(
            adata, qc_vars=["mt"], percent_top=None, log1p=False, inplace=True
        )
    theirs = theirs[theirs.obs.n_genes_by_counts < 2500, :]
    theirs = theirs[theirs.obs.pct_counts_mt < 5, :].copy()
    ours = ours[ours.obs.n_genes_by_counts < 2500, :]
    ours = ours[ours.obs.pct_counts_mt < 5, :]
    for module, adata in ((sc, theirs), (slaf_sc, ours)):
        module.pp.normalize_total(adata, target_sum=1e4)
        module.pp.log1p(adata)
        module.pp.highly_variable_genes(adata, min_mean=0.0125, max_mean=3, min_disp=0.5)
        adata.raw = adata
    assert_same_state(ours, theirs, rtol=1e-4, atol=1e-5)
    theirs, ours = theirs[:, theirs.var.highly_variable].copy(), ours[:, ours.var.highly_variable]
    for module, adata in ((sc, theirs), (slaf_sc, ours)):
        module.pp.regress_out(adata, ["total_counts", "pct_counts_mt"])
        module.pp.scale(adata, max_value=10)
    assert_same_state(ours, theirs, rtol=1e-3, atol=1e-5, x_rtol=1e-3, x_atol=2e-4)
    in_memory = ours.to_memory()
    assert in_memory.raw.shape == theirs.raw.shape


@pytest.mark.parametrize("shape", [(1, 90), (220, 1)])
def test_one_cell_and_one_gene(opened, shape):
    name = f"shape{shape[0]}"
    theirs, ours = opened(
        name, lambda: synthetic()[20 : 20 + shape[0], : shape[1]][: shape[0]].copy()
    )
    for module, adata in ((sc, theirs), (slaf_sc, ours)):
        module.pp.calculate_qc_metrics(adata, percent_top=[1], inplace=True)
        module.pp.normalize_total(adata, target_sum=1e4)
        module.pp.log1p(adata)
        # Of one cell scanpy's variance is rounding noise, below zero for some genes.
        if shape[0] > 1:
            module.pp.scale(adata)
    assert_same_state(ours, theirs, x_rtol=1e-4, x_atol=1e-5)


def test_nothing_is_written_to_the_store(opened):
    theirs, ours = opened("small", synthetic)
    slaf_sc.pp.normalize_total(ours)
    slaf_sc.pp.filter_cells(ours, min_genes=30)
    again = read_slaf(ours.filename)
    assert again.shape == theirs.shape
    np.testing.assert_array_equal(again.X.toarray(), theirs.X.toarray())


def test_functions_that_are_not_offered_say_what_to_do():
    for module, name in ((slaf_sc.pp, "combat"), (slaf_sc.tl, "draw_graph"), (slaf_sc, "pl")):
        with pytest.raises(AttributeError, match=r"to_memory\(\).*to_dask\(\)"):
            getattr(module, name)
    assert not hasattr(slaf_sc.pp, "_private")


def test_data_in_memory_are_for_scanpy(small_pair):
    with pytest.raises(slaf.InvalidArgumentError, match="read_slaf"):
        slaf_sc.pp.log1p(small_pair[0])
    for call in (
        lambda a: slaf_sc.tl.annotate(a, "a.slaf", "group"),
        lambda a: slaf_sc.tl.label_transfer(a, "a.slaf", "group"),
        lambda a: slaf_sc.get.pseudobulk(a, "group"),
    ):
        # scanpy has none of these.
        with pytest.raises(slaf.InvalidArgumentError, match="convert_anndata"):
            call(small_pair[0])


@pytest.mark.parametrize("flavor", ["seurat", "seurat_v3"])
def test_variable_genes_are_drawn(small_pair, flavor):
    plt = pytest.importorskip("matplotlib.pyplot")
    theirs, ours = small_pair
    drawn = []
    for module, adata in ((sc, theirs), (slaf_sc, ours)):
        if flavor == "seurat":
            module.pp.log1p(adata)
        module.pp.highly_variable_genes(adata, n_top_genes=20, flavor=flavor)
        sc.pl.highly_variable_genes(adata, show=False)
        axes = plt.gcf().axes
        drawn.append([np.asarray(dots.get_offsets()) for ax in axes for dots in ax.collections])
        plt.close("all")
    assert len(drawn[0]) == len(drawn[1]) > 0
    for a, b in zip(*drawn, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)
    assert not isinstance(ours, ad.AnnData)


def test_views_become_objects(small_pair):
    _, ours = small_pair
    view = ours[ours.obs["half"].to_numpy()]
    with pytest.warns(UserWarning, match="view"):
        slaf_sc.pp.normalize_total(view, target_sum=1)
    assert not view.is_view
    assert ours.shape == (220, 90)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        slaf_sc.pp.log1p(view)
