"""Long, deep and greedy SQL ends in an answer or a named error, soon, and not with the process."""

import json
import os
import random
import subprocess
import sys
import textwrap
import time

import duckdb
import numpy as np
import pandas as pd
import pytest
from test_queries import annotated, counts

import slaf
from slaf import SLAFArray
from slaf.data import SLAFConverter

ENGINES = ["datafusion", "duckdb"]
LIMIT = 3
# A query ends a second after its limit; the machines of tests are slow and busy.
LATE = 4

# Answers each query of its input, in a process that cannot have more than 9 GB.
CHILD = """
import json, resource, sys, time, warnings
warnings.simplefilter("ignore")
resource.setrlimit(resource.RLIMIT_AS, (9 << 30, 9 << 30))
import slaf
array = slaf.SLAFArray(sys.argv[1])
array.query("SELECT 1", engine=sys.argv[2])
for line in sys.stdin:
    sql = json.loads(line)
    start = time.monotonic()
    try:
        answer = array.query(sql, engine=sys.argv[2], timeout=float(sys.argv[3])).rows()[:1]
    except slaf.SlafError as e:
        answer = e.kind
    print(json.dumps([time.monotonic() - start, answer], default=str), flush=True)
print('"end"', flush=True)
"""


def answers(path, engine, queries, limit=LIMIT):
    """What a child answers to each query, a list of rows or the kind of an error."""
    done = subprocess.run(
        [sys.executable, "-c", CHILD, path, engine, str(limit)],
        input="".join(json.dumps(sql) + "\n" for sql in queries),
        capture_output=True,
        text=True,
        timeout=60 + (limit + LATE) * len(queries),
    )
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    at = queries[len(lines)] if len(lines) < len(queries) else "the end"
    assert done.returncode == 0, f"{done.returncode} at {at[:200]}: {done.stderr[-2000:]}"
    assert lines.pop() == "end"
    for (seconds, _), sql in zip(lines, queries, strict=True):
        assert seconds < limit + LATE, (seconds, sql[:200])
    return [answer for _, answer in lines]


def joined(by, n, text):
    return by.join(text.format(i) for i in range(n))


DEEP = {
    "SELECT COUNT(*) FROM cells WHERE " + joined(" AND ", 2000, "n_genes >= 0"): [[120]],
    "SELECT COUNT(*) FROM cells WHERE " + joined(" OR ", 5000, "cell_id = 'c{}'"): [[120]],
    "SELECT " + joined("+", 3000, "1"): "invalid-query",
    "SELECT " + joined("||", 3000, "'a'"): "invalid-query",
    "SELECT 1" + "::int" * 3000: "invalid-query",
    "SELECT " + "(" * 3000 + "1" + ")" * 3000: "invalid-query",
    joined(" UNION ALL ", 1000, "SELECT 1 AS x"): [[1]],
    "SELECT 'a\0b' AS x": [["a\0b"]],
}


@pytest.mark.parametrize("engine", ENGINES)
def test_deep_queries(store_of_120, engine):
    # A debug build plans a hundred times slower: an answer or the end of the time are right.
    for sql, answer in zip(DEEP, answers(store_of_120, engine, list(DEEP)), strict=True):
        assert answer in (DEEP[sql], "time-limit"), sql[:100]


@pytest.fixture(scope="module")
def array(tmp_path_factory):
    """120 cells c0, c1, ... and 12 genes."""
    path = tmp_path_factory.mktemp("limits") / "store.slaf"
    adata = annotated(counts(120, 12, 5), 5)
    adata.obs_names = [f"c{i}" for i in range(120)]
    SLAFConverter().convert_anndata(adata, path)
    return SLAFArray(path)


@pytest.fixture(scope="module")
def store_of_120(array):
    return str(array.path)


GREEDY = {
    "datafusion": [
        "SELECT array_repeat(1, 10000000000)",
        "SELECT array_repeat(array_repeat(1, 100000), 100000)",
        "SELECT array_resize([1], 10000000000)",
        "SELECT MAX(length(repeat(cell_id, 100000000))) FROM cells",
        "SELECT MAX(length(repeat(repeat(cell_id, 10000), 10000))) FROM cells",
        "SELECT COUNT(*) FROM (SELECT unnest(range(10000000000)))",
        "SELECT lpad('a', 10000000000)",
        "SELECT replace(repeat('a', 1000000), 'a', repeat('b', 1000000))",
    ],
    "duckdb": [
        "SELECT array_resize([1], 10000000000)",
        "SELECT repeat([1], 10000000000)",
        "SELECT MAX(length(repeat(cell_id, 100000000))) FROM cells",
        "SELECT MAX(length(repeat(repeat(cell_id, 10000), 10000))) FROM cells",
        "SELECT COUNT(*) FROM (SELECT unnest(range(10000000000)))",
        "SELECT len(generate_series(TIMESTAMP '2020-01-01', TIMESTAMP '2030-01-01', "
        "INTERVAL 1 MICROSECOND))",
        "SELECT lpad('a', 1000000000, 'b')",
        "SELECT replace(repeat('a', 100000), 'a', repeat('b', 100000))",
    ],
}


@pytest.mark.parametrize("engine", ENGINES)
def test_greedy_functions(store_of_120, engine):
    queries = GREEDY[engine]
    for sql, answer in zip(queries, answers(store_of_120, engine, queries), strict=True):
        assert answer == "memory-limit", sql


ENDLESS = [
    "SELECT SUM(s) FROM (SELECT MAX(a.value) OVER (ORDER BY a.value, b.value ROWS BETWEEN "
    "100000 PRECEDING AND CURRENT ROW) AS s FROM expression a, expression b, genes)",
    "SELECT length(string_agg(a.cell_id || b.cell_id, ',')) "
    "FROM expression a, expression b, expression c",
    "SELECT COUNT(*) FROM expression a, expression b, expression c "
    "WHERE a.cell_id || b.cell_id || c.cell_id LIKE '%c1%c2%c3%x%'",
    "SELECT SUM(levenshtein(repeat(a.cell_id, 2000), repeat(b.cell_id, 2000))) "
    "FROM expression a, expression b",
    "WITH RECURSIVE t AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM t) SELECT COUNT(*) FROM t",
    "SELECT COUNT(DISTINCT a.cell_id || b.cell_id || c.cell_id || d.cell_id) "
    "FROM cells a, cells b, cells c, cells d",
    "SELECT a.cell_id, b.gene_id, random() AS x FROM expression a, expression b, expression c",
]


@pytest.mark.parametrize("engine", ENGINES)
def test_endless_queries(store_of_120, engine):
    for sql, answer in zip(ENDLESS, answers(store_of_120, engine, ENDLESS), strict=True):
        assert answer in ("time-limit", "memory-limit"), sql


def greedy_query(rng):
    """A random query that asks for much."""
    n = 10 ** rng.randrange(0, 11)

    def text(depth):
        if depth == 0:
            return rng.choice(["a.cell_id", "b.cell_id", "'x'"])
        inner = text(depth - 1)
        return rng.choice(
            [
                f"repeat({inner}, {n})",
                f"lpad({inner}, {n}, 'ab')",
                f"replace({inner}, 'c', {text(depth - 1)})",
                f"({inner} || {inner})",
                f"concat({inner}, {text(depth - 1)})",
                f"regexp_replace({inner}, '[0-9]{{1,9}}', {text(depth - 1)}, 'g')",
                f"upper({inner})",
            ]
        )

    value = text(rng.randrange(1, 4))
    what = rng.choice(
        [
            f"MAX(length({value}))",
            f"COUNT(DISTINCT {value})",
            f"length(string_agg({value}, ','))",
            f"SUM(levenshtein({value}, {text(1)}))",
            f"MAX(cardinality(range({n})))",
            f"COUNT(unnest(range({n})))",
        ]
    )
    tables = rng.choice(
        ["cells a, cells b", "expression a, cells b", "expression a, expression b, genes"]
    )
    condition = joined(
        rng.choice([" OR ", " AND "]), rng.choice([1, 30, 700]), "a.cell_id <> 'c{}'"
    )
    if rng.random() < 0.3:
        return (
            f"SELECT COUNT(x) FROM (SELECT {rng.choice(['array_agg', 'string_agg', 'MAX'])}"
            f"({value}{{}}) OVER (ORDER BY a.cell_id, b.cell_id) AS x FROM {tables})"
        ).replace("{}", ", ','" if "string_agg(" in what else "")
    return f"SELECT {what} FROM {tables} WHERE {condition}"


@pytest.mark.parametrize("engine", ENGINES)
def test_random_greedy_queries(store_of_120, engine):
    """A few in the short form, 200 with SLAF_FAULTS=full."""
    full = os.environ.get("SLAF_FAULTS") == "full"
    rng = random.Random(20 if full else 9)
    queries = [greedy_query(rng) for _ in range(200 if full else 10)]
    found = answers(store_of_120, engine, queries, limit=LIMIT if full else 1)
    assert not [q for q, answer in zip(queries, found, strict=True) if answer == "internal"]


def test_long_conditions_give_the_answers_of_pandas(array):
    """What is rewritten into lists and balanced trees means the same, with missing values too."""
    cells = array.query("SELECT * FROM cells").to_pandas()
    ids = [f"c{i}" for i in range(0, 4000, 3)]
    wanted = cells["cell_id"].isin(ids)
    assert wanted.sum() == 40
    count = "SELECT COUNT(*) FROM cells WHERE "
    for quote in ("'", '"'):
        sql = " OR ".join(f"cell_id = {quote}{i}{quote}" for i in ids[:400])
        assert array.query(count + sql).item() == cells["cell_id"].isin(ids[:400]).sum()
    sql = " AND ".join(f"cell_id <> '{i}'" for i in ids[:400])
    assert array.query(count + sql).item() == (~cells["cell_id"].isin(ids[:400])).sum()
    n_genes = cells["n_genes"]
    sql = " OR ".join(f"n_genes = {i} AND total_counts > {i}" for i in range(2, 60))
    found = sum(((n_genes == i) & (cells["total_counts"] > i)).sum() for i in range(2, 60))
    assert array.query(count + sql).item() == found
    assert array.filter_cells(" OR ".join(f"cell_id = '{i}'" for i in ids)).height == wanted.sum()


def test_nul_characters(array):
    """They are values; a name of a column that has one is refused before Arrow's interface."""
    assert array.query("SELECT 'a\0b' AS x").item() == "a\0b"
    assert array.query("SELECT ? AS x", ["a\0b"]).item() == "a\0b"
    assert array.query("SELECT COUNT(*) FROM cells WHERE cell_id = 'a\0b'").item() == 0
    for sql in ('SELECT 1 AS "a\0b"', "SELECT [{'a\0b': 1}] AS x", 'SELECT "a\0b" FROM cells'):
        for ask in (array.query, array.query_stream):
            with pytest.raises(slaf.SlafError) as raised:
                ask(sql)
            assert raised.value.kind in ("invalid-query", "unknown-column"), sql
    with pytest.raises(slaf.SlafError):
        array.filter_cells("\0")


def test_patterns(array):
    for sql in (
        "SELECT COUNT(*) FROM cells WHERE regexp_like(cell_id, '(a{1,1000}){1,1000}')",
        "SELECT regexp_replace(cell_id, '(a{1,1000}){1,1000}', 'x') FROM cells",
        "SELECT COUNT(*) FROM cells WHERE cell_id ~ '(a{1,1000}){1,1000}'",
        "SELECT regexp_replace(cell_id, '(', 'x') FROM cells",
    ):
        with pytest.raises(slaf.QueryError) as raised:
            array.query(sql)
        assert raised.value.kind == "invalid-query", sql


SORT = (
    "SELECT x, y, z FROM (SELECT a.cell_id AS x, b.gene_id AS y, a.value * b.value AS z "
    "FROM expression a, expression b LIMIT 1500000) ORDER BY z, y, x"
)


def in_small_memory(array, first="", engine="datafusion"):
    """The kind of error of a sort that does not fit in memory."""
    code = f"""
        import os, sys, warnings
        warnings.simplefilter("ignore")
        os.environ["SLAF_QUERY_MEMORY"] = str({24 << 20})
        import slaf
        array = slaf.SLAFArray(sys.argv[1])
        {first}
        try:
            print(array.query(sys.argv[2], engine={engine!r}).height)
        except slaf.SlafError as e:
            print(e.kind, "|", e)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), array.path, SORT],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_spills_that_fail_say_why(array):
    full = "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
    full += "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))"
    said = in_small_memory(array, full)
    assert said.startswith("io |"), said
    assert "TMPDIR" in said
    said = in_small_memory(array, "os.environ['TMPDIR'] = '/nowhere'; array.query('SELECT 1')")
    assert said.startswith("io |"), said
    assert "/nowhere" in said


def test_results_count_against_the_memory(array, monkeypatch):
    monkeypatch.setenv("SLAF_QUERY_MEMORY", str(4 << 20))
    small = SLAFArray(array.path)
    sql = "SELECT a.value + b.value AS x FROM expression a, expression b, cells LIMIT {}"
    for engine in ENGINES:
        assert small.query(sql.format(50_000), engine=engine).height == 50_000
        with pytest.raises(slaf.MemoryLimitError, match="SLAF_QUERY_MEMORY"):
            small.query(sql.format(2_000_000), engine=engine)
    # What is read in parts does not.
    import pyarrow as pa

    reader = pa.RecordBatchReader.from_stream(small.query_stream(sql.format(2_000_000)))
    assert sum(batch.num_rows for batch in reader) == 2_000_000


def test_settings_of_duckdb(array, monkeypatch, tmp_path):
    monkeypatch.setenv("SLAF_QUERY_MEMORY", str(256 << 20))
    connection = array.duckdb()

    def setting(name):
        return connection.execute(f"SELECT current_setting('{name}')").fetchone()[0]

    assert setting("memory_limit") == "256.0 MiB"
    assert setting("threads") == len(os.sched_getaffinity(0))
    assert setting("temp_directory").endswith(".tmp")
    # The functions in place of its own give what they gave.
    own = duckdb.connect()
    for sql in (
        "SELECT repeat('ab', 3), repeat([1, 2], 2), repeat(NULL, 3), repeat('a', NULL)",
        "SELECT range(3), range(1, 9, 2), range(5, 1, -2), generate_series(1, 3), range(NULL)",
        "SELECT range(DATE '2020-01-01', DATE '2020-02-01', INTERVAL 1 WEEK)",
        "SELECT lpad('a', 3, 'xy'), rpad('abc', 2, 'x'), lpad(NULL, 3, 'x')",
        "SELECT list_resize([1], 3), array_resize([1], 3, 0), list_resize([1, 2], 1)",
        "SELECT replace('cc1', 'c', 'dd'), replace('', '', 'x'), replace(NULL, 'a', 'b')",
        "SELECT sum(range) FROM range(10)",
    ):
        assert connection.execute(sql).fetchall() == own.execute(sql).fetchall(), sql


@pytest.mark.parametrize("engine", ENGINES)
def test_time_includes_planning(array, engine):
    columns = joined(", ", 3000, "SUM(n_genes + {})")
    start = time.monotonic()
    with pytest.raises(slaf.TimeLimitError):
        array.query(f"SELECT {columns} FROM cells", engine=engine, timeout=0.05)
    assert time.monotonic() - start < 0.05 + LATE


def test_a_stream_has_one_limit(array):
    """The time of all reads counts, not that between them."""
    sql = "SELECT a.value, random() AS x FROM expression a, expression b, expression c"
    batches = iter(array.query_stream(sql, timeout=1.0))
    next(batches)
    time.sleep(1.2)
    next(batches)
    start = time.monotonic()
    with pytest.raises(slaf.TimeLimitError):
        for _ in batches:
            pass
    assert time.monotonic() - start < 60
    assert next(batches, None) is None


def test_missing_values_in_lists(array):
    """NULL in a column stays out of IN and NOT IN, as of chains of = and <>."""
    cells = array.query("SELECT cell_id FROM cells").to_pandas()
    frame = pd.Series(np.where(np.arange(len(cells)) % 3 == 0, None, cells["cell_id"]))
    case = "CASE WHEN cell_integer_id % 3 = 0 THEN NULL ELSE cell_id END AS x"
    source = f"FROM (SELECT {case} FROM cells)"
    for op, by, expected in (
        ("=", " OR ", frame.isin([f"c{i}" for i in range(50)]).sum()),
        ("<>", " AND ", (frame.notna() & ~frame.isin([f"c{i}" for i in range(50)])).sum()),
    ):
        condition = by.join(f"x {op} 'c{i}'" for i in range(50))
        assert array.query(f"SELECT COUNT(*) {source} WHERE {condition}").item() == expected


UNCOUNTED = {
    "SELECT length(format('{:>1000000000}', 'a'))": "memory-limit",
    "SELECT length(format('{:>{}}', 'a', 1000000000))": "memory-limit",
    "SELECT length(printf('%1000000000d', 1))": "memory-limit",
    "SELECT length(printf('%*d', 1000000000, 1))": "memory-limit",
    "SELECT length(format(repeat('{0}', 5000), repeat('a', 20000)))": "memory-limit",
    "SELECT max(length(regexp_replace(repeat('a', 20000), 'a', repeat('b', 20000), 'g')))": (
        "memory-limit"
    ),
    "SELECT len(string_split(repeat('a,', 10000), ','))": "memory-limit",
    "SELECT bit_length(bitstring('1', 2000000000))": "memory-limit",
    "WITH "
    + ", ".join(f"t{i} AS (SELECT concat(s, s) AS s FROM t{i - 1})" for i in range(1, 40)): (
        "memory-limit"
    ),
    "WITH " + ", ".join(f"t{i} AS (SELECT s || s AS s FROM t{i - 1})" for i in range(1, 40)): (
        "memory-limit"
    ),
    "SELECT length(list_reduce(['a'], lambda x, y: x || y))": "unsupported-feature",
    "SELECT len(list_transform(range(3000), lambda x: repeat('a', 20000)))": "unsupported-feature",
    "SELECT len([repeat('a', 20000) for x in range(3000)])": "unsupported-feature",
    "SELECT length(system.main.repeat('a', 1000000000))": "invalid-query",
    "SELECT length('é' || main . \"repeat\"('a', 1000000000))": "invalid-query",
}


def test_duckdb_does_not_grow_beyond_its_memory(store_of_120):
    """Functions whose results DuckDB does not count: under a limit of 200 MB, in 1 GB more."""
    program = """
import json, resource, sys, threading, time, warnings
warnings.simplefilter("ignore")
import slaf
array = slaf.SLAFArray(sys.argv[1])
array.query("SELECT 1", engine="duckdb")
most = 0
def watch():
    global most
    while True:
        pages = int(open("/proc/self/statm").read().split()[1])
        most = max(most, pages * resource.getpagesize())
        time.sleep(0.002)
start = int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize()
threading.Thread(target=watch, daemon=True).start()
for sql in json.load(sys.stdin):
    try:
        print(json.dumps(str(array.query(sql, engine="duckdb", timeout=20).rows()[:1])[:100]))
    except slaf.SlafError as e:
        print(json.dumps(e.kind))
print(json.dumps((most - start) >> 20))
"""
    head = "WITH t0 AS (SELECT cell_id AS s FROM cells), "
    queries = [
        sql.replace("WITH ", head, 1) + " SELECT max(length(s)) FROM t39"
        if sql.startswith("WITH")
        else sql
        for sql in UNCOUNTED
    ]
    done = subprocess.run(
        [sys.executable, "-c", program, store_of_120],
        input=json.dumps(queries),
        env={**os.environ, "SLAF_QUERY_MEMORY": str(200 << 20)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    *kinds, grown = map(json.loads, done.stdout.splitlines())
    assert dict(zip(UNCOUNTED, kinds, strict=True)) == UNCOUNTED
    assert grown < 1000
