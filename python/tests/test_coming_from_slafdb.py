"""Code that was written for `slafdb`: what is accepted, and what unknown arguments say."""

import numpy as np
import pytest

import slaf
from slaf import SLAFArray
from slaf.data import SLAFConverter
from slaf.integrations import read_slaf
from slaf.ml import SLAFDataLoader
from slaf.ml.tokenizers import GeneformerTokenizer, ScGPTTokenizer, SLAFTokenizer

RAW = {"raw_mode": True, "return_tensors": "numpy"}


def old(call, *words):
    """What a call gives that warns of each word, at the line of the caller."""
    with pytest.warns(DeprecationWarning, match="slafdb|is now|ignored") as caught:
        result = call()
    texts = [str(w.message) for w in caught]
    assert len(texts) == len(words), texts
    for word in words:
        assert any(word in text for text in texts), texts
    assert {w.filename for w in caught} == {__file__}
    return result


def test_former_names_of_arguments(store_path, h5ad_path, tmp_path):
    array = old(lambda: SLAFArray(slaf_path=store_path, cache_dir="x"), "slaf_path=", "cache_dir=")
    expected = array.get_cell_expression("cell5")
    assert old(lambda: array.get_cell_expression(cell_ids="cell5"), "cell_ids=").equals(expected)
    expected = array.get_gene_expression("gene1")
    assert old(lambda: array.get_gene_expression(gene_ids="gene1"), "gene_ids=").equals(expected)
    layer = old(lambda: array.get_submatrix("cell1", layer_name="double"), "layer_name=")
    assert layer.equals(array.get_submatrix("cell1", layer="double"))
    old(lambda: array.get_submatrix(table_name="expression"), "table_name=")
    with pytest.raises(slaf.UnsupportedError, match="table_name='layers'"):
        array.get_submatrix(table_name="layers")
    assert old(
        lambda: read_slaf(filename=store_path, backend="auto"), "filename=", "backend="
    ).shape
    converter = old(
        lambda: SLAFConverter(chunked=True, chunk_size=5000, compact_after_write=True),
        "chunked=",
        "chunk_size=",
        "compact_after_write=",
    )
    target = tmp_path / "a.slaf"
    report = old(
        lambda: converter.convert(input_path=h5ad_path, output_path=target, input_format="h5ad"),
        "input_path=",
        "output_path=",
        "input_format=",
    )
    assert report.n_cells == 6
    for wrong in ({"sort_metadata": True}, {"tiledb_collection_name": "ATAC"}):
        with pytest.raises(slaf.UnsupportedError, match=next(iter(wrong))):
            SLAFConverter(**wrong)
    options = {"verbose": True, "n_scanners": 4, "by_fragment": False, "prefetch_batch_size": 99}
    loader = old(lambda: SLAFDataLoader(array, **options, **RAW), *[f"{o}=" for o in options])
    assert loader.n_cells == 6


@pytest.mark.filterwarnings("ignore:cell_ids=")
def test_a_name_and_its_former_name_together(store_path):
    array = SLAFArray(store_path)
    with pytest.raises(slaf.InvalidArgumentError, match="cells= is given twice"):
        array.get_cell_expression(cells="cell1", cell_ids="cell2")


def test_former_places():
    def from_core():
        from slaf.core.slaf import SLAFArray as Former

        return Former

    def from_package():
        from slaf.core import SLAFArray as Former

        return Former

    assert old(from_core, "slaf.core") is SLAFArray
    with pytest.warns(DeprecationWarning, match="slaf.core"):
        assert from_package() is SLAFArray
    with pytest.raises(ImportError):
        from slaf.core.slaf import QueryOptimizer  # noqa: F401


def test_attributes_of_loaders_and_tokenizers(store_path):
    array = SLAFArray(store_path)
    loader = SLAFDataLoader(array, max_genes=5, batch_size=4, n_epochs=2, return_tensors="numpy")
    assert loader.batch_size == 4
    tokenizer = loader.tokenizer
    assert tokenizer.vocab_size == tokenizer.get_vocab_info()["vocab_size"] == 8
    assert tokenizer.max_genes == 5
    assert loader.special_tokens["<pad>"] == 0
    assert [
        old(lambda n=n: loader.special_tokens[n], n) for n in ("PAD", "CLS", "SEP", "MASK")
    ] == [
        0,
        1,
        2,
        3,
    ]
    with pytest.raises(KeyError):
        loader.special_tokens["UNK"]
    assert SLAFDataLoader(array, **RAW).special_tokens is None


def test_batches_of_several_epochs_have_their_number(store_path):
    array = SLAFArray(store_path)
    loader = SLAFDataLoader(array, batch_size=4, n_epochs=2, **RAW)
    assert [b["epoch"] for b in loader] == [0, 0, 1, 1]
    assert all("epoch" not in b for b in SLAFDataLoader(array, **RAW))
    with pytest.raises(slaf.InvalidArgumentError, match="'epoch'"):
        SLAFDataLoader(array, n_epochs=2, obs_columns=["epoch"], **RAW)


def test_the_iterable_dataset(store_path):
    pytest.importorskip("torch")
    from slaf.ml import SLAFIterableDataset

    array = SLAFArray(store_path)
    tokenizer = GeneformerTokenizer(array, max_genes=5)
    dataset = old(
        lambda: SLAFIterableDataset(
            array, tokenizer, 4, sampler_strategy="sequential", verbose=False
        ),
        "SLAFIterableDataset",
        "sampler_strategy=",
        "verbose=",
    )
    cells = np.concatenate([b["cell_ids"].numpy() for b in dataset])
    assert sorted(cells.tolist()) == list(range(6))
    raw = old(lambda: SLAFIterableDataset(array, None, raw_mode=True), "SLAFIterableDataset")
    assert next(iter(raw))["x"].shape == (6, 4)


@pytest.mark.parametrize(
    ("call", "name", "near"),
    [
        (lambda a, **k: SLAFDataLoader(a, **k), "batchsize", "batch_size="),
        (lambda a, **k: SLAFDataLoader(a, **k), "zzz", "there are"),
        (lambda a, **k: GeneformerTokenizer(a, **k), "max_gene", "max_genes="),
        (lambda a, **k: ScGPTTokenizer(a, **k), "nbins", "n_bins="),
        (lambda a, **k: SLAFTokenizer(a, **k), "descripton", "description="),
        (lambda a, **k: SLAFConverter(**k), "over_write", "overwrite="),
        (lambda a, **k: SLAFConverter().convert("a", "b", **k), "inputs", "input="),
        (lambda a, **k: SLAFArray(a.path, **k), "storage_option", "storage_options="),
        (lambda a, **k: read_slaf(a.path, **k), "versions", "version="),
    ],
)
def test_unknown_arguments_name_themselves_and_near_ones(store_path, call, name, near):
    with pytest.raises(slaf.InvalidArgumentError) as caught:
        call(SLAFArray(store_path), **{name: 1})
    assert f"{name}=" in str(caught.value)
    assert near in str(caught.value)


def test_stores_of_slafdb_say_to_convert(shared_data, tmp_path):
    for open_it in (SLAFArray, read_slaf):
        with pytest.raises(slaf.NotAStoreError, match=r"slafdb 0.*slaf convert"):
            open_it(shared_data / "reference_small_v05.slaf")
    SLAFConverter().convert(shared_data / "reference_small_v05.slaf", tmp_path / "new.slaf")
    assert len(SLAFArray(tmp_path / "new.slaf")) > 0
