"""Tokenizers against plain numpy, on made and on real counts."""

import json
import pickle

import anndata as ad
import numpy as np
import pytest
import scipy.sparse as sp

import slaf
from slaf import SLAFArray
from slaf.data import SLAFConverter
from slaf.integrations import read_slaf
from slaf.ml.tokenizers import GeneformerTokenizer, ScGPTTokenizer, SLAFTokenizer


@pytest.fixture(scope="module")
def counts(tmp_path_factory):
    rng = np.random.default_rng(3)
    X = rng.negative_binomial(0.5, 0.15, (70, 30)).astype(np.float32)
    X[11] = 0
    adata = ad.AnnData(sp.csr_matrix(X))
    adata.obs_names = [f"c{i}" for i in range(70)]
    adata.var_names = [f"ENSG{i:011d}" for i in range(30)]
    adata.var["symbol"] = [f"S{i}" for i in range(30)]
    path = tmp_path_factory.mktemp("tokens") / "store.slaf"
    SLAFConverter().convert_anndata(adata, path)
    return X, SLAFArray(path)


def ranked(row, tokens, medians, length):
    """Rank value encoding, written down plainly."""
    genes = [g for g in np.flatnonzero(row) if tokens[g] is not None]
    key = {g: row[g] / row.sum() * 10_000 / medians[g] for g in genes}
    genes.sort(key=lambda g: (-key[g], g))
    return [tokens[g] for g in genes][:length]


@pytest.mark.parametrize("version", ["V1", "V2"])
def test_geneformer(counts, version):
    X, array = counts
    rng = np.random.default_rng(0)
    names = [f"ENSG{i:011d}" for i in range(30)]
    specials = {"<pad>": 0, "<mask>": 1} | ({"<cls>": 2, "<eos>": 3} if version == "V2" else {})
    known = {n: 10 + i for i, n in enumerate(names) if i % 3}
    medians = {n: float(m) for n, m in zip(names, rng.uniform(0.5, 4, 30), strict=True)}
    tokenizer = GeneformerTokenizer(array, specials | known, medians, version=version, max_genes=8)
    result = tokenizer.tokenize()
    assert result["input_ids"].shape == (70, 8)
    for cell, (row, ids, mask) in enumerate(
        zip(X, result["input_ids"], result["attention_mask"], strict=True)
    ):
        body = 8 if version == "V1" else 6
        expected = ranked(row, [known.get(n) for n in names], list(medians.values()), body)
        if version == "V2" and expected:
            expected = [2, *expected, 3]
        if row.any():
            assert ids[mask].tolist() == expected, cell
            assert (ids[~mask] == 0).all()
    np.testing.assert_array_equal(result["cell_ids"], np.arange(70))


def test_the_default_ranks_by_normalised_count(counts):
    X, array = counts
    tokenizer = GeneformerTokenizer(array, max_genes=12)
    cells = [5, 5, 0, 69]
    result = tokenizer.tokenize(cells)
    for cell, ids, mask in zip(cells, result["input_ids"], result["attention_mask"], strict=True):
        expected = ranked(X[cell], [g + 4 for g in range(30)], np.ones(30), 12)
        assert ids[mask].tolist() == expected
    assert result["cell_ids"].tolist() == cells
    assert tokenizer.decode_tokens([0, 1, 4]) == ["<pad>", "<cls>", "ENSG00000000000"]
    with pytest.raises(slaf.SlafError):
        tokenizer.decode_tokens([10_000])


def test_medians_of_the_data_set(counts):
    X, array = counts
    normalised = X[X.any(axis=1)]
    normalised = normalised / normalised.sum(axis=1, keepdims=True) * 10_000
    medians = [np.median(column[column > 0]) for column in normalised.T]
    tokenizer = GeneformerTokenizer(array, gene_medians="dataset", max_genes=30)
    result = tokenizer.tokenize(slice(0, 10))
    for row, ids, mask in zip(X, result["input_ids"], result["attention_mask"], strict=False):
        assert ids[mask].tolist() == ranked(row, [g + 4 for g in range(30)], medians, 30)


def binned(values, n_bins):
    """scGPT's bins without chance: how many quantiles are not above the value."""
    return np.digitize(values, np.quantile(values, np.linspace(0, 1, n_bins - 1)))


def test_scgpt(counts):
    X, array = counts
    vocab = {"<pad>": 0, "<cls>": 1, "<eoc>": 2} | {f"S{i}": 5 + i for i in range(30)}
    tokenizer = ScGPTTokenizer(array, vocab, n_bins=11, binning="deterministic", max_genes=40)
    assert tokenizer.get_vocab_info()["genes"]["column"] == "symbol"
    result = tokenizer.tokenize()
    for row, ids, mask, values in zip(
        X, result["input_ids"], result["attention_mask"], result["values"], strict=True
    ):
        if not row.any():
            continue
        genes = np.flatnonzero(row)
        assert ids[mask].tolist() == [1, *(5 + genes)]
        assert values[0] == -2
        np.testing.assert_array_equal(values[mask][1:], binned(row[genes], 11))
        assert (values[~mask] == -2).all()


def test_chance_is_keyed_by_the_cell(counts):
    _, array = counts
    tokenizer = ScGPTTokenizer(array, n_bins=7, max_genes=10)
    whole = tokenizer.tokenize(seed=4, epoch=2)
    some = tokenizer.tokenize([40, 3, 66], seed=4, epoch=2)
    for key in ("input_ids", "values"):
        np.testing.assert_array_equal(some[key], whole[key][[40, 3, 66]])
    other = tokenizer.tokenize(seed=4, epoch=3)
    assert (other["input_ids"] != whole["input_ids"]).any()


def test_saved_and_pickled(counts, tmp_path):
    _, array = counts
    tokenizer = ScGPTTokenizer(array, n_bins=7, max_genes=10)
    expected = tokenizer.tokenize([1, 2])
    tokenizer.save(tmp_path / "tokenizer.json")
    json.loads((tmp_path / "tokenizer.json").read_text())
    loaded = SLAFTokenizer.load(tmp_path / "tokenizer.json", array)
    pickled = pickle.loads(pickle.dumps(tokenizer))
    assert type(pickled) is ScGPTTokenizer
    for again in (loaded, pickled):
        for key, value in again.tokenize([1, 2]).items():
            np.testing.assert_array_equal(value, expected[key])


def test_composed(counts):
    X, array = counts
    parts = GeneformerTokenizer(array, max_genes=6).description
    parts["order"] = "column"
    result = SLAFTokenizer(array, parts).tokenize([7])
    top = sorted(ranked(X[7], list(range(30)), np.ones(30), 6))
    assert result["input_ids"][0][result["attention_mask"][0]].tolist() == [g + 4 for g in top]
    with pytest.raises(slaf.SlafError):
        SLAFTokenizer(array, parts | {"order": "backwards"})


def test_wrong_vocabularies(counts):
    _, array = counts
    with pytest.raises(slaf.UnknownNameError):
        GeneformerTokenizer(array, {"<pad>": 0, "<mask>": 1, "ENSG99999999999": 2}, {})
    few = {"<pad>": 0, "<mask>": 1} | {f"ENSG{i:011d}": 2 + i for i in range(25, 60)}
    with pytest.warns(UserWarning, match="%"):
        GeneformerTokenizer(array, few, dict.fromkeys(few, 1.0))
    with pytest.raises(slaf.UnknownNameError):
        GeneformerTokenizer(array, gene_column="none")
    with pytest.raises(slaf.InvalidArgumentError):
        GeneformerTokenizer(array, version="V3")
    with pytest.raises(slaf.InvalidArgumentError):
        ScGPTTokenizer(array, binning="none")


@pytest.mark.filterwarnings("ignore:.*names are not unique:UserWarning")
def test_the_published_dictionaries(shared_data, tmp_path):
    folder = shared_data / "geneformer_v1"
    files = sorted(p for p in folder.iterdir() if p.suffix == ".json")
    tokens = next(p for p in files if "token" in p.name)
    medians = next(p for p in files if "median" in p.name)
    SLAFConverter().convert(shared_data / "1K_pbmc_citeseq.h5", tmp_path / "pbmc.slaf")
    tokenizer = GeneformerTokenizer(SLAFArray(tmp_path / "pbmc.slaf"), tokens, medians)
    known, scale = json.loads(tokens.read_text()), json.loads(medians.read_text())
    adata = read_slaf(tmp_path / "pbmc.slaf")[:40].to_memory()
    column = tokenizer.get_vocab_info()["genes"]["column"]
    ids = adata.var_names if column == "gene_id" else adata.var[column]
    result = tokenizer.tokenize(slice(0, 40))
    for row, found, mask in zip(
        adata.X.toarray().astype(np.float64),
        result["input_ids"],
        result["attention_mask"],
        strict=True,
    ):
        expected = ranked(row, [known.get(i) for i in ids], [scale.get(i, 1.0) for i in ids], 2048)
        assert found[mask].tolist() == expected
