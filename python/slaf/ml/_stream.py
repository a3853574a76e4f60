"""Where a loader stands: epochs, ranks, state."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy.typing as npt

from slaf import _slaf
from slaf._boundary import Shard
from slaf._errors import invalid
from slaf._keywords import keywords
from slaf._numbers import MANY, whole
from slaf._report import Report
from slaf.ml import _sources
from slaf.ml._plan import STATE_FORMAT, Plan, check_state, positions_of
from slaf.ml._shuffle_report import shuffle_report
from slaf.ml.samplers import SamplerLike, Split
from slaf.ml.tokenizers import SLAFTokenizer

if TYPE_CHECKING:
    import torch

# Processes of one run.
_RANKS = 1 << 20

_SUMS = (
    "batches",
    "cells",
    "tokens",
    "bytes_read",
    "seconds",
    "consumer_wait_seconds",
    "producer_wait_seconds",
    "read_wait_seconds",
)

# Options of slafdb's loaders that change no batch.
_TUNING = (
    "verbose",
    "batches_per_chunk",
    "by_fragment",
    "use_mixture_of_scanners",
    "n_scanners",
    "prefetch_batch_size",
    "max_queue_size",
    "parallelize_fragment_reads",
    "prefetcher_ready_timeout",
)


class Stream:
    """What :class:`slaf.ml.dataloaders.SLAFDataLoader` and its data set share."""

    @keywords(ignored=dict.fromkeys(_TUNING))
    def __init__(
        self,
        slaf_array: _sources.One | Sequence[_sources.One],
        tokenizer_type: Literal["geneformer", "scgpt"] | None = "geneformer",
        tokenizer: SLAFTokenizer | Callable[[dict[str, Any]], Mapping[str, Any]] | None = None,
        batch_size: int = 32,
        max_genes: int = 2048,
        vocab_size: int = 50_000,
        n_expression_bins: int = 51,
        raw_mode: bool = False,
        n_epochs: int = 1,
        seed: int = 0,
        shuffle: bool | Literal["full", "block"] = True,
        drop_last: bool = False,
        where: str | None = None,
        obs_columns: Sequence[str] = (),
        *,
        cells: Any = None,
        split: Split | None = None,
        sampler: SamplerLike | None = None,
        codes: Mapping[str, Sequence[str]] | None = None,
        unknown_code: int = -1,
        genes: Any = None,
        gene_order: Literal["var", "stored"] = "var",
        layer: str | None = None,
        normalize: float | None = None,
        log1p: bool = False,
        dense: bool = False,
        dtype: npt.DTypeLike | None = None,
        return_tensors: Literal["torch", "numpy", "arrow"] = "torch",
        rank: int | None = None,
        world_size: int | None = None,
        uneven: Literal["pad", "uneven"] = "pad",
        block_size: int | None = None,
        window: int | None = None,
        memory: int = 512 << 20,
        device: str | torch.device | None = None,
        pin_memory: bool = False,
        verify: Literal["first-touch"] | None = None,
        measured: bool = False,
    ):
        n_epochs = whole("n_epochs", n_epochs, 1, MANY)
        if (rank is None) != (world_size is None):
            raise invalid("rank= and world_size= come together")
        if rank is not None and world_size is not None:
            world_size = whole("world_size", world_size, 1, _RANKS)
            rank = whole("rank", rank, 0, world_size - 1)
        if n_epochs > 1 and "epoch" in obs_columns:
            raise invalid("obs column 'epoch': batches of several epochs have their number there")
        self._plan = Plan(
            slaf_array,
            tokenizer_type=tokenizer_type,
            tokenizer=tokenizer,
            batch_size=batch_size,
            max_genes=max_genes,
            vocab_size=vocab_size,
            n_expression_bins=n_expression_bins,
            raw_mode=raw_mode,
            seed=seed,
            shuffle=shuffle,
            drop_last=drop_last,
            uneven=uneven,
            where=where,
            cells=cells,
            split=split,
            sampler=sampler,
            obs_columns=obs_columns,
            codes=codes,
            unknown_code=unknown_code,
            genes=genes,
            gene_order=gene_order,
            layer=layer,
            normalize=normalize,
            log1p=log1p,
            dense=dense,
            dtype=dtype,
            return_tensors=return_tensors,
            block_size=block_size,
            window=window,
            memory=memory,
            device=device,
            pin_memory=pin_memory,
            verify=verify,
            measured=measured,
        )
        self.n_epochs = n_epochs
        self._given = None if rank is None or world_size is None else (rank, world_size)
        # Where the consumer stands, and where the next iteration begins.
        self._at = self._next = _Position(0, n_epochs)
        self._finished: list[dict[str, float]] = []
        self._running: _slaf.Batches | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_running": None, "_finished": []}

    # Where this consumer is among all.

    def _ranks(self) -> tuple[int, int]:
        if self._given is not None:
            return self._given
        # Who has not imported torch has not initialised its process group either.
        distributed = getattr(sys.modules.get("torch"), "distributed", None)
        if distributed is None or not distributed.is_available():
            return 0, 1
        if not distributed.is_initialized():
            return 0, 1
        return distributed.get_rank(), distributed.get_world_size()

    def _workers(self) -> tuple[int, int]:
        return 0, 1

    @property
    def epoch(self) -> int:
        """The epoch that is running, or that the next iteration begins with."""
        return self._at.epoch

    def set_epoch(self, epoch: int) -> None:
        """Let the next iteration begin with this epoch, at its start."""
        epoch = whole("epoch", epoch, 0, MANY)
        self._at = self._next = _Position(epoch, epoch + self.n_epochs)

    @property
    def batch_size(self) -> int:
        """The number of cells of a batch."""
        return self._plan.batch_size

    @property
    def special_tokens(self) -> dict[str, int] | None:
        """Of :attr:`tokenizer`; ``None`` for raw batches."""
        return None if self.tokenizer is None else self.tokenizer.special_tokens

    @property
    def n_cells(self) -> int:
        """The number of cells that are chosen, before sampling."""
        return self._plan.n_cells

    @property
    def codes(self) -> dict[str, list[str]]:
        """The labels of encoded columns of obs: code `i` is label `i`."""
        return self._plan.codes

    @property
    def gene_ids(self) -> list[str]:
        """The names of the columns of ``x``, in their order."""
        return self._plan.gene_ids()

    @property
    def tokenizer(self) -> SLAFTokenizer | None:
        """The tokenizer, matched to the first store; ``None`` for raw batches."""
        return self._plan.tokenizers[0] if self._plan.tokenizers else None

    def __len__(self) -> int:
        rank, world = self._ranks()
        return self.n_epochs * self._plan.n_batches(0, 0, Shard(rank, world))

    def __repr__(self) -> str:
        plan = self._plan
        shuffle = plan.shuffle
        order = "full shuffle" if shuffle.on else "stored order"
        if shuffle.block:
            order = f"shuffled in blocks of {shuffle.block} and windows of {shuffle.window:,}"
        if not plan.is_cover:
            order = plan.recipe.maker
        what = f"{plan.width} tokens" if plan.tokenizers else f"{plan.width:,} genes"
        rank, world = self._ranks()
        ranks = f", rank {rank} of {world}" if world > 1 else ""
        epochs = f", {self.n_epochs} epochs" if self.n_epochs > 1 else ""
        return (
            f"{type(self).__name__}({plan.n_cells:,} cells x {what}, {order}, "
            f"{len(self):,} batches of {plan.batch_size}{epochs}{ranks}, seed {plan.seed})"
        )

    # Iteration.

    def __iter__(self) -> Iterator[Any]:
        at = self._next
        rank, world = self._ranks()
        worker, workers = self._workers()
        shard = Shard(rank, world, worker, workers)
        self._finished = []
        while at.epoch < at.end:
            # Who leaves an epoch early and iterates again has it from its beginning.
            self._next = _Position(at.epoch, at.end)
            left = self._plan.n_batches(at.start, at.skip, shard)
            running = self._plan.batches(at.epoch, at.start, at.skip, shard)
            self._running = running
            try:
                while (native := running.next()) is not None:
                    left -= 1
                    at = at.after_a_batch()
                    self._at = at
                    # With the last batch the epoch is over: trainers that know the number of
                    # batches do not ask for more. A worker waits for the others.
                    if left == 0 and workers == 1:
                        self._at = self._next = self._after(at)
                    yield self._plan.convert(native, at.epoch if self.n_epochs > 1 else None)
            finally:
                self._finished.append(json.loads(running.stats()))
                if self._running is running:
                    self._running = None
                # A traceback would keep it, and its threads, alive.
                del running
            self._next = self._after(at)
            if workers == 1:
                self._at = self._next
            at = _Position(at.epoch + 1, at.end)

    def _after(self, at: _Position) -> _Position:
        """Give the beginning of the epoch after this one."""
        epoch = at.epoch + 1
        return _Position(epoch, at.end if epoch < at.end else epoch + self.n_epochs)

    # State.

    def state_dict(self) -> dict[str, Any]:
        """Tell where the consumer stands: after the last batch that it got.

        After the last batch of an epoch that is the beginning of the next one.

        Returns
        -------
        dict
            Of numbers and short texts. With one worker it can be loaded on any number of ranks,
            also by another process: the rest of the epoch is shared among them.
        """
        _, workers = self._workers()
        start, skip = self._at.start, self._at.skip
        if workers == 1:
            start, skip = self._plan.consumed(start, self._ranks()[1], skip), 0
        return {
            "format": STATE_FORMAT,
            **self._plan.fingerprint(),
            "epoch": self._at.epoch,
            "end_epoch": self._at.end,
            "start": start,
            "skip": skip,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where :meth:`state_dict` was called.

        Raises
        ------
        ConflictError
            If the state is of other data, another version of the store, or another order.
        InvalidArgumentError
            If it is no state.
        """
        check_state(self._plan, state)
        self._at = self._next = _Position(*positions_of(self._plan, state))

    # Numbers.

    def stats(self) -> Report:
        """Tell how fast the last iteration was or is, and who waited for whom.

        Returns
        -------
        Report
            With ``batches``, ``cells``, ``tokens`` (without padding), ``bytes_read``, ``seconds``,
            ``cells_per_second``, ``tokens_per_second``, ``first_batch_seconds``,
            ``consumer_wait_seconds`` (for batches: the loader is the bottleneck),
            ``producer_wait_seconds`` (for room in the queue: the model is the bottleneck) and
            ``read_wait_seconds`` (decoding waited for the storage).
        """
        runs = list(self._finished)
        if self._running is not None:
            runs.append(json.loads(self._running.stats()))
        fields = {key: sum(run[key] for run in runs) for key in _SUMS}
        fields["first_batch_seconds"] = runs[0]["first_batch_seconds"] if runs else 0.0
        seconds = fields["seconds"]
        for what in ("cells", "tokens"):
            fields[f"{what}_per_second"] = fields[what] / seconds if seconds else 0.0
        text = (
            f"{fields['cells']:,} cells in {seconds:.2f} s "
            f"({fields['cells_per_second']:,.0f} cells/s), "
            f"first batch after {fields['first_batch_seconds']:.3f} s; "
            f"waited for batches {fields['consumer_wait_seconds']:.2f} s, "
            f"for room {fields['producer_wait_seconds']:.2f} s, "
            f"for storage {fields['read_wait_seconds']:.2f} s"
        )
        return Report(text, json.dumps(fields))

    def shuffle_report(self, label: str | None = None, *, epoch: int = 0) -> Report:
        """Measure the order of an epoch, without reading expression.

        Parameters
        ----------
        label
            A column of obs: how mixed are its values in batches?
        epoch
            Which epoch.

        Returns
        -------
        Report
            ``exact_cover``: each chosen cell comes exactly once. ``neighbour_ratio``: how often
            cells that are neighbours in the store are in one batch, relative to a full shuffle
            (1 is ideal). ``label_entropy``: the mean entropy in bits of the label in a batch;
            ``ideal_label_entropy``: that of random batches of the same sizes.
        """
        return shuffle_report(self._plan, label, whole("epoch", epoch, 0, MANY))


class _Position:
    """Where an iteration stands: positions consumed before, and batches since."""

    __slots__ = ("end", "epoch", "skip", "start")

    def __init__(self, epoch: int, end: int, start: int = 0, skip: int = 0):
        self.epoch = epoch
        self.end = end
        self.start = start
        self.skip = skip

    def after_a_batch(self) -> _Position:
        return _Position(self.epoch, self.end, self.start, self.skip + 1)
