"""Zarr stores of AnnData: against anndata."""

import json
import warnings
import zipfile

import anndata as ad
import numcodecs
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import zarr
from helpers import assert_same

import slaf
from slaf.data import SLAFConverter
from slaf.integrations import read_slaf


def write(adata, path, version, **options):
    with warnings.catch_warnings(), ad.settings.override(zarr_write_format=version):
        # zarr warns of the types of text in version 3, anndata of version 2.
        warnings.simplefilter("ignore")
        if hasattr(ad.settings, "allow_write_nullable_strings"):
            ad.settings.allow_write_nullable_strings = True
        adata.write_zarr(path, **options)


def both(adata, folder, version, **options):
    """The same object by way of a Zarr store, and of an h5ad."""
    write(adata, folder / "a.zarr", version, **options)
    converter = SLAFConverter(durability="os")
    report = converter.convert(folder / "a.zarr", folder / "zarr.slaf")
    adata.write_h5ad(folder / "a.h5ad")
    converter.convert(folder / "a.h5ad", folder / "h5ad.slaf")
    found, right = (read_slaf(folder / f"{n}.slaf").to_memory() for n in ("zarr", "h5ad"))
    return report, found, right


@pytest.mark.parametrize("version", [2, 3])
def test_a_zarr_store_is_as_an_h5ad(tmp_path, original, version):
    report, found, right = both(original, tmp_path, version)
    assert "zarr" in str(report)
    assert_same(found, right)
    assert_same(found, original)


def rich():
    rng = np.random.default_rng(0)
    n, m = 60, 20
    obs = pd.DataFrame(
        {
            "category": pd.Categorical(
                rng.choice(["a", "b", "é"], n), categories=["b", "é", "a", "unused"]
            ),
            "ordered": pd.Categorical(rng.choice([1, 2], n), ordered=True),
            "integer": pd.array([None, *range(n - 1)], dtype="Int64"),
            "flag": pd.array([None, True] * (n // 2), dtype="boolean"),
            "bool": rng.random(n) > 0.5,
            "float": np.where(rng.random(n) > 0.5, np.nan, 1.5),
            "small": np.arange(n, dtype="u1"),
        },
        index=[f"cell {i} ä" for i in range(n)],
    )
    x = sp.random(n, m, 0.2, "csr", "f4", rng=rng)
    adata = ad.AnnData(
        x, obs=obs, var=pd.DataFrame({"k": range(m)}, index=[f"g{i}" for i in range(m)])
    )
    adata.layers["csc"] = x.tocsc().astype("i8")
    adata.layers["dense"] = x.toarray().astype("f8")
    adata.obsm["pca"] = rng.random((n, 7))
    adata.obsm["cube"] = rng.random((n, 3, 2))
    adata.obsp["graph"] = sp.random(n, n, 0.1, "csr", rng=rng)
    adata.raw = adata[:, :15].copy()
    adata.uns = {
        "text": "word",
        "number": 3,
        "yes": True,
        "nested": {"list": np.array(["x", "", "long text"]), "deep": {"half": np.ones(3, "f2")}},
        "table": pd.DataFrame({"v": [1.5, 2.5]}, index=["p", "q"]),
        "records": np.array([(1, 2.5), (3, 4.5)], dtype=[("a", "i4"), ("b", "f8")]),
        "sparse": sp.eye(3, format="csr"),
    }
    return adata


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("chunks", [None, (7, 3)])
def test_every_element(tmp_path, version, chunks):
    adata = rich()
    adata.X = adata.X.toarray() if chunks else adata.X
    report, found, right = both(adata, tmp_path, version, **({"chunks": chunks} if chunks else {}))
    assert not report.lost
    assert_same(found, right)
    assert_same(found, adata)
    assert str(found.uns) == str(right.uns)
    assert found.uns["records"].dtype == right.uns["records"].dtype


CODECS = {
    "zlib": numcodecs.Zlib(),
    "gzip": numcodecs.GZip(),
    "lz4": numcodecs.LZ4(),
    "zstd": numcodecs.Zstd(),
    "none": None,
    "blosc": numcodecs.Blosc(),
    "blosc bits": numcodecs.Blosc("zstd", shuffle=2),
}


@pytest.mark.parametrize("name", CODECS)
def test_codecs_and_missing_chunks_of_version_2(tmp_path, name):
    adata = ad.AnnData(np.ones((30, 4), "f4"))
    write(adata, tmp_path / "a.zarr", 2)
    right = np.full((30, 4), np.nan, ">f4")
    right[:10] = np.random.default_rng(0).random((10, 4))
    store = zarr.open_group(tmp_path / "a.zarr", zarr_format=2)
    del store["X"]
    x = store.create_array(
        "X", shape=(30, 4), chunks=(10, 3), dtype=">f4", fill_value=np.nan, compressors=CODECS[name]
    )
    x.attrs.update({"encoding-type": "array", "encoding-version": "0.2.0"})
    x[:10] = right[:10]
    assert not (tmp_path / "a.zarr/X/1.0").exists()
    SLAFConverter(durability="os").convert(tmp_path / "a.zarr", tmp_path / "a.slaf")
    found = read_slaf(tmp_path / "a.slaf").to_memory().X
    np.testing.assert_array_equal(found, right.astype("f4"))


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_an_archive(tmp_path, original, compression):
    write(original, tmp_path / "a.zarr", 3)
    with zipfile.ZipFile(tmp_path / "a.zarr.zip", "w", compression) as z:
        for path in (tmp_path / "a.zarr").rglob("*"):
            z.write(path, path.relative_to(tmp_path / "a.zarr"))
    SLAFConverter(durability="os").convert(tmp_path / "a.zarr.zip", tmp_path / "a.slaf")
    assert_same(read_slaf(tmp_path / "a.slaf").to_memory(), original)


def test_shards(tmp_path):
    right = np.random.default_rng(0).random((30, 8)).astype("f4")
    right[8:12] = 0
    write(ad.AnnData(right), tmp_path / "a.zarr", 3)
    store = zarr.open_group(tmp_path / "a.zarr", zarr_format=3)
    del store["X"]
    x = store.create_array("X", shape=(30, 8), chunks=(4, 3), shards=(12, 6), dtype="f4")
    x.attrs.update({"encoding-type": "array", "encoding-version": "0.2.0"})
    x[:] = right
    SLAFConverter(durability="os").convert(tmp_path / "a.zarr", tmp_path / "a.slaf")
    np.testing.assert_array_equal(read_slaf(tmp_path / "a.slaf").to_memory().X, right)


@pytest.mark.parametrize("version", [2, 3])
def test_records_of_text(tmp_path, version):
    fields = [("gene", "U7"), ("score", "f4"), ("né", "U3"), ("n", "i8")]
    records = np.array([("GEN\U0001f9eaE1", 0.5, "", 1), ("é", -1, "日本語", 2**60)], fields)
    adata = ad.AnnData(np.ones((3, 2), "f4"))
    adata.uns["r"] = records
    # More than one chunk of the HDF5 file that they become.
    adata.uns["many"] = np.tile(records, 9000)
    _, found, right = both(adata, tmp_path, version)
    for name, n in (("r", 1), ("many", 9000)):
        assert found.uns[name].tolist() == records.tolist() * n
        assert found.uns[name].dtype == right.uns[name].dtype


def test_records_of_a_real_store(tmp_path, shared_data):
    zoo = shared_data / "format_zoo"
    SLAFConverter(durability="os").convert(zoo / "pbmc68k_reduced.zarr.zip", tmp_path / "a.slaf")
    found = read_slaf(tmp_path / "a.slaf").uns["rank_genes_groups"]["names"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of anndata, for a file of its first versions
        right = ad.read_h5ad(shared_data / "pbmc68k_reduced.h5ad")
    right = right.uns["rank_genes_groups"]["names"]
    assert found.dtype.names == right.dtype.names
    assert found.tolist() == right.tolist()


def test_damage_is_named(tmp_path, original):
    write(original, tmp_path / "a.zarr", 2)

    def convert():
        SLAFConverter(overwrite=True).convert(tmp_path / "a.zarr", tmp_path / "a.slaf")

    for key in ("obs/.zattrs", "X/.zgroup", "var/_index/.zarray"):
        path = tmp_path / "a.zarr" / key
        if not path.exists():
            continue
        before = path.read_bytes()
        path.write_bytes(before[:-3])
        with pytest.raises(slaf.InputError, match=key) as e:
            convert()
        assert e.value.kind == "malformed-input"
        path.write_bytes(before)
    chunk = next(p for p in (tmp_path / "a.zarr/obs").rglob("0") if p.is_file())
    chunk.write_bytes(chunk.read_bytes()[:-5])
    with pytest.raises(slaf.InputError) as e:
        convert()
    assert e.value.kind == "malformed-input"
    assert chunk.parent.name in str(e.value)


def test_what_is_not_read_is_refused_by_name(tmp_path, original):
    write(original, tmp_path / "a.zarr", 2)
    path = next((tmp_path / "a.zarr/obs").rglob(".zarray"))
    meta = json.loads(path.read_text())
    path.write_text(json.dumps(meta | {"compressor": {"id": "bz2", "level": 1}}))
    with pytest.raises(slaf.UnsupportedError, match='the compressor "bz2"') as e:
        SLAFConverter().convert(tmp_path / "a.zarr", tmp_path / "a.slaf")
    assert e.value.kind == "unsupported-input"
    zarr.open_group(tmp_path / "other.zarr", mode="w")["x"] = np.ones(3)
    with pytest.raises(slaf.InputError, match="no AnnData"):
        SLAFConverter().convert(tmp_path / "other.zarr", tmp_path / "a.slaf")
