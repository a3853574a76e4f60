"""The boundary to Rust: every field is read by its name, and nothing else is taken."""

from dataclasses import fields
from types import SimpleNamespace

import numpy as np
import pytest

import slaf
from slaf import _boundary, _slaf
from slaf._store import Key
from slaf.integrations import read_slaf

CONVERT = {
    "overwrite": False,
    "allow_loss": False,
    "by_gene": True,
    "memory": None,
    "join": "outer",
    "source_column": None,
    "fill_layers": False,
    "genome": None,
    "feature_type": None,
    "modality": None,
    "genes_in_rows": None,
    "measured": None,
    "durability": "os",
    "storage_options": {},
}
LOADER = {
    "matrix": Key("X"),
    "form": "sparse",
    "batch_size": 2,
    "remainder": "pad",
    "dtype": None,
    "target_sum": None,
    "log1p": False,
    "measured": False,
    "seed": 0,
    "memory": 1 << 20,
}


def convert(options, h5ad_path, tmp_path):
    _slaf.convert([h5ad_path], str(tmp_path / "a.slaf"), options, None)


def load(options):
    sampler = _slaf.Sampler.cover((0, 6), False, 0, 0, 0)
    _slaf.Loader([_boundary.LoaderSource(None, None, [])], sampler, options)


def test_every_field_is_read(h5ad_path, tmp_path):
    for given, of, take in (
        (CONVERT, _boundary.ConvertOptions, lambda o: convert(o, h5ad_path, tmp_path)),
        (LOADER, _boundary.LoaderOptions, load),
    ):
        assert {f.name for f in fields(of)} == set(given)
        take(of(**given))
        for name in given:
            others = {k: v for k, v in given.items() if k != name}
            with pytest.raises(AttributeError, match=name):
                take(SimpleNamespace(**others))
            with pytest.raises(TypeError, match=name):
                of(**others)
            with pytest.raises(TypeError, match=f"{name}_"):
                of(**given, **{f"{name}_": None})


@pytest.mark.parametrize(
    ("field", "wrong"),
    [("form", "sparce"), ("remainder", "left"), ("dtype", "float3"), ("matrix", Key("lairs", "a"))],
)
def test_names_that_rust_does_not_know(field, wrong):
    with pytest.raises(slaf.SlafError, match=str(wrong[0] if field == "matrix" else wrong)):
        load(_boundary.LoaderOptions(**{**LOADER, field: wrong}))


def test_statistics_that_there_are_not(store_path):
    X = read_slaf(store_path).X
    with pytest.raises(TypeError, match="colums"):
        X.summarize(colums=True)
    with pytest.raises(slaf.InvalidArgumentError, match="sums, squares, all"):
        X.summarize(columns=True, detail="some")


def test_matrices_have_the_arrays_of_scipy(store_path, original):
    store = read_slaf(store_path).X._source._store
    found = store.native.read(Key("X"), None, None)
    assert (found.indices.dtype, found.indptr.dtype) == (np.int32, np.int32)
    expected = original.X.tocsr()
    expected.sort_indices()
    for name in ("data", "indices", "indptr"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))


@pytest.mark.parametrize("index", [-1, 4])
def test_matrices_in_memory_are_checked(index):
    matrix = _slaf.Csr(np.ones(1), np.array([index]), np.array([0, 1]))
    with pytest.raises(slaf.SlafError):
        _slaf.compute_csr(matrix, 4, [])
