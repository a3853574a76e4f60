"""How HDF5 files store what they hold: against h5py, through anndata."""

import time

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from helpers import assert_same
from numcodecs import LZ4, Blosc, Zstd

import slaf
from slaf.data import SLAFConverter
from slaf.integrations import read_slaf

# Files as other programs write them, without anndata's attributes.
pytestmark = pytest.mark.filterwarnings("ignore:Element .* was written without encoding metadata")

TEXT = h5py.string_dtype()
X = np.random.default_rng(0).poisson(0.5, (500, 6)).astype("f4")


def frames(f, n, m):
    for name, size in (("obs", n), ("var", m)):
        g = f.create_group(name)
        g.attrs.update(
            {"encoding-type": "dataframe", "encoding-version": "0.2.0", "_index": "_index"}
        )
        g.attrs.create("column-order", np.array(["q"], object), dtype=TEXT)
        g.create_dataset(
            "_index", data=np.array([f"{name}{i}" for i in range(size)], object), dtype=TEXT
        )
        g["q"] = np.arange(size)


def csr(f, key, **options):
    x = sp.csr_matrix(X)
    g = f.create_group(key)
    g.attrs.update(
        {"encoding-type": "csr_matrix", "encoding-version": "0.1.0", "shape": np.array(X.shape)}
    )
    for name in ("data", "indices", "indptr"):
        g.create_dataset(name, data=getattr(x, name), **options)


def partly(f):
    d = f.create_dataset("X", shape=(40, 5), dtype="f4", chunks=(10, 5), fillvalue=7)
    d[:10] = 1


def cut(f):
    d = f.create_dataset("X", shape=(90, 5), dtype="f4", chunks=(10, 2), maxshape=(None, 5))
    d[...] = np.arange(450).reshape(90, 5)
    d.resize((33, 5))


def linked(f):
    frames(f, *X.shape)
    csr(f, "X")
    f["layers/soft"] = h5py.SoftLink("/X")
    f["layers/relative"] = h5py.SoftLink("soft")
    f["layers/hard"] = f["X"]
    f["uns/words"] = "text"
    f["uns/also"] = h5py.SoftLink("words")
    f["obsm/a"] = X[:, :2]
    f["obsm/b"] = h5py.SoftLink("/obsm/a")
    f["obs/soft"] = h5py.SoftLink("/obs/q")
    f["obs"].attrs.create("column-order", np.array(["q", "soft"], object), dtype=TEXT)


def many_links(f):
    csr(f, "X")
    g = f.create_group("layers", track_order=True)
    for i in range(60):
        g[f"layer {i}"] = h5py.SoftLink("/X") if i % 3 else f["X"]


def dataset(**options):
    return lambda f: f.create_dataset("X", data=X, **options)


STORAGES = {
    "partly written": partly,
    "never written": lambda f: f.create_dataset("X", shape=(40, 5), dtype="f4", fillvalue=3),
    "cut": cut,
    "many chunks": dataset(chunks=(1, 3), compression="gzip"),
    "growing": dataset(chunks=(7, 2), maxshape=(None, 6), compression="gzip"),
    "growing plain": dataset(chunks=(7, 2), maxshape=(None, 6)),
    "growing both": dataset(chunks=(7, 2), maxshape=(None, None), compression="lzf", shuffle=True),
    "growing both plain": dataset(chunks=(1, 1), maxshape=(None, None)),
    "one chunk": dataset(chunks=(500, 6), compression="gzip", fletcher32=True),
    "sparse": lambda f: csr(
        f, "X", maxshape=(None,), chunks=(3,), compression="gzip", shuffle=True, fletcher32=True
    ),
    "big-endian": lambda f: f.create_dataset("X", data=X.astype(">f4")),
    "big-endian integers": lambda f: f.create_dataset("X", data=X.astype(">i8")),
    "links": linked,
    "many links": many_links,
}


@pytest.mark.parametrize("name", STORAGES)
@pytest.mark.parametrize("libver", ["earliest", "v110", "latest"])
def test_storage_is_read_as_h5py_reads_it(tmp_path, name, libver):
    path = tmp_path / "a.h5ad"
    with h5py.File(path, "w", libver=libver) as f:
        STORAGES[name](f)
        if "obs" not in f:
            frames(f, *getattr(f["X"], "shape", X.shape))
    check(tmp_path, path)


def check(tmp_path, path, **options):
    right = ad.read_h5ad(path)
    SLAFConverter(durability="os", **options).convert(path, tmp_path / "a.slaf")
    found = read_slaf(tmp_path / "a.slaf").to_memory()
    dense = lambda x: x.toarray() if sp.issparse(x) else x  # noqa: E731
    np.testing.assert_array_equal(dense(found.X), dense(right.X))
    assert sorted(found.layers) == sorted(right.layers)
    for key in right.layers:
        np.testing.assert_array_equal(dense(found.layers[key]), dense(right.layers[key]))
    assert sorted(found.obsm) == sorted(right.obsm)
    for key in right.obsm:
        np.testing.assert_array_equal(found.obsm[key], right.obsm[key])
    pd.testing.assert_frame_equal(found.obs, right.obs)
    pd.testing.assert_frame_equal(found.var, right.var)
    assert found.uns == right.uns
    return found


def test_a_user_block(tmp_path):
    path = tmp_path / "a.h5ad"
    with h5py.File(path, "w", userblock_size=512) as f:
        linked(f)
    with path.open("r+b") as f:
        f.write(b"#!/bin/sh\n")
    check(tmp_path, path)


@pytest.mark.parametrize(
    ("link", "words"),
    [
        (h5py.SoftLink("/gone"), "soft link to"),
        (h5py.SoftLink("/uns/x"), "soft link to"),
        (h5py.SoftLink("/"), "cycle"),
        (h5py.ExternalLink("other.h5", "/X"), "another file"),
    ],
)
@pytest.mark.parametrize("libver", ["earliest", "latest"])
def test_links_that_lead_nowhere_are_refused_by_name(tmp_path, link, words, libver):
    with h5py.File(tmp_path / "a.h5ad", "w", libver=libver) as f:
        f["X"] = X
        frames(f, *X.shape)
        f["uns/x"] = link
    with pytest.raises(slaf.UnsupportedError, match=words) as e:
        SLAFConverter(allow_loss=True).convert(tmp_path / "a.h5ad", tmp_path / "a.slaf")
    assert e.value.kind == "unsupported-input"
    assert "uns" in str(e.value)
    assert not (tmp_path / "a.slaf").exists()


def chunks_of(f, name, data, rows, number, encode):
    """A dataset whose chunks are written through no filter of HDF5's own."""
    p = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    p.set_chunk((rows, data.shape[1]))
    p.set_filter(number, h5py.h5z.FLAG_OPTIONAL, ())
    space = h5py.h5s.create_simple(data.shape)
    d = h5py.h5d.create(f.id, name, h5py.h5t.py_create(data.dtype), space, p)
    for i in range(0, len(data), rows):
        block = np.zeros((rows, data.shape[1]), data.dtype)
        block[: len(data[i : i + rows])] = data[i : i + rows]
        d.write_direct_chunk((i, 0), encode(block))


def lz4_blocks(block, size=256):
    """As the plugin of HDF5 packs them."""
    raw = block.tobytes()
    out = len(raw).to_bytes(8, "big") + size.to_bytes(4, "big")
    for i in range(0, len(raw), size):
        part = raw[i : i + size]
        packed = bytes(LZ4().encode(part))[4:]
        packed = packed if len(packed) < len(part) else part
        out += len(packed).to_bytes(4, "big") + packed
    return out


FILTERS = {"zstd": (32015, lambda b: bytes(Zstd().encode(b))), "lz4": (32004, lz4_blocks)} | {
    f"blosc {name} {shuffle}": (
        32001,
        lambda b, name=name, shuffle=shuffle: bytes(
            Blosc(cname=name, shuffle=shuffle, blocksize=1024).encode(b)
        ),
    )
    for name in ("lz4", "lz4hc", "zstd", "zlib", "blosclz")
    for shuffle in (Blosc.NOSHUFFLE, Blosc.SHUFFLE, Blosc.BITSHUFFLE)
}


@pytest.mark.parametrize("name", FILTERS)
def test_filters_of_plugins(tmp_path, name):
    number, encode = FILTERS[name]
    rng = np.random.default_rng(1)
    noise = rng.random((500, 6)).astype("f4")
    with h5py.File(tmp_path / "a.h5ad", "w") as f:
        chunks_of(f, b"X", X, 130, number, encode)
        frames(f, *X.shape)
        f.create_group("layers")
        chunks_of(f, b"layers/noise", noise, 500, number, encode)
        chunks_of(f, b"layers/long", np.arange(3000).reshape(500, 6) // 50, 250, number, encode)
    SLAFConverter(durability="os").convert(tmp_path / "a.h5ad", tmp_path / "a.slaf")
    found = read_slaf(tmp_path / "a.slaf").to_memory()
    np.testing.assert_array_equal(found.X, X)
    np.testing.assert_array_equal(found.layers["noise"], noise)
    np.testing.assert_array_equal(found.layers["long"], np.arange(3000).reshape(500, 6) // 50)
    damaged = (tmp_path / "a.h5ad").read_bytes()
    with h5py.File(tmp_path / "a.h5ad") as f:
        chunk = f["X"].id.get_chunk_info(1)
    kinds = set()
    for at in range(chunk.byte_offset, chunk.byte_offset + chunk.size, 37):
        bad = bytearray(damaged)
        bad[at] ^= 0x55
        (tmp_path / "bad.h5ad").write_bytes(bad)
        try:
            SLAFConverter(durability="os", overwrite=True).convert(
                tmp_path / "bad.h5ad", tmp_path / "bad.slaf"
            )
        except (slaf.InputError, slaf.UnsupportedError) as e:
            kinds.add(e.kind)
    assert kinds <= {"malformed-input", "unsupported-input"}


def test_other_filters_are_refused_by_name(tmp_path):
    with h5py.File(tmp_path / "a.h5ad", "w") as f:
        chunks_of(f, b"X", X, 130, 307, lambda b: b.tobytes())
        frames(f, *X.shape)
    with pytest.raises(slaf.UnsupportedError, match="/X: compressed by filter 307") as e:
        SLAFConverter().convert(tmp_path / "a.h5ad", tmp_path / "a.slaf")
    assert e.value.kind == "unsupported-input"


def logicals(path, values, names, base="u1"):
    with h5py.File(path, "w") as f:
        f["X"] = np.eye(3, dtype="f4")
        frames(f, 3, 3)
        of = h5py.enum_dtype(names, basetype=base)
        f["obs"].create_dataset("r", data=np.array(values, base), dtype=of)
        f["obs"].attrs.create("column-order", np.array(["q", "r"], object), dtype=TEXT)


@pytest.mark.parametrize("base", ["u1", "i1", "<i4", ">i4"])
def test_logicals_of_r(tmp_path, base):
    logicals(tmp_path / "a.h5ad", [1, 2, 0], {"FALSE": 0, "TRUE": 1, "NA": 2}, base)
    SLAFConverter(durability="os").convert(tmp_path / "a.h5ad", tmp_path / "a.slaf")
    right = pd.array([True, None, False], dtype="boolean")
    pd.testing.assert_extension_array_equal(read_slaf(tmp_path / "a.slaf").obs["r"].array, right)


@pytest.mark.parametrize("names", [{"FALSE": 0, "TRUE": 1}, {"FALSE": 0, "TRUE": 1, "NA": 2}])
def test_what_is_no_logical_is_refused(tmp_path, names):
    logicals(tmp_path / "a.h5ad", [1, 3, 0], names)
    with pytest.raises(slaf.InputError, match=r"/obs/r, row 1: .*neither FALSE nor TRUE") as e:
        SLAFConverter().convert(tmp_path / "a.h5ad", tmp_path / "a.slaf")
    assert e.value.kind == "malformed-input"


@pytest.mark.parametrize("form", [np.asarray, sp.csr_matrix, sp.csc_matrix])
def test_half_floats_keep_their_values(tmp_path, form):
    half = np.array([[0.1, 0, 65504], [np.nan, -0.0, 6e-8], [np.inf, 1 / 3, 0]], "f2")
    path = tmp_path / "a.h5ad"
    wide = half.astype("f4")
    ad.AnnData(form(wide), layers={"l": wide}).write_h5ad(path)
    x = form(wide)
    with h5py.File(path, "r+") as f:
        key = "X/data" if sp.issparse(x) else "X"
        values = f[key][...].astype("f2")
        attrs = dict(f[key].attrs)
        del f[key]
        f[key] = values
        f[key].attrs.update(attrs)
        f["obsm/half"] = half
        f["obs/h"] = half[:, 0]
        f["obs"].attrs.create("column-order", np.array(["h"], object), dtype=TEXT)
    report = SLAFConverter(durability="os").convert(path, tmp_path / "a.slaf")
    assert "X: float16 is kept as float32" in str(report)
    found = read_slaf(tmp_path / "a.slaf").to_memory()
    dense = found.X.toarray() if sp.issparse(found.X) else found.X
    assert dense.dtype == "f4"
    np.testing.assert_array_equal(dense, wide)
    assert found.obsm["half"].dtype == "f2"
    np.testing.assert_array_equal(found.obsm["half"], half)
    np.testing.assert_array_equal(found.obs["h"].to_numpy(), half[:, 0])


def mudata(path, original):
    original.write_h5ad(path.with_name("one.h5ad"))
    with h5py.File(path, "w") as f, h5py.File(path.with_name("one.h5ad")) as s:
        f.attrs.update({"encoding-type": "MuData", "encoding-version": "0.1.0"})
        for name in ("rna", "adt"):
            s.copy("/", f, f"mod/{name}")
            f[f"obsmap/{name}"] = np.arange(1, original.n_obs + 1)
        for name in ("obs", "var", "uns", "obsm", "varm"):
            s.copy(name, f, name)


def test_a_modality_of_mudata(tmp_path, original):
    path = tmp_path / "m.h5mu"
    mudata(path, original)
    SLAFConverter(durability="os", modality="rna").convert(path, tmp_path / "m.slaf")
    SLAFConverter(durability="os").convert(tmp_path / "one.h5ad", tmp_path / "one.slaf")
    found, right = (read_slaf(tmp_path / n).to_memory() for n in ("m.slaf", "one.slaf"))
    assert_same(found, right)
    assert found.uns.keys() == right.uns.keys()
    for options in ({}, {"allow_loss": True}):
        with pytest.raises(slaf.InvalidArgumentError, match=r'"adt", "rna".*--modality'):
            SLAFConverter(**options).convert(path, tmp_path / "no.slaf")
    with pytest.raises(slaf.InvalidArgumentError, match='no modality "atac"; there are "adt"'):
        SLAFConverter(modality="atac").convert(path, tmp_path / "no.slaf")
    assert not (tmp_path / "no.slaf").exists()


def test_target_sets_become_columns(tmp_path):
    x = sp.csc_matrix(np.array([[1, 0, 2], [0, 3, 0], [4, 0, 0]], "i4"))  # features x cells
    with h5py.File(tmp_path / "t.h5", "w") as f:
        m = f.create_group("matrix")
        m["data"], m["indices"], m["indptr"] = x.data, x.indices, x.indptr
        m["shape"], m["barcodes"] = np.array(x.shape, "i4"), np.array([b"AA-1", b"CC-1", b"GG-1"])
        g = m.create_group("features")
        g["_all_tag_keys"] = np.array([b"genome"])
        g["feature_type"], g["genome"] = np.array([b"Gene Expression"] * 3), np.array([b"G"] * 3)
        g["id"], g["name"] = np.array([b"E1", b"E2", b"E3"]), np.array([b"A", b"B", b"C"])
        sets = g.create_group("target_sets")
        sets["Human Probes"], sets["none"] = np.array([0, 2]), np.zeros(0, "i8")
    report = SLAFConverter(durability="os").convert(tmp_path / "t.h5", tmp_path / "t.slaf")
    assert "left out" not in str(report)
    found = read_slaf(tmp_path / "t.slaf")
    np.testing.assert_array_equal(found.X.compute().toarray(), x.T.toarray())
    assert list(found.var["target_set_Human Probes"]) == [True, False, True]
    assert list(found.var["target_set_none"]) == [False] * 3
    with h5py.File(tmp_path / "t.h5", "r+") as f:
        f["matrix/features/target_sets/Human Probes"][1] = 3
    with pytest.raises(slaf.InputError, match="target_sets/Human Probes: feature 3 of 3"):
        SLAFConverter().convert(tmp_path / "t.h5", tmp_path / "bad.slaf")


def test_time_grows_with_the_columns(tmp_path):
    took = {}
    for n in (400, 1600):
        columns = [f"column {i}" for i in range(n)]
        obs = pd.DataFrame(np.ones((3, n)), index=list("xyz"), columns=columns)
        ad.AnnData(np.eye(3, dtype="f4"), obs=obs).write_h5ad(tmp_path / f"{n}.h5ad")
        best = np.inf
        for i in range(2):
            begin = time.process_time()
            SLAFConverter(durability="os").convert(
                tmp_path / f"{n}.h5ad", tmp_path / f"{n}_{i}.slaf"
            )
            best = min(best, time.process_time() - begin)
        took[n] = best
    assert took[1600] < 8 * took[400] + 0.5, took
