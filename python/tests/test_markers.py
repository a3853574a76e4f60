"""Results of rank_genes_groups that are gone on with: other genes, numbers for groups, filters."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from against_scanpy import sc

import slaf
from slaf.integrations import scanpy as slaf_sc
from slaf.integrations.scanpy import _common

pytestmark = pytest.mark.filterwarnings("ignore")


def made():
    random = np.random.default_rng(2)
    kind = np.arange(90) % 3
    mean = random.gamma(0.5, 2, (3, 30))
    X = np.log1p(random.poisson(mean[kind])).astype("f4")
    obs = pd.DataFrame(
        {
            "kind": pd.Categorical.from_codes(kind, list("abc")),
            "number": pd.Categorical(kind),
            "flag": pd.Categorical(kind == 1),
        },
        index=[f"c{i}" for i in range(90)],
    )
    var = pd.DataFrame({"symbol": [f"S{i}" for i in range(30)]}, index=[f"g{i}" for i in range(30)])
    return ad.AnnData(sp.csr_matrix(X), obs=obs, var=var)


@pytest.fixture
def pair(opened):
    return opened("markers", made)


def test_a_reference_alone_is_compared_with_nothing(pair):
    _, ours = pair
    for groups, reference in ((["b"], "b"), (np.array(["b"]), "b")):
        for method in ("t-test", "wilcoxon"):
            options = {"groups": groups, "reference": reference, "method": method}
            with pytest.raises(slaf.InvalidArgumentError, match="no other to compare"):
                slaf_sc.tl.rank_genes_groups(ours, "kind", **options)
    assert "rank_genes_groups" not in ours.uns


def left(adata, key="rank_genes_groups_filtered"):
    names = adata.uns[key]["names"]
    return {g: {n for n in names[g] if isinstance(n, str)} for g in names.dtype.names}


FEW = {"min_fold_change": 0.2, "min_in_group_fraction": 0.1, "max_out_group_fraction": 0.9}


@pytest.mark.parametrize("groups", [None, [2, 0], np.array([2, 0]), ["2"], [True]])
@pytest.mark.parametrize("reference", ["rest", 1])
def test_groups_that_are_numbers(pair, groups, reference):
    _, ours = pair
    ours.obs["as text"] = ours.obs["number"].cat.rename_categories(str)
    ours.obs["flag text"] = ours.obs["flag"].cat.rename_categories(str)
    if groups is not None and list(groups) == ["2"]:
        with pytest.raises(slaf.InvalidArgumentError, match="need to be some of"):
            slaf_sc.tl.rank_genes_groups(ours, "number", groups=groups)
        return
    is_flag = groups is not None and list(groups) == [True]
    columns = ("flag", "flag text") if is_flag else ("number", "as text")
    reference = {1: False}.get(reference, reference) if is_flag else reference
    found = []
    for column in columns:
        is_text = column.endswith("text")
        named = "all" if groups is None else [str(g) for g in groups] if is_text else groups
        other = str(reference) if is_text else reference
        slaf_sc.tl.rank_genes_groups(ours, column, groups=named, reference=other)
        found.append(ours.uns["rank_genes_groups"])
    assert found[0]["names"].dtype.names == found[1]["names"].dtype.names
    for group in found[0]["names"].dtype.names:
        np.testing.assert_array_equal(found[0]["scores"][group], found[1]["scores"][group])
    if groups is None:
        one, other = (slaf_sc.get.rank_genes_groups_df(ours, g) for g in (2, "2"))
        pd.testing.assert_frame_equal(one, other)
        assert len(slaf_sc.get.rank_genes_groups_df(ours, [0, 2])) == 60


@pytest.mark.parametrize("pts", [True, False])
def test_filters_of_fewer_genes(pair, pts):
    theirs, ours = pair
    for m, adata in ((sc, theirs), (slaf_sc, ours)):
        m.tl.rank_genes_groups(adata, "kind", pts=pts)
    theirs, ours = theirs[:, 20:].copy(), ours[:, 20:].copy()
    if not pts:
        # The last gene stood for those that were gone.
        with pytest.raises(slaf.UnknownNameError, match=r"20 genes .* are not in the data set"):
            slaf_sc.tl.filter_rank_genes_groups(ours)
        assert "rank_genes_groups_filtered" not in ours.uns
        return
    for m, adata in ((sc, theirs), (slaf_sc, ours)):
        m.tl.filter_rank_genes_groups(adata, **FEW)
    assert left(ours) == left(theirs)


@pytest.mark.parametrize("pts", [True, False])
def test_filters_of_what_was_filtered(pair, pts):
    _, ours = pair
    slaf_sc.tl.rank_genes_groups(ours, "kind", pts=pts)
    slaf_sc.tl.filter_rank_genes_groups(ours, key_added="one", **FEW)
    more = {**FEW, "min_fold_change": 1}
    slaf_sc.tl.filter_rank_genes_groups(ours, key_added="both", **more)
    slaf_sc.tl.filter_rank_genes_groups(ours, key="one", key_added="two", **more)
    assert left(ours, "two") == left(ours, "both")
    assert any(left(ours, "both").values())
    slaf_sc.tl.filter_rank_genes_groups(ours, key_added="none", min_fold_change=99)
    slaf_sc.tl.filter_rank_genes_groups(ours, key="none", key_added="still", **FEW)
    assert not any(left(ours, "still").values())


@pytest.mark.parametrize("pts", [True, False])
def test_names_that_repeat(pair, pts):
    _, ours = pair
    ours.var_names = ["g1", *ours.var_names[1:]]
    slaf_sc.tl.rank_genes_groups(ours, "kind", pts=pts)
    assert "g1" in set(ours.uns["rank_genes_groups"]["names"]["a"])
    for call in (
        lambda: slaf_sc.tl.filter_rank_genes_groups(ours),
        lambda: slaf_sc.get.rank_genes_groups_df(ours, "a", gene_symbols="symbol"),
    ):
        with pytest.raises(slaf.UnknownNameError, match="'g1' is there more than once"):
            call()
    if not pts:
        assert len(slaf_sc.get.rank_genes_groups_df(ours, "a")) == 30


@pytest.mark.parametrize("at_once", [1, 9, 40])
def test_some_genes_at_a_time(pair, monkeypatch, at_once):
    """As with thousands of groups."""
    _, ours = pair
    ours.obs["some"] = ours.obs["kind"].cat.remove_categories("b")

    def found():
        results = []
        for method in ("t-test", "wilcoxon"):
            for options in ({}, {"reference": "c", "tie_correct": method == "wilcoxon"}):
                slaf_sc.tl.rank_genes_groups(ours, "some", method=method, pts=True, **options)
                result = ours.uns["rank_genes_groups"]
                results += [result[slot].tolist() for slot in ("names", "scores", "pvals")]
                results.append(result["pts"])
        for func in ("sum", "mean"):
            results.append(slaf_sc.get.pseudobulk(ours, ["some", "number"], func=func).to_df())
        for func in (["sum", "mean", "count_nonzero"], ["var", "mean"]):
            both = slaf_sc.get.aggregate(ours, ["some", "number"], func)
            results += [both.to_df(layer) for layer in func]
        return results

    expected = found()
    monkeypatch.setattr(_common, "AT_ONCE", at_once)
    for one, other in zip(found(), expected, strict=True):
        if isinstance(one, pd.DataFrame):
            pd.testing.assert_frame_equal(one, other)
        else:
            assert one == other
    ours.X = ours.X.multiply(np.where(np.arange(30) == 17, np.nan, 1))
    with pytest.raises(slaf.InvalidArgumentError, match="gene 'g17' has NaN"):
        slaf_sc.tl.rank_genes_groups(ours, "kind", method="wilcoxon")


def test_categories_that_are_the_same_as_texts(pair):
    _theirs, ours = pair
    values = [1 if i % 3 == 0 else "1" if i % 3 == 1 else "x" for i in range(ours.n_obs)]
    ours.obs["mixed"] = pd.Categorical(values)
    with pytest.raises(slaf.InvalidArgumentError, match="'1' as text"):
        slaf_sc.tl.rank_genes_groups(ours, "mixed")
    slaf_sc.tl.rank_genes_groups(ours, "mixed", groups=["1", "x"])
    assert ours.uns["rank_genes_groups"]["names"].dtype.names == ("1", "x")
