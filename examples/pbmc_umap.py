"""From an h5ad file of counts to a UMAP coloured by a gene.

    python examples/pbmc_umap.py pbmc3k_raw.h5ad --gene CST3 --output umap.png

The first steps stream from the store; from the 2,000 most variable genes on, scanpy works in
memory. Needs scanpy.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import matplotlib as mpl
import scanpy as sc

from slaf.data import SLAFConverter
from slaf.integrations import LazyAnnData, pp, read_slaf


def prepare(adata: LazyAnnData) -> LazyAnnData:
    """Good cells and genes, normalised, with the variable genes marked; nothing of X is held."""
    adata.var["mt"] = adata.var_names.str.startswith("MT-")
    pp.filter_cells(adata, min_genes=200)
    pp.filter_genes(adata, min_cells=3)
    pp.calculate_qc_metrics(adata, qc_vars=["mt"], percent_top=None, inplace=True)
    good = (adata.obs.pct_counts_mt < 5) & (adata.obs.n_genes_by_counts < 2500)
    adata = adata[good].copy()
    pp.normalize_total(adata, target_sum=1e4)
    pp.log1p(adata)
    pp.highly_variable_genes(adata, n_top_genes=2000)
    return adata


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path)
    parser.add_argument("--gene", default="CST3")
    parser.add_argument("--output", type=Path, default=Path("umap.png"))
    args = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder, "counts.slaf")
        SLAFConverter().convert(args.source, store)
        adata = prepare(read_slaf(store))
        print(adata)
        part = adata[:, adata.var.highly_variable].to_memory()
        sc.pp.pca(part)
        sc.pp.neighbors(part)
        sc.tl.umap(part)
        # One gene of all cells, whether it is variable or not.
        column = f"{args.gene} (log)"
        part.obs[column] = adata.obs_vector(args.gene)

    mpl.use("Agg")
    figure = sc.pl.umap(part, color=column, show=False, return_fig=True)
    figure.savefig(args.output, dpi=150, bbox_inches="tight")
    print(f"{part.n_obs} cells in {args.output}")


if __name__ == "__main__":
    main()
