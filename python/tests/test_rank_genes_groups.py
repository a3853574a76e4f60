"""Genes that tell groups apart are scanpy's, and SciPy's."""

import json
import os
import subprocess
import sys
import textwrap

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import scipy.stats
from against_scanpy import sc, synthetic
from processes import run_slaf

import slaf
from slaf.data import SLAFConverter
from slaf.integrations import read_slaf
from slaf.integrations import scanpy as slaf_sc

pytestmark = pytest.mark.filterwarnings("ignore")

TESTS = ["t-test", "t-test_overestim_var", "wilcoxon"]


def made(form="csr"):
    """Logarithms in X and in a layer, counts in another; raw has some of the genes."""
    adata = synthetic(form=form)
    adata.layers["half"] = adata.X.copy()
    sc.pp.normalize_total(adata, layer="half", target_sum=50)
    sc.pp.normalize_total(adata)
    for layer in (None, "half"):
        sc.pp.log1p(adata, layer=layer)
    adata.obs["named"] = adata.obs["group"].cat.add_categories("none").fillna("none")
    adata.uns["log1p"] = {"base": None}
    return adata


@pytest.fixture(params=["csr", "csc", "dense"])
def pair(opened, request):
    return opened(f"ranks_{request.param}", lambda: made(request.param))


@pytest.fixture
def small_pair(opened):
    return opened("ranks_csr", made)


def widened(adata):
    """The same values in float64, where scanpy loses no digits of squares."""
    adata = adata.copy()
    adata.X = adata.X.astype("f8")
    for name in adata.layers:
        adata.layers[name] = adata.layers[name].astype("f8")
    if adata.raw is not None:
        raw = adata.raw.to_adata()
        raw.X = raw.X.astype("f8")
        adata.raw = raw
    return adata


def ranked(module, adata, groupby, **options):
    options = {"use_raw": False, **options}
    module.tl.rank_genes_groups(adata, groupby, **options)
    return adata.uns[options.get("key_added", "rank_genes_groups")]


def by_gene(result, slot, group):
    values = pd.Series(result[slot][group], index=result["names"][group])
    assert values.index.is_unique
    return values.sort_index()


def assert_same_ranks(ours, theirs, rtol=1e-6, atol=1e-9):
    """Equal by name of gene; in memory alike."""
    assert list(ours) == list(theirs)
    assert ours["params"] == theirs["params"]
    for slot, expected in theirs.items():
        got = ours[slot]
        if slot == "params":
            continue
        if slot.startswith("pts"):
            pd.testing.assert_frame_equal(got, expected)
            continue
        assert type(got) is type(expected)
        assert got.dtype == expected.dtype, slot
        assert len(got) == len(expected)
        for group in got.dtype.names:
            if slot == "names":
                assert set(got[group]) == set(expected[group])
                continue
            a, b = by_gene(ours, slot, group), by_gene(theirs, slot, group)
            close = {"rtol": rtol, "atol": atol, "err_msg": f"{slot} {group}"}
            if slot == "logfoldchanges":
                close["atol"] = 2e-6
            np.testing.assert_allclose(a, b, **close)
    for group in ours["scores"].dtype.names:
        assert (np.diff(ours["scores"][group]) <= 0).all() or "abs" in str(ours)


OPTIONS = {
    "all": {"groupby": "named"},
    "some groups": {"groupby": "group", "groups": ["c", "a"]},
    "cells without a group": {"groupby": "group"},
    "a reference": {"groupby": "named", "reference": "b"},
    "a reference and some": {"groupby": "named", "groups": ["d", "a"], "reference": "none"},
    "shares": {"groupby": "group", "pts": True},
    "shares and a reference": {"groupby": "named", "pts": True, "reference": "a"},
    "bonferroni": {"groupby": "batch", "corr_method": "bonferroni"},
    "a layer": {"groupby": "batch", "layer": "half"},
    "some genes": {"groupby": "batch", "mask_var": "ribo"},
    "another key": {"groupby": "batch", "key_added": "mine"},
}


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("method", TESTS)
@pytest.mark.parametrize("options", OPTIONS)
def test_tests_are_those_of_scanpy(pair, method, options, ties):
    if ties and method != "wilcoxon":
        pytest.skip("nothing else has ties")
    theirs, ours = pair
    options = {**OPTIONS[options], "method": method, "tie_correct": ties}
    theirs = theirs if method == "wilcoxon" else widened(theirs)
    expected = ranked(sc, theirs, **options)
    found = ranked(slaf_sc, ours, **options)
    assert_same_ranks(found, expected)


@pytest.mark.parametrize("method", TESTS)
def test_float32_of_scanpy(small_pair, method):
    theirs, ours = small_pair
    expected = ranked(sc, theirs, "named", method=method)
    # scanpy squares float32 values in their type.
    assert_same_ranks(ranked(slaf_sc, ours, "named", method=method), expected, rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("tie_correct", [False, True])
def test_ranks_are_those_of_scipy(small_pair, tie_correct):
    theirs, ours = small_pair
    X, labels = theirs.X.toarray().astype("f8"), theirs.obs["named"].to_numpy()
    for reference in ("rest", "c"):
        options = {"method": "wilcoxon", "reference": reference, "tie_correct": tie_correct}
        found = ranked(slaf_sc, ours, "named", **options)
        for group in found["names"].dtype.names:
            ins = labels == group
            outs = ~ins if reference == "rest" else labels == reference
            scores, pvals = by_gene(found, "scores", group), by_gene(found, "pvals", group)
            for i, gene in enumerate(theirs.var_names):
                expected = scipy.stats.mannwhitneyu(
                    X[ins, i], X[outs, i], use_continuity=False, method="asymptotic"
                )
                both = np.r_[X[ins, i], X[outs, i]]
                if (both == both[0]).all():
                    assert (scores[gene], pvals[gene]) == (0, 1)
                    continue
                n, m = ins.sum(), outs.sum()
                ties = scipy.stats.tiecorrect(scipy.stats.rankdata(both))
                z = (expected.statistic - n * m / 2) / np.sqrt(ties * n * m * (n + m + 1) / 12)
                if tie_correct:
                    # SciPy always corrects.
                    np.testing.assert_allclose(pvals[gene], expected.pvalue, rtol=1e-9)
                    np.testing.assert_allclose(scores[gene], z, rtol=1e-6)
                else:
                    np.testing.assert_allclose(scores[gene], z * np.sqrt(ties), rtol=1e-6)


@pytest.mark.parametrize("reference", ["rest", "c"])
def test_t_tests_are_those_of_scipy(small_pair, reference):
    theirs, ours = small_pair
    X, labels = theirs.X.toarray().astype("f8"), theirs.obs["named"].to_numpy()
    found = ranked(slaf_sc, ours, "named", method="t-test", reference=reference)
    for group in found["names"].dtype.names:
        ins = labels == group
        outs = ~ins if reference == "rest" else labels == reference
        expected = scipy.stats.ttest_ind(X[ins], X[outs], equal_var=False)
        # Genes without counts have no variance.
        scores = pd.Series(np.nan_to_num(expected.statistic), index=theirs.var_names).sort_index()
        pvals = pd.Series(np.nan_to_num(expected.pvalue, nan=1), index=theirs.var_names)
        np.testing.assert_allclose(by_gene(found, "scores", group), scores, rtol=1e-6)
        np.testing.assert_allclose(by_gene(found, "pvals", group), pvals.sort_index(), rtol=1e-9)
        corrected = scipy.stats.false_discovery_control(pvals.sort_index())
        np.testing.assert_allclose(by_gene(found, "pvals_adj", group), corrected, rtol=1e-9)


@pytest.mark.parametrize("options", [{}, {"rankby_abs": True}, {"only_positive": False}])
def test_few_genes_by_their_scores(small_pair, options):
    theirs, ours = small_pair
    for method in TESTS:
        a = ranked(slaf_sc, ours, "named", method=method, n_genes=7, **options)
        b = ranked(sc, widened(theirs), "named", method=method, n_genes=7, **options)
        for group in a["names"].dtype.names:
            np.testing.assert_allclose(a["scores"][group], b["scores"][group], rtol=1e-6)
            assert list(a["names"][group]) == list(b["names"][group])
    assert len(ranked(slaf_sc, ours, "named", n_genes=1000)["names"]) == 90
    for m, adata in ((sc, theirs), (slaf_sc, ours)):
        assert len(ranked(m, adata, "named", n_genes=0)["names"]) == 90


def test_fold_changes_of_means_of_values(small_pair):
    theirs, ours = small_pair
    values, labels = np.expm1(theirs.X.toarray().astype("f8")), theirs.obs["named"].to_numpy()
    for method in ("t-test", "wilcoxon"):
        found = ranked(slaf_sc, ours, "named", method=method, mean_in_log_space=False)
        for group in found["names"].dtype.names:
            ins, outs = values[labels == group].mean(axis=0), values[labels != group].mean(axis=0)
            expected = pd.Series(np.log2((ins + 1e-9) / (outs + 1e-9)), index=theirs.var_names)
            got = by_gene(found, "logfoldchanges", group)
            np.testing.assert_allclose(got, expected.sort_index(), rtol=1e-4, atol=1e-5)


def test_the_base_of_logarithms_is_in_uns(small_pair):
    theirs, ours = small_pair
    for adata in (theirs, ours):
        adata.uns["log1p"] = {"base": 2}
    for method in TESTS:
        found = ranked(slaf_sc, ours, "named", method=method)
        assert_same_ranks(found, ranked(sc, widened(theirs), "named", method=method))


def test_raw_is_taken_if_there_is_one(small_pair):
    theirs, ours = small_pair
    theirs.raw = theirs[:, ::2].copy()
    ours.raw = ours[:, ::2].copy()
    for options in ({"use_raw": None}, {"use_raw": True, "pts": True}, {"use_raw": False}):
        for method in ("t-test", "wilcoxon"):
            a = ranked(slaf_sc, ours, "named", method=method, **options)
            b = ranked(sc, widened(theirs), "named", method=method, **options)
            assert_same_ranks(a, b)
    with pytest.raises(slaf.InvalidArgumentError, match="layer"):
        ranked(slaf_sc, ours, "named", use_raw=None, layer="half")


@pytest.mark.parametrize(
    "rows", [slice(None, None, -1), [5, 5, 9, 100, 101, 102, 5, 200, 150, 201, 0, 7]]
)
def test_views(small_pair, rows):
    theirs, ours = small_pair
    theirs, ours = theirs[rows].copy()[:, ::-2].copy(), ours[rows, ::-2]
    theirs.obs_names_make_unique()
    for method in TESTS:
        for reference in ("rest", "one"):
            options = {"method": method, "pts": True, "reference": reference}
            expected = ranked(sc, widened(theirs), "batch", **options)
            adata = ours.copy()
            assert_same_ranks(ranked(slaf_sc, adata, "batch", **options), expected)


PIPELINES = {
    "counts": lambda m, a: m.pp.sqrt(a),
    "normalised": lambda m, a: (m.pp.normalize_total(a, target_sum=100), m.pp.log1p(a)),
    "scaled": lambda m, a: (m.pp.log1p(a), m.pp.scale(a, max_value=2)),
    "scaled in part": lambda m, a: (m.pp.log1p(a), m.pp.scale(a, mask_obs="half")),
    "residuals": lambda m, a: (m.pp.log1p(a), m.pp.regress_out(a, ["age"])),
}


@pytest.mark.parametrize("by_gene_too", [True, False])
@pytest.mark.parametrize("pipeline", PIPELINES)
def test_steps_are_applied(tmp_path, pipeline, by_gene_too):
    theirs = synthetic()
    SLAFConverter(by_gene=by_gene_too).convert_anndata(theirs, tmp_path / "a.slaf")
    ours = read_slaf(tmp_path / "a.slaf")
    PIPELINES[pipeline](slaf_sc, ours)
    # The very values that are ranked: rounding makes and breaks ties.
    theirs.X = ours.X.to_memory()
    for adata in (theirs, ours):
        adata.uns["log1p"] = {"base": None}
    for method in TESTS:
        for options in ({}, {"reference": "a"}, {"mask_var": "ribo", "tie_correct": True}):
            if method != "wilcoxon" and "tie_correct" in options:
                continue
            groups = {"groups": ["a", "b", "d"], "method": method, **options}
            found = ranked(slaf_sc, ours, "group", **groups)
            expected = ranked(sc, widened(theirs), "group", **groups)
            for group in found["names"].dtype.names:
                # Variances of values that are all equal are rounding errors in scanpy, and its
                # scores 0 where these are negative.
                known = by_gene(expected, "scores", group).abs() > 1e-6
                known |= method == "wilcoxon" or not pipeline.startswith("scaled")
                for slot in ("scores", "pvals"):
                    a, b = (by_gene(r, slot, group)[known] for r in (found, expected))
                    np.testing.assert_allclose(a, b, rtol=2e-6, atol=1e-9)


def test_pipelines_of_scanpy_rank_the_same_values(small_pair):
    """normalize_total gives scanpy's bits; log1p may differ in the last one.

    That makes and breaks ties between cells, by the processor's instructions for numpy's logarithm.
    """
    theirs, ours = small_pair
    for m, adata in ((sc, theirs), (slaf_sc, ours)):
        adata.X = adata.layers["counts"]
        m.pp.normalize_total(adata, target_sum=1e4)
        m.pp.log1p(adata)
    a, b = (ranked(m, x, "named", method="wilcoxon") for m, x in ((slaf_sc, ours), (sc, theirs)))
    for group in a["names"].dtype.names:
        np.testing.assert_allclose(
            by_gene(a, "scores", group), by_gene(b, "scores", group), rtol=1e-3, atol=1e-2
        )


def odd():
    """Constants, explicit zeros, negative values, values of few groups."""
    random = np.random.default_rng(3)
    X = random.normal(size=(60, 9)).astype("f4").round(1)
    X[:, 0] = 1.1
    X[:, 1] = 0
    X[:, 2] = -3
    X[:30, 3], X[30:, 3] = 2, 5
    X[:30, 4], X[30:, 4] = 0, 0.1
    X[:, 5] = np.abs(X[:, 5]) * (random.random(60) < 0.3)
    X[20, 6] = np.inf
    matrix = sp.csr_matrix(X)
    matrix.data[::11] = 0
    for gene in (0, 2, 3):
        of_gene = matrix.indices == gene
        matrix.data[of_gene] = matrix.data[of_gene].min() if gene == 2 else X[X[:, gene] != 0, gene]
    obs = pd.DataFrame({"half": pd.Categorical(["a"] * 30 + ["b"] * 30)})
    obs["third"] = pd.Categorical.from_codes(np.arange(60) % 3, list("xyz"))
    obs.index = [f"c{i}" for i in range(60)]
    var = pd.DataFrame(index=[f"g{i}" for i in range(9)])
    return ad.AnnData(matrix, obs=obs, var=var)


@pytest.mark.parametrize("groupby", ["half", "third"])
@pytest.mark.parametrize("reference", ["rest", 1])
def test_odd_values(opened, groupby, reference):
    theirs, ours = opened("odd", odd)
    reference = "rest" if reference == "rest" else theirs.obs[groupby].cat.categories[1]
    for ties in (False, True):
        options = {"method": "wilcoxon", "tie_correct": ties, "reference": reference}
        with np.errstate(all="ignore"):
            expected = ranked(sc, theirs, groupby, **options)
            assert_same_ranks(ranked(slaf_sc, ours, groupby, **options), expected)
    finite = [True] * 6 + [False] + [True] * 2
    with np.errstate(all="ignore"):
        options = {"mask_var": np.array(finite), "reference": reference, "pts": True}
        expected = ranked(sc, widened(theirs), groupby, **options)
        found = ranked(slaf_sc, ours, groupby, **options)
    for group in found["names"].dtype.names:
        a, b = by_gene(found, "scores", group), by_gene(expected, "scores", group)
        # The same value in all cells: scanpy has differences of rounding errors.
        constant = ["g0", "g1", "g2"]
        assert (a[constant] == 0).all()
        assert (by_gene(found, "pvals", group)[constant] == 1).all()
        others = [gene for gene in a.index if gene not in constant and np.isfinite(b[gene])]
        np.testing.assert_allclose(a[others], b[others], rtol=1e-6, atol=1e-6)
    pd.testing.assert_frame_equal(found["pts"], expected["pts"])


def test_groups_of_different_constants_are_infinitely_apart(opened):
    _, ours = opened("odd", odd)
    found = ranked(slaf_sc, ours, "half", mask_var=np.arange(9) == 3)
    assert (found["scores"]["a"][0], found["scores"]["b"][0]) == (-np.inf, np.inf)
    assert found["pvals"]["a"][0] == 0


def test_nan(opened):
    def with_nan():
        adata = odd()
        adata.X[7, 5] = np.nan
        return adata

    theirs, ours = opened("with_nan", with_nan)
    with pytest.raises(slaf.InvalidArgumentError, match="gene 'g5' has NaN"):
        ranked(slaf_sc, ours, "half", method="wilcoxon")
    ranked(slaf_sc, ours, "half", method="wilcoxon", mask_var=np.arange(9) != 5)
    mask = np.isin(np.arange(9), [4, 5, 7])
    with np.errstate(all="ignore"):
        expected = ranked(sc, widened(theirs), "half", mask_var=mask)
    assert_same_ranks(ranked(slaf_sc, ours, "half", mask_var=mask), expected)


def test_what_is_refused(small_pair):
    theirs, ours = small_pair
    ours.obs["empty"] = ours.obs["named"].cat.rename_categories({"a": ""})
    wrong = [
        ({"groupby": "alone"}, "x since they only contain one sample"),
        ({"groupby": "named", "reference": "nothing"}, "reference = nothing needs to be one of"),
        ({"groupby": "named", "groups": "a"}, "Specify a sequence of groups"),
        ({"groupby": "named", "groups": ["a", "nothing"]}, "nothing"),
        ({"groupby": "named", "groups": []}, "need to be some of"),
        ({"groupby": "named", "method": "anova"}, "Method must be one of"),
        ({"groupby": "named", "corr_method": "holm"}, "Correction method must be one of"),
        ({"groupby": "named", "use_raw": True}, "raw"),
        ({"groupby": "named", "mask_var": np.ones(3, bool)}, "mask"),
        ({"groupby": "age"}, "not categorical"),
        ({"groupby": "named", "C": 2}, "takes no C"),
        ({"groupby": "named", "n_genes": -1}, "n_genes=-1"),
        ({"groupby": "named", "n_genes": 1.5}, "n_genes=1.5"),
        ({"groupby": "empty"}, "rename_categories"),
    ]
    for options, message in wrong:
        before = dict(ours.uns)
        with pytest.raises(slaf.InvalidArgumentError, match=message):
            ranked(slaf_sc, ours, **options)
        assert ours.uns == before
    with pytest.raises(slaf.UnknownNameError):
        ranked(slaf_sc, ours, "nothing")
    ours.obs["named"] = ours.obs["named"].cat.add_categories("unused")
    theirs.obs["named"] = theirs.obs["named"].cat.add_categories("unused")
    for m, adata in ((sc, theirs), (slaf_sc, ours)):
        with pytest.raises(ValueError, match="unused since they only contain one sample"):
            ranked(m, adata, "named")
        ranked(m, adata, "named", groups=["a", "b"])
    ours.obs["same"] = pd.Categorical(["x"] * ours.n_obs)
    with pytest.raises(slaf.InvalidArgumentError, match="there is no rest"):
        ranked(slaf_sc, ours, "same")
    with pytest.raises(slaf.InvalidArgumentError, match="takes what read_slaf"):
        ranked(slaf_sc, theirs, "named")


@pytest.mark.filterwarnings("default")
def test_counts_are_warned_of(small_pair):
    _, ours = small_pair
    for method in TESTS:
        with pytest.warns(UserWarning, match="raw count data"):
            ranked(slaf_sc, ours, "named", layer="counts", method=method)


def test_strings_become_groups_and_copies_are_made(small_pair):
    theirs, ours = small_pair
    for adata in (theirs, ours):
        adata.obs["text"] = np.where(np.arange(220) % 3 == 0, "10", "9")
    copy = slaf_sc.tl.rank_genes_groups(ours, "text", copy=True, use_raw=False)
    assert "rank_genes_groups" not in ours.uns
    expected = ranked(sc, widened(theirs), "text")
    assert_same_ranks(copy.uns["rank_genes_groups"], expected)


@pytest.mark.parametrize("options", [{}, {"groups": ["d", "a"]}, {"groups": ["d", "a", "b"]}])
def test_logistic_regression(pair, options):
    pytest.importorskip("sklearn")
    theirs, ours = pair
    options = {"method": "logreg", "max_iter": 200, "C": 0.5, **options}
    expected = ranked(sc, theirs, "named", **options)
    assert_same_ranks(ranked(slaf_sc, ours, "named", **options), expected, rtol=1e-5)
    with pytest.raises(slaf.InvalidArgumentError, match="single cluster"):
        ranked(slaf_sc, ours, "named", method="logreg", groups=["a"])


def test_thousands_of_groups(tmp_path):
    random = np.random.default_rng(5)
    X = sp.random(4000, 40, 0.3, "csr", "f4", rng=random)
    X.data = np.log1p(random.poisson(2, X.nnz)).astype("f4")
    obs = pd.DataFrame({"guide": pd.Categorical.from_codes(np.arange(4000) % 1300, range(1300))})
    obs["guide"] = obs["guide"].cat.rename_categories(lambda i: f"p{i}")
    obs.index = [str(i) for i in range(4000)]
    adata = ad.AnnData(X, obs=obs, var=pd.DataFrame(index=[f"g{i}" for i in range(40)]))
    SLAFConverter().convert_anndata(adata, tmp_path / "a.slaf")
    ours, dense = read_slaf(tmp_path / "a.slaf"), X.toarray()
    for reference in ("rest", "p7"):
        for method in ("wilcoxon", "t-test"):
            found = ranked(
                slaf_sc, ours, "guide", method=method, reference=reference, tie_correct=True
            )
            for group in ("p0", "p600", "p1299"):
                ins = (obs["guide"] == group).to_numpy()
                outs = ~ins if reference == "rest" else (obs["guide"] == reference).to_numpy()
                if method == "wilcoxon":
                    options = {"use_continuity": False, "method": "asymptotic"}
                    p = scipy.stats.mannwhitneyu(dense[ins], dense[outs], **options).pvalue
                else:
                    p = scipy.stats.ttest_ind(
                        dense[ins].astype("f8"), dense[outs].astype("f8"), equal_var=False
                    ).pvalue
                p = pd.Series(np.nan_to_num(p, nan=1), index=adata.var_names).sort_index()
                np.testing.assert_allclose(by_gene(found, "pvals", group), p, rtol=1e-6)


def test_threads_and_parts_do_not_matter(tmp_path):
    adata = synthetic()
    for name, rows in (("whole", "100000"), ("parts", "37")):
        adata.write_h5ad(tmp_path / "a.h5ad")
        files = [tmp_path / "a.h5ad", tmp_path / f"{name}.slaf"]
        environment = {**os.environ, "SLAF_FRAGMENT_ROWS": rows}
        run_slaf("convert", *files, env=environment, check=True, timeout=120)
    code = """
        import hashlib, json, sys, warnings
        warnings.simplefilter("ignore")
        from slaf.integrations import pp, read_slaf
        from slaf.integrations import scanpy as slaf_sc
        out = []
        for layer in (None, "counts"):
            adata = read_slaf(sys.argv[1])
            pp.normalize_total(adata, target_sum=100, layer=layer)
            pp.log1p(adata, layer=layer)
            for method in ("wilcoxon", "t-test"):
                for reference in ("rest", "a"):
                    slaf_sc.tl.rank_genes_groups(
                        adata, "group", method=method, reference=reference, layer=layer
                    )
                    found = adata.uns["rank_genes_groups"]
                    for slot in ("names", "scores", "pvals", "logfoldchanges"):
                        out.append(hashlib.sha256(repr(found[slot].tolist()).encode()).hexdigest())
        print(json.dumps(out))
    """

    def run(store, threads, values, rows):
        environment = {
            **os.environ,
            "RAYON_NUM_THREADS": str(threads),
            "TOKIO_WORKER_THREADS": str(threads),
            "SLAF_PART_VALUES": str(values),
            "SLAF_BATCH_ROWS": str(rows),
        }
        command = [sys.executable, "-c", textwrap.dedent(code), str(tmp_path / f"{store}.slaf")]
        return json.loads(subprocess.check_output(command, env=environment, timeout=120))

    expected = run("whole", 1, 10**6, 4096)
    assert run("whole", 2, 10**6, 4096) == expected
    assert run("whole", 5, 10**6, 4096) == expected
    # Sums of the t-tests are added in the order of parts: only ranks are compared.
    for store, threads, values, rows in (("parts", 2, 1, 3), ("whole", 5, 40, 7)):
        tiny = run(store, threads, values, rows)
        ranks = [i for i in range(len(expected)) if i % 16 < 8]
        assert [tiny[i] for i in ranks] == [expected[i] for i in ranks]


def test_real_data(shared_data, opened):
    def pbmc():
        adata = ad.read_h5ad(shared_data / "pbmc3k_raw.h5ad")[::2].copy()
        sc.pp.filter_genes(adata, min_cells=3)
        sc.pp.normalize_total(adata, target_sum=1e4)
        sc.pp.log1p(adata)
        depth = np.asarray(adata.X.sum(axis=1)).ravel()
        adata.obs["depth"] = pd.qcut(depth, 6, labels=list("uvwxyz"))
        return adata

    theirs, ours = opened("pbmc", pbmc)
    for method in ("t-test", "wilcoxon"):
        expected = ranked(sc, widened(theirs), "depth", method=method, pts=True)
        assert_same_ranks(ranked(slaf_sc, ours, "depth", method=method, pts=True), expected)


def test_reduced_data_with_raw_and_plots(shared_data, opened):
    import matplotlib

    matplotlib.use("Agg")
    theirs, ours = opened("reduced", lambda: ad.read_h5ad(shared_data / "pbmc68k_reduced.h5ad"))
    for m, adata in ((sc, theirs), (slaf_sc, ours)):
        ranked(m, adata, "bulk_labels", use_raw=None, method="wilcoxon", pts=True)
    assert_same_ranks(ours.uns["rank_genes_groups"], theirs.uns["rank_genes_groups"])
    sc.pl.rank_genes_groups(ours, n_genes=3, show=False)
    # A dendrogram is made of X in memory.
    sc.pl.rank_genes_groups_dotplot(ours, n_genes=2, show=False, dendrogram=False)
    sc.pl.rank_genes_groups_violin(ours, groups=["Dendritic"], n_genes=2, show=False)
    matplotlib.pyplot.close("all")
    for options in ({}, {"min_fold_change": 3}, {"compare_abs": True, "max_out_group_fraction": 1}):
        for m, adata in ((sc, theirs), (slaf_sc, ours)):
            m.tl.filter_rank_genes_groups(adata, **options)
        key = "rank_genes_groups_filtered"
        a, b = ours.uns[key], theirs.uns[key]
        assert a["names"].dtype == b["names"].dtype
        for group in b["names"].dtype.names:
            left = {g for g in b["names"][group] if isinstance(g, str)}
            assert {g for g in a["names"][group] if isinstance(g, str)} == left


@pytest.mark.parametrize("options", [{}, {"reference": "b"}, {"pts": True, "groups": ["a", "b"]}])
def test_filters_without_shares(small_pair, options):
    theirs, ours = small_pair
    theirs = widened(theirs)
    for m, adata in ((sc, theirs), (slaf_sc, ours)):
        ranked(m, adata, "named", method="wilcoxon", n_genes=30, **options)
        for name, bounds in (("one", {}), ("two", {"min_fold_change": 0.1, "compare_abs": True})):
            m.tl.filter_rank_genes_groups(adata, key_added=name, **bounds)
    for name in ("one", "two"):
        a, b = ours.uns[name]["names"], theirs.uns[name]["names"]
        for group in b.dtype.names:
            left = {g for g in b[group] if isinstance(g, str)}
            assert {g for g in a[group] if isinstance(g, str)} == left
    with pytest.raises(slaf.UnknownNameError, match="rank_genes_groups first"):
        slaf_sc.tl.filter_rank_genes_groups(ours, key="nothing")


@pytest.mark.parametrize("method", ["t-test", "logreg"])
@pytest.mark.parametrize("reference", ["rest", "a"])
def test_frames(small_pair, method, reference):
    theirs, ours = small_pair
    # The same result in both, so that the order of equal scores is the same.
    options = {"method": method, "reference": reference, "pts": method == "t-test"}
    theirs.uns["rank_genes_groups"] = ranked(slaf_sc, ours, "named", **options)
    for adata in (theirs, ours):
        adata.var["symbol"] = [f"S{i}" for i in range(90)]
    calls = [
        {"group": "b"},
        {"group": ["d", "b"]},
        {"group": None},
        {"group": "c", "pval_cutoff": 0.05, "log2fc_min": 0},
        {"group": None, "log2fc_max": 0.2},
        {"group": None, "gene_symbols": "symbol"},
    ]
    for call in calls:
        got = slaf_sc.get.rank_genes_groups_df(ours, **call)
        expected = sc.get.rank_genes_groups_df(theirs, **call)
        assert sorted(got.columns) == sorted(expected.columns)
        by = [name for name in ("group", "names") if name in got]
        if "group" in got:
            # scanpy loses the categories where it has shares.
            expected["group"] = expected["group"].astype(got["group"].dtype)
        got, expected = (f.sort_values(by, ignore_index=True) for f in (got, expected))
        pd.testing.assert_frame_equal(got, expected[list(got.columns)])
    with pytest.raises(slaf.UnknownNameError):
        slaf_sc.get.rank_genes_groups_df(ours, "nothing")


# Pseudobulk


@pytest.mark.parametrize("by", ["batch", ["group", "batch"]])
def test_pseudobulk(pair, by):
    theirs, ours = pair
    theirs.obs["donor_age"] = theirs.obs["batch"].map({"one": 30, "two": 40}).astype(int)
    ours.obs["donor_age"] = theirs.obs["donor_age"]
    bulk = slaf_sc.get.pseudobulk(ours, by, layer="counts")
    keys = [by] if isinstance(by, str) else by
    counts = theirs.layers["counts"]
    counts = counts.toarray() if sp.issparse(counts) else counts
    frame = pd.DataFrame(counts.astype(np.int64), index=theirs.obs_names, columns=theirs.var_names)
    expected = frame.groupby([theirs.obs[k] for k in keys], observed=True).sum()
    expected.index = ["_".join(i) if isinstance(i, tuple) else i for i in expected.index]
    pd.testing.assert_frame_equal(bulk.to_df(), expected, check_names=False)
    assert bulk.X.dtype == np.int64
    sizes = theirs.obs.groupby(keys, observed=True).size()
    assert list(bulk.obs["n_cells"]) == list(sizes)
    # What is the same in all cells of a combination comes along.
    assert list(bulk.obs["donor_age"]) == [30 if "one" in n else 40 for n in bulk.obs_names]
    assert "age" not in bulk.obs
    assert list(bulk.var.columns) == list(theirs.var.columns)


def test_means_few_cells_and_types(small_pair):
    theirs, ours = small_pair
    X, labels = theirs.X.toarray().astype("f8"), theirs.obs["group"]
    bulk = slaf_sc.get.pseudobulk(ours, "group", func="mean")
    for i, group in enumerate("abcd"):
        np.testing.assert_allclose(bulk.X[i], X[(labels == group).to_numpy()].mean(axis=0))
    sums = slaf_sc.get.pseudobulk(ours, "group")
    assert sums.X.dtype == np.float64
    sizes = labels.value_counts()
    some = slaf_sc.get.pseudobulk(ours, "group", min_cells=int(sizes.median()) + 1)
    assert set(some.obs_names) == set(sizes.index[sizes > sizes.median()])
    none = slaf_sc.get.pseudobulk(ours, "group", min_cells=1000)
    assert none.shape == (0, 90)
    alone = slaf_sc.get.pseudobulk(ours, "alone", layer="counts", min_cells=2)
    assert list(alone.obs_names) == ["y"]
    ours.obs["n_cells"] = ours.obs["group"]
    for wrong in (
        {"func": "median"},
        *({"by": by} for by in ([], None, 3, "n_cells", ["group", "n_cells"])),
        *({"min_cells": n} for n in (-1, 1.5, None)),
    ):
        with pytest.raises(slaf.InvalidArgumentError):
            slaf_sc.get.pseudobulk(ours, **{"by": "group", **wrong})
