"""What an analysis is told: thresholds and options, and presets of them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from numbers import Integral, Real
from types import MappingProxyType
from typing import Any

import numpy as np

from slaf._errors import from_kind, invalid

FLAVORS = ("seurat", "cell_ranger", "seurat_v3", "seurat_v3_paper")
METHODS = ("wilcoxon", "t-test", "t-test_overestim_var")


@dataclass(frozen=True)
class Parameters:
    """Options of an analysis; the defaults are those of the preset ``"default"``.

    Attributes
    ----------
    layer : str or None
        The layer that holds the counts; X by default.
    symbols : str or None
        The column of var that holds symbols of genes; found by default, see :func:`analyze`.
    batch_key : str or None
        A column of obs: bounds by medians, doublets and variable genes are found in each batch,
        and Harmony takes out what differs between batches.
    min_counts, min_genes : int or None
        Cells with fewer counts, or fewer genes with counts, are rejected.
    max_counts, max_genes : int or None
        Cells with so many or more are rejected.
    max_pct_mt : float or None
        Cells of whose counts so many percent or more are mitochondrial are rejected.
    mads, mads_mt : float or None
        Cells are rejected that are farther from the median of their batch than so many median
        absolute deviations: ``mads`` in ``log1p`` of the counts, ``log1p`` of the genes and the
        share of the 20 largest genes, ``mads_mt`` in the mitochondrial share. As in "Single-cell
        best practices" (Heumos et al. 2023, doi:10.1038/s41576-023-00586-w), chapter 6.
    min_cells : int
        Genes with counts in fewer of the cells that pass are left out.
    doublets : bool
        Find doublets by Scrublet, and leave them out.
    target_sum : float or None
        The counts of each cell after normalisation; the median by default.
    flavor : str
        Of ``pp.highly_variable_genes``.
    n_top_genes : int or None
        How many highly variable genes; ``None`` takes scanpy's cut-offs of means and dispersions.
    scale : float or None
        Bring the variable genes to mean 0 and variance 1, clipped to this, before the PCA.
    n_comps : int
        Principal components; fewer where cells or genes are fewer.
    harmony : bool
        With ``batch_key``: correct the components by Harmony.
    n_neighbors : int
        Neighbours of a cell, itself among them.
    n_pcs : int or None
        Components that neighbours are found by; all by default.
    umap : bool
        Lay the cells out by UMAP.
    clusters : bool
        Find clusters by Leiden's algorithm, and their markers.
    resolution : float
        Higher ones give more clusters.
    method : str
        Of ``tl.rank_genes_groups``; ties are corrected for with ``"wilcoxon"``.
    n_markers : int
        Genes that are listed for each cluster.
    seed : int
        Of everything that draws, below 2**32.
    """

    layer: str | None = None
    symbols: str | None = None
    batch_key: str | None = None
    min_counts: int | None = None
    max_counts: int | None = None
    min_genes: int | None = None
    max_genes: int | None = None
    max_pct_mt: float | None = 8.0
    mads: float | None = 5.0
    mads_mt: float | None = 3.0
    min_cells: int = 3
    doublets: bool = False
    target_sum: float | None = None
    flavor: str = "seurat"
    n_top_genes: int | None = 2000
    scale: float | None = None
    n_comps: int = 50
    harmony: bool = True
    n_neighbors: int = 15
    n_pcs: int | None = None
    umap: bool = True
    clusters: bool = True
    resolution: float = 1.0
    method: str = "wilcoxon"
    n_markers: int = 100
    seed: int = 0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = self._checked(field.name, str(field.type), getattr(self, field.name))
            object.__setattr__(self, field.name, value)
        for name, choices in (("flavor", FLAVORS), ("method", METHODS)):
            if getattr(self, name) not in choices:
                raise invalid(f"{name} is one of {choices}, not {getattr(self, name)!r}")
        least = {"n_comps": 1, "n_neighbors": 2, "n_markers": 1, "n_top_genes": 2, "n_pcs": 1}
        for name, low in least.items():
            value = getattr(self, name)
            if value is not None and value < low:
                raise invalid(f"{name} is at least {low}, not {value}")
        if self.seed >= 1 << 32:
            raise invalid(f"seed is a whole number from 0 to {(1 << 32) - 1}, not {self.seed}")
        if self.flavor.startswith("seurat_v3") and self.n_top_genes is None:
            raise invalid(f"{self.flavor} needs a number of genes: n_top_genes")
        if self.n_pcs is not None and self.n_pcs > self.n_comps:
            raise invalid(f"n_pcs={self.n_pcs} of n_comps={self.n_comps} components")

    @staticmethod
    def _checked(name: str, kind: str, value: Any) -> Any:
        """A value in the type of its field, so that the same number is the same parameter."""
        if value is None and kind.endswith("None"):
            return None
        kind = kind.removesuffix(" | None")
        try:
            if kind == "bool" and isinstance(value, (bool, np.bool_)):
                return bool(value)
            if kind == "str" and isinstance(value, str) and value:
                return str(value)
            is_number = isinstance(value, Integral if kind == "int" else Real)
            if kind in ("int", "float") and is_number and not isinstance(value, bool):
                number = int(value) if kind == "int" else float(value)
                if 0 <= number < (1 << 63 if kind == "int" else math.inf):
                    return number
        except OverflowError:
            pass
        words = {"bool": "True or False", "str": "a text", "int": "a whole number from 0"}
        raise invalid(f"{name} is {words.get(kind, 'a number from 0')}, not {value!r}")


#: Named sets of parameters. ``"pbmc"`` has the numbers of scanpy's tutorial of 3k PBMCs
#: (https://scanpy.readthedocs.io/en/stable/tutorials/basics/clustering-2017.html), which also
#: regresses out counts and the mitochondrial share: that is not done here.
PRESETS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "default": MappingProxyType({}),
        "pbmc": MappingProxyType(
            {
                "min_genes": 200,
                "max_genes": 2500,
                "max_pct_mt": 5.0,
                "mads": None,
                "mads_mt": None,
                "min_cells": 3,
                "target_sum": 1e4,
                "n_top_genes": None,
                "scale": 10.0,
                "n_neighbors": 10,
                "n_pcs": 40,
                "resolution": 0.9,
            }
        ),
    }
)


def parameters(preset: str | None, given: Mapping[str, Any]) -> Parameters:
    """Parameters of a preset with others in their places.

    Raises
    ------
    UnknownNameError
        For a preset that there is not.
    InvalidArgumentError
        For parameters that there are not, and wrong values.
    """
    name = "default" if preset is None else preset
    if not isinstance(name, str) or name not in PRESETS:
        raise from_kind("unknown-column", f"no preset {name!r}; there are {list(PRESETS)}")
    known = {field.name for field in fields(Parameters)}
    unknown = [key for key in given if key not in known]
    if unknown:
        raise invalid(f"no parameter {unknown[0]!r}; there are {sorted(known)}")
    return Parameters(**{**PRESETS[name], **given})
