"""What files may hold and a store cannot: said by name, and never lost without a word."""

import anndata as ad
import h5py
import numpy as np
import pytest

import slaf
from slaf.data import SLAFConverter
from slaf.integrations import read_slaf

COUNTS = np.arange(12, dtype="f4").reshape(4, 3)


def loom(path, put):
    with h5py.File(path, "w") as f:
        f["matrix"] = COUNTS.T
        f["row_attrs/Gene"] = np.array(["g0", "g1", "g2"], dtype="S")
        f["col_attrs/CellID"] = np.array(["c0", "c1", "c2", "c3"], dtype="S")
        f.create_group("attrs")
        put(f)
    return path


def attribute(value, **how):
    return lambda f: f.attrs.create("odd", value, **how)


def column(dtype):
    return lambda f: f["col_attrs"].create_dataset("odd", (4,), dtype=dtype)


@pytest.mark.parametrize(
    "put",
    [
        attribute(np.ones(2, "c8")),
        attribute(np.void(b"abc")),
        attribute(np.zeros(2, dtype=[("a", "i4")])),
        attribute(np.float16(1.5)),
        lambda f: f.attrs.create("odd", f["matrix"].ref, dtype=h5py.ref_dtype),
        column("V4"),
        column(h5py.vlen_dtype("i4")),
        column(h5py.ref_dtype),
        column(np.dtype(("f4", (3,)))),
    ],
    ids=["complex", "opaque", "compound", "half", "ref", "opaques", "vlens", "refs", "arrays"],
)
def test_looms_with_values_of_odd_types(tmp_path, put):
    path = loom(tmp_path / "odd.loom", put)
    with pytest.raises(slaf.InputError, match="odd") as refused:
        SLAFConverter().convert(path, tmp_path / "odd.slaf")
    assert refused.value.kind == "would-lose-data"
    SLAFConverter(allow_loss=True).convert(path, tmp_path / "odd.slaf")
    np.testing.assert_array_equal(read_slaf(tmp_path / "odd.slaf").X.toarray(), COUNTS)


@pytest.mark.parametrize("fill", ["0", "A", "é", ""])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.filterwarnings("ignore")
def test_zarr_texts_that_were_never_written(tmp_path, fill, order, version):
    zarr = pytest.importorskip("zarr", minversion="3")
    path = tmp_path / "a.zarr"
    ad.AnnData(COUNTS, uns={"t": "é"}).write_zarr(path)
    if version == 3:
        zarr.open_group(tmp_path / "three.zarr", mode="w", zarr_format=3)
        with ad.settings.override(zarr_write_format=3):
            ad.AnnData(COUNTS, uns={"t": "é"}).write_zarr(path)
    group = zarr.open_group(path, mode="r+", use_consolidated=False)["uns"]
    texts = group.create_array(
        "texts", shape=(4,), dtype=f"{order}U3", chunks=(2,), fill_value=fill
    )
    texts[:2] = np.array(["abc", "dü"])
    texts.attrs.update({"encoding-type": "string-array", "encoding-version": "0.2.0"})
    zarr.consolidate_metadata(path)
    expected = ad.read_zarr(path).uns["texts"]
    assert list(expected) == ["abc", "dü", fill, fill]
    SLAFConverter().convert(path, tmp_path / "a.slaf")
    np.testing.assert_array_equal(read_slaf(tmp_path / "a.slaf").uns["texts"], expected)


@pytest.mark.filterwarnings("ignore")
def test_zarr_bytes_that_are_no_ascii(tmp_path):
    zarr = pytest.importorskip("zarr", minversion="3")
    path = tmp_path / "a.zarr"
    ad.AnnData(COUNTS, uns={"t": "é"}).write_zarr(path)
    group = zarr.open_group(path, mode="r+", use_consolidated=False)["uns"]
    for name, values in {
        "utf8": ["é".encode(), b"a"],
        "latin1": ["é".encode("latin1"), b"a"],
    }.items():
        texts = group.create_array(name, shape=(2,), dtype="S3", chunks=(2,))
        texts[:] = np.array(values)
        texts.attrs.update({"encoding-type": "array", "encoding-version": "0.2.0"})
    zarr.consolidate_metadata(path)
    SLAFConverter().convert(path, tmp_path / "a.slaf")
    ours, theirs = read_slaf(tmp_path / "a.slaf").uns, ad.read_zarr(path).uns
    for name in ("utf8", "latin1"):
        assert list(ours[name]) == list(theirs[name])


def with_duplicates(path, values):
    ad.AnnData(np.zeros((2, 3))).write_h5ad(path)
    with h5py.File(path, "r+") as f:
        del f["X"]
        X = f.create_group("X")
        X.attrs.update(
            {"encoding-type": "csr_matrix", "encoding-version": "0.1.0", "shape": np.array([2, 3])}
        )
        X["data"], X["indices"], X["indptr"] = values, np.array([1, 1, 0, 2]), np.array([0, 2, 4])
    return path


@pytest.mark.parametrize("dtype", ["i8", "u8"])
def test_sums_of_duplicates_beyond_64_bits(tmp_path, dtype):
    half = int(np.iinfo(dtype).max) // 2
    values = np.array([half, half + 1, 5, 2**53 + 1], dtype=dtype)
    path = with_duplicates(tmp_path / "exact.h5ad", values)
    SLAFConverter().convert(path, tmp_path / "exact.slaf")
    X = read_slaf(tmp_path / "exact.slaf").X
    assert X.dtype == dtype
    assert X.toarray().tolist() == [[0, np.iinfo(dtype).max, 0], [5, 0, 2**53 + 1]]
    values[1] += 1
    path = with_duplicates(tmp_path / "beyond.h5ad", values)
    with pytest.raises(slaf.InputError, match="beyond 64 bits") as refused:
        SLAFConverter().convert(path, tmp_path / "beyond.slaf")
    assert refused.value.kind == "would-lose-data"
    assert not (tmp_path / "beyond.slaf").exists()
