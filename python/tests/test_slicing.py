"""LazyAnnData slices as AnnData does."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from helpers import assert_same
from hypothesis import given
from hypothesis import strategies as st

import slaf
from slaf.integrations import read_slaf


@st.composite
def indexers(draw, names):
    """A selector for an axis with these names."""
    n = len(names)
    kinds = ["slice", "mask", "series", "all", "empty"]
    if n:
        kinds += ["int", "ints", "name"]
    if n and names.is_unique:
        kinds += ["names"]
    kind = draw(st.sampled_from(kinds))
    if kind == "slice":
        bound = st.none() | st.integers(-n - 2, n + 2)
        step = st.none() | st.integers(-3, 3).filter(bool)
        return slice(draw(bound), draw(bound), draw(step))
    if kind in ("mask", "series"):
        mask = np.array(draw(st.lists(st.booleans(), min_size=n, max_size=n)), dtype=bool)
        return mask if kind == "mask" else pd.Series(mask, index=names)
    if kind == "int":
        return draw(st.integers(-n, n - 1))
    if kind == "ints":
        ints = draw(st.lists(st.integers(-n, n - 1), min_size=1, max_size=2 * n))
        return draw(st.sampled_from([list, np.array, pd.Index, pd.Series]))(ints)
    if kind == "name":
        return draw(st.sampled_from(list(names)))
    if kind == "names":
        some = draw(st.lists(st.sampled_from(list(names)), min_size=1, max_size=2 * n))
        return draw(st.sampled_from([list, np.array, pd.Index]))(some)
    return slice(None) if kind == "all" else []


def chosen(adata, rows, cols):
    """AnnData's answer, one axis after the other: SciPy fails on some pairs of selectors."""
    return adata[rows].copy()[:, cols].copy()


@pytest.mark.filterwarnings("ignore:.*names are not unique:UserWarning")
@given(data=st.data())
def test_chains_of_slices(data, store_path, original):
    lazy, expected = read_slaf(store_path), original
    for _ in range(data.draw(st.integers(1, 3))):
        rows = data.draw(indexers(expected.obs_names))
        cols = data.draw(indexers(expected.var_names))
        lazy, expected = lazy[rows, cols], chosen(expected, rows, cols)
        assert lazy.is_view
        assert lazy.shape == expected.shape
    pd.testing.assert_index_equal(lazy.obs_names, expected.obs_names)
    if expected.n_obs and expected.n_vars:
        np.testing.assert_array_equal(lazy.X.toarray(), expected.X.toarray())
    assert lazy.X.nnz == expected.X.nnz
    assert_same(lazy.to_memory(), expected)


@pytest.mark.parametrize(
    "index",
    [
        ...,
        (..., slice(1)),
        (slice(1), ...),
        (..., slice(1), slice(2)),
        (slice(2),),
        0,
        "cell3",
        slice("cell1", "cell3"),
        (slice(None), slice("gene1", None)),
        (slice(None), ["gene2", "gene0"]),
        (np.array([[True], [False]] * 3), slice(None)),
        pd.array([True, False] * 3),
        pd.Categorical(["cell0", "cell5"]),
    ],
)
def test_forms_of_indices(store_path, original, index):
    assert_same(read_slaf(store_path)[index].to_memory(), original[index].copy())


@pytest.mark.parametrize(
    ("index", "error"),
    [
        (6, IndexError),
        (-7, IndexError),
        ([0, 6], IndexError),
        ("nobody", KeyError),
        (["cell0", "nobody"], KeyError),
        ([True, False], IndexError),
        ([0.5], IndexError),
        ((0, 0, 0), IndexError),
        ((..., ...), IndexError),
        (True, slaf.InvalidArgumentError),
        ({"cell1"}, slaf.InvalidArgumentError),
        (["cell1", 2], slaf.InvalidArgumentError),
        (pd.array([True, None] * 3), slaf.InvalidArgumentError),
        (1.5, slaf.InvalidArgumentError),
        (slice(0.5), slaf.InvalidArgumentError),
    ],
)
def test_wrong_indices(store_path, index, error):
    with pytest.raises(error) as caught:
        read_slaf(store_path)[index]
    assert isinstance(caught.value, slaf.SlafError)


def test_unknown_names_come_with_near_ones(store_path):
    adata = read_slaf(store_path)
    for names in ("cel1", ["cell0", "cel1"]):
        with pytest.raises(slaf.UnknownNameError, match="cell1"):
            adata[names]


def test_views_read_only_their_rows_of_obs(store_path):
    whole = read_slaf(store_path)
    view = whole[4:]
    assert list(view.obs_names) == ["cell4", "cell5"]
    assert list(view.obs["batch"].cat.categories) == ["b1", "b2"]
    assert view.uns["batch_colors"].tolist() == ["#1", "#2"]
    assert not whole._contents.frames


def test_changes_in_memory_show_in_views_and_copies(store_path, original):
    adata = read_slaf(store_path)
    for a in (adata, original):
        a.obs["new"] = np.arange(6)
        a.obsm["X_new"] = np.ones((6, 3))
        a.uns["new"] = {"a": 1}
        del a.obsm["X_pca"]
    assert_same(adata.to_memory(), original)
    assert_same(adata[adata.obs.new > 2].to_memory(), original[original.obs.new > 2].copy())
    assert_same(read_slaf(store_path)[:0].to_memory(), read_slaf(store_path).to_memory()[:0].copy())


def test_slots_check_lengths(store_path):
    with pytest.raises(slaf.InvalidArgumentError, match="6 rows"):
        read_slaf(store_path).obsm["bad"] = np.ones((5, 2))
    with pytest.raises(KeyError, match="X_pca"):
        read_slaf(store_path).obsm["missing"]


def test_lazy_matrix(store_path, original):
    X = read_slaf(store_path).X
    dense = original.X.toarray()
    assert (X.shape, X.dtype, X.ndim, X.nnz, len(X)) == ((6, 4), np.float32, 2, 10, 6)
    assert X[3, 2] == 6
    assert X[-1, -1] == 1
    for index in [
        np.s_[2],
        np.s_[1:4],
        np.s_[::-1, 1:3],
        np.s_[[5, 0]],
        np.s_[:, [3, 3]],
        np.ix_([5, 1], [0, 2]),
        np.s_[..., 1:],
        np.s_[dense[:, 0] > 0],
    ]:
        expected = dense[index]
        np.testing.assert_array_equal(X[index].toarray(), expected.reshape(X[index].shape))
        np.testing.assert_array_equal(X[index].compute().toarray(), X[index].toarray())
    assert X[2:4].nnz == 3
    assert X[:, 1:].nnz == 7
    np.testing.assert_array_equal(np.asarray(X), dense)
    with pytest.raises(slaf.InvalidArgumentError, match=r"np\.ix_"):
        X[[0, 1], [0, 1]]
    with pytest.raises(IndexError):
        X[6]


def test_index_types_are_those_that_scipy_prefers(store_path):
    matrix = read_slaf(store_path).X.compute()
    assert (matrix.indices.dtype, matrix.indptr.dtype) == (np.int32, np.int32)
    assert matrix.has_canonical_format


def test_raw(tmp_path, original):
    original.raw = original
    adata = original[:, :2].copy()
    slaf.data.SLAFConverter().convert_anndata(adata, tmp_path / "raw.slaf")
    lazy = read_slaf(tmp_path / "raw.slaf")
    assert lazy.shape == (6, 2)
    assert lazy.raw.shape == (6, 4)
    assert_same(lazy.to_memory(), adata)
    part = lazy[[4, 3]].raw[:, ["gene2", "gene0"]]
    np.testing.assert_array_equal(
        part.X.toarray(), adata.raw[[4, 3], ["gene2", "gene0"]].X.toarray()
    )
    assert list(part.var_names) == ["gene2", "gene0"]
    assert list(part.obs_names) == ["cell4", "cell3"]


def test_repr_reads_like_anndatas(store_path, original):
    # AnnData 0.13 lists X among the layers.
    theirs = repr(original).replace(", None (.X)", "").splitlines()
    ours = repr(read_slaf(store_path)).splitlines()
    assert ours[0] == f"Lazy{theirs[0]} backed at {store_path!r}"
    assert sorted(ours[1:]) == sorted(theirs[1:])
    assert repr(read_slaf(store_path)[:2]).startswith(
        "View of LazyAnnData object with n_obs × n_vars = 2"
    )


def test_write(tmp_path, store_path, original):
    adata = read_slaf(store_path)
    adata.write(tmp_path / "whole.h5ad")
    assert_same(ad.read_h5ad(tmp_path / "whole.h5ad"), original)
    adata.obs["new"] = 1
    adata[1:3].write(tmp_path / "part.h5ad")
    part = ad.read_h5ad(tmp_path / "part.h5ad")
    assert part.shape == (2, 4)
    assert part.obs["new"].tolist() == [1, 1]


def test_no_x(tmp_path):
    adata = ad.AnnData(obs=pd.DataFrame(index=["a", "b"]), var=pd.DataFrame(index=["g"]))
    slaf.data.SLAFConverter().convert_anndata(adata, tmp_path / "a.slaf")
    assert read_slaf(tmp_path / "a.slaf").X is None
    assert_same(read_slaf(tmp_path / "a.slaf").to_memory(), adata)


@pytest.mark.filterwarnings("ignore:.*names are not unique:UserWarning")
def test_names_that_repeat(tmp_path):
    adata = ad.AnnData(
        np.eye(3, dtype="f4"),
        obs=pd.DataFrame(index=["a", "b", "a"]),
        var=pd.DataFrame(index=["g", "h", "i"]),
    )
    slaf.data.SLAFConverter().convert_anndata(adata, tmp_path / "a.slaf")
    lazy = read_slaf(tmp_path / "a.slaf")
    assert_same(lazy["a"].to_memory(), adata["a"].copy())
    with pytest.raises(slaf.UnknownNameError, match="unique"):
        lazy[["a", "b"]]
