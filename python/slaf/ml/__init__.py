"""Cells as the input of models.

Loaders, samplers and tokenizers. :mod:`slaf.ml.datasets` (torch), :mod:`slaf.ml.lightning`,
:mod:`slaf.ml.ray` and :mod:`slaf.ml.scvi` need these packages, and are imported on their own.
"""

from typing import Any

from slaf.ml.dataloaders import SLAFDataLoader
from slaf.ml.samplers import Balanced, Mixture, Sets, Split, Weighted
from slaf.ml.tokenizers import GeneformerTokenizer, ScGPTTokenizer, SLAFTokenizer

__all__ = [
    "Balanced",
    "GeneformerTokenizer",
    "Mixture",
    "SLAFDataLoader",
    "SLAFTokenizer",
    "ScGPTTokenizer",
    "Sets",
    "Split",
    "Weighted",
]


def __getattr__(name: str) -> Any:
    # It needs torch, which the rest does not.
    if name == "SLAFIterableDataset":
        from slaf.ml.datasets import SLAFIterableDataset

        return SLAFIterableDataset
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
