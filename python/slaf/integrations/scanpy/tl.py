"""Tools: scanpy's ``tl`` on lazy data sets."""

from slaf.integrations._foreign import not_offered
from slaf.integrations.scanpy._scores import score_genes, score_genes_cell_cycle

__all__ = ["score_genes", "score_genes_cell_cycle"]

__getattr__ = not_offered("tl")
