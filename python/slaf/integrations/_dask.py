"""Matrices as dask arrays."""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import numpy as np

from slaf._errors import from_kind, invalid
from slaf.integrations._contents import SLOTS
from slaf.integrations._lazy import LazyMatrix

if TYPE_CHECKING:
    import anndata

    from slaf.integrations.anndata import LazyAnnData


def to_dask(adata: LazyAnnData, chunk_rows: int) -> anndata.AnnData:
    """See :meth:`LazyAnnData.to_dask`."""
    import anndata

    if chunk_rows < 1:
        raise invalid(f"chunk_rows is {chunk_rows}: a chunk has at least one row")
    X, raw = adata.X, adata.raw
    return anndata.AnnData(
        X=None if X is None else dask_array(X, chunk_rows),
        obs=adata.obs.copy(),
        var=adata.var.copy(),
        uns=deepcopy(adata.uns),
        layers={name: dask_array(layer, chunk_rows) for name, layer in adata.layers.items()},
        raw=None
        if raw is None
        else {"X": dask_array(raw.X, chunk_rows), "var": raw.var.copy(), "varm": raw.varm},
        **{slot: getattr(adata, slot).to_memory() for slot in SLOTS},
    )


def dask_array(matrix: LazyMatrix, chunk_rows: int) -> Any:
    """A dask array of chunks of rows; each knows its own part of the matrix and how to read it."""
    try:
        import dask.array as da
        from dask.highlevelgraph import HighLevelGraph
    except ImportError as e:
        message = 'to_dask() needs dask: pip install "slaf[dask]"'
        raise from_kind("unsupported-feature", message) from e
    import scipy.sparse as sp

    rows, cols = matrix.shape
    starts = range(0, rows, chunk_rows)
    name = f"slaf-{uuid4().hex}"
    graph: dict[Any, Any] = {
        (name, i, 0): (_read, matrix[start : start + chunk_rows]) for i, start in enumerate(starts)
    }
    lengths = tuple(min(chunk_rows, rows - start) for start in starts)
    if not lengths:
        graph, lengths = {(name, 0, 0): (_read, matrix)}, (0,)
    meta: Any = (
        np.empty((0, 0), dtype=matrix.dtype)
        if matrix.is_dense
        else sp.csr_matrix((0, 0), dtype=matrix.dtype)
    )
    layers = HighLevelGraph.from_collections(name, graph, dependencies=[])
    array: Any = da.Array
    return array(layers, name, (lengths, (cols,)), meta=meta)


def _read(matrix: LazyMatrix) -> Any:
    return matrix.compute()
