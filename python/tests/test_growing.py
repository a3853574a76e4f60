"""Stores that grow: columns, layers, embeddings, graphs, uns, and the versions that come of it.

What a store holds after a change is compared with what anndata holds after the same change.
"""

import json
import threading
from datetime import datetime, timedelta, timezone

import anndata as ad
import numpy as np
import pandas as pd
import polars as pl
import pytest
import scipy.sparse as sp
from helpers import assert_same
from processes import run_slaf

import slaf
from slaf import SLAFArray
from slaf.data import SLAFConverter
from slaf.integrations import read_slaf


@pytest.fixture
def expected(h5ad_path):
    return ad.read_h5ad(h5ad_path)


def whole(path, **options):
    return read_slaf(path, **options).to_memory()


def files(path):
    return {p.relative_to(path): p.stat().st_mtime_ns for p in path.rglob("*") if p.is_file()}


COLUMNS = {
    "cat": pd.Categorical(["x", "y", None, "x", "x", "y"], ["y", "x", "unused"], ordered=True),
    "int": np.arange(6, dtype=np.int16) - 3,
    "float": np.array([0.5, np.nan, -np.inf, -0.0, 1e300, 2]),
    "bool": [True, False, True, True, False, False],
    "text": ["a", "", "ä", ">=3", "a'b", '"'],
    "nullable": pd.array([1, None, 3, 4, 5, None], dtype="UInt8"),
    "..": [1, 2, 3, 4, 5, 6],
    'é "x" ' + "n" * 250: [0.5, 1, 2, 3, 4, 5],
}


def test_columns_of_every_kind(growing_path, expected):
    array = SLAFArray(growing_path)
    before = files(growing_path)
    report = array.add_obs(COLUMNS)
    assert report.written == [f"obs/{name}" for name in COLUMNS]
    assert (report.version, array.version) == (2, 2)
    for name, values in COLUMNS.items():
        expected.obs[name] = values
    assert_same(whole(growing_path), expected)
    # Nothing that was there is touched.
    after = files(growing_path)
    assert all(after[name] == time for name, time in before.items())
    assert array.query('SELECT SUM("int") AS n FROM cells')["n"][0] == -3
    assert not set(COLUMNS) & set(
        SLAFArray(growing_path, version=1).query("SELECT * FROM cells").columns
    )


def test_frames_of_pandas_and_polars(growing_path, expected):
    array = SLAFArray(growing_path)
    array.add_obs(pd.DataFrame({"p": [1.5, 2, 3, 4, 5, 6]}, index=list("abcdef")))
    array.add_obs(pl.DataFrame({"q": [1, 2, 3, 4, 5, 6]}))
    array.add_var({"w": ["a", "b", "c", "d"]})
    expected.obs["p"] = [1.5, 2, 3, 4, 5, 6]
    expected.obs["q"] = [1, 2, 3, 4, 5, 6]
    expected.var["w"] = ["a", "b", "c", "d"]
    assert_same(whole(growing_path), expected)


def test_rows_are_matched(growing_path, expected):
    array = SLAFArray(growing_path)
    table = pd.DataFrame(
        {
            "cell_id": ["cell5", "cell0", "cell3"],
            "int": [5, 0, 3],
            "float": [5.5, 0.5, 3.5],
            "bool": [True, False, True],
            "text": ["five", "zero", "three"],
            "cat": pd.Categorical(["f", "z", "f"]),
        }
    )
    array.add_obs(table, on="cell_id")
    found = whole(growing_path).obs
    joined = expected.obs.join(table.set_index("cell_id"))
    assert found["int"].dtype == "Int64"
    assert found["int"].tolist() == joined["int"].astype("Int64").tolist()
    assert found["bool"].tolist() == joined["bool"].astype("boolean").tolist()
    pd.testing.assert_series_equal(found["float"], joined["float"])
    assert found["cat"].tolist() == joined["cat"].tolist()
    # A column that obs has: many rows of the store for one of the table.
    array.add_obs({"batch": ["b1", "b2"], "site": ["Ulm", "Bern"]}, on="batch")
    sites = expected.obs["batch"].map({"b1": "Ulm", "b2": "Bern"})
    assert whole(growing_path).obs["site"].tolist() == sites.tolist()


@pytest.mark.parametrize(
    ("columns", "on", "kind", "text"),
    [
        ({"a": [1, 2]}, None, "invalid-argument", "2 rows for 6 cells"),
        ({"a": [1, 2], "b": [1]}, None, "invalid-argument", "different lengths"),
        ({"score": range(6)}, None, "already-exists", "obs/score"),
        ({"cell_id": ["cell1", "cell1"], "a": [1, 2]}, "cell_id", "invalid-argument", "twice"),
        ({"cell_id": ["cell1", "cel2"], "a": [1, 2]}, "cell_id", "unknown-cell", "cel2"),
        ({"cell_id": ["cell1", None], "a": [1, 2]}, "cell_id", "invalid-argument", "without"),
        ({"a": [1]}, "cell_id", "unknown-column", "cell_id"),
        ({"batch": ["b9"], "a": [1]}, "batch", "unknown-cell", "b9"),
        ({}, None, "invalid-argument", ""),
        ([1, 2, 3], None, "invalid-argument", "mapping"),
        ({"a": 1}, None, "invalid-argument", "'a' is one value"),
        ({"a": "abcdef"}, None, "invalid-argument", "'a' is one value"),
        ({"a": np.ones((6, 2))}, None, "invalid-argument", "no columns"),
        ({1: range(6), "1": range(6)}, None, "invalid-argument", "'1' comes twice"),
        ({"x": ["b1"], "a": [1]}, "x", "unknown-column", "obs has no column 'x'"),
        ({"a": [1]}, 3, "invalid-argument", "on=3"),
    ],
)
def test_what_does_not_fit_is_refused(growing_path, columns, on, kind, text):
    before = files(growing_path)
    with pytest.raises(slaf.SlafError) as error:
        SLAFArray(growing_path).add_obs(columns, on)
    assert error.value.kind == kind
    assert text in str(error.value)
    assert files(growing_path) == before


BACKWARDS = [f"cell{i}" for i in range(5, -1, -1)]


@pytest.mark.parametrize(
    "columns",
    [
        pd.DataFrame({"a": range(6)}, index=BACKWARDS),
        {"a": pd.Series(range(6), index=BACKWARDS)},
        {"a": range(6), "cell_id": BACKWARDS},
        pl.DataFrame({"a": range(6), "cell_id": BACKWARDS}),
        pd.DataFrame({"a": range(6)}, index=["cell0", "cell1", "cell2", "cell3", "cell4", "x"]),
    ],
)
def test_rows_that_are_named_in_another_order_are_refused(growing_path, columns):
    array = SLAFArray(growing_path)
    with pytest.raises(slaf.InvalidArgumentError, match=r"in the store.*on='cell_id'"):
        array.add_obs(columns)
    assert array.refresh() == 1
    in_order = pd.DataFrame({"a": range(6)}, index=BACKWARDS[::-1])
    array.add_obs(in_order)
    array.add_obs(in_order[::-1].rename_axis("cell_id").rename(columns={"a": 0}), on="cell_id")
    array.add_obs(pd.DataFrame({"b": range(6)}, index=list("abcdef")))
    assert all(array.obs[name].to_list() == list(range(6)) for name in ("a", "0", "b"))


def test_matrices_and_arrays(growing_path, expected):
    array = SLAFArray(growing_path)
    counts = sp.csr_matrix(np.arange(24).reshape(6, 4) % 5, dtype=np.uint16)
    graph = sp.csr_matrix(np.eye(6)[::-1])
    steps = [
        ("layers", "counts", counts, lambda v: array.add_layer("counts", v)),
        ("layers", "a/b", np.ones((6, 4), np.float32), None),
        (
            "obsm",
            "X_umap",
            np.arange(12.0).reshape(6, 2),
            lambda v: array.add_embedding("X_umap", v),
        ),
        (
            "varm",
            "W",
            np.arange(8).reshape(4, 2),
            lambda v: array.add_embedding("W", v, axis="gene"),
        ),
        ("obsp", "graph", graph, lambda v: array.add_obsp("graph", v)),
    ]
    for slot, name, value, add in steps:
        if add is None:
            with pytest.raises(slaf.InputError, match="name"):
                array.add_layer(name, value)
            continue
        add(value)
        getattr(expected, slot)[name] = value
    assert_same(whole(growing_path), expected)
    assert array.version == 5
    assert array.query("SELECT SUM(counts) AS n FROM layers")["n"][0] == counts.sum()
    assert (array.to_csr(layer="counts") != counts).nnz == 0
    with pytest.raises(slaf.InvalidArgumentError, match="6 x 4"):
        array.add_layer("wrong", counts[:5])
    with pytest.raises(slaf.AlreadyExistsError, match="layers/counts"):
        array.add_layer("counts", counts)
    array.add_layer("counts", counts * 2, overwrite=True)
    expected.layers["counts"] = counts * 2
    assert_same(whole(growing_path), expected)
    with pytest.raises(slaf.InvalidArgumentError, match="rows"):
        array.add_embedding("wrong", np.ones((5, 2)))


def test_uns(growing_path, expected):
    array = SLAFArray(growing_path)
    array.set_uns("neighbors", {"params": {"n": 15, "metric": "cosine"}, "dist": np.eye(3)})
    expected.uns["neighbors"] = {"params": {"n": 15, "metric": "cosine"}, "dist": np.eye(3)}
    assert_same(whole(growing_path), expected)
    with pytest.raises(slaf.AlreadyExistsError, match="log1p"):
        array.set_uns("log1p", {})
    array.set_uns("log1p", {"base": None}, overwrite=True)
    expected.uns["log1p"] = {"base": None}
    assert_same(whole(growing_path), expected)


def test_uns_of_others_stays(growing_path):
    def put(name):
        SLAFArray(growing_path).set_uns(name, name)

    threads = [threading.Thread(target=put, args=(f"k{i}",)) for i in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    uns = whole(growing_path).uns
    assert all(uns[f"k{i}"] == f"k{i}" for i in range(4))


def test_rename_and_drop(growing_path, expected):
    array = SLAFArray(growing_path)
    array.rename("obs/note", "comment")
    array.rename("layers/double", "twice")
    array.rename("obsm/X_pca", "pca")
    array.drop("obs/score", "layers/dense", "varm/PCs", "varp/corr", "obsp/connectivities", "uns")
    expected.obs = expected.obs.rename(columns={"note": "comment"}).drop(columns="score")
    expected.layers["twice"] = expected.layers["double"]
    del expected.layers["double"], expected.layers["dense"]
    expected.obsm["pca"] = expected.obsm["X_pca"]
    del expected.obsm["X_pca"], expected.varm["PCs"], expected.varp["corr"]
    del expected.obsp["connectivities"]
    expected.uns = {}
    assert_same(whole(growing_path), expected)
    assert array.version == 5
    for name in ("obs/scor", "layers/x", "obsm/y"):
        with pytest.raises(slaf.UnknownNameError):
            array.drop(name)
    for name in ("X", "obs"):
        with pytest.raises(slaf.InvalidArgumentError):
            array.drop(name)
    # What was dropped comes back with the version that has it.
    array.rollback(1)
    assert array.version == 6
    assert_same(whole(growing_path), whole(growing_path, version=1))


def test_handles_see_their_own_changes(growing_path):
    one, two = SLAFArray(growing_path), SLAFArray(growing_path)
    one.add_obs({"mine": range(6)})
    assert "mine" in one.obs.columns
    assert "mine" not in two.obs.columns
    assert two.refresh() == 2
    assert "mine" in two.obs.columns
    assert two.refresh() == 2


def test_save(growing_path, expected):
    adata = read_slaf(growing_path)
    assert adata.save().written == []
    assert SLAFArray(growing_path).version == 1
    for a in (adata, expected):
        a.obs["large"] = a.obs["n_counts"] > 3
        a.obs["score"] = a.obs["score"] * 2
        del a.obs["doublet"]
        a.var["symbol"] = ["a", "b", "c", "d"]
        a.obsm["X_umap"] = np.ones((6, 2))
        a.obsm["X_pca"][0, 0] = 99
        a.layers["half"] = a.X * 0.5
        del a.layers["dense"]
        a.uns["log1p"]["base"] = 10.0
        del a.varp["corr"]
    report = adata.save()
    assert sorted(report.written) == sorted(
        ["obs/large", "obs/score", "var/symbol", "obsm/X_umap", "obsm/X_pca", "layers/half", "uns"]
    )
    assert {"obs/doublet", "layers/dense", "varp/corr"} <= set(report.removed)
    assert SLAFArray(growing_path).version == report.version == 2
    saved = whole(growing_path)
    pd.testing.assert_frame_equal(saved.obs, expected.obs[saved.obs.columns])
    assert set(saved.obs) == set(expected.obs)
    pd.testing.assert_frame_equal(saved.var, expected.var)
    np.testing.assert_array_equal(saved.obsm["X_pca"], expected.obsm["X_pca"])
    np.testing.assert_array_equal(saved.obsm["X_umap"], np.ones((6, 2)))
    assert (saved.layers["half"] != expected.layers["half"]).nnz == 0
    assert set(saved.layers) - {None} == {"double", "half"}
    assert saved.uns["log1p"]["base"] == 10.0
    assert not saved.varp
    # All is written: there is nothing more.
    assert adata.save().written == []
    adata.obs["more"] = 1
    assert adata.save().written == ["obs/more"]
    assert_same(whole(growing_path), adata.to_memory())


def test_save_tells_what_it_leaves(growing_path):
    adata = read_slaf(growing_path)
    adata.X = adata.X * 2
    adata.obs["new"] = 1
    with pytest.warns(UserWarning, match="X of a store stay"):
        report = adata.save()
    assert (report.left, "obs/new" in report.written) == (["X"], True)
    for part in (adata[:3], adata[:, :2], adata[[5, 4, 3, 2, 1, 0]]):
        with pytest.raises(slaf.InvalidArgumentError, match="part of the store"):
            part.copy().save()
    adata.obs_names = list("abcdef")
    with pytest.raises(slaf.InvalidArgumentError, match="names in obs"):
        adata.save()


def test_versions(growing_path):
    array = SLAFArray(growing_path)
    array.add_obs({"a": range(6)})
    assert array.tag("with a") == 2
    array.drop("obs/a")
    listed = array.versions()
    assert [(v.version, v.operation, v.tags) for v in listed] == [
        (1, "convert", ()),
        (2, "add obs/a", ("with a",)),
        (3, "tag with a", ()),
        (4, "drop obs/a", ()),
    ]
    tagged = SLAFArray(growing_path, version="with a")
    assert (tagged.version, "a" in tagged.obs.columns) == (2, True)
    assert read_slaf(growing_path, version="with a").obs["a"].tolist() == list(range(6))
    soon = datetime.now(timezone.utc) + timedelta(seconds=5)
    assert SLAFArray(growing_path, version=soon).version == 4
    with pytest.raises(slaf.NotFoundError, match="so old"):
        SLAFArray(growing_path, version=datetime(2001, 1, 1, tzinfo=timezone.utc))
    with pytest.raises(slaf.NotFoundError, match=r'no tag "nothing"; there are with a$'):
        SLAFArray(growing_path, version="nothing")
    with pytest.raises(slaf.NotFoundError, match=r'no tag "1".*a number and no text: version=1'):
        SLAFArray(growing_path, version="1")
    difference = array.diff("with a", 4)
    assert (difference.removed, difference.added, difference.changed) == (["obs/a"], [], [])
    array.rollback("with a")
    assert array.obs["a"].to_list() == list(range(6))
    array.untag("with a")
    assert array.gc(timedelta(hours=1)).versions == []
    tagged.close()
    del tagged
    would = array.gc(0)
    assert would.dry_run
    done = array.gc(0, dry_run=False)
    assert done.versions == would.versions
    assert [v.version for v in array.versions()][-1] == array.refresh()


def test_what_comes_after_a_rollback_is_another_thing(growing_path, original):
    array = SLAFArray(growing_path)
    array.add_obs({"a": range(6)})
    adata = read_slaf(growing_path)
    array.rollback(1)
    array.add_obs({"a": range(6, 0, -1)})
    assert array.diff(2).changed == ["obs/a"]
    adata.obs["a"] = adata.obs["a"] + 1
    with pytest.raises(slaf.ConflictError, match="obs/a"):
        adata.save()
    assert SLAFArray(growing_path).obs["a"].to_list() == [6, 5, 4, 3, 2, 1]
    array.append(original, allow_loss=True)
    three, number = original[:3].copy(), array.version
    assert array.diff(number - 1).cells_added == [6, 12]
    array.rollback(1)
    array.append(ad.concat([original, three], index_unique="-"), allow_loss=True)
    # It has more cells, and they do not follow those of the other version.
    assert array.shape[0] == 15
    assert array.diff(number).cells_added is None
    assert array.diff(1).cells_added == [6, 15]


def test_command_line(growing_path, tmp_path):
    def run(*args):
        done = run_slaf(*args)
        return done.returncode, done.stdout, done.stderr

    table = tmp_path / "table.csv"
    table.write_text(
        "cell_id,label,n,x,flag\ncell2,a,7,1.5,true\ncell0,b,,2.5,false\ncell4,a,9,,true\n"
    )
    status, out, err = run("annotate", growing_path, table, "--on", "cell_id")
    assert (status, err) == (0, "")
    assert "obs/label, obs/n, obs/x, obs/flag" in out
    obs = whole(growing_path).obs
    assert obs["label"].astype(object).where(obs["label"].notna(), None).tolist() == [
        "b",
        None,
        "a",
        None,
        "a",
        None,
    ]
    assert obs["n"].tolist() == [pd.NA, pd.NA, 7, pd.NA, 9, pd.NA]
    assert obs["x"].fillna(-1).tolist() == [2.5, -1, 1.5, -1, -1, -1]
    assert obs["flag"].fillna(False).tolist() == [False, False, True, False, True, False]
    status, _, err = run("annotate", growing_path, table, "--on", "cell_id")
    assert status == 1
    assert "[already-exists]" in err
    table.write_text("cell_id,z,z\n")
    status, _, err = run("annotate", growing_path, table, "--on", "cell_id")
    assert status == 1
    assert 'column "z" comes twice' in err
    assert run("tag", growing_path, "annotated")[0] == 0
    assert "annotated" in run("versions", growing_path)[1]
    assert "obs/label" in run("diff", growing_path, 1, "annotated")[1]
    assert run("rollback", growing_path, 1)[0] == 0
    assert "label" not in whole(growing_path).obs
    assert json.loads(run("diff", growing_path, "annotated", "--json")[1])["removed"]
    status, out, _ = run("gc", growing_path, "--older-than", "0s")
    assert (status, "would remove" in out) == (0, True)
    assert run("gc", growing_path, "--older-than", "0s", "--delete")[0] == 0
    assert run("info", growing_path, "--version", "annotated")[0] == 0
    assert run("info", growing_path, "--version", "1")[0] == 1


def small(prefix, n=20):
    x = sp.random(n, 8, density=0.4, format="csr", random_state=0, dtype=np.float32)
    obs = pd.DataFrame({"num": np.arange(n)}, index=[f"{prefix}{i}" for i in range(n)])
    return ad.AnnData(x, obs=obs, var=pd.DataFrame(index=[f"g{i}" for i in range(8)]))


@pytest.mark.parametrize("on", [None, "cell_id"])
def test_a_handle_of_cells_that_were_rolled_back_is_refused(tmp_path, on):
    path = tmp_path / "s.slaf"
    SLAFConverter().convert_anndata(small("a"), path)
    stale, other = SLAFArray(path), SLAFArray(path)
    first = stale.version
    stale.append(small("b"))
    lazy = read_slaf(path)
    names = stale.obs["cell_id"].to_list()
    other.refresh()
    other.rollback(first)
    other.append(small("c"))
    columns = {"who": names} if on is None else pd.DataFrame({"cell_id": names, "who": names})
    with pytest.raises(slaf.SlafError) as error:
        stale.add_obs(columns, on=on)
    assert error.value.kind == "conflict"
    lazy.obs["who"] = names
    with pytest.raises(slaf.SlafError) as error:
        lazy.save()
    assert error.value.kind == "conflict"
    assert "who" not in SLAFArray(path).obs.columns
    # Columns of genes that are the same are taken.
    stale.add_var({"n": np.arange(8)})
    assert SLAFArray(path).var["n"].to_list() == list(range(8))


def test_a_handle_of_a_store_that_was_replaced_is_refused(tmp_path):
    path = tmp_path / "s.slaf"
    SLAFConverter().convert_anndata(small("a"), path)
    stale = SLAFArray(path)
    SLAFConverter(overwrite=True).convert_anndata(small("a")[::-1].copy(), path)
    changes = [
        lambda: stale.add_obs({"who": np.arange(20)}),
        lambda: stale.append(small("b")),
        lambda: stale.rename("obs/num", "n"),
        lambda: stale.drop("obs/num"),
    ]
    for change in changes:
        with pytest.raises(slaf.SlafError) as error:
            change()
        assert error.value.kind == "conflict"
    assert SLAFArray(path).obs.columns == ["cell_id", "cell_integer_id", "num"]


def test_missing_values_of_polars_keep_whole_numbers_exact(tmp_path):
    path = tmp_path / "s.slaf"
    SLAFConverter().convert_anndata(small("a", 4), path)
    array = SLAFArray(path)
    big = [2**53 + 1, None, -(2**62) - 1, 7]
    array.add_obs(pl.DataFrame({"big": big, "flag": [True, None, False, True], "t": list("abca")}))
    assert array.obs["big"].to_list() == big
    assert array.obs["flag"].to_list() == [True, None, False, True]
    assert array.obs["t"].to_list() == list("abca")


def test_sparse_matrices_of_any_format_and_names_that_are_no_text(growing_path):
    array = SLAFArray(growing_path)
    twice = sp.coo_matrix(([1.0, 2.0], ([0, 0], [1, 1])), shape=(6, 4))
    array.add_layer("coo", twice)
    assert (array.to_csr(layer="coo") != twice.tocsr()).nnz == 0
    array.add_obsp("dia", sp.eye(6))
    assert array.query("SELECT COUNT(*) AS n FROM obsp_dia")["n"][0] == 6
    for add in (
        lambda: array.add_layer(3, twice),
        lambda: array.add_embedding(None, np.ones((6, 2))),
        lambda: array.add_obsp(None, sp.eye(6)),
        lambda: array.add_obs(pl.DataFrame({"a": pl.Series([1] * 6).cast(pl.Int128)})),
        lambda: SLAFArray(growing_path, version=datetime.min),
    ):
        with pytest.raises(slaf.InvalidArgumentError):
            add()
    assert array.refresh() == 3
