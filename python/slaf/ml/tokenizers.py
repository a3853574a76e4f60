"""Tokenizers: the counts of cells as rows of tokens for foundation models.

They run in Rust and need no torch. What they compute is that of the published models:

- Geneformer: rank value encoding, Theodoris et al., Nature 2023 (``TranscriptomeTokenizer``);
- scGPT: quantile bins, Cui et al., Nature Methods 2024 (``preprocess.binning``, ``DataCollator``).
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from slaf import SLAFArray
from slaf._keywords import former, keywords, outside
from slaf._slaf import Tokenizer, TokenRows
from slaf._store import Store
from slaf.ml import _sources

_Path: TypeAlias = "str | os.PathLike[str]"

__all__ = ["GeneformerTokenizer", "SLAFTokenizer", "ScGPTTokenizer"]


class SLAFTokenizer:
    """A tokenizer over the genes of a store, composed of parts.

    Parameters
    ----------
    slaf_array
        The store.
    description
        The parts, as JSON or as a dict: which genes are taken (``select``, ``fill``), in which
        ``order``, what stands beside them (``values``), the special tokens (``first``, ``last``,
        ``pad``) and the ``length`` of a row. :attr:`description` of another
        tokenizer is a good beginning.
    vocab
        Tokens by gene id, with the special ones: a dict, or the path of a JSON or pickle file
        (dicts, texts and numbers alone are read from a pickle). ``None`` makes it of the genes of
        the store: PAD 0, CLS 1, SEP 2, MASK 3, then the genes in order.
    vocab_size
        Where the vocabulary of the store is cut.
    gene_medians
        What keys are divided by, by gene id: a dict, a path, or ``"dataset"`` for the medians of
        the normalised values in the store.
    gene_column
        The column of var that has the ids of the vocabulary; ``"gene_id"`` for the names of the
        genes. ``None`` takes the one that fits best; :meth:`get_vocab_info` says which.

    Raises
    ------
    UnknownNameError
        If no gene of the store is in the vocabulary.

    Warns
    -----
    UserWarning
        If less than half of the genes are.
    """

    @keywords()
    def __init__(
        self,
        slaf_array: _sources.One,
        description: str | Mapping[str, Any],
        vocab: Mapping[str, int] | _Path | None = None,
        *,
        vocab_size: int = 50_000,
        gene_medians: Mapping[str, float] | _Path | None = None,
        gene_column: str | None = None,
    ):
        store = self._store_of(slaf_array)
        text = description if isinstance(description, str) else json.dumps(description)
        native = Tokenizer.composed(
            store.native,
            text,
            _source(vocab),
            vocab_size,
            _source(gene_medians),
            gene_column,
        )
        self._begin(store, native, gene_column)

    def _store_of(self, given: _sources.One) -> Store:
        return _sources.whole(given, type(self).__name__)._store

    def _begin(self, store: Store, native: Tokenizer, gene_column: str | None) -> None:
        self._store = store
        self._native = native
        self._gene_column = gene_column
        warning = self.get_vocab_info()["genes"]["warning"]
        if warning is not None:
            warnings.warn(warning, UserWarning, stacklevel=outside())

    @classmethod
    def load(
        cls, path: _Path, slaf_array: _sources.One, *, gene_column: str | None = None
    ) -> SLAFTokenizer:
        """Read what :meth:`save` wrote, for the genes of a store."""
        tokenizer = SLAFTokenizer.__new__(cls)
        store = tokenizer._store_of(slaf_array)
        tokenizer._begin(store, Tokenizer.load(store.native, path, gene_column), gene_column)
        return tokenizer

    def for_array(self, slaf_array: SLAFArray) -> SLAFTokenizer:
        """Match the same parts and the same vocabulary to the genes of another store."""
        tokenizer = SLAFTokenizer.__new__(type(self))
        native = Tokenizer.from_json(slaf_array._store.native, self._native.to_json(), None)
        tokenizer._begin(slaf_array._store, native, None)
        return tokenizer

    def save(self, path: _Path) -> None:
        """Write the parts, the vocabulary and the medians to a JSON file."""
        self._native.save(path)

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (type(self), self._store, self._native.to_json(), self._gene_column)

    def __repr__(self) -> str:
        info = self.get_vocab_info()
        genes = info["genes"]
        return (
            f"{type(self).__name__}({genes['n_matched']:,} of {genes['n_genes']:,} genes by "
            f"{genes['column']!r}, rows of {info['max_length']} tokens)"
        )

    @property
    def description(self) -> dict[str, Any]:
        """The parts."""
        parts: dict[str, Any] = json.loads(self._native.description())
        return parts

    def tokenize(
        self, cells: Any = None, *, seed: int = 0, epoch: int = 0
    ) -> dict[str, npt.NDArray[Any]]:
        """Tokenize cells.

        Parameters
        ----------
        cells
            A selector, as in :meth:`slaf.SLAFArray.get_submatrix`; all cells by default.
        seed, epoch
            Key all chance, together with the cell: results depend neither on the order of the
            cells nor on what is tokenized beside them.

        Returns
        -------
        dict
            ``input_ids`` (int64, cells x length), ``attention_mask`` (bool, the same shape; False
            for padding), ``values`` (float32, the same shape) if the tokenizer has values, and
            ``cell_ids`` (int64), the number of each row's cell.

        Examples
        --------
        >>> from slaf import SLAFArray
        >>> from slaf.ml.tokenizers import GeneformerTokenizer
        >>> tokenizer = GeneformerTokenizer(SLAFArray(store_path), max_genes=4)
        >>> tokenizer.tokenize(["cell1", "cell0"])["input_ids"]
        array([[5, 0, 0, 0],
               [7, 4, 0, 0]])
        >>> tokenizer.decode_tokens([7, 4, 0])
        ['gene3', 'gene0', '<pad>']
        """
        rows = self._store.select("obs", cells)
        batch = self._native.tokenize(self._store.native, rows.native(), seed, epoch)
        tokens = batch.data
        assert isinstance(tokens, TokenRows)
        shape = (len(batch.cells), tokens.length)
        result: dict[str, npt.NDArray[Any]] = {
            "input_ids": tokens.input_ids.reshape(shape),
            "attention_mask": tokens.attention_mask.reshape(shape),
        }
        if tokens.values is not None:
            result["values"] = tokens.values.reshape(shape)
        result["cell_ids"] = batch.cells
        return result

    def decode_tokens(self, tokens: Iterable[int]) -> list[str]:
        """Give the genes, by the ids of the vocabulary, and the special tokens of a row.

        Raises
        ------
        OutOfRangeError
            If the vocabulary has no such token.
        """
        return self._native.decode([int(t) for t in np.asarray(tokens).ravel()])

    @property
    def special_tokens(self) -> dict[str, int]:
        """The special tokens, by their names in the vocabulary."""
        tokens: dict[str, int] = self.get_vocab_info()["special_tokens"]
        return tokens

    @property
    def vocab_size(self) -> int:
        """One more than the largest token: the rows that a model's embedding needs."""
        size: int = self.get_vocab_info()["vocab_size"]
        return size

    @property
    def max_genes(self) -> int:
        """Tokens in a row, special ones included."""
        return self._native.length

    def get_vocab_info(self) -> dict[str, Any]:
        """Tell of the vocabulary.

        Returns
        -------
        dict
            ``vocab_size`` (one more than the largest token), ``n_genes``, ``special_tokens``,
            ``max_length``, ``from_data_set``, and ``genes``: how the genes of the store were found
            (``column``, ``n_matched``, ``share``, ``warning``, ...).
        """
        info: dict[str, Any] = json.loads(self._native.vocab_info())
        info["special_tokens"] = _Specials(info["special_tokens"])
        return info


class GeneformerTokenizer(SLAFTokenizer):
    """Geneformer: genes by falling rank of the normalised count over the gene's median.

    Rows are ``x / total * 10,000 / median``, sorted, the largest first, equal ones in the order of
    the genes. V1 has no special tokens; V2 puts ``<cls>`` first and ``<eos>`` last. Cells without a
    gene of the vocabulary are rows of padding.

    Parameters
    ----------
    slaf_array
        The store, with raw counts in X.
    token_dictionary
        Tokens by Ensembl id: the model's file, a JSON file or a dict. ``None``: the genes of the
        store.
    gene_medians
        Medians by Ensembl id: the model's file, a JSON file, a dict, or ``"dataset"``. ``None``
        ranks by the normalised count where ``token_dictionary`` is ``None``, and otherwise takes
        the medians of the store.
    gene_column
        As in :class:`SLAFTokenizer`.
    version
        ``"V1"`` or ``"V2"``.
    max_genes
        Tokens in a row, special ones included: 2,048 for V1, 4,096 for V2.
    vocab_size
        Where the vocabulary of the store is cut.
    """

    @keywords()
    def __init__(
        self,
        slaf_array: _sources.One,
        token_dictionary: Mapping[str, int] | _Path | None = None,
        gene_medians: Mapping[str, float] | _Path | None = None,
        gene_column: str | None = None,
        version: str = "V1",
        max_genes: int = 2048,
        vocab_size: int = 50_000,
    ):
        if gene_medians is None and token_dictionary is not None:
            gene_medians = "dataset"
        store = self._store_of(slaf_array)
        native = Tokenizer.geneformer(
            store.native,
            version,
            max_genes,
            _source(token_dictionary),
            _source(gene_medians),
            vocab_size,
            gene_column,
        )
        self._begin(store, native, gene_column)


class ScGPTTokenizer(SLAFTokenizer):
    """scGPT: ``<cls>``, then expressed genes, with the quantile bins of their values beside them.

    Parameters
    ----------
    slaf_array
        The store; X as the model was trained on (raw or normalised).
    vocab
        Tokens by gene symbol with ``<pad>``, ``<cls>`` and ``<eoc>``: the model's JSON file or a
        dict. ``None``: the genes of the store.
    gene_column
        As in :class:`SLAFTokenizer`.
    n_bins
        Bins, that of zero included.
    binning
        How values between bins fall: ``"scgpt"`` at random, keyed by seed, epoch and cell;
        ``"deterministic"`` into the lower bin; ``"strict"`` with numpy's legacy generator, cell by
        cell in the order given, for bit-exact comparisons.
    max_genes
        Tokens in a row, ``<cls>`` included.
    pad_value
        The value beside padding: -2 in pretraining.
    cls_value
        The value beside ``<cls>``; ``pad_value`` by default, 0 in fine-tuning.
    sampling
        Of more genes than fit, take a random subset; otherwise the first.
    vocab_size
        Where the vocabulary of the store is cut.
    """

    @keywords(renamed={"n_expression_bins": "n_bins"})
    def __init__(
        self,
        slaf_array: _sources.One,
        vocab: Mapping[str, int] | _Path | None = None,
        gene_column: str | None = None,
        n_bins: int = 51,
        binning: str = "scgpt",
        max_genes: int = 1200,
        pad_value: float = -2,
        cls_value: float | None = None,
        sampling: bool = True,
        vocab_size: int = 50_000,
    ):
        store = self._store_of(slaf_array)
        native = Tokenizer.scgpt(
            store.native,
            max_genes,
            _source(vocab),
            vocab_size,
            n_bins,
            binning,
            pad_value,
            pad_value if cls_value is None else cls_value,
            sampling,
            gene_column,
        )
        self._begin(store, native, gene_column)


class _Specials(dict[str, int]):
    """Special tokens, also by the names that `slafdb` has: ``"PAD"`` for ``"<pad>"``."""

    def __missing__(self, name: str) -> int:
        present = f"<{name.lower()}>"
        if name.isupper() and present in self:
            former(f"the special token {name!r} is now {present!r}")
            return self[present]
        raise KeyError(name)


def _source(source: Any) -> Any:
    return dict(source) if isinstance(source, Mapping) else source


def _restore(
    cls: type[SLAFTokenizer], store: Store, recipe: str, gene_column: str | None
) -> SLAFTokenizer:
    tokenizer = SLAFTokenizer.__new__(cls)
    with warnings.catch_warnings():
        # It was said where the tokenizer was made.
        warnings.simplefilter("ignore", UserWarning)
        native = Tokenizer.from_json(store.native, recipe, gene_column)
        tokenizer._begin(store, native, gene_column)
    return tokenizer
