"""Nearest neighbours of cells, and graphs of them."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from slaf import _slaf
from slaf._errors import from_kind, invalid
from slaf._numbers import flag
from slaf._selectors import for_rust
from slaf.integrations._lazy import LazyMatrix
from slaf.integrations.anndata import LazyAnnData
from slaf.integrations.scanpy._common import changeable, matrix_of
from slaf.integrations.scanpy._pca import N_COMPS, pca
from slaf.integrations.scanpy._write import check_writable, put_results

if TYPE_CHECKING:
    import scipy.sparse as sp

METRICS = ("euclidean", "cosine")
METHODS = ("umap", "gauss")


def neighbors(
    adata: LazyAnnData,
    n_neighbors: int = 15,
    n_pcs: int | None = None,
    *,
    use_rep: str | None = None,
    knn: bool = True,
    method: str = "umap",
    transformer: Any = None,
    metric: str = "euclidean",
    metric_kwds: Mapping[str, Any] = MappingProxyType({}),
    random_state: Any = 0,
    key_added: str | None = None,
    exact: bool | None = None,
    copy: bool = False,
    write: bool = False,
) -> LazyAnnData | None:
    """Nearest neighbours of cells, and the graph that layouts and clusters are made of.

    As ``scanpy.pp.neighbors``, with its keys and types, and exact wherever that takes minutes:
    scanpy is so for fewer than 4,096 cells (8,192 with ``"euclidean"``), and beyond that takes
    pynndescent's approximation. Of cells at the same distance those of smaller number come first.
    The result is the same, bit by bit, with any number of threads.

    Parameters
    ----------
    adata
        The data set, to which ``obsp["distances"]`` (CSR, ``n_neighbors - 1`` others of each cell,
        the nearest first), ``obsp["connectivities"]`` (CSR) and ``uns["neighbors"]`` are added.
    n_neighbors
        How many neighbours a cell has, itself among them. If there are fewer cells, about half of
        those.
    n_pcs
        How many columns of the representation to use; 0 means X.
    use_rep
        An entry of obsm, or ``"X"``. By default ``"X_pca"`` (X for up to 50 genes), which is
        computed if it is missing.
    knn
        Must be ``True``: without, the graph is dense.
    method
        ``"umap"``: the fuzzy union of McInnes et al. (2018), in float32, as umap-learn 0.5 computes
        it; or ``"gauss"``: a Gaussian kernel of adaptive width (Haghverdi et al. 2016), in the type
        of the distances.
    transformer
        Must be ``None``: others are searches of their own.
    metric
        ``"euclidean"``, of which distances are float64; or ``"cosine"``, of which they have the
        type of the representation.
    metric_kwds
        Must be empty: both metrics have no options.
    random_state
        Stored in ``uns`` and without effect.
    key_added
        Results go to ``uns[key_added]``, ``obsp[f"{key_added}_distances"]`` and
        ``obsp[f"{key_added}_connectivities"]``.
    exact
        ``True``: all nearest neighbours, however long it takes. ``False``: most of them; a cell is
        compared with the 16,384 cells of the nearest clusters (an inverted file, Jégou et al.
        2011), then with neighbours of neighbours until fewer than 1 of 1,000 change (Dong et al.
        2011). By default exact, unless a sample tells that more than 1.5e13 products of coordinates
        would be needed, some five minutes of two cores: that is so for a million cells in 50
        dimensions of noise, where no cluster of cells can be left out, and rarely for real cells;
        then most of them, with a warning. Whatever is not exact has its recall, measured on about
        8,000 cells that are compared with all, in ``uns["neighbors"]["params"]["recall"]``.
    copy
        Whether to change and return a copy.
    write
        Whether to write the results into the store, too, as one new version.

    Raises
    ------
    InvalidArgumentError
        For values that are not finite, and for a cosine of a cell that is zero everywhere.
    UnsupportedError
        For other metrics and methods, and for ``transformer``, ``metric_kwds`` and ``knn=False``.

    Warns
    -----
    UserWarning
        If neighbours are not exact though that was not asked for, with the recall.

    Examples
    --------
    >>> from slaf.integrations import pp, read_slaf
    >>> adata = read_slaf(store_path)
    >>> pp.neighbors(adata, n_neighbors=3, use_rep="X_pca")
    >>> adata.obsp["distances"].toarray().round(1)[0]
    array([0. , 2.8, 5.7, 0. , 0. , 0. ])
    """
    _check_offered(method, metric, transformer, metric_kwds, knn)
    adata = changeable(adata, "neighbors", copy)
    if write:
        check_writable(adata)
    n = adata.n_obs
    if n_neighbors > n:
        n_neighbors = 1 + int(0.5 * n)
        warnings.warn(
            f"n_obs too small: adjusting to `n_neighbors = {n_neighbors}`",
            UserWarning,
            stacklevel=2,
        )
    if n_neighbors < 2:
        raise invalid(f"{n_neighbors} neighbours of each of {n} cells, itself included: at least 2")
    points = _representation(adata, use_rep, n_pcs)
    k = n_neighbors - 1
    if exact is not None:
        exact = flag("exact", exact)
    found = _slaf.nearest_others(points.ravel(), points.shape[1], k, metric, exact)
    if found.recall is not None and exact is None:
        warnings.warn(
            f"neighbours are {found.recall:.1%} of the nearest: comparing {n:,} cells exactly "
            "takes too long in these coordinates, which separate cells badly. Fewer components "
            "(`n_pcs`) may tell as much; `exact=True` compares all, `exact=False` leaves out this "
            "warning",
            UserWarning,
            stacklevel=2,
        )
    distances = _by_row(found.rows, found.distances, n, k)
    if metric == "cosine":
        distances = distances.astype(points.dtype)
    graph = _umap(found, n) if method == "umap" else _gauss(distances, n, k)
    key = "neighbors" if key_added is None else key_added
    prefix = "" if key_added is None else f"{key_added}_"
    params: dict[str, Any] = {
        "n_neighbors": n_neighbors,
        "method": method,
        "random_state": random_state,
        "metric": metric,
    }
    if use_rep is not None:
        params["use_rep"] = use_rep
    if n_pcs is not None:
        params["n_pcs"] = n_pcs
    if found.recall is not None:
        params["recall"] = found.recall
    keys = {what: f"{prefix}{what}" for what in ("connectivities", "distances")}
    slots: dict[str, dict[str, Any]] = {
        "obsp": {keys["distances"]: distances, keys["connectivities"]: graph},
        "uns": {key: {**{f"{what}_key": name for what, name in keys.items()}, "params": params}},
    }
    put_results(adata, slots, write=write)
    return adata if copy else None


def _check_offered(
    method: str, metric: Any, transformer: Any, metric_kwds: Mapping[str, Any], knn: bool
) -> None:
    """Refuse what is not done here, by name."""
    if method not in METHODS:
        raise invalid(f"`method` needs to be one of {METHODS}, not {method!r}")
    refused = None
    if metric not in METRICS:
        refused = f"metric={metric!r} is none of {METRICS}"
    elif transformer is not None:
        refused = f"transformer={transformer!r} is a search of its own"
    elif metric_kwds:
        refused = f"metric_kwds={dict(metric_kwds)!r}: {metric} has no options"
    elif not knn:
        refused = "knn=False makes a dense matrix of cells x cells"
    if refused is not None:
        raise from_kind(
            "unsupported-feature",
            f"{refused}: use scanpy.pp.neighbors with an AnnData that has the representation in "
            "obsm, such as adata[:, :1].to_memory()",
        )


def _representation(adata: LazyAnnData, use_rep: str | None, n_pcs: int | None) -> npt.NDArray[Any]:
    """The coordinates of cells, as scanpy chooses them; float32 or float64, row-major."""
    if use_rep is None and n_pcs == 0:
        use_rep = "X"
    if use_rep is None and adata.n_vars > N_COMPS:
        if "X_pca" not in adata.obsm:
            message = (
                f"You are trying to run this on {adata.n_vars} dimensions of `.X`, if you really "
                "want this, set `use_rep='X'`.\n         Falling back to preprocessing with "
                "`pp.pca` and default params."
            )
            warnings.warn(message, UserWarning, stacklevel=3)
            pca(adata, n_comps=n_pcs)
        use_rep = "X_pca"
    if use_rep is None or (use_rep == "X" and "X" not in adata.obsm):
        return coordinates(matrix_of(adata), "X")
    if use_rep not in adata.obsm:
        raise invalid(
            f"Did not find {use_rep} in `.obsm.keys()`; there are {list(adata.obsm)}. You need to "
            "compute it first."
        )
    value = adata.obsm[use_rep]
    if n_pcs is not None:
        if n_pcs > value.shape[1]:
            raise invalid(
                f"{use_rep} does not have enough Dimensions ({value.shape[1]}). Provide a "
                "Representation with equal or more dimensions than `n_pcs` or lower `n_pcs`"
            )
        value = value.iloc[:, :n_pcs] if hasattr(value, "iloc") else value[:, :n_pcs]
    return coordinates(value, f"obsm[{use_rep!r}]")


def coordinates(value: Any, what: str) -> npt.NDArray[Any]:
    """An array of obsm, or a matrix, as coordinates: float32 or float64, row-major."""
    if isinstance(value, LazyMatrix) or hasattr(value, "tocsr"):
        value = value.toarray()
    array = np.asarray(value)
    if array.ndim != 2 or array.shape[1] == 0 or array.dtype.kind not in "biuf":
        raise invalid(f"{what} has the shape {array.shape} of {array.dtype}, and no coordinates")
    return for_rust(array, np.float32 if array.dtype == np.float32 else np.float64)


def _by_row(
    rows: npt.NDArray[np.uint32], distances: npt.NDArray[np.float64], n: int, k: int
) -> sp.csr_matrix:
    """The distances of k others of each cell, the nearest first."""
    import scipy.sparse as sp

    index = np.int32 if len(rows) < 2**31 else np.int64
    indptr = np.arange(0, len(rows) + 1, k, dtype=index)
    return sp.csr_matrix((distances, rows.astype(index), indptr), shape=(n, n))


def _umap(found: _slaf.Nearest, n: int) -> sp.csr_matrix:
    import scipy.sparse as sp

    graph = _slaf.connectivities(found.rows, found.distances, found.k)
    return sp.csr_matrix((graph.data, graph.indices, graph.indptr), shape=(n, n))


def _gauss(distances: sp.csr_matrix, n: int, k: int) -> sp.csr_matrix:
    """Gaussian weights, of each pair of which one is a neighbour of the other.

    As ``scanpy.neighbors._connectivity.gauss``: the width of a cell is the median of its squared
    distances, and ``w[i, j] = sqrt(2 s_i s_j / (s_i² + s_j²)) exp(-d_ij² / (s_i² + s_j²))``.
    """
    import scipy.sparse as sp

    squared = distances.data.reshape(n, k) ** 2
    widths_squared = np.median(squared, axis=1)
    widths = np.sqrt(widths_squared)
    others = distances.indices.reshape(n, k)
    with np.errstate(invalid="ignore", divide="ignore"):
        both = 2 * widths[:, None] * widths[others]
        sums = widths_squared[:, None] + widths_squared[others]
        weights = np.sqrt(both / sums) * np.exp(-squared / sums)
    one_way = sp.csr_matrix((weights.ravel(), distances.indices, distances.indptr), shape=(n, n))
    one_way = one_way.sorted_indices()
    # Both directions of a pair have the same weight.
    graph: sp.csr_matrix = one_way.maximum(one_way.T.tocsr()).tocsr()
    return graph
