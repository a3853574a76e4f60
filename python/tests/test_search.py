"""Search by similarity against scikit-learn and numpy."""

import os
import subprocess
import sys

import anndata as ad
import numpy as np
import pandas as pd
import polars as pl
import pytest
import scipy.sparse as sp
from processes import run_slaf

import slaf
from slaf import SLAFArray
from slaf.data import SLAFConverter
from slaf.integrations import read_slaf

N, WIDTH, GENES = 700, 6, 40
METRICS = {"l2": "euclidean", "cosine": "cosine"}


def data(n=N, dtype="f4", seed=0, name="c", twins=True):
    """Cells around few centres, some of them (`twins`) at the same place."""
    random = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(0, 3, (8, WIDTH))
    kind = random.integers(0, 8, n)
    points = (centres[kind] + random.normal(0, 1, (n, WIDTH))).astype(dtype)
    if twins and n > 50:
        points[20:50] = points[[3]]
    obs = pd.DataFrame(
        {
            "kind": pd.Categorical.from_codes(kind, [f"k{i}" for i in range(8)]),
            "depth": random.integers(1, 100, n),
            "rank": np.arange(n) % 7,
        },
        index=[f"{name}{i}" for i in range(n)],
    )
    lattice = np.stack([np.arange(n) % 5, np.arange(n) // 5 % 3], axis=1)
    X = sp.random(n, GENES, 0.2, "csr", np.float32, random)
    loadings = random.normal(size=(GENES, 4)).astype("f4")
    loadings[[5, 9]] = 0
    return ad.AnnData(
        X,
        obs=obs,
        var=pd.DataFrame({"hv": np.arange(GENES) % 3 == 0}, index=[f"g{i}" for i in range(GENES)]),
        obsm={"X_pca": points, "lattice": lattice, "wide": points.astype("f8") * 1e3},
        varm={"PCs": loadings},
    )


def stored(adata, path):
    SLAFConverter().convert_anndata(adata, str(path))
    return SLAFArray(str(path))


@pytest.fixture(scope="module")
def adata():
    return data()


@pytest.fixture(scope="module")
def array(adata, tmp_path_factory):
    return stored(adata, tmp_path_factory.mktemp("search") / "a.slaf")


def distances(points, queries, metric):
    """All distances, as numpy has them in float64."""
    points, queries = np.asarray(points, "f8"), np.atleast_2d(np.asarray(queries, "f8"))
    if metric == "l2":
        return np.sqrt(((queries[:, None] - points[None]) ** 2).sum(2))
    products = queries @ points.T
    if metric == "ip":
        return -products
    lengths = np.outer(np.linalg.norm(queries, axis=1), np.linalg.norm(points, axis=1))
    return 1 - products / lengths


def assert_nearest(found, all_distances, k, names, among=None):
    """The distances are those of the k nearest, and belong to the cells that are named."""
    among = np.arange(all_distances.shape[1]) if among is None else among
    place = {name: i for i, name in enumerate(names)}
    for (_, part), row in zip(
        found.group_by("query", maintain_order=True), all_distances, strict=True
    ):
        assert part["rank"].to_list() == list(range(1, min(k, len(among)) + 1))
        got = part["distance"].to_numpy()
        np.testing.assert_allclose(got, np.sort(row[among])[:k], rtol=1e-9, atol=1e-9)
        rows = [place[name] for name in part[part.columns[2]]]
        assert len(set(rows)) == len(rows)
        assert set(rows) <= set(among.tolist())
        np.testing.assert_allclose(got, row[rows], rtol=1e-9, atol=1e-9)
        # Of the same distance those of smaller number come first.
        same = np.diff(got) == 0
        assert (np.diff(rows)[same] > 0).all()


@pytest.mark.parametrize("metric", ["l2", "cosine", "ip"])
@pytest.mark.parametrize("key", ["X_pca", "wide"])
@pytest.mark.parametrize("k", [1, 10, 2000])
def test_as_numpy(array, adata, metric, key, k):
    points = adata.obsm[key]
    for query, rows in ((["c3", "c699"], [3, 699]), (slice(10, 14), range(10, 14)), (-1, [N - 1])):
        found = array.nearest(query, k, key, metric=metric)
        assert_nearest(found, distances(points, points[rows], metric), k, adata.obs_names)
    vectors = np.random.default_rng(5).normal(0, 3, (150, WIDTH))
    found = array.nearest(vectors, min(k, 50), key, metric=metric)
    assert found["query"].dtype == pl.Int64
    assert_nearest(found, distances(points, vectors, metric), min(k, 50), adata.obs_names)


@pytest.mark.parametrize("metric", METRICS)
def test_as_scikit_learn(array, adata, metric):
    from sklearn.neighbors import NearestNeighbors

    points = adata.obsm["X_pca"].astype("f8")
    queries = np.random.default_rng(1).normal(0, 3, (40, WIDTH))
    brute = NearestNeighbors(algorithm="brute", metric=METRICS[metric]).fit(points)
    theirs, rows = brute.kneighbors(queries, 12)
    ours = array.nearest(queries, 12, include=["distance", "cell_integer_id"], metric=metric)
    np.testing.assert_allclose(ours["distance"].to_numpy().reshape(theirs.shape), theirs, atol=1e-7)
    same = (ours["cell_integer_id"].to_numpy().reshape(rows.shape) == rows).mean()
    # Cells at one place come in any order there.
    assert same > 0.9


def test_ties_come_in_the_order_of_the_store(array, adata):
    points = adata.obsm["lattice"]
    found = array.nearest(np.array([[1, 2], [7, 7]]), 300, "lattice", include=["cell_integer_id"])
    for i, query in enumerate([[1, 2], [7, 7]]):
        squared = ((points - query) ** 2).sum(1)
        expected = np.lexsort([np.arange(N), squared])[:300]
        np.testing.assert_array_equal(found.filter(query=i)["cell_integer_id"], expected)


def test_conditions_and_columns(array, adata):
    among = np.flatnonzero((adata.obs["depth"] >= 50) & (adata.obs["kind"] != "k0"))
    include = ["kind", "rank", "distance", "depth"]
    found = array.nearest("c3", 25, where="depth >= 50 AND kind <> 'k0' -- all", include=include)
    points = adata.obsm["X_pca"]
    assert_nearest(found, distances(points, points[[3]], "l2"), 25, adata.obs_names, among)
    assert found.columns == ["query", "rank", "cell_id", "kind", "obs:rank", "distance", "depth"]
    obs = adata.obs.loc[found["cell_id"].to_list()]
    assert found["kind"].to_list() == obs["kind"].to_list()
    assert found["obs:rank"].to_list() == obs["rank"].to_list()
    assert found["depth"].to_list() == obs["depth"].to_list()
    assert found["kind"].dtype == array.obs["kind"].dtype
    nothing = array.nearest(["c1", "c2"], where="depth < 0")
    assert nothing.height == 0
    assert nothing.columns == ["query", "rank", "cell_id", "distance"]
    assert array.nearest("c1", 0).schema == nothing.schema
    assert array.nearest([], 3).height == 0
    assert array.nearest(np.empty((0, WIDTH)), 3).height == 0


def test_itself(array, adata):
    found = array.nearest(["c600", "c30"], 5)
    assert found.filter(rank=1)["cell_id"].to_list() == ["c600", "c3"]
    assert found.filter(rank=1)["distance"].to_list() == [0, 0]
    others = array.nearest(["c600", "c30"], N, exclude_self=True)
    assert others.group_by("query").len()["len"].to_list() == [N - 1, N - 1]
    assert others.filter(pl.col("query") == pl.col("cell_id")).height == 0


def test_queries_of_another_store(array, tmp_path):
    other = data(60, "f8", 7, "other")
    other.obsm["mine"] = other.obsm.pop("X_pca")
    opened = stored(other, tmp_path / "other.slaf")
    found = array.nearest((opened, ["other3", "other7"]), 4, query_key="mine", exclude_self=True)
    expected = array.nearest(other.obsm["mine"][[3, 7]], 4)
    assert found["query"].to_list() == ["other3"] * 4 + ["other7"] * 4
    assert found.drop("query").equals(expected.drop("query"))
    with pytest.raises(slaf.UnknownNameError, match="there are"):
        array.nearest((opened, 0))


def test_genes(array, adata):
    loadings = adata.varm["PCs"]
    some = [i for i in range(GENES) if i not in (5, 9)]
    found = array.nearest_genes(["g7", "g8"], 50, include=["distance", "hv"])
    expected = distances(loadings[some], loadings[[7, 8]], "cosine")
    assert_nearest(found, expected, 50, adata.var_names[some])
    assert found["hv"].to_list() == adata.var["hv"].loc[found["gene_id"].to_list()].to_list()
    few = array.nearest_genes("g7", 3, where="hv", metric="l2")
    assert_nearest(
        few, distances(loadings, loadings[[7]], "l2"), 3, adata.var_names, np.arange(0, GENES, 3)
    )
    with pytest.raises(slaf.InvalidArgumentError, match="no direction"):
        array.nearest_genes("g5")


def test_the_whole_ranking_of_genes(array, adata):
    ranking = pl.DataFrame(array.gene_ranking())
    assert ranking.columns == ["query", "rank", "gene_id", "distance"]
    assert ranking.height == 38 * 37
    one = array.nearest_genes("g7", 50, exclude_self=True)
    assert ranking.filter(query="g7").equals(one)
    few = pl.DataFrame(array.gene_ranking(k=2, genes=["g3", "g1"], metric="l2"))
    assert few["query"].to_list() == ["g3", "g3", "g1", "g1"]
    pd.testing.assert_frame_equal(
        few.filter(query="g1").to_pandas(),
        array.nearest_genes("g1", 2, metric="l2", exclude_self=True).to_pandas(),
    )


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"key": "X_pcs"}, slaf.UnknownNameError, "did you mean X_pca"),
        ({"key": "nothing"}, slaf.UnknownNameError, "there are"),
        ({"query": "c70O"}, slaf.UnknownNameError, "near"),
        ({"query": N}, slaf.OutOfRangeError, "out of range"),
        ({"query": [1.0, 2.0]}, slaf.InvalidArgumentError, "points of 2 values"),
        ({"query": np.zeros((2, 2 * WIDTH))}, slaf.InvalidArgumentError, "points of 12 values"),
        ({"query": np.full(WIDTH, np.nan)}, slaf.InvalidArgumentError, "query 0 has .* NaN"),
        ({"query": np.full(WIDTH, np.inf)}, slaf.InvalidArgumentError, "finite"),
        ({"query": np.zeros(WIDTH), "metric": "cosine"}, slaf.InvalidArgumentError, "direction"),
        ({"query": np.zeros((1, 2, 3))}, slaf.InvalidArgumentError, "no vector"),
        ({"query": {"c1"}}, slaf.InvalidArgumentError, "order"),
        ({"metric": "manhattan"}, slaf.InvalidArgumentError, "'l2', 'cosine', 'ip'"),
        ({"k": -1}, slaf.InvalidArgumentError, "k=-1"),
        ({"k": 2.5}, slaf.InvalidArgumentError, "whole number"),
        ({"include": ["kinds"]}, slaf.UnknownNameError, "kind"),
        ({"include": ["distanc"]}, slaf.UnknownNameError, "did you mean 'distance'"),
        ({"include": ["cell_integer"]}, slaf.UnknownNameError, "'cell_integer_id'"),
        ({"include": "kind"}, slaf.InvalidArgumentError, "list of names"),
        ({"include": ["kind", "kind"]}, slaf.InvalidArgumentError, "twice"),
        ({"where": "kinds = 'k1'"}, slaf.UnknownNameError, "kind"),
        ({"exclude_self": 1}, slaf.InvalidArgumentError, "exclude_self"),
    ],
)
def test_what_is_refused(array, arguments, error, message):
    with pytest.raises(error, match=message):
        array.nearest(**{"query": "c1", **arguments})


def test_cells_without_a_place(tmp_path):
    adata = data(80)
    adata.obsm["X_pca"][41, 2] = np.nan
    adata.obsm["lattice"][:] = 0
    array = stored(adata, tmp_path / "nan.slaf")
    with pytest.raises(slaf.InvalidArgumentError, match=r"obsm/X_pca: row 41 .* NaN"):
        array.nearest("c1")
    with pytest.raises(slaf.InvalidArgumentError, match="NaN"):
        array.nearest("c41", where="cell_integer_id < 40")
    assert array.nearest("c1", 100, where="cell_id <> 'c41'").height == 79
    # No cell has a direction.
    assert array.nearest([[1, 1]], 5, "lattice", metric="cosine").height == 0


@pytest.fixture(scope="module")
def odd(tmp_path_factory):
    """Columns with names of the answer, and elements that are no arrays."""
    adata = data(60)
    adata.obs["distance"] = np.arange(60)[::-1]
    adata.obs["cell_integer_id"] = 7
    adata.obs["cell_id"] = "x"
    points = adata.obsm["X_pca"]
    adata.obsm["half"] = points.astype("f2")
    adata.obsm["frame"] = pd.DataFrame(points, index=adata.obs_names, columns=list("abcdef"))
    adata.obsm["sparse"] = sp.csr_matrix(points)
    adata.obsm["texts"] = np.array([["a", "b"]] * 60, dtype=object)
    return stored(adata, tmp_path_factory.mktemp("odd") / "odd.slaf")


@pytest.mark.parametrize(
    ("key", "kind"),
    [
        ("half", "an array of float16"),
        ("frame", "a frame"),
        ("sparse", "a sparse matrix"),
        ("texts", "an array of string"),
    ],
)
def test_what_is_kept_as_it_came_is_not_searched(odd, key, kind):
    message = f"obsm/{key}: it is {kind}, .*add_embedding"
    with pytest.raises(slaf.InvalidArgumentError, match=message):
        odd.nearest(0, key=key)
    with pytest.raises(slaf.InvalidArgumentError, match=message):
        odd.query(f"SELECT * FROM nearest('{key}', 0, 3)")


@pytest.mark.parametrize(
    ("include", "columns"),
    [
        (["distance"], ["distance"]),
        (["cell_integer_id", "distance"], ["cell_integer_id", "distance"]),
        (["distance", "obs:distance"], ["distance", "obs:distance"]),
        (["distance", "rank"], ["distance", "obs:rank"]),
        (["distance", "obs:rank", "depth"], ["distance", "obs:rank", "depth"]),
        (
            ["obs:cell_integer_id", "distance", "cell_integer_id", "obs:cell_id"],
            ["obs:cell_integer_id", "distance", "cell_integer_id", "obs:cell_id"],
        ),
    ],
)
def test_columns_by_name_here_and_on_the_command_line(odd, include, columns):
    found = odd.nearest("c3", 4, include=include)
    assert found.columns == ["query", "rank", "cell_id", *columns]
    numbers = odd.nearest("c3", 4, include=["cell_integer_id"])["cell_integer_id"].to_list()
    expected = {
        "cell_integer_id": numbers,
        "obs:distance": [59 - i for i in numbers],
        "obs:rank": [i % 7 for i in numbers],
        "obs:cell_integer_id": [7] * 4,
        "obs:cell_id": ["x"] * 4,
    }
    for name in set(columns) & set(expected):
        assert found[name].to_list() == expected[name]
    arguments = ("search", odd.path, "--cell", "c3", "-k", "4", "--include", ",".join(include))
    done = run_slaf(*arguments, "--output", "csv")
    assert done.returncode == 0, done.stderr
    told = pl.read_csv(done.stdout.encode())
    assert told.columns == found.columns
    for name in found.columns:
        assert told[name].to_list() == found[name].to_list(), name


@pytest.mark.parametrize(
    ("include", "error", "message"),
    [
        (["distance", "distance"], slaf.InvalidArgumentError, "twice"),
        (["rank", "obs:rank"], slaf.InvalidArgumentError, "twice"),
        (["cell_id"], slaf.UnknownNameError, "cell_id"),
        (["query"], slaf.UnknownNameError, "query"),
        (["obs:nothing"], slaf.UnknownNameError, "nothing"),
    ],
)
def test_columns_that_are_refused(odd, include, error, message):
    with pytest.raises(error, match=message):
        odd.nearest("c3", 4, include=include)
    done = run_slaf("search", odd.path, "--cell", "c3", "--include", ",".join(include))
    assert (done.returncode, message in done.stderr) == (1, True), done.stderr


@pytest.mark.parametrize("include", [None, {"distance": 1}, {"distance"}, b"distance", 3])
def test_include_is_a_list(odd, include):
    with pytest.raises(slaf.InvalidArgumentError, match="list of names"):
        odd.nearest("c3", 4, include=include)


@pytest.mark.parametrize(
    "query",
    [
        np.ma.masked_array([[1.0] * WIDTH], mask=[[True] + [False] * (WIDTH - 1)]),
        np.ma.masked_array([1, 2, 3]),
        np.array([[1.0] * WIDTH], dtype=object),
        np.array([[1, 2, 3]], dtype=object),
        [["c1", "c2"]],
    ],
)
def test_queries_that_are_neither_points_nor_cells(array, query):
    with pytest.raises(slaf.InvalidArgumentError, match=r"no query|no vector or matrix"):
        array.nearest(query)


def test_cells_of_an_anndata_are_no_query(array):
    lazy = read_slaf(array.path)
    for other in (lazy, lazy.to_memory()):
        with pytest.raises(slaf.InvalidArgumentError, match=r"SLAFArray\(path\), cells"):
            array.nearest((other, ["c1"]))


def test_labels_have_the_names_of_columns(odd):
    of_obs = odd.neighbors_summary("c3", "obs:cell_integer_id", k=5)
    assert of_obs["label"].to_list() == [7]
    assert odd.neighbors_summary("c3", "obs:rank", k=5).equals(
        odd.neighbors_summary("c3", "rank", k=5)
    )
    with pytest.raises(slaf.InvalidArgumentError, match="no label"):
        odd.neighbors_summary("c3", "cell_integer_id")
    with pytest.raises(slaf.UnknownNameError, match="cell_id"):
        odd.neighbors_summary("c3", "cell_id")


@pytest.mark.parametrize("condition", ["", " \n", "-- all", "1=1) OR (1=1", "(depth > 3", ")("])
def test_conditions_that_are_none(array, condition):
    message = r"condition is empty|without"
    for ask in (
        lambda: array.nearest("c1", where=condition),
        lambda: array.nearest_genes("g1", where=condition),
        lambda: array.filter_cells(condition),
        lambda: array.delete_cells(condition),
    ):
        with pytest.raises(slaf.QueryError, match=message):
            ask()
    done = run_slaf("search", array.path, "--cell", "c1", f"--where={condition}")
    assert (done.returncode, "condition" in done.stderr) == (1, True), done.stderr


@pytest.mark.parametrize("condition", [True, 3, ["depth > 3"]])
def test_a_condition_is_a_text(array, condition):
    with pytest.raises(slaf.InvalidArgumentError, match="no text"):
        array.nearest("c1", where=condition)
    with pytest.raises(slaf.InvalidArgumentError, match="no text"):
        array.filter_cells(condition)
    assert array.filter_cells("kind <> ')' -- (").height == N


def test_after_changes(tmp_path):
    """Appended, deleted and added: the answers are those of the cells that are there."""
    first, second = data(120), data(70, seed=3, name="d")
    for adata in (first, second):
        del adata.varm["PCs"]
    array = stored(first, tmp_path / "growing.slaf")
    array.append(second)
    points = np.concatenate([first.obsm["X_pca"], second.obsm["X_pca"]])
    names = [*first.obs_names, *second.obs_names]
    assert_nearest(array.nearest("d5", 30), distances(points, points[[125]], "l2"), 30, names)
    array.delete_cells("depth < 40")
    left = np.concatenate([first.obs["depth"], second.obs["depth"]]) >= 40
    names = [name for name, stays in zip(names, left, strict=True) if stays]
    found = array.nearest(np.zeros(WIDTH), 200)
    assert_nearest(found, distances(points[left], np.zeros(WIDTH), "l2"), 200, names)
    array.add_embedding("X_new", np.arange(2 * len(names), dtype="f4").reshape(-1, 2))
    assert array.nearest(0, 3, "X_new")["cell_id"].to_list() == names[:3]


_SCRIPT = """
import sys
import numpy as np
from slaf import SLAFArray
array = SLAFArray(sys.argv[1])
queries = np.random.default_rng(1).normal(0, 3, (150, 6))
for key in ("X_pca", "wide", "lattice"):
    for metric in ("l2", "cosine", "ip"):
        q = queries if key != "lattice" else queries[:, :2]
        for k in (3, 100):
            found = array.nearest(q, k, key, metric=metric, where="depth > 20")
            print(found.hash_rows(1).to_numpy().astype("u8").tobytes().hex()[:4000])
"""


def test_answers_do_not_depend_on_threads_nor_memory(array, tmp_path):
    def run(**environment):
        out = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", _SCRIPT, array.path],
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            check=True,
            timeout=120,
        )
        return out.stdout

    one = run(RAYON_NUM_THREADS="1", TOKIO_WORKER_THREADS="1")
    assert run(RAYON_NUM_THREADS="2") == one
    # Nothing is kept, and blocks are tiny.
    assert run(RAYON_NUM_THREADS="5", SLAF_KEPT_MEMORY="1", SLAF_BATCH_ROWS="90") == one


@pytest.mark.filterwarnings("ignore")
def test_real_data(shared_data, tmp_path):
    from sklearn.neighbors import NearestNeighbors

    adata = ad.read_h5ad(shared_data / "pbmc68k_reduced.h5ad")
    SLAFConverter().convert(str(shared_data / "pbmc68k_reduced.h5ad"), str(tmp_path / "pbmc.slaf"))
    array = SLAFArray(str(tmp_path / "pbmc.slaf"))
    points = adata.obsm["X_pca"].astype("f8")
    theirs, rows = NearestNeighbors(algorithm="brute").fit(points).kneighbors(points, 10)
    ours = array.nearest(slice(None), 10, include=["distance", "cell_integer_id"])
    np.testing.assert_allclose(ours["distance"].to_numpy().reshape(theirs.shape), theirs, atol=1e-5)
    assert (ours["cell_integer_id"].to_numpy().reshape(rows.shape) == rows).mean() > 0.999


@pytest.mark.parametrize("engine", ["datafusion", "duckdb"])
def test_distances_in_sql(array, adata, engine):
    target = adata.obsm["X_pca"][7].astype("f8")
    text = ", ".join(str(x) for x in target)
    for function, metric in [
        ("l2_distance", "l2"),
        ("cosine_distance", "cosine"),
        ("-inner_product", "ip"),
    ]:
        sql = f"SELECT {function}(X_pca, [{text}]) AS d FROM cells ORDER BY cell_integer_id"
        found = array.query(sql, engine=engine)["d"]
        expected = distances(adata.obsm["X_pca"], target, metric)[0]
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)
    nothing = array.query("SELECT cosine_distance([0.0, 0.0], [1.0, 2.0]) AS d", engine=engine)
    assert nothing["d"].to_list() == [None]
    with pytest.raises(slaf.SlafError, match=r"length|dimensions"):
        array.query("SELECT l2_distance(X_pca, [1.0]) FROM cells", engine=engine)


@pytest.mark.parametrize(
    ("call", "datafusion", "duckdb"),
    [
        ("l2_distance([1.0, NULL], [1.0, 2.0])", None, "error"),
        ("cosine_distance([1.0, NULL], [1.0, 2.0])", None, "error"),
        ("inner_product([1.0, NULL], [1.0, 2.0])", None, "error"),
        ("l2_distance(NULL, [1.0])", "error", None),
        ("l2_distance(NULL::DOUBLE[], [1.0])", None, None),
        ("cosine_distance(NULL, [1.0])", None, None),
        ("inner_product(NULL, [1.0])", None, None),
        ("l2_distance(['NaN'::DOUBLE], [1.0])", np.nan, np.nan),
        ("cosine_distance(['NaN'::DOUBLE], [1.0])", np.nan, None),
        ("inner_product(['NaN'::DOUBLE], [1.0])", np.nan, np.nan),
        ("cosine_distance([3e200, 0.0], [3e200, 1.0])", np.nan, 0.0),
        ("inner_product([3e200], [3e200])", np.inf, np.inf),
    ],
)
def test_lists_in_both_engines(array, call, datafusion, duckdb):
    """As docs/search.md has it in a table."""
    for engine, expected in (("datafusion", datafusion), ("duckdb", duckdb)):
        sql = f"SELECT {call} AS d"
        if expected == "error":
            with pytest.raises(slaf.QueryError, match=r"NULL|array_distance"):
                array.query(sql, engine=engine)
        else:
            found = array.query(sql, engine=engine)["d"].item()
            assert found == expected or (expected != expected and found != found), engine


def test_neighbours_in_sql(array):
    found = array.query("SELECT * FROM nearest('X_pca', 'c3', 40) ORDER BY rank")
    assert found.columns == ["cell_id", "cell_integer_id", "distance", "rank"]
    include = ["cell_integer_id", "distance"]
    ours = array.nearest("c3", 40, include=include).drop("query")
    assert found.select(ours.columns).equals(ours)
    assert array.query("SELECT * FROM nearest('X_pca', 3, 40) ORDER BY rank").equals(found)
    joined = array.query(
        "SELECT c.kind, COUNT(*) AS n, MIN(n.distance) AS d FROM nearest('X_pca', 'c3', 40) n "
        "JOIN cells c USING (cell_id) GROUP BY c.kind ORDER BY n DESC, d, c.kind"
    )
    rows = array.nearest("c3", 40, include=["kind", "distance"])
    expected = rows.group_by("kind").agg(pl.len().alias("n"), pl.col("distance").min().alias("d"))
    kind = pl.col("kind").cast(pl.String)
    expected = expected.sort("n", "d", kind, descending=[True, False, False])
    assert joined["n"].to_list() == expected["n"].to_list()
    assert joined["kind"].cast(pl.String).to_list() == expected["kind"].cast(pl.String).to_list()
    vector = [0.5, -1.0, 2.0, 0.0, 1.5, -3.0]
    ours = array.nearest(vector, 10, metric="cosine")["cell_id"].to_list()
    sql = "SELECT cell_id FROM nearest('X_pca', {}, 10, 'cosine') ORDER BY rank"
    assert array.query(sql.format(vector))["cell_id"].to_list() == ours
    # The second time with the plan that is kept.
    for _ in range(2):
        assert array.query(sql.format("?"), [vector])["cell_id"].to_list() == ours
        assert array.query(sql.format(vector))["cell_id"].to_list() == ours
    assert array.query("SELECT * FROM NEAREST('X_pca', 'c3', 40) ORDER BY rank").equals(found)
    genes = array.query("SELECT gene_id, rank FROM Nearest_Genes('PCs', 'g7', 4) ORDER BY rank")
    assert genes["gene_id"].to_list() == array.nearest_genes("g7", 4)["gene_id"].to_list()
    assert array.query("SELECT COUNT(*) FROM nearest('X_pca', 'c3')").item() == 10
    few = array.query("SELECT rank FROM nearest('X_pca', 'c3', 40) WHERE rank > 30 LIMIT 3")
    assert few.height == 3


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ("'X_pcs', 'c1', 3", slaf.UnknownNameError, "did you mean X_pca"),
        ("'X_pca', 'c70O', 3", slaf.UnknownNameError, "near"),
        ("'X_pca', 700, 3", slaf.OutOfRangeError, "there are 700"),
        ("'X_pca', [1, 2], 3", slaf.InvalidArgumentError, "points of 2 values"),
        ("'X_pca', [NULL], 3", slaf.QueryError, "nearest takes"),
        ("'X_pca', 'c1', -3", slaf.QueryError, "nearest takes"),
        ("'X_pca', 'c1', 2.5", slaf.QueryError, "nearest takes"),
        ("'X_pca', 'c1', 3, 'l1'", slaf.InvalidArgumentError, "l2, cosine, ip"),
        ("'X_pca'", slaf.QueryError, "nearest takes"),
        ("3, 'c1'", slaf.QueryError, "nearest takes"),
        ("'X_pca', cell_id, 3", slaf.QueryError, "nearest takes"),
    ],
)
def test_what_is_refused_in_sql(array, arguments, error, message):
    with pytest.raises(error, match=message):
        array.query(f"SELECT * FROM nearest({arguments})")
    with pytest.raises(slaf.QueryError, match="list of numbers alone"):
        array.query("SELECT * FROM nearest('X_pca', $cell)", {"cell": "c1"})


def test_the_command(array, tmp_path):
    def run(*arguments):
        return run_slaf("search", array.path, *arguments)

    file = tmp_path / "found.parquet"
    cells = ("--cell", "c3", "--cell", "c9", "-k", "4")
    done = run(*cells, "--include", "kind,depth", "-o", str(file))
    assert (done.returncode, done.stdout) == (0, f"{file}: 8 rows\n"), done.stderr
    include = ["distance", "kind", "depth"]
    ours = array.nearest(["c3", "c9"], 4, include=include)
    found = pl.read_parquet(file)
    assert found.columns == ours.columns
    assert found.drop("kind").equals(ours.drop("kind").select(found.drop("kind").columns))
    vector = ",".join(["-1.5"] * WIDTH)
    done = run("--vector", vector, "-k", "3", "--where", "depth > 50", "--output", "csv")
    lines = done.stdout.splitlines()
    expected = array.nearest([-1.5] * WIDTH, 3, where="depth > 50")
    assert [line.split(",")[2] for line in lines[1:]] == expected["cell_id"].to_list(), done.stderr
    done = run("--gene", "g7", "-k", "2", "--exclude-self", "--output", "json")
    assert array.nearest_genes("g7", 1, exclude_self=True)["gene_id"].item() in done.stdout
    for arguments, status, message in [
        (["--cell", "c70O"], 1, "near"),
        (["--key", "X_pcs", "--cell", "c1"], 1, "did you mean X_pca"),
        (["--cell", "c1", "--metric", "l1"], 2, "l2, cosine, ip"),
        ([], 2, "--cell <NAME>|--gene <NAME>|--vector <NUMBERS>"),
        (["--cell", "c1", "--gene", "g1"], 2, "cannot be used with"),
        (["--cell", "c1", "--vector", "1,2"], 2, "cannot be used with"),
    ]:
        done = run(*arguments)
        assert (done.returncode, message in done.stderr) == (status, True), done.stderr


def test_cells_that_an_analysis_left_out_are_not_found(tmp_path):
    rng = np.random.default_rng(0)
    points = rng.normal(size=(20, 3)).astype("f4")
    points[[3, 11]] = np.nan
    adata = ad.AnnData(np.ones((20, 2), "f4"), obsm={"X_pca": points})
    SLAFConverter().convert_anndata(adata, tmp_path / "a.slaf")
    array = SLAFArray(tmp_path / "a.slaf")
    there = np.setdiff1d(np.arange(20), [3, 11])
    order = np.argsort(np.linalg.norm(points[there] - points[0], axis=1), kind="stable")
    found = array.nearest(0, k=20, include=["cell_integer_id"])
    assert found["cell_integer_id"].to_list() == there[order].tolist()
    with pytest.raises(slaf.InvalidArgumentError, match="NaN"):
        array.nearest(3)
