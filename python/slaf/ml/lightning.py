"""The loader for PyTorch Lightning."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from slaf._errors import invalid
from slaf.ml import _sources
from slaf.ml._batches import load
from slaf.ml.dataloaders import SLAFDataLoader
from slaf.ml.samplers import Split

_lightning = load("lightning", "slaf.ml.lightning")

__all__ = ["SLAFDataModule"]


class SLAFDataModule(_lightning.LightningDataModule):  # type: ignore[misc, name-defined]
    """Loaders of the parts of a store for ``lightning.Trainer``.

    Parameters
    ----------
    slaf_array
        The store.
    split
        How the data is parted; `part` is not used. The parts ``"train"``, ``"val"`` and
        ``"test"`` become the loaders of these names; those that are missing have none.
    **options
        Of :class:`slaf.ml.dataloaders.SLAFDataLoader`. Validation and test are not shuffled, and
        have neither `sampler` nor `drop_last`.

    Notes
    -----
    Use the trainer with ``use_distributed_sampler=False``: the loaders take their rank from
    torch.distributed themselves. The position in the training data is part of checkpoints.
    """

    def __init__(self, slaf_array: _sources.One, split: Split | None = None, **options: Any):
        super().__init__()
        self._array = slaf_array
        self._split = Split() if split is None else split
        self._options = options
        self._train: SLAFDataLoader | None = None

    def _loader(self, part: str, **changes: Any) -> SLAFDataLoader:
        share = Split(part, self._split.fractions, self._split.by, self._split.seed)
        return SLAFDataLoader(self._array, split=share, **{**self._options, **changes})

    def train_dataloader(self) -> SLAFDataLoader:
        """Give the loader of the training data."""
        if self._train is None:
            self._train = self._loader("train")
        return self._train

    def _quiet(self, part: str) -> SLAFDataLoader | list[Any]:
        if part not in self._split.fractions:
            return []
        return self._loader(part, shuffle=False, drop_last=False, sampler=None, n_epochs=1)

    def val_dataloader(self) -> SLAFDataLoader | list[Any]:
        """Give the loader of the validation data."""
        return self._quiet("val")

    def test_dataloader(self) -> SLAFDataLoader | list[Any]:
        """Give the loader of the test data."""
        return self._quiet("test")

    def state_dict(self) -> dict[str, Any]:
        """Tell where training stands."""
        return {"train": self.train_dataloader().state_dict()}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on where :meth:`state_dict` was called."""
        if not isinstance(state_dict, Mapping) or "train" not in state_dict:
            raise invalid("not the state of a data module: it has no 'train'")
        self.train_dataloader().load_state_dict(state_dict["train"])
