"""Writing of lazy data sets in AnnData's formats, in bounded memory."""

from __future__ import annotations

import os
import warnings
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from slaf._errors import from_kind, invalid
from slaf._slaf import TemporaryFolder, output_path
from slaf._zarr_folder import foreign_in_zarr
from slaf.integrations._contents import SLOTS
from slaf.integrations._like_scipy import CHUNK, row_chunks
from slaf.integrations._transposed import Transposed

if TYPE_CHECKING:
    import anndata

    from slaf.integrations._lazy import LazyMatrix
    from slaf.integrations.anndata import LazyAnnData

#: Values of a chunk of an HDF5 or zarr array.
_ON_DISK = 2**16


def write_h5ad(
    adata: LazyAnnData,
    path: str | os.PathLike[str],
    *,
    convert_strings: bool = False,
    as_dense: Collection[str] = (),
    **options: Any,
) -> None:
    """Write an h5ad file: matrices piece by piece, everything else at once.

    Parameters
    ----------
    adata
        The data set.
    path
        Where to; a file that is there is replaced when the new one is complete.
    convert_strings
        Whether columns of strings that repeat become categorical, in the file.
    as_dense
        ``"X"`` and ``"raw/X"``, if these are to be dense in the file.
    **options
        How h5py compresses data sets.
    """
    import h5py

    unknown = set(as_dense) - {"X", "raw/X"}
    if unknown:
        raise invalid(f"as_dense takes 'X' and 'raw/X', not {sorted(unknown)}")
    path = output_path(path, True)
    with _beside(path) as folder:
        new = Path(folder.path, "new.h5ad")
        with h5py.File(new, "w") as file:
            _write(adata, file, convert_strings, as_dense, options)
        os.replace(new, path)


def write_zarr(
    adata: LazyAnnData,
    path: str | os.PathLike[str],
    *,
    convert_strings: bool = False,
    chunks: tuple[int, ...] | None = None,
    overwrite: bool = True,
) -> None:
    """Write a zarr folder, as :func:`write_h5ad` writes a file.

    ``chunks`` is the shape of the chunks of a dense X.

    Raises
    ------
    AlreadyExistsError
        If there is something that `overwrite` does not replace: a folder of zarr, or an empty one.
    InvalidArgumentError
        If the path lies inside of a store.
    """
    try:
        import zarr
    except ImportError as e:
        message = "write_zarr() needs zarr: pip install zarr"
        raise from_kind("unsupported-feature", message) from e
    target = output_path(path, overwrite)
    _refuse_to_replace(target)
    with _beside(target) as folder:
        written = Path(folder.path, "new.zarr")
        group = zarr.open_group(str(written), mode="w", **_zarr_format())
        _write(adata, group, convert_strings, (), {}, chunks)
        zarr.consolidate_metadata(group.store)
        # Something may have come meanwhile.
        _refuse_to_replace(target)
        # The target appears whole, and only then what it replaces goes.
        folder.put(written, target, overwrite)


def _refuse_to_replace(target: Path) -> None:
    if not os.path.lexists(target):
        return
    if (other := foreign_in_zarr(target)) is not None:
        message = f"{other} is of no Zarr group: it is not replaced; remove it yourself"
        raise from_kind("already-exists", message, os.fspath(target))


def _zarr_format() -> dict[str, Any]:
    """The version of the format that AnnData writes."""
    import anndata
    import zarr

    if int(zarr.__version__.split(".")[0]) < 3:
        return {}
    with warnings.catch_warnings():
        # The option goes away in AnnData 0.13, which writes zarr's own default.
        warnings.simplefilter("ignore")
        version = getattr(anndata.settings, "zarr_write_format", None)
    return {} if version is None else {"zarr_format": version}


def _beside(target: Path) -> TemporaryFolder:
    """A temporary folder on the disk of the target."""
    parent = target.absolute().parent
    if not parent.is_dir():
        raise from_kind("not-found", "no such folder", str(parent))
    return TemporaryFolder(parent)


def _write(
    adata: LazyAnnData,
    group: Any,
    convert_strings: bool,
    as_dense: Collection[str],
    options: dict[str, Any],
    chunks: tuple[int, ...] | None = None,
) -> None:
    import anndata

    from slaf.data.converter import check_names

    check_names(adata)
    rest = without_matrices(adata)
    if convert_strings:
        rest.strings_to_categoricals()
    settings: dict[str, Any] = {}
    if hasattr(anndata.settings, "allow_write_nullable_strings"):
        settings["allow_write_nullable_strings"] = True
    with anndata.settings.override(**settings):
        group.attrs.update({"encoding-type": "anndata", "encoding-version": "0.1.0"})
        for slot in ("obs", "var", *SLOTS, "uns"):
            value = getattr(rest, slot)
            _write_elem(group, slot, value if slot in ("obs", "var") else dict(value), options)
        if adata.X is not None:
            _write_matrix(group, "X", adata.X, "X" in as_dense, options, chunks)
        _write_elem(group, "layers", {}, options)
        for name, layer in adata.layers.items():
            _write_matrix(group, f"layers/{name}", layer, False, options)
        if adata.raw is not None:
            raw = group.create_group("raw")
            raw.attrs.update({"encoding-type": "raw", "encoding-version": "0.1.0"})
            _write_matrix(group, "raw/X", adata.raw.X, "raw/X" in as_dense, options)
            _write_elem(group, "raw/var", adata.raw.var, options)
            _write_elem(group, "raw/varm", dict(adata.raw.varm), options)


def without_matrices(adata: LazyAnnData) -> anndata.AnnData:
    """An AnnData of what is not lazy, which checks it."""
    import anndata

    return anndata.AnnData(
        obs=adata.obs.copy(),
        var=adata.var.copy(),
        uns=adata.uns,
        **{slot: {k: mapping[k] for k in mapping} for slot, mapping in _mappings(adata)},
    )


def _mappings(adata: LazyAnnData) -> list[tuple[str, Any]]:
    return [(slot, getattr(adata, slot)) for slot in SLOTS]


def _write_elem(group: Any, name: str, value: Any, options: dict[str, Any]) -> None:
    from anndata.io import write_elem

    write_elem(group, name, value, dataset_kwargs=options)


def _write_matrix(
    group: Any,
    name: str,
    matrix: LazyMatrix,
    as_dense: bool,
    options: dict[str, Any],
    chunks: tuple[int, ...] | None = None,
) -> None:
    """Write a matrix in its original encoding, piece by piece."""
    if as_dense or matrix.encoding == "dense":
        _write_dense(group, name, matrix, options, chunks)
    else:
        _write_sparse(group, name, matrix, options)


def _write_dense(
    group: Any,
    name: str,
    matrix: LazyMatrix,
    options: dict[str, Any],
    chunks: tuple[int, ...] | None,
) -> None:
    rows, cols = matrix.shape
    if chunks is None:
        chunks = (max(1, min(rows, _ON_DISK // max(1, cols))), max(1, min(cols, _ON_DISK)))
    create = getattr(group, "create_array", None) or group.create_dataset
    array = create(name, shape=matrix.shape, dtype=matrix.dtype, chunks=chunks, **options)
    array.attrs.update({"encoding-type": "array", "encoding-version": "0.2.0"})
    start = 0
    for part in row_chunks(matrix):
        array[start : start + part.shape[0]] = part.toarray()
        start += part.shape[0]


def _write_sparse(group: Any, name: str, matrix: LazyMatrix, options: dict[str, Any]) -> None:
    from anndata.io import sparse_dataset

    rows, cols = matrix.shape
    by_row = matrix.encoding == "csr"
    parts = row_chunks(matrix) if by_row else column_chunks(matrix)
    empty = matrix[:0].tocsr() if by_row else matrix[:, :0].tocsc()
    # AnnData appends to the integers that are there, whose type it does not change.
    empty.indptr = empty.indptr.astype(np.int64)
    if max(rows, cols) > np.iinfo(np.int32).max:
        empty.indices = empty.indices.astype(np.int64)
    _write_elem(group, name, empty, {"chunks": (_ON_DISK,), **options})
    stored = sparse_dataset(group[name])
    for part in parts:
        stored.append(part.tocsr() if by_row else part.tocsc())


def column_chunks(matrix: LazyMatrix) -> Iterator[LazyMatrix]:
    """The matrix in pieces of whole columns that fit in memory; none of no columns."""
    if isinstance(matrix._source, Transposed) and not matrix._steps:
        yield from (part.T for part in row_chunks(matrix.T))
        return
    # A piece is a pass over the rows: as few as memory allows.
    stored = matrix.count_nonzero(axis=0)
    piece = np.cumsum(stored) // (CHUNK // 2)
    for number in np.unique(piece):
        chosen = np.flatnonzero(piece == number)
        yield matrix[:, chosen[0] : chosen[-1] + 1]
