"""Tools: scanpy's ``tl`` on lazy data sets."""

from slaf.integrations._foreign import not_offered
from slaf.integrations.scanpy._graph_tools import diffmap, dpt, leiden, louvain, paga, tsne, umap
from slaf.integrations.scanpy._label_transfer import annotate, label_transfer
from slaf.integrations.scanpy._pca import pca
from slaf.integrations.scanpy._rank_genes import filter_rank_genes_groups, rank_genes_groups
from slaf.integrations.scanpy._scores import score_genes, score_genes_cell_cycle

__all__ = [
    "annotate",
    "diffmap",
    "dpt",
    "filter_rank_genes_groups",
    "label_transfer",
    "leiden",
    "louvain",
    "paga",
    "pca",
    "rank_genes_groups",
    "score_genes",
    "score_genes_cell_cycle",
    "tsne",
    "umap",
]

__getattr__ = not_offered("tl")
