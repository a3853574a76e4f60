"""Changes of a store: each is its next version, in one commit."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from slaf import _slaf
from slaf._boundary import AddOptions, AppendOptions
from slaf._changing import grow_options
from slaf._errors import ConflictError, from_kind, invalid
from slaf._numbers import axis_of, flag, path_text, text
from slaf._progress import bar
from slaf._report import Report
from slaf._rewriting import Rewriting
from slaf._store import WHAT, Store
from slaf._versions import Versions

if TYPE_CHECKING:
    import pandas as pd

#: Tries to change `uns` while others change it.
_TRIES = 20

#: What the obs column `source` says of cells that come from an AnnData.
_IN_MEMORY = "AnnData"


def add_slots(
    store: Store,
    slots: Mapping[str, Any],
    *,
    overwrite: bool,
    drop: Sequence[str] = (),
    keep_changes: bool = False,
) -> tuple[int, Report]:
    """Write slots of AnnData into a store, in one commit.

    Parameters
    ----------
    store
        The version whose cells and genes the slots have, in its order.
    slots
        Arguments of ``anndata.AnnData``: ``obs``, ``layers``, ``uns``, ...
    overwrite
        Replace what has the same name.
    drop
        Slots that the new version does not have.
    keep_changes
        Refuse to replace or drop what others have changed since this version.

    Returns
    -------
    tuple
        The new version, and what was done.
    """
    import anndata as ad
    import pandas as pd

    from slaf.data.converter import h5ad_beside

    rest = {name: value for name, value in slots.items() if name not in WHAT}
    frames = {}
    for of, n in zip(WHAT, store.shape, strict=True):
        given, slot = slots.get(of), f"{of}m"
        arrays = dict(rest.get(slot, {}))
        if any(isinstance(array, pd.DataFrame) for array in arrays.values()):
            # They are kept as they are, with the names of their rows.
            names = pd.Index(store.names(of, store.axis(of)))
            rest[slot] = {key: _named_alike(v, names, f"{slot}/{key}") for key, v in arrays.items()}
        else:
            names = pd.RangeIndex(n).astype(str)
        frames[of] = pd.DataFrame(index=names) if given is None else given.set_axis(names)
        _check_types(of, frames[of])
    try:
        adata = ad.AnnData(**frames, **rest)
    except (TypeError, ValueError) as e:
        raise invalid(f"anndata takes no such data: {e}") from e
    options = AddOptions(overwrite=overwrite, drop=list(drop), keep_changes=keep_changes)
    with h5ad_beside(adata, store.path) as file, bar() as progress:
        version, text, fields = _slaf.add(store.path, file, options, grow_options(store), progress)
    return version, _told_once(text, json.loads(fields))


def _check_types(of: str, frame: pd.DataFrame) -> None:
    """Refuse columns of types that a store does not have."""
    for name, dtype in frame.dtypes.items():
        if dtype.kind in "cmM":
            raise from_kind(
                "would-lose-data",
                f"{of}/{name} is of type {dtype}, which a store cannot hold, and nothing was "
                "written: make it text with astype(str), or numbers, or leave it out",
            )


def _told_once(text: str, fields: dict[str, Any]) -> Report:
    """Tell what is replaced as written, and not as removed, too."""
    label = "removed".ljust(13)
    lines = [line for line in text.splitlines() if not line.startswith(label)]
    removed = [name for name in fields["removed"] if name not in fields["written"]]
    if removed:
        # After the version, the shape, and what was written.
        lines.insert(2 + bool(fields["written"]), label + ", ".join(removed))
    return Report("\n".join(lines), json.dumps({**fields, "removed": removed}))


def add_beside_uns(
    opened: Callable[[int], Store],
    merged: Callable[[Mapping[str, Any]], Mapping[str, Any]],
    dropped: Callable[[], Sequence[str]] = tuple,
) -> tuple[int, Report]:
    """Write slots with entries of ``uns`` beside those that others write meanwhile.

    Parameters
    ----------
    opened
        The version to go on from, of the number of the try.
    merged
        The slots, of ``uns`` as it is in that version.
    dropped
        Other slots that the new version does not have; asked after ``merged``.

    Raises
    ------
    ConflictError
        If others change ``uns`` all the time.
    """
    from slaf.integrations._extras import read_element

    for number in range(_TRIES):
        store = opened(number)
        slots = merged(read_element(store, "uns") or {})
        try:
            return add_slots(store, slots, overwrite=True, drop=dropped())
        except ConflictError:
            continue
    raise from_kind("conflict", "others change uns all the time; try again", store.path)


def _named_alike(value: Any, names: pd.Index[Any], what: str) -> Any:
    """A frame with the names of the rows; one that has others is refused."""
    import pandas as pd

    if not isinstance(value, pd.DataFrame):
        return value
    if not isinstance(value.index, pd.RangeIndex) and list(value.index) != list(names):
        raise invalid(
            f"the index of {what} has other names than the store, or another order: bring the rows "
            "into the order of the store, or reset_index(drop=True)"
        )
    return value.set_axis(names)


class Growing(Versions, Rewriting):
    """What changes a store."""

    def _add(self, slots: Mapping[str, Any], overwrite: bool) -> Report:
        version, report = add_slots(self._store, slots, overwrite=overwrite)
        self._move(version)
        return report

    def append(
        self,
        source: Any,
        *,
        join: Literal["outer", "inner", "reference"] = "outer",
        source_name: str | None = None,
        allow_loss: bool = False,
        fill_layers: bool = False,
        allow_disjoint: bool = False,
    ) -> Report:
        """Append the cells of other data, as one new version.

        The result is that of a conversion of the store and the sources together; only the new
        cells are written. Genes are matched by ``var["gene_ids"]`` where all have it, otherwise by
        name, and new ones come after those that are there. Columns of obs are united by name: one
        that a side lacks is missing there, categories are merged, numbers are promoted. A gene
        that one side does not have is stored as zero in its cells, and :meth:`sources` and
        :meth:`measured` tell that it was not measured there.

        Parameters
        ----------
        source
            What a conversion reads: a path, or several; a folder of h5ad files; the path or
            address of another store; a :class:`SLAFArray`, in the version that it shows; an AnnData
            or lazy AnnData.
        join
            The genes of the new version: those of any (``"outer"``), or those of the store
            (``"reference"``). ``"inner"`` is refused where it would take genes from the store.
        source_name
            What the obs column ``source`` says of the new cells. By default, where the store has
            that column, the path of their source, and ``"AnnData"`` for an object in memory.
            :meth:`sources` has the same names.
        allow_loss
            Go on where only one side has a layer, an array of obsm, raw or a graph, and where genes
            come and the store has arrays of varm; the new version does not have it, and the older
            ones do.
        fill_layers
            Take a layer that the source or the store lacks as zeros in its cells, and name it in
            ``uns["by_source"]``, under ``absent_layers``.
        allow_disjoint
            Append a source that has no gene in common with the store: mostly its genes are named
            in another way.

        Returns
        -------
        Report
            The new version; ``sources`` tells of each source how many of its genes the store had
            (``genes_matched``), got (``genes_new``) and left out (``genes_left_out``), and how many
            of the store's it lacks (``genes_lacking``).

        Raises
        ------
        InvalidArgumentError
            For a source that has no gene in common with the store, without ``allow_disjoint``.
        InputError
            For what cannot be united, by name, without ``allow_loss``; for a malformed source.

        Examples
        --------
        >>> from slaf import SLAFArray
        >>> slaf_array = SLAFArray(growing_path)
        >>> slaf_array.append(h5ad_path, allow_loss=True).written
        ['6 cells']
        >>> slaf_array.shape
        (12, 4)
        """
        if join not in ("outer", "inner", "reference"):
            raise invalid(f"join is 'outer', 'inner' or 'reference', not {join!r}")
        options = AppendOptions(
            join=join,
            source_name=None if source_name is None else text("source_name", source_name),
            shown=None,
            allow_loss=flag("allow_loss", allow_loss),
            fill_layers=flag("fill_layers", fill_layers),
            allow_disjoint=flag("allow_disjoint", allow_disjoint),
            measured=None,
            stores={},
        )
        if isinstance(source, (str, os.PathLike, Growing)):
            source = [source]
        if hasattr(source, "obs_names") and hasattr(source, "var_names"):
            from slaf.data.converter import h5ad_beside
            from slaf.integrations._origin import measured_in
            from slaf.integrations.anndata import LazyAnnData

            measured = measured_in(source) if isinstance(source, LazyAnnData) else None
            with h5ad_beside(source, self._store.path) as file:
                shown = options.source_name or _IN_MEMORY
                return self._append([str(file)], replace(options, shown=shown, measured=measured))
        if isinstance(source, Sequence) and not isinstance(source, (bytes, bytearray)):
            stores = {i: s._store for i, s in enumerate(source) if isinstance(s, Growing)}
            opened = {i: (s.version, s.storage_options) for i, s in stores.items()}
            return self._append([_path_of(s) for s in source], replace(options, stores=opened))
        raise invalid(f"append takes paths, stores and AnnData, not a {type(source).__name__}")

    def _append(self, sources: list[str], options: AppendOptions) -> Report:
        with bar() as progress:
            told = _slaf.append(
                self._store.path, sources, options, grow_options(self._store), progress
            )
        return self._told(told)

    def add_obs(self, columns: Any, on: str | None = None, *, overwrite: bool = False) -> Report:
        """Add columns to the annotation of the cells, as one new version.

        Nothing else is rewritten. The object moves to the new version.

        Parameters
        ----------
        columns
            A frame of pandas or polars, or a mapping of names to values: one row for each cell, in
            the order of the store, unless ``on`` is given.
        on
            The column whose values say to which cell a row belongs: ``"cell_id"``, or the name of
            a column that obs has, too. Cells of which the table says nothing get missing values.
        overwrite
            Replace columns of the same name.

        Returns
        -------
        Report
            The new version, and what was written.

        Raises
        ------
        AlreadyExistsError
            For a name that is taken, without ``overwrite``.
        InvalidArgumentError
            For another number of rows, and for keys that are missing or come twice.
        UnknownNameError
            For keys that the store does not have.

        Examples
        --------
        >>> from slaf import SLAFArray
        >>> slaf_array = SLAFArray(growing_path)
        >>> slaf_array.add_obs({"rank": [0.5, 1.5, 2.5, 3.5, 4.5, 5.5]}).written
        ['obs/rank']
        >>> import pandas as pd
        >>> table = pd.DataFrame({"cell_id": ["cell5", "cell0"], "label": ["b", "a"]})
        >>> slaf_array.add_obs(table, on="cell_id").written
        ['obs/label']
        >>> slaf_array.obs["label"].to_list()
        ['a', None, None, None, None, 'b']
        """
        return self._add({"obs": self._columns("obs", columns, on)}, overwrite)

    def add_var(self, columns: Any, on: str | None = None, *, overwrite: bool = False) -> Report:
        """Add columns to the annotation of the genes; see :meth:`add_obs`."""
        return self._add({"var": self._columns("var", columns, on)}, overwrite)

    def add_layer(self, name: str, matrix: Any, *, overwrite: bool = False) -> Report:
        """Add a layer, as one new version.

        Parameters
        ----------
        name
            Its name.
        matrix
            cells x genes, in the order of the store: a matrix of SciPy or numpy, or a lazy matrix.
        overwrite
            Replace the layer of this name.
        """
        name = text("name", name)
        return self._add({"layers": {name: _in_memory(matrix, self._store.shape)}}, overwrite)

    def add_embedding(
        self,
        key: str,
        array: Any,
        axis: Literal["cell", "gene"] = "cell",
        *,
        overwrite: bool = False,
    ) -> Report:
        """Add an array beside the cells (obsm) or genes (varm), as one new version.

        Parameters
        ----------
        key
            Its name, ``"X_pca"`` for example.
        array
            A row for each cell or gene, in the order of the store.
        axis
            ``"cell"`` or ``"gene"``.
        overwrite
            Replace the array of this name.
        """
        key, slot = text("key", key), f"{axis_of(axis)}m"
        n = self._store.shape[0 if slot == "obsm" else 1]
        value = array if hasattr(array, "shape") else _array(array)
        if len(value.shape) != 2 or value.shape[0] != n:
            raise invalid(f"{slot}[{key!r}] has {n} rows and some columns, not shape {value.shape}")
        return self._add({slot: {key: value}}, overwrite)

    def add_obsp(self, key: str, matrix: Any, *, overwrite: bool = False) -> Report:
        """Add a graph of the cells (obsp), as one new version.

        Parameters
        ----------
        key
            Its name, ``"connectivities"`` for example.
        matrix
            cells x cells, in the order of the store.
        overwrite
            Replace the graph of this name.
        """
        key, n = text("key", key), self._store.shape[0]
        return self._add({"obsp": {key: _in_memory(matrix, (n, n))}}, overwrite)

    def set_uns(self, key: str, value: Any, *, overwrite: bool = False) -> Report:
        """Set an entry of ``uns``, as one new version.

        Others may set other entries meanwhile: theirs stay.

        Parameters
        ----------
        key
            Its name.
        value
            What anndata can write.
        overwrite
            Replace the entry of this name.
        """
        text("key", key)

        def newest(_: int) -> Store:
            self.refresh()
            return self._store

        def merged(uns: Mapping[str, Any]) -> Mapping[str, Any]:
            if key in uns and not overwrite:
                what = f"uns has {key!r} already; replace it with overwrite=True"
                raise from_kind("already-exists", what, self._store.path)
            return {"uns": {**uns, key: value}}

        version, report = add_beside_uns(newest, merged)
        self._move(version)
        return report

    def rename(self, slot: str, name: str) -> Report:
        """Give a slot another name, as one new version: ``rename("obs/leiden", "cluster")``.

        Raises
        ------
        AlreadyExistsError
            If the name is taken.
        UnknownNameError
            If there is no such slot.
        """
        slot, name = text("slot", slot), text("name", name)
        return self._told(_slaf.rename(self._store.path, slot, name, grow_options(self._store)))

    def drop(self, *slots: str) -> Report:
        """Leave slots out of a new version: ``drop("obs/leiden", "layers/counts", "uns")``.

        Older versions have them, until :meth:`gc` removes these.

        Raises
        ------
        UnknownNameError
            If there is no such slot.
        """
        names = [text("a slot", slot) for slot in slots]
        return self._told(_slaf.drop_slots(self._store.path, names, grow_options(self._store)))

    def _columns(self, of: str, columns: Any, on: str | None) -> pd.DataFrame:
        """Columns as a frame in the order of the store."""
        import pandas as pd

        n = self._store.shape[0 if of == "obs" else 1]
        what = WHAT[of]
        if hasattr(columns, "get_columns"):
            columns = {series.name: _of_polars(series) for series in columns.get_columns()}
        elif hasattr(columns, "to_pandas"):
            columns = columns.to_pandas()
        if not isinstance(columns, (pd.DataFrame, Mapping)):
            raise invalid(f"columns are a frame or a mapping, not a {type(columns).__name__}")
        given = columns if isinstance(columns, pd.DataFrame) else _frame_of(columns, what)
        frame = given.set_axis([str(name) for name in given.columns], axis=1)
        repeated = frame.columns[frame.columns.duplicated()]
        if len(repeated):
            raise invalid(f"the column {repeated[0]!r} comes twice")
        if on is None:
            if len(frame) != n:
                hint = "say by which column they are matched (on=)"
                raise invalid(f"{len(frame)} rows for {n} {what}s; {hint}")
            self._check_order(of, frame, columns)
        else:
            frame = self._matched(of, frame, text("on", on))
        if not len(frame.columns):
            raise invalid("there are no columns to add")
        return frame

    def _check_order(self, of: str, frame: pd.DataFrame, columns: Any) -> None:
        """Refuse rows that say by names of the store that they belong elsewhere."""
        name = f"{WHAT[of]}_id"
        named: dict[str, Any] = {"the index": frame.index}
        if isinstance(columns, Mapping):
            named = {f"the index of {k!r}": v.index for k, v in columns.items() if _has_index(v)}
        if name in frame.columns:
            named[f"the column {name!r}"] = frame[name]
        for place, rows in named.items():
            given = list(rows)
            if not any(isinstance(row, str) for row in given):
                continue
            names = self._store.names(of, self._store.axis(of))
            known = set(names)
            is_other = (not isinstance(a, str) or a != b for a, b in zip(given, names, strict=True))
            at = next((i for i, other in enumerate(is_other) if other), None)
            if at is not None and any(isinstance(row, str) and row in known for row in given):
                raise invalid(
                    f"row {at} is {given[at]!r} in {place}, but {names[at]!r} in the store: match "
                    f"rows by a column of names (on={name!r}), or leave the names out"
                )

    def _matched(self, of: str, frame: pd.DataFrame, on: str) -> pd.DataFrame:
        """The rows of a frame for each cell or gene of the store."""
        import pandas as pd

        what = WHAT[of]
        if on not in frame.columns:
            if frame.index.name != on:
                raise from_kind("unknown-column", f"the table has no column {on!r}")
            frame = frame.reset_index()
        keys = pd.Index(frame[on].astype(object))
        if keys.hasnans:
            raise invalid(f"a row without {on!r}")
        if keys.has_duplicates:
            raise invalid(f"{on} {keys[keys.duplicated()][0]!r} comes twice in the table")
        frame = frame.drop(columns=[on])
        if on == f"{what}_id":
            places = self._store.resolve(of, [str(k) for k in keys])
            rows = np.full(self._store.shape[0 if of == "obs" else 1], -1)
            rows[places] = np.arange(len(keys))
        else:
            there = getattr(self, of)
            if on not in there.columns:
                names = ", ".join(there.columns)
                raise from_kind("unknown-column", f"{of} has no column {on!r}; it has {names}")
            stored = there[on].to_pandas().astype(object)
            unknown = keys[~keys.isin(stored)]
            if len(unknown):
                raise from_kind(f"unknown-{what}", f"no {what} has {on} {unknown[0]!r}")
            rows = keys.get_indexer(pd.Index(stored))
        return _taken(frame, rows)


def _path_of(source: Any) -> str:
    """The path or address of something to append."""
    return source._store.path if isinstance(source, Growing) else path_text("a source", source)


def _array(values: Any) -> Any:
    """Rows of numbers as an array."""
    try:
        return np.asarray(values)
    except (TypeError, ValueError) as e:
        raise invalid(f"no array can be made of it: {e}") from e


def _taken(frame: pd.DataFrame, rows: Any) -> pd.DataFrame:
    """Rows by their places, -1 for one that is missing; whole numbers stay whole."""
    import pandas as pd

    if (rows < 0).any():
        made = {}
        for at, name in enumerate(frame.columns):
            dtype = frame.iloc[:, at].dtype
            if isinstance(dtype, np.dtype) and dtype.kind in "iub":
                made[name] = pd.Series(frame.iloc[:, at]).convert_dtypes(
                    convert_string=False, convert_floating=False
                )
                if dtype.kind in "iu":
                    made[name] = made[name].astype(
                        dtype.name.replace("i", "I", 1).replace("uI", "UI")
                    )
        frame = frame.assign(**made)
    frame = frame.reset_index(drop=True)
    return frame.reindex(np.where(rows < 0, len(frame), rows)).reset_index(drop=True)


def _frame_of(columns: Mapping[Any, Any], what: str) -> pd.DataFrame:
    """A frame of columns, whatever index each has."""
    import pandas as pd

    for name, values in columns.items():
        if isinstance(values, (str, bytes)) or not hasattr(values, "__len__"):
            raise invalid(f"{name!r} is one value: give a sequence, with a value for each {what}")
    lengths = {name: len(values) for name, values in columns.items()}
    if len(set(lengths.values())) > 1:
        raise invalid(f"columns of different lengths: {lengths}")
    plain = {k: v.reset_index(drop=True) if _has_index(v) else v for k, v in columns.items()}
    try:
        return pd.DataFrame(plain)
    except (TypeError, ValueError) as e:
        raise invalid(f"no columns can be made of it: {e}") from e


def _has_index(values: Any) -> bool:
    import pandas as pd

    return isinstance(values, pd.Series)


def _in_memory(matrix: Any, shape: tuple[int, int]) -> Any:
    """A matrix of this shape; a sparse one in a format that AnnData takes."""
    from slaf.integrations._lazy import LazyMatrix

    value = matrix.to_memory() if isinstance(matrix, LazyMatrix) else matrix
    if not hasattr(value, "shape"):
        value = _array(value)
    if tuple(value.shape) != tuple(shape):
        raise invalid(
            f"the matrix has {shape[0]} x {shape[1]} values, not shape {tuple(value.shape)}"
        )
    # A dense one has no format.
    return value if getattr(value, "format", "csr") in ("csr", "csc") else value.tocsr()


def _of_polars(series: Any) -> Any:
    """A column of polars; whole numbers and booleans stay what they are where some are missing."""
    import pandas as pd

    if series.null_count() and (series.dtype.is_integer() or str(series.dtype) == "Boolean"):
        dtype = "boolean" if str(series.dtype) == "Boolean" else str(series.dtype)
        return pd.array(series.to_list(), dtype=dtype)
    try:
        return series.to_pandas()
    except (TypeError, ValueError) as e:
        raise invalid(f"a column of type {series.dtype} fits neither obs nor var: {e}") from e
