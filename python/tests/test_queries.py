"""Queries that biologists write, answered as DuckDB answers them over Parquet files."""

from pathlib import Path

import anndata as ad
import duckdb
import hypothesis
import numpy as np
import pandas as pd
import polars as pl
import pytest
import scipy.sparse as sp
from hypothesis import strategies as st

from slaf import SLAFArray
from slaf.data import SLAFConverter

TEXT = Path(__file__).with_name("queries.sql").read_text()
QUERIES = [line for line in TEXT.splitlines() if not line.startswith("--")]


def annotated(X: sp.csr_matrix, seed: int) -> ad.AnnData:  # noqa: N803
    """Counts with what the queries ask for."""
    rng = np.random.default_rng(seed)
    n, m = X.shape
    types = rng.choice(["T cells", "B cells", "NK", None], n)
    obs = pd.DataFrame(
        {
            "cell_type": pd.Categorical(types, categories=["NK", "T cells", "B cells"]),
            "batch": rng.choice(["b0", "b1", "b2"], n),
            "n_counts": np.asarray(X.sum(axis=1)).ravel().astype(np.int64),
        },
        index=[f"CELL{'ACGT'[i % 4]}-{i}" for i in range(n)],
    )
    var = pd.DataFrame(
        {"highly_variable": rng.random(m) < 0.4}, index=[f"{'MG'[i % 2]}{i}" for i in range(m)]
    )
    adata = ad.AnnData(X, obs=obs, var=var)
    scaled = X.astype(np.float64) * 0.5
    scaled.data[rng.random(X.nnz) < 0.2] = 0
    scaled.eliminate_zeros()
    adata.layers["counts"] = X.astype(np.int32)
    adata.layers["scaled"] = scaled
    adata.obsm["X_pca"] = rng.normal(size=(n, 4)).astype(np.float32)
    graph = sp.random(n, n, density=min(1.0, 4 / n), format="csr", random_state=seed)
    adata.obsp["connectivities"] = graph
    return adata


def long(matrix: sp.spmatrix, names: tuple, ids: tuple) -> pd.DataFrame:
    coo = sp.coo_matrix(matrix)
    frame = {f"{ids[0]}_integer_id": coo.row, f"{ids[1]}_integer_id": coo.col, "value": coo.data}
    frame |= {f"{ids[0]}_id": names[0][coo.row], f"{ids[1]}_id": names[1][coo.col]}
    return pd.DataFrame(frame)


def oracle(adata: ad.AnnData, folder: Path) -> duckdb.DuckDBPyConnection:
    """DuckDB over Parquet files with the same tables, made without slaf."""
    cells, genes = np.array(adata.obs_names), np.array(adata.var_names)
    axes = ("cell", "gene")
    layers = {k: long(v, (cells, genes), axes) for k, v in adata.layers.items()}
    joined = None
    for name, frame in layers.items():
        frame = frame.rename(columns={"value": name})
        keys = ["cell_integer_id", "gene_integer_id", "cell_id", "gene_id"]
        joined = frame if joined is None else joined.merge(frame, on=keys, how="outer")
    obs = adata.obs.reset_index(names="cell_id").assign(cell_integer_id=np.arange(adata.n_obs))
    obs["X_pca"] = list(adata.obsm["X_pca"].astype(np.float64))
    var = adata.var.reset_index(names="gene_id").assign(gene_integer_id=np.arange(adata.n_vars))
    tables = {
        "cells": obs,
        "genes": var,
        "expression": long(adata.X, (cells, genes), axes),
        "layers": joined.fillna(0),
        "obsp_connectivities": long(
            adata.obsp["connectivities"], (cells, cells), ("cell", "other_cell")
        ),
    }
    connection = duckdb.connect()
    for name, frame in tables.items():
        path = folder / f"{name}.parquet"
        frame.to_parquet(path)
        connection.execute(f"CREATE VIEW {name} AS SELECT * FROM '{path}'")
    connection.execute("CREATE MACRO log1p(x) AS ln(1 + x::DOUBLE)")
    connection.execute("CREATE MACRO normalize(v, t, s) AS v::DOUBLE / t::DOUBLE * s")
    return connection


def bag(rows: list) -> list:
    """Rows in an order of their own, with numbers of one type."""

    def plain(value):
        if value is None or (isinstance(value, float) and np.isnan(value)):
            return None
        if isinstance(value, bool | np.bool_ | str):
            return str(value)
        return float(value)

    plain_rows = [tuple(plain(v) for v in row) for row in rows]
    return sorted(plain_rows, key=lambda row: [(v is None, str(type(v)), v or 0) for v in row])


def assert_same(found: pl.DataFrame, expected: list, sql: str) -> None:
    ours, theirs = bag(found.rows()), bag(expected)
    assert len(ours) == len(theirs), sql
    for a, b in zip(ours, theirs, strict=True):
        for x, y in zip(a, b, strict=True):
            if isinstance(x, float) and isinstance(y, float):
                assert x == pytest.approx(y, rel=1e-6, abs=1e-9), f"{sql}\n{a}\n{b}"
            else:
                assert x == y, f"{sql}\n{a}\n{b}"


def open_with(path: Path, **environment: str) -> SLAFArray:
    """A store whose SQL session is made under these settings."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        array = SLAFArray(path)
        array.query("SELECT 1")
    return array


def filled(adata: ad.AnnData) -> list[str]:
    totals = np.asarray(adata.X.sum(axis=0)).ravel()
    a, b, c = adata.var_names[np.argsort(-totals, kind="stable")[[0, 1, 2]]]
    cell = adata.obs_names[3]
    return [q.format(a=a, b=b, c=c, cell=cell, type="T cells") for q in QUERIES]


def counts(n: int, m: int, seed: int) -> sp.csr_matrix:
    rng = np.random.default_rng(seed)
    X = rng.negative_binomial(0.4, 0.2, (n, m)).astype(np.float32)
    X[n // 2] = 0  # a cell without counts
    return sp.csr_matrix(X)


class Case:
    """A store and DuckDB over the same data."""

    def __init__(self, adata: ad.AnnData, folder: Path):
        self.path = folder / "store.slaf"
        self.queries = filled(adata)
        SLAFConverter().convert_anndata(adata, self.path)
        self.oracle = oracle(adata, folder)
        self.fast = open_with(self.path)
        self.slow = open_with(self.path, SLAF_PUSHDOWN="off")


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    return Case(annotated(counts(150, 40, 0), 0), tmp_path_factory.mktemp("queries"))


@pytest.mark.parametrize("number", range(len(QUERIES)))
def test_query(case, number):
    sql = case.queries[number]
    expected = case.oracle.execute(sql).fetchall()
    assert_same(case.fast.query(sql), expected, sql)
    assert_same(case.slow.query(sql), expected, f"without pushdown: {sql}")
    assert_same(case.fast.query(sql, engine="duckdb"), expected, f"by DuckDB: {sql}")


def test_real_data(tmp_path, shared_data):
    adata = ad.read_h5ad(shared_data / "pbmc3k_raw.h5ad")
    case = Case(annotated(sp.csr_matrix(adata.X)[:, :2000], 1), tmp_path)
    for sql in case.queries:
        expected = case.oracle.execute(sql).fetchall()
        assert_same(case.fast.query(sql), expected, sql)


@hypothesis.given(
    n=st.integers(8, 40),
    m=st.integers(6, 30),
    seed=st.integers(0, 1000),
    fragment=st.integers(3, 9),
)
@hypothesis.settings(
    max_examples=4, deadline=None, suppress_health_check=list(hypothesis.HealthCheck)
)
def test_tiny_fragments(tmp_path_factory, n, m, seed, fragment):
    folder = tmp_path_factory.mktemp("tiny")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLAF_FRAGMENT_ROWS", str(fragment))
        patch.setenv("SLAF_BATCH_ROWS", "3")
        case = Case(annotated(counts(n, m, seed), seed), folder)
        for sql in case.queries:
            expected = case.oracle.execute(sql).fetchall()
            assert_same(case.fast.query(sql), expected, sql)
            assert_same(case.slow.query(sql), expected, f"without pushdown: {sql}")


@pytest.mark.parametrize("dtype", [np.bool_, np.uint8, np.int64, np.float64])
def test_genes_as_columns_of_every_type(tmp_path, dtype):
    X = (np.arange(12).reshape(4, 3) % 3).astype(dtype)
    adata = ad.AnnData(X, var=pd.DataFrame(index=list("abc")))
    SLAFConverter().convert_anndata(adata, tmp_path / "a.slaf")
    array = SLAFArray(tmp_path / "a.slaf")
    for measured in (False, True):
        found = array.query("SELECT a, c FROM cells", measured=measured)
        np.testing.assert_array_equal(found.to_numpy(), X[:, [0, 2]])
        assert array.query("SELECT COUNT(b) FROM cells", measured=measured).item() == 4
    if dtype == np.bool_:
        assert array.query("SELECT COUNT(*) FROM cells WHERE b").item() == X[:, 1].sum()
