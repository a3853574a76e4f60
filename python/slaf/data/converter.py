"""Conversion of files and AnnData objects into stores."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from slaf import _slaf
from slaf._boundary import ConvertOptions
from slaf._errors import SlafError, from_kind, invalid
from slaf._keywords import keywords
from slaf._numbers import budget
from slaf._progress import bar
from slaf._report import Report

if TYPE_CHECKING:
    import anndata

    from slaf.integrations.anndata import LazyAnnData

PathLike = str | os.PathLike[str]

# Options of slafdb's converter: most tuned it, and these are the values that change no result.
_FORMER: dict[str, Any] = {
    "use_integer_keys": None,
    "chunked": None,
    "chunk_size": None,
    "sort_metadata": False,
    "create_indices": None,
    "optimize_storage": None,
    "use_optimized_dtypes": None,
    "enable_v2_manifest": None,
    "compact_after_write": None,
    "tiledb_collection_name": "RNA",
    "tiledb_layer_name": "data",
    "enable_checkpointing": None,
    "max_rows_per_file": None,
}


class SLAFConverter:
    """Converts single-cell data into stores.

    Parameters
    ----------
    overwrite
        Replace a store that is at the target already. Other files there are refused, and stay.
    allow_loss
        Convert although the input holds something that a store cannot hold; the report lists what
        was left out. Otherwise such an input is refused.
    by_gene
        Keep a second, gene-major copy of X, which makes queries of genes fast.
    memory
        Bytes that the conversion may hold, about; 1 GiB by default, 1 MiB at least.
    join
        Several inputs: keep the genes of any (``"outer"``), of all (``"inner"``), or of the first
        (``"reference"``).
    source_column
        Several inputs: the obs column that tells the input of a cell; ``None`` for no such column.
    fill_layers
        Several inputs: take a layer that some of them lack as zeros in their cells. Otherwise such
        a layer refuses the conversion.
    genome, feature_type
        10x files: read this genome, or the features of this type, only.
    modality
        MuData files: read this modality.
    genes_in_rows
        Text tables: whether genes are rows. Detected by default.
    durability
        ``"full"`` makes a finished conversion survive a power loss; ``"os"`` leaves it to the
        operating system when data reach the disk.
    storage_options
        Options of the object store of the target.

    Examples
    --------
    >>> from slaf.data import SLAFConverter
    >>> report = SLAFConverter().convert(h5ad_path, tmp_path / "converted.slaf")
    >>> report.n_cells, report.n_genes
    (6, 4)
    """

    @keywords(ignored=_FORMER)
    def __init__(
        self,
        *,
        overwrite: bool = False,
        allow_loss: bool = False,
        by_gene: bool = True,
        memory: int | None = None,
        join: Literal["outer", "inner", "reference"] = "outer",
        source_column: str | None = "source",
        fill_layers: bool = False,
        genome: str | None = None,
        feature_type: str | None = None,
        modality: str | None = None,
        genes_in_rows: bool | None = None,
        durability: Literal["full", "os"] = "full",
        storage_options: Mapping[str, str] | None = None,
    ):
        self._options = ConvertOptions(
            overwrite=overwrite,
            allow_loss=allow_loss,
            by_gene=by_gene,
            memory=budget(memory),
            join=join,
            source_column=source_column,
            fill_layers=fill_layers,
            genome=genome,
            feature_type=feature_type,
            modality=modality,
            genes_in_rows=genes_in_rows,
            measured=None,
            durability=durability,
            storage_options=dict(storage_options or {}),
        )

    @keywords(
        renamed={"input_path": "input", "output_path": "output"},
        ignored={"input_format": None, "skip_validation": None},
    )
    def convert(self, input: PathLike | Sequence[PathLike], output: PathLike) -> Report:  # noqa: A002
        """Convert a file or folder, or several into one store.

        The format is detected from the content. Interrupted or failed, a conversion leaves nothing
        behind.

        Parameters
        ----------
        input
            A path, or a list of paths whose cells follow each other in the store. A folder of h5ad
            files stands for the files, in the order of their names. Of several inputs, entries of
            ``uns`` that all have and have the same are kept as they are; all others are in
            ``uns["by_source"][str(i)]`` of input `i`, as ``{"source": name, "uns": {...}}``.
        output
            Path or URI of the store.

        Returns
        -------
        Report
            What was kept and lost, sizes and time.

        Raises
        ------
        InputError
            If an input is of no known format, is malformed, or holds what a store cannot hold.
        AlreadyExistsError
            If there is something at ``output``, or another writer makes a store there meanwhile.
        ConflictError
            If another writer replaces the store at ``output`` meanwhile; its version stays.
        """
        inputs = [input] if isinstance(input, (str, os.PathLike)) else list(input)
        return self._convert(inputs, output)

    @keywords(renamed={"output_path": "output"})
    def convert_anndata(self, adata: anndata.AnnData | LazyAnnData, output: PathLike) -> Report:
        """Convert an AnnData object, or what :func:`slaf.integrations.read_slaf` gives.

        Every slot that anndata can write is kept, by way of a temporary h5ad file beside the
        target. Columns of text in which some are missing become categorical, as `write_h5ad` makes
        them. Of a backed object the file is converted, and must hold all that the object does.
        The matrices of a lazy object stream, in bounded memory; what its store knows of genes that
        were not measured is kept, with a warning where X was changed so that it is not certain.

        Parameters
        ----------
        adata
            The object; it is not changed.
        output
            Path or URI of the store.

        Raises
        ------
        InputError
            If anndata cannot write an element: the message names it.
        InvalidArgumentError
            If it is no such object.
        """
        import anndata as ad

        from slaf.integrations._origin import measured_in
        from slaf.integrations.anndata import LazyAnnData

        if not isinstance(adata, (ad.AnnData, LazyAnnData)):
            hint = ""
            if isinstance(adata, (list, tuple)):
                hint = "; of several, write h5ad files and pass their paths to convert([...])"
            raise invalid(f"convert_anndata takes one AnnData, not a {type(adata).__name__}{hint}")
        is_lazy = isinstance(adata, LazyAnnData)
        if adata.isbacked and not adata.is_view and not is_lazy:
            _check_backed(adata)
            return self._convert([str(adata.filename)], output)
        whole = adata.to_memory() if adata.isbacked and not is_lazy else adata
        measured = measured_in(adata) if isinstance(adata, LazyAnnData) else None
        with h5ad_beside(whole, os.fspath(output)) as file:
            return self._convert([file], output, measured)

    def _convert(
        self,
        inputs: Sequence[PathLike],
        output: PathLike,
        measured: _slaf.Measured | None = None,
    ) -> Report:
        if not inputs:
            raise invalid("no inputs")
        options = replace(self._options, measured=measured)
        with bar() as progress:
            report = _slaf.convert(inputs, os.fspath(output), options, progress)
        return Report(*report)


def check_names(adata: anndata.AnnData | LazyAnnData) -> None:
    """Refuse names that HDF5 takes for paths or cuts: anndata writes them as something else."""
    frames = {"obs": adata.obs, "var": adata.var}
    slots: dict[str, Any] = {
        s: getattr(adata, s) for s in ("layers", "obsm", "varm", "obsp", "varp")
    }
    if adata.raw is not None:
        frames["raw/var"] = adata.raw.var
        slots["raw/varm"] = adata.raw.varm
    for place, frame in frames.items():
        # anndata reads a column with slashes back as it was.
        _check_each(place, frame.columns, slashes=True)
    for place, slot in {**slots, "uns": adata.uns}.items():
        _check_mapping(place, slot)


def _check_mapping(place: str, mapping: Mapping[str, Any]) -> None:
    _check_each(place, mapping, slashes=False)
    for key, value in mapping.items():
        if isinstance(value, Mapping):
            _check_mapping(f"{place}/{key}", value)
        elif hasattr(value, "columns"):
            _check_each(f"{place}/{key}", value.columns, slashes=True)


def _check_each(place: str, names: Iterable[Any], *, slashes: bool) -> None:
    for name in names:
        parts = str(name).split("/")
        if "\0" in str(name) or {"", "."} & set(parts) or (len(parts) > 1 and not slashes):
            message = f"an h5ad cannot hold the name {str(name)!r}; rename it first"
            raise from_kind("would-lose-data", message, place)


def _with_categoricals(adata: Any) -> Any:
    """Make columns of text with missing values categorical, in an object beside this one."""
    import anndata as ad

    from slaf.integrations.anndata import LazyAnnData

    frames = {slot: _categoricals(getattr(adata, slot)) for slot in ("obs", "var")}
    raw_var = None if adata.raw is None else _categoricals(adata.raw.var)
    if raw_var is None and not any(f is not None for f in frames.values()):
        return adata
    changed = {slot: frame for slot, frame in frames.items() if frame is not None}
    if isinstance(adata, LazyAnnData):
        beside = adata.copy()
        for slot, frame in changed.items():
            setattr(beside, slot, frame)
        return beside
    slots = ("layers", "obsm", "varm", "obsp", "varp")
    beside = ad.AnnData(
        adata.X,
        **{"obs": adata.obs, "var": adata.var, **changed},
        uns=dict(adata.uns),
        # AnnData 0.13 lists X, without a name, among the layers.
        **{slot: {k: v for k, v in getattr(adata, slot).items() if k} for slot in slots},
    )
    if adata.raw is not None:
        var = adata.raw.var if raw_var is None else raw_var
        beside.raw = ad.AnnData(adata.raw.X, beside.obs[[]], var, varm=dict(adata.raw.varm))
    return beside


def _categoricals(frame: Any) -> Any:
    """The frame with such columns as categoricals; `None` if there are none."""
    import pandas as pd
    from natsort import natsorted

    made = {}
    for at, name in enumerate(frame.columns):
        column = frame.iloc[:, at]
        is_text = column.dtype == object and pd.api.types.infer_dtype(column) == "string"
        if is_text and column.isna().any():
            values = pd.Categorical(column)
            made[name] = values.reorder_categories(natsorted(values.categories))
    return frame.assign(**made) if made else None


@contextmanager
def h5ad_beside(adata: anndata.AnnData | LazyAnnData, store: str) -> Iterator[Path]:
    """Write an h5ad that holds all that the object does, on the disk of a store, for a while.

    Raises
    ------
    InputError
        If anndata cannot write an element.
    NotFoundError
        If there is no folder for the store.
    """
    target = _slaf.local_path(store)
    beside = None if target is None else target.absolute().parent
    if beside is not None and not beside.is_dir():
        raise from_kind("not-found", "no such folder", str(beside))
    with _slaf.TemporaryFolder(beside) as folder:
        file = Path(folder.path, "anndata.h5ad")
        _write(_with_categoricals(adata), file)
        yield file


def _write(adata: anndata.AnnData | LazyAnnData, file: Path) -> None:
    import anndata as ad

    check_names(adata)
    settings: dict[str, Any] = {}
    if hasattr(ad.settings, "allow_write_nullable_strings"):
        settings["allow_write_nullable_strings"] = True
    try:
        with ad.settings.override(**settings):
            adata.write_h5ad(file, convert_strings_to_categoricals=False)
    except SlafError:
        raise
    except Exception as e:
        # anndata raises whatever the type of the element leads to, with the element's name in a
        # note or in the text.
        text = " ".join([str(e), *getattr(e, "__notes__", [])])
        if isinstance(e, OSError) and e.errno in (errno.ENOSPC, errno.EDQUOT):
            raise from_kind("disk-full", text, str(file)) from e
        message = f"anndata cannot write this object: {text}"
        raise from_kind("would-lose-data", message) from e


def _check_backed(adata: anndata.AnnData) -> None:
    """Refuse an object that was changed in memory."""
    import h5py

    from slaf.integrations._extras import read_elem

    with h5py.File(adata.filename, "r") as file:
        for name in ("obs", "var"):
            if not getattr(adata, name).equals(read_elem()(file[name])):
                raise invalid(
                    f"{name} of this backed AnnData differs from its file: write() it first, or "
                    "convert adata.to_memory()"
                )
