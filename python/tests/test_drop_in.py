"""A lazy AnnData in place of one in memory: the same results, or an error that helps."""

import pickle

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from helpers import assert_same, assert_same_matrix

import slaf
from slaf.data import SLAFConverter
from slaf.integrations import _like_scipy, read_slaf
from slaf.integrations import scanpy as slaf_sc


@pytest.fixture
def both(store_path, original):
    return read_slaf(store_path), original


def in_form(both, form):
    """The pair with X in another encoding."""
    lazy, original = both
    X = original.X
    original.X = {"csr": X.tocsr(), "csc": X.tocsc(), "dense": X.toarray()}[form]
    lazy.X = original.X.copy()
    return lazy, original


def same_result(ours, theirs):
    assert type(ours) is type(theirs)
    assert ours.dtype == theirs.dtype
    assert ours.shape == theirs.shape
    ours, theirs = (x.toarray() if sp.issparse(x) else x for x in (ours, theirs))
    np.testing.assert_allclose(ours, theirs, rtol=1e-6)


REDUCTIONS = {
    "sum": lambda m, axis: m.sum(axis=axis),
    "mean": lambda m, axis: m.mean(axis=axis),
    "max": lambda m, axis: m.max(axis=axis),
    "min": lambda m, axis: m.min(axis),
    "sum64": lambda m, axis: m.sum(axis=axis, dtype=np.float64),
    "np.sum": lambda m, axis: np.sum(m, axis=axis),
    "np.mean": lambda m, axis: np.mean(m, axis=axis),
}


@pytest.mark.parametrize("arrays", [False, True])
@pytest.mark.parametrize("form", ["csr", "csc", "dense"])
def test_reductions_are_those_of_the_matrix_in_memory(both, form, arrays):
    lazy, original = in_form(both, form)
    if arrays and form != "dense":
        original.X = getattr(sp, f"{form}_array")(original.X)
    with ad.settings.override(use_sparse_array_on_read=arrays):
        assert_same_matrix(lazy.X.to_memory(), original.X)
        for reduce in REDUCTIONS.values():
            for axis in (None, 0, 1, -1):
                same_result(
                    np.asanyarray(reduce(lazy.X, axis))[()]
                    if axis is None
                    else reduce(lazy.X, axis),
                    reduce(original.X, axis),
                )


def test_idioms_of_notebooks(both):
    lazy, original = both
    for of in (lambda a: a.X.sum(axis=1).A1, lambda a: np.ravel(a.X.mean(axis=0))):
        np.testing.assert_allclose(of(lazy), of(original), rtol=1e-6)
    shares = lazy.X / lazy.X.sum(axis=1)
    with np.errstate(divide="ignore"):
        expected = sp.csr_matrix(original.X / original.X.sum(axis=1))
    np.testing.assert_allclose(shares.toarray(), expected.toarray(), rtol=1e-6)
    for a in both:
        a.obs["total"] = a.X.sum(axis=1)
        a.var["mean"] = a.X.mean(axis=0).A1
    assert_same(lazy.to_memory(), original)


@pytest.mark.parametrize("form", ["csr", "csc"])
def test_attributes_of_sparse_matrices(both, form):
    lazy, original = in_form(both, form)
    ours, theirs = lazy.X, original.X
    for name in ("data", "indices", "indptr"):
        np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name))
        assert not getattr(ours, name).flags.writeable
        with pytest.raises(slaf.UnsupportedError, match="in place"):
            setattr(ours, name, getattr(theirs, name))
    assert (ours.format, ours.nnz, ours.size) == (theirs.format, theirs.nnz, theirs.size)
    for axis in (None, 0, 1):
        np.testing.assert_array_equal(ours.getnnz(axis), theirs.getnnz(axis))
    assert type(ours.todense()) is type(theirs.todense())
    np.testing.assert_array_equal(ours.todense(), theirs.todense())
    assert_same_matrix(ours.asformat("csc"), theirs.asformat("csc"))
    np.testing.assert_array_equal(np.nonzero(ours), np.nonzero(theirs))
    np.testing.assert_array_equal(ours.tocoo().toarray(), theirs.toarray())
    assert_same_matrix(ours.getcol(1).tocsr(), theirs.tocsc()[:, [1]].tocsr())
    for stack in (sp.vstack, sp.hstack):
        np.testing.assert_array_equal(
            stack([ours, ours]).toarray(), stack([theirs, theirs]).toarray()
        )
    assert [row.shape for row in ours] == [(1, 4)] * 6


def test_a_dense_matrix_has_no_parts(both):
    lazy, _ = in_form(both, "dense")
    assert lazy.X.size == 24
    assert not hasattr(lazy.X, "indptr")
    assert not hasattr(lazy.X, "format")
    np.testing.assert_array_equal(lazy.X[:, 1].ravel(), lazy.X.toarray()[:, 1])


def test_rows_are_counted_piece_by_piece(both, monkeypatch):
    lazy, original = both
    monkeypatch.setattr(_like_scipy, "CHUNK", 8)
    for axis in (0, 1):
        np.testing.assert_array_equal(lazy.X.getnnz(axis), original.X.getnnz(axis))


def test_transposes(both):
    lazy, original = both
    expected = original.X.T
    ours = lazy.X.T
    assert_same_matrix(ours.to_memory(), expected)
    assert ours.T is lazy.X
    assert_same_matrix(ours[1:, [0, 5]].to_memory(), expected[1:, [0, 5]])
    weights = np.arange(12.0).reshape(6, 2)
    np.testing.assert_allclose(ours @ weights, expected @ weights)
    np.testing.assert_allclose(weights[:4].T @ ours, weights[:4].T @ expected)
    for name in ("sum", "mean", "max"):
        for axis in (0, 1):
            same_result(getattr(ours, name)(axis=axis), getattr(expected, name)(axis=axis))
    np.testing.assert_allclose(np.log1p(ours).sum(), np.log1p(expected).sum(), rtol=1e-6)
    np.testing.assert_allclose(
        ours.var(axis=0).A1, expected.toarray().var(axis=0), rtol=1e-5, atol=1e-6
    )
    del original.raw
    assert_same(lazy.T.to_memory(), original.T)
    assert_same(lazy[1:4, ::-1].T.to_memory(), original[1:4, ::-1].copy().T)
    assert_same(pickle.loads(pickle.dumps(lazy.T[1:, :3])).to_memory(), original.T[1:, :3].copy())


def test_a_column_is_computed(both):
    lazy, original = both
    for name in ("gene1", "gene3"):
        lazy.obs[name] = lazy[:, name].X
        np.testing.assert_array_equal(lazy.obs[name], original[:, name].X.toarray().ravel())
        assert lazy.obs[name].dtype == np.float32
    with pytest.raises(ValueError, match=r"."):
        lazy.obs["two"] = lazy[:, :2].X
    lazy.obsm["genes"] = lazy[:, :2].X
    assert_same_matrix(lazy.obsm["genes"], original[:, :2].X.copy())
    assert lazy.to_memory().obsm["genes"].shape == (6, 2)


def test_slots_are_emptied(both):
    for a in both:
        del a.obsm["X_pca"]
        del a.varm
        del a.layers["double"]
        del a.obsp
        del a.uns
    assert_same(both[0].to_memory(), both[1])
    del both[0].layers
    assert list(both[0].layers) == []


def test_chunks(both):
    lazy, original = both
    for size in (None, 4, 6):
        for (ours, *at), (theirs, *where) in zip(
            lazy.chunked_X(size), original.chunked_X(size), strict=True
        ):
            assert_same_matrix(ours, theirs)
            assert at == where
    for select in ([4, 1, 1], 3):
        chunks = []
        for a in both:
            np.random.seed(0)
            chunks.append(a.chunk_X(select))
        np.testing.assert_array_equal(*chunks)
    with pytest.raises(slaf.InvalidArgumentError):
        next(lazy.chunked_X(0))


CALLS = {
    "concat": lambda a: ad.concat([a, a]),
    "outer concat": lambda a: ad.concat({"x": a, "y": a[:, :2]}, join="outer"),
    "mixed concat": lambda a: ad.concat([a.to_memory(), a]),
    "concat of genes": lambda a: ad.concat([a, a], axis="var"),
    "AnnData": ad.AnnData,
    "AnnData of a matrix": lambda a: ad.AnnData(a.X),
    "array": np.asarray,
    "log1p": np.log1p,
    "mean": lambda a: np.mean(a),
    "equality": lambda a: a == a,
    "comparison": lambda a: a > 0,
    "concatenate": lambda a: a.concatenate(a),
    "loom": lambda a: a.write_loom("x.loom"),
    "stack": lambda a: np.vstack([a.X, a.X]),
    "median": lambda a: np.median(a.X),
}


@pytest.mark.parametrize("call", CALLS)
def test_what_needs_memory_says_so(both, call):
    lazy, _ = both
    with pytest.raises(slaf.UnsupportedError, match="to_memory") as caught:
        CALLS[call](lazy)
    assert "slaf.integrations.pp" in str(caught.value)


def test_what_is_not_there_is_an_attribute_error(both):
    lazy, _ = both
    assert not hasattr(lazy, "dtype")
    assert not hasattr(lazy.X, "eliminate_zeros")
    with pytest.raises(AttributeError, match="to_memory"):
        lazy.chunks  # noqa: B018


@pytest.fixture
def changed(both):
    """A pair that was changed, with every kind of matrix."""
    for a in both:
        a.X = a.X * 2
        a.obs["x"] = np.arange(6.0)
        a.obs["text"] = ["u", "v"] * 3
        a.layers["columns"] = sp.csc_matrix(np.eye(6, 4, dtype="f4"))
        a.layers["array"] = np.arange(24, dtype="i4").reshape(6, 4)
        a.raw = a
    return both


@pytest.mark.parametrize("compression", [None, "gzip", "lzf"])
def test_write_streams(changed, tmp_path, monkeypatch, compression):
    lazy, original = changed
    monkeypatch.setattr(_like_scipy, "CHUNK", 8)
    lazy.write(tmp_path / "a.h5ad", compression=compression)
    assert_same(ad.read_h5ad(tmp_path / "a.h5ad"), original)
    lazy[[4, 1]].write_h5ad(tmp_path / "a.h5ad", compression=compression)
    assert_same(ad.read_h5ad(tmp_path / "a.h5ad"), original[[4, 1]].copy())
    with h5py.File(tmp_path / "a.h5ad") as file:
        assert file["X/data"].compression == compression
    assert [p.name for p in tmp_path.iterdir()] == ["a.h5ad"]


def test_write_takes_the_options_of_anndata(both, tmp_path):
    lazy, original = both
    options = {"as_dense": ["X"], "compression": "gzip", "compression_opts": 1}
    lazy.write(tmp_path / "a.h5ad", convert_strings_to_categoricals=True, **options)
    original.write_h5ad(tmp_path / "b.h5ad", **options)
    assert_same(ad.read_h5ad(tmp_path / "a.h5ad"), ad.read_h5ad(tmp_path / "b.h5ad"))
    assert "categories" not in dir(lazy.obs["note"].dtype)
    with pytest.raises(slaf.InvalidArgumentError, match="as_dense"):
        lazy.write(tmp_path / "a.h5ad", as_dense=["layers/double"])
    lazy.layers["a/b"] = lazy.X
    with pytest.raises(slaf.InputError, match="a/b"):
        lazy.write(tmp_path / "a.h5ad")


def test_write_zarr(changed, tmp_path, monkeypatch):
    pytest.importorskip("zarr")
    lazy, original = changed
    monkeypatch.setattr(_like_scipy, "CHUNK", 8)
    for _ in range(2):
        lazy.write_zarr(tmp_path / "a.zarr")
        assert_same(ad.read_zarr(tmp_path / "a.zarr"), original)
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").write_text("mine")
    with pytest.raises(slaf.AlreadyExistsError):
        lazy.write_zarr(tmp_path / "notes")
    assert (tmp_path / "notes" / "a.txt").read_text() == "mine"


def test_a_lazy_anndata_becomes_a_store(changed, tmp_path, monkeypatch):
    lazy, original = changed
    monkeypatch.setattr(_like_scipy, "CHUNK", 8)
    # Nothing is read whole.
    monkeypatch.setattr(type(lazy), "to_memory", None)
    report = SLAFConverter().convert_anndata(lazy[1:, [2, 0]], tmp_path / "part.slaf")
    assert (report.n_cells, report.n_genes) == (5, 2)
    lazy.write(tmp_path / "a.slaf")
    with pytest.raises(slaf.AlreadyExistsError):
        lazy.write(tmp_path / "a.slaf")
    with pytest.raises(slaf.InvalidArgumentError, match="compression"):
        lazy.write(tmp_path / "b.slaf", compression="gzip")
    monkeypatch.undo()
    assert_same(read_slaf(tmp_path / "a.slaf").to_memory(), original)
    part = read_slaf(tmp_path / "part.slaf").to_memory()
    assert_same(part, original[1:, [2, 0]].copy())
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.slaf", "part.slaf"]


def test_the_name_of_the_index_beside_a_column_of_that_name(tmp_path, original):
    original.obs.index.name = "cell"
    original.obs["cell"] = original.obs_names.to_numpy()
    SLAFConverter().convert_anndata(original, tmp_path / "a.slaf")
    read_slaf(tmp_path / "a.slaf").write(tmp_path / "streamed.h5ad")
    lazy = read_slaf(tmp_path / "a.slaf")
    lazy.obs["x"] = 1
    lazy.write(tmp_path / "written.h5ad")
    for name in ("streamed", "written"):
        obs = ad.read_h5ad(tmp_path / f"{name}.h5ad").obs
        assert obs.index.name == "cell"
        assert list(obs["cell"]) == list(obs.index) == list(original.obs_names)


@pytest.fixture
def with_raw(tmp_path):
    """A store with raw whose genes the data set has in another order, or not at all."""
    X = sp.csr_matrix(np.array([[1, 0, 2, 4], [0, 3, 1, 0], [5, 0, 0, 3]], dtype="f4"))
    adata = ad.AnnData(X, obs=pd.DataFrame(index=list("xyz")))
    adata.var = pd.DataFrame({"mito": [True, False, False, True]}, index=["a", "b", "c", "d"])
    adata.raw = adata
    SLAFConverter().convert_anndata(adata, tmp_path / "raw.slaf")
    return read_slaf(tmp_path / "raw.slaf"), X.toarray()


@pytest.mark.parametrize("genes", [["b", "c"], ["c", "d", "a", "b"], ["a", "b", "c", "d"]])
@pytest.mark.parametrize("inplace", [False, True])
def test_genes_of_raw_are_matched_by_name(with_raw, genes, inplace):
    whole, X = with_raw
    adata = whole[:, genes].copy()
    found = slaf_sc.pp.calculate_qc_metrics(
        adata, use_raw=True, percent_top=None, qc_vars=["mito"], inplace=inplace
    )
    obs, var = (adata.obs, adata.var) if inplace else found
    np.testing.assert_array_equal(obs["total_counts"], X.sum(axis=1))
    np.testing.assert_array_equal(obs["total_counts_mito"], X[:, [0, 3]].sum(axis=1))
    totals = dict(zip("abcd", X.sum(axis=0), strict=True))
    assert dict(var["total_counts"]) == {gene: totals[gene] for gene in genes}


def test_genes_that_raw_does_not_tell_of_are_refused(with_raw):
    whole, _ = with_raw
    subset = whole[:, ["b", "c"]].copy()
    subset.var["new"] = True
    twice = whole[:, ["b", "c"]].copy()
    twice.var_names = ["b", "b"]
    other = whole[:, ["b", "c"]].copy()
    other.var_names = ["b", "nothing"]
    for adata, options, kind in (
        (subset, {"qc_vars": ["new"]}, "unknown-column"),
        (twice, {}, "ambiguous-name"),
        (other, {}, "unknown-gene"),
    ):
        columns = list(adata.obs), list(adata.var)
        with pytest.raises(slaf.SlafError) as caught:
            slaf_sc.pp.calculate_qc_metrics(
                adata, use_raw=True, percent_top=None, inplace=True, **options
            )
        assert caught.value.kind == kind
        assert (list(adata.obs), list(adata.var)) == columns
