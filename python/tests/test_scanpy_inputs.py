"""scanpy's functions on inputs that are not plain counts: equal, or a choice that is documented."""

from importlib.util import find_spec
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from against_scanpy import NEWER, assert_frames, assert_same_state, dense, sc, synthetic

import slaf
from slaf.integrations import scanpy as slaf_sc

pytestmark = pytest.mark.filterwarnings("ignore")

STATISTICS = ["sum", "mean", "var", "count_nonzero"]


def top(adata, n):
    return list(adata.var_names[:n])


CALLS = {
    "qc": lambda m, a: m.pp.calculate_qc_metrics(
        a, percent_top=[1], qc_vars=["mt", "ribo"], inplace=True
    ),
    "filter_cells": lambda m, a: m.pp.filter_cells(a, min_genes=20),
    "filter_cells_by_counts": lambda m, a: m.pp.filter_cells(a, max_counts=300),
    "filter_genes": lambda m, a: m.pp.filter_genes(a, min_cells=20),
    "filter_genes_by_counts": lambda m, a: m.pp.filter_genes(a, min_counts=20),
    "normalize_total": lambda m, a: m.pp.normalize_total(a, target_sum=100),
    "normalize_total_to_median": lambda m, a: m.pp.normalize_total(a),
    "normalize_total_excluding": lambda m, a: m.pp.normalize_total(
        a, target_sum=10, exclude_highly_expressed=True, max_fraction=0.1
    ),
    "log1p": lambda m, a: m.pp.log1p(a),
    "sqrt": lambda m, a: m.pp.sqrt(a),
    "scale": lambda m, a: m.pp.scale(a, max_value=3),
    "scale_from_zero": lambda m, a: m.pp.scale(a, zero_center=False),
    "regress_out": lambda m, a: m.pp.regress_out(a, ["age"]),
    "regress_out_category": lambda m, a: m.pp.regress_out(a, "batch"),
    "seurat": lambda m, a: m.pp.highly_variable_genes(a, n_top_genes=10),
    "seurat_by_bounds": lambda m, a: m.pp.highly_variable_genes(a),
    "seurat_of_batches": lambda m, a: m.pp.highly_variable_genes(a, batch_key="batch"),
    "cell_ranger": lambda m, a: m.pp.highly_variable_genes(a, flavor="cell_ranger", n_top_genes=10),
    "seurat_v3": lambda m, a: m.pp.highly_variable_genes(a, flavor="seurat_v3", n_top_genes=10),
    "seurat_v3_of_batches": lambda m, a: m.pp.highly_variable_genes(
        a, flavor="seurat_v3", n_top_genes=10, batch_key="batch"
    ),
    "subsample": lambda m, a: m.pp.subsample(a, n_obs=1),
    "score_genes": lambda m, a: m.tl.score_genes(a, top(a, 3), ctrl_size=3, n_bins=5),
    "score_genes_cell_cycle": lambda m, a: m.tl.score_genes_cell_cycle(
        a, s_genes=top(a, 4), g2m_genes=top(a, 9)[4:], n_bins=5
    ),
    "aggregate": lambda m, a: m.get.aggregate(a, "group", STATISTICS),
    "aggregate_genes": lambda m, a: m.get.aggregate(a, "ribo", STATISTICS, axis="var"),
    "obs_df": lambda m, a: m.get.obs_df(a, [*top(a, 1), "age"]),
    "var_df": lambda m, a: m.get.var_df(a, [a.obs_names[0], "mt"]),
}


def counts():
    adata = synthetic()
    del adata.layers["counts"]
    # scanpy 1.11 takes cells without a group into the last one.
    adata.obs["group"] = adata.obs["group"].cat.add_categories("none").fillna("none")
    return adata


def unsorted():
    """The counts with columns in any order, some of them in two parts."""
    adata, random = counts(), np.random.default_rng(0)
    X = adata.X.tocoo()
    twice = np.arange(0, X.nnz, 5)
    rows, cols = np.r_[X.row, X.row[twice]], np.r_[X.col, X.col[twice]]
    order = random.permutation(len(rows))
    order = order[np.argsort(rows[order], kind="stable")]
    indptr = np.r_[0, np.cumsum(np.bincount(rows, minlength=adata.n_obs))]
    values = np.log1p(np.r_[X.data, X.data[twice]])[order]
    adata.X = sp.csr_matrix((values, cols[order], indptr), shape=adata.shape)
    return adata


def with_value(value, first, step):
    adata = counts()
    adata.X.data[first::step] = value
    return adata


def nothing():
    adata = counts()
    adata.X = sp.csr_matrix(adata.shape, dtype="f4")
    return adata


INPUTS = {
    "unsorted": unsorted,
    "nan": lambda: with_value(np.nan, 0, 37),
    "infinite": lambda: with_value(np.inf, 5, 53),
    "nothing": nothing,
    "one_cell": lambda: counts()[20:21].copy(),
    "one_gene": lambda: counts()[:, :1].copy(),
}

# What is computed where scanpy raises: see the documentation of the functions.
COMPUTED = {("nan", "log1p"), ("infinite", "log1p")} | {
    ("nan", name) for name in ("seurat", "seurat_by_bounds", "seurat_of_batches")
}
# What is not compared.
NOT_ALIKE = {
    # Variances of one cell are rounding noise in scanpy.
    *(("one_cell", name) for name in ("scale", "scale_from_zero")),
    *(
        ("one_cell", f"seurat_{name}")
        for name in ("by_bounds", "of_batches", "v3", "v3_of_batches")
    ),
    # The local regression of one gene ends the process: see below.
    ("one_gene", "seurat_v3"),
    ("one_gene", "seurat_v3_of_batches"),
    # Welford's mean of infinite values is NaN or infinite, by their order.
    ("infinite", "aggregate_genes"),
}
if not NEWER:
    NOT_ALIKE |= {
        # scanpy 1.11 takes empty cells, and those with NaN, into the median of sparse matrices.
        *((name, "normalize_total_to_median") for name in ("unsorted", "nan", "infinite")),
        # Its means are sums.
        ("infinite", "aggregate"),
        # Its local regression of no gene ends the process.
        ("nothing", "seurat_v3"),
        ("nothing", "seurat_v3_of_batches"),
        # Its variances of one cell are 0 / 0.
        ("one_cell", "aggregate"),
    }


def assert_same_answer(result, expected):
    if isinstance(expected, pd.DataFrame):
        pd.testing.assert_frame_equal(result, expected)
        return
    for name in STATISTICS:
        np.testing.assert_allclose(
            result.layers[name], dense(expected.layers[name]), rtol=1e-5, atol=1e-5
        )


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("kind", INPUTS)
def test_every_function(opened, kind, call):
    if (kind, call) in NOT_ALIKE:
        pytest.skip("scanpy's answer is no measure")
    if "v3" in call:
        pytest.importorskip("skmisc")
    theirs, ours = opened(kind, INPUTS[kind])
    # scanpy takes parts of a value for values.
    theirs.X.sum_duplicates()
    try:
        expected = CALLS[call](sc, theirs)
    except Exception:
        if (kind, call) in COMPUTED:
            CALLS[call](slaf_sc, ours)
            assert ours.X.shape == theirs.shape
            return
        with pytest.raises((ValueError, KeyError, IndexError, RuntimeError)):
            CALLS[call](slaf_sc, ours)
        return
    result = CALLS[call](slaf_sc, ours)
    if expected is not None:
        assert_same_answer(result, expected)
    elif call.startswith("regress_out"):
        # The types of genes that are all alike, and the signs of infinities, are the solver's.
        X, Y = ours.X.toarray().astype("f8"), dense(theirs.X).astype("f8")
        np.testing.assert_array_equal(np.isfinite(X), np.isfinite(Y))
        np.testing.assert_allclose(X[np.isfinite(X)], Y[np.isfinite(Y)], rtol=1e-4, atol=1e-5)
    else:
        assert_same_state(ours, theirs, rtol=1e-4, atol=1e-5, x_rtol=1e-4, x_atol=1e-5)


@pytest.mark.parametrize("name", ["sum", "mean", "var", "std", "min", "max", "count_nonzero"])
@pytest.mark.parametrize("kind", INPUTS)
def test_every_reduction(opened, kind, name):
    theirs, ours = opened(kind, INPUTS[kind])
    matrix = theirs.X.toarray().astype(np.float64)
    of_numpy = getattr(np, name)
    with np.errstate(all="ignore"):
        for axis in (None, 0, 1):
            expected = of_numpy(matrix, axis=axis)
            for X in (ours.X, ours.X[::-1], ours.X[:, ::-1]):
                got = getattr(X, name)(axis=axis)
                got = np.sort(np.ravel(got.toarray() if sp.issparse(got) else got))
                np.testing.assert_allclose(got, np.sort(np.atleast_1d(expected)), 1e-5, 1e-6)


def test_genes_with_nan_are_not_highly_variable(opened):
    _, ours = opened("nan", INPUTS["nan"])
    has_nan = np.isnan(ours.X.sum(axis=0).A1)
    assert has_nan.any()
    slaf_sc.pp.highly_variable_genes(ours, n_top_genes=10)
    assert ours.var["highly_variable"].sum() == 10
    assert not ours.var["highly_variable"][has_nan].any()


@pytest.mark.parametrize("options", [{}, {"n_top_genes": 10}])
@pytest.mark.parametrize("flavor", ["seurat", "cell_ranger", "seurat_v3", "seurat_v3_paper"])
def test_a_batch_of_one_cell_has_no_say(opened, flavor, options):
    def made():
        adata = counts()
        adata.obs["batch"] = adata.obs["batch"].cat.add_categories(["alone", "without counts"])
        adata.obs.loc["c4", "batch"] = "alone"
        adata.obs.loc["c3", "batch"] = "without counts"
        return adata

    _, whole = opened("alone", made)
    others = whole[~whole.obs_names.isin(["c3", "c4"])].copy()
    whole.obs["batch"] = whole.obs["batch"].cat.add_categories("without cells")
    for adata in (whole, others):
        slaf_sc.pp.highly_variable_genes(adata, flavor=flavor, batch_key="batch", **options)
    names = ["highly_variable_nbatches"]
    if "v3" in flavor:
        names += ["highly_variable", "highly_variable_rank", "variances_norm"]
    for name in names:
        np.testing.assert_allclose(whole.var[name], others.var[name], rtol=1e-6)
    with pytest.raises(slaf.InvalidArgumentError):
        slaf_sc.pp.highly_variable_genes(
            whole[["c3"]].copy(), flavor="seurat_v3", batch_key="batch"
        )


def test_errors_are_typed(opened):
    _, ours = opened("typed", counts)
    pp, tl, get = slaf_sc.pp, slaf_sc.tl, slaf_sc.get
    for call, kind in (
        (lambda: pp.highly_variable_genes(ours, batch_key="nothing"), "unknown-column"),
        (
            lambda: pp.highly_variable_genes(ours, batch_key="nothing", flavor="seurat_v3"),
            "unknown-column",
        ),
        (lambda: pp.highly_variable_genes(ours, layer="nothing"), "unknown-table"),
        (lambda: pp.regress_out(ours, "nothing"), "unknown-column"),
        (
            lambda: pp.calculate_qc_metrics(ours, qc_vars=["nothing"], percent_top=None),
            "unknown-column",
        ),
        (lambda: pp.scale(ours, obsm="nothing"), "unknown-table"),
        (lambda: pp.log1p(ours, obsm="nothing"), "unknown-table"),
        (lambda: pp.sample(ours, n=10**6), "invalid-argument"),
        (lambda: pp.sample(ours, n=3, p="nothing"), "unknown-column"),
        (lambda: pp.subsample(ours, n_obs=10**6), "invalid-argument"),
        (lambda: get.aggregate(ours, "nothing", "sum"), "unknown-column"),
        (lambda: tl.score_genes(ours, list(ours.var_names)), "invalid-argument"),
    ):
        with pytest.raises(slaf.SlafError) as caught:
            call()
        assert caught.value.kind == kind
    with pytest.raises(RuntimeError, match="No control genes"):
        tl.score_genes(ours, list(ours.var_names))


@pytest.mark.parametrize("call", ["seurat_v3", "seurat_v3_of_batches"])
def test_too_few_genes_for_a_local_regression(opened, call):
    pytest.importorskip("skmisc")
    _, ours = opened("one_gene", INPUTS["one_gene"])
    with pytest.raises(slaf.InvalidArgumentError, match="1 genes that vary are too few"):
        CALLS[call](slaf_sc, ours)


def test_arrays_of_the_user_stay_as_they_are(opened):
    _, ours = opened("unsorted", unsorted)
    given = unsorted().X
    before = [given.data.copy(), given.indices.copy(), given.indptr.copy()]
    ours.X = given
    np.testing.assert_array_equal(ours.X.toarray(), given.toarray())
    for now, then in zip((given.data, given.indices, given.indptr), before, strict=True):
        np.testing.assert_array_equal(now, then)


# The reduced PBMC 68k set that comes with scanpy: scaled values, and logarithms in raw


def pbmc68k():
    path = Path(find_spec("scanpy").origin).parent / "datasets" / "10x_pbmc68k_reduced.h5ad"
    adata = ad.read_h5ad(path)
    adata.var["mt"] = np.arange(adata.n_vars) % 11 == 0
    adata.var["ribo"] = adata.var_names.str.startswith("RP")
    adata.obs["batch"] = adata.obs["louvain"].isin(["0", "1", "2"]).map({True: "a", False: "b"})
    adata.obs["batch"] = adata.obs["batch"].astype("category")
    adata.obs["age"], adata.obs["group"] = adata.obs["percent_mito"], adata.obs["bulk_labels"]
    return adata


def pbmc68k_raw():
    adata = pbmc68k()
    raw = adata.raw.to_adata()
    raw.var["mt"], raw.var["ribo"] = adata.var["mt"], adata.var["ribo"]
    raw.uns["log1p"] = {"base": None}
    return raw


@pytest.mark.parametrize("call", [name for name in CALLS if "v3" not in name])
@pytest.mark.parametrize("make", [pbmc68k, pbmc68k_raw])
def test_pbmc68k(opened, make, call):
    if call == "normalize_total_excluding" and make is pbmc68k:
        pytest.skip("totals are negative")
    theirs, ours = opened(make.__name__, make)
    in_float32 = call == "qc" and make is pbmc68k
    if in_float32:
        # scanpy adds the columns of a dense matrix in its type; the totals are near zero.
        theirs.X = theirs.X.astype("f8")
    try:
        expected = CALLS[call](sc, theirs)
    except Exception as e:
        with pytest.raises(type(e)):
            CALLS[call](slaf_sc, ours)
        return
    result = CALLS[call](slaf_sc, ours)
    if expected is not None:
        assert_same_answer(result, expected)
    else:
        if in_float32:
            for of in ("obs", "var"):
                dtypes = dict(getattr(ours, of).dtypes)
                setattr(theirs, of, getattr(theirs, of).astype(dtypes))
        assert_frames(ours.obs, theirs.obs, rtol=1e-4, atol=1e-5)
        assert_frames(ours.var, theirs.var, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(ours.X.toarray(), dense(theirs.X), rtol=1e-4, atol=1e-4)


def test_raw_of_pbmc68k(opened):
    theirs, ours = opened("pbmc68k", pbmc68k)
    for a, b in zip(
        slaf_sc.pp.calculate_qc_metrics(ours, use_raw=True, percent_top=[20]),
        sc.pp.calculate_qc_metrics(theirs, use_raw=True, percent_top=[20]),
        strict=True,
    ):
        assert_frames(a, b, rtol=1e-5)
    genes = list(theirs.raw.var_names[5:15])
    for module, adata in ((sc, theirs), (slaf_sc, ours)):
        module.tl.score_genes(adata, genes)
    assert_frames(ours.obs, theirs.obs, rtol=1e-5, atol=1e-6)
    pd.testing.assert_frame_equal(
        slaf_sc.get.obs_df(ours, [*genes, "phase"], [("X_umap", 0)], use_raw=True),
        sc.get.obs_df(theirs, [*genes, "phase"], [("X_umap", 0)], use_raw=True),
    )
