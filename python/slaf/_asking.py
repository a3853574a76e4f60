"""Questions to a store in SQL, and its tables in the engines of others."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from slaf import _frames, _parameters, _tables
from slaf._errors import invalid
from slaf._slaf import ArrowStream
from slaf._store import Store

if TYPE_CHECKING:
    import duckdb
    import polars as pl


class Asking:
    """What a :class:`slaf.SLAFArray` answers in SQL."""

    @property
    @abstractmethod
    def _store(self) -> Store:
        """The store."""

    def query(
        self,
        sql: str,
        params: Any = None,
        engine: str = "datafusion",
        *,
        tables: Mapping[str, Any] | None = None,
        dialect: str = "slaf",
        timeout: float | None = None,
        measured: bool = False,
    ) -> pl.DataFrame:
        """Ask in SQL.

        Tables are ``cells`` (``cell_id``, ``cell_integer_id``, every column of obs, every array of
        obsm as a list), ``genes`` (``gene_id``, ``gene_integer_id``, every column of var),
        ``expression`` (``cell_integer_id``, ``gene_integer_id``, ``value``, ``cell_id``,
        ``gene_id``; one row for each stored value of X), ``layers`` (the ids and a column for each
        layer) and ``obsp_<key>`` and ``varp_<key>``. A gene is a column of ``cells``, by its id or
        by its symbol. A missing number of obs or var (NaN) is NULL. ``sources()`` and
        ``measured()`` are tables of what was measured, which ``source_of(cell_integer_id)`` joins
        with cells.

        Parameters
        ----------
        sql
            One query. It cannot write, and cannot reach anything but the tables. In DataFusion's
            dialect, a word in double quotes that names no column and is compared with text is a
            string.
        params
            Values for the parameters of the query: a sequence for ``?`` or ``$1``, a dict for
            ``$name``. They never become a part of the text. A list, a set, an array or a column
            is for ``IN ?`` or ``= ANY($name)``.
        engine
            ``"datafusion"``, or ``"duckdb"`` for the dialect of the installed DuckDB. DuckDB reads
            what its filters on ids leave of ``expression`` into memory, and knows no genes as
            columns.
        tables
            Frames of pandas, polars or Arrow that are tables of this query, by their names. Of a
            pandas frame, the levels of the index that have names are columns, too, and NaN is
            NULL.
        dialect
            ``"slaf"``, or ``"standard"``, where every word in double quotes is a name and ``/``
            of whole numbers gives a whole number.
        timeout
            Seconds after which the query is stopped, its planning included.
        measured
            A gene as a column of ``cells`` is NULL in cells in which it was not measured, and not
            0 (see :meth:`sources`).

        Raises
        ------
        InvalidArgumentError
            For parameters that do not fit to the query, and tables that are no frames.
        QueryError
            If the text is wrong, or is no query.
        UnknownNameError
            If there is no such column or table, or a gene's symbol is not unique.
        TimeLimitError
            After the timeout.
        MemoryLimitError
            If the query or its result needs more memory than ``SLAF_QUERY_MEMORY`` says.

        Examples
        --------
        >>> from slaf import SLAFArray
        >>> slaf_array = SLAFArray(store_path)
        >>> slaf_array.query("SELECT cell_id, gene1 FROM cells WHERE gene1 > ?", [5])
        shape: (1, 2)
        ┌─────────┬───────┐
        │ cell_id ┆ gene1 │
        │ ---     ┆ ---   │
        │ str     ┆ f32   │
        ╞═════════╪═══════╡
        │ cell5   ┆ 8.0   │
        └─────────┴───────┘

        >>> import pandas as pd
        >>> mine = pd.DataFrame({"batch": ["b1", "b2"], "site": ["Ulm", "Bern"]})
        >>> slaf_array.query(
        ...     "SELECT site, COUNT(*) AS n FROM cells JOIN mine USING (batch) "
        ...     "WHERE cell_id IN $wanted GROUP BY site ORDER BY site",
        ...     {"wanted": ["cell0", "cell1", "cell3"]},
        ...     tables={"mine": mine},
        ... ).rows()
        [('Bern', 1), ('Ulm', 2)]
        """
        if engine not in ("datafusion", "duckdb"):
            raise invalid(f"no engine {engine!r}; there are 'datafusion' and 'duckdb'")
        asked = _parameters.asked(self._store, sql, params, timeout, tables, dialect, measured)
        if engine == "duckdb":
            sql, params, timeout, frames, dialect, measured = asked
            if measured:
                raise invalid("measured= is about genes as columns, which DuckDB does not have")
            return _tables.query_duckdb(self._store, sql, params, timeout, dict(frames), dialect)
        return _frames.of_stream(self._store.native.query(*asked))

    def query_stream(
        self,
        sql: str,
        params: Any = None,
        *,
        tables: Mapping[str, Any] | None = None,
        dialect: str = "slaf",
        timeout: float | None = None,
        measured: bool = False,
    ) -> ArrowStream:
        """Ask in SQL for an answer that does not fit in memory.

        Parameters
        ----------
        sql, params, tables, dialect, measured
            As in :meth:`query`, by DataFusion.
        timeout
            Seconds that the query may take. The time between reads does not count.

        Returns
        -------
        ArrowStream
            For any library that reads ``__arrow_c_stream__``, for example
            ``pyarrow.RecordBatchReader.from_stream``; it can be read once.
        """
        asked = _parameters.asked(self._store, sql, params, timeout, tables, dialect, measured)
        return self._store.native.query_stream(*asked)

    def scan(self, table: str) -> pl.LazyFrame:
        """Give a table of :meth:`query` as a ``polars.LazyFrame``.

        Only the columns that are used are read. Conditions on the ids and numbers of cells and
        genes choose what is read; other conditions are applied batch by batch.

        Raises
        ------
        UnknownNameError
            If there is no such table.

        Examples
        --------
        >>> import polars as pl
        >>> from slaf import SLAFArray
        >>> expression = SLAFArray(store_path).scan("expression")
        >>> expression.filter(pl.col("gene_id") == "gene1").select(pl.col("value").sum()).collect()
        shape: (1, 1)
        ┌───────┐
        │ value │
        │ ---   │
        │ f32   │
        ╞═══════╡
        │ 11.0  │
        └───────┘
        """
        return _tables.scan(self._store, table)

    def duckdb(self, connection: Any = None) -> duckdb.DuckDBPyConnection:
        """Give a DuckDB connection on which the tables of :meth:`query` are registered.

        Parameters
        ----------
        connection
            A connection to register them on. By default a new one in memory, which can reach
            neither files nor the network and whose settings are locked.

        Returns
        -------
        duckdb.DuckDBPyConnection
            The connection; columns and conditions on ids are pushed into the reads.

        Raises
        ------
        UnsupportedError
            If DuckDB is not installed (``pip install 'slaf[duckdb]'``).
        """
        return _tables.connect(self._store, connection)
