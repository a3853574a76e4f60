"""Times SQL through SLAF and through DuckDB over Parquet, in one process and in turns.

It needs the stores of `run.py` (`--peers slaf,parquet --build-only`), and an interpreter with slaf,
duckdb and pyarrow::

    ~/.cache/slaf/venv/bin/python benchmarks/sql.py --cells 100000
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import duckdb
import polars as pl

from slaf import SLAFArray
from slaf.data import SLAFConverter

# Name and SQL, the same for both. {cell} and {a}, {b} (genes) are drawn anew for each repetition.
TASKS = [
    (
        "join with 1 % of the cells",
        "SELECT e.gene_integer_id, SUM(e.value) AS s FROM expression e "
        "JOIN cells c USING (cell_integer_id) WHERE c.doublet_score > {one_percent} "
        "GROUP BY e.gene_integer_id",
    ),
    (
        "join with 1/12 of the cells",
        "SELECT e.gene_integer_id, SUM(e.value) AS s FROM expression e "
        "JOIN cells c USING (cell_integer_id) WHERE c.cell_type = '{type}' "
        "GROUP BY e.gene_integer_id",
    ),
    (
        "two genes",
        "SELECT cell_integer_id, gene_integer_id, value FROM expression "
        "WHERE gene_integer_id IN ({a}, {b})",
    ),
    (
        "group by gene, stored sums",
        "SELECT gene_integer_id, COUNT(*) AS n, AVG(value) AS m FROM expression "
        "GROUP BY gene_integer_id",
    ),
    (
        "group by gene, computed",
        "SELECT gene_integer_id, COUNT(*) AS n, MAX(value) AS m FROM expression "
        "GROUP BY gene_integer_id",
    ),
    (
        "group by gene, with a filter",
        "SELECT gene_integer_id, COUNT(*) AS n, AVG(value) AS m FROM expression "
        "WHERE value > 1 GROUP BY gene_integer_id",
    ),
    (
        "group by type and gene",
        "SELECT c.cell_type, e.gene_integer_id, AVG(e.value) AS m FROM expression e "
        "JOIN cells c USING (cell_integer_id) GROUP BY c.cell_type, e.gene_integer_id",
    ),
    (
        "one cell",
        "SELECT gene_integer_id, value FROM expression WHERE cell_integer_id = {cell}",
    ),
    (
        "filter and group the cells",
        "SELECT cell_type, COUNT(*) AS n, AVG(total_counts) AS m FROM cells "
        "WHERE batch = 'batch2' AND total_counts > 3000 GROUP BY cell_type",
    ),
]


def database(parquet: Path) -> duckdb.DuckDBPyConnection:
    """DuckDB with the tables that SLAF has: obs as its own table, X as Parquet."""
    connection = duckdb.connect()
    x, obs = parquet / "x.parquet", parquet / "obs.parquet"
    connection.execute(
        f"CREATE VIEW expression AS SELECT cell AS cell_integer_id, gene AS gene_integer_id, value "
        f"FROM read_parquet('{x}')"
    )
    connection.execute(
        "CREATE TABLE cells AS SELECT *, file_row_number AS cell_integer_id "
        f"FROM read_parquet('{obs}', file_row_number = true)"
    )
    return connection


def seconds(run: Callable[[], Any]) -> float:
    """How long a call takes."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def main() -> None:
    """Runs the tasks and prints a table."""
    cache = Path(os.environ.get("SLAF_BENCH_CACHE", Path.home() / ".cache/slaf/bench"))
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", type=int, default=100_000)
    parser.add_argument("--genes", type=int, default=30_000)
    parser.add_argument("--cache", type=Path, default=cache)
    parser.add_argument("--store", type=Path, help="a SLAF store of the data; made if it is absent")
    parser.add_argument("--repetitions", type=int, default=7)
    args = parser.parse_args()
    name = f"{args.cells}x{args.genes}"
    h5ad = args.cache / "data" / f"{name}.h5ad"
    store = args.store or args.cache / "slaf_store" / name / "sql.slaf"
    if not store.exists():
        store.parent.mkdir(parents=True, exist_ok=True)
        SLAFConverter().convert(h5ad, store)
    array = SLAFArray(store, load_metadata=False)
    duck = database(args.cache / "parquet_duckdb" / name / "cell")

    obs = array.obs
    rng = random.Random(0)
    frequent = array.query("SELECT gene_integer_id FROM genes ORDER BY n_cells DESC LIMIT 3000")[
        "gene_integer_id"
    ].to_list()
    fill = {
        "one_percent": obs["doublet_score"].quantile(0.99),
        "type": str(obs["cell_type"].value_counts().sort("count")["cell_type"][6]),
    }
    print("| query | slaf, ms | duckdb over parquet, ms | ratio |")
    print("|---|---:|---:|---:|")
    for label, sql in TASKS:
        ours, theirs = [], []
        for _ in range(args.repetitions + 1):
            a, b = rng.sample(frequent, 2)
            query = sql.format(a=a, b=b, cell=rng.randrange(args.cells), **fill)
            results: list[Any] = []
            ours.append(seconds(lambda: results.append(array.query(query))))  # noqa: B023
            theirs.append(
                seconds(lambda: results.append(pl.DataFrame(duck.sql(query).to_arrow_table())))  # noqa: B023
            )
            if results[0].height != results[1].height:
                sys.exit(f"{label}: {results[0].height} rows, but DuckDB has {results[1].height}")
        # The first of each opens files.
        x, y = (statistics.median(t[1:]) * 1000 for t in (ours, theirs))
        print(f"| {label} | {x:,.1f} | {y:,.1f} | {y / x:.1f}x |", flush=True)
    pandas = seconds(
        lambda: subprocess.run(
            [sys.executable, "-c", PANDAS, str(h5ad)], check=True, stdout=subprocess.DEVNULL
        )
    ) - seconds(lambda: subprocess.run([sys.executable, "-c", IMPORTS], check=True))
    print(f"\nreading the h5ad's obs and filtering in pandas: {pandas * 1000:,.0f} ms")
    for threads in (1, 16):
        print(
            f"{threads} threads: {point_queries(array, threads, args.cells):,.0f} point queries/s"
        )


IMPORTS = "import anndata, pandas"
PANDAS = """
import anndata, sys
obs = anndata.read_h5ad(sys.argv[1], backed="r").obs
found = obs[(obs.batch == "batch2") & (obs.total_counts > 3000)]
print(found.groupby("cell_type", observed=True).total_counts.agg(["count", "mean"]))
"""


def point_queries(array: SLAFArray, threads: int, n_cells: int, duration: float = 3.0) -> float:
    """Queries per second: the values of a cell, of a gene in a cell, and a row of obs."""
    end = time.monotonic() + duration

    def work(seed: int) -> int:
        rng = random.Random(seed)
        done = 0
        while time.monotonic() < end:
            cell = rng.randrange(n_cells)
            sql = rng.choice(
                [
                    "SELECT gene_integer_id, value FROM expression WHERE cell_integer_id = ?",
                    "SELECT COUNT(*) FROM expression WHERE cell_integer_id = ?",
                    "SELECT value FROM expression WHERE gene_integer_id = 7 "
                    "AND cell_integer_id = ?",
                ]
            )
            array.query(sql, [cell])
            done += 1
        return done

    with ThreadPoolExecutor(threads) as pool:
        return sum(pool.map(work, range(threads))) / duration


if __name__ == "__main__":
    main()
