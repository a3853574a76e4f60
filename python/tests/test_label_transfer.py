"""Labels of neighbours against scikit-learn's classifier and numpy."""

import numpy as np
import pandas as pd
import polars as pl
import pytest
from test_search import data, stored

import slaf
from slaf.integrations import read_slaf, tl


@pytest.fixture(scope="module")
def reference():
    # Of cells at one place scikit-learn takes any.
    adata = data(twins=False)
    adata.obs["missing"] = adata.obs["kind"].where(np.arange(adata.n_obs) % 5 > 0)
    adata.obs["text"] = pd.Series([f"t{i % 3}" for i in range(adata.n_obs)], adata.obs_names)
    adata.obs["whole"] = np.arange(adata.n_obs) % 4
    adata.obs["flag"] = np.arange(adata.n_obs) % 3 == 0
    adata.obs["fraction"] = 0.5
    adata.obs["none"] = pd.Categorical([None] * adata.n_obs, ["a"])
    return adata


@pytest.fixture(scope="module")
def array(reference, tmp_path_factory):
    return stored(reference, tmp_path_factory.mktemp("labels") / "reference.slaf")


@pytest.fixture(scope="module")
def query_adata():
    adata = data(130, "f8", 4, "q", twins=False)
    # Where cells of the reference are: these alone vote.
    adata.obsm["X_pca"][:5] = data(twins=False).obsm["X_pca"][:5]
    return adata


@pytest.fixture(scope="module")
def query_path(query_adata, tmp_path_factory):
    return stored(query_adata, tmp_path_factory.mktemp("labels") / "query.slaf").path


def classifier(points, labels, k, weights="distance", metric="euclidean"):
    from sklearn.neighbors import KNeighborsClassifier

    made = KNeighborsClassifier(k, weights=weights, algorithm="brute", metric=metric)
    return made.fit(points.astype("f8"), labels)


@pytest.mark.parametrize("weights", ["distance", "uniform"])
@pytest.mark.parametrize(("labels", "k"), [("kind", 1), ("kind", 15), ("missing", 40), ("text", 7)])
def test_as_scikit_learn(array, reference, query_path, query_adata, labels, k, weights):
    adata = read_slaf(query_path)
    tl.label_transfer(adata, array, labels, k=k, weights=weights)
    there = reference.obs[labels].notna().to_numpy()
    known = reference.obs[labels][there].astype(str)
    theirs = classifier(reference.obsm["X_pca"][there], known, k, weights)
    points = query_adata.obsm["X_pca"]
    votes = theirs.predict_proba(points)
    confidence = adata.obs[f"{labels}_transferred_confidence"]
    np.testing.assert_allclose(confidence, votes.max(1), rtol=1e-9)
    # Labels with as many votes, up to rounding, are either's choice.
    best = np.sort(votes, axis=1)
    clear = best[:, -1] - best[:, -2] > 1e-9
    ours = adata.obs[f"{labels}_transferred"].astype(str).to_numpy()
    np.testing.assert_array_equal(ours[clear], theirs.predict(points)[clear])
    assert clear.mean() > 0.5


def test_cosines(array, reference, query_path, query_adata):
    adata = read_slaf(query_path)
    changed = tl.label_transfer(
        adata, array.path, "kind", k=9, metric="cosine", key_added="x", copy=True
    )
    assert "x" not in adata.obs
    points = query_adata.obsm["X_pca"][5:]
    theirs = classifier(reference.obsm["X_pca"], reference.obs["kind"], 9, metric="cosine")
    votes = theirs.predict_proba(points).max(1)
    np.testing.assert_allclose(changed.obs["x_confidence"][5:], votes, rtol=1e-6)


def test_it_can_be_saved(array, query_path, tmp_path):
    import shutil

    path = shutil.copytree(query_path, tmp_path / "q.slaf")
    adata = read_slaf(path)
    tl.label_transfer(adata, array, "kind")
    expected = adata.obs["kind_transferred"].tolist()
    adata.save()
    again = read_slaf(path).obs["kind_transferred"]
    assert again.tolist() == expected
    assert list(again.cat.categories) == [f"k{i}" for i in range(8)]


@pytest.mark.parametrize("labels", ["kind", "whole", "flag", "text", "missing"])
def test_fractions_and_enrichment(array, reference, labels):
    k, among = 60, (reference.obs["depth"] > 30).to_numpy()
    found = array.neighbors_summary(
        ["c3", "c600"], labels, k, where="depth > 30", weights="uniform"
    )
    there = among & reference.obs[labels].notna().to_numpy()
    points, known = reference.obsm["X_pca"].astype("f8"), reference.obs[labels]
    base = known[there].value_counts(normalize=True)
    for query, row in (("c3", 3), ("c600", 600)):
        part = found.filter(query=query)
        distances = np.where(there, ((points - points[row]) ** 2).sum(1), np.inf)
        nearest = known.iloc[np.argsort(distances, kind="stable")[:k]]
        fractions = nearest.value_counts(normalize=True)
        assert set(part["label"]) == set(base.index[base > 0])
        assert part["vote"].to_list() == sorted(part["vote"], reverse=True)
        for label, n, fraction, rate, enrichment, vote in part.drop("query").iter_rows():
            assert n == (nearest == label).sum()
            assert fraction == pytest.approx(fractions.get(label, 0))
            assert rate == pytest.approx(base[label])
            assert enrichment == pytest.approx(fraction / rate)
            assert vote == pytest.approx(fraction)


def test_many_neighbours_and_vectors(array, reference):
    vectors = reference.obsm["X_pca"][:3]
    found = array.neighbors_summary(vectors, "kind", 10_000)
    assert found["query"].dtype == pl.Int64
    assert found.group_by("query").agg(pl.col("n").sum())["n"].to_list() == [700] * 3
    np.testing.assert_allclose(found["enrichment"], 1)
    none = array.neighbors_summary([], "kind")
    assert (none.height, none["query"].dtype) == (0, pl.String)
    assert none.schema == array.neighbors_summary("c0", "kind").schema


def test_groups(array, query_path, query_adata):
    adata = read_slaf(query_path)
    cells = tl.annotate(adata, array, "kind", k=30)
    groups = tl.annotate(adata, array, "kind", k=30, groupby="kind")
    one = groups[groups["query"] == "k4"].set_index("label")
    members = query_adata.obs_names[query_adata.obs["kind"] == "k4"]
    of_group = cells[cells["query"].isin(members)]
    by_label = of_group.groupby("label", observed=True)
    pd.testing.assert_series_equal(one["n"], by_label["n"].sum().loc[one.index], check_index=False)
    np.testing.assert_allclose(one["vote"], by_label["vote"].mean().loc[one.index])
    np.testing.assert_allclose(one["fraction"], one["n"] / (30 * len(members)))
    assert list(groups["query"].unique()) == [f"k{i}" for i in range(8)]


def test_cells_without_a_place(array, query_path):
    expected = read_slaf(query_path)
    tl.label_transfer(expected, array, "kind")
    adata = read_slaf(query_path)
    points = np.array(adata.obsm["X_pca"])
    nowhere = np.arange(adata.n_obs) % 9 == 4
    points[nowhere] = np.nan
    adata.obsm["X_pca"] = points
    n = int(nowhere.sum())
    with pytest.warns(UserWarning, match=rf"{n} of 130 cells have no place .* get no label"):
        tl.label_transfer(adata, array, "kind")
    for name in ("kind_transferred", "kind_transferred_confidence"):
        values = adata.obs[name]
        assert list(values.isna()) == list(nowhere)
        pd.testing.assert_series_equal(values[~nowhere], expected.obs[name][~nowhere])
    cells = tl.annotate(expected, array, "kind", k=20)
    with pytest.warns(UserWarning, match=rf"{n} of 130 cells .* are left out"):
        some = tl.annotate(adata, array, "kind", k=20)
    kept = cells[cells["query"].isin(adata.obs_names[~nowhere])]
    pd.testing.assert_frame_equal(some, kept.reset_index(drop=True))
    with pytest.warns(UserWarning, match="are left out"):
        groups = tl.annotate(adata, array, "kind", k=20, groupby="kind")
    other = tl.annotate(expected[~nowhere], array, "kind", k=20, groupby="kind")
    pd.testing.assert_frame_equal(groups, other)
    adata.obsm["X_pca"] = np.full_like(points, np.nan)
    with pytest.warns(UserWarning, match="130 of 130"):
        tl.label_transfer(adata, array, "kind")
    assert adata.obs["kind_transferred"].isna().all()
    # In part it is a mistake.
    points[3, 1] = np.nan
    adata.obsm["X_pca"] = points
    with (
        pytest.warns(UserWarning, match="no place"),
        pytest.raises(slaf.InvalidArgumentError, match="NaN"),
    ):
        tl.label_transfer(adata, array, "kind")


@pytest.mark.parametrize("metric", ["l2", "cosine"])
def test_cells_of_the_reference_without_a_place_have_no_part(tmp_path, query_path, metric):
    adata = data(twins=False)
    places = adata.obsm["X_pca"]
    adata.obs["kind"] = adata.obs["kind"].astype(str).where(np.arange(adata.n_obs) % 3 > 0, "lost")
    places[::3] = np.nan
    # Without a direction, but with a place.
    places[1::9] = 0
    array = stored(adata, tmp_path / "reference.slaf")
    there = ~np.isnan(places).all(1) & ((places != 0).any(1) | (metric == "l2"))
    base = adata.obs["kind"][there].value_counts(normalize=True)
    point = np.ones(places.shape[1])
    found = array.neighbors_summary(point, "kind", 10_000, metric=metric)
    assert dict(zip(found["label"], found["base_rate"], strict=True)) == pytest.approx(
        base.to_dict()
    )
    # Of all cells as many as there are.
    np.testing.assert_allclose(found["enrichment"], 1)
    query = read_slaf(query_path)
    of_query = tl.annotate(query[:3], array, "kind", k=10_000, metric=metric)
    np.testing.assert_allclose(of_query["enrichment"], 1)
    where = {"where": "kind = 'lost'", "metric": metric}
    for call in (
        lambda: array.neighbors_summary(point, "kind", **where),
        lambda: tl.annotate(query, array, "kind", **where),
        lambda: tl.label_transfer(query, array, "kind", **where),
    ):
        with pytest.raises(slaf.InvalidArgumentError, match=r"place in obsm\['X_pca'\]"):
            call()
    assert "kind_transferred" not in query.obs


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"labels": "kinds"}, slaf.UnknownNameError, "kind"),
        ({"labels": "fraction"}, slaf.InvalidArgumentError, "fractions"),
        ({"labels": "none"}, slaf.InvalidArgumentError, "no cell"),
        ({"where": "depth < 0"}, slaf.InvalidArgumentError, "no cell"),
        ({"weights": "gauss"}, slaf.InvalidArgumentError, "'distance', 'uniform'"),
        ({"metric": "ip"}, slaf.InvalidArgumentError, "uniform"),
        ({"k": 0}, slaf.InvalidArgumentError, "k=0"),
        ({"key": "nothing"}, slaf.SlafError, "there are"),
    ],
)
def test_what_is_refused(array, query_path, arguments, error, message):
    arguments = {"labels": "kind", **arguments}
    with pytest.raises(error, match=message):
        array.neighbors_summary("c1", **arguments)
    adata = read_slaf(query_path)
    with pytest.raises(error, match=message):
        tl.label_transfer(adata, array, **arguments)
    with pytest.raises(slaf.InvalidArgumentError, match="a reference is"):
        tl.annotate(adata, adata, "kind")


@pytest.mark.parametrize("wrong", [{"copy": "x"}, {"copy": 1}, {"key_added": 3}])
def test_types_of_arguments(wrong):
    # They are looked at before all else.
    with pytest.raises(slaf.InvalidArgumentError, match=next(iter(wrong))):
        tl.label_transfer(None, None, "kind", **wrong)
