"""Questions for single cells, whose plan is kept and whose names are looked up once.

They are compared with pandas, and with the same text with the values in it, asked of a handle that
has kept nothing.
"""

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import anndata as ad
import hypothesis
import numpy as np
import pandas as pd
import polars as pl
import pytest
import scipy.sparse as sp
from hypothesis import strategies as st
from polars.testing import assert_frame_equal
from test_plans import literal

from slaf import InvalidArgumentError, SLAFArray, TimeLimitError, UnknownNameError
from slaf.data import SLAFConverter

pytestmark = pytest.mark.filterwarnings("ignore:Observation names are not unique")

N, M = 40, 30
ODD = ["it's", 'quo"te', "", "a b", "Ünï🧬", "'; DROP TABLE cells; --", "$1", "?", "n" * 300]


def matrix(dtype: str) -> sp.csr_matrix:
    rng = np.random.default_rng(7)
    X = sp.random(N, M, density=0.4, format="csr", random_state=3)
    X.data = rng.integers(1, 100, X.nnz).astype(dtype)
    X.data[::7] = 0
    if np.dtype(dtype).kind == "f":
        X.data[:6] = [np.nan, np.inf, -np.inf, -0.0, 0.1, 1e-30]
    # A cell without values.
    X = X.tolil()
    X[5] = 0
    X = X.tocsr()
    X.sort_indices()
    return X


def made(dtype: str) -> ad.AnnData:
    names = [f"cell{i}" for i in range(N)]
    names[10 : 10 + len(ODD)] = ODD
    # One name for two cells.
    names[30] = names[3]
    obs = pd.DataFrame(
        {"batch": [f"b{i % 3}" for i in range(N)], "cell_id": [f"o{i}" for i in range(N)]},
        index=pd.Index(names, dtype=object),
    )
    var = pd.DataFrame(index=pd.Index([f"gene{i}" if i else "g'0" for i in range(M)], dtype=object))
    X = matrix(dtype)
    return ad.AnnData(X, obs=obs, var=var, layers={"twice": X * 2})


@pytest.fixture(scope="module", params=["float32", "uint16", "int64", "bool"])
def pair(request, tmp_path_factory):
    adata = made(request.param)
    path = str(tmp_path_factory.mktemp("points") / "a.slaf")
    SLAFConverter().convert_anndata(adata, path)
    return adata, path


def rows_of(adata: ad.AnnData, layer: str | None = None) -> pd.DataFrame:
    """A row for each stored value, in order."""
    X = sp.csr_matrix(adata.X if layer is None else adata.layers[layer])
    cells = np.repeat(np.arange(N), np.diff(X.indptr))
    return pd.DataFrame(
        {
            "cell": cells,
            "cell_id": np.array(adata.obs_names, dtype=object)[cells],
            "gene_id": np.array(adata.var_names, dtype=object)[X.indices],
            "value": X.data,
        }
    )


def triplets(frame: pl.DataFrame) -> list[tuple]:
    """The rows of a frame, comparable."""
    return [(str(c), str(g), repr(float(v))) for c, g, v in frame.rows()]


def expected_triplets(frame: pd.DataFrame) -> list[tuple]:
    columns = zip(frame.cell_id, frame.gene_id, frame.value, strict=True)
    return [(c, g, repr(float(v))) for c, g, v in columns]


def in_sql(rows: list[tuple]) -> list[tuple]:
    """SQL has one zero."""
    return [(c, g, "0.0" if v == "-0.0" else v) for c, g, v in rows]


def test_cells_by_name_and_number(pair):
    adata, path = pair
    all_rows, array = rows_of(adata), SLAFArray(path)
    for _ in range(2):
        for i, name in enumerate(adata.obs_names):
            by_number = all_rows[all_rows.cell == i]
            assert triplets(array.get_cell_expression(i)) == expected_triplets(by_number)
            if list(adata.obs_names).count(name) > 1:
                with pytest.raises(UnknownNameError, match="more than one"):
                    array.get_cell_expression(name)
                continue
            found = array.get_cell_expression(name)
            assert_frame_equal(found, array.get_cell_expression(i))
            assert_frame_equal(found, array.get_cell_expression([name]))
            genes = ["gene7", "g'0", "gene7"]
            assert_frame_equal(array.get_submatrix(name, genes), array.get_submatrix(i, genes))
            twice = array.get_submatrix(name, slice(2, 20), layer="twice")
            assert_frame_equal(twice, array.get_submatrix([i], slice(2, 20), layer="twice"))
        with pytest.raises(UnknownNameError, match="near"):
            array.get_cell_expression("cel1")
        with pytest.raises(UnknownNameError):
            array.get_submatrix("cell1", None, layer="none")


TEXTS = [
    "SELECT gene_id, value FROM expression WHERE cell_id = {}",
    "SELECT * FROM expression WHERE cell_id = {}",
    "SELECT value, value AS again, 1 AS one FROM expression AS e WHERE {} = e.cell_id",
    "SELECT SUM(value) FROM expression WHERE cell_id = {}",
    "SELECT COUNT(*) AS n, MIN(value), MAX(value), AVG(value) FROM expression WHERE cell_id = {}",
    "SELECT VAR(value), COUNT(value) FILTER (WHERE value > 3) FROM expression WHERE cell_id = {}",
    "SELECT gene_id FROM expression WHERE cell_id = {} AND value > 5",
    "SELECT gene_integer_id, CASE WHEN value > 5 THEN 'x' ELSE NULL END AS c, value IS NULL "
    "FROM expression WHERE cell_id = {}",
    "SELECT cell_id, value * 2 AS v FROM expression WHERE cell_id = {} AND gene_integer_id < 9",
    "SELECT gene_id, value FROM expression WHERE gene_id = 'gene4' AND cell_id = {}",
    "SELECT twice FROM layers WHERE cell_id = {}",
    # These are planned each time.
    "SELECT gene_id, value FROM expression WHERE cell_id = {} ORDER BY value DESC, gene_id LIMIT 3",
    "SELECT gene_id, SUM(value) AS s FROM expression WHERE cell_id = {} GROUP BY 1 ORDER BY 1",
    "SELECT log1p(value) FROM expression WHERE cell_id = {}",
    "SELECT COUNT(DISTINCT gene_id) FROM expression WHERE cell_id <> {}",
    "SELECT value FROM expression WHERE cell_id = {} LIMIT 2",
    "SELECT {} AS x, value FROM expression WHERE cell_id = 'cell1'",
]  # fmt: skip
NUMBERED = [text.replace("cell_id = {}", "cell_integer_id = {}") for text in TEXTS[:8]]


def answer(array: SLAFArray, *args):
    try:
        return array.query(*args)
    except Exception as e:
        return type(e)


def same(found, expected, dtypes: bool = True, order: bool = True) -> None:
    if isinstance(expected, pl.DataFrame):
        options = {"check_dtypes": dtypes, "check_exact": True, "check_row_order": order}
        assert_frame_equal(found, expected, **options)
    else:
        assert found is expected


@pytest.mark.parametrize("text", range(len(TEXTS)))
def test_values_in_a_text_and_bound_to_it(pair, text):
    adata, path = pair
    array, text = SLAFArray(path), TEXTS[text]
    names = [*adata.obs_names[:6], *ODD, "none", adata.obs_names[39]]
    expected = {name: answer(SLAFArray(path), text.format(literal(name))) for name in set(names)}
    for _ in range(2):
        for name in names:
            # Two cells may come from two threads, in any order.
            is_one = list(adata.obs_names).count(name) < 2
            if not is_one and "LIMIT 2" in text:
                continue
            for args in (("?", [name]), ("$name", {"name": name}), (literal(name),)):
                found = answer(array, text.format(args[0]), *args[1:])
                same(found, expected[name], order=is_one)


@pytest.mark.parametrize("text", range(len(NUMBERED)))
def test_numbers_of_cells(pair, text):
    _, path = pair
    array, text = SLAFArray(path), NUMBERED[text]
    for cell in (0, 3, 5, N - 1, N, -1, 2**62, 1.0, 0.5, True, "3", None, 7):
        expected = answer(SLAFArray(path), text.format(literal(cell)))
        for _ in range(3):
            same(answer(array, text.format("?"), [cell]), expected, cell is not None)


def test_answers_are_those_of_pandas(pair):
    adata, path = pair
    all_rows, array = rows_of(adata), SLAFArray(path)
    for _ in range(2):
        for name in adata.obs_names:
            rows = all_rows[all_rows.cell_id == name]
            text = "SELECT cell_id, gene_id, value FROM expression WHERE cell_id = ?"
            found = array.query(text, [name])
            if rows.cell.nunique() < 2:
                assert triplets(found) == in_sql(expected_triplets(rows))
            assert sorted(triplets(found)) == sorted(in_sql(expected_triplets(rows)))
            assert found.schema["gene_id"] == pl.Categorical
            n = array.query("SELECT COUNT(*) FROM expression WHERE cell_id = ?", [name]).item()
            assert n == len(rows)


@hypothesis.given(data=st.data())
def test_any_columns_and_conditions(pair, data):
    """A random text, kept and asked of many cells."""
    adata, path = pair
    columns = [
        "cell_integer_id",
        "gene_integer_id",
        "value",
        "cell_id",
        "gene_id",
        "value + 1 AS v",
    ]
    chosen = data.draw(st.lists(st.sampled_from(columns), min_size=1, max_size=4, unique=True))
    some = ["value > 2", "gene_integer_id < 12", "gene_id = 'gene3'", "NOT value = 1"]
    more = st.sampled_from(some)
    conditions = data.draw(st.lists(more, max_size=2))
    by_name = data.draw(st.booleans())
    key = "cell_id" if by_name else "cell_integer_id"
    where = " AND ".join([f"{key} = {{}}", *conditions])
    text = f"SELECT {', '.join(chosen)} FROM expression WHERE {where}"
    array = SLAFArray(path)
    for cell in data.draw(st.lists(st.integers(0, N - 1), min_size=3, max_size=5)):
        value = adata.obs_names[cell] if by_name else cell
        expected = answer(SLAFArray(path), text.format(literal(value)))
        is_one = not by_name or list(adata.obs_names).count(value) < 2
        same(answer(array, text.format("?"), [value]), expected, order=is_one)


def test_no_plan_is_made_twice(tmp_path):
    """The log says when a query is planned: for the first values, and until the names are there."""
    path = str(tmp_path / "a.slaf")
    SLAFConverter().convert_anndata(made("float32"), path)
    program = f"""
import slaf.logging
from slaf import SLAFArray
slaf.logging.start("debug")
array = SLAFArray({path!r})
for i in range(30):
    array.query("SELECT gene_id, value FROM expression WHERE cell_id = ?", ["cell%d" % (i % 8)])
    array.query("SELECT SUM(value) FROM expression WHERE cell_integer_id = ?", [i])
"""
    command = [sys.executable, "-W", "ignore", "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    lines = done.stderr.splitlines()
    assert sum("}:plan: " in line for line in lines) <= 4
    assert sum("query{" in line and ":plan: " not in line for line in lines) == 60


def test_limits_are_those_of_each_question(pair):
    _, path = pair
    array, text = SLAFArray(path), "SELECT value FROM expression WHERE cell_id = ?"
    for name in ("cell1", "cell2", "cell1"):
        array.query(text, [name])
    with pytest.raises(TimeLimitError):
        array.query(text, ["cell1"], timeout=0)
    assert array.query(text, ["cell1"], timeout=60).height > 0
    with pytest.raises(InvalidArgumentError):
        array.query(text)
    with pytest.raises(InvalidArgumentError):
        array.query(text, ["cell1", "cell2"])


def test_threads_get_their_own_answers(pair):
    adata, path = pair
    all_rows, array = rows_of(adata), SLAFArray(path)
    names = [name for name in adata.obs_names if list(adata.obs_names).count(name) == 1]
    expected = {n: expected_triplets(all_rows[all_rows.cell_id == n]) for n in names}
    text = "SELECT cell_id, gene_id, value FROM expression WHERE cell_id = ?"
    main = threading.get_ident()

    def work(seed):
        assert threading.get_ident() != main
        for i in range(60):
            name = names[(seed * 11 + i) % len(names)]
            assert triplets(array.get_cell_expression(name)) == expected[name]
            assert triplets(array.query(text, [name])) == in_sql(expected[name])
            with pytest.raises(UnknownNameError):
                array.get_cell_expression("none of these")

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(work, range(16)))


def test_handles_keep_their_version(tmp_path):
    path = str(tmp_path / "a.slaf")
    adata = made("float32")
    adata.obs_names = [f"cell{i}" for i in range(N)]
    SLAFConverter().convert_anndata(adata, path)
    text = "SELECT gene_id, value FROM expression WHERE cell_id = ?"
    old, array = SLAFArray(path), SLAFArray(path)
    before = {name: array.query(text, [name]) for name in adata.obs_names}
    assert before["cell9"].height > 0
    array.delete_cells(where="cell_id = 'cell9' OR cell_id = 'cell2'")
    for handle in (array, SLAFArray(path)):
        for _ in range(2):
            for name in adata.obs_names:
                gone = name in ("cell9", "cell2")
                found = handle.query(text, [name])
                assert_frame_equal(found, before[name].clear() if gone else before[name])
                if gone:
                    with pytest.raises(UnknownNameError):
                        handle.get_cell_expression(name)
                else:
                    assert handle.get_cell_expression(name).height == before[name].height
    assert_frame_equal(old.query(text, ["cell9"]), before["cell9"])
    assert old.get_cell_expression("cell9").height == before["cell9"].height
    old.refresh()
    assert old.query(text, ["cell9"]).height == 0
