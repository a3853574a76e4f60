"""Versions that are written anew: without some cells, or without what changes left behind."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from helpers import assert_same
from processes import run_slaf

import slaf
from slaf import SLAFArray
from slaf.data import SLAFConverter
from slaf.integrations import read_slaf


def whole(path, **options):
    return read_slaf(path, **options).to_memory()


def run(*args):
    done = run_slaf(*args, timeout=120)
    return done.returncode, done.stdout, done.stderr


def kept(expected, mask):
    """What anndata has of some cells; a store keeps categories that none has, and their colours."""
    part = expected[mask].copy()
    part.uns = expected.uns.copy()
    for name in part.obs:
        if isinstance(expected.obs[name].dtype, pd.CategoricalDtype):
            part.obs[name] = part.obs[name].cat.set_categories(expected.obs[name].cat.categories)
    return part


CONDITIONS = {
    "n_counts > 2": lambda obs: obs.n_counts > 2,
    "batch = 'b2'": lambda obs: obs.batch == "b2",
    "depth > 3": lambda obs: (obs.depth > 3).fillna(False).astype(bool),
    "score < 0 OR cell_id IN ('cell0', 'cell5')": lambda obs: (
        (obs.score < 0) | obs.index.isin(["cell0", "cell5"])
    ),
    "gene1 > 0": None,
    "true": lambda obs: obs.n_counts > -1,
}


@pytest.mark.parametrize("condition", CONDITIONS)
@pytest.mark.parametrize("rows", ["1", "2", "1000"])
def test_cells_go_and_a_new_store_has_them(growing_path, tmp_path, condition, rows, monkeypatch):
    monkeypatch.setenv("SLAF_BATCH_ROWS", rows)
    monkeypatch.setenv("SLAF_FRAGMENT_ROWS", rows)
    expected = whole(growing_path)
    if CONDITIONS[condition] is None:
        mask = expected.X.toarray()[:, 1] > 0
    else:
        mask = np.asarray(CONDITIONS[condition](expected.obs))
    array = SLAFArray(growing_path)
    old = SLAFArray(growing_path)
    report = array.filter(condition, tmp_path / "part.slaf")
    assert report.n_cells == mask.sum()
    assert_same(whole(tmp_path / "part.slaf"), kept(expected, mask))
    report = array.delete_cells(condition)
    assert (report.n_cells, report.removed) == (6 - mask.sum(), [f"{mask.sum()} cells"])
    assert array.version == 2
    assert_same(whole(growing_path), kept(expected, ~mask))
    for path in (growing_path, tmp_path / "part.slaf"):
        assert run("verify", path)[0] == 0
    # By gene as by cell, and in SQL.
    left = expected[~mask].X
    assert (array.to_csr(genes=[1]) != left[:, [1]]).nnz == 0
    assert (array.query("SELECT SUM(value) AS s FROM expression")["s"][0] or 0) == left.sum()
    # A handle of the older version has all.
    assert (old.to_csr() != expected.X).nnz == 0
    assert_same(whole(growing_path, version=1), expected)


def test_nothing_to_delete_and_wrong_conditions(growing_path, tmp_path):
    array = SLAFArray(growing_path)
    report = array.delete_cells("n_counts > 99")
    assert (array.version, report.removed) == (1, [])
    assert "no cell" in str(report)
    for wrong in ("n_count > 2", "n_counts >", "1) OR (1 = 1; DROP TABLE cells", ""):
        for call in (array.delete_cells, lambda w: array.filter(w, tmp_path / "w.slaf")):
            with pytest.raises(slaf.SlafError):
                call(wrong)
    assert not (tmp_path / "w.slaf").exists()
    with pytest.raises(slaf.SlafError):
        array.filter("true", array.path)
    with pytest.raises(slaf.SlafError):
        array.filter("true", tmp_path / "growing.slaf" / "inside.slaf")
    array.filter("true", tmp_path / "all.slaf")
    with pytest.raises(slaf.AlreadyExistsError):
        array.filter("true", tmp_path / "all.slaf")
    array.filter("n_counts = 1", tmp_path / "all.slaf", overwrite=True)
    assert SLAFArray(tmp_path / "all.slaf").n_obs == 1
    assert SLAFArray(growing_path).version == 1


def test_frames_of_obsm_are_refused_by_name(growing_path, tmp_path):
    array = SLAFArray(growing_path)
    frame = pd.DataFrame({"a": range(6)}, index=whole(growing_path).obs_names)
    array.add_embedding("frame", frame)
    for call in (array.delete_cells, lambda w, **o: array.filter(w, tmp_path / "f.slaf", **o)):
        with pytest.raises(slaf.InputError, match="obsm/frame"):
            call("n_counts > 2")
    array.filter("n_counts > 2", tmp_path / "f.slaf", allow_loss=True)
    assert "frame" not in whole(tmp_path / "f.slaf").obsm
    assert whole(tmp_path / "f.slaf").uns.keys() == whole(growing_path).uns.keys()
    array.optimize(force=True)
    assert whole(growing_path).obsm["frame"].equals(frame)


def night(i, n=3, genes=5):
    rng = np.random.default_rng(i)
    x = sp.csr_matrix(rng.poisson(0.7, (n, genes)).astype(np.float32))
    obs = pd.DataFrame(
        {"night": pd.Categorical([f"n{i}"] * n)}, index=[f"c{i}-{j}" for j in range(n)]
    )
    return ad.AnnData(x, obs, pd.DataFrame(index=[f"g{j}" for j in range(genes)]))


def test_many_appends_are_merged(tmp_path):
    path = tmp_path / "s.slaf"
    SLAFConverter().convert_anndata(night(0, 10), path)
    array = SLAFArray(path)
    assert not array.optimize().rewritten
    for i in range(1, 8):
        array.append(night(i, genes=5 + i % 3))
    pinned, expected = SLAFArray(path), whole(path)
    values = pinned.to_csr()
    report = array.optimize()
    assert report.rewritten
    assert (report.fragments, report.stripes) == ([8, 1], [8, 1])
    assert any("fragments" in reason for reason in report.reasons)
    assert_same(whole(path), expected)
    assert (array.to_csr(genes=[6]) != values[:, [6]]).nnz == 0
    assert run("verify", path)[0] == 0
    # There is nothing more to gain, and appending goes on.
    again = array.optimize()
    assert (again.rewritten, again.version) == (False, report.version)
    array.append(night(9))
    assert array.n_obs == 34
    # What shows the older version reads it still; afterwards it goes.
    assert (pinned.to_csr() != values).nnz == 0
    pinned.close()
    del pinned
    array.gc(0, dry_run=False)
    assert run("verify", path)[0] == 0
    assert array.n_obs == 34


def test_ranks_are_renewed_and_dropped_columns_go(tmp_path):
    path = tmp_path / "s.slaf"
    rare, common = np.zeros((4, 40), np.float32), np.zeros((60, 40), np.float32)
    rare[:, :5], common[:, 30:] = 1, 1
    first, second = ad.AnnData(rare), ad.AnnData(common)
    second.obs_names = [f"x{i}" for i in range(60)]
    SLAFConverter().convert_anndata(first, path)
    array = SLAFArray(path)
    array.append(second)
    report = array.optimize()
    assert report.rewritten
    assert any("popular" in reason for reason in report.reasons)
    assert not array.optimize().rewritten
    array.add_obs({"a": np.arange(64)})
    array.drop("obs/a")
    report = array.optimize()
    assert report.reasons == ["1 dropped columns take space"]
    assert not array.optimize().rewritten
    np.testing.assert_array_equal(array.to_csr().toarray(), np.concatenate([rare, common]))


@pytest.mark.parametrize("n_cells", [0, 5])
def test_the_fragments_are_those_that_there_are(tmp_path, n_cells):
    path = tmp_path / "s.slaf"
    SLAFConverter().convert_anndata(ad.AnnData(np.ones((n_cells, 3), np.float32)), path)

    def files():
        return set(path.glob("cells-*/data/*.lance"))

    before = files()
    report = SLAFArray(path).optimize(force=True)
    assert report.fragments == [len(before), len(files() - before)]
    assert report.fragments == [min(n_cells, 1)] * 2


def test_all_slots_stay(growing_path):
    expected = whole(growing_path)
    SLAFArray(growing_path).optimize(force=True)
    assert_same(whole(growing_path), expected)
    assert SLAFArray(growing_path).version == 2


def test_command_line(growing_path, tmp_path):
    status, out, err = run("filter", growing_path, tmp_path / "p.slaf", "--where", "n_counts > 2")
    assert (status, err) == (0, "")
    assert "3 cells" in out
    status, _, err = run("filter", growing_path, tmp_path / "p.slaf", "--where", "n_counts > 2")
    assert (status, "[already-exists]" in err) == (1, True)
    status, out, _ = run("optimize", growing_path)
    assert (status, "little to gain" in out) == (0, True)
    status, out, _ = run("optimize", growing_path, "--force")
    assert (status, "version      2" in out) == (0, True)
    status, out, _ = run("delete-cells", growing_path, "--where", "batch = 'b1'")
    assert (status, "4 cells" in out) == (0, True)
    assert SLAFArray(growing_path).n_obs == 2
