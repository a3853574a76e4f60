"""An analysis in one call: against scanpy in memory, and stopped and changed between its steps."""

import json
import logging
import os
import shutil
import signal
import subprocess
import time
import warnings
from contextlib import contextmanager

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from processes import LIMIT, SLAF, child, run_slaf

import slaf
from slaf import SLAFArray
from slaf.analysis import _analyze, _steps, analyze, open_analyzed, plan
from slaf.analysis._command import run
from slaf.analysis._parameters import Parameters
from slaf.analysis._steps import STEPS
from slaf.data import SLAFConverter
from slaf.integrations import read_slaf

sc = pytest.importorskip("scanpy")
pytest.importorskip("igraph")
metrics = pytest.importorskip("sklearn.metrics")

#: No layout, which takes the longest and is scanpy's.
QUICK = {"umap": False, "n_comps": 10}
#: No clusters either.
SHORT = {**QUICK, "clusters": False}


def counts(seed=0, n=240, m=160):
    """Three kinds of cells, two donors, mitochondrial genes, some poor and some dying cells."""
    random = np.random.default_rng(seed)
    kind = np.arange(n) % 3
    mean = random.gamma(0.6, 1.2, m)
    of_kind = np.tile(mean, (3, 1))
    for k in range(3):
        of_kind[k, 20 + 15 * k : 35 + 15 * k] += 6
    of_kind[:, :8] = 0.4
    depth = random.gamma(8, 1 / 8, n)
    depth[:5] = 0.05
    rates = of_kind[kind] * depth[:, None]
    rates[5:12, :8] = 30
    X = random.poisson(rates).astype(np.float32)
    X[12] = 0
    obs = pd.DataFrame(
        {
            "kind": pd.Categorical.from_codes(kind, ["k0", "k1", "k2"]),
            "donor": pd.Categorical.from_codes(np.arange(n) // 40 % 2, ["d <1>", "d2"]),
        },
        index=[f"c{i}" for i in range(n)],
    )
    names = [f"MT-{i}" for i in range(8)] + [f"RPS{i}" for i in range(4)]
    names += [f"G{i}" for i in range(m - 14)] + ["<script>alert(1)</script>", "$x_{1"]
    return ad.AnnData(sp.csr_matrix(X), obs=obs, var=pd.DataFrame(index=names))


def stored(adata, path):
    SLAFConverter().convert_anndata(adata, path)
    return path


@pytest.fixture(scope="module")
def original():
    return counts()


@pytest.fixture(scope="module")
def plain(tmp_path_factory, original):
    return stored(original, tmp_path_factory.mktemp("plain") / "a.slaf")


@pytest.fixture
def store(tmp_path, plain):
    path = tmp_path / "a.slaf"
    shutil.copytree(plain, path)
    return path


@pytest.fixture(scope="module")
def finished(tmp_path_factory, plain):
    """A store with an analysis of one go; it is not to be changed."""
    path = tmp_path_factory.mktemp("finished") / "a.slaf"
    shutil.copytree(plain, path)
    return path, analyze(path, **QUICK)


@pytest.fixture
def copy_of_finished(tmp_path, finished):
    path = tmp_path / "a.slaf"
    shutil.copytree(finished[0], path)
    return path


def assert_same_results(a, b):
    """All that analyses wrote, but times and numbers of versions."""
    one, other = read_slaf(a), read_slaf(b)
    pd.testing.assert_frame_equal(pd.DataFrame(one.obs), pd.DataFrame(other.obs))
    pd.testing.assert_frame_equal(pd.DataFrame(one.var), pd.DataFrame(other.var))
    for slot in ("obsm", "varm"):
        assert list(getattr(one, slot)) == list(getattr(other, slot))
        for name, value in getattr(one, slot).items():
            np.testing.assert_array_equal(value, getattr(other, slot)[name])
    for name, value in one.obsp.items():
        assert (value != other.obsp[name]).nnz == 0
    records = [adata.uns["slaf_analyze"] for adata in (one, other)]
    assert set(records[0]) == set(records[1])
    for step in records[0]:
        for field in ("function", "parameters", "found", "signature", "writes"):
            assert records[0][step][field] == records[1][step][field], (step, field)


def states(report):
    return {step["name"]: step["state"] for step in report.steps}


# Against scanpy


def in_memory(adata, p):
    """The same in memory, by scanpy alone."""
    adata = adata.copy()
    adata.var["mt"] = adata.var_names.str.startswith("MT-")
    sc.pp.calculate_qc_metrics(adata, qc_vars=["mt"], percent_top=[20], log1p=True, inplace=True)
    passes = adata.obs["total_counts"] > 0
    obs = adata.obs[passes]

    def far(values, n):
        # Chapter 6 of "Single-cell best practices".
        middle = np.median(values)
        return np.abs(values - middle) > n * np.median(np.abs(values - middle))

    bad = pd.Series(False, index=obs.index)
    if p.get("mads"):
        names = ("log1p_total_counts", "log1p_n_genes_by_counts", "pct_counts_in_top_20_genes")
        for name in names:
            bad |= far(obs[name], p["mads"])
        bad |= far(obs["pct_counts_mt"], p["mads_mt"])
    bad |= obs["n_genes_by_counts"] < p.get("min_genes", 0)
    bad |= obs["n_genes_by_counts"] >= p.get("max_genes", np.inf)
    bad |= obs["pct_counts_mt"] >= p["max_pct_mt"]
    adata = adata[bad.index[~bad]].copy()
    sc.pp.filter_genes(adata, min_cells=3)
    sc.pp.normalize_total(adata, target_sum=p.get("target_sum"))
    sc.pp.log1p(adata)
    sc.pp.highly_variable_genes(adata, n_top_genes=p.get("n_top_genes"))
    part = adata[:, adata.var.highly_variable].copy()
    # In float32 its components of noise turn, and clusters with them.
    part.X = part.X.astype(np.float64)
    if p.get("scale"):
        sc.pp.scale(part, max_value=p["scale"])
    sc.pp.pca(part, n_comps=p["n_comps"])
    sc.pp.neighbors(part, n_neighbors=p["n_neighbors"], n_pcs=p.get("n_pcs"), use_rep="X_pca")
    how = {"flavor": "igraph", "n_iterations": 2, "directed": False}
    sc.tl.leiden(part, resolution=p["resolution"], random_state=0, **how)
    adata.obs["leiden"] = part.obs["leiden"]
    sc.tl.rank_genes_groups(adata, "leiden", method="wilcoxon", tie_correct=True, pts=True)
    adata.obsm["X_pca"] = part.obsm["X_pca"]
    return adata


def assert_as_scanpy(path, theirs, n_top=20):
    whole, ours = read_slaf(path), open_analyzed(path)
    assert list(ours.obs_names) == list(theirs.obs_names)
    assert list(ours.var_names) == list(theirs.var_names)
    missing = ~whole.obs_names.isin(theirs.obs_names)
    np.testing.assert_array_equal(whole.obs["passes_qc"], ~missing)
    np.testing.assert_array_equal(whole.obs["leiden"].isna(), missing)
    np.testing.assert_array_equal(whole.obs["qc_reason"].notna(), missing)
    np.testing.assert_array_equal(np.isnan(whole.obsm["X_pca"]).all(axis=1), missing)
    assert whole.obsp["distances"][np.flatnonzero(missing)].nnz == 0
    X = theirs.X.tocsr()
    np.testing.assert_allclose(ours.X.toarray(), X.toarray(), rtol=1e-6)
    chosen = ours.var["highly_variable"].to_numpy()
    np.testing.assert_array_equal(chosen, theirs.var["highly_variable"])
    pca = np.abs(ours.obsm["X_pca"][:, :5]), np.abs(theirs.obsm["X_pca"][:, :5])
    np.testing.assert_allclose(*pca, atol=5e-3)
    labels = ours.obs["leiden"].astype(str), theirs.obs["leiden"].astype(str)
    score = metrics.adjusted_rand_score(*labels)
    assert score > 0.95, score
    if score < 1:
        # Markers of the same cells.
        theirs.obs["leiden"] = ours.obs["leiden"].astype("category")
        sc.tl.rank_genes_groups(theirs, "leiden", method="wilcoxon", tie_correct=True, pts=True)
    found = whole.uns["rank_genes_groups"]
    table = pd.crosstab(*labels) if score == 1 else None
    for group in found["names"].dtype.names:
        other = group if table is None else str(table.loc[group].idxmax())
        names = theirs.uns["rank_genes_groups"]["names"][other]
        scores = pd.Series(theirs.uns["rank_genes_groups"]["scores"][other], names)
        mine = list(found["names"][group][:n_top])
        np.testing.assert_allclose(
            found["scores"][group][:n_top], scores[mine], rtol=1e-4, atol=1e-4
        )
        # Up to ties.
        np.testing.assert_allclose(np.sort(scores[mine])[::-1], scores.iloc[:n_top], atol=1e-4)


def test_it_is_scanpys_pipeline(finished, original):
    p = {"mads": 5, "mads_mt": 3, "max_pct_mt": 8, "n_comps": 10, "n_neighbors": 15}
    theirs = in_memory(original, {**p, "n_top_genes": original.n_vars, "resolution": 1})
    assert 0 < original.n_obs - theirs.n_obs < 60
    assert_as_scanpy(finished[0], theirs)
    labels = theirs.obs["leiden"]
    assert metrics.adjusted_rand_score(labels, theirs.obs["kind"]) > 0.9


def test_many_cells_give_each_edge_once(tmp_path, original, monkeypatch):
    monkeypatch.setattr(_steps, "MANY_CELLS", original.n_obs // 2)
    SLAFConverter().convert_anndata(original, tmp_path / "a.slaf")
    analyze(tmp_path / "a.slaf", **QUICK)
    ours = open_analyzed(tmp_path / "a.slaf").to_memory()
    sc.tl.leiden(ours, key_added="scanpys", flavor="igraph", n_iterations=2, directed=False)
    graph = ours.obsp["connectivities"].tocoo()
    degrees, total = np.asarray(graph.sum(axis=1)).ravel(), graph.sum()

    def modularity(key):
        # Newman 2004.
        labels = ours.obs[key].cat.codes.to_numpy()
        within = graph.data[labels[graph.row] == labels[graph.col]].sum() / total
        return within - np.square(np.bincount(labels, degrees) / total).sum()

    assert modularity("leiden") >= modularity("scanpys") - 1e-3


def test_the_tutorial_of_pbmcs(tmp_path, shared_data):
    adata = ad.read_h5ad(shared_data / "pbmc3k_raw.h5ad")[:700].copy()
    sc.pp.filter_genes(adata, min_cells=20)
    path = stored(adata, tmp_path / "pbmc.slaf")
    analyze(path, preset="pbmc", umap=False)
    p = {
        "min_genes": 200, "max_genes": 2500, "max_pct_mt": 5, "target_sum": 1e4, "scale": 10,
        "n_comps": 50, "n_neighbors": 10, "n_pcs": 40, "resolution": 0.9,
    }  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = in_memory(adata, p)
    assert_as_scanpy(path, theirs)
    found = open_analyzed(path)
    of = found.obs["leiden"]
    top = {g: set(found.uns["rank_genes_groups"]["names"][g][:15]) for g in of.cat.categories}
    for known in ({"MS4A1", "CD79A"}, {"NKG7", "GNLY"}, {"LYZ", "S100A9"}):
        assert any(known <= genes for genes in top.values()), known


# What is written


def test_steps_are_versions_with_records(finished, plain):
    path, report = finished
    before = SLAFArray(plain).version
    assert [step["version"] for step in report.steps] == list(
        range(before + 1, before + 1 + len(report.steps))
    )
    adata = read_slaf(path)
    for step in report.steps:
        record = adata.uns["slaf_analyze"][step["name"]]
        assert record["slaf_version"] == slaf.__version__
        assert int(record["version"]) == step["version"] == int(record["input_version"]) + 1
        # The version has what the step wrote, and the one before did not.
        changes = SLAFArray(path).diff(step["version"] - 1, step["version"])
        for slot in step["writes"]:
            of, name = slot.split("/")
            assert slot in changes.added or (of == "uns" and name in adata.uns), slot
    assert (read_slaf(plain).X.to_memory() != adata.X.to_memory()).nnz == 0
    assert str(report).count("version") >= len(report.steps)
    assert "next: slaf query" in str(report)


def test_why_cells_are_rejected(finished, original):
    obs = read_slaf(finished[0]).obs
    assert obs["qc_reason"].iloc[12] == "no counts"
    assert all("mt" in reason for reason in obs["qc_reason"].iloc[5:12])
    assert all("counts far" in reason for reason in obs["qc_reason"].iloc[:5])
    found = next(s["found"] for s in finished[1].steps if s["name"] == "filter")
    reasons = obs["qc_reason"].dropna().astype(str)
    for reason, n in found["reasons"].items():
        assert sum(reason in r.split("; ") for r in reasons) == n
    assert found["n_passed"] == int(obs["passes_qc"].sum())


# Going on


def test_a_second_run_does_nothing(copy_of_finished):
    before = SLAFArray(copy_of_finished).version
    report = analyze(copy_of_finished, **QUICK)
    assert set(states(report).values()) == {"skipped"}
    assert SLAFArray(copy_of_finished).version == before


def test_a_run_that_is_stopped_at_each_step_goes_on(store, finished, monkeypatch):
    def stopped(_):
        raise KeyboardInterrupt

    order = [step["name"] for step in finished[1].steps]
    for number, at in enumerate(order):
        broken = [
            _steps.Step(**{**s.__dict__, "run": stopped}) if s.name == at else s for s in STEPS
        ]
        monkeypatch.setattr(_steps, "STEPS", broken)
        with pytest.raises(KeyboardInterrupt):
            analyze(store, **QUICK)
        assert set(read_slaf(store).uns.get("slaf_analyze", {})) == set(order[:number])
    monkeypatch.undo()
    report = analyze(store, **QUICK)
    assert [n for n, state in states(report).items() if state == "done"] == order[-1:]
    assert_same_results(store, finished[0])


def test_a_commit_that_is_lost_is_repeated(store, finished, monkeypatch):
    calls = []
    add = _analyze.add_beside_uns

    def dying(*args, **kwargs):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return add(*args, **kwargs)

    monkeypatch.setattr(_analyze, "add_beside_uns", dying)
    with pytest.raises(KeyboardInterrupt):
        analyze(store, **QUICK)
    analyze(store, **QUICK)
    assert_same_results(store, finished[0])


def test_other_parameters_redo_what_they_affect(copy_of_finished, tmp_path, plain):
    what = {**QUICK, "n_neighbors": 8}
    told = {s["name"]: (s["state"], s["why"]) for s in plan(copy_of_finished, **what).steps}
    assert told["pca"] == ("done", "")
    assert told["neighbors"] == ("redo", "parameters or cells changed")
    assert told["markers"][0] == "redo"
    report = analyze(copy_of_finished, **what)
    done = [name for name, state in states(report).items() if state == "done"]
    assert done == ["neighbors", "clusters", "markers"]
    anew = tmp_path / "anew.slaf"
    shutil.copytree(plain, anew)
    analyze(anew, **what)
    assert_same_results(copy_of_finished, anew)


def test_results_that_no_longer_hold_go(copy_of_finished):
    analyze(copy_of_finished, n_comps=10)
    assert "X_umap" in read_slaf(copy_of_finished).obsm
    analyze(copy_of_finished, **{**SHORT, "n_comps": 8})
    adata = read_slaf(copy_of_finished)
    # It was made from other components.
    assert "X_umap" not in adata.obsm
    assert "umap" not in adata.uns
    assert "leiden" not in adata.obs
    assert "umap" not in adata.uns["slaf_analyze"]
    assert adata.obsm["X_pca"].shape[1] == 8


def test_cells_that_came_later_are_noticed(copy_of_finished, tmp_path):
    more = counts(seed=1)[:100].copy()
    more.obs_names = [f"new{i}" for i in range(100)]
    array = SLAFArray(copy_of_finished)
    array.append(more, allow_loss=True)
    told = plan(copy_of_finished, **QUICK)
    assert all(s["state"] in ("redo", "to do") for s in told.steps)
    assert told.steps[0]["why"] == "cells or genes were added or removed"
    analyze(copy_of_finished, **SHORT)
    both = ad.concat([counts(), more])
    both.var = counts().var
    anew = stored(both, tmp_path / "both.slaf")
    analyze(anew, **SHORT)
    ours, theirs = read_slaf(copy_of_finished), read_slaf(anew)
    assert list(ours.obs["passes_qc"]) == list(theirs.obs["passes_qc"])
    assert "leiden" not in ours.obs
    np.testing.assert_allclose(ours.obsm["X_pca"], theirs.obsm["X_pca"], atol=1e-4)


def test_a_layer_that_was_replaced_is_noticed(tmp_path, original):
    adata = original.copy()
    adata.layers["counts"] = adata.X.copy()
    path = stored(adata, tmp_path / "a.slaf")
    analyze(path, layer="counts", **SHORT)
    other = adata.X.copy()
    other.data = np.random.default_rng(1).permutation(other.data)
    slaf_array = SLAFArray(path)
    slaf_array.add_layer("counts", adata.X, overwrite=True)
    assert {s["state"] for s in plan(path, layer="counts", **SHORT).steps} == {"done"}
    slaf_array.add_layer("counts", other, overwrite=True)
    assert plan(path, layer="counts", **SHORT).steps[0]["state"] == "redo"


def test_cells_that_were_deleted_are_noticed(copy_of_finished, tmp_path):
    slaf_array = SLAFArray(copy_of_finished)
    slaf_array.delete_cells("cell_integer_id >= 100 AND cell_integer_id < 130")
    report = analyze(copy_of_finished, **QUICK)
    assert set(states(report).values()) == {"done"}
    left = counts()[np.r_[0:100, 130:240]].copy()
    analyze(stored(left, tmp_path / "left.slaf"), **QUICK)
    assert_same_results(copy_of_finished, tmp_path / "left.slaf")


def test_a_column_of_somebody_else_is_kept_after_a_deletion(copy_of_finished):
    slaf_array = SLAFArray(copy_of_finished)
    slaf_array.add_obs({"leiden": ["mine"] * 240}, overwrite=True)
    slaf_array.delete_cells("cell_integer_id < 30")
    with pytest.raises(slaf.AlreadyExistsError, match="obs/leiden, and it was changed"):
        analyze(copy_of_finished, **QUICK)


def test_cells_that_come_meanwhile_are_a_conflict(store, monkeypatch):
    step = next(s for s in STEPS if s.name == "qc")

    def slow(context):
        SLAFArray(store).append(counts(seed=2)[:20].copy())
        return step.run(context)

    changed = [_steps.Step(**{**s.__dict__, "run": slow}) if s.name == "qc" else s for s in STEPS]
    monkeypatch.setattr(_steps, "STEPS", changed)
    with pytest.raises(slaf.ConflictError, match="run slaf analyze again"):
        analyze(store, **QUICK)


def before(title, do):
    """Progress that does something once, when a step begins."""
    done = []

    @contextmanager
    def progress(number, count, name):
        if name == title and not done:
            done.append(name)
            do()
        yield lambda told: None

    return progress


def replaced(path):
    shutil.rmtree(path)
    stored(counts(seed=5), path)


@pytest.mark.parametrize(
    ("title", "what"),
    [
        ("variable genes", lambda path: SLAFArray(path).drop("obs/size_factor")),
        ("filters", lambda path: SLAFArray(path).delete_cells("cell_integer_id < 5")),
        ("components", lambda path: SLAFArray(path).append(counts(2)[:20], allow_loss=True)),
        ("normalisation", replaced),
        ("variable genes", lambda path: SLAFArray(path).rollback(2)),
        (
            "normalisation",
            lambda path: SLAFArray(path).add_obs({"passes_qc": [True] * 240}, overwrite=True),
        ),
        ("variable genes", lambda path: analyze(path, **SHORT, min_cells=9)),
    ],
    ids=["drop", "delete", "append", "replace", "rollback", "overwrite", "other analysis"],
)
def test_what_others_change_between_steps_is_a_conflict(store, title, what):
    with pytest.raises(slaf.ConflictError, match="run slaf analyze again"):
        analyze(store, **SHORT, progress=before(title, lambda: what(store)))


def test_the_same_analysis_twice_at_once(store):
    other = before("variable genes", lambda: analyze(store, **SHORT))
    report = analyze(store, **SHORT, progress=other)
    assert [step["version"] for step in report.steps] == [2, 3, 4, 5, 6, 7]
    assert SLAFArray(store).version == 7


def test_what_others_write_meanwhile_stays(store, monkeypatch):
    step = next(s for s in STEPS if s.name == "qc")

    def slow(context):
        array = SLAFArray(store)
        array.add_obs({"mine": np.arange(array.n_obs)})
        array.set_uns("note", "theirs")
        return step.run(context)

    changed = [_steps.Step(**{**s.__dict__, "run": slow}) if s.name == "qc" else s for s in STEPS]
    monkeypatch.setattr(_steps, "STEPS", changed)
    report = analyze(store, **SHORT)
    adata = read_slaf(store)
    assert adata.uns["note"] == "theirs"
    np.testing.assert_array_equal(adata.obs["mine"], np.arange(adata.n_obs))
    first = adata.uns["slaf_analyze"]["qc"]
    assert int(first["version"]) == int(first["input_version"]) + 3
    assert report.steps[0]["version"] == int(first["version"])


# Names of others


@pytest.mark.parametrize("slot", ["obs/total_counts", "obsm/X_pca", "uns/pca"])
def test_columns_of_others_are_not_touched(store, slot):
    array, (of, name) = SLAFArray(store), slot.split("/")
    n = array.n_obs
    if of == "obs":
        array.add_obs({name: ["mine"] * n})
    elif of == "obsm":
        array.add_embedding(name, np.ones((n, 2)))
    else:
        array.set_uns(name, "mine")
    version = array.version
    for call in (analyze, plan):
        with pytest.raises(slaf.AlreadyExistsError, match=f"has {slot}, and slaf analyze did not"):
            call(store, **QUICK)
    assert SLAFArray(store).version == version
    # One of them goes as far as markers.
    how = QUICK if of == "obs" else SHORT
    report = analyze(store, key_added="run2", **how)
    adata = read_slaf(store)
    assert "run2_passes_qc" in adata.obs
    assert ("run2_leiden" in adata.obs) == (how is QUICK)
    assert "run2_slaf_analyze" in adata.uns
    assert adata.uns["run2_neighbors"]["distances_key"] == "run2_distances"
    kept = getattr(adata, of)[name]
    assert (np.asarray(kept) == ("mine" if of != "obsm" else 1)).all()
    again = analyze(store, key_added="run2", **how)
    assert set(states(again).values()) == {"skipped"}
    assert open_analyzed(store, key_added="run2").n_obs == report.n_analyzed


def test_results_that_others_changed_are_not_replaced(copy_of_finished):
    array = SLAFArray(copy_of_finished)
    array.add_obs({"leiden": ["mine"] * array.n_obs}, overwrite=True)
    with pytest.raises(slaf.AlreadyExistsError, match="it was changed since slaf analyze made it"):
        analyze(copy_of_finished, **QUICK)
    array.rename("obs/leiden", "cell_type")
    report = analyze(copy_of_finished, **QUICK)
    assert [n for n, s in states(report).items() if s == "done"] == ["clusters", "markers"]
    assert set(read_slaf(copy_of_finished).obs["cell_type"]) == {"mine"}


def test_a_record_of_somebody_else_is_refused(store):
    SLAFArray(store).set_uns("slaf_analyze", "mine")
    with pytest.raises(slaf.AlreadyExistsError, match="no record of slaf analyze"):
        analyze(store)


# Odd inputs


def test_logarithms_are_refused_with_a_way_out(tmp_path, original):
    adata = original.copy()
    adata.layers["counts"] = adata.X.copy()
    sc.pp.log1p(adata)
    path = stored(adata, tmp_path / "log.slaf")
    with pytest.raises(slaf.InvalidArgumentError, match=r"no counts.*of \['counts'\] \(--layer"):
        analyze(path, **SHORT)
    assert SLAFArray(path).version == 1
    report = analyze(path, layer="counts", **SHORT)
    assert states(report)["neighbors"] == "done"
    # Of the layer, that is.
    total = read_slaf(path).obs["total_counts"]
    np.testing.assert_array_equal(total, original.X.sum(axis=1).A1)
    with pytest.raises(slaf.UnknownNameError):
        analyze(path, layer="nothing")


def test_too_few_cells(tmp_path, original):
    path = stored(original[20:28].copy(), tmp_path / "few.slaf")
    with pytest.raises(slaf.InvalidArgumentError, match="of 8 cells pass"):
        analyze(path)
    # What quality control found is there to be looked at.
    assert "total_counts" in read_slaf(path).obs
    path = stored(original[20:36].copy(), tmp_path / "some.slaf")
    report = analyze(path, mads=None, mads_mt=None, **{**SHORT, "n_comps": 50})
    notes = [note for step in report.steps for note in step["found"]["notes"]]
    assert any("components" in note for note in notes)


def test_no_mitochondrial_genes(tmp_path, original):
    path = stored(original[:, 12:].copy(), tmp_path / "no.slaf")
    report = analyze(path, **SHORT)
    notes = [note for step in report.steps for note in step["found"]["notes"]]
    assert "no mt genes among the names" in notes
    assert any("high mt: not looked at" in note for note in notes)
    assert "pct_counts_mt" not in read_slaf(path).obs


def test_symbols_beside_numbers_of_ensembl(tmp_path, original):
    adata = original.copy()
    adata.var["feature_name"] = adata.var_names
    adata.var_names = [f"ENSG{i:011d}" for i in range(adata.n_vars)]
    path = stored(adata, tmp_path / "ensembl.slaf")
    report = analyze(path, **SHORT)
    found = report.steps[0]["found"]
    assert (found["symbols"], found["genes"]) == ("feature_name", {"mt": 8, "ribo": 4})
    mt = read_slaf(path).var["mt"].to_numpy()
    np.testing.assert_array_equal(mt, np.arange(adata.n_vars) < 8)


def test_batches(tmp_path, original, capfd):
    pytest.importorskip("harmonypy")
    path = stored(original, tmp_path / "batches.slaf")
    report = analyze(path, batch_key="donor", **QUICK)
    # Harmony logs by itself.
    assert capfd.readouterr().err == ""
    adata = read_slaf(path)
    assert adata.uns["neighbors"]["params"]["use_rep"] == "X_pca_harmony"
    found = next(s["found"] for s in report.steps if s["name"] == "filter")
    table = pd.crosstab(adata.obs["donor"], adata.obs["passes_qc"])
    assert found["batches"] == [[d, int(t.sum()), int(t[True])] for d, t in table.iterrows()]
    # Bounds are those of each batch.
    obs = adata.obs[adata.obs["total_counts"] > 0]
    for bound in found["bounds"]:
        if bound["mads"] is not None and bound["metric"] == "total_counts":
            values = np.log1p(obs.loc[obs["donor"] == bound["batch"], "total_counts"])
            middle = values.median()
            high = np.expm1(middle + 5 * (values - middle).abs().median())
            assert bound["high"] == pytest.approx(high, rel=1e-5)
    # Without Harmony, what was made of its embedding is made anew.
    told = plan(path, batch_key="donor", harmony=False, **QUICK)
    assert [s["name"] for s in told.steps if s["state"] == "redo"] == [
        "neighbors", "clusters", "markers",
    ]  # fmt: skip


def test_what_harmony_says(tmp_path, original, capfd, monkeypatch):
    harmonypy = pytest.importorskip("harmonypy")
    run = harmonypy.run_harmony

    def wordy(*args, **kwargs):
        found = run(*args, **kwargs)
        logger = logging.getLogger("harmonypy")
        logger.info("Stopped before convergence")
        logger.warning("something is odd")
        return found

    monkeypatch.setattr(harmonypy, "run_harmony", wordy)
    report = analyze(stored(original, tmp_path / "a.slaf"), batch_key="donor", **QUICK)
    found = next(s["found"] for s in report.steps if s["name"] == "harmony")
    assert found["notes"] == ["Harmony stopped before it converged"]
    told = capfd.readouterr().err
    assert "something is odd" in told
    assert "convergence" not in told


def test_one_batch_and_missing_batches(tmp_path, original):
    adata = original.copy()
    adata.obs["one"] = "all"
    adata.obs["some"] = adata.obs["donor"].where(np.arange(adata.n_obs) != 7)
    path = stored(adata, tmp_path / "batch.slaf")
    with pytest.raises(slaf.InvalidArgumentError, match=r"1 cells have no value.*'c7'"):
        analyze(path, batch_key="some")
    with pytest.raises(slaf.UnknownNameError, match="no column 'donr'"):
        analyze(path, batch_key="donr")
    report = analyze(path, batch_key="one", **SHORT)
    notes = [note for step in report.steps for note in step["found"]["notes"]]
    assert any("one batch" in note for note in notes)


def test_whole_numbers_dense_and_batches_by_number(tmp_path, original):
    pytest.importorskip("skmisc")
    adata = original.copy()
    adata.X = adata.X.toarray().astype(np.int32)
    adata.obs["lane"] = np.arange(adata.n_obs) % 2 + 7
    path = stored(adata, tmp_path / "dense.slaf")
    how = {"batch_key": "lane", "harmony": False, "flavor": "seurat_v3", "n_top_genes": 40}
    analyze(path, **how, **SHORT)
    ours = open_analyzed(path)
    theirs = adata[ours.obs_names, ours.var_names].copy()
    expected = sc.pp.highly_variable_genes(
        theirs, flavor="seurat_v3", n_top_genes=40, batch_key="lane", inplace=False
    )
    np.testing.assert_array_equal(ours.var["highly_variable"], expected["highly_variable"])
    sc.pp.normalize_total(theirs)
    sc.pp.log1p(theirs)
    np.testing.assert_allclose(ours.X.toarray(), theirs.X, rtol=1e-6)
    assert set(states(analyze(path, **how, **SHORT)).values()) == {"skipped"}


def test_doublets_are_left_out(tmp_path, original):
    pytest.importorskip("skimage")
    path = stored(original, tmp_path / "doublets.slaf")
    analyze(path, doublets=True, **SHORT)
    adata = read_slaf(path)
    passes = adata.obs["passes_qc"].to_numpy()
    np.testing.assert_array_equal(adata.obs["doublet_score"].isna(), ~passes)
    doublet = adata.obs["predicted_doublet"].fillna(False).to_numpy(dtype=bool)
    np.testing.assert_array_equal(adata.obs["size_factor"].notna(), passes & ~doublet)


def test_what_is_wrong_is_named(store, tmp_path, h5ad_path, monkeypatch):
    with pytest.raises(slaf.InvalidArgumentError, match="no parameter 'n_top'"):
        analyze(store, n_top=3)
    with pytest.raises(slaf.UnknownNameError, match="no preset"):
        analyze(store, preset="pbmcs")
    for wrong in (
        {"mads": -1},
        {"umap": 1},
        {"n_comps": 2.5},
        {"flavor": "x"},
        {"n_pcs": 60},
        {"seed": 2**32},
        {"n_comps": 10**400},
        {"mads": 10**400},
        {"mads": float("nan")},
    ):
        with pytest.raises(slaf.InvalidArgumentError):
            analyze(store, **wrong)
    with pytest.raises(slaf.NotAStoreError, match="convert"):
        analyze(h5ad_path)
    with pytest.raises(slaf.NotFoundError):
        analyze(tmp_path / "nothing.slaf")
    with pytest.raises(slaf.NotFoundError, match="run slaf analyze first"):
        open_analyzed(store)
    with pytest.raises(slaf.InvalidArgumentError, match="a part of it or was changed"):
        analyze(read_slaf(store)[:100])
    monkeypatch.setattr(_analyze.os, "access", lambda *_: False)
    with pytest.raises(slaf.PermissionDeniedError):
        analyze(store)
    assert SLAFArray(store).version == 1


def test_the_same_numbers_are_the_same_parameters():
    one, other = Parameters(target_sum=10000, n_comps=np.int64(9)), Parameters(target_sum=1e4)
    assert json.dumps(one.target_sum) == json.dumps(other.target_sum)
    assert json.dumps(one.n_comps) == "9"
    assert Parameters(resolution=np.float32(0.5)).resolution == 0.5
    with pytest.raises(slaf.InvalidArgumentError):
        Parameters(n_comps=np.bool_(True))


def test_a_sample_that_is_too_small_for_doublets_is_named(tmp_path, original):
    adata = original.copy()
    adata.obs["sample"] = ["big"] * 225 + ["small"] * 15
    path = stored(adata, tmp_path / "a.slaf")
    with pytest.raises(slaf.InvalidArgumentError, match="the sample small in obs"):
        analyze(path, **SHORT, doublets=True, batch_key="sample", harmony=False)


@pytest.mark.parametrize("place", ["", "folder", "missing/r.html", "x" * 300])
def test_a_report_that_cannot_be_written_is_refused_first(store, tmp_path, place):
    (tmp_path / "folder").mkdir()
    out = place and tmp_path / place
    with pytest.raises(slaf.SlafError) as caught:
        analyze(store, **SHORT, out=out, overwrite=True)
    assert caught.value.kind in ("invalid-argument", "not-found", "io")
    assert SLAFArray(store).version == 1


def test_a_report_that_fails_leaves_the_analysis(store, tmp_path, monkeypatch):
    def fails(*_):
        raise RuntimeError("no fonts")

    pytest.importorskip("matplotlib")
    monkeypatch.setattr("slaf.analysis._analyze.write_page", fails)
    with pytest.raises(slaf.SlafError, match="no fonts; the analysis is done"):
        analyze(store, **SHORT, out=tmp_path / "r.html")
    assert set(states(analyze(store, **SHORT)).values()) == {"skipped"}


def test_a_command_without_standard_error(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.stderr", None)
    assert run([str(tmp_path / "no.slaf")]) == 1
    assert capsys.readouterr().out == ""


def test_packages_that_are_missing_are_named_first(store, monkeypatch):
    from slaf.integrations.scanpy import _light

    monkeypatch.setattr(_light, "find_spec", lambda name: None if name == "igraph" else 1)
    with pytest.raises(slaf.UnsupportedError, match=r"igraph: pip install 'slaf\[analysis\]'"):
        analyze(store)
    assert SLAFArray(store).version == 1
    report = analyze(store, **SHORT)
    assert list(states(report))[-1] == "neighbors"


def test_an_array_moves_to_the_last_version(store):
    array = SLAFArray(store)
    report = analyze(array, **SHORT)
    assert array.version == report.version


def test_a_store_in_a_bucket(s3, original):
    SLAFConverter(storage_options=s3).convert_anndata(original, "s3://bucket/analysis.slaf")
    where = {"storage_options": s3, **SHORT}
    assert analyze("s3://bucket/analysis.slaf", **where).n_analyzed > 100
    told = states(analyze("s3://bucket/analysis.slaf", **where))
    assert set(told.values()) == {"skipped"}


# The command


def test_the_command(store):
    before = SLAFArray(store).version
    dry = run_slaf("analyze", store, "--no-umap", "--no-clusters", "--dry-run")
    assert (dry.returncode, dry.stderr) == (0, "")
    assert "nothing was done" in dry.stdout
    assert "writes obs/passes_qc" in dry.stdout
    assert SLAFArray(store).version == before
    done = run_slaf("analyze", store, "--no-umap", "--no-clusters", "--json")
    # Quiet in a pipe.
    assert (done.returncode, done.stderr) == (0, "")
    fields = json.loads(done.stdout)
    assert fields["version"] == SLAFArray(store).version == before + len(fields["steps"])


def test_exit_status_of_the_command(tmp_path, store):
    assert run_slaf("analyze").returncode == 2
    assert run_slaf("analyze", store, "--n-comp", "3").returncode == 2
    told = run_slaf("analyze", "--help")
    assert told.returncode == 0
    assert "\nExamples:\n  slaf analyze " in told.stdout
    failed = run_slaf("analyze", tmp_path / "no.slaf")
    assert failed.returncode == 1
    assert failed.stderr.endswith("[not-found]\n")
    assert "analyze" in run_slaf("--help").stdout
    script = ["sh", "-c", '"$@" >&-', "sh", *SLAF, "analyze", str(store)]
    closed = subprocess.run(script, capture_output=True, text=True, timeout=60)
    assert (closed.returncode, closed.stderr[-5:]) == (1, "[io]\n")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
@pytest.mark.parametrize("arguments", [["--help"], ["STORE", "--dry-run"]])
def test_what_cannot_be_printed_is_an_error(store, arguments):
    arguments = [store if a == "STORE" else a for a in arguments]
    with open("/dev/full", "w") as full:
        command = [*SLAF, "analyze", *map(str, arguments)]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)
    told = "slaf: the standard output: No space left on device [disk-full]\n"
    assert (done.returncode, done.stderr) == (1, told)
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, timeout=60)
    os.close(write)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_keeps_what_was_done(store, how, finished):
    command = [*SLAF, "analyze", store, "--no-umap", "--n-comps", "10"]
    with child(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        while process.poll() is None and SLAFArray(store).version < 3:
            time.sleep(0.01)
        process.send_signal(how)
        out, err = process.communicate(timeout=LIMIT)
    # A fast machine may be done before the signal comes.
    if process.returncode:
        name = "" if how == signal.SIGINT else f" by {how.name}"
        told = f"slaf: interrupted{name}; what was done is kept\n"
        assert (process.returncode, out, err) == (128 + how, "", told)
    assert SLAFArray(store).verify() == []
    analyze(store, **QUICK)
    assert_same_results(store, finished[0])


def test_lines_on_a_terminal(capsys):
    from slaf.analysis._command import _line

    with _line(3, 10, "filters") as tell:
        tell("2 of 3 cells")
    shown = capsys.readouterr().err
    assert shown.endswith("[3/10] filters: 2 of 3 cells\n")
