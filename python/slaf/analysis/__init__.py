"""From counts to clusters and markers in one call, written into the store step by step.

:func:`analyze` is what the command ``slaf analyze`` runs.
"""

from slaf.analysis._analyze import analyze, open_analyzed, plan
from slaf.analysis._parameters import PRESETS, Parameters
from slaf.analysis._report import write_report

__all__ = ["PRESETS", "Parameters", "analyze", "open_analyzed", "plan", "write_report"]
