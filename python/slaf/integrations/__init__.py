"""Stores as the objects of other libraries."""

from slaf.integrations._lazy import LazyMatrix
from slaf.integrations.anndata import LazyAnnData, read_slaf
from slaf.integrations.scanpy import get, pp, tl

__all__ = ["LazyAnnData", "LazyMatrix", "get", "pp", "read_slaf", "tl"]
