"""Preprocessing: scanpy's ``pp`` on lazy data sets.

Functions change the :class:`~slaf.integrations.LazyAnnData` that they are given, in memory, as
scanpy's do; nothing is written to the store. What is computed streams through the stored rows in
bounded memory; X becomes a lazier matrix.
"""

from slaf.integrations._foreign import not_offered
from slaf.integrations.scanpy._filter import filter_cells, filter_genes
from slaf.integrations.scanpy._graph_tools import harmony_integrate
from slaf.integrations.scanpy._hvg import highly_variable_genes
from slaf.integrations.scanpy._neighbors import neighbors
from slaf.integrations.scanpy._normalize import log1p, normalize_total, sqrt
from slaf.integrations.scanpy._pca import pca
from slaf.integrations.scanpy._qc import calculate_qc_metrics
from slaf.integrations.scanpy._sample import sample, subsample
from slaf.integrations.scanpy._scale import regress_out, scale
from slaf.integrations.scanpy._scrublet import scrublet

__all__ = [
    "calculate_qc_metrics",
    "filter_cells",
    "filter_genes",
    "harmony_integrate",
    "highly_variable_genes",
    "log1p",
    "neighbors",
    "normalize_total",
    "pca",
    "regress_out",
    "sample",
    "scale",
    "scrublet",
    "sqrt",
    "subsample",
]

__getattr__ = not_offered("pp")
