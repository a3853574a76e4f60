"""The SQL and submatrix face of a store."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from datetime import datetime, timezone
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from slaf import _conditions, _frames
from slaf._asking import Asking
from slaf._async import Asynchronous
from slaf._errors import invalid
from slaf._expression import Expression
from slaf._growing import Growing
from slaf._indexing import Indexing
from slaf._io_stats import KINDS, IoStats
from slaf._keywords import keywords
from slaf._measured import Measured
from slaf._numbers import text
from slaf._progress import bar
from slaf._report import Report
from slaf._search import Search
from slaf._selectors import Axis
from slaf._slaf import ArrowStream, Column
from slaf._store import WHAT, Store

if TYPE_CHECKING:
    import polars as pl

# Frames of larger data sets are read when they are touched, not in the background.
_BACKGROUND_LIMIT = 2_000_000
# Of a frame that was read, so many times the rows that were given cost as much to show as all.
_ROWS_AT_ONCE = 8


class Version(NamedTuple):
    """A committed version of a store."""

    version: int
    created: datetime
    operation: str
    n_obs: int
    n_vars: int
    tags: tuple[str, ...] = ()


class Damage(NamedTuple):
    """A file of a store that is not as it was committed."""

    #: Its path below the store.
    file: str
    #: How it differs.
    reason: str


class SLAFArray(Asking, Expression, Measured, Search, Indexing, Growing, Asynchronous):
    """A store of single-cell data, opened at one version.

    Whatever others commit later, an object answers from the version that it opened, until
    :meth:`refresh` or a change of its own moves it to a newer one.
    Objects can be pickled and shared between threads; a forked child reopens the store when it
    first uses it.

    Parameters
    ----------
    path
        A local path, or a URI: ``file://``, ``s3://``, ``gs://``, ``az://``.
    version
        The version to open, its tag, or a time at which it was the newest; the newest by default.
    storage_options
        Options of the object store, for example ``{"aws_region": "eu-central-1"}``.
    load_metadata
        Begin at once to read :attr:`obs` and :attr:`var` in the background (data sets of up to
        2,000,000 cells on a local disk). Otherwise they are read when they are touched.
    verify
        ``"first-touch"`` reads each file whole and compares it with the hash that was committed,
        before something of it is used for the first time; the process remembers which files were
        right. By default this is done for what is read as a whole and, by checksums of their own,
        for all counts; :command:`slaf verify` checks all files.

    Raises
    ------
    NotFoundError
        If there is nothing at ``path``, or no such version.
    NotAStoreError
        If something else is there.

    Examples
    --------
    >>> from slaf import SLAFArray
    >>> slaf_array = SLAFArray(store_path)
    >>> slaf_array.shape
    (6, 4)
    >>> slaf_array.query("SELECT batch, COUNT(*) AS n FROM cells GROUP BY batch ORDER BY n")
    shape: (2, 2)
    ┌───────┬─────┐
    │ batch ┆ n   │
    │ ---   ┆ --- │
    │ cat   ┆ i64 │
    ╞═══════╪═════╡
    │ b2    ┆ 2   │
    │ b1    ┆ 4   │
    └───────┴─────┘
    """

    @keywords(renamed={"slaf_path": "path"}, ignored={"cache_dir": None})
    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        version: int | str | datetime | None = None,
        storage_options: Mapping[str, str] | None = None,
        load_metadata: bool = True,
        verify: Literal["first-touch"] | None = None,
    ):
        self._load_metadata = load_metadata
        self._show(Store(path, version, storage_options, verify))

    def _show(self, store: Store) -> None:
        self._opened: Store | None = store
        self._frames: dict[str, pl.DataFrame] = {}
        self._rows_given = {"obs": 0, "var": 0}
        # In an object store, what nobody asks for takes the time of what somebody does.
        is_local = "://" not in store.path or store.path.startswith("file://")
        if self._load_metadata and is_local and self.n_obs <= _BACKGROUND_LIMIT:
            store.native.load_frames()

    def _move(self, version: int) -> None:
        store = self._store
        self._show(Store(store.path, version, store.storage_options, store.verify))

    @property
    def _store(self) -> Store:
        if self._opened is None:
            raise invalid("this SLAFArray is closed")
        return self._opened

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopen, (self._store, self._load_metadata)

    def __enter__(self) -> SLAFArray:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Release what the object holds; using it afterwards is an error."""
        self._opened = None
        self._frames = {}

    def __repr__(self) -> str:
        if self._opened is None:
            return "SLAFArray(closed)"
        return f"SLAFArray({self.path!r}, version={self.version}, shape={self.shape})"

    def __len__(self) -> int:
        return self.n_obs

    @property
    def path(self) -> str:
        """The path or URI that was opened."""
        return self._store.path

    @property
    def version(self) -> int:
        """The version that was opened."""
        return self._store.version

    @property
    def shape(self) -> tuple[int, int]:
        """Number of cells and number of genes."""
        return self._store.shape

    @property
    def n_obs(self) -> int:
        """Number of cells."""
        return self.shape[0]

    @property
    def n_vars(self) -> int:
        """Number of genes."""
        return self.shape[1]

    def versions(self) -> list[Version]:
        """List the committed versions of the store, oldest first."""
        return [
            Version(
                v.version,
                datetime.fromtimestamp(v.created, timezone.utc),
                v.operation,
                v.n_cells,
                v.n_genes,
                tuple(v.tags),
            )
            for v in self._store.native.versions()
        ]

    def io_stats(self) -> IoStats:
        """Tell what was asked of the object store since this version was opened.

        All requests are counted, by whatever part of the library they are made; those that a client
        repeats after a failure count once. A store on a local disk is not reached by requests: of
        it only cache hits are counted. :meth:`refresh` and changes open another version, whose
        counts begin at 0.

        Returns
        -------
        IoStats
            ``requests`` by kind, ``n_requests``, ``bytes_read``, ``bytes_written``, ``cache_hits``
            and ``seconds``. Subtract an earlier one for what happened in between.
        """
        requests, read, written, hits, seconds = self._store.native.io_stats()
        kinds = {kind: n for kind, n in zip(KINDS, requests, strict=True) if n}
        return IoStats(kinds, read, written, hits, seconds)

    def info(self) -> Report:
        """Print a summary of the store, and give it as an object.

        Returns
        -------
        Report
            The numbers as attributes (``n_cells``, ``n_genes``, ``nnz``, ...), the text as
            ``str()``.
        """
        report = Report(*self._store.native.info())
        print(report)
        return report

    def verify(self, quick: bool = False) -> list[Damage]:
        """Compare every file of this version with the length and the hash that were committed.

        Where all are right, what the version says of itself is compared with what its tables hold.

        Parameters
        ----------
        quick
            Compare lengths alone, and open the tables: finds what is missing or was cut, and
            reads next to nothing.

        Returns
        -------
        list of Damage
            The files that differ, each with its path below the store and how it differs; empty if
            the store is as it was committed.

        Examples
        --------
        >>> SLAFArray(store_path).verify()
        []
        """
        return [Damage(file, reason) for file, reason in self._store.native.verify(quick)]

    @property
    def obs(self) -> pl.DataFrame:
        """Annotation of the cells, in row order.

        The columns ``cell_id`` and ``cell_integer_id`` (the row number) come first. Categoricals
        are ``polars.Enum`` with their categories in order, missing numbers are null. A column of
        the data that has the name of one of these two gets ``obs:`` before its name, here and in
        SQL.
        """
        return self._frame("obs")

    @property
    def var(self) -> pl.DataFrame:
        """Annotation of the genes; as :attr:`obs`, with ``gene_id`` and ``gene_integer_id``."""
        return self._frame("var")

    def _frame(self, of: str) -> pl.DataFrame:
        if of not in self._frames:
            stream = self._store.native.frame(of)
            self._frames[of] = self._to_polars(stream, of, self._store.axis(of))
        return self._frames[of]

    def _rows(self, of: str, rows: Axis) -> pl.DataFrame:
        """Some rows of obs or var, read alone unless the frame is there already.

        Once as many rows were given as there are, or a part of them where the frame was read in the
        background, the whole frame has been paid for, and it stays.
        """
        self._rows_given[of] += len(rows)
        n_rows = len(self._store.axis(of))
        paid = self._rows_given[of] * (_ROWS_AT_ONCE if self.is_metadata_ready() else 1)
        if of in self._frames or n_rows <= min(paid, _BACKGROUND_LIMIT):
            return self._frame(of)[rows.array()]
        return self._to_polars(self._store.native.frame_rows(of, rows.native()), of, rows)

    def _to_polars(self, stream: ArrowStream, of: str, rows: Axis) -> pl.DataFrame:
        return _frames.to_polars(stream, self._store, of, rows)

    def is_metadata_ready(self) -> bool:
        """Tell whether :attr:`obs` and :attr:`var` are in memory."""
        return self._store.native.frames_loaded()

    def wait_for_metadata(self, timeout: float | None = None) -> bool:
        """Wait until :attr:`obs` and :attr:`var` are in memory, reading them if nothing else does.

        Parameters
        ----------
        timeout
            Seconds to wait at most; ``None`` waits for as long as it takes.

        Returns
        -------
        bool
            Whether they are in memory: ``False`` only after the timeout.
        """
        native = self._store.native
        if timeout is None:
            native.frame("obs")
            native.frame("var")
            return True
        end = time.monotonic() + timeout
        native.load_frames()
        while not native.frames_loaded():
            left = end - time.monotonic()
            if left <= 0:
                return False
            time.sleep(min(left, 0.01))
        return True

    def filter_cells(self, where: str | None = None, /, **conditions: Any) -> pl.DataFrame:
        """Give the rows of :attr:`obs` that fulfil all conditions.

        Parameters
        ----------
        where
            A condition in SQL.
        **conditions
            For a column: a scalar (equals; ``None`` means missing), a list (is one of), or for
            a numeric column a text such as ``">=500"``. On a text column a text is always a
            value, whatever it begins with.

        Raises
        ------
        UnknownNameError
            If there is no such column.
        InvalidArgumentError
            If a condition does not fit to the type of its column.

        Examples
        --------
        >>> slaf_array = SLAFArray(store_path)
        >>> slaf_array.filter_cells(batch="b1", n_counts=">=2")["cell_id"].to_list()
        ['cell1', 'cell2']
        >>> slaf_array.filter_cells("n_counts >= 2 AND batch = 'b1'").height
        2
        """
        return self._filter("obs", where, conditions)

    def filter_genes(self, where: str | None = None, /, **conditions: Any) -> pl.DataFrame:
        """Give the rows of :attr:`var` that fulfil all conditions; see :meth:`filter_cells`."""
        return self._filter("var", where, conditions)

    def _filter(self, of: str, where: str | None, conditions: dict[str, Any]) -> pl.DataFrame:
        rows = self._store.axis(of)
        everything = np.ones(len(rows), dtype=np.bool_)
        fulfilled = everything if where is None else self._where(of, where)
        for column, condition in zip(
            self._condition_columns(of, list(conditions)), conditions.values(), strict=True
        ):
            fulfilled &= _conditions.mask(column, condition)
        # Names and the other columns are read of these rows alone.
        return self._rows(of, rows.select(np.flatnonzero(fulfilled)))

    def _where(self, of: str, condition: str) -> npt.NDArray[np.bool_]:
        """Tell which rows of obs or var fulfil a condition in SQL."""
        found = self._store.native.rows_where(of, text("where", condition))
        fulfilled = np.zeros(len(self._store.axis(of)), dtype=np.bool_)
        fulfilled[found] = True
        return fulfilled

    def _condition_columns(self, of: str, names: list[str]) -> list[Any]:
        """Read columns of obs or var by the names that the frame has."""
        what = WHAT[of]
        columns = self._store.column_names(of)
        stored = dict(zip(_frames.public_names(columns, of), columns, strict=True))
        name, number = f"{what}_id", f"{what}_integer_id"
        wanted = [n for n in names if n not in (name, number)]
        # The names of all cells are many objects of Python.
        read = self._store.native.columns(
            of, [stored.get(n, n) for n in wanted], None, name in names
        )
        found: dict[str, Any] = dict(zip([name] * (name in names) + wanted, read, strict=True))
        if number in names:
            found[number] = Column(number, np.arange(len(self._store.axis(of))))
        return [found[n] for n in names]

    def export(
        self,
        path: str | os.PathLike[str],
        format: str = "h5ad",  # noqa: A002 - the name in the public contract
        *,
        overwrite: bool = False,
        compression: bool = False,
    ) -> None:
        """Write the store as a file of another format.

        Which genes were measured in which cells (:meth:`sources`) is in none of them: genes that
        were not are zeros there.

        Parameters
        ----------
        path
            Where to; local.
        format
            ``"h5ad"``, ``"10x-mtx"`` (a folder), or ``"zarr"`` (a folder, as AnnData writes it).
        overwrite
            Replace what is there.
        compression
            Compress an h5ad with gzip; the folders are compressed in any case.

        Raises
        ------
        AlreadyExistsError
            If there is something at ``path``, also if it comes there meanwhile.
        InvalidArgumentError
            If ``path`` lies inside of a store.
        """
        if format == "zarr":
            from slaf.integrations._write import write_zarr
            from slaf.integrations.anndata import of_store

            write_zarr(of_store(self._store), path, overwrite=overwrite)
            return
        with bar() as progress:
            self._store.native.export(path, format, overwrite, compression, progress)


def _reopen(store: Store, load_metadata: bool) -> SLAFArray:
    return SLAFArray(
        store.path,
        version=store.version,
        storage_options=store.storage_options,
        load_metadata=load_metadata,
        verify=store.verify,
    )
