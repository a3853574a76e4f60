"""Cells as the input of models.

Loaders, samplers and tokenizers. :mod:`slaf.ml.datasets` (torch), :mod:`slaf.ml.lightning` and
:mod:`slaf.ml.ray` are imported on their own, since they need these packages.
"""

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
