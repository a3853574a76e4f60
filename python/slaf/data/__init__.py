"""Making stores from other data."""

from slaf.data.converter import SLAFConverter

__all__ = ["SLAFConverter"]
