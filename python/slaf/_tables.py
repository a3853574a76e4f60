"""The tables of a store for polars and DuckDB."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from slaf import _duckdb_limits, _frames
from slaf._errors import from_kind, invalid
from slaf._forks import check_polars
from slaf._store import Store

if TYPE_CHECKING:
    import duckdb
    import polars as pl

# Rows of a batch for polars: a filter of its own runs on each.
_BATCH = 1 << 20


def _schema(store: Store, table: str) -> pl.Schema:
    if table not in store.native.tables():
        there = ", ".join(store.native.tables())
        raise from_kind("unknown-table", f"no table {table!r}; the store has {there}", store.path)
    quoted = table.replace('"', '""')
    sql = f'SELECT * FROM "{quoted}" LIMIT 0'
    return _frames.of_stream(store.native.query(sql, None, None, [], "slaf", False)).schema


def scan(store: Store, table: str) -> pl.LazyFrame:
    """Give a table as a ``polars.LazyFrame``; see :meth:`slaf.SLAFArray.scan`."""
    import polars as pl
    from polars.io.plugins import register_io_source

    check_polars(f"a scan of {table}")
    schema = _schema(store, table)
    sides = _sides(schema)

    def read(
        with_columns: list[str] | None,
        predicate: pl.Expr | None,
        n_rows: int | None,
        batch_size: int | None,
    ) -> Iterator[pl.DataFrame]:
        wanted = list(schema) if with_columns is None else with_columns
        rows: npt.NDArray[np.int64] | None = None
        cols: npt.NDArray[np.int64] | None = None
        used = list(wanted)
        if predicate is not None:
            rows, cols = (_chosen(store, schema, side, predicate) for side in sides)
            used += [c for c in dict.fromkeys(predicate.meta.root_names()) if c not in wanted]
        types = pl.Schema({name: schema[name] for name in used})
        for frame in _batches(store, table, types, rows, cols, batch_size or _BATCH):
            if predicate is not None:
                frame = frame.filter(predicate)
            frame = frame.select(wanted)
            if n_rows is not None:
                frame = frame.head(n_rows)
                n_rows -= frame.height
            yield frame
            if n_rows == 0:
                return

    return register_io_source(read, schema=schema, is_pure=True)


def _batches(
    store: Store,
    table: str,
    schema: pl.Schema,
    rows: npt.NDArray[np.int64] | None,
    cols: npt.NDArray[np.int64] | None,
    batch_size: int,
) -> Iterator[pl.DataFrame]:
    """Read batches of at least `batch_size` rows, but for the last; at least one."""
    import polars as pl

    stream = store.native.scan(table, list(schema), rows, cols)
    # The empty frame is the answer where nothing comes.
    parts = [pl.DataFrame(schema=schema)]
    n = 0
    for part in map(pl.DataFrame, stream):
        parts.append(part.cast({name: schema[name] for name in schema}))
        n += part.height
        if n >= batch_size:
            yield pl.concat(parts)
            parts, n = [], 0
    if parts:
        yield pl.concat(parts)


# The columns of a table of stored values that are about its rows, and those about its columns.
_CELLS = ("obs", "cell_integer_id", "cell_id")
_GENES = ("var", "gene_integer_id", "gene_id")
_OTHER_CELLS = ("obs", "other_cell_integer_id", "other_cell_id")
_OTHER_GENES = ("var", "other_gene_integer_id", "other_gene_id")


def _sides(schema: pl.Schema) -> list[tuple[str, str, str] | None]:
    if "other_cell_id" in schema:
        return [_CELLS, _OTHER_CELLS]
    if "other_gene_id" in schema:
        return [_GENES, _OTHER_GENES]
    if "cell_integer_id" in schema and "gene_integer_id" in schema:
        return [_CELLS, _GENES]
    return [None, None]


def _conjuncts(predicate: pl.Expr) -> list[pl.Expr]:
    """The conditions that a predicate joins by AND."""
    parts = predicate.meta.pop()
    if len(parts) == 2:
        for left, right in (parts, parts[::-1]):
            if predicate.meta.eq(left & right):
                return _conjuncts(left) + _conjuncts(right)
    return [predicate]


def _chosen(
    store: Store, schema: pl.Schema, side: tuple[str, str, str] | None, predicate: pl.Expr
) -> npt.NDArray[np.int64] | None:
    """The cells or genes that a predicate leaves, by its conditions on their ids alone."""
    import polars as pl

    if side is None:
        return None
    of, number, name = side
    about = [
        c for c in _conjuncts(predicate) if (r := set(c.meta.root_names())) and r <= {number, name}
    ]
    if not about:
        return None
    columns = {number: pl.int_range(len(store.axis(of)), dtype=pl.Int64, eager=True)}
    if any(name in c.meta.root_names() for c in about):
        columns[name] = _frames.names(store, of, store.axis(of)).cast(schema[name])
    frame = pl.DataFrame(columns)
    return frame.filter(*about)[number].to_numpy()


def connect(
    store: Store,
    connection: duckdb.DuckDBPyConnection | None = None,
    tables: Mapping[str, pl.DataFrame] | None = None,
    dialect: str = "slaf",
) -> duckdb.DuckDBPyConnection:
    """Register the tables on a DuckDB connection; see :meth:`slaf.SLAFArray.duckdb`.

    Parameters
    ----------
    tables, dialect
        As in :meth:`slaf.SLAFArray.query`, for a connection of our own.
    """
    try:
        import duckdb
    except ImportError as e:
        raise from_kind(
            "unsupported-feature", "DuckDB is not installed: pip install 'slaf[duckdb]'"
        ) from e
    check_polars("DuckDB")
    if connection is None:
        own = duckdb.connect()
        # A query reads the tables of the store, and nothing else.
        _duckdb_limits.set_limits(own)
        own.execute("SET enable_external_access = false")
        own.execute("SET python_enable_replacements = false")
        _register(store, own)
        for name, frame in (tables or {}).items():
            try:
                own.register(name, frame)
            except duckdb.Error as e:
                raise invalid(f"table {name!r}: {e}") from e
        if dialect == "standard":
            own.execute("SET integer_division = true")
        own.execute("SET lock_configuration = true")
        return own
    if not isinstance(connection, duckdb.DuckDBPyConnection):
        raise invalid(f"a connection of DuckDB is needed, not {type(connection).__name__}")
    _register(store, connection)
    return connection


_AS_DATAFUSION = (
    "nvl(a, b) AS coalesce(a, b)",
    "iif(a, b, c) AS CASE WHEN a THEN b ELSE c END",
    "signum(x) AS sign(x)",
    "btrim(text) AS trim(text), (text, characters) AS trim(text, characters)",
    "regexp_like(text, pattern) AS regexp_matches(text, pattern)",
    "array_min(list) AS list_min(list)",
    "array_max(list) AS list_max(list)",
    "to_char(date, format) AS strftime(date, format)",
    "iszero(x) AS x = 0",
    "l2_distance(a, b) AS list_distance(a::DOUBLE[], b::DOUBLE[])",
    # NULL for what has no direction.
    "cosine_distance(a, b) AS "
    "nullif(list_cosine_distance(a::DOUBLE[], b::DOUBLE[]), 'nan'::DOUBLE)",
    "inner_product(a, b) AS list_inner_product(a::DOUBLE[], b::DOUBLE[])",
    "nanvl(a, b) AS CASE WHEN isnan(a) THEN b ELSE a END",
)


def _register(store: Store, connection: duckdb.DuckDBPyConnection) -> None:
    for table in store.native.tables():
        connection.register(table, scan(store, table))
    connection.execute("CREATE OR REPLACE TEMP MACRO log1p(x) AS ln(1 + x::DOUBLE)")
    # Functions that DataFusion has by these names.
    for macro in _AS_DATAFUSION:
        connection.execute(f"CREATE OR REPLACE TEMP MACRO {macro}")
    connection.execute(
        "CREATE OR REPLACE TEMP MACRO normalize(value, total, target) AS "
        "value::DOUBLE / total::DOUBLE * target::DOUBLE"
    )
    # As DataFusion's: whole numbers of whole numbers, rounded towards zero.
    connection.execute(
        "CREATE OR REPLACE TEMP MACRO div(a BIGINT, b BIGINT) AS a // b, "
        "(a DOUBLE, b DOUBLE) AS trunc(a / b)"
    )


# EXPLAIN with its options, behind comments.
_EXPLAIN = re.compile(
    r"\A(\s|--[^\n]*(\n|\Z)|/\*.*?\*/)*EXPLAIN\s*(\([^)]*\))?(\s*ANALYZE\b)?",
    re.IGNORECASE | re.DOTALL,
)


def _is_read(connection: duckdb.DuckDBPyConnection, statement: duckdb.Statement) -> bool:
    """Tell whether a statement only reads.

    PIVOT over the values of a column is several statements to DuckDB, as is what writes its
    result; what can stand in a FROM clause writes nothing.
    """
    import duckdb

    reads = (duckdb.StatementType.SELECT,)
    text = statement.query.strip().rstrip(";")
    if statement.type == duckdb.StatementType.EXPLAIN:
        # EXPLAIN ANALYZE does what it explains.
        explained = connection.extract_statements(_EXPLAIN.sub("", text))
        return len(explained) == 1 and (
            explained[0].type != statement.type and _is_read(connection, explained[0])
        )
    if statement.type != duckdb.StatementType.MULTI:
        return statement.type in reads
    try:
        return len(connection.extract_statements(f"FROM (\n{text}\n)")) == 1
    except duckdb.ParserException:
        return False


def query_duckdb(
    store: Store,
    sql: str,
    params: Any,
    timeout: float | None,
    tables: Mapping[str, pl.DataFrame],
    dialect: str,
) -> pl.DataFrame:
    """Run one query in DuckDB."""
    if dialect not in ("slaf", "standard"):
        raise invalid(f"no dialect {dialect!r}; there are 'slaf' and 'standard'")
    _duckdb_limits.check_timeout(timeout)
    start = time.monotonic()
    connection = connect(store, None, tables, dialect)
    import duckdb

    def answer() -> pl.DataFrame:
        _duckdb_limits.check_names(sql)
        statements = connection.extract_statements(sql)
        if len(statements) != 1:
            raise from_kind("invalid-query", "pass one query at a time")
        if not _is_read(connection, statements[0]):
            raise from_kind("read-only", "only queries are allowed: a store is not changed by SQL")
        return _duckdb_limits.collect(connection.sql(sql, params=params))

    try:
        return _duckdb_limits.run(connection, answer, timeout, start)
    except duckdb.Error as e:
        raise _duckdb_limits.from_duckdb(e) from e
