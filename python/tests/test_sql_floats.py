"""Infinities, NaN and -0.0 that a query computes, against DuckDB over the same rows."""

import math

import anndata as ad
import duckdb
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from slaf import SLAFArray
from slaf.data import SLAFConverter

INF, NAN = np.inf, np.nan
GROUPS = list("aabbccdeeffgg")
# The groups' sums: NaN, a number, NaN of a NaN, both infinities, NaN with a sign, 0 of -0.0.
VALUES = np.array([INF, -INF, 1, 2, NAN, 1, INF, -INF, -1, -NAN, 0.5, -0.0, -0.0], dtype=np.float32)
ROWS = """(
    SELECT c.g, e.value::DOUBLE AS v, e.cell_integer_id AS i FROM expression e
    JOIN cells c ON c.cell_id = e.cell_id WHERE e.gene_id = 'g0'
)"""

QUERIES = [
    "SELECT g FROM rows GROUP BY g HAVING AVG(v) < 2 ORDER BY g",
    "SELECT g FROM rows GROUP BY g HAVING SUM(v) < 2 ORDER BY g",
    "SELECT g FROM rows GROUP BY g HAVING SUM(v) > 2 ORDER BY g",
    "SELECT g FROM rows GROUP BY g HAVING NOT (SUM(v) >= 2) ORDER BY g",
    "SELECT g, SUM(v) s FROM rows GROUP BY g ORDER BY s, g",
    "SELECT g, SUM(v) s FROM rows GROUP BY g ORDER BY s DESC, g LIMIT 3",
    "SELECT s, COUNT(*) n FROM (SELECT SUM(v) s FROM rows GROUP BY g) GROUP BY s ORDER BY s",
    "SELECT DISTINCT s FROM (SELECT SUM(v) s FROM rows GROUP BY g) ORDER BY s",
    "SELECT MIN(s), MAX(s) FROM (SELECT SUM(v) s FROM rows GROUP BY g)",
    "SELECT COUNT(*) FROM (SELECT SUM(v) s FROM rows GROUP BY g) a "
    "JOIN (SELECT AVG(v) s FROM rows GROUP BY g) b ON a.s = b.s",
    "SELECT i FROM (SELECT i, SUM(v) OVER (PARTITION BY g) s FROM rows) WHERE s < 2 ORDER BY i",
    "SELECT i, SUM(v) OVER (PARTITION BY g ORDER BY i) s FROM rows ORDER BY s, i",
    "SELECT i FROM (SELECT i, AVG(v) OVER (PARTITION BY g) s FROM rows) "
    "WHERE s BETWEEN -5 AND 5 ORDER BY i",
    "SELECT i FROM (SELECT i, AVG(v) OVER (PARTITION BY g) s FROM rows QUALIFY s < 2) ORDER BY i",
    "SELECT i FROM rows WHERE v - v < 1 ORDER BY i",
    "SELECT i FROM rows WHERE v - v = v - v ORDER BY i",
    "SELECT g, CASE WHEN SUM(v) < 0 THEN 'below' ELSE 'not' END FROM rows GROUP BY g ORDER BY g",
    "SELECT g FROM rows GROUP BY g HAVING SUM(v) IN (3, 'nan'::DOUBLE) ORDER BY g",
    "SELECT g FROM rows GROUP BY g HAVING SUM(v) FILTER (WHERE v < 100) < 5 ORDER BY g",
    "SELECT i FROM rows WHERE (SELECT SUM(v) FROM rows) < 2 ORDER BY i",
    "SELECT a.i FROM rows a WHERE (SELECT AVG(v) FROM rows b WHERE b.g = a.g) < 2 ORDER BY a.i",
    "SELECT median(v) < 2 FROM rows WHERE g = 'a'",
    "SELECT g FROM rows GROUP BY ROLLUP(g) HAVING SUM(v) < 2 ORDER BY g",
    "SELECT SUM(v) < 2, AVG(v) < 2 FROM rows",
    "SELECT i, SUM(v) OVER (ORDER BY i ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) s FROM rows "
    "ORDER BY i",
    "SELECT i, AVG(v) OVER (ORDER BY i ROWS BETWEEN 1 PRECEDING AND 1 FOLLOWING) s FROM rows "
    "ORDER BY i",
    "SELECT i, SUM(v) OVER (ORDER BY i ROWS BETWEEN CURRENT ROW AND UNBOUNDED FOLLOWING) s "
    "FROM rows ORDER BY i",
    "SELECT i, AVG(NULLIF(v, 1)) OVER (ORDER BY i RANGE BETWEEN 2 PRECEDING AND 1 PRECEDING) s "
    "FROM rows ORDER BY i",
]


@pytest.fixture(scope="module")
def array(tmp_path_factory):
    obs = pd.DataFrame({"g": pd.Categorical(GROUPS)}, index=[f"c{i}" for i in range(len(GROUPS))])
    x = sp.csr_matrix(np.column_stack([np.ones_like(VALUES), np.arange(len(GROUPS))]))
    # As written: scipy would leave -0.0 out.
    x.data[x.indices == 0] = VALUES
    path = tmp_path_factory.mktemp("floats") / "store.slaf"
    var = pd.DataFrame(index=["g0", "g1"])
    SLAFConverter().convert_anndata(ad.AnnData(x.astype(np.float32), obs=obs, var=var), path)
    return SLAFArray(path)


def comparable(rows):
    """NaN equal to itself."""
    as_text = lambda x: "NaN" if isinstance(x, float) and math.isnan(x) else x  # noqa: E731
    return [tuple(as_text(x) for x in row) for row in rows]


@pytest.mark.parametrize("sql", QUERIES)
def test_computed_floats_have_the_order_of_duckdb(array, sql):
    found = array.query(f"WITH rows AS {ROWS} {sql}").rows()
    numbers = VALUES.astype(np.float64)
    rows = pd.DataFrame({"g": GROUPS, "v": numbers, "i": np.arange(len(GROUPS))})
    connection = duckdb.connect()
    connection.execute("CREATE TABLE rows (g VARCHAR, v DOUBLE, i BIGINT)")
    connection.executemany("INSERT INTO rows VALUES (?, ?, ?)", rows.values.tolist())
    expected = connection.execute(sql).fetchall()
    connection.close()
    assert comparable(found) == comparable(expected)


def test_kept_plans_of_single_cells_have_one_nan(array):
    sql = "SELECT AVG(value) a, AVG(value) < 2 b FROM expression WHERE cell_id = ?"
    for cell, value in zip(["c4", "c2", "c9"], [NAN, 1.0, NAN], strict=True):
        number = int(cell[1:])
        mean = (value + number) / 2
        for _ in range(2):
            (found,) = array.query(sql, [cell]).rows()
            np.testing.assert_equal(found[0], mean)
            # NaN is above all numbers.
            assert found[1] == (mean < 2)


@pytest.mark.parametrize("function", ["sum", "avg", "var", "stddev", "var_pop", "stddev_pop"])
def test_windows_that_move_keep_the_digits_of_small_numbers(array, function):
    rng = np.random.default_rng(3)
    x = np.where(rng.random(200) < 0.05, 1e18, rng.normal(size=200))
    table = pd.DataFrame({"i": np.arange(200), "x": x})
    sql = (
        f"SELECT {function}(x) OVER (ORDER BY i ROWS BETWEEN 4 PRECEDING AND CURRENT ROW) s FROM t"
    )
    found = array.query(f"{sql} ORDER BY i", tables={"t": table})["s"].to_numpy()
    ddof = 0 if function.endswith("pop") else 1
    of = {
        "sum": np.sum,
        "avg": np.mean,
        "var": lambda w: np.var(w, ddof=ddof),
        "stddev": lambda w: np.std(w, ddof=ddof),
    }[function.removesuffix("_pop")]
    for i in range(max(ddof, 1), 200):
        np.testing.assert_allclose(found[i], of(x[max(0, i - 4) : i + 1]), rtol=1e-9, atol=1e-12)
