"""Triplets (cell, gene, value) in Parquet, queried by DuckDB."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb
import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from scipy import sparse

from peers import harness

CHUNK_ROWS = 2000
# DuckDB's own default: small enough that a few cells or genes touch little else.
ROW_GROUP = 122_880
BUILD_MEMORY = "8GB"


class ParquetStore(harness.Store):
    """A folder of Parquet files; X sorted by cell (variant `cell`) or by gene (`gene`)."""

    def __init__(self, target: Path, variant: str) -> None:
        self.variant = variant
        self.database = duckdb.connect()
        for name in ("x", "obs", "var"):
            path = str(target / f"{name}.parquet").replace("'", "''")
            self.database.execute(f"CREATE VIEW {name} AS SELECT * FROM read_parquet('{path}')")

    @classmethod
    def build(cls, source: Path, target: Path, variant: str) -> bool:
        """Streams X to Parquet, and sorts it by gene if asked."""
        target.mkdir()
        with h5py.File(source) as file:
            for name in ("obs", "var"):
                table = frame_of(file[name])
                pq.write_table(table, target / f"{name}.parquet", compression="zstd")
            write_triplets(file["X"], target / "x.parquet")
        if variant == "gene":
            sort_by_gene(target / "x.parquet")
        return True

    def close(self) -> None:
        """Closes the database."""
        self.database.close()

    def arrow(self, sql: str) -> pa.Table:
        """Result of a query as an Arrow table."""
        return self.database.sql(sql).to_arrow_table()

    def cells(self, rows: list[int]) -> Any:
        """Triplets of some cells."""
        return self.arrow(f"SELECT cell, gene, value FROM x WHERE {one_of('cell', rows)}")

    def genes(self, cols: list[int]) -> Any:
        """Triplets of some genes."""
        return self.arrow(f"SELECT cell, gene, value FROM x WHERE {one_of('gene', cols)}")

    def submatrix(self, rows: list[int], cols: list[int]) -> Any:
        """Triplets of some genes in some cells."""
        where = f"{one_of('cell', rows)} AND {one_of('gene', cols)}"
        return self.arrow(f"SELECT cell, gene, value FROM x WHERE {where}")

    def everything(self) -> Any:
        """CSR of the triplets, which are stored in the order of CSR."""
        if self.variant == "gene":
            raise harness.NotAvailableError("gene-major copy, for gene queries")
        table = self.arrow("SELECT cell, gene, value FROM x")
        shape = self.database.sql(
            "SELECT (SELECT count(*) FROM obs), (SELECT count(*) FROM var)"
        ).fetchall()[0]
        counts = np.bincount(table["cell"].to_numpy(), minlength=shape[0])
        indptr = np.concatenate([[0], np.cumsum(counts)])
        parts = (table["value"].to_numpy(), table["gene"].to_numpy(), indptr)
        return sparse.csr_matrix(parts, shape=shape)

    def gene_sums(self) -> Any:
        """Aggregation."""
        return self.arrow('SELECT gene AS "index", sum(value) AS value FROM x GROUP BY gene')

    def cell_sums(self) -> Any:
        """Aggregation."""
        return self.arrow('SELECT cell AS "index", sum(value) AS value FROM x GROUP BY cell')

    def filter_cells(self, cell_type: str, min_genes: int) -> Any:
        """Filter of obs."""
        return self.arrow(
            f"SELECT cell_id, total_counts FROM obs WHERE cell_type = '{cell_type}' "
            f"AND n_genes_by_counts >= {min_genes}"
        )

    def filter_counts(self, cell_type: str, batch: str) -> Any:
        """Join of X with filtered obs."""
        return self.arrow(
            "SELECT x.cell, x.gene, x.value FROM x JOIN obs ON x.cell = obs.cell "
            f"WHERE obs.cell_type = '{cell_type}' AND obs.batch = '{batch}'"
        )


def one_of(name: str, values: list[int]) -> str:
    """SQL condition on a column; DuckDB skips row groups by it."""
    return f"{name} IN ({', '.join(map(str, values))})"


def frame_of(group: h5py.Group) -> pa.Table:
    """obs or var as an Arrow table, with the position in the first column."""
    index = group.attrs["_index"]
    columns: dict[str, pa.Array] = {}
    for name in [index, *group.attrs["column-order"]]:
        item = group[name]
        if isinstance(item, h5py.Group):
            categories = pa.array(item["categories"].asstr()[:])
            columns[name] = pa.DictionaryArray.from_arrays(item["codes"][:], categories)
        else:
            columns[name] = pa.array(item.asstr()[:] if item.dtype == object else item[:])
    position = pa.array(np.arange(len(columns[index]), dtype=np.int32))
    return pa.table({"cell" if index == "cell_id" else "gene": position, **columns})


def write_triplets(group: h5py.Group, path: Path) -> None:
    """Streams a CSR group to a Parquet file."""
    schema = pa.schema([("cell", pa.int32()), ("gene", pa.int32()), ("value", pa.float32())])
    indptr = group["indptr"][:]
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for start in range(0, len(indptr) - 1, CHUNK_ROWS):
            stops = indptr[start : start + CHUNK_ROWS + 1]
            cell = np.repeat(
                np.arange(start, start + len(stops) - 1, dtype=np.int32), np.diff(stops)
            )
            part = slice(stops[0], stops[-1])
            table = pa.table([cell, group["indices"][part], group["data"][part]], schema=schema)
            writer.write_table(table, row_group_size=ROW_GROUP)


def sort_by_gene(path: Path) -> None:
    """Rewrites a file of triplets in the order of genes."""
    unsorted = path.with_name("unsorted.parquet")
    path.rename(unsorted)
    with duckdb.connect() as database:
        database.execute(f"SET memory_limit = '{BUILD_MEMORY}'")
        database.execute(f"SET temp_directory = '{path.parent / 'spill'}'")
        database.execute(
            f"COPY (SELECT * FROM read_parquet('{unsorted}') ORDER BY gene, cell) TO '{path}' "
            f"(FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE {ROW_GROUP})"
        )
    unsorted.unlink()
    harness.remove(path.parent / "spill")


if __name__ == "__main__":
    harness.main(ParquetStore)
