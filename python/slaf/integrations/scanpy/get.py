"""Values and aggregates: scanpy's ``get`` on lazy data sets."""

from slaf.integrations._foreign import not_offered
from slaf.integrations.scanpy._aggregate import aggregate
from slaf.integrations.scanpy._frames import obs_df, var_df

__all__ = ["aggregate", "obs_df", "var_df"]

__getattr__ = not_offered("get")
