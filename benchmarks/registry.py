"""The stores that are compared: one column of the table each, and what its environment holds."""

from __future__ import annotations

from dataclasses import dataclass, field

SLAF = "slaf"
# Makes the data and computes the reference answers as well.
DATA_MODULE = "anndata_h5ad"

NUMERIC = ("numpy==2.5.5", "scipy==1.18.1", "pandas==3.1.1", "h5py==3.16.0")

# Pinned, so that a table names what it measured. The module is a file in `peers/`.
REQUIREMENTS: dict[str, tuple[str, ...]] = {
    "anndata_h5ad": ("anndata==0.13.4", *NUMERIC),
    "anndata_zarr": ("anndata==0.13.4", "zarr==3.4.2", "s3fs==2026.9.0", *NUMERIC),
    "parquet_duckdb": ("duckdb==2.0.0", "pyarrow==26.0.1", *NUMERIC),
    "slafdb_store": (
        "slafdb==0.5.2",
        "polars==1.39.3",
        "pyarrow==23.0.1",
        "pylance==4.0.0",
        "anndata==0.13.4",
        "scanpy==1.12.4",
        "numpy==2.5.5",
        "scipy==1.16.3",
        "pandas==2.3.3",
        "lancedb==0.40.0",
        # Without these pip tries hundreds of releases of each to find ones that agree.
        "boto3==1.43.117",
        "aiobotocore==3.10.0",
        "s3fs==2026.9.0",
    ),
    "annbatch_loader": (
        "annbatch[torch]==0.3.1",
        "torch==2.15.0",
        "zarrs==0.2.3",
        *NUMERIC[:2],
        "h5py==3.16.0",
    ),
    # AnnData 0.13 lists X among the layers, which this release of tiledbsoma cannot ingest.
    "tiledbsoma_store": ("tiledbsoma==2.3.0", "anndata==0.12.19", "scanpy==1.12.4", "numpy==2.5.5"),
    "homeobox_store": (
        "homeobox==0.2.9",
        "anndata==0.13.4",
        "lancedb==0.40.0",
        "obstore==0.12.1",
        "polars==2.1.0",
        "pyarrow==26.0.1",
        "pylance==14.0.2",
        "zarr==3.4.2",
        *NUMERIC,
    ),
    "bpcells_store": (
        "bpcells==0.3.0rc2",
        "numpy==2.2.6",
        "scipy==1.15.3",
        "pandas==2.3.3",
        "h5py==3.16.0",
    ),
}

# Its loader needs these, even for raw batches; without psutil it waits for ever.
REQUIREMENTS["slafdb_loader"] = (*REQUIREMENTS["slafdb_store"], "psutil>=6,<8", "torch==2.15.0")

REQUIREMENTS["tiledbsoma_loader"] = (
    *REQUIREMENTS["tiledbsoma_store"],
    "tiledbsoma-ml==0.1.0",
    "torch==2.15.0",
)
REQUIREMENTS["scdataset_loader"] = (
    "scDataset==0.3.0",
    "anndata==0.13.4",
    "torch==2.15.0",
    *NUMERIC[:2],
    "h5py==3.16.0",
)
# scikit-learn is one that scanpy brings.
REQUIREMENTS["scanpy_analysis"] = (
    "scanpy==1.12.4",
    "anndata==0.13.4",
    "numpy==2.5.5",
    "scipy==1.16.3",
    "pandas==2.3.3",
)
REQUIREMENTS["illico_ranks"] = ("illico==0.6.0", *REQUIREMENTS["scanpy_analysis"])
REQUIREMENTS["scdl_loader"] = (
    "bionemo-scdl==0.1.3",
    "anndata==0.13.4",
    "torch==2.15.0",
    *NUMERIC[:2],
    "h5py==3.16.0",
)

# AnnData 0.13, which most peers read their source with, needs 3.12.
PYTHONS = ("3.12", "3.13")
# This release asks for signals from a thread without the GIL, which ends Python 3.12 and newer with
# a segmentation fault as soon as a slice takes long enough.
OLDER_PYTHONS = {"bpcells_store": ("3.10",)}


@dataclass(frozen=True)
class Task:
    """One question: a method of `peers.harness.Store`, and how its arguments are drawn."""

    method: str
    title: str
    cells: int = 0
    genes: int = 0


TASKS = {
    "open": Task("open", "open"),
    "one_cell": Task("cells", "one cell", cells=1),
    "cells_64": Task("cells", "64 random cells", cells=64),
    "cells_1000": Task("cells", "1,000 random cells", cells=1000),
    "cells_4096": Task("cells", "4,096 random cells", cells=4096),
    "one_gene": Task("genes", "one gene", genes=1),
    "genes_100": Task("genes", "100 scattered genes", genes=100),
    "sub_100x50": Task("submatrix", "100 x 50 submatrix", cells=100, genes=50),
    "sub_500x500": Task("submatrix", "500 x 500 submatrix", cells=500, genes=500),
    "filter": Task("filter_cells", "metadata filter"),
    "filter_counts": Task("filter_counts", "counts of filtered cells"),
    "gene_sums": Task("gene_sums", "per-gene sums"),
    "cell_sums": Task("cell_sums", "per-cell sums"),
    "all_csr": Task("everything", "all of X as CSR"),
}


@dataclass(frozen=True)
class Column:
    """A store in the table: a peer's module, and one of its variants."""

    name: str
    module: str
    variant: str = "default"
    suffix: str = ""
    # Tasks that would only repeat another column.
    skip: tuple[str, ...] = field(default=())


ROW_TASKS = ("one_cell", "cells_64", "cells_1000", "cells_4096", "filter", "filter_counts")

COLUMNS = (
    Column(SLAF, "slaf_store", suffix=".slaf"),
    Column("h5ad", "anndata_h5ad", "backed", ".h5ad"),
    Column("h5ad-gzip", "anndata_h5ad", "gzip", ".h5ad"),
    Column("h5ad-csc", "anndata_h5ad", "csc", ".h5ad", skip=ROW_TASKS),
    Column("h5ad-memory", "anndata_h5ad", "memory", ".h5ad"),
    Column("zarr", "anndata_zarr", suffix=".zarr"),
    Column("parquet", "parquet_duckdb", "cell"),
    Column("parquet-gene", "parquet_duckdb", "gene", skip=ROW_TASKS),
    Column("slafdb", "slafdb_store", "default", ".slaf"),
    Column("slafdb-plain", "slafdb_store", "plain", ".slaf"),
    Column("tiledbsoma", "tiledbsoma_store", suffix=".soma"),
    Column("homeobox", "homeobox_store"),
    Column("bpcells", "bpcells_store", "cell"),
    Column("bpcells-gene", "bpcells_store", "gene"),
)
