"""What a loader takes: stores, paths and lazy AnnData, or a refusal that says what to do."""

import anndata as ad
import numpy as np
import pytest
from loading import N_CELLS, cells_of, made, stored

import slaf
from slaf import SLAFArray
from slaf.integrations import pp, read_slaf
from slaf.ml import Balanced, SLAFDataLoader, Split, Weighted
from slaf.ml.tokenizers import GeneformerTokenizer

RAW = {"raw_mode": True, "return_tensors": "numpy", "shuffle": False}


@pytest.fixture(scope="module")
def adata():
    return made()


@pytest.fixture(scope="module")
def path(tmp_path_factory, adata):
    return stored(tmp_path_factory.mktemp("sources"), adata).path


def dense(loader):
    return np.vstack([batch["x"].toarray() for batch in loader])


@pytest.mark.parametrize(
    ("rows", "cols"),
    [
        (slice(20), slice(None)),
        (slice(None, None, -3), slice(None)),
        (np.array([7, 3, 3, 90]), slice(2, 9)),
        (np.arange(N_CELLS) % 5 == 1, ["g5", "g1"]),
        (slice(None), slice(None)),
    ],
)
@pytest.mark.parametrize("is_copy", [False, True])
def test_a_lazy_anndata_gives_its_cells_and_genes(path, adata, rows, cols, is_copy):
    lazy = read_slaf(path)[rows, cols]
    lazy = lazy.copy() if is_copy else lazy
    loader = SLAFDataLoader(lazy, **RAW)
    assert cells_of(loader).tolist() == np.arange(N_CELLS)[rows].tolist()
    expected = adata.X.toarray()[rows][:, adata.var_names.get_indexer(adata[:, cols].var_names)]
    np.testing.assert_array_equal(dense(loader), expected)
    assert loader.gene_ids == adata[:, cols].var_names.tolist()


def test_a_slice_of_a_slice_with_where_cells_and_genes(path, adata):
    lazy = read_slaf(path)[10:60][::2]
    loader = SLAFDataLoader(lazy, where="drug = 'control'", **RAW)
    here = np.arange(10, 60, 2)
    is_control = (adata.obs.drug == "control").to_numpy()
    assert cells_of(loader).tolist() == here[is_control[here]].tolist()
    loader = SLAFDataLoader(lazy, cells=[-1, 1], genes=["g3"], **RAW)
    assert cells_of(loader).tolist() == [58, 12]
    np.testing.assert_array_equal(dense(loader), adata.X.toarray()[[58, 12]][:, [3]])


def test_a_lazy_anndata_gives_its_version_and_layer(tmp_path):
    first, second = made(30), made(40, seed=1)
    target = stored(tmp_path, first).path
    old = read_slaf(target)
    slaf.data.SLAFConverter(overwrite=True).convert_anndata(second, target)
    assert read_slaf(target).n_obs == 40
    # The old version is gone from the store: never the cells of another one.
    with pytest.raises(slaf.SlafError):
        cells_of(SLAFDataLoader(old[:20], **RAW))
    lazy = read_slaf(target)[5:9]
    np.testing.assert_array_equal(
        dense(SLAFDataLoader(lazy, layer="twice", **RAW)), 2 * second.X.toarray()[5:9]
    )


def test_several_sources(tmp_path, path, adata):
    other = made(20, 12, seed=3)
    second = stored(tmp_path, other)
    loader = SLAFDataLoader([read_slaf(path)[90:, 3:], second, second.path], **RAW)
    assert loader.gene_ids == [f"g{i}" for i in range(3, 12)]
    x = [adata.X.toarray()[90:, 3:12], other.X.toarray()[:, 3:], other.X.toarray()[:, 3:]]
    np.testing.assert_array_equal(dense(loader), np.vstack(x))


def test_several_sources_in_the_stored_order_of_the_first(tmp_path, path, adata):
    other = made(20, 12, seed=3)
    second = stored(tmp_path, other)
    loader = SLAFDataLoader([path, second], gene_order="stored", **RAW)
    X = adata.X.toarray()
    names = adata.var_names[np.argsort(-(X != 0).sum(axis=0), kind="stable")]
    names = names[names.isin(other.var_names)]
    assert loader.gene_ids == names.tolist()
    expected = [adata[:, names].X.toarray(), other[:, names].X.toarray()]
    np.testing.assert_array_equal(dense(loader), np.vstack(expected))


@pytest.mark.parametrize("kind", [str, "pathlib"])
def test_a_path_is_a_store(path, kind, tmp_path):
    from pathlib import Path

    given = path if kind is str else Path(path)
    assert len(cells_of(SLAFDataLoader(given, **RAW))) == N_CELLS
    assert GeneformerTokenizer(given).vocab_size == 23 + 4
    with pytest.raises(slaf.NotFoundError):
        SLAFDataLoader(str(tmp_path / "nothing.slaf"), **RAW)


def refuses(call, *words):
    with pytest.raises(slaf.InvalidArgumentError) as caught:
        call()
    for word in words:
        assert word in str(caught.value)


def test_changed_matrices_are_refused(path):
    lazy = read_slaf(path)
    pp.log1p(lazy)
    refuses(lambda: SLAFDataLoader(lazy, **RAW), "X of the lazy AnnData", "SLAFArray", path)
    assert SLAFDataLoader(lazy, layer="twice", **RAW).n_cells == N_CELLS
    lazy = read_slaf(path)
    lazy.X = lazy.layers["twice"]
    refuses(lambda: SLAFDataLoader(lazy, **RAW), "SLAFArray")
    lazy.layers["twice"] = lazy.X * 2
    refuses(lambda: SLAFDataLoader(lazy, layer="twice", **RAW), "layers['twice']", "SLAFArray")
    with pytest.raises(slaf.UnknownNameError):
        SLAFDataLoader(read_slaf(path), layer="thrice", **RAW)


def test_changed_frames_are_refused_where_they_are_read(path):
    lazy = read_slaf(path)
    lazy.obs["leiden"] = "1"
    lazy.obs["rank"] = lazy.obs["rank"] + 1
    lazy = lazy[:50]
    assert SLAFDataLoader(lazy, obs_columns=["line", "good"], **RAW).n_cells == 50
    for options in (
        {"obs_columns": ["rank"]},
        {"obs_columns": ["leiden"]},
        {"where": "rank > 3"},
        {"where": '"leiden" = 1'},
        {"split": Split("train", by="leiden")},
        {"sampler": Weighted("rank"), "shuffle": True},
        {"sampler": Balanced("leiden"), "shuffle": True},
    ):
        refuses(lambda o=options: SLAFDataLoader(lazy, **{**RAW, **o}), "in memory", "SLAFArray")
    lazy = read_slaf(path)
    lazy.var_names = [n.upper() for n in lazy.var_names]
    refuses(lambda: SLAFDataLoader(lazy, **RAW), "names of genes", "SLAFArray")


def test_views_without_unused_categories_are_as_stored(path, adata):
    lazy = read_slaf(path)[:20]
    assert list(lazy.obs["line"].cat.categories) == ["b"]
    loader = SLAFDataLoader(lazy, obs_columns=["line", "donor"], **RAW)
    codes = np.concatenate([b["donor"] for b in loader])
    labels = [loader.codes["donor"][c] if c >= 0 else None for c in codes]
    expected = adata.obs.donor[:20].astype(object)
    assert labels == expected.where(expected.notna(), None).tolist()


def test_tokenizers_are_for_whole_stores(path):
    refuses(lambda: SLAFDataLoader(read_slaf(path)[:, :5]), "raw_mode")
    refuses(lambda: GeneformerTokenizer(read_slaf(path)[:5]), "SLAFArray", "tokenize()")
    whole = GeneformerTokenizer(read_slaf(path), max_genes=5)
    a, b = whole.tokenize([3]), GeneformerTokenizer(SLAFArray(path), max_genes=5).tokenize([3])
    np.testing.assert_array_equal(a["input_ids"], b["input_ids"])
    loader = SLAFDataLoader(
        read_slaf(path)[7:9], max_genes=5, shuffle=False, return_tensors="numpy"
    )
    (batch,) = loader
    expected = whole.tokenize([7, 8])["input_ids"]
    np.testing.assert_array_equal(batch["input_ids"], expected)
    normalized = {"normalize": 1e4, **RAW}
    refuses(lambda: SLAFDataLoader(read_slaf(path)[:, :5], **normalized), "SLAFArray", "normalize")


def test_other_things_are_refused(path, adata):
    refuses(lambda: SLAFDataLoader(adata, **RAW), "anndata.AnnData", "convert_anndata")
    refuses(lambda: SLAFDataLoader(7, **RAW), "builtins.int", "SLAFArray")
    refuses(lambda: SLAFDataLoader([path, None], **RAW), "NoneType")
    refuses(lambda: SLAFDataLoader([], **RAW), "no store")
    refuses(lambda: SLAFDataLoader(path, "geneformer", 32), "tokenizer=32")
    lazies = [read_slaf(path), read_slaf(path)]
    refuses(lambda: SLAFDataLoader(lazies, cells=[1], **RAW), "one store")
    assert isinstance(adata, ad.AnnData)
