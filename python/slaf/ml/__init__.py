"""Cells as the input of models."""

from slaf.ml.tokenizers import GeneformerTokenizer, ScGPTTokenizer, SLAFTokenizer

__all__ = ["GeneformerTokenizer", "SLAFTokenizer", "ScGPTTokenizer"]
