"""scanpy's own functions on lazy data sets: they work, or say what to call."""

import matplotlib
import numpy as np
import pandas as pd
import pytest
from against_scanpy import sc, synthetic

import slaf

pytestmark = pytest.mark.filterwarnings("ignore")
GENES = ["g5", "g1", "g37"]


def made():
    adata = synthetic()
    adata.obs["text"] = ["u", "v"] * (adata.n_obs // 2)
    adata.obsm["X_umap"] = np.random.default_rng(0).normal(size=(adata.n_obs, 2))
    adata.raw = adata
    return adata


REFUSED = {
    "normalize_total": sc.pp.normalize_total,
    "log1p": sc.pp.log1p,
    "log1p of a layer": lambda a: sc.pp.log1p(a, layer="counts"),
    "log1p of a matrix": lambda a: sc.pp.log1p(a.X),
    "sqrt": sc.pp.sqrt,
    "filter_cells": lambda a: sc.pp.filter_cells(a, min_genes=3),
    "filter_cells by counts": lambda a: sc.pp.filter_cells(a, min_counts=3),
    "filter_genes": lambda a: sc.pp.filter_genes(a, min_cells=3),
    "qc": lambda a: sc.pp.calculate_qc_metrics(a, percent_top=None, inplace=True),
    "hvg": sc.pp.highly_variable_genes,
    "hvg v3": lambda a: sc.pp.highly_variable_genes(a, flavor="seurat_v3", n_top_genes=9),
    "scale": sc.pp.scale,
    "regress_out": lambda a: sc.pp.regress_out(a, ["age"]),
    "combat": lambda a: sc.pp.combat(a, "batch"),
    "pca": lambda a: sc.pp.pca(a, n_comps=3),
    "pca of a matrix": lambda a: sc.pp.pca(a.X, n_comps=3),
    "subsample": lambda a: sc.pp.subsample(a, n_obs=5),
    "downsample": lambda a: sc.pp.downsample_counts(a, counts_per_cell=10),
    "score_genes": lambda a: sc.tl.score_genes(a, GENES),
    "rank_genes_groups": lambda a: sc.tl.rank_genes_groups(a, "batch", method="t-test"),
    "aggregate": lambda a: sc.get.aggregate(a, "batch", "sum"),
    "aggregate median": lambda a: sc.get.aggregate(a, "batch", "median"),
    "highest genes": lambda a: sc.pl.highest_expr_genes(a, show=False),
}


@pytest.mark.parametrize("view", [False, True])
@pytest.mark.parametrize("call", REFUSED)
def test_functions_refuse_it_before_anything_is_written(opened, call, view):
    _, lazy = opened("itself", made)
    lazy = lazy[:200] if view else lazy
    before = {of: list(getattr(lazy, of)) for of in ("obs", "var", "uns", "obsm", "layers")}
    with pytest.raises(slaf.UnsupportedError, match=r"slaf\.integrations\.pp") as caught:
        REFUSED[call](lazy)
    assert "to_memory()" in str(caught.value)
    assert {of: list(getattr(lazy, of)) for of in before} == before


FRAMES = {
    "obs_df": lambda a: sc.get.obs_df(a, [*GENES, "age", "batch"], [("X_umap", 1)]),
    "obs_df of raw": lambda a: sc.get.obs_df(a, GENES, use_raw=True),
    "obs_df of a layer": lambda a: sc.get.obs_df(a, GENES, layer="counts"),
    "var_df": lambda a: sc.get.var_df(a, ["c27", "c23", "mt"]),
}


@pytest.mark.parametrize("view", [False, True])
@pytest.mark.parametrize("call", FRAMES)
def test_frames_of_genes_are_those_of_data_in_memory(opened, call, view):
    original, lazy = opened("itself", made)
    if view:
        original, lazy = original[20:80, ::-1].copy(), lazy[20:80, ::-1]
    pd.testing.assert_frame_equal(FRAMES[call](lazy), FRAMES[call](original))


PLOTS = {
    "violin": lambda a: sc.pl.violin(a, ["g5", "age"], groupby="text", show=False),
    "scatter": lambda a: sc.pl.scatter(a, "age", "g5", color="batch", show=False),
    "umap": lambda a: sc.pl.umap(a, color=["batch", "g5", "text"], show=False),
    "umap of X": lambda a: sc.pl.umap(a, color="g5", use_raw=False, show=False),
    "dotplot": lambda a: sc.pl.dotplot(a, GENES, "batch", show=False),
    "matrixplot": lambda a: sc.pl.matrixplot(a, GENES, "batch", use_raw=False, show=False),
    "heatmap": lambda a: sc.pl.heatmap(a, GENES, "batch", show=False),
}


def points(axes):
    """The numbers that are drawn."""
    found = []
    for ax in axes:
        found += [np.asarray(c.get_offsets(), dtype=float) for c in ax.collections]
        arrays = [c.get_array() for c in [*ax.collections, *ax.images]]
        found += [np.ma.filled(a, np.nan).astype(float) for a in arrays if a is not None]
    return found


@pytest.mark.parametrize("call", PLOTS)
def test_plots_are_those_of_data_in_memory(opened, call):
    matplotlib.use("Agg")
    from matplotlib import pyplot

    original, lazy = opened("itself", made)
    drawn = []
    for adata in (original, lazy):
        np.random.seed(0)
        PLOTS[call](adata)
        drawn.append(points(pyplot.gcf().axes))
        pyplot.close("all")
    assert drawn[0]
    for ours, theirs in zip(*drawn, strict=True):
        np.testing.assert_allclose(ours, theirs)
