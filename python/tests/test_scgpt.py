"""scGPT's rows against the code that the model's authors publish."""

import importlib.util
import logging
import sys
import types
from importlib import metadata

import anndata as ad
import numpy as np
import pytest
import scipy.sparse as sp

from slaf import SLAFArray
from slaf.data import SLAFConverter
from slaf.ml.tokenizers import ScGPTTokenizer

torch = pytest.importorskip("torch", reason="torch is not installed")

SPECIALS = {"<pad>": 0, "<cls>": 1, "<eoc>": 2}
# The collator has this number of bins written down.
N_BINS = 51


@pytest.fixture(scope="module")
def published():
    """Two modules of the package: the whole of it needs packages that no longer install."""
    try:
        files = metadata.files("scgpt") or []
    except metadata.PackageNotFoundError:
        pytest.skip("scgpt is not installed: pip install --no-deps scgpt==0.2.4")
    parent = types.ModuleType("scgpt")
    parent.__path__ = []
    parent.logger = logging.getLogger("scgpt")
    modules = {"scgpt": parent}
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "scgpt", parent)
        for name in ("preprocess", "data_collator"):
            (path,) = (f.locate() for f in files if f.as_posix() == f"scgpt/{name}.py")
            spec = importlib.util.spec_from_file_location(f"scgpt.{name}", path)
            modules[name] = importlib.util.module_from_spec(spec)
            patch.setitem(sys.modules, f"scgpt.{name}", modules[name])
            spec.loader.exec_module(modules[name])
        yield types.SimpleNamespace(**modules)


def synthetic():
    rng = np.random.default_rng(5)
    X = rng.negative_binomial(0.7, 0.05, (60, 300)).astype(np.float32)
    # Many ties, no ties, one value, two values, one gene, every gene.
    X[1] = rng.integers(0, 3, 300)
    X[2] = rng.permutation(300).astype(np.float32) + 0.5
    X[3] = np.where(rng.random(300) < 0.5, 4, 0)
    X[4] = np.where(rng.random(300) < 0.5, 4, 9)
    X[5] = 0
    X[5, 17] = 3
    X[6] = rng.lognormal(0, 1, 300)
    return ad.AnnData(sp.csr_matrix(X))


def real(shared_data):
    adata = ad.read_h5ad(shared_data / "pbmc3k_raw.h5ad")[:300].copy()
    adata.X = adata.X.astype(np.float32)
    adata.X.sort_indices()
    return adata


@pytest.fixture(params=["synthetic", "pbmc3k"])
def case(request, tmp_path):
    adata = (
        real(request.getfixturevalue("shared_data")) if request.param == "pbmc3k" else synthetic()
    )
    path = tmp_path / "a.slaf"
    SLAFConverter().convert_anndata(adata, path)
    rng = np.random.default_rng(1)
    # A vocabulary in another order than the genes, and without some of them.
    ids = rng.permutation(adata.n_vars) + 10
    known = rng.random(adata.n_vars) < 0.8
    vocab = SPECIALS | {
        name: int(i) for name, i, k in zip(adata.var_names, ids, known, strict=True) if k
    }
    return adata.X.tocsr(), np.where(known, ids, -1), SLAFArray(path), vocab


def examples(matrix, ids, pad_value):
    """What the published data set gives to its collator: genes of the vocabulary, `<cls>` first."""
    for row in matrix:
        there = ids[row.indices] >= 0
        genes = [SPECIALS["<cls>"], *ids[row.indices[there]]]
        values = [pad_value, *row.data[there]]
        yield {
            "genes": torch.tensor(genes, dtype=torch.int64),
            "expressions": torch.tensor(values, dtype=torch.float32),
        }


def collator(published, length, **options):
    return published.data_collator.DataCollator(
        pad_token_id=0, pad_value=-2, do_mlm=False, max_length=length, **options
    )


@pytest.mark.parametrize("length", [20, 1200])
def test_strict_rows_are_those_of_the_collator(published, case, length):
    X, ids, array, vocab = case
    np.random.seed(7)
    expected = collator(published, length, sampling=False)(list(examples(X, ids, -2)))
    tokenizer = ScGPTTokenizer(
        array, vocab, n_bins=N_BINS, binning="strict", max_genes=length, sampling=False
    )
    got = tokenizer.tokenize(seed=7)
    width = expected["gene"].shape[1]
    np.testing.assert_array_equal(got["input_ids"][:, :width], expected["gene"])
    np.testing.assert_array_equal(got["values"][:, :width], expected["expr"])
    assert (got["input_ids"][:, width:] == 0).all()
    assert (got["values"][:, width:] == -2).all()
    np.testing.assert_array_equal(got["attention_mask"], got["input_ids"] != 0)


@pytest.mark.parametrize("n_bins", [3, 4, 51])
def test_deterministic_bins_are_the_upper_ends_of_the_published(published, case, n_bins):
    X, ids, array, vocab = case
    tokenizer = ScGPTTokenizer(array, vocab, n_bins=n_bins, binning="deterministic", max_genes=4000)
    got = tokenizer.tokenize()
    for row, mask, values in zip(X, got["attention_mask"], got["values"], strict=True):
        expressed = row.data[ids[row.indices] >= 0]
        quantiles = np.quantile(expressed, np.linspace(0, 1, n_bins - 1))
        expected = published.preprocess._digitize(expressed, quantiles, side="one")
        np.testing.assert_array_equal(values[mask][1:], expected)


def test_random_bins_are_spread_as_the_published(published, case):
    """Ties go to each of their bins as often as there."""
    X, ids, array, vocab = case
    cells, draws = [1, 3, 10, 20], 400
    tokenizer = ScGPTTokenizer(array, vocab, n_bins=N_BINS, max_genes=4000)
    np.random.seed(0)
    for cell in cells:
        row = X[cell]
        expressed = row.data[ids[row.indices] >= 0]
        theirs = np.array([published.preprocess.binning(expressed, N_BINS) for _ in range(draws)])
        ours = np.empty_like(theirs)
        for seed in range(draws):
            got = tokenizer.tokenize([cell], seed=seed)
            ours[seed] = got["values"][0][got["attention_mask"][0]][1:]
        np.testing.assert_array_equal(np.unique(ours), np.unique(theirs))
        # The width of a tie of w bins is uniform: its mean has the error w / sqrt(12 n).
        width = np.maximum(theirs.max(axis=0) - theirs.min(axis=0), 1)
        error = 6 * width * np.sqrt(2 / (12 * draws))
        assert (np.abs(ours.mean(axis=0) - theirs.mean(axis=0)) <= error).all()


def test_samples_are_of_the_row(published, case):
    """Of too many genes both keep `<cls>` and any others, each with its value."""
    X, ids, array, vocab = case
    length = 30
    whole = ScGPTTokenizer(array, vocab, binning="deterministic", max_genes=4000).tokenize()
    some = ScGPTTokenizer(array, vocab, binning="deterministic", max_genes=length).tokenize(seed=3)
    theirs = collator(published, length, do_binning=False)(list(examples(X, ids, -2)))
    for i in range(X.shape[0]):
        pairs = dict(zip(whole["input_ids"][i], whole["values"][i], strict=True))
        got = some["input_ids"][i][some["attention_mask"][i]]
        kept = theirs["gene"][i][theirs["gene"][i] != 0]
        assert len(got) == len(kept) == len(set(got.tolist()))
        assert got[0] == kept[0] == SPECIALS["<cls>"]
        assert all(pairs[g] == v for g, v in zip(got, some["values"][i], strict=False))
