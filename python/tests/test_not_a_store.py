"""What is said of paths that hold something else than a store."""

import gzip
import shutil
import warnings

import anndata as ad
import pytest
from helpers import assert_same
from processes import run_slaf

import slaf
from slaf import SLAFArray
from slaf.data import SLAFConverter
from slaf.integrations import read_slaf


@pytest.fixture(scope="module")
def others(tmp_path_factory, h5ad_path):
    folder = tmp_path_factory.mktemp("others")
    shutil.copy(h5ad_path, folder / "x.h5ad")
    shutil.copy(h5ad_path, folder / "no_extension")
    with warnings.catch_warnings():
        # Of the version of zarr that is the default.
        warnings.simplefilter("ignore")
        ad.read_h5ad(h5ad_path).write_zarr(folder / "x.zarr")
    with open(h5ad_path, "rb") as source, gzip.open(folder / "x.h5ad.gz", "wb") as target:
        shutil.copyfileobj(source, target)
    (folder / "x.csv").write_text("cell,g1,g2\na,1,0\nb,0,2\n")
    (folder / "empty").mkdir()
    (folder / "nothing.h5ad").write_bytes(b"")
    (folder / "notes").mkdir()
    (folder / "notes" / "README.md").write_text("hello")
    tenx = folder / "tenx"
    tenx.mkdir()
    matrix = "%%MatrixMarket matrix coordinate integer general\n2 1 1\n1 1 5\n"
    (tenx / "matrix.mtx").write_text(matrix)
    (tenx / "barcodes.tsv").write_text("AAAC-1\n")
    (tenx / "genes.tsv").write_text("ENSG1\tA\nENSG2\tB\n")
    return folder


CONVERTIBLE = {
    "x.h5ad": "h5ad",
    "no_extension": "h5ad",
    "x.h5ad.gz": "an HDF5 file packed with gzip",
    "x.csv": "csv",
    "tenx": "10x mtx",
}


@pytest.mark.parametrize("open_it", [SLAFArray, read_slaf])
@pytest.mark.parametrize("name", CONVERTIBLE)
def test_inputs_are_named_with_the_command_that_converts_them(others, name, open_it):
    with pytest.raises(slaf.NotAStoreError) as caught:
        open_it(others / name)
    assert caught.value.kind == "not-a-store"
    text = str(caught.value)
    stem = name.removesuffix(".gz").removesuffix(".h5ad").removesuffix(".csv")
    assert CONVERTIBLE[name] in text
    assert f"slaf convert {others / name} {stem}.slaf" in text
    assert "SLAFConverter().convert(" in text
    assert "\n" not in text


def test_a_packed_h5ad_converts_as_the_plain_one(others, h5ad_path):
    store = str(others / "packed.slaf")
    SLAFConverter().convert(str(others / "x.h5ad.gz"), store)
    assert_same(read_slaf(store).to_memory(), ad.read_h5ad(h5ad_path))


@pytest.mark.parametrize("name", ["x.zarr", "empty", "nothing.h5ad", "notes"])
def test_other_things_are_no_stores(others, name):
    with pytest.raises(slaf.NotAStoreError) as caught:
        SLAFArray(others / name)
    assert str(others / name) in str(caught.value)
    assert "walk" not in str(caught.value)


def test_addresses_of_the_web_are_no_stores():
    for url in ("https://example.org/x.h5ad", "http://example.org/x.slaf"):
        with pytest.raises(slaf.NotAStoreError, match=r"download.*slaf convert"):
            read_slaf(url)


def test_nothing_is_nothing(tmp_path):
    with pytest.raises(slaf.NotFoundError):
        SLAFArray(tmp_path / "x.h5ad")


def test_the_command_says_it_in_one_line(others):
    done = run_slaf("info", "x.h5ad", cwd=others, timeout=120)
    assert done.returncode == 1
    assert done.stderr.endswith("[not-a-store]\n")
    assert done.stderr.count("\n") == 1
    assert "slaf convert" in done.stderr
