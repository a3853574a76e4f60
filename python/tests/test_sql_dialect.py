"""Where SQL means what people mean: lists, fractions, truth values, frames of the user."""

import numpy as np
import pandas as pd
import polars as pl
import pytest
from test_sql import column, with_symbols

import slaf
from slaf import SLAFArray
from slaf.data import SLAFConverter


@pytest.fixture(scope="module")
def adata():
    return with_symbols()


@pytest.fixture(scope="module")
def array(adata, tmp_path_factory):
    path = tmp_path_factory.mktemp("dialect") / "store.slaf"
    SLAFConverter().convert_anndata(adata, path)
    return SLAFArray(path)


LISTS = [
    ["b0", "b1"],
    ("b0", "b1"),
    {"b0", "b1"},
    np.array(["b0", "b1"]),
    pd.Series(["b0", "b1"]),
    pl.Series(["b0", "b1"]),
    ["b0", "none"],
    [],
]


@pytest.mark.parametrize("engine", ["datafusion", "duckdb"])
@pytest.mark.parametrize("number", range(len(LISTS)))
def test_lists_as_parameters(array, adata, engine, number):
    values = LISTS[number]
    n = int(adata.obs.batch.isin(list(values)).sum())

    def count(condition, params):
        sql = f"SELECT COUNT(*) FROM cells WHERE {condition}"
        return array.query(sql, params, engine=engine).item()

    assert count("batch IN $list", {"list": values}) == n
    assert count("batch IN ?", [values]) == n
    assert count("batch = ANY($list)", {"list": values}) == n
    assert count("batch NOT IN $list AND n_counts >= $low", {"list": values, "low": 0}) == 120 - n
    assert count("NOT (batch = ANY(?))", [values]) == 120 - n


@pytest.mark.parametrize("engine", ["datafusion", "duckdb"])
def test_lists_of_numbers_choose_what_is_read(array, adata, engine):
    cells, genes = np.array([3, 7, 119]), ["ENSG1", "G3"]
    sql = "SELECT SUM(value) FROM expression WHERE cell_integer_id IN $c AND gene_id IN $g"
    found = array.query(sql, {"c": cells, "g": genes}, engine=engine).item()
    assert found == adata[cells, genes].X.sum()
    sql = "SELECT COUNT(*) FROM cells WHERE n_counts < ANY($l)"
    found = array.query(sql, {"l": [10, 20]}, engine=engine).item()
    assert found == (adata.obs.n_counts < 20).sum()


@pytest.mark.parametrize("engine", ["datafusion", "duckdb"])
def test_division(array, adata, engine):
    """A fraction is a fraction; whole numbers are rounded towards zero."""

    def row(sql, *args, **options):
        return array.query(f"SELECT {sql}", *args, engine=engine, **options).row(0)

    small = "CAST(7 AS TINYINT) / CAST(2 AS SMALLINT) AS d"
    assert row(f"7 / 2 AS a, -7 / 2 AS b, 1 / 0 AS c, {small}") == (3.5, -3.5, np.inf, 3.5)
    assert row("7 // 2 AS a, -7 // 2 AS b, 7 // -2 AS c") == (3, -3, -3)
    assert row("div(7, 2) AS a, div(-7, 2) AS b, div(-7.5, 2) AS c") == (3, -3, -3.0)
    assert row("9007199254740993 // 1 AS a, div(9007199254740993, 1) AS b") == (2**53 + 1,) * 2
    assert row("? / ?", [1, 4]) == (0.25,)
    assert row("$a // $b", {"a": 9, "b": 4}) == (2,)
    for sql in ("1 // 0", "div(1, 0)"):
        with pytest.raises(slaf.QueryError, match=r"(?i)division by zero|divide by zero"):
            row(sql)
    share = (adata.obs.n_counts > 20).mean()
    found = row("COUNT(*) FILTER (WHERE n_counts > 20) / COUNT(*) FROM cells")
    assert found == pytest.approx((share,))
    tens = row("SUM(n_counts // 10) AS a, SUM(div(n_counts, 10)) AS b FROM cells")
    assert [int(n) for n in tens] == [(adata.obs.n_counts // 10).sum()] * 2
    assert row("7 / 2, COUNT(*) / 7 FROM cells", dialect="standard") == (3, 17)
    with pytest.raises(slaf.InvalidArgumentError, match="dialect"):
        row("1", dialect="oracle")


def test_truth_values_are_counted(array, adata):
    x = column(adata, "ENSG1") > 0
    found = array.query("SELECT AVG(CD3D > 0), SUM(CD3D > 0), STDDEV(CD3D > 0) FROM cells").row(0)
    assert found == pytest.approx((x.mean(), x.sum(), x.std(ddof=1)))
    by_batch = array.query("SELECT batch, AVG(CD3D > 0) FROM cells GROUP BY batch")
    expected = pd.Series(x).groupby(adata.obs.batch.to_numpy()).mean()
    assert dict(by_batch.rows()) == pytest.approx(expected.to_dict())
    shares = array.query("SELECT gene_id, AVG(value > 1) FROM expression GROUP BY gene_id")
    stored = adata.X.tocsc()
    for gene, share in shares.rows():
        values = stored[:, adata.var_names.get_loc(gene)].data
        assert share == pytest.approx((values > 1).mean())
    # DuckDB has no mean of truth values, and says so.
    with pytest.raises(slaf.QueryError, match="BOOLEAN"):
        array.query("SELECT AVG(n_counts > 3) FROM cells", engine="duckdb")


@pytest.mark.parametrize("engine", ["datafusion", "duckdb"])
def test_texts_of_categoricals_are_joined(array, adata, engine):
    sql = "SELECT STRING_AGG(DISTINCT cell_type, ',' ORDER BY cell_type DESC) FROM cells"
    assert array.query(sql, engine=engine).item() == "T cells,NK,B cells"
    sql = "SELECT batch, STRING_AGG(DISTINCT cell_type, '+') AS t FROM cells GROUP BY batch"
    types = adata.obs.groupby("batch").cell_type.agg(lambda t: set(t.dropna()))
    for batch, joined in array.query(sql, engine=engine).rows():
        assert set(joined.split("+")) == types[batch]


@pytest.mark.parametrize("engine", ["datafusion", "duckdb"])
def test_from_first(array, engine):
    everything = array.query("SELECT * FROM cells", engine=engine)
    assert array.query("FROM cells", engine=engine).equals(everything)
    assert array.query("FROM cells SELECT COUNT(*)", engine=engine).item() == 120
    nested = "SELECT COUNT(*) FROM (FROM genes) g WHERE highly_variable"
    assert array.query(nested, engine=engine).item() == array.filter_genes("highly_variable").height
    assert array.query("FROM cells LIMIT 3", engine=engine).equals(everything.head(3))


def test_reads_of_duckdb(array, adata):
    def ask(sql):
        return array.query(sql, engine="duckdb")

    pivot = ask("PIVOT cells ON batch USING COUNT(*) GROUP BY cell_type ORDER BY cell_type;")
    expected = pd.crosstab(adata.obs.cell_type.astype(object).fillna("none"), adata.obs.batch)
    for cell_type, *counts_of_batches in pivot.rows():
        assert counts_of_batches == expected.loc[cell_type or "none"].to_list()
    assert ask("WITH t AS (FROM cells) PIVOT t ON batch USING COUNT(*)").width > 3
    long = ask("UNPIVOT (SELECT cell_id, n_counts, n_genes FROM cells) ON n_counts, n_genes")
    assert long.height == 240
    assert "n_counts" in ask("SUMMARIZE cells")["column_name"].to_list()
    assert "cell_id" in ask("DESCRIBE cells")["column_name"].to_list()
    assert ask("SHOW TABLES")["name"].to_list() == sorted(
        array.query("SHOW TABLES").filter(pl.col("table_schema") == "public")["table_name"]
    )


TABLES = {
    "pandas": lambda frame: frame,
    "polars": lambda frame: pl.DataFrame(frame.reset_index().to_dict("list")),
    "lazy": lambda frame: pl.LazyFrame(frame.reset_index().to_dict("list")),
    "arrow": lambda frame: pl.DataFrame(frame.reset_index().to_dict("list")).to_arrow(),
}


@pytest.mark.parametrize("engine", ["datafusion", "duckdb"])
@pytest.mark.parametrize("kind", TABLES)
def test_tables_of_the_user(array, adata, engine, kind):
    mine = pd.DataFrame(
        {"site": ["Ulm", "Bern"], "depth": [1.5, None], "n": [1, 2]},
        index=pd.Index(["b0", "b1"], name="batch"),
    )
    found = array.query(
        "SELECT m.site, COUNT(*) AS cells, MIN(m.n) AS n FROM cells c "
        "JOIN mine m ON m.batch = c.batch GROUP BY m.site",
        tables={"mine": TABLES[kind](mine)},
        engine=engine,
    )
    sizes = adata.obs.batch.value_counts()
    assert sorted(found.rows()) == [("Bern", sizes["b1"], 2), ("Ulm", sizes["b0"], 1)]
    # The next query does not have them.
    with pytest.raises(slaf.UnknownNameError):
        array.query("SELECT * FROM mine", engine=engine)


@pytest.mark.parametrize("engine", ["datafusion", "duckdb"])
def test_types_of_tables_of_the_user(array, engine):
    mine = pd.DataFrame(
        {
            "f": [1.5, np.nan],
            "c": pd.Categorical(["x", None], ["y", "x"]),
            "k": pd.Categorical([7, 8]),
            "i": pd.array([1, None], dtype="Int8"),
            "s": ["a", None],
            "b": [True, False],
            "t": pd.to_datetime(["2024-02-03", None]),
        }
    )
    found = array.query("SELECT * FROM m ORDER BY k", tables={"m": mine}, engine=engine)
    assert found.rows() == [
        (1.5, "x", 7, 1, "a", True, pd.Timestamp("2024-02-03").to_pydatetime()),
        (None, None, 8, None, None, False, None),
    ]
    counted = array.query(
        "SELECT COUNT(*) FROM m WHERE f IS NULL AND c IS NULL", tables={"m": mine}, engine=engine
    )
    assert counted.item() == 1


def test_tables_of_the_user_in_the_dialect(array):
    mine = pl.DataFrame({"label": ["odd", "even"], "n": [1, 0]})
    sql = 'SELECT SUM(CD3D) FROM cells, mine WHERE label = "odd" AND n_counts % 2 = n'
    expected = array.query("SELECT SUM(CD3D) FROM cells WHERE n_counts % 2 = 1").item()
    assert array.query(sql, tables={"mine": mine}).item() == expected
    stream = array.query_stream("SELECT SUM(n) AS n FROM mine", tables={"mine": mine})
    assert pl.DataFrame(stream).item() == 1


@pytest.mark.parametrize("engine", ["datafusion", "duckdb"])
@pytest.mark.parametrize(
    ("tables", "words"),
    [
        ({"cells": pl.DataFrame({"a": [1]})}, "cells"),
        ({"CELLS": pl.DataFrame({"a": [1]})}, "CELLS"),
        ({"mine": 3}, "int"),
        ({"mine": "cells.csv"}, "str"),
        ({3: pl.DataFrame({"a": [1]})}, "name"),
        ({"": pl.DataFrame({"a": [1]})}, "name"),
        ({"mine": pd.DataFrame({"a": [1, "x"]})}, "mine"),
        ({"mine": pd.DataFrame([[1, 2]], columns=["a", "a"])}, "'a'"),
        ({"mine": pd.DataFrame({0: [1]})}, "0"),
        ({"mine": pd.DataFrame({"a": [1]}, index=pd.Index([0], name="a"))}, "'a'"),
        ([("mine", pl.DataFrame({"a": [1]}))], "dict"),
    ],
)
def test_wrong_tables_of_the_user(array, engine, tables, words):
    with pytest.raises(slaf.InvalidArgumentError, match=words):
        array.query("SELECT 1", tables=tables, engine=engine)


@pytest.mark.parametrize("engine", ["datafusion", "duckdb"])
def test_odd_frames(array, engine):
    """A frame is a table, or refused by name: it never ends the process."""

    def ask(frame, sql="SELECT COUNT(*) FROM mine", name="mine"):
        return array.query(sql, tables={name: frame}, engine=engine)

    for frame in (
        pd.DataFrame({"a\0b": [1]}),
        pl.DataFrame({"a\0b": [1]}),
        pl.DataFrame({"s": [{"a\0b": 1}]}),
        pl.DataFrame({"s": [[{"a\0b": 1}]]}),
        pd.DataFrame({"d": pd.period_range("2020", periods=2, freq="M")}),
        pd.DataFrame({"d": pd.interval_range(0, 2)}),
        pl.DataFrame({"d": pl.Series([object()], dtype=pl.Object)}),
        pd.DataFrame(),
        pd.DataFrame(index=["a"]),
        pd.DataFrame({"a": [2**70]}),
    ):
        with pytest.raises(slaf.InvalidArgumentError, match="mine"):
            ask(frame)
    with pytest.raises(slaf.InvalidArgumentError, match="NUL"):
        ask(pd.DataFrame({"a": [1]}), "SELECT 1", name="a\0b")
    for frame in (
        pd.DataFrame({"a": [None, None]}),
        pl.DataFrame({"a": [None, None]}),
        pd.DataFrame({"a": pd.Series([], dtype=object)}),
    ):
        assert ask(frame, "SELECT COUNT(a) FROM mine").item() == 0
        assert ask(frame, "SELECT COUNT(*) FROM mine JOIN cells ON a = batch").item() == 0
    frame = pd.DataFrame({"a": np.array([1.5, np.nan], dtype=np.float16)})
    assert ask(frame, "SELECT MAX(a) FROM mine").item() == 1.5
    frame = pd.DataFrame({"t": pd.to_timedelta(["1 day", None])})
    assert ask(frame).item() == 2
    if engine == "duckdb":
        with pytest.raises(slaf.SlafError, match="cast"):
            ask(frame, "SELECT t FROM mine")
    sql = "SELECT COUNT(*) FROM cells WHERE n_counts IN ?"
    assert array.query(sql, [[np.float32(1.5), np.int64(3)]], engine=engine).height == 1


def test_what_duckdb_explains_is_a_query(array):
    """EXPLAIN ANALYZE does what it explains."""

    def ask(sql):
        return array.query(sql, engine="duckdb")

    for sql in (
        "EXPLAIN ANALYZE CREATE TABLE t AS SELECT 1",
        "explain (analyze) CREATE TABLE t AS SELECT 1",
        "-- a\n/* b */ EXPLAIN ANALYZE DROP VIEW cells",
        "EXPLAIN CREATE TABLE t AS SELECT 1",
    ):
        with pytest.raises(slaf.SlafError) as raised:
            ask(sql)
        assert raised.value.kind in ("read-only", "invalid-query"), sql
    for sql in (
        "EXPLAIN SELECT COUNT(*) FROM cells",
        "-- a\nEXPLAIN ANALYZE FROM cells",
        "EXPLAIN (FORMAT json) SELECT 1",
    ):
        assert ask(sql).height >= 1, sql
