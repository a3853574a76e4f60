"""Plans that are kept by their text give the answers of the text with its values in it."""

import math
from concurrent.futures import ThreadPoolExecutor

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from slaf import InvalidArgumentError, SLAFArray, TimeLimitError, UnknownNameError


def literal(value):
    if value is None:
        return "NULL"
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    if isinstance(value, float) and not math.isfinite(value):
        return f"CAST('{value}' AS DOUBLE)"
    return str(value).upper() if isinstance(value, bool) else repr(value)


# Values of one kind, and of others, for one text.
QUERIES = [
    ("SELECT cell_id FROM cells WHERE cell_id = ? ORDER BY 1", ["cell3", "cell5", "x", None, 3]),
    ("SELECT cell_id FROM cells WHERE ? = batch ORDER BY 1", ["b1", "b2", "unused", "z", None]),
    ("SELECT cell_id FROM cells WHERE batch <> ? ORDER BY 1", ["b1", "b2", "z", ">=3"]),
    ("SELECT cell_id FROM cells WHERE note < ? ORDER BY 1", ["x", "", "é", "y'z"]),
    ("SELECT cell_id FROM cells WHERE n_counts >= ? ORDER BY 1", [2, 5, 2.5, -1, True, 2**62]),
    ("SELECT cell_id FROM cells WHERE depth = ? ORDER BY 1", [3, 4, 2**40, 3.0, None]),
    ("SELECT cell_id FROM cells WHERE score > ? ORDER BY 1", [0, 0.1, -2, math.nan, math.inf]),
    ("SELECT cell_id FROM cells WHERE NOT n_counts = ? AND doublet ORDER BY 1", [1, 4, 0]),
    ("SELECT * FROM expression WHERE cell_integer_id = ? ORDER BY 1, 2", [0, 5, 4, 99, -1, 0.5]),
    ("SELECT value FROM expression WHERE gene_id = ? ORDER BY 1", ["gene0", "gene3", "none"]),
    ("SELECT SUM(value) AS s FROM expression WHERE gene_integer_id < ?", [0, 2, 4, 1.5]),
    ("SELECT COUNT(*) AS n FROM expression WHERE value > ?", [0, 3, 3.0, 16777217, 0.1]),
    ("SELECT batch, COUNT(*) AS n FROM cells WHERE n_counts > ? GROUP BY 1 ORDER BY 1", [0, 3, 9]),
    (
        "SELECT c.batch, SUM(e.value) AS s FROM expression e JOIN cells c USING (cell_integer_id) "
        "WHERE c.batch = ? GROUP BY 1",
        ["b1", "b2", "none"],
    ),
    ("SELECT cell_id, gene1 FROM cells WHERE gene1 > ? ORDER BY 1", [0, 5, 2.5]),
    ("SELECT cell_id FROM cells WHERE cell_integer_id IN (SELECT cell_integer_id FROM expression "
     "WHERE gene_id = ?) ORDER BY 1", ["gene0", "gene1", "none"]),
    ("SELECT * FROM cells WHERE cell_integer_id >= ? ORDER BY 1", [0, 3, 6, -1, 2.5]),
    ("SELECT cell_integer_id, batch FROM cells WHERE cell_integer_id = ? OR n_counts = 1", [0, 4]),
    ("SELECT cell_id FROM cells WHERE ? < cell_integer_id AND cell_id <> 'cell4' LIMIT 1", [2, 9]),
    ("SELECT gene_id, symbol FROM genes WHERE gene_id = ?", ["gene2", "S1"]),
    ("SELECT COUNT(*) AS n FROM cells WHERE cell_integer_id < ?", [0, 4, 99]),
    ("SELECT ? AS x", [1, "a", None, 2.5, True]),
    ("SELECT n_counts + ? AS x FROM cells ORDER BY 1", [1, 2.5, -1]),
    ("SELECT cell_id FROM cells ORDER BY cell_id LIMIT ?", [1, 3, 0]),
    ("SELECT CASE WHEN batch = ? THEN 1 ELSE 0 END AS x FROM cells ORDER BY 1", ["b1", "b2"]),
    ("SELECT row_number() OVER (ORDER BY cell_id) AS r FROM cells WHERE n_counts > ? ORDER BY 1",
     [0, 3]),
]  # fmt: skip


@pytest.mark.parametrize(("sql", "values"), QUERIES, ids=range(len(QUERIES)))
def test_values_in_kept_plans(store_path, sql, values):
    array = SLAFArray(store_path, load_metadata=False)

    def answer(*args):
        try:
            return array.query(*args)
        except Exception as e:
            return type(e)

    expected = [answer(sql.replace("?", literal(value))) for value in values]
    # Each plan is made, and then used again.
    for i in [*range(len(values)), *reversed(range(len(values)))]:
        found = answer(sql, [values[i]])
        if isinstance(expected[i], pl.DataFrame):
            assert_frame_equal(found, expected[i], check_dtypes=values[i] is not None)
        else:
            assert found is expected[i], values[i]


def test_parameters_by_name_and_wrong_ones(store_path):
    array = SLAFArray(store_path)
    sql = "SELECT cell_id FROM cells WHERE batch = $b AND n_counts > $n ORDER BY 1"
    for b, n, expected in [
        ("b1", 1, ["cell1", "cell2"]),
        ("b2", 4, ["cell4"]),
        ("b1", 2, ["cell2"]),
    ]:
        assert array.query(sql, {"n": n, "b": b})["cell_id"].to_list() == expected
        assert array.query(sql, {"b": b, "n": n})["cell_id"].to_list() == expected
    for wrong in (None, {"b": "b1"}, {"b": "b1", "n": 1, "more": 2}, ["b1", 1]):
        with pytest.raises(InvalidArgumentError):
            array.query(sql, wrong)
    for _ in range(2):
        assert array.query(sql, {"b": "b1", "n": 2})["cell_id"].to_list() == ["cell2"]
        with pytest.raises(UnknownNameError, match="did you mean gene1"):
            array.query("SELECT gen1 FROM cells")


def test_words_and_dialects_are_other_texts(store_path):
    array = SLAFArray(store_path)
    for _ in range(2):
        assert array.query('SELECT COUNT(*) AS n FROM cells WHERE batch = "b1"')["n"][0] == 4
        with pytest.raises(UnknownNameError):
            array.query('SELECT COUNT(*) AS n FROM cells WHERE batch = "b1"', dialect="standard")
        assert array.query("SELECT 3 / 2 AS x")["x"][0] == 1.5
        assert array.query("SELECT 3 / 2 AS x", dialect="standard")["x"][0] == 1


def test_tables_of_one_query_are_not_kept(store_path):
    array = SLAFArray(store_path)
    sql = "SELECT COUNT(*) AS n FROM mine"
    for n in (1, 5, 2):
        assert array.query(sql, tables={"mine": pl.DataFrame({"a": range(n)})})["n"][0] == n
    with pytest.raises(UnknownNameError):
        array.query(sql)


def test_the_time_is_that_of_each_query(store_path):
    array = SLAFArray(store_path)
    times = [array.query("SELECT now() AS t, cell_id FROM cells LIMIT 1")["t"][0] for _ in range(3)]
    assert len(set(times)) == 3
    draws = [array.query("SELECT random() AS r")["r"][0] for _ in range(3)]
    assert len(set(draws)) == 3


def test_limits_are_those_of_each_query(store_path):
    array = SLAFArray(store_path)
    slow = (
        "SELECT COUNT(*) AS n FROM expression a, expression b, expression c, expression d, "
        "expression e, expression f, expression g, expression h, expression i "
        "WHERE a.value + i.value < 0"
    )
    quick = "SELECT COUNT(*) OVER () AS n FROM expression LIMIT 1"
    for _ in range(2):
        with pytest.raises(TimeLimitError):
            array.query(slow, timeout=0.3)
        assert array.query(quick)["n"][0] == 10


def test_threads_share_plans(store_path):
    array = SLAFArray(store_path)
    expected = {c: array.query(f"SELECT COUNT(*) AS n FROM expression WHERE cell_integer_id = {c}")
                for c in range(6)}  # fmt: skip

    def work(seed):
        for i in range(40):
            cell = (seed * 7 + i) % 6
            found = array.query(
                "SELECT COUNT(*) AS n FROM expression WHERE cell_integer_id = ?", [cell]
            )
            assert_frame_equal(found, expected[cell])

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))


def test_rows_are_chosen_by_their_ids(store_path):
    array = SLAFArray(store_path)
    for condition, n in [
        ("cell_id = 'cell3'", 1),
        ("cell_id IN ('cell3', 'cell1', 'none', 'no', 'nor') AND n_counts > 0", 2),
        ("cell_integer_id BETWEEN 1 AND 4 AND cell_integer_id <> 2", 4),
        ("cell_id = 'none'", 0),
        ("cell_id LIKE 'cell%'", 6),
        ("cell_id = 'cell1' OR batch = 'b2'", 6),
    ]:
        plan = array.query(f"EXPLAIN SELECT * FROM cells WHERE {condition}")["plan"].to_list()
        assert any(f"FrameScan: cells, {n} rows" in text for text in plan), (condition, plan)
    sql = "SELECT cell_integer_id, batch, X_pca FROM cells WHERE cell_id IN ('cell5', 'cell2')"
    assert [row[0] for row in array.query(sql).rows()] == [2, 5]
    assert [list(row[2]) for row in array.query(sql).rows()] == [[4.0, 5.0], [10.0, 11.0]]
