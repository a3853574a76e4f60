"""`LazyAnnData.save` beside other writers, and values that a handle could lose."""

import pickle

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from helpers import assert_same

import slaf
from slaf import SLAFArray
from slaf.integrations import read_slaf
from slaf.integrations._save import same

AB, BA = (pd.CategoricalDtype(list(categories)) for categories in ("ab", "ba"))


def whole(path, **options):
    return read_slaf(path, **options).to_memory()


CHANGES = {
    "obs/score": (
        lambda a: a.obs.__setitem__("score", a.obs["score"] + 1),
        lambda s: s.add_obs({"score": np.zeros(6)}, overwrite=True),
    ),
    "obs/new": (
        lambda a: a.obs.__setitem__("new", 1),
        lambda s: s.add_obs({"new": np.zeros(6)}),
    ),
    "obs/note": (
        lambda a: a.obs.__setitem__("note", list("abcdef")),
        lambda s: s.rename("obs/note", "comment"),
    ),
    "obs/doublet": (
        lambda a: a.obs.__delitem__("doublet"),
        lambda s: s.add_obs({"doublet": np.zeros(6)}, overwrite=True),
    ),
    "layers/double": (
        lambda a: a.layers.__setitem__("double", a.X * 3),
        lambda s: s.add_layer("double", s.to_csr() * 4, overwrite=True),
    ),
    "obsm/X_pca": (
        lambda a: a.obsm["X_pca"].__setitem__((0, 0), 9),
        lambda s: s.add_embedding("X_pca", np.ones((6, 2)), overwrite=True),
    ),
    "obsp/connectivities": (
        lambda a: a.obsp.__setitem__("connectivities", np.eye(6)),
        lambda s: s.drop("obsp/connectivities"),
    ),
    "uns": (lambda a: a.uns.__setitem__("mine", 1), lambda s: s.set_uns("theirs", 2)),
}


@pytest.mark.parametrize("slot", CHANGES)
def test_what_others_changed_is_not_replaced(growing_path, slot):
    mine, theirs = CHANGES[slot]
    adata = read_slaf(growing_path)
    mine(adata)
    theirs(SLAFArray(growing_path))
    before = whole(growing_path)
    with pytest.raises(slaf.ConflictError, match=f"others changed {slot}.*open the store again"):
        adata.save()
    assert SLAFArray(growing_path).version == 2
    assert_same(whole(growing_path), before)


@pytest.mark.parametrize("slot", CHANGES)
@pytest.mark.parametrize("touched", [False, True])
def test_changes_beside_each_other_all_stay(growing_path, slot, touched):
    adata = read_slaf(growing_path)
    if touched:
        adata.to_memory()
        _ = adata.obs.index, adata.var.index, adata.uns, adata.obsm["X_pca"], adata.obsp.to_memory()
    adata.var["mine"] = [1, 2, 3, 4]
    CHANGES[slot][1](SLAFArray(growing_path))
    expected = whole(growing_path)
    expected.var["mine"] = [1, 2, 3, 4]
    assert adata.save().written == ["var/mine"]
    assert_same(whole(growing_path), expected)
    # The object shows what others did, and does not take it back with its next change.
    assert adata.save().written == []
    adata.obs["more"] = 1
    expected.obs["more"] = 1
    report = adata.save()
    assert (report.written, report.removed) == (["obs/more"], [])
    assert_same(whole(growing_path), expected)
    assert_same(adata.to_memory(), expected)


def test_uns_is_emptied(growing_path):
    adata = read_slaf(growing_path)
    adata.uns.clear()
    assert adata.save().removed == ["uns"]
    assert whole(growing_path).uns == {}
    assert adata.save().written == adata.save().removed == []
    adata.uns["a"] = {}
    adata.save()
    assert dict(whole(growing_path).uns) == {"a": {}}


def test_frames_of_obsm(growing_path):
    expected = whole(growing_path)
    frame = pd.DataFrame({"a": range(6), "b": list("uvwxyz")}, index=expected.obs_names)
    SLAFArray(growing_path).add_embedding("frame", frame)
    expected.obsm["frame"] = frame
    assert_same(whole(growing_path), expected)
    adata = read_slaf(growing_path)
    adata.obsm["other"] = frame[["b"]]
    assert adata.save().written == ["obsm/other"]
    expected.obsm["other"] = frame[["b"]]
    assert_same(whole(growing_path), expected)
    array = SLAFArray(growing_path)
    array.add_embedding("plain", frame.reset_index(drop=True), overwrite=True)
    assert whole(growing_path).obsm["plain"].equals(frame)
    for wrong in (frame[::-1], frame.set_axis(list("abcdef"))):
        with pytest.raises(slaf.InvalidArgumentError, match="reset_index"):
            array.add_embedding("wrong", wrong)
    with pytest.raises(slaf.InvalidArgumentError, match="6 rows"):
        array.add_embedding("wrong", frame[:5])
    # Rows of a version whose cells are others by now.
    stale = SLAFArray(growing_path)
    array.delete_cells("cell_integer_id = 0", allow_loss=True)
    with pytest.raises(slaf.SlafError, match="6 cells, but the store has 5"):
        stale.add_embedding("late", frame)


def test_a_store_in_place_of_the_one_that_was_opened(growing_path, tmp_path):
    array, lazy = SLAFArray(growing_path), read_slaf(growing_path)
    lazy.obs["mine"] = 1
    other = ad.AnnData(np.ones((6, 4), np.float32), uns={"other": 1})
    slaf.data.SLAFConverter(overwrite=True).convert_anndata(other, growing_path)
    for change in (
        array.refresh,
        lambda: array.set_uns("a", 1),
        lambda: array.add_obs({"a": range(6)}),
        lambda: array.optimize(force=True),
        lambda: array.delete_cells("cell_integer_id = 0"),
        lazy.save,
    ):
        with pytest.raises(slaf.ConflictError, match="overwritten"):
            change()
    assert array.version == 1
    assert whole(growing_path).uns == {"other": 1}


def test_a_handle_that_is_many_versions_behind(growing_path):
    stale, array = SLAFArray(growing_path), SLAFArray(growing_path)
    for i in range(140):
        array.tag(f"t{i}", 1)
    assert stale.refresh() == 141
    old = SLAFArray(growing_path, version=1)
    old.add_obs({"late": range(6)})
    assert "late" in SLAFArray(growing_path).obs.columns


@pytest.mark.parametrize("name", ["", ".", "a/b", "a\0b", "_index"])
def test_names_are_checked_when_they_change(growing_path, name):
    array = SLAFArray(growing_path)
    slots = ["obs/note"] if name == "_index" else ["obs/note", "layers/double", "obsm/X_pca"]
    for slot in slots:
        with pytest.raises(slaf.InvalidArgumentError):
            array.rename(slot, name)
    assert array.refresh() == 1


def test_appended_objects_have_a_name(tmp_path):
    def data(prefix):
        x = np.arange(6, dtype=np.float32).reshape(3, 2)
        return ad.AnnData(x, pd.DataFrame(index=[f"{prefix}{i}" for i in range(3)]))

    files = [tmp_path / "a.h5ad", tmp_path / "b.h5ad"]
    for file in files:
        data(file.stem).write_h5ad(file)
    slaf.data.SLAFConverter().convert(files, tmp_path / "s.slaf")
    array = SLAFArray(tmp_path / "s.slaf")
    array.append(data("c"))
    assert array.obs["source"].to_list()[6:] == ["AnnData"] * 3
    assert array.versions()[-1].operation == "append AnnData"
    more = data("d")
    more.uns["x"] = 1
    array.append(more, source_name="night")
    assert array.obs["source"].to_list()[9:] == ["night"] * 3
    assert str(tmp_path) not in str(read_slaf(array.path).uns)


@pytest.mark.parametrize("length", [200, 5_000, 30_000, 60_000])
def test_long_keys_of_uns(growing_path, length):
    array = SLAFArray(growing_path)
    array.set_uns("many", {f"entry {i}": i for i in range(300)})
    for i in range(20):
        array.set_uns("k" * length + str(i), i)
    uns = read_slaf(growing_path).uns
    assert [uns["k" * length + str(i)] for i in range(20)] == list(range(20))
    assert uns["many"]["entry 299"] == 299


ODD = [None, 1.5, b"x", object(), [], {}, "\ud800", float("nan"), True]
CALLS = {
    "tag": lambda a, x: a.tag(x),
    "tag version": lambda a, x: a.tag("name", x if x is not None else []),
    "untag": lambda a, x: a.untag(x),
    "rename": lambda a, x: a.rename("obs/note", x),
    "rename what": lambda a, x: a.rename(x, "name"),
    "drop": lambda a, x: a.drop(x),
    "rollback": lambda a, x: a.rollback(x),
    "diff": lambda a, x: a.diff(x),
    "gc": lambda a, x: a.gc(x if x not in (1.5, True) else "1"),
    "gc dry": lambda a, x: a.gc(1, x if x is not True else 1),
    "append": lambda a, x: a.append(x if x != [] else [1]),
    "append several": lambda a, x: a.append([x]),
    "append join": lambda a, x: a.append("x", join=x),
    "append name": lambda a, x: a.append("x", source_name=x if x is not None else 1),
    "append loss": lambda a, x: a.append("x", allow_loss=x if x is not True else 1),
    "delete": lambda a, x: a.delete_cells(x),
    "filter": lambda a, x: a.filter(x, "y"),
    # Bytes are a path.
    "filter to": lambda a, x: a.filter("true", x if x != b"x" else 1),
    "optimize": lambda a, x: a.optimize(force=x if x is not True else 1),
    "optimize memory": lambda a, x: a.optimize(memory=x if x is not None else 0),
    "uns": lambda a, x: a.set_uns(x, 1),
}


@pytest.mark.parametrize("call", CALLS)
def test_odd_arguments_have_typed_errors(growing_path, call, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    array = SLAFArray(growing_path)
    for odd in ODD:
        with pytest.raises(slaf.SlafError) as error:
            CALLS[call](array, odd)
        # A text that is no Unicode, and bytes, may be a name that is not there.
        kinds = {"invalid-argument"} | ({"not-found"} if isinstance(odd, (str, bytes)) else set())
        assert error.value.kind in kinds, odd
    for days in (10**400, float("inf")):
        assert array.gc(days).versions == []


def test_names_with_prefixes_stay_apart(growing_path):
    array = SLAFArray(growing_path)
    array.add_obs({"obs:cell_id": list("abcdef")})
    array.add_obs({"cell_id": list("uvwxyz")})
    found = array.query('SELECT cell_id, "obs:cell_id" AS p, "obs:obs:cell_id" AS q FROM cells')
    assert found["p"].to_list() == list("abcdef")
    assert found["q"].to_list() == list("uvwxyz")
    assert array.obs["obs:cell_id"].to_list() == list("abcdef")
    assert array.obs["obs:obs:cell_id"].to_list() == list("uvwxyz")


def rebuilt(value):
    """The value anew, for comparisons that do not end at the same object."""
    return pickle.loads(pickle.dumps(value))


NANS = {
    "float": float("nan"),
    "numpy": np.float32("nan"),
    "nested": {"a": {"b": [1.0, float("nan"), None]}},
    "record": np.array([("a", np.nan, 1)], dtype=[("n", "O"), ("s", "f4"), ("i", "i4")]),
    "recarray": np.rec.array([(np.nan, 1.0)], dtype=[("a", "f4"), ("b", "f8")]),
    "object": np.array(["a", None, float("nan"), [np.nan]], dtype=object),
    "frame": pd.DataFrame({"a": [1.0, np.nan], "b": ["x", None]}),
    "sparse": sp.csr_matrix(np.array([[0, np.nan], [1, 0]])),
    "time": np.array(["2020-01-01", "NaT"], dtype="datetime64[s]"),
    "categorical": pd.Categorical(["a", None, "b"]),
    "nullable": pd.array([1, None], dtype="Int64"),
    "missing": pd.NA,
}


@pytest.mark.parametrize("kind", NANS)
def test_nan_is_the_same_as_nan(kind):
    value = NANS[kind]
    assert same(value, rebuilt(value))
    assert not same({"a": value}, {"a": 1.5})


def test_values_that_differ_are_not_the_same():
    for one, other in [
        (np.array([("a", 1.0)], dtype="O,f4"), np.array([("a", np.nan)], dtype="O,f4")),
        (np.array(["a", 1], dtype=object), np.array(["a", 2], dtype=object)),
        ([1.0, float("nan")], [1.0, 2.0]),
        (float("nan"), 1.0),
        (pd.Series(["a"], dtype=AB), pd.Series(["a"], dtype=BA)),
        (pd.DataFrame({"x": ["a"]}, dtype=AB), pd.DataFrame({"x": ["a"]}, dtype=BA)),
        (pd.Categorical(["a"], dtype=AB), pd.Categorical(["a"], dtype=BA)),
    ]:
        assert not same(one, other)
        assert not same(other, one)


def test_nothing_is_written_of_nan_that_was_read(growing_path):
    records = np.array([("a", np.nan)], dtype=[("n", "O"), ("s", "f4")])
    SLAFArray(growing_path).set_uns("found", {"nan": float("nan"), "records": records})
    adata = read_slaf(growing_path)
    assert np.isnan(adata.uns["found"]["nan"])
    assert adata.save().written == []
    assert SLAFArray(growing_path).version == 2


def test_an_order_of_categories_is_saved(growing_path):
    adata = read_slaf(growing_path)
    adata.obs["mine"] = pd.Categorical(list("aabbaa"), dtype=AB)
    adata.save()
    adata.obs["mine"] = adata.obs["mine"].cat.reorder_categories(["b", "a"])
    assert adata.save().written == ["obs/mine"]
    assert list(whole(growing_path).obs["mine"].cat.categories) == ["b", "a"]


@pytest.mark.parametrize("slot", ["obs/score", "uns"])
def test_other_cells_are_a_conflict(growing_path, slot):
    for change in (
        lambda: SLAFArray(growing_path).delete_cells("cell_integer_id = 0", allow_loss=True),
        lambda: SLAFArray(growing_path).append(whole(growing_path), allow_loss=True),
    ):
        adata = read_slaf(growing_path)
        CHANGES[slot][0](adata)
        change()
        version = SLAFArray(growing_path).version
        with pytest.raises(slaf.ConflictError, match=r"added or removed cells.*read_slaf") as error:
            adata.save()
        assert error.value.kind == "conflict"
        assert SLAFArray(growing_path).version == version


@pytest.mark.parametrize("slot", CHANGES)
def test_what_is_only_rewritten_is_no_conflict(growing_path, slot):
    adata, other = read_slaf(growing_path), read_slaf(growing_path)
    CHANGES[slot][0](adata)
    CHANGES[slot][0](other)
    expected = other.to_memory()
    SLAFArray(growing_path).optimize(force=True)
    SLAFArray(growing_path).add_obs({"theirs": range(6)})
    expected.obs["theirs"] = range(6)
    adata.save()
    found = whole(growing_path)
    pd.testing.assert_frame_equal(found.obs.astype(str), expected.obs.astype(str), check_like=True)
    assert same(dict(found.uns), dict(expected.uns))
    assert same(found.layers["double"], expected.layers["double"])
    assert same(found.obsm["X_pca"], expected.obsm["X_pca"])
    assert adata.save().written == []


VALUES = {
    "list": [1, 2],
    "texts": ["a", "b"],
    "number": np.int64(3),
    "empty": [],
    "array": np.array(["a", "b"]),
    "nested": {"a": [[1.0, float("nan")]]},
}


@pytest.mark.parametrize("kind", VALUES)
def test_a_saved_value_is_saved_once(growing_path, kind):
    adata = read_slaf(growing_path)
    adata.uns["mine"] = rebuilt(VALUES[kind])
    assert adata.save().written == ["uns"]
    assert same(adata.uns["mine"], VALUES[kind])
    assert adata.save().written == []
    adata.obs["more"] = 1
    assert adata.save().written == ["obs/more"]
    assert adata.copy().save().written == []
    # It is what was saved, and not what became of it.
    adata.uns["mine"] = [7]
    assert adata.save().written == ["uns"]
    assert list(whole(growing_path).uns["mine"]) == [7]


def test_a_list_that_grows_is_saved_again(growing_path):
    adata = read_slaf(growing_path)
    adata.uns["mine"] = [1]
    adata.save()
    adata.uns["mine"].append(2)
    assert adata.save().written == ["uns"]
    assert list(whole(growing_path).uns["mine"]) == [1, 2]
    # What others write after that is taken over as the store has it.
    SLAFArray(growing_path).add_obs({"theirs": range(6)})
    adata.obs["more"] = 1
    assert adata.save().written == ["obs/more"]
    assert adata.save().written == []


def test_texts_with_missing_values_are_saved_once(growing_path):
    adata = read_slaf(growing_path)
    texts = np.array(["a", None] * 3, dtype=object)
    adata.obs["mine"] = texts
    adata.obsm["frame"] = pd.DataFrame({"a": ["a", "b"] * 3}, index=adata.obs_names)
    assert sorted(adata.save().written) == ["obs/mine", "obsm/frame"]
    assert adata.save().written == []
    adata.obs.loc[adata.obs_names[0], "mine"] = "b"
    assert adata.save().written == ["obs/mine"]
    assert adata.save().written == []
    assert whole(growing_path).obs["mine"].tolist()[0] == "b"
    del adata.obs["mine"]
    assert adata.save().removed == ["obs/mine"]


def test_what_is_replaced_is_told_once(growing_path):
    array = SLAFArray(growing_path)
    for report in (
        array.add_obs({"score": range(6)}, overwrite=True),
        array.set_uns("mine", 1),
    ):
        assert report.removed == []
        assert "wrote" in str(report)
        assert "removed" not in str(report)
    adata = read_slaf(growing_path)
    adata.obs["score"] = 1
    del adata.obs["note"]
    report = adata.save()
    assert (report.written, report.removed) == (["obs/score"], ["obs/note"])
    assert str(report).splitlines()[2:4] == ["wrote        obs/score", "removed      obs/note"]


@pytest.mark.parametrize("value", [1 + 2j, pd.Timestamp("2020-01-01"), pd.Timedelta(days=1)])
@pytest.mark.parametrize("beside", [False, True])
def test_columns_of_other_types_are_refused(growing_path, value, beside):
    adata = read_slaf(growing_path)
    adata.obs["mine"] = value
    if beside:
        adata.obs["more"] = 1
    with pytest.raises(slaf.InputError, match=r"obs/mine is of type .*astype\(str\)") as error:
        adata.save()
    assert error.value.kind == "would-lose-data"
    assert SLAFArray(growing_path).version == 1
