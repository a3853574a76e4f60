"""What a loader loads, and how: checked once, pickled to workers, run by Rust."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from slaf import SLAFArray, _slaf
from slaf._boundary import LoaderOptions, LoaderSource, Shard
from slaf._errors import from_kind, invalid
from slaf._numbers import CELLS, MANY, flag, positive, whole
from slaf._selectors import Axis
from slaf._store import Key, Store
from slaf.ml import _batches, _cells, _labels, _sources
from slaf.ml.samplers import SamplerLike, Sets, Split, columns_of
from slaf.ml.tokenizers import GeneformerTokenizer, ScGPTTokenizer, SLAFTokenizer

if TYPE_CHECKING:
    import torch

# Runs of neighbours that a block shuffle reads together: on a disk, where a run costs little, and
# in an object store, where it costs a request.
_LOCAL_BLOCK, _REMOTE_BLOCK = 16, 64
_WINDOW = 65_536

# Tokens of a row: more than any model takes, few enough for a batch in memory.
_TOKENS = 1 << 20

# Of states: 1 did not tell one store from another of the same shape.
STATE_FORMAT = 2


class Plan:
    """Everything of a loader but where it stands: see ``slaf.ml.dataloaders``."""

    def __init__(
        self,
        slaf_array: _sources.One | Sequence[_sources.One],
        *,
        tokenizer_type: str | None,
        tokenizer: SLAFTokenizer | Callable[[dict[str, Any]], Mapping[str, Any]] | None,
        batch_size: int,
        max_genes: int,
        vocab_size: int,
        n_expression_bins: int,
        raw_mode: bool,
        seed: int,
        shuffle: bool | Literal["full", "block"],
        drop_last: bool,
        uneven: Literal["pad", "uneven"],
        where: str | None,
        cells: Any,
        split: Split | None,
        sampler: SamplerLike | None,
        obs_columns: Sequence[str],
        codes: Mapping[str, Sequence[str]] | None,
        unknown_code: int,
        genes: Any,
        gene_order: Literal["var", "stored"],
        layer: str | None,
        normalize: float | None,
        log1p: bool,
        dense: bool,
        dtype: npt.DTypeLike | None,
        return_tensors: str,
        block_size: int | None,
        window: int | None,
        memory: int,
        device: str | torch.device | None,
        pin_memory: bool,
        verify: Literal["first-touch"] | None,
        measured: bool,
    ):
        _batches.check(return_tensors)
        batch_size = whole("batch_size", batch_size, 1, MANY - 1)
        memory = whole("memory", memory, 1, (1 << 63) - 1)
        if uneven not in ("pad", "uneven"):
            raise invalid(f"uneven={uneven!r}; there are 'pad' and 'uneven'")
        if gene_order not in ("var", "stored"):
            raise invalid(f"gene_order={gene_order!r}; there are 'var' and 'stored'")
        seed = whole("seed", seed, 0, (1 << 63) - 1)
        unknown_code = whole("unknown_code", unknown_code, -(1 << 63), (1 << 63) - 1)
        max_genes = whole("max_genes", max_genes, 1, _TOKENS)
        vocab_size = whole("vocab_size", vocab_size, 1, MANY)
        n_expression_bins = whole("n_expression_bins", n_expression_bins, 1, 1 << 16)
        self.transform: Callable[[dict[str, Any]], Mapping[str, Any]] | None = None
        if tokenizer is not None and not isinstance(tokenizer, SLAFTokenizer):
            if not callable(tokenizer):
                raise invalid(f"tokenizer={tokenizer!r} is neither a tokenizer nor a function")
            self.transform, tokenizer, tokenizer_type = tokenizer, None, None
        makes_tensors = return_tensors == "torch" and self.transform is None
        if (device is not None or pin_memory) and not makes_tensors:
            raise invalid("device= and pin_memory= are for the tensors of return_tensors='torch'")
        _batches.check_place(device, pin_memory)
        self.key = Key("layers", layer) if layer is not None else Key("X")
        sources = _sources.take(slaf_array, cells, genes, self.key)
        if verify is not None:
            sources = [_sources.verified(s, verify) for s in sources]
        arrays = [s.array for s in sources]
        self.stores: list[Store] = [s.store for s in sources]
        self.batch_size = batch_size
        self.seed = seed
        for store in self.stores:
            store.matrix(self.key)
        self._genes: list[Any] = [None] * len(self.stores)
        self.tokenizers: list[SLAFTokenizer] = []
        has_genes = any(s.genes is not None for s in sources)
        makes_tokens = not raw_mode and (tokenizer is not None or tokenizer_type is not None)
        used = [*obs_columns, *columns_of(split), *columns_of(sampler)]
        _sources.refuse_changed(sources, used, where, tokens=makes_tokens)
        if makes_tokens:
            is_raw = layer is not None or normalize is not None or log1p or dense
            if has_genes or is_raw or gene_order != "var":
                raise invalid(
                    "genes=, gene_order=, layer=, normalize=, log1p= and dense= are for "
                    "raw_mode=True: a tokenizer reads X by its vocabulary"
                )
            self.tokenizers = _tokenizers(
                arrays, tokenizer_type, tokenizer, max_genes, vocab_size, n_expression_bins
            )
        form: Literal["tokens", "dense", "sparse"] = (
            "tokens" if self.tokenizers else "dense" if dense else "sparse"
        )
        measured = flag("measured", measured)
        if measured and self.tokenizers:
            raise invalid(
                "measured= is for raw_mode=True: tokens are of stored values alone, so that genes "
                "that were not measured are never among them"
            )
        if self.tokenizers:
            self.width = self.tokenizers[0]._native.length
        else:
            if normalize is not None and any(
                s.lazy is not None and s.genes is not None for s in sources
            ):
                raise invalid(
                    "normalize= scales by the total over all genes of the store, not over those of "
                    "a lazy AnnData: pass SLAFArray and genes="
                )
            self._genes, self.width = _columns_of(sources, is_stored=gene_order == "stored")
        self._options = LoaderOptions(
            matrix=self.key,
            form=form,
            batch_size=batch_size,
            remainder="drop" if drop_last else uneven,
            dtype=None if dtype is None else _dtype_name(dtype),
            target_sum=None if normalize is None else positive("normalize", normalize),
            log1p=bool(log1p),
            measured=measured,
            seed=seed,
            memory=memory,
        )
        pools = _cells.pools(sources, where, split)
        self.n_cells = sum(map(_cells.size, pools))
        self.shuffle = _shuffle(self.stores, shuffle, block_size, window)
        self.recipe = _cells.recipe(self.stores, pools, sampler, self.shuffle, seed)
        if isinstance(sampler, Sets) and any(
            t.description.get("empty") == "drop" for t in self.tokenizers
        ):
            raise invalid("a tokenizer that drops cells would part sets: let it keep them")
        self.is_cover = sampler is None
        self.codes, self._columns = _encoded(self.stores, obs_columns, codes, unknown_code)
        self.layout = _batches.Layout(
            returns=return_tensors if self.transform is None else "numpy",
            form=form,
            width=self.width,
            columns=tuple(obs_columns),
            set_rows=sampler.set_size + sampler.n_controls if isinstance(sampler, Sets) else 0,
            set_size=sampler.set_size if isinstance(sampler, Sets) else 0,
            device=None if device is None else str(device),
            pin_memory=pin_memory,
        )
        self._native_parts: tuple[_slaf.Sampler, _slaf.Loader] | None = None
        # Fail here and not in the first batch.
        self.n_batches(0, 0, Shard())

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_native_parts": None}

    def _native(self) -> tuple[_slaf.Sampler, _slaf.Loader]:
        """Make the sampler and the loader of Rust; they hold no threads and survive a fork."""
        if self._native_parts is None:
            sampler = self.recipe.native()
            tokenizers: list[_slaf.Tokenizer | None] = [None] * len(self.stores)
            tokenizers[: len(self.tokenizers)] = [t._native for t in self.tokenizers]
            parts = zip(tokenizers, self._genes, self._columns, strict=True)
            loader = _slaf.Loader([LoaderSource(*p) for p in parts], sampler, self._options)
            self._native_parts = sampler, loader
        return self._native_parts

    @property
    def sampler(self) -> _slaf.Sampler:
        """The order of the cells."""
        return self._native()[0]

    @property
    def _datasets(self) -> list[_slaf.Dataset]:
        return [s.native for s in self.stores]

    def batches(self, epoch: int, start: int, skip: int, shard: Shard) -> _slaf.Batches:
        """Start to make batches."""
        return self._native()[1].epoch(self._datasets, epoch, start, skip, shard)

    def n_batches(self, start: int, skip: int, shard: Shard) -> int:
        """Count the batches of a consumer."""
        return self._native()[1].n_batches(self._datasets, start, skip, shard)

    def consumed(self, start: int, world: int, batches: int) -> int:
        """Positions that all ranks together have consumed after some batches each."""
        return self._native()[1].consumed(self._datasets, start, world, batches)

    def convert(self, native: Any, epoch: int | None = None) -> Any:
        """Make the batch that the user gets, which tells its epoch if that is given."""
        batch = _batches.convert(native, self.layout)
        if epoch is not None and self.layout.returns != "arrow":
            batch["epoch"] = epoch
        return batch if self.transform is None else self.transform(batch)

    def fingerprint(self) -> dict[str, Any]:
        """Tell what a state belongs to: the data, and the order of the cells."""
        data = [[s.native.write_id, s.native.version, *s.shape] for s in self.stores]
        return {"seed": self.seed, "data": data, "sampler": self.recipe.fingerprint()}

    def gene_ids(self) -> list[str]:
        """Name the columns of ``x``."""
        if self.tokenizers:
            raise invalid("batches of tokens have no columns of genes")
        store, genes = self.stores[0], self._genes[0]
        names = store.names("var", store.axis("var"))
        if genes is None:
            return names
        return names[slice(*genes)] if isinstance(genes, tuple) else [names[i] for i in genes]


def _tokenizers(
    arrays: Sequence[SLAFArray],
    kind: str | None,
    tokenizer: SLAFTokenizer | None,
    max_genes: int,
    vocab_size: int,
    n_bins: int,
) -> list[SLAFTokenizer]:
    """Make the tokenizer of each store: one recipe, matched to the genes of each."""
    first = arrays[0]
    if tokenizer is None:
        if kind == "geneformer":
            tokenizer = GeneformerTokenizer(first, max_genes=max_genes, vocab_size=vocab_size)
        elif kind == "scgpt":
            tokenizer = ScGPTTokenizer(
                first, n_bins=n_bins, max_genes=max_genes, vocab_size=vocab_size
            )
        else:
            there = "there are 'geneformer' and 'scgpt', and None for raw batches"
            raise invalid(f"no tokenizer {kind!r}; {there}")
    return [tokenizer, *(tokenizer.for_array(a) for a in arrays[1:])]


def _columns_of(sources: Sequence[_sources.Source], *, is_stored: bool) -> tuple[list[Any], int]:
    """Choose the columns of each store: the same genes in the same order.

    Where `is_stored`, that is the order in which the first store has them.
    """
    stores = [s.store for s in sources]
    chosen = [s.store.axis("var") if s.genes is None else s.genes for s in sources]
    if is_stored:
        order = stores[0].native.stored_genes()
        in_order = order[np.isin(order, chosen[0].array())]
        if len(in_order) < len(chosen[0]):
            raise invalid("genes= has a gene twice")
        chosen[0] = Axis(len(order), in_order)
    first = chosen[0]
    names = [s.names("var", s.axis("var")) for s in stores] if len(stores) > 1 else []
    if all(n == names[0] for n in names) and all(s.genes is None for s in sources[1:]):
        return [first.native()] * len(stores), len(first)
    wanted = [names[0][i] for i in first.array()]
    # Genes that were chosen by hand must be in every store; those of data sets need not be.
    by_hand = sources[0].genes is not None and sources[0].lazy is None
    for genes, known in zip(chosen[1:], names[1:], strict=True):
        shared = {known[i] for i in genes.array()}
        if not by_hand:
            wanted = [n for n in wanted if n in shared]
    if not wanted:
        raise invalid("the stores have no gene in common, by the names in var")
    return [s.resolve("var", wanted) for s in stores], len(wanted)


def _shuffle(
    stores: Sequence[Store], shuffle: bool | str, block: int | None, window: int | None
) -> _cells.Shuffle:
    if shuffle not in (True, False, "full", "block"):
        raise invalid(f"shuffle={shuffle!r}; there are True, False, 'full' and 'block'")
    is_remote = any(_slaf.local_path(s.path) is None for s in stores)
    is_block = shuffle == "block" or (shuffle is True and is_remote)
    if not is_block:
        if block is not None or window is not None:
            raise invalid("block_size= and window= are for shuffle='block'")
        return _cells.Shuffle(bool(shuffle), 0, 0)
    size = block if block is not None else _REMOTE_BLOCK if is_remote else _LOCAL_BLOCK
    window = _WINDOW if window is None else window
    size = whole("block_size", size, 1, CELLS)
    return _cells.Shuffle(True, size, whole("window", window, 1, CELLS))


def _dtype_name(dtype: npt.DTypeLike) -> str:
    try:
        return np.dtype(dtype).name
    except TypeError as e:
        raise invalid(f"dtype={dtype!r} is no type of numpy: {e}") from e


def _encoded(
    stores: Sequence[Store],
    names: Sequence[str],
    codes: Mapping[str, Sequence[str]] | None,
    unknown: int,
) -> tuple[dict[str, list[str]], list[list[npt.NDArray[Any]]]]:
    """Encode columns of obs; gives the tables, and the arrays of each store."""
    if isinstance(names, str):
        raise invalid(f"obs_columns is a list of names: [{names!r}]")
    taken = {"x", "input_ids", "attention_mask", "values", "measured"}
    taken |= {"cell_ids", "source_ids", "is_control"}
    for name in names:
        if name in taken or list(names).count(name) > 1:
            raise invalid(f"obs column {name!r}: a batch has something else of that name")
    given = dict(codes or {})
    if unknown_names := set(given) - set(names):
        raise invalid(f"codes for {sorted(unknown_names)}, which are not in obs_columns")
    tables: dict[str, list[str]] = {}
    arrays: list[list[npt.NDArray[Any]]] = [[] for _ in stores]
    for name in names:
        columns = [_labels.column(s, name) for s in stores]
        if name not in given and not any(map(_labels.is_label, columns)):
            plain = [_labels.numbers(c) for c in columns]
            kind = np.result_type(*plain)
            for of_store, values in zip(arrays, plain, strict=True):
                of_store.append(values.astype(kind, copy=False))
            continue
        table = list(given.get(name, ()))
        if name not in given:
            for store, column in zip(stores, columns, strict=True):
                found = _labels.labels_of(store, name, column)
                known = set(table)
                table += [label for label in found if label not in known]
        if len(set(table)) < len(table):
            raise invalid(f"codes[{name!r}] has a label twice")
        tables[name] = table
        for of_store, column in zip(arrays, columns, strict=True):
            of_store.append(_labels.encode(column, table, unknown))
    return tables, arrays


def positions_of(plan: Plan, state: Mapping[str, Any]) -> tuple[int, int, int, int]:
    """Give epoch, end, start and skip of a state, as far as a loader can have come.

    Raises
    ------
    InvalidArgumentError
        For a position that this loader never reaches; the message names it.
    """
    names = ("epoch", "end_epoch", "start", "skip")
    if missing := [n for n in names if n not in state]:
        raise invalid(f"not the state of a loader: it has no {', '.join(missing)}")
    epoch = whole("epoch of the state", state["epoch"], 0, 2 * MANY)
    end = whole("end_epoch of the state", state["end_epoch"], epoch + 1, 4 * MANY)
    start = whole("start of the state", state["start"], 0, len(plan.sampler))
    # One consumer of all has the most batches.
    most = plan.n_batches(start, 0, Shard())
    return epoch, end, start, whole("skip of the state", state["skip"], 0, most)


def check_state(plan: Plan, state: Mapping[str, Any]) -> None:
    """Check that a state was made with the same data and the same order.

    Raises
    ------
    ConflictError
        If not; the message says what differs.
    InvalidArgumentError
        If it is no state.
    """
    if not isinstance(state, Mapping):
        raise invalid(f"the state of a loader is a dict, not a {type(state).__name__}")
    own = {"format": STATE_FORMAT, **plan.fingerprint()}
    for key, value in own.items():
        if key not in state:
            raise invalid(f"not the state of a loader: it has no {key!r}")
        if key == "format":
            whole("format of the state", state[key], 0, MANY)
        if not _is_same(state[key], value):
            what = {
                "format": "another version of slaf",
                "seed": "another seed",
                "data": f"other data than {_paths(plan)}, or another version of it",
                "sampler": "another choice or order of cells",
            }[key]
            raise from_kind("conflict", f"the state is of {what}: {state[key]}, not {value}")


def _paths(plan: Plan) -> str:
    return ", ".join(store.path for store in plan.stores)


def _is_same(given: Any, own: Any) -> bool:
    """Compare what a state has with what it should have; a truth value is no number."""
    if isinstance(own, list):
        if not isinstance(given, (list, tuple)) or len(given) != len(own):
            return False
        return all(map(_is_same, given, own))
    if isinstance(own, int):
        is_whole = isinstance(given, (int, np.integer)) and not isinstance(given, bool)
        return is_whole and bool(given == own)
    return isinstance(given, str) and given == own
