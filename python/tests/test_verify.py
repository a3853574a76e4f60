"""Damage that is found before it is used, and extras that cannot be read."""

import pickle
import random
import shutil
import subprocess
import sysconfig
import time
from pathlib import Path

import anndata as ad
import h5py
import numpy as np
import pytest
from loading import made, stored

import slaf
from slaf import SLAFArray
from slaf.data import SLAFConverter
from slaf.integrations import read_slaf
from slaf.ml import SLAFDataLoader

PROGRAM = Path(sysconfig.get_path("scripts")) / "slaf"


def flip(path, rng):
    content = bytearray(path.read_bytes())
    content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    path.write_bytes(content)


def sent(array):
    return pickle.loads(pickle.dumps(array))


def copied(path, folder):
    shutil.copytree(path, folder)
    return folder


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    folder = tmp_path_factory.mktemp("verify")
    adata = made()
    adata.uns["title"] = "a data set"
    adata.obsm["pca"] = np.arange(adata.n_obs * 2.0).reshape(-1, 2)
    return stored(folder, adata).path


def test_first_touch_names_a_flip_in_every_face(path, tmp_path):
    store = copied(path, tmp_path / "a.slaf")
    data = next(store.glob("cells-*.lance/data/*"))
    flip(data, random.Random(3))
    sql = "SELECT SUM(rank) FROM cells"
    uses = {
        "obs": lambda: SLAFArray(store, verify="first-touch", load_metadata=False).obs,
        "query": lambda: SLAFArray(store, verify="first-touch").query(sql),
        "pickled": lambda: sent(SLAFArray(store, verify="first-touch")).query(sql),
        "X": lambda: read_slaf(store, verify="first-touch").X.compute(),
        "obsm": lambda: read_slaf(store, verify="first-touch").obsm["pca"],
        "loader": lambda: list(SLAFDataLoader(SLAFArray(store), raw_mode=True, verify="first-touch",
                                              return_tensors="numpy")),
    }  # fmt: skip
    for name, use in uses.items():
        with pytest.raises(slaf.CorruptError) as caught:
            use()
        assert data.name in str(caught.value), name
    # What is not touched is not read.
    assert SLAFArray(store, verify="first-touch", load_metadata=False).var.height > 0


def test_first_touch_reads_right_stores_as_ever(path):
    plain, checked = SLAFArray(path), SLAFArray(path, verify="first-touch")
    for _ in range(2):
        assert checked.obs.equals(plain.obs)
        found = list(SLAFDataLoader(checked, raw_mode=True, return_tensors="numpy"))
        expected = list(SLAFDataLoader(plain, raw_mode=True, return_tensors="numpy"))
        for a, b in zip(found, expected, strict=True):
            assert (a["x"] != b["x"]).nnz == 0


def test_a_query_compares_files_if_asked(path, tmp_path):
    store = copied(path, tmp_path / "a.slaf")
    data = next(store.glob("cells-*.lance/data/*"))
    query = [PROGRAM, "query", "--verify", store, "SELECT SUM(rank) FROM cells"]
    done = subprocess.run(query, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    flip(data, random.Random(5))
    done = subprocess.run(query, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert data.name in done.stderr
    assert "[corrupt]" in done.stderr


def test_flips_of_small_files_are_named(path, tmp_path):
    rng = random.Random(1)
    for i in range(10):
        store = copied(path, tmp_path / f"{i}.slaf")
        extras = next((store / "_slaf/extras").iterdir())
        flip(extras, rng)
        with pytest.raises(slaf.CorruptError) as caught:
            _ = read_slaf(store).uns
        assert extras.name in str(caught.value)
        assert "uns" in str(caught.value)
        flip(next((store / "_slaf/categories").iterdir()), rng)
        with pytest.raises(slaf.CorruptError, match="categories"):
            _ = SLAFArray(store).obs


def test_verify_names_what_differs(path, tmp_path):
    store = copied(path, tmp_path / "a.slaf")
    array = SLAFArray(store)
    assert array.verify() == array.verify(quick=True) == []
    file = next((store / "_slaf/extras").iterdir())
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    assert array.verify(quick=True) == []
    expected = (file.relative_to(store).as_posix(), "its content has changed")
    assert array.verify() == [expected]
    assert array.verify()[0].file == expected[0]
    file.write_bytes(content[:-1])
    assert "bytes, not" in array.verify(quick=True)[0].reason


@pytest.mark.parametrize("cut", [0, 1, 700])
def test_cut_extras_are_named(path, tmp_path, cut):
    store = copied(path, tmp_path / "a.slaf")
    extras = next((store / "_slaf/extras").iterdir())
    extras.write_bytes(extras.read_bytes()[:cut])
    with pytest.raises(slaf.CorruptError, match="uns"):
        _ = read_slaf(store).uns


def test_an_element_that_anndata_cannot_read_is_named(tmp_path):
    made().write_h5ad(tmp_path / "a.h5ad")
    with h5py.File(tmp_path / "a.h5ad", "a") as file:
        group = file.create_group("uns/odd")
        group.attrs["encoding-type"] = "of-the-future"
        group.attrs["encoding-version"] = "9.0.0"
    SLAFConverter().convert(tmp_path / "a.h5ad", tmp_path / "a.slaf")
    with pytest.raises(slaf.SlafError) as caught:
        _ = read_slaf(tmp_path / "a.slaf").uns
    assert caught.value.kind == "unsupported-feature"
    assert "a.slaf: uns" in str(caught.value)


def nested(path, depth):
    """Write an h5ad whose uns has groups within groups; uns is the first of `depth`."""
    made(n_cells=5, n_genes=3).write_h5ad(path)
    with h5py.File(path, "a") as file:
        group = file.require_group("uns")
        for _ in range(depth - 1):
            group = group.create_group("a")
            group.attrs["encoding-type"] = "dict"
            group.attrs["encoding-version"] = "0.1.0"
        group["end"] = 7
        group["end"].attrs["encoding-type"] = "numeric-scalar"
        group["end"].attrs["encoding-version"] = "0.2.0"


def test_uns_of_the_greatest_depth_comes_back(tmp_path):
    nested(tmp_path / "a.h5ad", 100)
    SLAFConverter().convert(tmp_path / "a.h5ad", tmp_path / "a.slaf")
    element = read_slaf(tmp_path / "a.slaf").uns
    for _ in range(99):
        element = element["a"]
    assert element["end"] == 7
    expected = ad.read_h5ad(tmp_path / "a.h5ad").uns
    for _ in range(99):
        expected = expected["a"]
    assert expected["end"] == 7


@pytest.mark.parametrize("depth", [101, 500, 4000])
def test_deeper_uns_is_refused_at_once(tmp_path, depth):
    nested(tmp_path / "a.h5ad", depth)
    begin = time.monotonic()
    with pytest.raises(slaf.UnsupportedError) as caught:
        SLAFConverter().convert(tmp_path / "a.h5ad", tmp_path / "a.slaf")
    assert time.monotonic() - begin < 5
    assert "/uns/a" in str(caught.value)
    assert "100" in str(caught.value)
    assert not (tmp_path / "a.slaf").exists()


def test_misspelt_storage_options_are_named(path):
    for use in (
        lambda: SLAFArray(path, storage_options={"aws_regoin": "x"}),
        lambda: SLAFArray("s3://bucket/a.slaf", storage_options={"aws_regoin": "x"}),
        lambda: SLAFConverter(storage_options={"AWS_REGOIN": "x"}).convert(path, "s3://b/a.slaf"),
    ):
        with pytest.raises(slaf.InvalidArgumentError, match='did you mean "aws_region'):
            use()
    assert SLAFArray(path, storage_options={"AWS_Region": "x"}).n_obs > 0
    done = subprocess.run(
        [PROGRAM, "info", path, "--storage-option", "endpiont=x"],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 1
    assert "endpoint" in done.stderr
