"""Principal components, from the products of columns."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from slaf._errors import from_kind, invalid
from slaf.integrations._lazy import LazyMatrix
from slaf.integrations._plan import InMemory
from slaf.integrations._workers import on_workers
from slaf.integrations.anndata import LazyAnnData
from slaf.integrations.scanpy._common import checked, mask_of, matrix_of
from slaf.integrations.scanpy._write import check_writable, put_results

_Floats = npt.NDArray[np.float64]

#: Components by default, as ``scanpy.settings.N_PCS``.
N_COMPS = 50
#: The most genes (or cells, if they are fewer) of which products of all pairs are computed.
MOST_COLUMNS = 8192
#: The most values of a matrix that is read as a whole.
MOST_VALUES = 1 << 28
#: From so many times the variance on, the square of a mean costs it too many digits.
MEAN_SQUARES = 1e4
SOLVERS = ("arpack", "covariance_eigh", "auto", "full", "randomized", "tsqr", "lobpcg")


class _Empty:
    """Stands for an argument that was not given, where ``None`` has a meaning."""

    def __repr__(self) -> str:
        return "_empty"


_EMPTY = _Empty()


def pca(
    data: LazyAnnData | LazyMatrix,
    n_comps: int | None = None,
    *,
    layer: str | None = None,
    zero_center: bool = True,
    svd_solver: str | None = None,
    chunked: bool = False,
    chunk_size: int | None = None,
    random_state: Any = 0,
    return_info: bool = False,
    mask_var: npt.NDArray[np.bool_] | str | _Empty | None = _EMPTY,
    use_highly_variable: bool | None = None,
    dtype: npt.DTypeLike = "float32",
    key_added: str | None = None,
    copy: bool = False,
    write: bool = False,
    client: Any = None,
) -> LazyAnnData | npt.NDArray[Any] | tuple[npt.NDArray[Any], ...] | None:
    """Principal components, exact and out of core.

    As ``scanpy.pp.pca``, with its keys, types and signs: the entry of each loading vector that is
    largest in size is positive. Two passes stream through the store: one for the products of all
    pairs of genes in float64, whose eigenvectors are the loadings, and one for the scores. A
    scaled matrix stays sparse unless it was clipped. Where cells are less than half as many as
    genes, their products are taken instead, of the matrix in memory. The result is the same, bit
    by bit, with any number of threads.

    Of more than 8,192 genes of as many cells the products are not computed: block Lanczos (Golub
    and Underwood 1977) takes a pass for each 32 vectors of a Krylov space, some 10 to 40 of them,
    and ``uns["pca"]["residuals"]`` says how exact each component is: the norm of what the
    covariance makes of it, less its variance times it, as a share of the variance. It is below
    1e-9, or 1e-13 of the largest variance; else there is a warning. Choosing genes first is many
    times as fast.

    Parameters
    ----------
    data
        The data set, to which ``obsm["X_pca"]`` (cells x components, ``dtype``), ``varm["PCs"]``
        (genes x components, zero where the mask leaves a gene out) and ``uns["pca"]`` (``params``,
        ``variance``, ``variance_ratio``) are added; or a lazy matrix, of which the scores are
        returned.
    n_comps
        How many components: 50 by default, or one less than the smaller dimension if that is at
        most 50.
    layer
        What to use in place of X.
    zero_center
        ``False``: a truncated singular value decomposition of the matrix as it is.
    svd_solver, random_state, chunk_size
        Without effect: nothing is random or approximate.
    chunked
        Must be ``False``: it selects an incremental PCA, which is an approximation.
    return_info
        Of a lazy matrix, return scores, components (components x genes), ratios of variance, and
        variances.
    mask_var
        The genes to use: booleans, or a column of var; by default ``"highly_variable"`` if there
        is one, and ``None`` for all.
    use_highly_variable
        Deprecated in scanpy: ``mask_var="highly_variable"`` or ``None``.
    dtype
        The type of the scores.
    key_added
        The key in obsm, varm and uns in place of ``"X_pca"``, ``"PCs"`` and ``"pca"``.
    copy
        Whether to change and return a copy.
    write
        Whether to write the results into the store, too, as one new version.
    client
        A ``dask.distributed.Client`` whose workers take the passes over the matrix, each reading
        the store itself. The result is the same, bit by bit.
        Of cells that are less than half as many as genes, which are read as a whole, and up to
        8,192, this machine finds the components. Of more than 8,192 genes it makes the vectors of
        each pass.

    Raises
    ------
    InvalidArgumentError
        For NaN and infinite values, for more components than there can be, and where all cells are
        the same.
    UnsupportedError
        For ``chunked``; and for a dense matrix of few cells and more than 2**28 values.

    Examples
    --------
    >>> from slaf.integrations import pp, read_slaf
    >>> adata = read_slaf(store_path)
    >>> pp.pca(adata, n_comps=2, mask_var=None)
    >>> adata.obsm["X_pca"].shape
    (6, 2)
    >>> adata.uns["pca"]["variance_ratio"].round(3)
    array([0.813, 0.123], dtype=float32)
    """
    if chunked:
        raise from_kind(
            "unsupported-feature",
            "chunked=True selects an incremental PCA, an approximation: leave it out, pca is exact "
            "and streams without it",
        )
    if svd_solver is not None and svd_solver not in SOLVERS:
        warnings.warn(f"Ignoring {svd_solver=}: it is none of {SOLVERS}", UserWarning, stacklevel=2)
    if isinstance(data, LazyMatrix):
        found = _components(on_workers(data, client), n_comps, zero_center)
        scores = found.scores.astype(dtype, copy=False)
        if not return_info:
            return scores
        kind = _kept(data.dtype)
        rest = (found.loadings, found.ratio, found.variance)
        return (scores, *(part.astype(kind, copy=False) for part in rest))
    adata = checked(data, "pca")
    if copy:
        adata = adata.copy()
    if write:
        check_writable(adata)
    chosen, mask = _chosen(adata, mask_var, use_highly_variable)
    matrix = on_workers(matrix_of(adata, layer), client)
    found = _components(matrix if mask is None else matrix[:, mask], n_comps, zero_center)
    kind = _kept(matrix.dtype)
    loadings = found.loadings.T.astype(kind)
    if mask is not None:
        all_genes = np.zeros((adata.n_vars, loadings.shape[1]))
        all_genes[mask] = loadings
        loadings = all_genes
    params: dict[str, Any] = {
        "zero_center": zero_center,
        "use_highly_variable": isinstance(chosen, str) and chosen == "highly_variable",
        "mask_var": chosen,
    }
    if layer is not None:
        params["layer"] = layer
    keys = ("X_pca", "PCs", "pca") if key_added is None else (key_added,) * 3
    about = {
        "params": params,
        "variance": found.variance.astype(kind),
        "variance_ratio": found.ratio.astype(kind),
    }
    if found.residuals is not None:
        about["residuals"] = found.residuals
    slots = {
        "obsm": {keys[0]: found.scores.astype(dtype)},
        "varm": {keys[1]: loadings},
        "uns": {keys[2]: about},
    }
    put_results(adata, slots, write=write)
    return adata if copy else None


def _kept(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The type of components and variances, which scikit-learn takes from the matrix."""
    return dtype if dtype in (np.float32, np.float64) else np.dtype(np.float64)


def _chosen(
    adata: LazyAnnData,
    mask_var: npt.NDArray[np.bool_] | str | _Empty | None,
    use_highly_variable: bool | None,
) -> tuple[Any, npt.NDArray[np.bool_] | None]:
    """What was asked for, and the mask of genes that it stands for."""
    if use_highly_variable is not None:
        hint = (
            'Use_highly_variable=True can be called through mask_var="highly_variable". '
            "Use_highly_variable=False can be called through mask_var=None"
        )
        warnings.warn(
            "Argument `use_highly_variable` is deprecated, consider using the mask argument. "
            f"{hint}",
            FutureWarning,
            stacklevel=3,
        )
        if not isinstance(mask_var, _Empty):
            raise invalid(f"These arguments are incompatible. {hint}")
    if isinstance(mask_var, _Empty):
        by_default = use_highly_variable is None and "highly_variable" in adata.var_keys()
        mask_var = "highly_variable" if use_highly_variable or by_default else None
    return mask_var, mask_of(adata, mask_var, "var")


@dataclass
class _Components:
    """Scores (cells x components), loadings (components x genes), and variances.

    Attributes
    ----------
    residuals
        Where the products were not computed, how exact each component is.
    """

    scores: _Floats
    loadings: _Floats
    variance: _Floats
    ratio: _Floats
    residuals: _Floats | None = None


def _components(matrix: LazyMatrix, n_comps: int | None, zero_center: bool) -> _Components:
    n, m = matrix.shape
    least = min(n, m)
    if n_comps is None:
        n_comps = least - 1 if least <= N_COMPS else N_COMPS
    # The bounds and words of scikit-learn.
    if not 1 <= n_comps <= least:
        raise invalid(
            f"n_components={n_comps} must be between 1 and min(n_samples, n_features)={least}"
        )
    if zero_center and n_comps == least:
        raise invalid(
            f"n_components={n_comps} must be strictly less than min(n_samples, n_features)={least}"
        )
    base, factors = _peeled(matrix) if zero_center else (matrix, None)
    if 2 * n < m and n <= MOST_COLUMNS:
        found = _from_cells(base, factors, n_comps, zero_center)
    elif m > MOST_COLUMNS:
        found = _from_passes(base, factors, n_comps, zero_center)
    else:
        found = _from_genes(matrix, base, factors, n_comps, zero_center)
    if not (np.isfinite(found.scores).all() and np.isfinite(found.loadings).all()):
        raise invalid("the squares of these values are no float64 numbers: scale them first")
    return found


def _peeled(matrix: LazyMatrix) -> tuple[LazyMatrix, _Floats | None]:
    """A sparse matrix and factors of its columns, which vary as a matrix made dense does.

    What is added to a column does not matter to what varies about its mean.
    """
    kinds = [step.kind for step in matrix._steps]
    if "densify" not in kinds or matrix.dtype.kind != "f":
        return matrix, None
    first = len(kinds) - 1 - kinds[::-1].index("densify")
    factors = np.ones(matrix.shape[1])
    for step in matrix._steps[first + 1 :]:
        linear = step.kind in ("scalar", "columns") and step.mask is None
        if step.kind == "cast" and step.dtype.kind == "f":
            continue
        if not linear or step.what not in ("add", "subtract", "multiply", "divide"):
            return matrix, None
        if step.what == "multiply":
            factors *= step.numbers
        elif step.what == "divide":
            factors /= step.numbers
    before = LazyMatrix(matrix._source, matrix._steps[:first])
    return (before, factors) if np.isfinite(factors).all() else (matrix, None)


def _flipped(loadings: _Floats) -> _Floats:
    """The largest entry in size of each positive, as scikit-learn's ``svd_flip`` of components."""
    largest = loadings[np.arange(len(loadings)), np.abs(loadings).argmax(axis=1)]
    return loadings * np.where(largest < 0, -1.0, 1.0)[:, None]


def _swamped(sums: _Floats, squares: _Floats, n: int, factors: _Floats | None) -> bool:
    """Whether means are so large that subtracting their squares loses what varies."""
    of_means = sums**2 / n
    within = squares - of_means
    if factors is not None:
        of_means, within = of_means * factors**2, within * factors**2
    return bool(of_means.max() > MEAN_SQUARES * within.sum())


def _less(matrix: LazyMatrix, means: _Floats) -> LazyMatrix:
    return matrix.astype(np.float64).densified().combine_in("subtract", means, None)


def _from_genes(
    matrix: LazyMatrix, base: LazyMatrix, factors: _Floats | None, k: int, zero_center: bool
) -> _Components:
    """Components from the products of all pairs of columns."""
    n = matrix.shape[0]
    gram = base.gram()
    if zero_center and _swamped(gram.sums, gram.squares, n, factors):
        base = _less(base, gram.sums / n)
        gram = base.gram()
    found = gram.principal(k, "columns" if zero_center else None, factors)
    values = np.maximum(found.values, 0)
    loadings = _flipped(found.vectors.reshape(k, -1))
    means = gram.sums / n
    scores = _scores(base, means if zero_center else None, factors, loadings)
    if zero_center:
        return _explained(scores, loadings, values, float(found.squares.sum()))
    return _of_singular_values(scores, loadings, float((gram.squares / n - means**2).sum()))


def _from_passes(
    base: LazyMatrix, factors: _Floats | None, k: int, zero_center: bool
) -> _Components:
    """Components of many columns of many rows, from products with vectors."""
    n, m = base.shape
    exact = base.astype(np.float64)
    means = np.asarray(exact.mean(axis=0), dtype=np.float64).ravel()
    variances = np.asarray(exact.var(axis=0), dtype=np.float64).ravel()
    if not np.isfinite(variances).all():
        raise invalid("Input X contains NaN or infinity.")
    squared = np.ones(m) if factors is None else factors**2
    if zero_center and (means**2 * squared).max() > MEAN_SQUARES * (variances * squared).sum():
        base = _less(base, means)
        means = np.asarray(base.mean(axis=0), dtype=np.float64).ravel()
    centres = means if zero_center else np.zeros(m)
    found = base.leading(centres, np.ones(m) if factors is None else factors, k)
    loadings = _flipped(found.vectors.reshape(k, m))
    scores = _scores(base, means if zero_center else None, factors, loadings)
    with np.errstate(invalid="ignore", divide="ignore"):
        residuals = np.where(found.residuals > 0, found.residuals / found.values, 0)
    if not found.converged:
        warnings.warn(
            f"components are approximate, with residuals of up to {residuals.max():.1e} of their "
            "variance (uns['pca']['residuals']): choose fewer genes with mask_var",
            UserWarning,
            stacklevel=4,
        )
    if zero_center:
        total = float((variances * squared).sum()) * n
        made = _explained(scores, loadings, found.values, total)
    else:
        made = _of_singular_values(scores, loadings, float(variances.sum()))
    made.residuals = residuals
    return made


def _scores(
    base: LazyMatrix, means: _Floats | None, factors: _Floats | None, loadings: _Floats
) -> _Floats:
    """The columns less their means, times factors and loadings."""
    weights = np.ascontiguousarray((loadings if factors is None else loadings * factors).T)
    scores: _Floats = np.asarray(base @ weights, dtype=np.float64)
    if means is not None:
        scores -= np.einsum("i,ij->j", means, weights)
    return scores


def _from_cells(
    base: LazyMatrix, factors: _Floats | None, k: int, zero_center: bool
) -> _Components:
    """Components from the products of all pairs of rows, which are few, in memory."""
    n, m = base.shape
    if base.is_dense and n * m > MOST_VALUES:
        raise from_kind(
            "unsupported-feature",
            f"pca of a dense matrix of {n} cells x {m} genes: choose genes with mask_var, for "
            "example those of highly_variable_genes()",
        )
    X: Any = base.astype(np.float64)
    X = X.tocsr()
    if factors is not None:
        X = X.multiply(factors[None, :]).tocsr()
    means = np.asarray(X.sum(axis=0)).ravel() / n
    squares = np.asarray(X.multiply(X).sum(axis=0)).ravel()
    if zero_center and _swamped(means * n, squares, n, None) and n * m <= MOST_VALUES:
        import scipy.sparse as sp

        X = sp.csr_matrix(X.toarray() - means)
        means = np.asarray(X.sum(axis=0)).ravel() / n
    gram = InMemory(X.T.tocsr(), "csr").gram([])
    found = gram.principal(k, "rows" if zero_center else None)
    values = np.maximum(found.values, 0)
    left = found.vectors.reshape(k, n).T
    loadings = np.asarray(X.T @ left)
    if zero_center:
        loadings -= np.multiply.outer(means, left.sum(axis=0))
    loadings = _flipped(_orthonormal(loadings, values).T)
    scores = np.asarray(X @ np.ascontiguousarray(loadings.T))
    if zero_center:
        scores -= np.einsum("i,ji->j", means, loadings)
        return _explained(scores, loadings, values, float(found.squares.sum()))
    return _of_singular_values(scores, loadings, float((squares / n - means**2).sum()))


def _orthonormal(loadings: _Floats, values: _Floats) -> _Floats:
    """Columns of unit length; those that nothing varies along are any that are orthogonal."""
    m, k = loadings.shape
    some = values > values[0] * 1e-13
    lengths = np.sqrt((loadings**2).sum(axis=0))
    loadings = np.where(some, loadings / np.where(some, lengths, 1), 0)
    if not some.all():
        r = int(some.sum())
        complete = np.linalg.qr(np.hstack([loadings[:, :r], np.eye(m, min(m, 2 * k))]))[0]
        loadings[:, r:] = complete[:, r:k]
    return loadings


def _explained(scores: _Floats, loadings: _Floats, values: _Floats, total: float) -> _Components:
    if total <= 0:
        raise invalid("there are no principal components: all cells are the same in these genes")
    return _Components(scores, loadings, values / (len(scores) - 1), values / total)


def _of_singular_values(scores: _Floats, loadings: _Floats, total: float) -> _Components:
    """Variances as scikit-learn's ``TruncatedSVD`` has them: of scores, with ddof 0."""
    variance = scores.var(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return _Components(scores, loadings, variance, np.true_divide(variance, total))
