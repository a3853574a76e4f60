"""Stores that earlier versions wrote are read as they were written.

Beside each store lies the h5ad file that it was made from. A store is never written again: what a
later version writes gets a folder of its own.
"""

import json
import shutil
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from helpers import assert_same

from slaf import SLAFArray
from slaf.integrations.anndata import read_slaf

STORES = sorted((Path(__file__).resolve().parent / "stores").glob("*.slaf"))


@pytest.fixture(params=STORES, ids=lambda path: path.stem)
def store(request, tmp_path):
    # Reading must not touch it, and a copy shows that no path is held in a store.
    return shutil.copytree(request.param, tmp_path / "moved.slaf"), request.param


def test_there_are_stores():
    assert STORES


def test_a_store_is_what_it_was_made_from(store):
    moved, original = store
    expected = ad.read_h5ad(original.with_suffix(".h5ad"))
    lazy = read_slaf(str(moved))
    assert_same(lazy.to_memory(), expected)
    checked = SLAFArray(str(moved), verify="first-touch")
    np.testing.assert_array_equal(checked.to_csr().toarray(), expected.X.toarray())


def test_a_store_answers(store):
    moved, original = store
    expected = ad.read_h5ad(original.with_suffix(".h5ad"))
    array = SLAFArray(str(moved))
    ages = array.query("SELECT cell_type, AVG(age) AS age FROM cells GROUP BY cell_type ORDER BY 1")
    frame = pd.DataFrame({"cell_type": expected.obs.cell_type.astype(str), "age": expected.obs.age})
    means = frame.groupby("cell_type").age.mean().sort_index()
    assert ages["cell_type"].to_list() == means.index.to_list()
    np.testing.assert_allclose(ages["age"].to_numpy().astype(float), means.to_numpy())
    sums = array.query("SELECT gene_id, SUM(value) AS n FROM expression GROUP BY gene_id")
    found = dict(zip(sums["gene_id"].to_list(), sums["n"].to_list(), strict=True))
    totals = np.asarray(expected.X.sum(axis=0)).ravel()
    assert {g: n for g, n in zip(expected.var_names, totals, strict=True) if n} == found


def test_a_store_of_one_layout_names_that_layout(store):
    moved, original = store
    for manifest in (moved / "_slaf/versions").iterdir():
        layout = json.loads(manifest.read_text())["format_version"]
        assert original.stem.startswith(f"layout-{layout}")


@pytest.fixture
def grown(tmp_path):
    original = next(path for path in STORES if path.stem == "layout-1-grown")
    expected = ad.read_h5ad(original.with_suffix(".h5ad"))
    return SLAFArray(str(shutil.copytree(original, tmp_path / "moved.slaf"))), expected


def test_what_grew_is_known(grown):
    array, expected = grown
    assert array.verify() == []
    assert SLAFArray(array.path, version="first").shape == (60, 30)
    # The panel lacks the last ten genes of the first cells, and brought two.
    measured = {row["gene_id"]: row["n_cells"] for row in array.measured().iter_rows(named=True)}
    wanted = [100] * 20 + [60] * 10 + [40] * 2
    assert measured == dict(zip(expected.var_names, wanted, strict=True))
    cell = array.get_cell_expression("cell 77")
    values = dict(zip(cell["gene_id"].to_list(), cell["value"].to_list(), strict=True))
    row = expected["cell 77"].X.toarray().ravel()
    assert values == {g: v for g, v in zip(expected.var_names, row, strict=True) if v}


def test_its_index_finds_what_all_rows_give(grown):
    array, expected = grown
    points = expected.obsm["X_pca"].astype(np.float64)
    squared = ((points - points[77]) ** 2).sum(1)
    found = array.nearest("cell 77", k=5, key="X_pca")
    assert list(found["cell_id"]) == list(
        expected.obs_names[np.argsort(squared, kind="stable")[:5]]
    )
    report = array.index_report("X_pca")
    assert report.recall == 1.0
