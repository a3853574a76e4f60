"""scanpy's functions on lazy data sets: its names, arguments and results, streaming.

>>> from slaf.integrations import read_slaf
>>> from slaf.integrations import scanpy as slaf_sc
>>> adata = read_slaf(store_path)[:4].copy()
>>> del adata.uns["log1p"]  # the counts of this example are no logarithms
>>> slaf_sc.pp.normalize_total(adata, target_sum=1e4)
>>> slaf_sc.pp.log1p(adata)
>>> adata.X.sum(axis=1).A1.round(1)
array([16.9,  9.2,  9.2, 17. ], dtype=float32)

scanpy itself is not needed.
"""

from slaf.integrations._foreign import not_offered
from slaf.integrations.scanpy import get, pp, tl

__all__ = ["get", "pp", "tl"]

__getattr__ = not_offered("scanpy")
