"""Indexes of embeddings: what is found is what comparing all cells finds."""

import os
import subprocess
import sys
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import polars as pl
import pytest
import scipy.sparse as sp
from processes import LIMIT, run_slaf

import slaf
from slaf import SLAFArray
from slaf.data import SLAFConverter

N, WIDTH = 4000, 8


def data(n=N, seed=0):
    """Cells around centres, some of them at the same place."""
    random = np.random.default_rng(seed)
    kind = random.integers(0, 25, n)
    centres = np.random.default_rng(9).normal(0, 5, (25, WIDTH))
    points = (centres[kind] + random.normal(size=(n, WIDTH))).astype("f4")
    points[50:60] = points[7]
    genes = random.normal(size=(300, 4)).astype("f8")
    genes[[4, 9]] = 0
    return ad.AnnData(
        sp.random(n, 300, 0.01, "csr", np.float32, random),
        obs=pd.DataFrame({"depth": np.arange(n) % 9}, index=[f"{seed}-{i}" for i in range(n)]),
        obsm={"X_pca": points},
        varm={"PCs": genes},
    )


@pytest.fixture
def stored(tmp_path):
    adata, path = data(), str(tmp_path / "a.slaf")
    SLAFConverter().convert_anndata(adata, path)
    return adata, SLAFArray(path)


@pytest.mark.parametrize("metric", ["l2", "cosine"])
def test_as_scikit_learn_and_as_without(stored, metric):
    from sklearn.neighbors import NearestNeighbors

    adata, array = stored
    plain = SLAFArray(array.path, version=1)
    report = array.create_index("X_pca", metric, "ivf")
    assert report.written == [f"index of obsm/X_pca by {metric}"]
    assert array.version == 2
    points = adata.obsm["X_pca"].astype("f8")
    names = {"l2": "euclidean", "cosine": "cosine"}
    brute = NearestNeighbors(algorithm="brute", metric=names[metric]).fit(points)
    theirs, rows = brute.kneighbors(points[::100], 12)
    include = ["cell_integer_id", "distance"]
    ours = array.nearest(slice(None, None, 100), 12, include=include, metric=metric)
    # scikit-learn's distances come from products.
    found = ours["distance"].to_numpy().reshape(theirs.shape)
    np.testing.assert_allclose(found, theirs, atol=1e-6)
    same = ours["cell_integer_id"].to_numpy().reshape(rows.shape) == rows
    assert same.mean() > 0.9
    vectors = np.random.default_rng(1).normal(0, 5, (7, WIDTH))
    for query in ("0-7", [1, 52], vectors, vectors[0]):
        for where in (None, "depth < 5", "cell_integer_id < 30"):
            for k in (1, 20, 1500):
                arguments = {"where": where, "include": include, "metric": metric}
                with_index = array.nearest(query, k, exclude_self=True, **arguments)
                assert with_index.equals(plain.nearest(query, k, exclude_self=True, **arguments))


def test_a_report_tells_what_an_index_is_good_for(stored):
    _, array = stored
    nothing = array.create_index("X_pca")
    assert (nothing.version, nothing.written) == (1, [])
    assert "comparing all 4000 rows" in nothing.notes[0]
    before = array.index_report("X_pca")
    assert (before.kind, before.rows_beyond, before.rows_read) == ("scan", N, 1.0)
    array.create_index("X_pca", kind="ivf")
    report = array.index_report("X_pca", n_queries=40, k=5)
    assert (report.array, report.kind, report.metric) == ("obsm/X_pca", "ivf", "l2")
    assert (report.queries, report.k, report.recall) == (40, 5, 1.0)
    assert report.lists == 16
    assert report.rows_read < 0.5
    assert report.bytes > N * WIDTH * 4
    assert report.seconds > 0 < report.seconds_scan
    assert "recall       1 of the nearest 5 of 40 rows" in str(report)
    assert array.index_report("X_pca", "cosine").kind == "scan"


def test_genes(stored):
    _, array = stored
    ranking = array.nearest_genes("3", 9)
    array.create_index("PCs", "cosine", "ivf", axis="gene")
    report = array.index_report("PCs", axis="gene", k=3)
    assert (report.array, report.kind, report.metric) == ("varm/PCs", "ivf", "cosine")
    assert (report.rows, report.recall) == (300, 1.0)
    assert array.nearest_genes("3", 9).equals(ranking)


def test_sql_and_appends_use_it(stored):
    adata, array = stored
    sql = "SELECT * FROM nearest('X_pca', '0-7', 25) ORDER BY rank"
    before = array.query(sql)
    array.create_index("X_pca", kind="ivf")
    assert array.query(sql).equals(before)
    array.create_index("PCs", "cosine", "ivf", axis="gene")
    genes = array.nearest_genes("3", 9)
    more = data(900, seed=2)
    more.varm.clear()
    array.append(more)
    # No genes came.
    assert array.index_report("PCs", axis="gene").rows == 300
    assert array.nearest_genes("3", 9).equals(genes)
    report = array.index_report("X_pca")
    assert (report.rows, report.rows_beyond, report.recall) == (N, 900, 1.0)
    points = np.concatenate([adata.obsm["X_pca"], more.obsm["X_pca"]]).astype("f8")
    distances = np.sqrt(((points - points[4100]) ** 2).sum(1))
    found = array.nearest(4100, 30, include=["cell_integer_id", "distance"])
    np.testing.assert_allclose(found["distance"], np.sort(distances)[:30], rtol=1e-12)
    assert found["cell_integer_id"].max() >= N
    # A new embedding has none.
    array.add_embedding("X_pca", points[::-1].astype("f4"), overwrite=True)
    assert array.index_report("X_pca").kind == "scan"
    assert array.nearest(0, 1, include=["cell_integer_id"])["cell_integer_id"].item() == 0


def test_an_index_is_dropped(stored):
    _, array = stored
    expected = array.nearest([3, 70], 9, metric="cosine")
    array.create_index("X_pca", kind="ivf")
    array.create_index("X_pca", "cosine", "ivf")
    array.create_index("PCs", "cosine", "ivf", axis="gene")
    there = "there are obsm/X_pca by l2, obsm/X_pca by cosine, varm/PCs by cosine"
    with pytest.raises(slaf.NotFoundError, match=f"varm/PCs has no index by ip; {there}"):
        array.drop_index("PCs", "ip", axis="gene")
    with pytest.raises(slaf.UnknownNameError, match="no obsm/PCs"):
        array.drop_index("PCs")
    with pytest.raises(slaf.InvalidArgumentError):
        array.drop_index("X_pca", "l1")
    assert array.version == 4
    report = array.drop_index("X_pca")
    assert report.removed == ["index of obsm/X_pca by l2", "index of obsm/X_pca by cosine"]
    assert (report.version, array.version) == (5, 5)
    assert array.index_report("X_pca", "cosine").kind == "scan"
    assert array.index_report("PCs", axis="gene").kind == "ivf"
    assert array.nearest([3, 70], 9, metric="cosine").equals(expected)
    array.drop_index("PCs", axis="gene")
    assert array.index_report("PCs", axis="gene").kind == "scan"
    with pytest.raises(slaf.NotFoundError, match="obsm/X_pca has no index; there are none"):
        array.drop_index("X_pca")


def test_a_missing_index_is_named_and_can_be_taken_out(stored):
    _, array = stored
    expected = array.nearest([3, 70], 9)
    array.create_index("X_pca", kind="ivf")
    for path in Path(array.path, "_slaf", "indexes").rglob("*"):
        if path.is_file():
            path.unlink()
    broken = SLAFArray(array.path)
    with pytest.raises(slaf.CorruptError) as error:
        broken.nearest([3, 70], 9)
    assert str(error.value).startswith(f"obsm/X_pca: {array.path}/_slaf/indexes/")
    assert "no such file" in str(error.value)
    assert "drop_index" in str(error.value)
    broken.drop_index("X_pca")
    assert broken.nearest([3, 70], 9).equals(expected)
    assert broken.verify() == []


def test_what_is_refused(stored):
    _, array = stored
    with pytest.raises(slaf.UnknownNameError, match="did you mean X_pca"):
        array.create_index("X_pcs")
    for arguments in ({"metric": "l1"}, {"kind": "hnsw"}, {"axis": "obs"}, {"key": 3}):
        with pytest.raises(slaf.InvalidArgumentError):
            array.create_index(**{"key": "X_pca", **arguments})
    for arguments in ({"n_queries": 0}, {"k": 0}, {"metric": "l1"}, {"axis": "obs"}):
        with pytest.raises(slaf.InvalidArgumentError):
            array.index_report("X_pca", **arguments)
    bad = np.zeros((N, 2), "f4")
    bad[17, 1] = np.inf
    array.add_embedding("bad", bad)
    with pytest.raises(slaf.InvalidArgumentError, match="row 17"):
        array.create_index("bad", kind="ivf")


def test_many_small_lists(stored):
    """Many rounds, and cells that are evenly spread, where nothing can be left out."""
    _, array = stored
    even = np.random.default_rng(4).normal(size=(N, 30)).astype("f4")
    array.add_embedding("even", even)
    path = array.path
    code = f"""if True:
        import slaf
        array = slaf.SLAFArray({path!r})
        for key in ("X_pca", "even"):
            assert array.create_index(key).notes == []
            report = array.index_report(key, k=4)
            assert report.recall == 1.0 and report.lists > 200, report
            print(key, report.rows_read)
    """
    environment = {"SLAF_LIST_ROWS": "8", "SLAF_INDEXED_ROWS": "100"}
    run = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
        timeout=LIMIT,
    )
    parts = dict(line.split() for line in run.stdout.splitlines())
    assert float(parts["X_pca"]) < 0.1
    assert float(parts["even"]) == 1.0
    plain = SLAFArray(path, version=2)
    array.refresh()
    for key in ("X_pca", "even"):
        for k in (3, 300):
            query = slice(100, 400)
            assert array.nearest(query, k, key).equals(plain.nearest(query, k, key))


def test_on_the_command_line(stored):
    _, array = stored
    path = array.path
    told = run_slaf("index", path, "X_pca")
    assert "no index was made" in told.stdout
    told = run_slaf("index", path, "X_pca", "--kind", "ivf", "--metric", "cosine")
    assert "index of obsm/X_pca by cosine" in told.stdout
    told = run_slaf("index", path, "PCs", "--kind", "ivf", "--genes")
    assert "index of varm/PCs by cosine" in told.stdout
    assert "obsm/X_pca (8 x float32, indexed by cosine)" in run_slaf("info", path).stdout
    told = run_slaf("index", path, "X_pca", "--report")
    assert "ivf by cosine" in told.stdout
    array.refresh()
    assert isinstance(array.nearest(0, 3, metric="cosine"), pl.DataFrame)
    told = run_slaf("index", path, "PCs", "--genes", "--drop")
    assert "index of varm/PCs by cosine" in told.stdout
    told = run_slaf("index", path, "X_pca", "--drop", "--metric", "l2")
    assert told.returncode == 1
    assert "there are obsm/X_pca by cosine [not-found]" in told.stderr
    assert run_slaf("index", path, "X_pca", "--drop").returncode == 0
    assert "indexed" not in run_slaf("info", path).stdout
    assert run_slaf("index", path, "X_pca", "--drop", "--kind", "ivf").returncode == 2
    assert run_slaf("index", path, "X_pcs").returncode == 1
    assert run_slaf("index", path, "X_pca", "--metric", "l1").returncode == 2
