"""A missing number of obs and var is NULL, in every engine, as pandas has it; one of X is not."""

import anndata as ad
import duckdb
import hypothesis
import numpy as np
import pandas as pd
import polars as pl
import pytest
import scipy.sparse as sp
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from test_queries import open_with

import slaf
from slaf import SLAFArray
from slaf.data import SLAFConverter
from slaf.integrations import read_slaf
from slaf.ml import SLAFDataLoader

ENGINES = ["datafusion", "duckdb"]
NUMBERS = [np.nan, 0.0, -0.0, 1.5, -2.25, 35.0, 1e10, np.inf, -np.inf]


@st.composite
def annotations(draw):
    n = draw(st.integers(1, 20))
    floats = st.sampled_from(NUMBERS)
    codes = draw(hnp.arrays(np.int8, n, elements=st.integers(-1, 2)))
    return pd.DataFrame(
        {
            "a": draw(hnp.arrays(np.float64, n, elements=floats)),
            "b": draw(hnp.arrays(np.float32, n, elements=floats)),
            "g": pd.Categorical.from_codes(codes, ["u", "v", "w"]),
            "k": draw(hnp.arrays(np.int64, n, elements=st.integers(-3, 3))),
        },
        index=[f"c{i}" for i in range(n)],
    )


def nullable(frame: pd.DataFrame) -> pd.DataFrame:
    """The same with pandas' own type of missing numbers, whose logic has three values."""
    made = {}
    for name in ("a", "b", "k"):
        values = frame[name].to_numpy()
        made[name] = pd.array(np.nan_to_num(values.astype(np.float64)), dtype="Float64")
        inf = np.isinf(values)
        made[name][inf] = values[inf].astype(np.float64)
        made[name][np.isnan(values)] = pd.NA
    return pd.DataFrame(made, index=frame.index)


class Predicate:
    """A condition in SQL, and as a function of a frame of pandas."""

    def __init__(self, sql, of):
        self.sql, self.of = sql, of

    def __repr__(self):
        return self.sql

    def count(self, frame):
        return int(self.of(frame).fillna(False).sum())


def _in(column, values):
    def of(frame):
        found = frame[column].isin(values).astype("boolean")
        found[frame[column].isna()] = pd.NA
        return found

    return of


@st.composite
def atoms(draw):
    column = draw(st.sampled_from(["a", "b", "k"]))
    x, y = draw(st.sampled_from([-2.25, 0.0, 1.5, 35.0])), draw(st.sampled_from([0, 1.5, 36.0]))
    sql, of = draw(
        st.sampled_from(
            [
                (f"{column} > {x}", lambda f: f[column] > x),
                (f"{column} <= {x}", lambda f: f[column] <= x),
                (f"{column} = {x}", lambda f: f[column] == x),
                (f"{column} <> {x}", lambda f: f[column] != x),
                (f"{x} < {column}", lambda f: f[column] > x),
                (f"{column} IS NULL", lambda f: f[column].isna().astype("boolean")),
                (f"{column} IS NOT NULL", lambda f: f[column].notna().astype("boolean")),
                (f"{column} IN ({x}, {y})", _in(column, [x, y])),
                (f"{column} NOT IN ({x}, {y})", lambda f: ~_in(column, [x, y])(f)),
                (f"{column} BETWEEN {x} AND {y}", lambda f: (f[column] >= x) & (f[column] <= y)),
                ("a < b", lambda f: f["a"] < f["b"]),
                (f"COALESCE({column}, -1) < {y}", lambda f: f[column].fillna(-1) < y),
                (f"{column} + 1 > {x}", lambda f: f[column] + 1 > x),
            ]
        )
    )
    return Predicate(sql, of)


def predicates():
    def combined(parts):
        return st.one_of(
            st.builds(lambda p: Predicate(f"NOT ({p.sql})", lambda f: ~p.of(f)), parts),
            st.builds(
                lambda p, q: Predicate(f"({p.sql}) AND ({q.sql})", lambda f: p.of(f) & q.of(f)),
                parts,
                parts,
            ),
            st.builds(
                lambda p, q: Predicate(f"({p.sql}) OR ({q.sql})", lambda f: p.of(f) | q.of(f)),
                parts,
                parts,
            ),
        )

    return st.recursive(atoms(), combined, max_leaves=4)


class Case:
    """A store, and what its tables are in pandas."""

    def __init__(self, folder, obs):
        rng = np.random.default_rng(len(obs))
        X = sp.csr_matrix(rng.poisson(1.0, (len(obs), 4)).astype(np.float32))
        var = pd.DataFrame({"score": [0.5, np.nan, np.nan, 2.0]}, index=["g0", "g1", "g2", "g3"])
        self.adata = ad.AnnData(X, obs=obs.copy(), var=var)
        self.path = folder / "store.slaf"
        SLAFConverter().convert_anndata(self.adata, self.path)
        self.handles = [open_with(self.path), open_with(self.path, SLAF_PUSHDOWN="off")]

    def ask(self, sql):
        """The answers of both engines, with pushdown and without."""
        for array in self.handles:
            yield array.query(sql).rows()
        yield self.handles[0].query(sql, engine="duckdb").rows()


def close(found, expected, sql):
    assert len(found) == len(expected), sql
    for ours, theirs in zip(found, expected, strict=True):
        for x, y in zip(ours, theirs, strict=True):
            if y is None or pd.isna(y):
                assert x is None, (sql, ours, theirs)
            elif isinstance(y, str):
                assert x == y, (sql, ours, theirs)
            else:
                assert x == pytest.approx(y, rel=1e-6), (sql, ours, theirs)


def by_key(rows):
    return sorted(rows, key=lambda row: (row[0] is None, str(row[0]), row[1:]))


@hypothesis.given(obs=annotations(), data=st.data(), tiny=st.booleans())
@hypothesis.settings(
    max_examples=6, deadline=None, suppress_health_check=list(hypothesis.HealthCheck)
)
def test_answers_are_those_of_pandas(tmp_path_factory, obs, data, tiny):
    with pytest.MonkeyPatch.context() as patch:
        if tiny:
            patch.setenv("SLAF_FRAGMENT_ROWS", "5")
            patch.setenv("SLAF_BATCH_ROWS", "3")
        case = Case(tmp_path_factory.mktemp("missing"), obs)
        frame = nullable(obs)
        for predicate in data.draw(st.lists(predicates(), min_size=3, max_size=3)):
            sql = f"SELECT COUNT(*) FROM cells WHERE {predicate.sql}"
            for rows in case.ask(sql):
                assert rows == [(predicate.count(frame),)], sql
            kept = case.handles[0].filter_cells(predicate.sql)
            assert kept.height == predicate.count(frame), predicate
        finite = obs[["a", "b"]].replace([np.inf, -np.inf], 7.0).astype(np.float64)
        column = data.draw(st.sampled_from(["a", "b"]))
        x = finite[column]
        numbers = f"CASE WHEN abs({column}) > 1e30 THEN 7 ELSE {column} END"
        sql = (
            f"SELECT COUNT(*), COUNT(x), COUNT(DISTINCT x), SUM(x), AVG(x), MIN(x), MAX(x), "
            f"AVG(COALESCE(x, 1)), COUNT(*) FILTER (WHERE x > 1) / COUNT(*) "
            f"FROM (SELECT {numbers} AS x FROM cells) t"
        )
        total = x.sum() if x.notna().any() else None
        expected = (len(x), x.count(), x.nunique(), total, x.mean(), x.min(), x.max())
        expected += (x.fillna(1).mean(), (x > 1).mean())
        for rows in case.ask(sql):
            close(rows, [expected], sql)
        sql = f"SELECT cell_integer_id FROM cells ORDER BY {column} NULLS LAST, cell_integer_id"
        order = obs[column].reset_index(drop=True).sort_values(kind="stable").index
        for rows in case.ask(sql):
            assert [i for (i,) in rows] == list(order), sql
        sql = (
            "SELECT g, COUNT(x), MIN(x), COUNT(*) "
            f"FROM (SELECT g, {numbers} AS x FROM cells) t GROUP BY g"
        )
        groups = finite.groupby(obs.g, observed=True, dropna=False)[column]
        expected = [(None if pd.isna(g) else g, v.count(), v.min(), len(v)) for g, v in groups]
        for rows in case.ask(sql):
            close(by_key(rows), by_key(expected), sql)
        sizes = obs.groupby(column, dropna=False).size()
        for sql in (
            f"SELECT {column}, COUNT(*) FROM cells GROUP BY {column}",
            f"SELECT c.{column}, COUNT(DISTINCT c.cell_integer_id) FROM cells c "
            f"GROUP BY c.{column}",
        ):
            for rows in case.ask(sql):
                found = {None if k is None else float(k): n for k, n in rows}
                assert found == {None if pd.isna(k) else float(k): n for k, n in sizes.items()}, sql


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    rng = np.random.default_rng(0)
    obs = pd.DataFrame(
        {"age": rng.choice([30.0, 40.0, np.nan], 60), "dose": rng.choice([1, 2, np.nan], 60)},
        index=[f"c{i}" for i in range(60)],
    )
    obs["dose"] = obs["dose"].astype(np.float32)
    return Case(tmp_path_factory.mktemp("missing"), obs)


def test_joins_and_sums_of_expression(case):
    obs, X = case.adata.obs, case.adata.X.toarray()
    of_cells = pd.Series(X.sum(axis=1, dtype=np.float64), index=obs.index)
    sql = (
        "SELECT c.age, SUM(e.value) FROM expression e JOIN cells c USING (cell_integer_id) "
        "GROUP BY c.age"
    )
    expected = of_cells.groupby(obs.age, dropna=False).sum()
    for rows in case.ask(sql):
        assert dict(rows) == {None if pd.isna(k) else k: v for k, v in expected.items()}
    for condition, kept in [
        ("c.age > 35", obs.age > 35),
        ("c.age IS NULL", obs.age.isna()),
        ("NOT (c.age > 35)", obs.age <= 35),
    ]:
        sql = (
            "SELECT SUM(e.value) FROM expression e JOIN cells c USING (cell_integer_id) "
            f"WHERE {condition}"
        )
        for rows in case.ask(sql):
            assert rows == [(of_cells[kept].sum(),)], sql
    of_genes = X.sum(axis=0)[case.adata.var.score.isna()].sum()
    sql = (
        "SELECT SUM(value) FROM expression WHERE gene_integer_id IN "
        "(SELECT gene_integer_id FROM genes WHERE score IS NULL)"
    )
    for rows in case.ask(sql):
        assert rows == [(of_genes,)]


def test_frames_and_filters(case):
    array, obs = case.handles[0], case.adata.obs
    missing = int(obs.age.isna().sum())
    for frame in (array.obs, array.filter_cells(), array.scan("cells").collect()):
        assert frame["age"].null_count() == missing
        assert frame["age"].is_nan().sum() == 0
        assert frame["age"].mean() == pytest.approx(obs.age.mean())
        np.testing.assert_array_equal(frame["age"].to_pandas(), obs.age)
    assert array.var["score"].null_count() == 2
    lazy = array.scan("cells").filter(pl.col("age") > 35)
    for kept in (
        array.filter_cells(age=">35"),
        array.filter_cells("age > 35"),
        array.obs.filter(pl.col("age") > 35),
        lazy.collect(),
    ):
        assert kept["cell_id"].to_list() == list(obs.index[obs.age > 35])
    for kept in (
        array.filter_cells(age=None),
        array.filter_cells(age=np.nan),
        array.filter_cells("age IS NULL"),
    ):
        assert kept["cell_id"].to_list() == list(obs.index[obs.age.isna()])
    assert array.filter_cells(age="!=30").height == array.filter_cells("age <> 30").height
    assert array.filter_genes("score IS NULL").height == array.filter_genes(score=None).height == 2


@pytest.mark.parametrize("where", ["age > 35", "age IS NULL", "NOT (dose = 1)", "age = dose"])
def test_loaders_train_on_the_cells_that_are_meant(case, where):
    obs = case.adata.obs
    kept = {
        "age > 35": obs.age > 35,
        "age IS NULL": obs.age.isna(),
        "NOT (dose = 1)": (obs.dose != 1) & obs.dose.notna(),
        "age = dose": obs.age == obs.dose,
    }[where]
    options = {"raw_mode": True, "where": where, "return_tensors": "numpy"}
    if not kept.any():
        with pytest.raises(slaf.InvalidArgumentError):
            SLAFDataLoader(case.handles[0], **options)
        return
    loader = SLAFDataLoader(case.handles[0], **options)
    found = [i for batch in loader for i in batch["cell_ids"]]
    assert sorted(found) == list(np.flatnonzero(kept))


def test_round_trips_keep_nan(case, tmp_path):
    lazy = read_slaf(case.path)
    for of in ("obs", "var"):
        original = getattr(case.adata, of)
        for name in original:
            assert (
                getattr(lazy, of)[name].to_numpy().tobytes() == original[name].to_numpy().tobytes()
            )
    case.handles[0].export(tmp_path / "back.h5ad")
    back = ad.read_h5ad(tmp_path / "back.h5ad")
    assert back.obs.age.to_numpy().tobytes() == case.adata.obs.age.to_numpy().tobytes()


def test_values_of_matrices_stay_as_they_are(tmp_path):
    X = sp.csr_matrix(np.array([[np.nan, 1], [2, 0], [np.nan, 3]], dtype=np.float32))
    adata = ad.AnnData(X, obs=pd.DataFrame(index=["c0", "c1", "c2"]))
    adata.var_names = ["G0", "G1"]
    adata.layers["scaled"] = X.copy()
    adata.obsm["pca"] = np.array([[np.nan, 1.0], [2, 3], [4, 5]])
    SLAFConverter().convert_anndata(adata, tmp_path / "s.slaf")
    array = SLAFArray(tmp_path / "s.slaf")
    for sql, expected in [
        (
            "SELECT COUNT(*), COUNT(value), COUNT(*) FILTER (WHERE isnan(value)) FROM expression",
            (5, 5, 2),
        ),
        ("SELECT COUNT(scaled), COUNT(*) FILTER (WHERE isnan(scaled)) FROM layers", (5, 2)),
        ("SELECT COUNT(*) FILTER (WHERE isnan(pca[1])), COUNT(pca[1]) FROM cells", (1, 3)),
    ]:
        for engine in ENGINES:
            assert array.query(sql, engine=engine).row(0) == expected, (sql, engine)
    found = array.query("SELECT COUNT(G0), COUNT(*) FILTER (WHERE isnan(G0)) FROM cells").row(0)
    assert found == (3, 2)
    assert array.scan("expression").select("value").collect()["value"].is_nan().sum() == 2


EQUAL = [
    "SELECT {x}, COUNT(*) FROM {t} GROUP BY {x}",
    "SELECT COUNT(DISTINCT {x}) FROM {t}",
    "SELECT COUNT(*) FROM (SELECT DISTINCT {x} FROM {t})",
    "SELECT COUNT(*) FROM {t} WHERE {x} = 0",
    "SELECT COUNT(*) FROM {t} WHERE {x} = -0.0",
    "SELECT COUNT(*) FROM {t} WHERE {x} < 0",
    "SELECT COUNT(*) FROM {t} WHERE {x} BETWEEN 0 AND 40",
    "SELECT COUNT(*) FROM {t} WHERE {x} IN (0, 1.5)",
    "SELECT COUNT(*) FROM {t} a JOIN {t} b ON a.{x} = b.{x}",
    "SELECT k, RANK() OVER (ORDER BY {x} NULLS LAST) FROM {t}",
    "SELECT k, MIN({x}), MAX({x}) FROM {t} GROUP BY k",
    "SELECT g, MIN({x}), MAX({x}) FROM {t} GROUP BY g",
    "SELECT MIN({x}), MAX({x}) FROM {t}",
    "SELECT -{x}, COUNT(*) FROM {t} GROUP BY -{x}",
    "SELECT round({x} / 100), COUNT(*) FROM {t} GROUP BY 1",
    "SELECT COUNT(*) FROM {t} WHERE {x} * -1 = 0",
    "SELECT COUNT(*) FROM {t} WHERE {x} - {x} > 1e300",
]


def test_equal_floats_are_one_value(tmp_path):
    """-0.0 is 0, a group of infinities has extremes, and NaN is as DuckDB has it."""
    rng = np.random.default_rng(3)
    n = 80
    obs = pd.DataFrame(
        {
            "a": rng.choice(NUMBERS, n),
            "b": rng.choice(NUMBERS, n).astype(np.float32),
            "k": np.arange(n),
            "g": rng.choice(["u", "v"], n),
        },
        index=[f"c{i}" for i in range(n)],
    )
    X = sp.csr_matrix(np.ones((n, 2), dtype=np.float32))
    X.data[:] = rng.choice(NUMBERS, 2 * n)
    SLAFConverter().convert_anndata(ad.AnnData(X, obs=obs), tmp_path / "s.slaf")
    handles = [
        open_with(tmp_path / "s.slaf"),
        open_with(tmp_path / "s.slaf", SLAF_PUSHDOWN="off"),
    ]
    oracle = duckdb.connect()
    oracle.register("cells", pl.from_pandas(obs, nan_to_null=True))
    stored = pl.DataFrame(
        {
            "value": X.data,
            "k": np.repeat(np.arange(n), 2),
            "g": np.repeat(obs.g.to_numpy().astype(object), 2),
        }
    )
    oracle.register("stored", stored)

    def rows(found):
        def plain(x):
            return str(float(f"{x + 0.0:.6g}")) if isinstance(x, float) else str(x)

        return sorted(tuple(map(plain, row)) for row in found)

    mine = obs[["b", "k"]]
    for sql in EQUAL:
        for table, column in [("cells", "a"), ("cells", "b"), ("stored", "value")]:
            text = sql.format(t=table, x=column)
            expected = rows(oracle.execute(text).fetchall())
            view = "(SELECT value, c.k, c.g FROM expression e JOIN cells c USING (cell_integer_id))"
            for array in handles:
                if table == "stored":
                    found = array.query(f"WITH stored AS {view} {text}")
                else:
                    found = array.query(text)
                assert rows(found.rows()) == expected, text
    for array in handles:
        sql = "SELECT COUNT(*) FROM cells c JOIN mine m ON c.a = m.b"
        found = array.query(sql, tables={"mine": mine}).item()
        assert (
            found
            == oracle.execute("SELECT COUNT(*) FROM cells c JOIN cells m ON c.a = m.b").fetchone()[
                0
            ]
        )
        sql = "SELECT gene_integer_id, MIN(value), MAX(value) FROM expression GROUP BY 1"
        for gene, low, high in array.query(sql).rows():
            values = X[:, [gene]].toarray()
            assert low == np.nanmin(values)
            assert np.isnan(high)


def test_numbers_beside_float32_are_float32(tmp_path):
    """`x <= 0.1` takes the cells whose float32 is 0.1, as pandas and filter_cells do."""
    values = np.array([0.1, 0.2, 0.3, np.nan, np.inf, 1e30], dtype=np.float32)
    obs = pd.DataFrame({"x": values}, index=[f"c{i}" for i in range(6)])
    X = sp.csr_matrix(values[:3, None].repeat(2, 0))
    SLAFConverter().convert_anndata(ad.AnnData(X, obs=obs), tmp_path / "s.slaf")
    array = SLAFArray(tmp_path / "s.slaf")
    for op, of in [
        ("=", np.equal),
        (">", np.greater),
        ("<=", np.less_equal),
        ("<>", lambda a, b: (a != b) & ~np.isnan(a)),
    ]:
        for number in (0.1, 0.2, 0.25, 1e300, 1e30):
            # What no float32 is near to stays as it is.
            near = np.float32(number) if number < 1e100 else np.float64(number)
            expected = int(of(values, near).sum())
            sql = f"SELECT COUNT(*) FROM cells WHERE x {op} "
            assert array.query(f"{sql}{number}").item() == expected, (op, number)
            assert array.query(f"{sql}?", [number]).item() == expected, (op, number)
            if number < 1e100 and op != "<>":
                assert array.filter_cells(x=f"{op}{number}").height == expected
    for condition, n in [
        ("x IN (0.1, 0.3)", 2),
        ("x NOT IN (0.1, 0.3)", 3),
        ("x BETWEEN 0.1 AND 0.2", 2),
        ("0.2 >= x", 2),
        ("x IS NOT DISTINCT FROM 0.2", 1),
    ]:
        assert array.query(f"SELECT COUNT(*) FROM cells WHERE {condition}").item() == n, condition
    assert array.query("SELECT COUNT(*) FROM expression WHERE value = 0.3").item() == 2
    assert array.query('SELECT COUNT(*) FROM cells WHERE "0" > 0.1').item() == 4


@pytest.mark.parametrize("engine", ENGINES)
def test_missing_values_come_last(tmp_path, engine):
    """Whether a column rises or falls, as in pandas: the highest are none that are missing."""
    obs = pd.DataFrame({"age": [3.0, np.nan, 1.0, 2.0]}, index=list("abcd"))
    path = str(tmp_path / "a.slaf")
    SLAFConverter().convert_anndata(ad.AnnData(np.ones((4, 1), np.float32), obs), path)
    array = SLAFArray(path)
    for direction in ("ASC", "DESC"):
        expected = obs.sort_values("age", ascending=direction == "ASC").index.to_list()
        sql = f"SELECT cell_id FROM cells ORDER BY age {direction}"
        assert array.query(sql, engine=engine)["cell_id"].to_list() == expected
        ranks = f"SELECT cell_id FROM cells ORDER BY ROW_NUMBER() OVER (ORDER BY age {direction})"
        assert array.query(ranks, engine=engine)["cell_id"].to_list() == expected
