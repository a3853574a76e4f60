"""obs and var of lazy data sets read what is asked for, and are pandas' all the same."""

import copy
import pickle
import threading
import warnings

import numpy as np
import pandas as pd
import pytest

from slaf import SLAFArray
from slaf._store import Store
from slaf.integrations import read_slaf


class Reads:
    """A store's native side, with a list of the columns that were read of it."""

    def __init__(self, native):
        self._native, self.columns_read = native, []

    def __getattr__(self, name):
        return getattr(self._native, name)

    def columns(self, of, columns, rows, names=True):
        self.columns_read.append((of, columns, names))
        return self._native.columns(of, columns, rows, names)


@pytest.fixture
def lazy(store_path, monkeypatch):
    reads = Reads(Store(store_path, None, None).native)
    adata = read_slaf(store_path)
    monkeypatch.setattr(adata._store, "native", reads)
    return adata


def reads(adata):
    return adata._store.native.columns_read


def test_a_filter_reads_its_columns_and_then_its_rows(lazy, original):
    obs = lazy.obs
    assert isinstance(obs, pd.DataFrame)
    assert (obs.shape, len(obs), list(obs)) == ((6, 6), 6, list(original.obs.columns))
    chosen = (obs.batch == "b1") & (obs["n_counts"] > 1)
    assert chosen.sum() == 2
    view = lazy[chosen]
    assert reads(lazy) == [("obs", ["batch"], False), ("obs", ["n_counts"], False)]
    pd.testing.assert_frame_equal(
        view.obs, original[(original.obs.batch == "b1") & (original.obs.n_counts > 1)].copy().obs
    )
    assert reads(lazy)[2:] == [("obs", None, True)]
    # What was read is not read again.
    pd.testing.assert_frame_equal(obs.head(), original.obs.head())
    rest = [c for c in original.obs.columns if c not in ("batch", "n_counts")]
    assert reads(lazy)[3:] == [("obs", rest, True)]
    assert type(obs) is pd.DataFrame
    assert lazy.obs is obs


def test_a_name_is_found_without_all_names(lazy, original):
    assert lazy["cell3"].obs_names.tolist() == ["cell3"]
    assert lazy[:, "gene2"].var_names.tolist() == ["gene2"]
    assert [r for r in reads(lazy) if r[1] is None] == []


SERIES = {
    "equal": lambda f: f.batch == "b1",
    "unequal": lambda f: f["note"] != "x",
    "less": lambda f: f.score < 1,
    "nullable": lambda f: f.depth >= 3,
    "isin": lambda f: f.batch.isin(["b2", "unused"]),
    "between": lambda f: f.n_counts.between(2, 4),
    "missing": lambda f: f.score.isna() | f.depth.isna(),
    "not": lambda f: ~f.doublet,
    "both": lambda f: f.doublet & (f.n_counts > 1),
    "arithmetic": lambda f: 2 * f.n_counts - f.score / f.depth,
    "array": lambda f: f.n_counts == np.arange(6),
    "other": lambda f: f.n_counts == pd.Series(range(6), index=[f"cell{i}" for i in range(6)]),
    "aligned": lambda f: f.n_counts + pd.Series([1, 2], index=["cell5", "cell0"]),
    "types": lambda f: f.batch.astype(str),
    "column": lambda f: f.note,
    "counts": lambda f: f.batch.value_counts(),
    "codes": lambda f: f.batch.cat.codes,
    "ufunc": lambda f: np.log1p(f.n_counts),
    "map": lambda f: f.batch.map({"b1": "one", "b2": "two"}),
    "str": lambda f: f.note.str.upper(),
    "group": lambda f: f.n_counts.groupby(f.batch, observed=True).sum(),
    "row": lambda f: f.loc["cell1"],
    "named": lambda f: f.n_counts.rename("n"),
}
FRAMES = {
    "itself": lambda f: f,
    "copy": lambda f: f.copy(),
    "columns": lambda f: f[["batch", "score"]],
    "mask": lambda f: f[f.n_counts > 2],
    "pickle": lambda f: pickle.loads(pickle.dumps(f)),
    "deepcopy": copy.deepcopy,
    "made": pd.DataFrame,
    "concat": lambda f: pd.concat([f, f]),
    "groups": lambda f: f.groupby("batch", observed=True)[["n_counts"]].mean(),
    "assign": lambda f: f.assign(more=f.n_counts * 2),
    "query": lambda f: f.query("n_counts > 2"),
    "reset": lambda f: f.reset_index(),
}


@pytest.mark.parametrize("name", SERIES)
def test_series(lazy, original, name):
    ours, theirs = SERIES[name](lazy.obs), SERIES[name](original.obs)
    assert ours.dtype == theirs.dtype
    assert repr(ours.to_list()) == repr(theirs.to_list())
    assert ours.name == theirs.name
    assert repr(ours) == repr(theirs)
    pd.testing.assert_series_equal(ours, theirs)


@pytest.mark.parametrize("name", FRAMES)
def test_frames(lazy, original, name):
    ours, theirs = FRAMES[name](lazy.obs), FRAMES[name](original.obs)
    pd.testing.assert_frame_equal(ours, theirs)
    assert repr(ours) == repr(theirs)


def test_changes_show_where_pandas_shows_them(store_path, original):
    def change(frame):
        column, mask = frame.n_counts, frame.batch == "b1"
        seen = frame["score"]
        frame["new"] = frame.n_counts + 1
        frame.loc[mask, "n_counts"] = 9
        column.name = "renamed"
        return frame, column, mask, seen

    ours, theirs = change(read_slaf(store_path).obs), change(original.obs)
    for a, b in zip(ours[1:], theirs[1:], strict=True):
        pd.testing.assert_series_equal(a, b)
    pd.testing.assert_frame_equal(ours[0], theirs[0])


def test_a_column_that_is_set_in_place(store_path, original):
    # Before pandas 3 this changes the frame.
    def change(frame):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            column = frame["n_counts"]
            column.iloc[0] = 100
            return frame["n_counts"].tolist(), column.tolist()

    assert change(read_slaf(store_path).obs) == change(original.obs)


def test_columns_that_were_taken_keep_their_values(store_path):
    adata = read_slaf(store_path)
    before = adata.obs["n_counts"]
    adata.obs["n_counts"] = 0
    assert before.tolist() == [1, 2, 3, 4, 5, 0]
    assert adata.obs["n_counts"].tolist() == [0] * 6
    assert adata[:2].obs["n_counts"].tolist() == [0, 0]


def test_frames_that_are_set_replace_those_that_are_read(store_path):
    adata = read_slaf(store_path)
    old = adata.obs
    adata.obs = pd.DataFrame({"a": range(6)}, index=[f"n{i}" for i in range(6)])
    old["b"] = 1
    assert list(adata.obs) == ["a"]
    assert "b" in old
    copied, other = read_slaf(store_path).copy(), read_slaf(store_path)
    other.obs["x"] = 1
    assert "x" not in copied.obs


def test_attributes(store_path):
    obs = read_slaf(store_path).obs
    with pytest.raises(AttributeError, match="nothing"):
        _ = obs.nothing
    with pytest.raises(KeyError, match="nothing"):
        read_slaf(store_path).obs["nothing"]
    obs = read_slaf(store_path).obs
    obs.attrs["a"] = 1
    assert obs.attrs == {"a": 1}
    obs = read_slaf(store_path).obs
    obs.columns = list("abcdef")
    assert list(obs) == list("abcdef")


def test_threads_read_once(store_path, original):
    for _ in range(20):
        obs, found = read_slaf(store_path).obs, []

        def work(obs=obs, found=found):
            found.append((obs["n_counts"].sum(), obs.loc["cell1", "note"], obs.batch.iloc[3]))

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert found == [(15, "x", "b2")] * 4
        pd.testing.assert_frame_equal(obs, original.obs)


def test_values_with_names(store_path, original):
    array, X = SLAFArray(store_path), original.X.tocsc()
    found = array.get_gene_expression(["gene3", "gene0", "gene3"])
    expected = [
        (f"cell{X.indices[i]}", f"gene{g}", X.data[i])
        for g in (3, 0, 3)
        for i in range(X.indptr[g], X.indptr[g + 1])
    ]
    assert sorted(found.rows()) == sorted(expected)
    assert found["gene_id"].to_list() == [g for _, g, _ in expected]
    assert found.rows() == expected
    assert [str(t) for t in found.dtypes] == ["String", "String", "Float32"]
    rows = array.get_submatrix([5, 0, 5], ["gene1", "gene0"]).rows()
    assert rows == [("cell5", "gene1", 8.0), ("cell5", "gene0", 7.0), ("cell0", "gene0", 1.0),
                    ("cell5", "gene1", 8.0), ("cell5", "gene0", 7.0)]  # fmt: skip
    assert array.get_gene_expression([]).rows() == []
    assert array.get_submatrix(4).rows() == []
    assert array.get_submatrix(0, 0, layer="dense")["value"].to_list() == [1]


@pytest.mark.parametrize("column", ["n_counts", "score", "doublet", "batch", "note", "depth"])
@pytest.mark.parametrize("how", ["values", "array", "to_numpy", "asarray"])
def test_what_is_written_into_a_column_is_there_or_refused(growing_path, column, how):
    adata = read_slaf(growing_path)
    series = adata.obs[column]
    value = list(series)[1]
    array = {
        "values": lambda: adata.obs[column].values,
        "array": lambda: adata.obs[column].array,
        "to_numpy": lambda: adata.obs[column].to_numpy(),
        "asarray": lambda: np.asarray(adata.obs[column]),
    }[how]()
    before = next(iter(adata.obs[column]))
    refused = None
    try:
        array[0] = value
    except ValueError as error:
        refused = str(error)
    after = next(iter(adata.obs[column]))
    if refused is not None:
        assert "read-only" in refused
        assert after == before
    elif how in ("to_numpy", "asarray"):
        # What pandas gives may be a copy: then it is one here, too.
        reference = read_slaf(growing_path).to_memory().obs
        plain = reference[column].to_numpy() if how == "to_numpy" else np.asarray(reference[column])
        plain[0] = value
        assert after == next(iter(reference[column]))
    else:
        assert after is value or after == value


def test_a_column_takes_another_name(growing_path):
    series = read_slaf(growing_path).obs["batch"]
    series.name = "other"
    assert series.name == "other"
    assert series.value_counts().index.name == "other"
    assert (series == "b1").name == "other"
    assert series.to_frame().columns.tolist() == ["other"]


WRITES = {
    "loc": lambda f: f.loc.__setitem__((["cell1", "cell3"], "n_counts"), 99),
    "loc of one": lambda f: f.loc.__setitem__(("cell1", "n_counts"), 99),
    "loc of a mask": lambda f: f.loc.__setitem__((f["batch"] == "b1", "n_counts"), 7),
    "loc of a category": lambda f: f.loc.__setitem__((f["n_counts"] > 2, "batch"), "b1"),
    "loc of a new column": lambda f: f.loc.__setitem__((slice(None), "new"), 1),
    "iloc": lambda f: f.iloc.__setitem__((2, 0), f.iloc[0, 0]),
    "at": lambda f: f.at.__setitem__(("cell1", "n_counts"), 99),
    "iat": lambda f: f.iat.__setitem__((1, 0), f.iat[2, 0]),
    "insert": lambda f: f.insert(0, "first", 3),
    "pop": lambda f: f.pop("n_counts"),
    "update": lambda f: f.update(pd.DataFrame({"score": [50.0]}, index=["cell3"])),
    "rename": lambda f: f.rename(columns={"n_counts": "n"}, inplace=True),
    "drop": lambda f: f.drop(columns="n_counts", inplace=True),
    "replace": lambda f: f.replace({"note": {"a": "A"}}, inplace=True),
    "several": lambda f: f.__setitem__(["n_counts", "z"], np.ones((6, 2))),
    "eval": lambda f: f.eval("z = n_counts * 2", inplace=True),
}


@pytest.mark.parametrize("write", WRITES)
def test_writes_reach_what_was_not_read_yet(lazy, original, write):
    ours, theirs = lazy.obs, original.obs
    assert reads(lazy) == []
    WRITES[write](ours)
    WRITES[write](theirs)
    pd.testing.assert_frame_equal(pd.DataFrame(lazy.obs), theirs)
