"""Stores as the objects of other libraries."""

from slaf.integrations.anndata import LazyAnnData, read_slaf

__all__ = ["LazyAnnData", "read_slaf"]
