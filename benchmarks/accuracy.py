"""Measures how far the numbers of slaf are from scanpy's, and both from float64, on real cells.

    python accuracy.py [--data FOLDER] [--skip-slow]

Takes pbmc3k_raw.h5ad (2,700 cells x 32,738 genes) and pbmc68k_reduced.h5ad (700 x 765, logarithms,
whose raw is taken for X) of a folder, makes stores of them, and calls the same functions with the
same arguments on both. Each normalises its own counts; variable genes, embeddings and clusters that
a step needs are scanpy's for both, so that no error is that of another step. Prints one Markdown
table.
"""

from __future__ import annotations

import argparse
import logging
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import scanpy as sc

from slaf.data import SLAFConverter
from slaf.integrations import pp, read_slaf, tl

COMPONENTS = 50
NEIGHBORS = 15
TESTS: dict[str, dict[str, Any]] = {
    "t-test": {},
    "t-test_overestim_var": {},
    "wilcoxon": {"tie_correct": True},
    "logreg": {"max_iter": 1000},
}

Row = tuple[str, str, str]


def relative(ours: Any, theirs: Any) -> float:
    """The largest difference, relative to the size of the other where that is above 1e-300."""
    a, b = (np.asarray(values, np.float64).ravel() for values in (ours, theirs))
    both = np.isfinite(a) & np.isfinite(b)
    assert (np.isfinite(a) == np.isfinite(b)).all(), (
        "values are missing in one and not in the other"
    )
    a, b = a[both], b[both]
    differ = a != b
    if not differ.any():
        return 0.0
    return float((np.abs(a - b)[differ] / np.maximum(np.abs(b[differ]), 1e-300)).max())


def absolute(ours: Any, theirs: Any) -> float:
    """The largest difference."""
    a, b = (np.asarray(values, np.float64).ravel() for values in (ours, theirs))
    return float(np.nanmax(np.abs(a - b), initial=0.0))


def shown(number: float) -> str:
    """A difference in words."""
    return "none" if number == 0 else f"{number:.1e}"


class Data:
    """A data set, for slaf and for scanpy."""

    def __init__(self, adata: ad.AnnData, folder: Path, name: str, labels: str | None):
        self.name, self.path = name, str(folder / f"{name}.slaf")
        self.labels = labels
        self.theirs = adata
        SLAFConverter().convert_anndata(adata, self.path)

    def opened(self) -> tuple[Any, ad.AnnData]:
        """Both, as they were stored."""
        return read_slaf(self.path), self.theirs.copy()


def cells_and_genes(data: Data) -> Iterator[Row]:
    """Quality control."""
    ours, theirs = data.opened()
    for adata in (ours, theirs):
        adata.var["mt"] = np.asarray(adata.var_names.str.startswith("MT-"))
    top = (50, 100)
    found = [
        module.calculate_qc_metrics(adata, qc_vars=["mt"], percent_top=top)
        for module, adata in ((pp, ours), (sc.pp, theirs))
    ]
    for what, of_slaf, of_scanpy in zip(("cells", "genes"), *found, strict=True):
        worst = {n: relative(of_slaf[n], of_scanpy[n]) for n in of_scanpy}
        name = max(worst, key=lambda n: worst[n])
        equal = sum(value == 0 for value in worst.values())
        text = f"{shown(worst[name])}" + ("" if equal == len(worst) else f" (`{name}`)")
        yield "QC", f"{len(worst)} columns of {what}: largest relative difference", text


def logarithms(adata: Any, module: Any) -> None:
    """Normalise counts, unless there are logarithms."""
    module.normalize_total(adata, target_sum=1e4)
    module.log1p(adata)


def variable_genes(data: Data, is_counts: bool) -> Iterator[Row]:
    """Highly variable genes."""
    flavors = ("seurat", "cell_ranger", "seurat_v3") if is_counts else ("seurat",)
    for flavor in flavors:
        ours, theirs = data.opened()
        for module, adata in ((pp, ours), (sc.pp, theirs)):
            module.filter_genes(adata, min_cells=3)
            if is_counts and flavor != "seurat_v3":
                logarithms(adata, module)
            n = min(2000, adata.n_vars // 4)
            module.highly_variable_genes(adata, flavor=flavor, n_top_genes=n)
        a, b = (set(np.flatnonzero(x.var["highly_variable"])) for x in (ours, theirs))
        yield f"HVG, {flavor}", "genes in both", f"{len(a & b):,} of {len(b):,}"
        names = [n for n in theirs.var if n.startswith(("means", "variances", "dispersions"))]
        # Normalised dispersions are around zero.
        measure = {n: absolute if n == "dispersions_norm" else relative for n in names}
        worst = [f"`{n}` {shown(measure[n](ours.var[n], theirs.var[n]))}" for n in names]
        yield (
            f"HVG, {flavor}",
            "largest relative difference (of normalised absolute)",
            ", ".join(worst),
        )


def exact_components(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Loadings (components x genes) and variances from the singular values of a float64 matrix."""
    centred = values.astype(np.float64)
    centred -= centred.mean(axis=0)
    _, singular, loadings = np.linalg.svd(centred, full_matrices=False)
    return loadings[:COMPONENTS], singular[:COMPONENTS] ** 2 / (len(values) - 1)


def cosines(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """|cos| of the angles between loadings, genes x components."""
    a, b = (loadings.astype(np.float64) for loadings in (ours, theirs))
    return np.abs((a * b).sum(0)) / np.linalg.norm(a, axis=0) / np.linalg.norm(b, axis=0)


def components(data: Data, is_counts: bool) -> tuple[list[Row], np.ndarray]:
    """PCA of the genes that scanpy finds variable."""
    ours, theirs = data.opened()
    for module, adata in ((pp, ours), (sc.pp, theirs)):
        if is_counts:
            logarithms(adata, module)
    sc.pp.highly_variable_genes(theirs, n_top_genes=min(2000, theirs.n_vars // 2))
    mask = theirs.var["highly_variable"].to_numpy()
    for module, adata in ((pp, ours), (sc.pp, theirs)):
        module.pca(adata, n_comps=COMPONENTS, mask_var=mask)
    loadings, variances = exact_components(theirs[:, mask].X.toarray())
    rows: list[Row] = []
    of = {"slaf": ours, "scanpy": theirs}
    for name, adata in of.items():
        found = cosines(adata.varm["PCs"][mask], loadings.T)
        variance = relative(adata.uns["pca"]["variance"], variances)
        rows.append(
            (
                "PCA",
                f"lowest \\|cos\\| of 50 components, {name} and float64",
                f"1 - {max(1 - found.min(), 0):.1e}",
            )
        )
        rows.append(("PCA", f"explained variance, {name} and float64", shown(variance)))
    between = cosines(ours.varm["PCs"][mask], theirs.varm["PCs"][mask])
    rows.append(
        (
            "PCA",
            "lowest \\|cos\\| of 50 components, slaf and scanpy",
            f"1 - {max(1 - between.min(), 0):.1e}",
        )
    )
    signs = (ours.obsm["X_pca"] * theirs.obsm["X_pca"]).sum(0) > 0
    rows.append(("PCA", "components of the same sign", f"{signs.sum()} of {COMPONENTS}"))
    return rows, np.asarray(theirs.obsm["X_pca"])


def graph(data: Data, embedding: np.ndarray) -> Iterator[Row]:
    """Neighbours in scanpy's components."""
    from sklearn.neighbors import NearestNeighbors

    exact = NearestNeighbors(n_neighbors=NEIGHBORS - 1, algorithm="brute")
    exact.fit(embedding.astype(np.float64))
    # Without the cell itself, as graphs are.
    others = exact.kneighbors_graph(mode="connectivity").tolil().rows
    ours, theirs = data.opened()
    for module, adata in ((pp, ours), (sc.pp, theirs)):
        adata.obsm["X_pca"] = embedding
        module.neighbors(adata, n_neighbors=NEIGHBORS, use_rep="X_pca")
    for name, adata in (("slaf", ours), ("scanpy", theirs)):
        rows = adata.obsp["distances"].tolil().rows
        same = sum(len(set(a) & set(b)) for a, b in zip(rows, others, strict=True))
        yield "neighbours", f"recall of {name}", f"{same / len(rows) / (NEIGHBORS - 1):.6f}"
    for key in ("distances", "connectivities"):
        difference = abs(ours.obsp[key] - theirs.obsp[key]).max()
        yield "neighbours", f"`{key}`: largest difference", shown(float(difference))


def markers(data: Data, is_counts: bool, skip_slow: bool) -> Iterator[Row]:
    """Differential expression of clusters."""
    for method, options in TESTS.items():
        if method == "logreg" and skip_slow:
            continue
        ours, theirs = data.opened()
        for module, adata in ((pp, ours), (sc.pp, theirs)):
            if is_counts:
                module.filter_genes(adata, min_cells=3)
                logarithms(adata, module)
        exact = theirs.copy()
        exact.X = exact.X.astype(np.float64)
        labels = data.theirs.obs[data.labels or "clusters"]
        for adata in (ours, theirs, exact):
            adata.obs["label"] = labels
            tools = tl if adata is ours else sc.tl
            if adata is exact and method in ("logreg", "wilcoxon"):
                # It is float32 that is ranked, and fitted.
                continue
            tools.rank_genes_groups(adata, "label", method=method, use_raw=False, **options)
        others = {"scanpy": theirs}
        if method.startswith("t-test"):
            others["scanpy in float64"] = exact
        for other, adata in others.items():
            yield f"DE, {method}", f"slaf and {other}", columns_apart(ours, adata)


def columns_apart(ours: Any, theirs: Any) -> str:
    """The differences of each column of a result, gene by gene."""
    a, b = (adata.uns["rank_genes_groups"] for adata in (ours, theirs))
    words = []
    for name in ("scores", "pvals", "pvals_adj", "logfoldchanges"):
        if name not in b:
            continue
        worst = 0.0
        for group in b["names"].dtype.names:
            of = [
                dict(zip(found["names"][group], found[name][group], strict=True))
                for found in (a, b)
            ]
            genes = list(of[1])
            pair = [np.array([values[gene] for gene in genes], np.float64) for values in of]
            if name in ("pvals", "pvals_adj"):
                # Of numbers that have all digits.
                pair = [np.where(pair[1] > 1e-300, values, 0) for values in pair]
                worst = max(worst, relative(*pair))
            else:
                worst = max(worst, absolute(*pair))
        words.append(f"`{name}` {shown(worst)}")
    return ", ".join(words)


def doublets(data: Data) -> Iterator[Row]:
    """Scrublet."""
    ours, theirs = data.opened()
    for module, adata in ((pp, ours), (sc.pp, theirs)):
        module.scrublet(adata, threshold=0.25)
    difference = absolute(ours.obs["doublet_score"], theirs.obs["doublet_score"])
    yield "Scrublet", "`doublet_score`: largest difference", shown(difference)


def integrated(data: Data, embedding: np.ndarray) -> Iterator[Row]:
    """Harmony, of cells whose batches are made up."""
    import harmonypy

    logging.getLogger("harmonypy").setLevel(logging.WARNING)
    ours, theirs = data.opened()
    for adata in (ours, theirs):
        adata.obsm["X_pca"] = embedding
        adata.obs["batch"] = [f"b{i % 3}" for i in range(adata.n_obs)]
    pp.harmony_integrate(ours, "batch")
    found = harmonypy.run_harmony(embedding.astype(np.float64), theirs.obs, ["batch"]).Z_corr
    found = np.asarray(found)
    found = found if found.shape == embedding.shape else found.T
    difference = absolute(ours.obsm["X_pca_harmony"], found)
    yield "Harmony", "slaf and harmonypy: largest difference", shown(difference)


def clusters(adata: ad.AnnData) -> None:
    """Labels for a data set that has none: scanpy's clusters."""
    other = adata.copy()
    logarithms(other, sc.pp)
    sc.pp.highly_variable_genes(other, n_top_genes=2000)
    sc.pp.pca(other)
    sc.pp.neighbors(other)
    sc.tl.leiden(other, flavor="igraph", n_iterations=2, directed=False)
    adata.obs["clusters"] = other.obs["leiden"]


def rows_of(data: Data, is_counts: bool, skip_slow: bool) -> Iterator[Row]:
    """All that is measured of a data set."""
    if is_counts:
        yield from cells_and_genes(data)
    yield from variable_genes(data, is_counts)
    rows, embedding = components(data, is_counts)
    yield from rows
    yield from graph(data, embedding)
    yield from markers(data, is_counts, skip_slow)
    if is_counts:
        yield from doublets(data)
    yield from integrated(data, embedding)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    here = Path(__file__).resolve().parents[1]
    parser.add_argument("--data", type=Path, default=here.parent / "shared" / "data")
    parser.add_argument("--skip-slow", action="store_true", help="leave the regression out")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    pbmc3k = ad.read_h5ad(args.data / "pbmc3k_raw.h5ad")
    clusters(pbmc3k)
    reduced = ad.read_h5ad(args.data / "pbmc68k_reduced.h5ad")
    pbmc68k = ad.AnnData(reduced.raw.X, obs=reduced.obs[["bulk_labels"]], var=reduced.raw.var[[]])
    # Of labels with one cell no variance is known.
    counts = pbmc68k.obs["bulk_labels"].value_counts()
    pbmc68k = pbmc68k[pbmc68k.obs["bulk_labels"].isin(counts.index[counts > 1])].copy()
    columns: dict[str, dict[tuple[str, str], str]] = {}
    with tempfile.TemporaryDirectory() as folder:
        sets: list[tuple[Data, bool]] = [
            (Data(pbmc3k, Path(folder), "pbmc3k", None), True),
            (Data(pbmc68k, Path(folder), "pbmc68k", "bulk_labels"), False),
        ]
        for data, is_counts in sets:
            found = rows_of(data, is_counts, args.skip_slow)
            columns[data.name] = {(step, what): value for step, what, value in found}
    keys = dict.fromkeys(key for column in columns.values() for key in column)
    print("| step | what | " + " | ".join(columns) + " |")
    print("|---|---|" + "---|" * len(columns))
    for key in keys:
        print(
            f"| {key[0]} | {key[1]} | "
            + " | ".join(c.get(key, "") for c in columns.values())
            + " |"
        )


if __name__ == "__main__":
    main()
