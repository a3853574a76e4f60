"""Making stores from other data."""

from slaf.data.converter import SLAFConverter
from slaf.data.distributed import convert_distributed

__all__ = ["SLAFConverter", "convert_distributed"]
