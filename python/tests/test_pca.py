"""Principal components out of core against scanpy and scikit-learn."""

import os
import subprocess
import sys
import textwrap

import anndata as ad
import numpy as np
import pytest
import scipy.sparse as sp
from against_scanpy import sc, synthetic

import slaf
from slaf.data import SLAFConverter
from slaf.integrations import LazyMatrix, read_slaf
from slaf.integrations import scanpy as slaf_sc
from slaf.integrations._plan import InMemory
from slaf.integrations.scanpy import _pca

pytestmark = pytest.mark.filterwarnings("ignore")


def logs(dtype="f8", form="csr", **sizes):
    """Logarithms of counts, with genes that are zero or constant."""
    adata = synthetic(dtype, form, **sizes)
    adata.X = adata.X.log1p() if sp.issparse(adata.X) else np.log1p(adata.X)
    adata.var["highly_variable"] = np.arange(adata.n_vars) % 3 > 0
    return adata


@pytest.fixture(params=["csr", "csc", "dense"])
def pair(opened, request):
    return opened(f"pca-{request.param}", lambda: logs(form=request.param))


@pytest.fixture(params=["products", "passes"])
def way(request, monkeypatch):
    """Products of all pairs of genes, and what is done where they are too many."""
    if request.param == "passes":
        monkeypatch.setattr(_pca, "MOST_COLUMNS", 2)
    return request.param


def assert_same_pca(ours, theirs, keys=("X_pca", "PCs", "pca"), atol=1e-8):
    obsm, varm, uns = keys
    for a, b in [
        (ours.obsm[obsm], theirs.obsm[obsm]),
        (ours.varm[varm], theirs.varm[varm]),
        *((ours.uns[uns][k], theirs.uns[uns][k]) for k in ("variance", "variance_ratio")),
    ]:
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=atol)
    mine, his = ours.uns[uns]["params"], theirs.uns[uns]["params"]
    assert mine.keys() == his.keys()
    for key, value in his.items():
        assert np.all(np.equal(mine[key], value))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"n_comps": 3, "mask_var": None},
        {"n_comps": 5, "mask_var": "mt"},
        {"n_comps": 4, "use_highly_variable": False},
        {"n_comps": 6, "key_added": "mine"},
        {"n_comps": 4, "layer": "counts"},
        {"n_comps": 4, "zero_center": False},
        {"n_comps": 4, "zero_center": False, "mask_var": None},
    ],
)
def test_as_scanpy(pair, options, way):
    theirs, ours = pair
    solver = {"svd_solver": "arpack"}
    slaf_sc.pp.pca(ours, dtype="float64", **options)
    sc.pp.pca(theirs, dtype="float64", **solver, **options)
    key = options.get("key_added")
    assert_same_pca(ours, theirs, ("X_pca", "PCs", "pca") if key is None else (key,) * 3)


def test_mask_given_as_array_and_copy(pair):
    theirs, ours = pair
    mask = np.arange(ours.n_vars) < 40
    changed = slaf_sc.tl.pca(ours, 5, mask_var=mask, dtype="float64", copy=True)
    sc.pp.pca(theirs, 5, mask_var=mask, dtype="float64")
    np.testing.assert_allclose(changed.obsm["X_pca"], theirs.obsm["X_pca"], atol=1e-8)
    assert "X_pca" not in ours.obsm
    np.testing.assert_array_equal(changed.varm["PCs"][~mask], 0)


def test_types_of_float32(opened, way):
    theirs, ours = opened("pca-f4", lambda: logs("f4"))
    slaf_sc.pp.pca(ours, 4, mask_var=None)
    sc.pp.pca(theirs, 4, mask_var=None)
    assert_same_pca(ours, theirs, atol=5e-3)


@pytest.mark.parametrize("max_value", [None, 1.5])
@pytest.mark.parametrize("zero_center", [True, False])
def test_scaled(opened, max_value, zero_center, way):
    theirs, ours = opened("pca-scaled", logs)
    for pp, adata in ((slaf_sc.pp, ours), (sc.pp, theirs)):
        pp.scale(adata, max_value=max_value, zero_center=zero_center)
        pp.pca(adata, 6, dtype="float64")
    assert_same_pca(ours, theirs, atol=1e-7)


def test_fewer_cells_than_genes(opened, way):
    theirs, ours = opened("pca-wide", lambda: logs(n=120, m=400))
    for pp, adata in ((slaf_sc.pp, ours), (sc.pp, theirs)):
        pp.pca(adata, 9, mask_var=None, dtype="float64")
    assert_same_pca(ours, theirs)


def test_views(pair):
    theirs, ours = pair
    cells = np.arange(0, ours.n_obs, 2)
    slaf_sc.pp.pca(part := ours[cells].copy(), 4, dtype="float64")
    sc.pp.pca(other := theirs[cells].copy(), 4, dtype="float64")
    np.testing.assert_allclose(part.obsm["X_pca"], other.obsm["X_pca"], atol=1e-8)


def test_lazy_matrices(pair, way):
    theirs, ours = pair
    scores, components, ratio, variance = slaf_sc.pp.pca(ours.X, 3, return_info=True)
    expected = sc.pp.pca(theirs.X, 3, return_info=True)
    for mine, his in zip((scores, components, ratio, variance), expected, strict=True):
        assert mine.dtype == his.dtype
        np.testing.assert_allclose(mine, his, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("offset", [1e7, 1e12])
def test_means_that_swamp_what_varies(way, offset):
    from sklearn.decomposition import PCA

    random = np.random.default_rng(0)
    X = random.normal(size=(200, 12)) * np.arange(1, 13) + offset
    scores = slaf_sc.pp.pca(LazyMatrix(InMemory.of(X)), 5, dtype="float64")
    expected = PCA(5, svd_solver="full").fit_transform(X - X.mean(axis=0))
    np.testing.assert_allclose(np.abs(scores), np.abs(expected), atol=1e-6)


def test_real_cells(opened, shared_data, way):
    def read():
        adata = ad.read_h5ad(shared_data / "pbmc3k_raw.h5ad")
        adata.var_names_make_unique()
        sc.pp.filter_genes(adata, min_cells=3)
        sc.pp.normalize_total(adata, target_sum=1e4)
        sc.pp.log1p(adata)
        sc.pp.highly_variable_genes(adata, n_top_genes=300)
        adata.X = adata.X.astype("f8")
        del adata.uns["log1p"]
        return adata

    theirs, ours = opened("pca-pbmc3k", read)
    slaf_sc.pp.pca(ours, 30, dtype="float64")
    sc.pp.pca(theirs, 30, dtype="float64")
    for key in ("variance", "variance_ratio"):
        np.testing.assert_allclose(ours.uns["pca"][key], theirs.uns["pca"][key], rtol=1e-9)
    # A component is as certain as its variance is apart from the others.
    variance = theirs.uns["pca"]["variance"]
    gaps = np.abs(np.diff(variance)) / variance[0]
    certain = np.minimum(np.r_[1, gaps], np.r_[gaps, 0]) > 1e-4
    assert certain[:10].all()
    cosines = (ours.varm["PCs"] * theirs.varm["PCs"]).sum(axis=0)
    assert (cosines[certain] > 1 - 1e-6).all()
    # And the whole space in any case.
    spaces = np.linalg.svd(ours.varm["PCs"].T @ theirs.varm["PCs"], compute_uv=False)
    assert spaces[:-1].min() > 1 - 1e-6


@pytest.mark.parametrize("n_comps", [0, 60, 61, 1000])
def test_too_many_components(pair, n_comps):
    theirs, ours = pair
    with pytest.raises(ValueError, match="n_components") as error:
        sc.pp.pca(theirs, n_comps)
    with pytest.raises(slaf.InvalidArgumentError) as refused:
        slaf_sc.pp.pca(ours, n_comps)
    assert str(refused.value).split(" with ")[0] in str(error.value)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        (np.ones((1, 5)), "between 1 and"),
        (np.ones((5, 1)), "between 1 and"),
        (np.full((9, 4), 3.0), "all cells are the same"),
        (np.zeros((9, 4)), "all cells are the same"),
        (np.where(np.eye(9, 4) > 0, np.nan, 1.0), "NaN"),
        (np.where(np.eye(9, 4) > 0, np.inf, 1.0), "infinity"),
    ],
)
def test_odd_inputs(tmp_path, values, says, way):
    SLAFConverter().convert_anndata(ad.AnnData(values), tmp_path / "odd.slaf")
    adata = read_slaf(tmp_path / "odd.slaf")
    with pytest.raises(slaf.InvalidArgumentError, match=says):
        slaf_sc.pp.pca(adata)
    assert not adata.obsm
    assert not adata.varm
    assert not adata.uns


def test_refused_by_name(pair):
    _theirs, ours = pair
    with pytest.raises(slaf.UnsupportedError, match="chunked"):
        slaf_sc.pp.pca(ours, chunked=True)
    with pytest.raises(slaf.InvalidArgumentError, match="no_such"):
        slaf_sc.pp.pca(ours, mask_var="no_such")
    with pytest.raises(slaf.InvalidArgumentError, match="incompatible"):
        slaf_sc.pp.pca(ours, mask_var=None, use_highly_variable=True)
    with pytest.raises(slaf.InvalidArgumentError, match="part of"):
        slaf_sc.pp.pca(ours[:50], 3, write=True)


def test_written_into_the_store(tmp_path):
    adata = logs()
    adata.uns["other"] = "stays"
    SLAFConverter().convert_anndata(adata, tmp_path / "a.slaf")
    ours = read_slaf(tmp_path / "a.slaf")
    slaf_sc.pp.pca(ours, 4, write=True)
    again = read_slaf(tmp_path / "a.slaf")
    assert slaf.SLAFArray(tmp_path / "a.slaf").version == 2
    for slot, key in (("obsm", "X_pca"), ("varm", "PCs")):
        np.testing.assert_array_equal(getattr(again, slot)[key], getattr(ours, slot)[key])
    assert again.uns["other"] == "stays"
    np.testing.assert_array_equal(again.uns["pca"]["variance"], ours.uns["pca"]["variance"])
    slaf_sc.pp.pca(again, 5, write=True)
    assert read_slaf(tmp_path / "a.slaf").obsm["X_pca"].shape[1] == 5


CODE = """
    import sys, hashlib, warnings
    warnings.simplefilter("ignore")
    from slaf.integrations import pp, read_slaf
    adata = read_slaf(sys.argv[1])
    slaf_pca = sys.modules["slaf.integrations.scanpy._pca"]
    slaf_pca.MOST_COLUMNS = int(sys.argv[2])
    pp.pca(adata, 8, dtype="float64")
    pp.neighbors(adata, 6)
    parts = [adata.obsm["X_pca"], adata.varm["PCs"], adata.uns["pca"]["variance"]]
    parts += [m.data for m in adata.obsp.values()] + [m.indices for m in adata.obsp.values()]
    print(hashlib.sha256(b"".join(part.tobytes() for part in parts)).hexdigest())
"""


@pytest.mark.parametrize("most_columns", [8192, 2])
def test_same_bits_with_any_threads(tmp_path, most_columns):
    SLAFConverter().convert_anndata(logs(n=600, m=90), tmp_path / "a.slaf")
    found = set()
    for threads in (1, 2, 5):
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(CODE), tmp_path / "a.slaf", str(most_columns)],
            env={**os.environ, "RAYON_NUM_THREADS": str(threads)},
            capture_output=True,
            text=True,
            timeout=300,
            check=True,
        )
        found.add(done.stdout.strip())
    assert len(found) == 1


def test_thousands_of_genes_as_they_are(tmp_path):
    """More genes than products are computed of, more cells, and known directions among noise."""
    random = np.random.default_rng(3)
    n, m, k = 9000, 8300, 4
    parts = sp.random(n, m, 0.002, format="csr", random_state=random)
    groups = random.integers(k + 1, size=n)
    marked = sp.csr_matrix((np.repeat(5.0, n), (np.arange(n), groups * 7)), shape=(n, m))
    X = (parts + marked).tocsr()
    scores, loadings, _, variance = slaf_sc.pp.pca(
        LazyMatrix(InMemory.of(X)), k, return_info=True, dtype="float64"
    )
    means = np.asarray(X.mean(axis=0)).ravel()
    image = (X @ loadings.T - means @ loadings.T) / (n - 1)
    image = np.asarray(X.T @ image) - np.outer(means, image.sum(axis=0))
    assert np.linalg.norm(image - loadings.T * variance, axis=0).max() < 1e-9 * variance[0]
    np.testing.assert_allclose(scores.var(axis=0, ddof=1), variance, rtol=1e-10)
    strong = {group * 7 for group in range(k + 1)}
    assert {int(np.abs(row).argmax()) for row in loadings} <= strong


def test_what_did_not_converge_is_told(monkeypatch):
    class Found:
        values = np.array([2.0, 1.0])
        vectors = np.eye(2, 5).ravel()
        residuals = np.array([0.0, 1e-3])
        converged = False

    monkeypatch.setattr(_pca, "MOST_COLUMNS", 2)
    monkeypatch.setattr(LazyMatrix, "leading", lambda *_: Found)
    X = np.random.default_rng(0).normal(size=(20, 5))
    with pytest.warns(UserWarning, match=r"residuals of up to 1\.0e-03"):
        slaf_sc.pp.pca(LazyMatrix(InMemory.of(X)), 2)


@pytest.mark.parametrize("copies", [3, 7, 12])
def test_genes_that_occur_several_times(copies, way):
    from sklearn.decomposition import PCA

    for seed in range(6):
        X = np.random.default_rng(seed).poisson(2, (100, 8)).repeat(copies, axis=1).astype("f8")
        scores = slaf_sc.pp.pca(LazyMatrix(InMemory.of(sp.csr_matrix(X))), 3, dtype="float64")
        expected = PCA(3, svd_solver="full").fit_transform(X)
        np.testing.assert_allclose(np.abs(scores), np.abs(expected), atol=1e-8)


def test_values_whose_squares_are_no_numbers(way):
    X = np.random.default_rng(0).normal(size=(30, 6))
    for size in (1e200, 1e-300):
        with pytest.raises(slaf.InvalidArgumentError):
            slaf_sc.pp.pca(LazyMatrix(InMemory.of(X * size)), 2)
