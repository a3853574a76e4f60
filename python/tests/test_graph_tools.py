"""scanpy's tools for graphs and embeddings, and Scrublet, on lazy data sets."""

import random
import sys
from importlib.util import find_spec

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from against_scanpy import sc

import slaf
from slaf.integrations import scanpy as slaf_sc

pytestmark = pytest.mark.filterwarnings("ignore")


def made():
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(3, 8)) * 1.2
    obsm = (centres[np.arange(90) % 3] + rng.normal(size=(90, 8))).astype("f4")
    X = sp.csr_matrix(rng.poisson(1, (90, 60)).astype("f4"))
    adata = ad.AnnData(X, obsm={"X_pca": obsm})
    adata.obs["kind"] = pd.Categorical.from_codes(np.arange(90) % 3, list("abc"))
    adata.obs["batch"] = pd.Categorical.from_codes(np.arange(90) // 45, ["one", "two"])
    sc.pp.neighbors(adata, n_neighbors=8, use_rep="X_pca", random_state=0)
    sc.pp.neighbors(adata, n_neighbors=5, use_rep="X_pca", key_added="few")
    adata.uns["iroot"] = 3
    return adata


@pytest.fixture
def pair(opened):
    return opened("graph", made)


def missing(*modules):
    return [name for name in modules if find_spec(name) is None]


CALLS = {
    "umap": ((), lambda m, a: m.tl.umap(a, maxiter=20)),
    "umap of another graph": ((), lambda m, a: m.tl.umap(a, neighbors_key="few", maxiter=20)),
    "umap from given places": ((), lambda m, a: m.tl.umap(a, init_pos="start", maxiter=20)),
    "tsne": ((), lambda m, a: m.tl.tsne(a, perplexity=9)),
    "tsne of some": ((), lambda m, a: m.tl.tsne(a, 4, use_rep="X_pca", perplexity=9)),
    "diffmap": ((), lambda m, a: m.tl.diffmap(a, 6)),
    "dpt": ((), lambda m, a: (m.tl.diffmap(a), m.tl.dpt(a, 5))),
    "leiden": (("igraph", "leidenalg"), lambda m, a: m.tl.leiden(a, 0.7)),
    "leiden of igraph": (
        ("igraph",),
        lambda m, a: m.tl.leiden(
            a, flavor="igraph", n_iterations=2, directed=False, key_added="clusters"
        ),
    ),
    "leiden of a part": (
        ("igraph", "leidenalg"),
        lambda m, a: m.tl.leiden(a, 2, restrict_to=("kind", ["a"]), obsp="few_connectivities"),
    ),
    "louvain": (("igraph",), lambda m, a: m.tl.louvain(a, flavor="igraph", directed=False)),
    "paga": (("igraph",), lambda m, a: m.tl.paga(a, "kind")),
    "umap of paga": (
        ("igraph", "networkx"),
        lambda m, a: (
            m.tl.paga(a, "kind"),
            a.uns["paga"].update(pos=np.arange(6.0).reshape(3, 2)),
            m.tl.umap(a, init_pos="paga", maxiter=20),
        ),
    ),
}


def assert_same(a, b):
    if sp.issparse(b):
        a, b = a.toarray(), b.toarray()
    if isinstance(b, dict):
        assert sorted(a) == sorted(b)
        for name in b:
            assert_same(a[name], b[name])
    else:
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("view", [False, True])
@pytest.mark.parametrize("call", CALLS)
def test_results_are_those_of_scanpy(pair, call, view):
    modules, function = CALLS[call]
    if missing(*modules):
        pytest.skip(f"without {missing(*modules)}")
    theirs, ours = pair
    theirs.obsm["start"] = ours.obsm["start"] = np.random.default_rng(1).normal(size=(90, 2))
    if view:
        theirs, ours = theirs[10:80].copy(), ours[10:80]
    # What is not needed is not read.
    ours.X = ours.X if ours.is_view else ours.X + np.full(60, np.nan)
    # UMAP takes the weakest edges out of scanpy's graph; a lazy data set keeps its own.
    graphs = {name: graph.copy() for name, graph in theirs.obsp.items()}
    # igraph takes its random numbers from here.
    random.seed(0)
    function(sc, theirs)
    theirs.obsp.update(graphs)
    random.seed(0)
    function(slaf_sc, ours)
    pd.testing.assert_frame_equal(ours.obs[list(theirs.obs)], theirs.obs, check_names=False)
    assert list(ours.obs) == list(theirs.obs)
    for slot in ("obsm", "obsp", "varm"):
        assert sorted(getattr(ours, slot)) == sorted(getattr(theirs, slot))
        for name in getattr(theirs, slot):
            assert_same(getattr(ours, slot)[name], getattr(theirs, slot)[name])
    assert_same(ours.uns, theirs.uns)


def test_copies(pair):
    _, ours = pair
    copy = slaf_sc.tl.diffmap(ours, copy=True)
    assert "X_diffmap" in copy.obsm
    assert "X_diffmap" not in ours.obsm


def test_what_is_missing_is_named(pair, monkeypatch):
    _, ours = pair
    tl, pp = slaf_sc.tl, slaf_sc.pp
    for call, message in (
        (lambda: tl.umap(ours, neighbors_key="none"), "call pp.neighbors first"),
        (lambda: tl.diffmap(ours, neighbors_key="none"), "call pp.neighbors first"),
        (lambda: tl.tsne(ours, use_rep="X_none"), "call pp.pca first"),
    ):
        with pytest.raises(slaf.InvalidArgumentError, match=message):
            call()
    del ours.uns["iroot"]
    with pytest.raises(slaf.InvalidArgumentError, match="needs a root"):
        tl.dpt(ours)
    for module in ("igraph", "harmonypy", "skimage", "leidenalg"):
        monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setattr("slaf.integrations.scanpy._light.find_spec", _installed)
    for call in (
        lambda: tl.leiden(ours),
        lambda: tl.louvain(ours),
        lambda: tl.paga(ours, "kind"),
        lambda: pp.harmony_integrate(ours, "batch"),
        lambda: pp.scrublet(ours),
    ):
        with pytest.raises(slaf.UnsupportedError, match=r"slaf\[analysis\]"):
            call()


def _installed(module):
    return None if module in ("igraph", "harmonypy", "skimage", "leidenalg") else find_spec(module)


def test_harmony(pair):
    harmonypy = pytest.importorskip("harmonypy")
    theirs, ours = pair
    slaf_sc.pp.harmony_integrate(ours, "batch", max_iter_harmony=3)
    embedding = theirs.obsm["X_pca"].astype("f8")
    found = harmonypy.run_harmony(embedding, theirs.obs, ["batch"], max_iter_harmony=3).Z_corr
    found = np.asarray(found)
    found = found if found.shape == embedding.shape else found.T
    np.testing.assert_allclose(ours.obsm["X_pca_harmony"], found)


def counts():
    rng = np.random.default_rng(4)
    X = rng.poisson(rng.gamma(0.5, 1, 300), (240, 300)).astype("f4")
    X[::2, :60] *= rng.poisson(3, (120, 60))
    obs = pd.DataFrame({"sample": pd.Categorical(["b", "a", "a", "b"] * 60, ["b", "a", "none"])})
    return ad.AnnData(sp.csr_matrix(X), obs=obs.set_axis([f"c{i}" for i in range(240)]))


@pytest.mark.parametrize("batch_key", [None, "sample"])
def test_scrublet(opened, batch_key):
    theirs, ours = opened("scrublet", counts)
    for m, adata in ((sc, theirs), (slaf_sc, ours)):
        m.pp.scrublet(adata, batch_key=batch_key, threshold=0.2, n_prin_comps=10, random_state=3)
    for name in ("doublet_score", "predicted_doublet"):
        pd.testing.assert_series_equal(ours.obs[name], theirs.obs[name], check_names=False)
    assert_same(ours.uns["scrublet"], theirs.uns["scrublet"])


def test_scrublet_in_processes(opened):
    theirs, ours = opened("scrublet_jobs", counts)
    how = {"threshold": 0.2, "n_prin_comps": 10, "random_state": 3}
    sc.pp.scrublet(theirs, batch_key="sample", **how)
    for n_jobs in (1, 2, 5):
        found = slaf_sc.pp.scrublet(ours, batch_key="sample", n_jobs=n_jobs, copy=True, **how)
        for name in ("doublet_score", "predicted_doublet"):
            pd.testing.assert_series_equal(found.obs[name], theirs.obs[name], check_names=False)
        assert_same(found.uns["scrublet"], theirs.uns["scrublet"])
    few = ours[np.r_[0:3, 100:200]].copy()
    few.obs["sample"] = ["few"] * 3 + ["many"] * 100
    messages = []
    for n_jobs in (1, 2):
        with pytest.raises(slaf.InvalidArgumentError, match=r"the sample few .* of 3 cells") as e:
            slaf_sc.pp.scrublet(few, batch_key="sample", n_jobs=n_jobs, **how)
        messages.append(str(e.value))
    assert messages[0] == messages[1]
    with pytest.raises(slaf.InvalidArgumentError, match="n_jobs"):
        slaf_sc.pp.scrublet(ours, n_jobs=0, threshold=0.2)


def test_cells_that_scrublet_leaves_out(opened):
    def with_empty():
        adata = counts()
        adata.X[7] = 0
        return adata

    theirs, ours = opened("scrublet_empty", with_empty)
    slaf_sc.pp.scrublet(ours, batch_key="sample", threshold=0.2, n_prin_comps=10)
    assert list(np.flatnonzero(ours.obs["doublet_score"].isna())) == [7]
    for m, adata in ((sc, theirs), (slaf_sc, ours)):
        m.pp.scrublet(adata, threshold=0.2, n_prin_comps=10)
    np.testing.assert_array_equal(ours.obs["doublet_score"], theirs.obs["doublet_score"])
    ours.obs["sample"] = ours.obs["sample"].where(np.arange(240) > 5)
    with pytest.raises(slaf.InvalidArgumentError, match="without a value"):
        slaf_sc.pp.scrublet(ours, batch_key="sample", threshold=0.2)
    with pytest.raises(slaf.UnsupportedError, match="adata_sim"):
        slaf_sc.pp.scrublet(ours, theirs, threshold=0.2)
