"""What is set on a LazyAnnData behaves as on an AnnData, in memory only."""

import pickle

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from helpers import assert_same
from hypothesis import given
from hypothesis import strategies as st

import slaf
from slaf.integrations import read_slaf


@pytest.fixture
def both(store_path, original):
    return read_slaf(store_path), original


def test_columns_and_frames(both):
    for a in both:
        a.obs["x"] = np.arange(6)
        a.obs["batch"] = a.obs["batch"].astype(str)
        a.var = a.var.assign(score=1.5)
        a.obs = a.obs.drop(columns="note")
        a.uns = {"k": [1, 2]}
        a.uns["more"] = "x"
    assert_same(both[0].to_memory(), both[1])


def test_names(both):
    for a in both:
        a.obs_names = [f"n{i % 2}" for i in range(6)]
        a.var_names = pd.Index(["g"] * 4)
        a.obs_names_make_unique()
        a.var_names_make_unique(join="_")
    assert_same(both[0].to_memory(), both[1])
    assert list(both[0][["n1", "n0-1"]].obs_names) == ["n1", "n0-1"]
    assert both[0]["n1", "g_2"].X.toarray() == both[1]["n1", "g_2"].X.toarray()


def test_matrices(both):
    for a in both:
        a.X = a.X * 2
        a.layers["new"] = np.ones((6, 4), dtype="f4")
        a.layers["sparse"] = sp.csc_matrix(np.eye(6, 4))
        a.layers["copy"] = a.X.copy()
        del a.layers["double"]
        a.obsm["X_new"] = np.zeros((6, 2))
        a.varp["p"] = sp.csr_matrix(np.eye(4))
    assert_same(both[0].to_memory(), both[1])
    assert_same(both[0][2:5, [3, 1]].to_memory(), both[1][2:5, [3, 1]].copy())
    lazy, expected = both
    del expected.X
    del lazy.X
    assert lazy.X is None
    assert_same(lazy.to_memory(), expected)


def test_raw(both):
    for a in both:
        a.raw = a
        a._inplace_subset_var(np.array([True, False, True, False]))
    lazy, original = both
    assert_same(lazy.to_memory(), original)
    assert_same(lazy[1:4].to_memory(), original[1:4].copy())
    assert_same(lazy.raw.to_adata().to_memory(), original.raw.to_adata())
    np.testing.assert_array_equal(
        lazy[[4, 1]].raw[:, "gene3"].X.toarray(), original[[4, 1]].raw[:, "gene3"].X.toarray()
    )
    del lazy.raw
    assert lazy.raw is None


def test_what_does_not_fit_is_refused(both):
    lazy, _ = both
    for attempt in (
        lambda: setattr(lazy, "X", np.ones((5, 4))),
        lambda: setattr(lazy, "X", np.full((6, 4), "a")),
        lambda: lazy.layers.__setitem__("a", np.ones((6, 5))),
        lambda: lazy.layers.__setitem__("a", np.ones(24)),
        lambda: setattr(lazy, "obs", lazy.obs[:3]),
        lambda: setattr(lazy, "obs", {"a": 1}),
        lambda: setattr(lazy, "obs_names", ["a"]),
        lambda: setattr(lazy, "raw", 5),
        lambda: lazy.varm.__setitem__("a", np.ones((6, 1))),
        lambda: lazy.write("x.zarr"),
    ):
        with pytest.raises(slaf.InvalidArgumentError):
            attempt()
    with pytest.raises(KeyError):
        lazy.layers["nothing"]


def test_vectors_and_frames(both):
    lazy, original = both
    # Those of AnnData are deprecated since 0.13.
    np.testing.assert_array_equal(lazy.obs_vector("n_counts"), original.obs["n_counts"])
    np.testing.assert_array_equal(lazy.var_vector("symbol"), original.var["symbol"])
    assert isinstance(lazy.obs_vector("batch").dtype, pd.CategoricalDtype)
    lazy.raw = lazy
    np.testing.assert_array_equal(lazy.raw.obs_vector("gene2"), original.X.toarray()[:, 2])
    np.testing.assert_array_equal(lazy.raw.var_vector("cell3"), original.X.toarray()[3])
    np.testing.assert_array_equal(lazy.raw.var_vector("symbol"), original.var["symbol"])
    X, double = original.X.toarray(), original.layers["double"].toarray()
    np.testing.assert_array_equal(lazy.obs_vector("gene2"), X[:, 2])
    np.testing.assert_array_equal(lazy.var_vector("cell3"), X[3])
    np.testing.assert_array_equal(lazy.obs_vector("gene1", layer="double"), double[:, 1])
    pd.testing.assert_frame_equal(lazy.to_df(), original.to_df())
    pd.testing.assert_frame_equal(lazy[:2].to_df("double"), original[:2].to_df("double"))
    with pytest.raises(KeyError):
        lazy.obs_vector("nothing")


def test_categories(both):
    for a in both:
        a.rename_categories("batch", ["one", "two", "three"])
        a.obs["text"] = ["u", "v"] * 3
        a.strings_to_categoricals()
    assert_same(both[0].to_memory(), both[1])


def test_copies_are_independent(both):
    lazy, original = both
    copy, copy_of_view = lazy.copy(), lazy[1:4, ::-1].copy()
    assert not copy.is_view
    assert not copy_of_view.is_view
    assert_same(copy_of_view.to_memory(), original[1:4, ::-1].copy())
    copy.obs["x"] = 1
    copy.obsm["X_pca"][:] = 0
    copy.uns["x"] = 1
    copy.X = copy.X * 0
    copy_of_view.layers["y"] = copy_of_view.X
    assert_same(lazy.to_memory(), original)


def test_setting_on_a_view_makes_it_actual(store_path, original):
    for change in (
        lambda a: setattr(a, "X", a.X * 2),
        lambda a: a.layers.__setitem__("x", np.ones((3, 4))),
        lambda a: a.obsm.__setitem__("x", np.ones((3, 1))),
        lambda a: setattr(a, "obs_names", ["a", "b", "c"]),
        lambda a: setattr(a, "uns", {}),
    ):
        lazy = read_slaf(store_path)
        view, expected = lazy[1:4], original[1:4].copy()
        with pytest.warns(ad.ImplicitModificationWarning, match="view"):
            change(view)
        change(expected)
        assert not view.is_view
        assert_same(view.to_memory(), expected)
        assert_same(lazy.to_memory(), original)


def test_a_column_of_a_view_is_its_own(both):
    lazy, original = both
    view = lazy[1:4]
    view.obs["x"] = 1
    assert "x" in view.obs
    assert "x" not in lazy.obs
    assert "x" in view.copy().obs
    assert_same(lazy.to_memory(), original)


@pytest.mark.filterwarnings("ignore")
def test_changes_of_a_view_show_in_its_parts(both):
    lazy, original = both
    parts = []
    for a in both:
        view = a[[5, 3, 1, 0]] if a is lazy else a[[5, 3, 1, 0]].copy()
        view.obs["x"] = pd.Categorical(["u", "v", "w", "u"])
        view.uns["x_colors"] = np.array(["#1", "#2", "#3"], dtype=object)
        view.uns["batch_colors"][0] = "#9"
        parts.append(view[[3, 1]])
    assert_same(parts[0].to_memory(), parts[1].copy())
    assert_same(parts[0].copy().to_memory(), parts[1].copy())
    assert_same(parts[0][1:].to_memory(), parts[1][1:].copy())
    assert "x" not in lazy.obs
    assert_same(lazy.to_memory(), original)


def test_views_keep_what_they_show(both):
    lazy, original = both
    view = lazy[[5, 0]]
    lazy._inplace_subset_obs([1, 2])
    assert_same(view.to_memory(), original[[5, 0]].copy())
    assert_same(lazy.to_memory(), original[[1, 2]].copy())


def test_write_saves_the_present_state(both, tmp_path, store_path):
    lazy, original = both
    for a in both:
        a.obs["x"] = np.arange(6.0)
        a.X = a.X * 2
    lazy.write(tmp_path / "a.h5ad")
    assert_same(ad.read_h5ad(tmp_path / "a.h5ad"), original)
    assert "x" not in read_slaf(store_path).obs
    part = read_slaf(store_path)
    part._inplace_subset_var(["gene1"])
    part.write(tmp_path / "b.h5ad")
    assert ad.read_h5ad(tmp_path / "b.h5ad").shape == (6, 1)
    layered = read_slaf(store_path)
    layered.layers["more"] = layered.X
    layered.write(tmp_path / "c.h5ad")
    assert "more" in ad.read_h5ad(tmp_path / "c.h5ad").layers


def test_concat_of_parts(both):
    lazy, original = both
    together = ad.concat([lazy[:2].to_memory(), lazy[2:].to_memory()])
    np.testing.assert_array_equal(together.X.toarray(), original.X.toarray())


def test_pickle(both):
    lazy, original = both
    for a in both:
        a.obs["x"] = 1
        a.raw = a
    assert_same(pickle.loads(pickle.dumps(lazy)).to_memory(), original)
    again = pickle.loads(pickle.dumps(lazy[1:4, [2, 0]]))
    assert_same(again.to_memory(), original[1:4, [2, 0]].copy())
    again = pickle.loads(pickle.dumps(lazy[1:4, [2, 0]].copy()))
    assert_same(again.to_memory(), original[1:4, [2, 0]].copy())


def test_colors_of_a_slice_of_a_view_that_was_read(both):
    lazy, original = both
    view, expected = lazy[[0]], original[[0]].copy()
    for a in (view, expected):
        a.obs["c"] = 1
    assert_same(view[[0]].to_memory(), expected[[0]].copy())
    assert list(view[[0]].uns["batch_colors"]) == list(expected.uns["batch_colors"])


STEPS = ["obs", "var", "copy", "X", "layer", "column", "obsm", "name"]


@pytest.mark.filterwarnings("ignore")
@given(data=st.data())
def test_chains_of_changes(data, store_path, original):
    lazy, expected = read_slaf(store_path), original.copy()
    for step in data.draw(st.lists(st.sampled_from(STEPS), min_size=1, max_size=6)):
        n, m = expected.shape
        if step in ("obs", "var"):
            size = n if step == "obs" else m
            some = data.draw(st.lists(st.integers(0, size - 1), min_size=1, unique=True))
            lazy = lazy[some] if step == "obs" else lazy[:, some]
            expected = (expected[some] if step == "obs" else expected[:, some]).copy()
            continue
        for a in (lazy, expected):
            if step == "X":
                a.X = a.X * 2
            elif step == "layer":
                a.layers["z"] = np.arange(n * m, dtype="f4").reshape(n, m)
            elif step == "column":
                a.obs["c"] = np.arange(n)
            elif step == "obsm":
                a.obsm["X_pca"] = np.arange(2.0 * n).reshape(n, 2)
            elif step == "name":
                a.obs_names = [f"x{i}" for i in range(n)]
        lazy = lazy.copy() if step == "copy" else lazy
    assert_same(lazy.to_memory(), expected)


def test_empty_selections_keep_types(store_path, original):
    for index in (slice(0), [], np.zeros(6, dtype=bool)):
        ours, theirs = read_slaf(store_path)[index], original[index].copy()
        assert ours.obs_names.dtype == theirs.obs_names.dtype
        # A fresh view reads the frame without having read the names.
        ours = read_slaf(store_path)[index]
        pd.testing.assert_frame_equal(ours.obs, theirs.obs)
        assert_same(ours.to_memory(), theirs)
    ours, theirs = read_slaf(store_path)[:, :0], original[:, :0].copy()
    pd.testing.assert_frame_equal(ours.var, theirs.var)
    pd.testing.assert_index_equal(read_slaf(store_path)[:, :0].var_names, theirs.var_names)
