"""Values and aggregates: scanpy's ``get`` on lazy data sets."""

from slaf.integrations._foreign import not_offered
from slaf.integrations.scanpy._aggregate import aggregate
from slaf.integrations.scanpy._frames import obs_df, var_df
from slaf.integrations.scanpy._pseudobulk import pseudobulk
from slaf.integrations.scanpy._rank_genes import rank_genes_groups_df

__all__ = ["aggregate", "obs_df", "pseudobulk", "rank_genes_groups_df", "var_df"]

__getattr__ = not_offered("get")
