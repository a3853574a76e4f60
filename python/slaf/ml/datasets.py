"""The loader as a data set of torch, for torch's own ``DataLoader``."""

from __future__ import annotations

from typing import Any

from slaf._errors import invalid
from slaf._keywords import former
from slaf.ml._batches import load
from slaf.ml._stream import Stream

load("torch", "slaf.ml.datasets")

from torch.utils.data import IterableDataset, get_worker_info  # noqa: E402

__all__ = ["SLAFDataset", "SLAFIterableDataset"]


class SLAFDataset(Stream, IterableDataset[Any]):
    """A ``torch.utils.data.IterableDataset`` of whole batches.

    Use it with ``DataLoader(dataset, batch_size=None, num_workers=...)``, or with torchdata's
    ``StatefulDataLoader``. Workers take the batches in turns, so that the order does not depend on
    their number; they may be forked or spawned. The loader's own threads make
    :class:`slaf.ml.dataloaders.SLAFDataLoader` faster than any number of workers: use this where
    something else expects a data set.

    Parameters are those of :class:`slaf.ml.dataloaders.SLAFDataLoader`. With workers, call
    :meth:`set_epoch` before each epoch: workers start with a copy of the data set.
    """

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        if self._plan.layout.device is not None:
            raise invalid("device= is for SLAFDataLoader: workers have no device")

    def _workers(self) -> tuple[int, int]:
        info = get_worker_info()
        return (0, 1) if info is None else (info.id, info.num_workers)


class SLAFIterableDataset(SLAFDataset):
    """The name that :class:`SLAFDataset` has in ``slafdb``, with its order of arguments.

    Parameters
    ----------
    slaf_array, batch_size, **options
        As of :class:`SLAFDataset`.
    tokenizer
        A tokenizer; ``None`` for raw batches.
    """

    def __init__(
        self, slaf_array: Any, tokenizer: Any = None, batch_size: int = 32, **options: Any
    ):
        former("SLAFIterableDataset is now slaf.ml.datasets.SLAFDataset")
        for name in {"sampler_strategy", "use_binned_expressions"} & options.keys():
            former(f"{name}= is not needed any more, and is ignored")
            del options[name]
        super().__init__(
            slaf_array,
            tokenizer=tokenizer,
            tokenizer_type=None,
            batch_size=batch_size,
            **options,
        )
