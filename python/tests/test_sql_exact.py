"""Whole numbers are exact or an error, in both engines; names of functions that both know."""

import datetime
from decimal import Decimal
from itertools import pairwise

import anndata as ad
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import scipy.sparse as sp

import slaf
from slaf import SLAFArray
from slaf.data import SLAFConverter

ENGINES = ["datafusion", "duckdb"]
N = 60


def numbers():
    """Frames of numbers near the ends of their types; counts in bytes."""
    rng = np.random.default_rng(4)
    obs = pd.DataFrame(
        {
            "batch": [f"b{i % 3}" for i in range(N)],
            "big": np.where(np.arange(N) % 2, 2**62, 2**53 + 1).astype(np.int64),
            "unsigned": np.where(np.arange(N) % 2, 2**63 + 5, 3).astype(np.uint64),
            "small": np.full(N, 100, np.int8),
            "x": rng.normal(size=N),
        },
        index=[f"c{i}" for i in range(N)],
    )
    x = sp.csr_matrix(rng.integers(0, 256, (N, 5)).astype(np.uint8))
    var = pd.DataFrame({"n": range(5)}, index=["CD3D", "CD3E", "value", "n", "7SK"])
    return ad.AnnData(x, obs=obs, var=var)


@pytest.fixture(scope="module")
def adata():
    return numbers()


@pytest.fixture(scope="module")
def array(adata, tmp_path_factory):
    path = tmp_path_factory.mktemp("exact") / "store.slaf"
    SLAFConverter().convert_anndata(adata, path)
    return SLAFArray(path)


OVERFLOWS = [
    "9223372036854775807 + 1",
    "-9223372036854775808 - 1",
    "9223372036854775807 * 2",
    "big * 3",
    "big + big + big",
    "-9223372036854775808 - big",
    "unsigned - 9223372036854775809",
    "unsigned * unsigned",
    "1 << 63",
    "1 << 64",
    "abs(-9223372036854775807 - 1)",
    "CAST(big AS INT)",
    "CAST(unsigned AS BIGINT)",
]


@pytest.mark.parametrize("dialect", ["slaf", "standard"])
@pytest.mark.parametrize("sql", OVERFLOWS)
def test_what_is_too_large_is_an_error(array, sql, dialect):
    with pytest.raises(slaf.QueryError) as caught:
        print(array.query(f"SELECT {sql} FROM cells", dialect=dialect))
    assert caught.value.kind == "invalid-query"


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    "sql",
    [
        "SUM(big)",
        "SUM(unsigned)",
        "SUM(big) FILTER (WHERE big > 5)",
        "SUM(DISTINCT big + cell_integer_id)",
        "SUM(big) OVER (ORDER BY cell_integer_id)",
        "SUM(big) OVER (ORDER BY cell_integer_id ROWS BETWEEN 5 PRECEDING AND CURRENT ROW)",
        "SUM(-big)",
    ],
)
def test_sums_are_exact_or_an_error(array, adata, sql, engine):
    if engine == "datafusion":
        with pytest.raises(slaf.QueryError, match="64 bits"):
            array.query(f"SELECT {sql} FROM cells")
        with pytest.raises(slaf.QueryError, match="64 bits"):
            array.query(
                f"SELECT batch, {sql} FROM cells GROUP BY batch, big, cell_integer_id, unsigned"
                if "OVER" in sql
                else f"SELECT batch, {sql} FROM cells GROUP BY batch"
            )
    else:
        assert array.query(f"SELECT {sql} FROM cells", engine=engine).height


def test_sums_of_decimals_and_parts(array, adata):
    total = sum(map(int, adata.obs.big))
    found = array.query("SELECT SUM(CAST(big AS DECIMAL(38, 0))) FROM cells").item()
    assert found == Decimal(total)
    window = "ROWS BETWEEN 1 PRECEDING AND CURRENT ROW"
    for distinct in ("", "DISTINCT "):
        sql = f"SELECT SUM({distinct}big) OVER (ORDER BY cell_integer_id {window}) AS s FROM cells"
        values = [int(v) for v in adata.obs.big]
        expected = [values[0], *(a + b for a, b in pairwise(values))]
        assert array.query(sql)["s"].to_list() == expected
    sql = "SELECT SUM(CASE WHEN cell_integer_id = 1 THEN small END) OVER (ORDER BY cell_integer_id "
    found = array.query(f"{sql}{window}) AS s FROM cells")["s"].to_list()
    assert found[:4] == [None, 100, 100, None]


def test_counts_in_bytes_are_added_without_loss(array, adata):
    x = adata.to_df().astype(np.int64)
    found = array.query(
        "SELECT CD3D + CD3E, CD3D - CD3E, CD3D * CD3E, -CD3D, small + small, -small - small, "
        'CD3D + 1, "7SK" - "n" - CD3D FROM cells'
    )
    a, b = x["CD3D"], x["CD3E"]
    expected = [a + b, a - b, a * b, -a, 200 + 0 * a, -200 + 0 * a, a + 1, x["7SK"] - x["n"] - a]
    assert [list(c) for c in found.to_numpy().T] == [list(c) for c in expected]
    sums = array.query("SELECT SUM(CD3D) - SUM(CD3E), SUM(CD3D - CD3E), -SUM(CD3D) FROM cells")
    assert sums.row(0) == ((a - b).sum(), (a - b).sum(), -a.sum())
    sql = "SELECT gene_id, SUM(value) - 100000, SUM(value * 2), SUM(-value) FROM expression"
    for gene, *found in array.query(f"{sql} GROUP BY gene_id").rows():
        assert found == [x[gene].sum() - 100000, x[gene].sum() * 2, -x[gene].sum()]


@pytest.mark.parametrize("engine", ENGINES)
def test_whole_numbers_beside_fractions(array, adata, engine):
    values = [int(v) for v in adata.obs.big]

    def count(condition, params=None):
        sql = f"SELECT COUNT(*) FROM cells WHERE {condition}"
        return array.query(sql, params, engine=engine).item()

    assert count("big = 9007199254740992.0") == 0
    assert count("big > 9007199254740992.0") == N
    assert count("big <= 9007199254740992.0") == 0
    assert count("big BETWEEN 9007199254740992.0 AND 4611686018427387904.0") == N
    assert count("big IN (9007199254740992.0, 0.5)") == 0
    assert count("big IN (4611686018427387904.0, 0.5)") == sum(v == 2**62 for v in values)
    assert count("big NOT IN (9007199254740992.0)") == N
    assert count("unsigned < 9223372036854775808.0") == N // 2
    assert count("unsigned = 18446744073709551616.0") == 0
    assert count("unsigned = ?", [2**63 + 5]) == N // 2
    assert count("unsigned IN $l", {"l": [2**63 + 5, 4]}) == N // 2
    assert count("unsigned = ? OR unsigned = ?", [2**64, -(2**63) - 1]) == 0


def test_numbers_beside_float32(tmp_path):
    big = np.array([2**24 + 1, 2**24], np.int64)
    x = sp.csr_matrix(np.full((2, 1), 2**24, np.float32))
    obs = pd.DataFrame({"n": big}, index=["a", "b"])
    SLAFConverter().convert_anndata(ad.AnnData(x, obs=obs), tmp_path / "s.slaf")
    array = SLAFArray(tmp_path / "s.slaf")
    sql = "SELECT c.cell_id FROM cells c JOIN expression e USING (cell_integer_id) WHERE e.value "
    assert array.query(sql + "= c.n").rows() == [("b",)]
    assert array.query(sql + "< c.n").rows() == [("a",)]


@pytest.mark.parametrize("engine", ENGINES)
def test_large_parameters(array, engine):
    for number in (2**63, 2**64 - 1, 2**64, -(2**63) - 1, 10**37):
        assert int(array.query("SELECT ? AS x", [number], engine=engine).item()) == number
    with pytest.raises(slaf.InvalidArgumentError, match="38 digits"):
        array.query("SELECT ?", [10**38], engine=engine)


def test_stored_sums_of_casts(tmp_path):
    """A cast that changes values is not answered from the sums of the values."""
    x = sp.csr_matrix(np.array([[1.5, 2.5], [0.0, 3.75]], np.float32))
    SLAFConverter().convert_anndata(ad.AnnData(x), tmp_path / "s.slaf")
    array = SLAFArray(tmp_path / "s.slaf")

    def row(what):
        sql = f"SELECT cell_id, {what} FROM expression GROUP BY cell_id ORDER BY cell_id"
        plan = array.query(f"EXPLAIN ANALYZE {sql}")["plan"].str.join("\n").item()
        return [r[1] for r in array.query(sql).rows()], "stored sums" in plan

    assert row("SUM(CAST(value AS BIGINT))") == ([3, 3], False)
    assert row("SUM(CAST(value AS DOUBLE))") == ([4.0, 3.75], True)
    assert row("AVG(value::DOUBLE)") == ([2.0, 3.75], True)
    assert row("SUM(value)") == ([4.0, 3.75], True)


def test_aggregates_of_casts_beside_those_of_columns(array, adata):
    """The names that DataFusion gives aggregates do not show casts."""
    value = adata.X.tocsc()
    sql = """
        SELECT gene_integer_id, SUM(value) a, SUM(CAST(value AS DOUBLE)) b, MIN(value) c,
            MIN(CAST(value AS VARCHAR)) d, AVG(value + 1) e, AVG(CAST(value AS DOUBLE) + 1) f
        FROM expression GROUP BY gene_integer_id
        HAVING COUNT(value) = COUNT(CAST(value AS DOUBLE)) ORDER BY gene_integer_id
    """
    expected = []
    for gene in range(value.shape[1]):
        column = value[:, [gene]].data.astype(np.int64)
        mean = pytest.approx(column.mean() + 1)
        total, least = int(column.sum()), int(column.min())
        expected.append((gene, total, float(total), least, min(map(str, column)), mean, mean))
    assert array.query(sql).rows() == expected
    assert array.query("SELECT SUM(CAST(big AS DOUBLE)) FROM cells").columns == ["sum(cells.big)"]


SAME = [
    "mod(7, 3), mod(-7, 3), fmod(7.5, 2.0)",
    "if(big > 5, 'a', 'b') FROM cells LIMIT 1",
    "ifnull(NULL, 3), coalesce(NULL, 4), greatest(1, 3), least(1, 3)",
    "median(x), quantile_cont(x, 0.25), count_if(x > 0), variance(x), stddev(x) FROM cells",
    "arg_max(cell_id, x), arg_min(cell_id, x), max_by(cell_id, x), min_by(cell_id, x) FROM cells",
    "arg_max(cell_id, x) FILTER (WHERE x < 0) FROM cells",
    "any_value(batch) FROM cells WHERE batch = 'b1'",
    "group_concat(DISTINCT batch ORDER BY batch) FROM cells",
    "listagg(DISTINCT batch, ';' ORDER BY batch) FROM cells",
    "list(cell_id ORDER BY x) FROM cells",
    "approx_count_distinct(batch) FROM cells",
    "lcase('A'), ucase('a'), strlen('é'), prefix('abc', 'a'), suffix('abc', 'c'), ord('A')",
    "string_split('a,b', ','), str_split('a,b', ','), split_part('a,b', ',', 2)",
    "regexp_matches('abc', 'b'), regexp_full_match('abc', 'b'), regexp_full_match('abc', 'a.c')",
    "regexp_extract('ab12', '[0-9]+'), regexp_extract('ab12', '([a-z]+)([0-9]+)', 2)",
    "regexp_extract('ab12', '([a-z]+)([0-9]+)', 0), regexp_extract('ab', '[0-9]+')",
    "regexp_extract(NULL, '[0-9]+')",
    "year(day), month(day), dayofmonth(day), dayofweek(day), dayofyear(day), week(day) FROM days",
    "strftime(day, '%Y-%m'), hour(day), quarter(day) FROM days",
    "ceiling(1.5::DOUBLE), sign(-2.5), xor(5, 3), isinf('inf'::DOUBLE), isfinite('nan'::DOUBLE)",
    "length('é'), len('abc'), length([1, 2, NULL]), len([]), length(NULL::VARCHAR)",
    "len(list(x)), MAX(length(batch)) FROM cells GROUP BY batch ORDER BY batch",
    "list_min([3, 1]), list_value(1, 2), list_contains([1, 2], 1)",
    "list_inner_product([1.0], [2.0])",
    "nvl(NULL, 2), signum(-2.5), btrim(' a '), regexp_like('abc', 'b'), array_max([1, 2])",
]


@pytest.mark.parametrize("sql", SAME)
def test_functions_of_both_engines(array, sql):
    days = pd.DataFrame({"day": pd.date_range("2024-02-25 13:00", periods=20)})
    ours, duckdb = (
        array.query(f"SELECT {sql}", engine=engine, tables={"days": days}).rows()
        for engine in ENGINES
    )

    def plain(value):
        return float(value) if isinstance(value, (int, Decimal)) else value

    for a, b in zip(ours, duckdb, strict=True):
        for left, right in zip(a, b, strict=True):
            assert plain(left) == (
                pytest.approx(plain(right)) if isinstance(left, float) else plain(right)
            )


def test_what_is_read_otherwise_is_refused(array):
    with pytest.raises(slaf.QueryError, match=r"power\(a, b\), or xor\(a, b\)"):
        array.query("SELECT 2 ^ 3")
    with pytest.raises(slaf.QueryError, match='"7SK"'):
        array.query("SELECT 7SK FROM cells")
    with pytest.raises(slaf.QueryError, match="double quotes"):
        array.query("SELECT 1_000")
    with pytest.raises(slaf.QueryError, match="engine"):
        array.query("SELECT histogram(batch) FROM cells")


@pytest.mark.parametrize("engine", ENGINES)
def test_from_without_select(array, engine):
    everything = array.query("SELECT * FROM cells", engine=engine)

    def query(sql):
        return array.query(sql, engine=engine)

    assert query("FROM cells WHERE x > 0").equals(everything.filter(pl.col("x") > 0))
    assert query("FROM cells ORDER BY x LIMIT 2").equals(everything.sort("x").head(2))
    assert query("WITH a AS (FROM cells WHERE x > 0) FROM a WHERE x < 1").equals(
        everything.filter(pl.col("x").is_between(0, 1, closed="none"))
    )
    assert query("SELECT COUNT(*) FROM (FROM genes WHERE n > 1) g").item() == 3


def test_genes_that_other_columns_hide(array, adata):
    """A gene is a column of cells, whatever the columns of other tables are called."""
    x = adata.to_df()
    mine = {"mine": pd.DataFrame({"batch": ["b0"], "CD3D": [-1], "CD3E": ["a"]})}
    # Tables that the query does not read hide nothing.
    assert array.query("SELECT CD3D FROM cells", tables=mine)["CD3D"].to_list() == list(x.CD3D)
    assert array.query("SELECT n, value FROM cells")["value"].to_list() == list(x.value)
    sql = "SELECT c.CD3D, m.CD3D AS theirs FROM cells c JOIN mine m ON m.batch = c.batch"
    found = array.query(f"{sql} ORDER BY cell_integer_id", tables=mine)
    assert found["CD3D"].to_list() == list(x.CD3D[adata.obs.batch == "b0"])
    assert set(found["theirs"]) == {-1}
    sql = "SELECT c.n FROM cells c JOIN genes g ON g.gene_integer_id = c.cell_integer_id"
    assert array.query(sql)["n"].to_list() == list(x.n[:5])
    with pytest.raises(slaf.UnknownNameError, match=r'the gene is cells."CD3D"'):
        array.query("SELECT CD3D FROM cells WHERE batch IN (SELECT batch FROM mine)", tables=mine)
    with pytest.raises(slaf.UnknownNameError, match=r'the gene is c."CD3E"'):
        array.query("SELECT g.CD3E FROM cells c JOIN genes g ON true")


def test_texts_that_are_aliases(array, adata):
    sql = 'SELECT batch AS "b1" FROM cells WHERE batch = "b1" ORDER BY "b1"'
    assert array.query(sql)["b1"].to_list() == ["b1"] * (adata.obs.batch == "b1").sum()


@pytest.mark.parametrize("engine", ENGINES)
def test_any_and_all_of_a_subquery(array, adata, engine):
    """A subquery may read the table that is read outside, under the same name."""
    x = adata.obs.x

    def count(condition):
        return array.query(f"SELECT COUNT(*) FROM cells WHERE {condition}", engine=engine).item()

    assert count("x > ANY(SELECT x FROM cells)") == N - 1
    assert count("x >= ALL(SELECT x FROM cells)") == 1
    assert (
        count("x < ALL(SELECT x FROM cells WHERE batch = 'b1')")
        == (x < x[adata.obs.batch == "b1"].min()).sum()
    )
    assert count("batch = ALL(SELECT batch FROM cells)") == 0
    assert count("batch = ANY(SELECT batch FROM cells WHERE batch = 'b1')") == N // 3
    assert count("batch <> ALL(SELECT batch FROM cells WHERE batch = 'b1')") == N - N // 3
    others = "SELECT b.x FROM cells b WHERE b.batch = cells.batch AND b.x <> cells.x"
    assert count(f"x > ALL({others})") == 3
    assert (
        count("x > ALL(SELECT AVG(x) FROM cells GROUP BY batch)")
        == (x > x.groupby(adata.obs.batch).mean().max()).sum()
    )


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT x FROM cells PREWHERE x > 0",
        "SELECT x FROM cells TABLESAMPLE 10",
        "SELECT batch, COUNT(*) FROM cells GROUP BY batch WITH ROLLUP",
        "SELECT * ILIKE 'b%' FROM cells",
        "SELECT x FROM cells FOR UPDATE",
    ],
)
def test_clauses_without_effect_are_refused(array, sql):
    with pytest.raises(slaf.QueryError, match="there is no "):
        array.query(sql)


@pytest.mark.parametrize("engine", ENGINES)
def test_what_polars_does_not_hold(array, engine):
    for sql in ("SELECT INTERVAL '1 month' AS i", "SELECT [INTERVAL '1 month'] AS i"):
        with pytest.raises(slaf.UnsupportedError, match=r'i"? .*[Ii]nterval'):
            array.query(sql, engine=engine)
    assert array.query("SELECT (INTERVAL '1 month')::VARCHAR AS i", engine=engine).height == 1
    if engine == "datafusion":
        with pytest.raises(slaf.QueryError, match='more than one column "cell_id"'):
            array.query("SELECT * FROM cells a, cells b")
        with pytest.raises(slaf.UnsupportedError, match="Decimal256"):
            array.query("SELECT arrow_cast(1, 'Decimal256(50, 2)')")


def test_frames_that_polars_does_not_hold(array):
    frame = pa.table({"d": pa.array([1], pa.decimal256(50))})
    with pytest.raises(slaf.InvalidArgumentError, match="table 'mine' has a column of a type"):
        array.query("SELECT * FROM mine", tables={"mine": frame})


def test_long_names_are_unknown_soon(array):
    for name in ("x" * 100_000, '"' + "x" * 100_000 + '"'):
        with pytest.raises(slaf.UnknownNameError):
            array.query(f"SELECT {name} FROM cells", timeout=10)


POINT = datetime.datetime(2024, 1, 2, 3, 4, 5, 6)
PARAMETERS = [
    (POINT, POINT),
    (POINT.date(), POINT.date()),
    (POINT.time(), POINT.time()),
    (pd.Timestamp(POINT), POINT),
    (np.datetime64(POINT), POINT),
    (np.datetime64("2024-01-02", "ns"), datetime.datetime(2024, 1, 2)),
    (Decimal("-12.50"), Decimal("-12.50")),
    (Decimal("NaN"), np.nan),
    (np.int8(3), 3),
    (np.uint64(2**64 - 1), 2**64 - 1),
    (np.float32(0.5), 0.5),
    (np.longdouble(0.5), 0.5),
    (np.bool_(True), True),
    (np.str_("it's"), "it's"),
    (np.array(3), 3),
    (pa.scalar(3), 3),
    (pd.NA, None),
    (pd.NaT, None),
    (np.datetime64("NaT"), None),
]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(("value", "expected"), PARAMETERS)
def test_types_of_parameters(array, value, expected, engine):
    found = array.query("SELECT $x AS x", {"x": value}, engine=engine).item()
    assert found == expected or found is expected or np.isnan(found)


@pytest.mark.parametrize("engine", ENGINES)
def test_parameters_that_are_compared(array, adata, engine):
    days = {"days": pd.DataFrame({"day": pd.date_range("2024-02-25 13:00", periods=20)})}

    def count(condition, params, tables=days):
        sql = f"SELECT COUNT(*) FROM days WHERE {condition}"
        return array.query(sql, params, tables=tables, engine=engine).item()

    noon = datetime.datetime(2024, 3, 1, 12)
    assert count("day < ?", [noon]) == 5
    assert count("CAST(day AS DATE) = ?", [noon.date()]) == 1
    assert count("day IN $l", {"l": days["days"].day[3:5]}) == 2
    assert count("day IN $l", {"l": days["days"].day[3:5].to_numpy()}) == 2
    assert count("CAST(day AS DATE) IN ?", [[noon.date(), datetime.date(2025, 1, 1)]]) == 1
    assert count("day - ? < ?", [datetime.timedelta(days=2, hours=1), noon]) == 7
    zoned = noon.replace(tzinfo=datetime.timezone(datetime.timedelta(hours=2)))
    sql = "SELECT ? = TIMESTAMPTZ '2024-03-01 10:00:00+00'"
    assert array.query(sql.replace("? =", "$1 ="), [zoned], engine=engine).item() is True
    assert array.query("SELECT ? + 1", [Decimal("0.1")], engine=engine).item() == Decimal("1.1")
    assert array.query("SELECT ? IN ?", [0.5, [1, 0.5, None]], engine=engine).item() is True


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    "value",
    [
        b"bytes",
        1j,
        object(),
        {"a": 1},
        [[1]],
        np.array([[1]]),
        "\ud800",
        [1, "a"],
        Decimal(10) ** 40,
        10**38,
        np.longdouble(1) / 3,
        (i for i in range(3)),
    ],
)
def test_values_that_are_no_parameters(array, value, engine):
    with pytest.raises(slaf.InvalidArgumentError):
        array.query("SELECT $x AS x", {"x": value}, engine=engine)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("params", ["x", 5, object(), {1: 2}, {"": 1}, pd.DataFrame({"x": [1]})])
def test_what_is_no_list_of_parameters(array, params, engine):
    with pytest.raises(slaf.InvalidArgumentError):
        array.query("SELECT ?", params, engine=engine)
    with pytest.raises(slaf.QueryError, match="Unicode"):
        array.query("SELECT '\ud800'", engine=engine)


@pytest.mark.parametrize(
    ("where", "parameters"),
    [
        ("gene_integer_id NOT IN (1, NULL)", None),
        ("gene_integer_id IN (NULL)", None),
        ("cell_integer_id NOT IN (NULL, 3)", None),
        ("gene_integer_id NOT IN $x", {"x": [1, None]}),
    ],
)
def test_lists_of_ids_with_a_missing_value_are_true_for_no_row(store_path, where, parameters):
    array = SLAFArray(store_path)
    assert array.query(f"SELECT * FROM expression WHERE {where}", parameters).height == 0
    counted = array.query(f"SELECT COUNT(*) FROM expression WHERE {where}", parameters)
    assert counted.item() == 0


def test_what_follows_is_distinct_from_is_not_taken_for_its_right_side(store_path):
    array = SLAFArray(store_path)
    rest = "cell_integer_id < 2"
    with pytest.raises(slaf.SlafError, match="parentheses"):
        array.query(f"SELECT 1 FROM cells WHERE cell_id IS DISTINCT FROM 'cell0' AND {rest}")
    found = array.query(
        f"SELECT cell_id FROM cells WHERE (cell_id IS DISTINCT FROM 'cell0') AND {rest}"
    )
    assert found["cell_id"].to_list() == ["cell1"]
