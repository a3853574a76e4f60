"""Several inputs in one store: what all have, what some have, and nothing lost."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from anndata.tests.helpers import assert_equal

import slaf
from slaf.data import SLAFConverter
from slaf.integrations import read_slaf


def sample(seed, n=5, layers=(), **uns):
    rng = np.random.default_rng(seed)
    X = sp.csr_matrix(rng.poisson(1.0, (n, 6)).astype(np.float32))
    obs = pd.DataFrame(index=[f"s{seed}c{i}" for i in range(n)])
    # Genes in another order in each.
    var = pd.DataFrame(index=[f"g{i}" for i in rng.permutation(6)])
    return ad.AnnData(X, obs, var, layers=dict.fromkeys(layers, X * 2), uns=uns)


def united(folder, *samples, **options):
    paths = []
    for i, adata in enumerate(samples):
        paths.append(folder / f"in{i}.h5ad")
        adata.write_h5ad(paths[-1])
    converter = SLAFConverter(overwrite=True, **options)
    report = converter.convert(paths, folder / "out.slaf")
    return paths, report, read_slaf(folder / "out.slaf")


def test_orders_of_categories_that_are_not_kept_are_told(tmp_path):
    samples = [sample(0), sample(1)]
    orders = {"same": "abc", "other": "cab", "fewer": "ab"}
    for name, categories in orders.items():
        for adata, order in zip(samples, ("abc", categories), strict=True):
            values = pd.Categorical(list("abaab"), list(order), ordered=True)
            adata.obs[name] = values
    for adata in samples:
        adata.X = adata.X.toarray().astype(np.float16)
    paths, report, lazy = united(tmp_path, *samples)
    assert {name: lazy.obs[name].cat.ordered for name in orders} == {
        "same": True,
        "other": False,
        "fewer": False,
    }
    told = [note for note in report.notes if "not ordered" in note]
    assert [note.split(":")[0] for note in told] == ["obs/other", "obs/fewer"]
    assert all(str(path) in note for note in told for path in paths)
    halves = [note for note in report.notes if "float16" in note]
    assert len(halves) == 2
    assert all("X: float16 is kept as float32" in note for note in halves)


EVERYTHING = {
    "text": "a",
    "number": 3,
    "bool": np.bool_(True),
    "array": np.array([1.0, np.nan, 3.0]),
    "texts": np.array(["x", "y"], dtype=object),
    "frame": pd.DataFrame({"a": [1, 2], "b": pd.Categorical(["u", None])}, index=["i", "j"]),
    "sparse": sp.csr_matrix(np.eye(3)),
    "records": np.array([(1, 2.5), (3, 4.5)], dtype=[("p", "i4"), ("q", "f8")]),
    "nested": {"log1p": {"base": 2.0}, "empty": {}},
    "none": None,
}


def test_equal_entries_stay_and_differing_ones_are_kept_for_each_source(tmp_path):
    changed = {
        "text": "b",
        "number": 4,
        "bool": np.bool_(False),
        "array": np.array([1.0, np.nan, 4.0]),
        "texts": np.array(["x", "z"], dtype=object),
        "frame": EVERYTHING["frame"].assign(a=[1, 3]),
        "sparse": sp.csr_matrix(np.eye(3) * 2),
        "records": np.array([(1, 2.5), (3, 4.0)], dtype=[("p", "i4"), ("q", "f8")]),
        "nested": {"log1p": {"base": 10.0}, "empty": {}},
        "none": 0,
    }
    a, b = sample(0, **EVERYTHING, only_a=1), sample(1, **EVERYTHING, by_source="mine")
    paths, _, both = united(tmp_path, a, b)
    stored = [ad.read_h5ad(p).uns for p in paths]
    uns = dict(both.uns)
    by_source = uns.pop("by_source")
    assert_equal(uns, {k: stored[0][k] for k in EVERYTHING})
    assert by_source["0"]["source"] == str(paths[0])
    assert_equal(by_source["0"]["uns"], {"only_a": 1})
    assert_equal(by_source["1"]["uns"], {"by_source": "mine"})
    for key, value in changed.items():
        other = {**EVERYTHING, key: value}
        paths, _, both = united(tmp_path, sample(0, **EVERYTHING), sample(1, **other))
        stored = [ad.read_h5ad(p).uns for p in paths]
        uns = dict(both.uns)
        by_source = uns.pop("by_source")
        assert sorted(uns) == sorted(set(EVERYTHING) - {key})
        for i, part in enumerate(stored):
            assert by_source[str(i)]["source"] == both.obs["source"].cat.categories[i]
            assert_equal(by_source[str(i)]["uns"], {key: part[key]})


def test_types_and_shapes_make_a_difference(tmp_path):
    one = {"a": np.array([1, 2], np.int32), "b": np.ones((2, 2)), "c": 1, "d": "1"}
    two = {"a": np.array([1, 2], np.int64), "b": np.ones(4), "c": 1.0, "d": 1}
    _, _, both = united(tmp_path, sample(0, **one), sample(1, **two))
    assert list(both.uns) == ["by_source"]
    for i, uns in enumerate([one, two]):
        kept = both.uns["by_source"][str(i)]["uns"]
        assert_equal(kept, uns)
        assert [kept[k].dtype for k in "ab"] == [uns[k].dtype for k in "ab"]


def test_uns_of_some_inputs_only(tmp_path):
    paths, _, both = united(tmp_path, sample(0), sample(1, color="red"), sample(2, color="red"))
    assert sorted(both.uns) == ["by_source"]
    assert sorted(both.uns["by_source"]) == ["1", "2"]
    assert both.uns["by_source"]["2"] == {"source": str(paths[2]), "uns": {"color": "red"}}
    _, _, both = united(tmp_path, sample(0), sample(1))
    assert dict(both.uns) == {}


def test_the_union_is_exported_with_its_uns(tmp_path):
    united(tmp_path, sample(0, a=1, b=2), sample(1, a=1, b=3))
    slaf.SLAFArray(tmp_path / "out.slaf").export(tmp_path / "back.h5ad")
    uns = ad.read_h5ad(tmp_path / "back.h5ad").uns
    assert uns["a"] == 1
    assert [uns["by_source"][i]["uns"]["b"] for i in "01"] == [2, 3]


def test_layers_of_some_inputs_are_refused_or_filled_on_request(tmp_path):
    a, b, c = sample(0, layers=["counts"]), sample(1), sample(2, layers=["counts", "more"])
    with pytest.raises(slaf.InputError) as caught:
        united(tmp_path, a, b, c)
    assert caught.value.kind == "would-lose-data"
    for word in ("layers/counts", "in1.h5ad", "--fill-layers", "fill_layers=True", "layers/more"):
        assert word in str(caught.value)
    assert not (tmp_path / "out.slaf").exists()
    paths, report, all_three = united(tmp_path, a, b, c, fill_layers=True)
    expected = ad.concat([a, b, c], join="outer", fill_value=0)
    for name, having in {"counts": [a, c], "more": [c]}.items():
        dense = all_three.layers[name].toarray()
        for part in (a, b, c):
            rows = all_three.obs_names.get_indexer(part.obs_names)
            here = dense[rows][:, all_three.var_names.get_indexer(part.var_names)]
            told = part.layers[name].toarray() if any(part is h for h in having) else 0
            np.testing.assert_array_equal(here, np.broadcast_to(told, part.shape))
    np.testing.assert_array_equal(
        all_three[:, expected.var_names].X.toarray(), expected.X.toarray()
    )
    # That they are no values is on record, in the report and in the store.
    absent = {k: list(v["absent_layers"]) for k, v in all_three.uns["by_source"].items()}
    assert absent == {"0": ["more"], "1": ["counts", "more"]}
    assert any("in1.h5ad: zeros in counts, more" in note for note in report.notes)
    assert str(paths[1]) == all_three.uns["by_source"]["1"]["source"]


def test_a_folder_of_h5ads(tmp_path):
    folder = tmp_path / "samples"
    folder.mkdir()
    parts = {name: sample(i, title=name) for i, name in enumerate(["b", "a", "c"])}
    for name, adata in parts.items():
        adata.write_h5ad(folder / f"{name}.h5ad")
    (folder / "README.md").write_text("hello")
    with pytest.raises(slaf.NotAStoreError, match=r"folder of 3 h5ad files.*slaf convert"):
        read_slaf(folder)
    report = SLAFConverter().convert(folder, tmp_path / "all.slaf")
    assert any("a folder of 3 h5ad files; 1 other things" in note for note in report.notes)
    store = read_slaf(tmp_path / "all.slaf")
    assert list(store.obs["source"].cat.categories) == [str(folder / f"{n}.h5ad") for n in "abc"]
    assert store.obs_names.tolist() == [n for p in "abc" for n in parts[p].obs_names]
    assert [store.uns["by_source"][str(i)]["uns"]["title"] for i in range(3)] == list("abc")
    (folder / "a.h5ad").unlink()
    (folder / "b.h5ad").unlink()
    SLAFConverter().convert(folder, tmp_path / "one.slaf")
    one = read_slaf(tmp_path / "one.slaf")
    assert "source" not in one.obs
    assert one.uns["title"] == "c"
