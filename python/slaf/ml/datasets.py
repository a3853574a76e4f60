"""The loader as a data set of torch, for torch's own ``DataLoader``."""

from __future__ import annotations

from typing import Any

from slaf._errors import invalid
from slaf.ml._batches import load
from slaf.ml._stream import Stream

load("torch", "slaf.ml.datasets")

from torch.utils.data import IterableDataset, get_worker_info  # noqa: E402

__all__ = ["SLAFDataset"]


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
