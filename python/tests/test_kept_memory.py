"""A handle answers alike, however little it may keep of what it has read."""

import anndata as ad
import numpy as np
import pytest
from test_queries import annotated, counts

import slaf
from slaf import SLAFArray, _slaf
from slaf.data import SLAFConverter
from slaf.integrations.anndata import read_slaf


@pytest.fixture(scope="module")
def path(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("kept")
    annotated(counts(200, 30, 1), 1).write_h5ad(folder / "a.h5ad")
    SLAFConverter().convert(str(folder / "a.h5ad"), str(folder / "a.slaf"))
    return str(folder / "a.slaf")


@pytest.mark.parametrize("budget", ["1", "3000", "1000000000"])
def test_answers_do_not_depend_on_what_is_kept(path, budget, monkeypatch):
    monkeypatch.setenv("SLAF_KEPT_MEMORY", budget)
    expected = ad.read_h5ad(path.replace(".slaf", ".h5ad"))
    array, lazy = SLAFArray(path), read_slaf(path)
    cells = list(expected.obs_names[[150, 3, 77]])
    genes = list(expected.var_names[[20, 1]])
    for _ in range(3):
        part = array.to_csr(cells=cells, genes=genes)
        np.testing.assert_array_equal(part.toarray(), expected[cells, genes].X.toarray())
        totals = array.query("SELECT cell_id, SUM(value) AS n FROM expression GROUP BY cell_id")
        found = dict(zip(totals["cell_id"].to_list(), totals["n"].to_list(), strict=True))
        sums = np.asarray(expected.X.sum(axis=1)).ravel()
        assert found == {c: s for c, s in zip(expected.obs_names, sums, strict=True) if s}
        assert list(lazy[cells].obs_names) == cells
        some = array.query("SELECT cell_id FROM cells WHERE cell_integer_id IN (7, 9) ORDER BY 1")
        assert some["cell_id"].to_list() == sorted(expected.obs_names[[7, 9]])


@pytest.mark.parametrize("name", ["SLAF_QUERY_MEMORY", "SLAF_KEPT_MEMORY"])
def test_budgets_have_units_and_are_checked(path, name, monkeypatch):
    for wrong in ("8 furlongs", "", "-1", "1.5G"):
        monkeypatch.setenv(name, wrong)
        with pytest.raises(slaf.InvalidArgumentError, match=f"{name}={wrong!r}".replace("'", '"')):
            SLAFArray(path)
    monkeypatch.setenv(name, "2G")
    assert SLAFArray(path).query("SELECT COUNT(*) FROM cells").item() == 200
    if name == "SLAF_QUERY_MEMORY":
        assert _slaf.query_memory() == 2 << 30
