"""The dialect, its limits and its errors; DuckDB and polars. Answers are in test_queries."""

import signal
import subprocess
import sys
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor

import anndata as ad
import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pytest
import scipy.sparse as sp
from processes import child
from test_queries import annotated, counts

import slaf
from slaf import SLAFArray
from slaf.data import SLAFConverter


def with_symbols() -> ad.AnnData:
    """Genes with ids and symbols."""
    adata = annotated(counts(120, 12, 5), 5)
    # Ids that SQL could take for something else, and symbols, one of them of two genes.
    names = ["ENSG1", "HLA-A", "batch", "select", *[f"G{i}" for i in range(8)]]
    adata.var_names = names
    symbols = ["CD3D", "HLA-A*", "X3", "X4", "DUP", "DUP", *[f"s{i}" for i in range(6)]]
    adata.var["gene_symbol"] = symbols
    return adata


@pytest.fixture(scope="module")
def adata():
    return with_symbols()


@pytest.fixture(scope="module")
def array(adata, tmp_path_factory):
    path = tmp_path_factory.mktemp("sql") / "store.slaf"
    SLAFConverter().convert_anndata(adata, path)
    return SLAFArray(path)


def column(adata, gene):
    return np.asarray(adata[:, gene].X.todense()).ravel()


def test_parameters(array, adata):
    n = int((adata.obs.batch == "b1").sum())
    assert array.query("SELECT COUNT(*) FROM cells WHERE batch = ?", ["b1"]).item() == n
    assert array.query("SELECT COUNT(*) FROM cells WHERE batch = $1", ("b1",)).item() == n
    assert array.query("SELECT COUNT(*) FROM cells WHERE batch = $b", {"b": "b1"}).item() == n
    sql = "SELECT ? AS a, ? AS b, ? AS c, ? AS d, ? AS e"
    values = [None, True, 3, 2.5, "it's; DROP TABLE cells --"]
    assert array.query(sql, values).row(0) == tuple(values)
    assert array.query("SELECT $1 + $2", [np.int64(2), np.float32(0.5)]).item() == 2.5
    by_duckdb = array.query("SELECT COUNT(*) FROM cells WHERE batch = ?", ["b1"], engine="duckdb")
    assert by_duckdb.item() == n


@pytest.mark.parametrize(
    ("sql", "params"),
    [
        ("SELECT ?", None),
        ("SELECT ?", []),
        ("SELECT ?", [1, 2]),
        ("SELECT 1", [1]),
        ("SELECT $a", {"b": 1}),
        ("SELECT $a", [1]),
        ("SELECT ?", "text"),
        ("SELECT ?", [object()]),
        ("SELECT ?", [10**38]),
        ("SELECT 1 WHERE 1 IN ?", []),
        ("SELECT 1 WHERE 1 IN $a", {"a": [[1], [2]]}),
        ("SELECT 1 WHERE 1 IN $a", {"a": [object()]}),
    ],
)
def test_wrong_parameters(array, sql, params):
    with pytest.raises(slaf.InvalidArgumentError):
        array.query(sql, params)


def test_genes_are_columns(array, adata):
    x = column(adata, "ENSG1")
    found = array.query("SELECT cell_id, ENSG1, CD3D FROM cells ORDER BY cell_integer_id")
    np.testing.assert_array_equal(found["ENSG1"], x)
    np.testing.assert_array_equal(found["CD3D"], x)
    assert found["ENSG1"].dtype == pl.Float32
    hits = array.query("SELECT cell_id FROM cells c WHERE c.CD3D > 1 AND batch = 'b0'")
    expected = adata.obs_names[(x > 1) & (adata.obs.batch == "b0")]
    assert sorted(hits["cell_id"]) == sorted(expected)
    means = array.query("SELECT batch, AVG(G1 - G2) AS d FROM cells GROUP BY batch")
    difference = pd.Series(column(adata, "G1") - column(adata, "G2"), index=adata.obs.batch)
    for batch, mean in means.rows():
        assert mean == pytest.approx(difference.groupby(level=0).mean()[batch])
    assert array.query('SELECT SUM("HLA-A") FROM cells').item() == column(adata, "HLA-A").sum()
    n = array.query('SELECT COUNT(*) FROM cells WHERE "HLA-A" >= 2').item()
    assert n == (column(adata, "HLA-A") >= 2).sum()
    joined = array.query(
        "SELECT SUM(e.value) FROM expression e JOIN cells c USING (cell_integer_id) "
        "WHERE e.gene_id = 'G3' AND c.ENSG1 > 0"
    )
    assert joined.item() == column(adata, "G3")[x > 0].sum()


def test_columns_of_obs_come_before_genes(array):
    assert array.query("SELECT batch FROM cells LIMIT 1")["batch"].dtype != pl.Float32


def test_the_star_shows_no_genes(array):
    every = array.query("SELECT * FROM cells LIMIT 1").columns
    assert array.query("SELECT * FROM cells WHERE G1 >= 0 LIMIT 1").columns == every
    assert array.query("SELECT c.*, G1 FROM cells c LIMIT 1").columns == [*every, "G1"]


def test_words_in_double_quotes(array):
    assert array.query('SELECT COUNT(*) FROM cells WHERE batch = "b1"').item() > 0
    # A gene's name that is compared with a text is a text.
    assert array.query('SELECT COUNT(*) FROM genes WHERE gene_id = "HLA-A"').item() == 1
    assert array.query('SELECT COUNT(*) FROM cells WHERE cell_type IN ("G1", "NK")').item() > 0
    by_alias = "SELECT t, COUNT(*) FROM (SELECT lower(cell_type) AS t FROM cells) x GROUP BY t"
    assert array.query(f'{by_alias} HAVING t = "nk"').height == 1
    with pytest.raises(slaf.UnknownNameError):
        array.query('SELECT COUNT(*) FROM cells WHERE batch = "b1"', dialect="standard")


@pytest.mark.parametrize(
    ("sql", "kind", "words"),
    [
        ("SELECT celltype FROM cells", "unknown-column", "cell_type"),
        ("SELECT e.valu FROM expression e", "unknown-column", "value"),
        ("SELECT NOGENE FROM cells", "unknown-column", "NOGENE"),
        ('SELECT "none of them" AS x', "unknown-column", "none of them"),
        ('SELECT "CD99999" FROM cells', "unknown-column", "column or gene"),
        ('SELECT AVG("HLA-AA") FROM cells', "unknown-column", "HLA-A"),
        ('SELECT COUNT(*) FROM cells WHERE "CD3E" > 0', "unknown-column", "CD3D"),
        ('SELECT COUNT(*) FROM cells WHERE n_counts > "CD3E"', "unknown-column", "CD3D"),
        ("SELECT COUNT(*) FROM cells WHERE \"cel_type\" = 'NK'", "unknown-column", "cell_type"),
        ("SELECT COUNT(*) FROM cells WHERE \"cel_type\" IN ('NK')", "unknown-column", "cell_type"),
        ("SELECT cd3d FROM cells", "unknown-column", "mean CD3D"),
        ("SELECT HLA-A FROM cells", "unknown-column", 'double quotes: "HLA-A"'),
        ("SELECT batch, AVG(1 - HLA-A) FROM cells GROUP BY batch", "unknown-column", '"HLA-A"'),
        ('SELECT SUM("DUP") FROM cells', "ambiguous-name", "more than one gene"),
        ("SELECT n_counts // 2.5 FROM cells", "invalid-query", "div(a, b)"),
        ("SELECT 1 // 0", "invalid-query", "zero"),
        ("SELECT AVG(cell_id) FROM cells", "invalid-query", "avg"),
        ("SELECT MEDIAN(n_counts > 3) FROM cells", "invalid-query", "median"),
        ("SELECT * FROM cell", "unknown-table", "cells"),
        ("SELECT * FROM '/etc/passwd'", "unknown-table", "expression"),
        ("SELECT DUP FROM cells", "ambiguous-name", "more than one gene"),
        ("SELEC 1", "invalid-query", "duckdb"),
        ("SELECT no_such_function(1)", "invalid-query", "duckdb"),
        ("SELECT 1; SELECT 2", "invalid-query", "one query"),
        ("SELECT SUM(cell_id) FROM cells", "invalid-query", "sum"),
    ],
)
def test_errors(array, sql, kind, words):
    with pytest.raises(slaf.SlafError) as raised:
        array.query(sql)
    assert raised.value.kind == kind, raised.value
    assert words.lower() in str(raised.value).lower()


WRITES = [
    "COPY cells TO 'x.csv'",
    "CREATE TABLE t AS SELECT 1",
    "CREATE VIEW v AS SELECT 1",
    "INSERT INTO cells SELECT * FROM cells",
    "DELETE FROM cells",
    "UPDATE cells SET batch = 'x'",
    "DROP TABLE cells",
    "SET datafusion.execution.batch_size = 1",
]


@pytest.mark.parametrize("sql", WRITES)
def test_datafusion_only_reads(array, sql):
    with pytest.raises(slaf.QueryError):
        array.query(sql)


@pytest.mark.parametrize(
    "sql",
    [
        *WRITES[:-1],
        "CREATE TABLE t AS PIVOT cells ON batch USING COUNT(*)",
        "COPY (PIVOT cells ON batch USING COUNT(*)) TO 'x.csv'",
        "PIVOT cells ON batch USING COUNT(*); CREATE TABLE t AS SELECT 1",
        "PIVOT cells ON batch) ; CREATE TABLE t AS SELECT 1; FROM (cells",
        "SET memory_limit = '1GB'",
        "ATTACH 'x.db'",
        "INSTALL httpfs",
        "LOAD httpfs",
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT * FROM '/etc/passwd'",
        "SELECT * FROM read_text('/etc/passwd')",
        "SELECT 1; SELECT 2",
        "SELEC 1",
    ],
)
def test_duckdb_only_reads(array, tmp_path, monkeypatch, sql):
    monkeypatch.chdir(tmp_path)
    with pytest.raises((slaf.QueryError, slaf.UnknownNameError)):
        array.query(sql, engine="duckdb")
    assert list(tmp_path.iterdir()) == []


def test_duckdb_reaches_nothing_outside(array):
    connection = array.duckdb()
    secret = pl.DataFrame({"a": [1]})  # noqa: F841 - what DuckDB would find in this frame
    for sql in ["SELECT * FROM secret", "SET enable_external_access = true", "ATTACH 'x.db'"]:
        with pytest.raises(duckdb.Error):
            connection.execute(sql)
    assert connection.sql("SELECT COUNT(*) FROM cells").fetchall() == [(120,)]
    connection.close()


def test_a_connection_of_the_user(array):
    connection = duckdb.connect()
    connection.execute("CREATE TABLE mine AS SELECT 'b1' AS batch")
    assert array.duckdb(connection) is connection
    n = array.query("SELECT COUNT(*) FROM cells WHERE batch = 'b1'").item()
    joined = connection.sql("SELECT COUNT(*) FROM cells JOIN mine USING (batch)")
    assert joined.fetchall() == [(n,)]
    connection.close()
    with pytest.raises(slaf.InvalidArgumentError):
        array.duckdb("not a connection")


def test_engines(array):
    with pytest.raises(slaf.InvalidArgumentError, match="duckdb"):
        array.query("SELECT 1", engine="sqlite")
    # What only DuckDB has.
    assert array.query("SELECT COLUMNS('n_.*') FROM cells LIMIT 1", engine="duckdb").width > 1
    for sql, kind in [
        ("SELECT nothing FROM cells", "unknown-column"),
        ("SELECT * FROM nothing", "unknown-table"),
    ]:
        with pytest.raises(slaf.UnknownNameError) as raised:
            array.query(sql, engine="duckdb")
        assert raised.value.kind == kind


@pytest.mark.parametrize("engine", ["datafusion", "duckdb"])
def test_time_limit(array, engine):
    sql = (
        "SELECT COUNT(*) FROM expression a, expression b, expression c, expression d "
        "WHERE a.value * b.value * c.value * d.value = 0.5"
    )
    start = time.monotonic()
    with pytest.raises(slaf.TimeLimitError) as raised:
        array.query(sql, engine=engine, timeout=0.3)
    assert time.monotonic() - start < 10
    assert isinstance(raised.value, TimeoutError)
    assert raised.value.kind == "time-limit"
    assert array.query("SELECT 1", engine=engine, timeout=60).item() == 1
    with pytest.raises(slaf.InvalidArgumentError):
        array.query("SELECT 1", engine=engine, timeout=-1)


def test_an_interrupted_query_stops(array):
    """After Ctrl-C, the process does not go on computing."""
    code = """
        import resource, signal, sys, time
        from slaf import SLAFArray
        array = SLAFArray(sys.argv[1])
        print("ready", flush=True)
        try:
            array.query("SELECT COUNT(*) FROM expression a, expression b, expression c, "
                        "expression d WHERE a.value * b.value * c.value * d.value = 0.5")
        except KeyboardInterrupt:
            def busy():
                before = sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
                time.sleep(1)
                return sum(resource.getrusage(resource.RUSAGE_SELF)[:2]) - before > 0.5
            # It stops at its next break.
            print(not all(busy() for _ in range(20)), flush=True)
    """
    command = [sys.executable, "-c", textwrap.dedent(code), array.path]
    with child(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == "True\n"


def test_memory_limit(array, monkeypatch):
    """A sort goes to temporary files; a join that cannot is stopped with a named error."""
    monkeypatch.setenv("SLAF_QUERY_MEMORY", str(24 << 20))
    small = SLAFArray(array.path)
    n = 1_000_000
    pairs = "SELECT a.value AS x, b.cell_id AS y FROM expression a, expression b LIMIT"
    # As a stream: a result in one piece has the same limit.
    ordered = pl.DataFrame(small.query_stream(f"SELECT x, y FROM ({pairs} {n}) ORDER BY y, x"))
    assert ordered.height == min(n, array.query("SELECT COUNT(*) FROM expression").item() ** 2)
    assert ordered["y"].cast(pl.String).is_sorted()
    with pytest.raises(slaf.MemoryLimitError) as raised:
        small.query(
            "SELECT COUNT(*) FROM (SELECT a.value AS x FROM expression a, expression b, genes) p "
            "JOIN (SELECT a.value AS x FROM expression a, expression b, genes) q ON p.x = q.x + 0.5"
        )
    assert raised.value.kind == "memory-limit"
    assert small.query("SELECT COUNT(*) FROM cells").item() == 120


def test_explain(array):
    plan = "\n".join(
        array.query("EXPLAIN SELECT value FROM expression WHERE gene_id = 'G1'")["plan"]
    )
    assert "1 of 12" in plan
    assert "bytes" in plan
    analyzed = array.query(
        "EXPLAIN ANALYZE SELECT COUNT(*) FROM expression e JOIN cells c USING (cell_integer_id) "
        "WHERE c.batch = 'b1' AND e.value > 1"
    )
    n = array.query("SELECT COUNT(*) FROM cells WHERE batch = 'b1'").item()
    assert f"{n} of 120" in "\n".join(analyzed["plan"])
    sums = array.query(
        "EXPLAIN ANALYZE SELECT gene_id, SUM(value) FROM expression GROUP BY gene_id"
    )
    assert "stored sums" in "\n".join(sums["plan"])


def test_show_and_describe(array):
    assert "obsp_connectivities" in array.query("SHOW TABLES")["table_name"].to_list()
    described = array.query("DESCRIBE expression")
    assert described["column_name"].to_list()[:3] == ["cell_integer_id", "gene_integer_id", "value"]


def test_distances(array, adata):
    pca = adata.obsm["X_pca"].astype(np.float64)
    target = pca[7]
    text = ", ".join(str(x) for x in target)
    for function, expected in [
        ("array_distance", np.linalg.norm(pca - target, axis=1)),
        ("inner_product", pca @ target),
        (
            "cosine_distance",
            1 - pca @ target / np.linalg.norm(pca, axis=1) / np.linalg.norm(target),
        ),
    ]:
        found = array.query(f"SELECT {function}(X_pca, [{text}]) AS d FROM cells")["d"]
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_functions(array):
    row = array.query("SELECT log1p(1e-12), log1p(NULL), normalize(3, 6, 10000)").row(0)
    assert row == (pytest.approx(1e-12, rel=1e-9), None, 5000.0)


def test_pandas_gets_categoricals(array, adata):
    frame = array.query("SELECT cell_id, cell_type FROM cells ORDER BY cell_integer_id").to_pandas()
    assert isinstance(frame.cell_type.dtype, pd.CategoricalDtype)
    expected = adata.obs.cell_type.astype(object).where(adata.obs.cell_type.notna(), None)
    assert frame.cell_type.astype(object).where(frame.cell_type.notna(), None).to_list() == list(
        expected
    )


def test_streams(array):
    stream = array.query_stream("SELECT value FROM expression WHERE value > ?", [2])
    total = sum(pl.DataFrame(batch)["value"].sum() for batch in stream)
    assert total == array.query("SELECT SUM(value) FROM expression WHERE value > 2").item()


PREDICATES = [
    pl.col("gene_id") == "G1",
    pl.col("gene_id").cast(pl.String).is_in(["G1", "HLA-A", "none"]),
    (pl.col("cell_integer_id") < 20) & (pl.col("value") > 1),
    (pl.col("cell_integer_id") < 20) | (pl.col("gene_integer_id") == 3),
    (pl.col("gene_integer_id") > 2) & (pl.col("cell_id").cast(pl.String).str.ends_with("7")),
    pl.col("gene_integer_id") == pl.col("cell_integer_id"),
    pl.lit(True),
    pl.col("value").is_null(),
]


@pytest.mark.parametrize("number", range(len(PREDICATES)))
def test_scan(array, number):
    whole = array.query("SELECT * FROM expression")
    lazy = array.scan("expression").filter(PREDICATES[number])
    expected = whole.filter(PREDICATES[number])
    assert lazy.select(pl.len()).collect().item() == expected.height
    assert lazy.select(pl.col("value").sum()).collect().item() == expected["value"].sum()
    found = lazy.select("cell_integer_id", "gene_integer_id", "value").collect()
    assert found.equals(expected.select(found.columns).sort("cell_integer_id", "gene_integer_id"))
    assert lazy.head(3).collect().height == min(3, expected.height)


def test_a_scan_reads_what_its_filter_leaves(array):
    """The pushed filter reaches the read: there is nothing else that could make it fast."""
    plan = array.scan("expression").filter(pl.col("gene_id") == "G1").explain()
    assert "FILTER" not in plan.replace("SELECTION", "")


def test_scan_of_other_tables(array, adata):
    assert (
        array.scan("cells").filter(pl.col("batch") == "b1").collect().height
        == (adata.obs.batch == "b1").sum()
    )
    graph = array.scan("obsp_connectivities").filter(pl.col("other_cell_integer_id") == 3)
    assert graph.collect()["value"].sum() == pytest.approx(adata.obsp["connectivities"][:, 3].sum())
    layer = array.scan("layers").select(pl.col("counts").sum()).collect()
    assert layer.item() == adata.layers["counts"].sum()
    with pytest.raises(slaf.UnknownNameError):
        array.scan("cell")


def test_many_threads_on_one_handle(array, adata):
    totals = np.asarray(adata.X.sum(axis=1)).ravel()

    def ask(cell):
        sql = "SELECT COALESCE(SUM(value), 0) FROM expression WHERE cell_integer_id = ?"
        return array.query(sql, [cell]).item()

    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(ask, list(range(120)) * 2)) == list(totals) * 2


def test_a_store_without_counts(tmp_path):
    """Without X there is no expression, and no gene is a column."""
    obs = pd.DataFrame({"batch": ["a", "b"]}, index=["c0", "c1"])
    empty = ad.AnnData(obs=obs, var=pd.DataFrame(index=["g0"]))
    SLAFConverter().convert_anndata(empty, tmp_path / "empty.slaf")
    array = SLAFArray(tmp_path / "empty.slaf")
    assert array.query("SELECT COUNT(*) FROM cells").item() == 2
    with pytest.raises(slaf.UnknownNameError):
        array.query("SELECT g0 FROM cells")
    with pytest.raises(slaf.UnknownNameError):
        array.query("SELECT * FROM expression")


def test_more_groups_than_are_kept_side_by_side(tmp_path):
    """Beyond the limit DataFusion looks groups up; the answer is the same."""
    n, m = 3000, 3000
    rng = np.random.default_rng(0)
    X = sp.random(n, m, density=0.002, format="csr", random_state=0, dtype=np.float32)
    obs = pd.DataFrame({"each": np.arange(n), "batch": rng.choice(["a", "b"], n)})
    obs.index = obs.index.astype(str)
    SLAFConverter().convert_anndata(ad.AnnData(X, obs=obs), tmp_path / "s.slaf")
    array = SLAFArray(tmp_path / "s.slaf")
    sql = (
        "SELECT c.each, e.gene_integer_id, SUM(value) AS s FROM expression e "
        "JOIN cells c USING (cell_integer_id) GROUP BY c.each, e.gene_integer_id"
    )
    found = array.query(sql)
    assert found.height == X.nnz
    assert found["s"].sum() == pytest.approx(X.sum(), rel=1e-6)
