"""homeobox atlases: obs in LanceDB, counts in zarr.

Its schemas look at annotations when classes are made, so that none may be a text here.
"""

from pathlib import Path
from typing import Any

import anndata
import homeobox
import numpy as np
import pandas as pd
import polars as pl
import selections

from peers import harness

SPACE = "gene_expression"
GROUP = "counts"


class Gene(homeobox.FeatureBaseSchema):
    """A row of the registry of genes."""

    gene_id: str = homeobox.StableUIDField.declare(default=...)


class Cell(homeobox.HoxBaseSchema):
    """A row of obs."""

    cell: int
    cell_id: str
    cell_type: str
    batch: str
    donor: str
    n_genes_by_counts: int
    total_counts: float
    pct_counts_mt: float
    doublet_score: float
    gene_expression: homeobox.SparseZarrPointer | None = homeobox.PointerField.declare(
        feature_space=SPACE
    )


def uids(names: list[str]) -> list[str]:
    """Identifiers of genes, which follow from their names."""
    return Gene.compute_stable_uids(pd.DataFrame({"gene_id": names}))["uid"].tolist()


def one_of(name: str, values: list[Any]) -> str:
    """SQL condition on a column."""
    return f"{name} IN ({', '.join(map(repr, values))})"


class HomeoboxStore(harness.Store):
    """The latest snapshot; genes have the copy by gene that `add_csc` makes."""

    def __init__(self, target: Path, variant: str) -> None:
        self.atlas = homeobox.RaggedAtlas.checkout_latest(str(target))

    @classmethod
    def build(cls, source: Path, target: Path, variant: str) -> bool:
        """Ingests the h5ad file, read whole."""
        data = anndata.read_h5ad(source)
        data.X = data.X.astype(np.uint32)
        data.var = Gene.compute_stable_uids(
            pd.DataFrame({"gene_id": data.var_names.to_numpy()}, index=data.var_names)
        )
        obs = data.obs.astype(dict.fromkeys(("cell_type", "batch", "donor"), str))
        obs["cell_id"], obs["cell"] = obs.index.to_numpy(), np.arange(len(obs))
        data.obs = obs.rename_axis(None)
        atlas = homeobox.create_or_open_atlas(
            atlas_path=str(target),
            obs_schemas={"cells": Cell},
            dataset_table_name="datasets",
            dataset_schema=homeobox.DatasetSchema,
            registry_schemas={SPACE: Gene},
        )
        atlas.register_features(SPACE, pl.from_pandas(data.var))
        record = homeobox.DatasetSchema(zarr_group=GROUP, feature_space=SPACE)
        homeobox.add_from_anndata(
            atlas, data, field_name=SPACE, zarr_layer="counts", dataset_record=record
        )
        homeobox.add_csc(atlas, GROUP, SPACE)
        atlas.optimize()
        atlas.snapshot()
        return True

    def cells(self, rows: list[int]) -> Any:
        """Counts of some cells."""
        return matrix(self.atlas.query().where(one_of("cell", rows)).to_anndata(), rows)

    def genes(self, cols: list[int]) -> Any:
        """Counts of some genes."""
        wanted = uids(selections.gene_names(max(cols) + 1))
        found = self.atlas.query().features([wanted[i] for i in cols], SPACE).to_anndata()
        return matrix(found, range(found.n_obs))

    def filter_cells(self, cell_type: str, min_genes: int) -> Any:
        """Filter of obs."""
        condition = f"cell_type = '{cell_type}' AND n_genes_by_counts >= {min_genes}"
        return self.atlas.query().where(condition).select(["cell_id", "total_counts"]).to_polars()


def matrix(found: anndata.AnnData, cells: Any) -> Any:
    """Counts of what a query found, which has cells and genes in an order of its own."""
    rows = pd.Index(found.obs["cell"]).get_indexer(list(cells))
    return found.X[rows][:, np.argsort(found.var["gene_id"].to_numpy())]


if __name__ == "__main__":
    harness.main(HomeoboxStore)
