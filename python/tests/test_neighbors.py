"""Exact neighbours and their graphs against scikit-learn, scanpy and umap-learn."""

import warnings

import anndata as ad
import numpy as np
import pytest
import scipy.sparse as sp
from against_scanpy import sc, synthetic
from sklearn.neighbors import NearestNeighbors

import slaf
from slaf.data import SLAFConverter
from slaf.integrations import read_slaf
from slaf.integrations import scanpy as slaf_sc

pytestmark = pytest.mark.filterwarnings("ignore")


def embedded(dtype="f4"):
    adata = synthetic()
    adata.obsm["X_pca"] = np.random.default_rng(1).normal(size=(adata.n_obs, 12)).astype(dtype)
    return adata


@pytest.fixture(params=["f4", "f8"])
def pair(opened, request):
    return opened(f"neighbours-{request.param}", lambda: embedded(request.param))


def assert_same_graph(ours, theirs, key="neighbors", prefix=""):
    for name in ("distances", "connectivities"):
        a, b = ours.obsp[prefix + name], theirs.obsp[prefix + name]
        assert (type(a), a.shape, a.dtype, a.nnz) == (type(b), b.shape, b.dtype, b.nnz)
        assert a.indices.dtype == b.indices.dtype
        # scanpy measures float32 values in float32, and its graph is made of that.
        atol = 1e-6 if ours.obsm["X_pca"].dtype == np.float64 else 1e-5
        np.testing.assert_allclose(abs(a - b).max(), 0, atol=atol)
    assert ours.uns[key] == theirs.uns[key]


@pytest.mark.parametrize("method", ["umap", "gauss"])
@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize(
    "options",
    [{}, {"n_neighbors": 5, "use_rep": "X_pca"}, {"n_pcs": 4}, {"n_neighbors": 400}],
)
def test_as_scanpy(pair, method, metric, options):
    theirs, ours = pair
    for pp, adata in ((slaf_sc.pp, ours), (sc.pp, theirs)):
        pp.neighbors(adata, method=method, metric=metric, **options)
    assert_same_graph(ours, theirs)


def test_key_added_and_copy(pair):
    theirs, ours = pair
    changed = slaf_sc.pp.neighbors(ours, key_added="mine", copy=True)
    sc.pp.neighbors(theirs, key_added="mine")
    assert_same_graph(changed, theirs, "mine", "mine_")
    assert not ours.obsp
    assert "mine" not in ours.uns


def test_as_scikit_learn(pair):
    _theirs, ours = pair
    slaf_sc.pp.neighbors(ours, n_neighbors=9)
    points = ours.obsm["X_pca"].astype("f8")
    distances, indices = NearestNeighbors(n_neighbors=9, algorithm="brute").fit(points).kneighbors()
    found = ours.obsp["distances"]
    np.testing.assert_array_equal(found.indices.reshape(-1, 8), indices[:, :8])
    np.testing.assert_allclose(found.data.reshape(-1, 8), distances[:, :8], rtol=1e-12)


def test_what_scanpy_does_with_it(pair):
    pytest.importorskip("igraph")
    theirs, ours = pair
    for pp, adata in ((slaf_sc.pp, ours), (sc.pp, theirs)):
        pp.neighbors(adata)
    memory = ours.to_memory()
    for adata in (memory, theirs):
        sc.tl.leiden(adata, flavor="igraph", n_iterations=2)
    assert list(memory.obs["leiden"]) == list(theirs.obs["leiden"])


def test_components_are_made_if_missing(opened):
    _theirs, ours = opened("neighbours-of-x", synthetic)
    with pytest.warns(UserWarning, match="Falling back"):
        slaf_sc.pp.neighbors(ours, n_pcs=7)
    assert ours.obsm["X_pca"].shape[1] == 7


def test_few_genes_are_used_as_they_are(opened):
    theirs, ours = opened("neighbours-few", lambda: synthetic(m=41))
    for pp, adata in ((slaf_sc.pp, ours), (sc.pp, theirs)):
        pp.neighbors(adata)
    found, expected = ours.obsp["distances"], theirs.obsp["distances"]
    # Cells at the same distance are many among counts; which ones are taken is not.
    np.testing.assert_allclose(
        found.data.reshape(len(found.indptr) - 1, -1),
        np.sort(expected.data.reshape(len(found.indptr) - 1, -1), axis=1),
        atol=1e-6,
    )


def test_refused_by_name(pair):
    _theirs, ours = pair
    for options, says in [
        ({"metric": "manhattan"}, "manhattan"),
        ({"transformer": "pynndescent"}, "pynndescent"),
        ({"metric_kwds": {"p": 3}}, "no options"),
        ({"method": "gauss", "knn": False}, "dense"),
    ]:
        with pytest.raises(slaf.UnsupportedError, match=says):
            slaf_sc.pp.neighbors(ours, **options)
    with pytest.raises(slaf.InvalidArgumentError, match="X_pca"):
        slaf_sc.pp.neighbors(ours, use_rep="X_none")
    with pytest.raises(slaf.InvalidArgumentError, match="enough Dimensions"):
        slaf_sc.pp.neighbors(ours, n_pcs=13)
    with pytest.raises(slaf.InvalidArgumentError, match="at least 2"):
        slaf_sc.pp.neighbors(ours[:1].copy())
    for value, says in ((np.nan, "finite"), (np.inf, "finite")):
        ours.obsm["odd"] = np.full((ours.n_obs, 3), value)
        with pytest.raises(slaf.InvalidArgumentError, match=says):
            slaf_sc.pp.neighbors(ours, use_rep="odd")
    ours.obsm["odd"] = np.zeros((ours.n_obs, 3))
    with pytest.raises(slaf.InvalidArgumentError, match="no direction"):
        slaf_sc.pp.neighbors(ours, use_rep="odd", metric="cosine")


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_most_neighbours_tell_their_recall(tmp_path, metric):
    # More cells than a cell is compared with at first.
    points = np.random.default_rng(3).normal(size=(30_000, 12)).astype("f4")
    adata = ad.AnnData(sp.csr_matrix((len(points), 1), dtype="f4"), obsm={"X_pca": points})
    SLAFConverter().convert_anndata(adata, tmp_path / "a.slaf")
    ours = read_slaf(tmp_path / "a.slaf")
    slaf_sc.pp.neighbors(ours, use_rep="X_pca", metric=metric, exact=False)
    told = ours.uns["neighbors"]["params"]["recall"]
    wanted = slice(None, None, 97)
    nearest = NearestNeighbors(n_neighbors=15, algorithm="brute", metric=metric)
    _, rows = nearest.fit(points.astype("f8")).kneighbors(points[wanted].astype("f8"))
    found = ours.obsp["distances"][wanted]
    pairs = zip(rows[:, 1:], np.split(found.indices, found.indptr[1:-1]), strict=True)
    recall = np.mean([np.isin(a, b).mean() for a, b in pairs])
    assert 0.9 < recall <= 1
    assert abs(recall - told) < 0.01
    in_memory = ours.to_memory()
    sc.tl.leiden(in_memory, flavor="igraph", n_iterations=2)
    assert in_memory.obs["leiden"].notna().all()


def test_neighbours_that_are_not_exact_are_told_of(pair, monkeypatch):
    _theirs, ours = pair
    search = slaf._slaf.nearest_others

    def most(*arguments):
        return search(*arguments[:-1], False)

    monkeypatch.setattr(slaf._slaf, "nearest_others", most)
    with pytest.warns(UserWarning, match=r"100\.0% of the nearest.*exact=True"):
        slaf_sc.pp.neighbors(ours)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        slaf_sc.pp.neighbors(ours, exact=False)
    assert ours.uns["neighbors"]["params"]["recall"] == 1
    with pytest.raises(slaf.InvalidArgumentError, match="exact='no'"):
        slaf_sc.pp.neighbors(ours, exact="no")


def test_written_into_the_store(tmp_path):
    SLAFConverter().convert_anndata(embedded(), tmp_path / "a.slaf")
    ours = read_slaf(tmp_path / "a.slaf")
    slaf_sc.pp.neighbors(ours, write=True)
    again = read_slaf(tmp_path / "a.slaf")
    for name in ("distances", "connectivities"):
        stored = again.obsp[name]
        assert sp.issparse(stored)
        assert abs(stored - ours.obsp[name]).max() == 0
    assert again.uns["neighbors"]["params"]["n_neighbors"] == 15
