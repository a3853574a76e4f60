"""Memory and time of queries in DuckDB.

DuckDB's memory limit does not count the texts and lists that a function makes, and an interrupt
waits for the end of a function. So the functions that make much of little are macros here, which
refuse too much before it is made, and a query runs in a thread that is left behind where it does
not stop. What cannot be bounded so, functions that call others for each element of a list, is
refused by name.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import re
import tempfile
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from slaf import _processors
from slaf._errors import KINDS, SlafError, from_kind, invalid
from slaf._slaf import query_memory

if TYPE_CHECKING:
    import duckdb
    import polars as pl
    import pyarrow as pa

T = TypeVar("T")

# Rows that DuckDB computes at once.
_VECTOR = 2048
# Seconds that an interrupted query has to end.
_GRACE = 0.25
# Seconds that the end of the process waits for queries that were left behind: a thread that comes
# back from DuckDB while Python ends would abort the process.
_AT_EXIT = 3.0
_left: list[tuple[threading.Thread, duckdb.DuckDBPyConnection]] = []
# What the errors of the macros begin with.
_REFUSED = "memory-limit: "
_UNBOUNDED = "unsupported-feature: "
# Functions that make as much of a list as another function makes of each element.
_BY_ELEMENT = ("list_transform", "list_apply", "array_transform", "array_apply", "apply")
_BY_PAIR = ("list_reduce", "array_reduce", "reduce")
# The most arguments of functions that take any number.
_ARGUMENTS = 16
# A width of four digits, or one that is an argument, in formats of `format` and `printf`.
_WIDE = r"[0-9]{4}|\{[^}]*\{|%[^a-zA-Z]*\*"


def set_limits(connection: duckdb.DuckDBPyConnection) -> None:
    """Bound the memory, threads and temporary files of a connection of our own."""
    threads = _processors.count()
    folder = Path(tempfile.gettempdir()) / f".slaf-{os.getpid()}-{uuid.uuid4().hex}.tmp"
    connection.execute(f"SET memory_limit = '{query_memory()}B'")
    connection.execute(f"SET threads = {threads}")
    # It would be printed among what the user prints.
    connection.execute("SET enable_progress_bar = false")
    quoted = str(folder).replace("'", "''")
    connection.execute(f"SET temp_directory = '{quoted}'")
    for macro in _macros(max(4096, query_memory() // (2 * _VECTOR * threads))):
        connection.execute(f"CREATE OR REPLACE TEMP MACRO {macro}")


def _macros(limit: int) -> list[str]:
    """Functions in place of DuckDB's of the same name: a value has at most `limit` bytes."""

    def unless(function: str, bytes_: str, argument: str) -> str:
        # Around an argument: constants are computed whether they are needed or not.
        text = f"{_REFUSED}{function} would make a value of more than {limit} bytes"
        return f"CASE WHEN {bytes_} > {limit} THEN error('{text}') ELSE {argument} END"

    def point(of: str, unit: str) -> str:
        # Numbers, or points in time in seconds, whichever an argument is.
        text = f"{of}::VARCHAR"
        return f"coalesce(try_cast({text} AS DOUBLE), epoch(try_cast({text} AS {unit})))"

    macros = [
        "repeat(value, times) AS system.main.repeat(value, "
        + unless("repeat", "len(value)::DOUBLE * times", "times")
        + ")",
        "replace(text, old, new) AS system.main.replace("
        + unless(
            "replace",
            "length(text)::DOUBLE / greatest(length(old), 1) * length(new)",
            "text",
        )
        + ", old, new)",
    ]
    for pad in ("lpad", "rpad"):
        size = unless(pad, "size", "size")
        macros.append(f"{pad}(text, size, fill) AS system.main.{pad}(text, {size}, fill)")
    size = unless("||", "strlen(a::VARCHAR) + strlen(b::VARCHAR)", "b")
    macros.append(f'"||"(a, b) AS system.main."||"(a, {size})')
    # These take any number of arguments, which a macro does not.
    for function in ("concat", "concat_ws", "format", "printf"):
        forms = []
        for n in range(_ARGUMENTS):
            names = ["a", *(f"a{i}" for i in range(n))]
            size = " + ".join(f"coalesce(strlen({name}::VARCHAR), 0)" for name in names)
            last = names.pop()
            if function in ("format", "printf"):
                # A format may name an argument again and again.
                size = f"({size})::DOUBLE * greatest(strlen(a) // 3, 1)"
                size = f"CASE WHEN regexp_matches(a, '{_WIDE}') THEN 1e18 ELSE {size} END"
            elif function == "concat_ws":
                size = f"({size})::DOUBLE + {n}::DOUBLE * strlen(a)"
            call = ", ".join([*names, unless(function, size, last)])
            forms.append(f"({', '.join([*names, last])}) AS system.main.{function}({call})")
        macros.append(function + ", ".join(forms))
    for split in ("string_split", "str_split", "split", "string_to_array", "regexp_split_to_array"):
        size = unless(split, "strlen(text)::DOUBLE * 16", "text")
        macros.append(f"{split}(text, sep) AS system.main.{split}({size}, sep)")
    size = "(strlen(text)::DOUBLE + 1) * (strlen(new) + 1)"
    size = unless("regexp_replace", size, "text")
    own = "system.main.regexp_replace"
    macros.append(
        f"regexp_replace(text, old, new) AS {own}({size}, old, new), "
        f"(text, old, new, options) AS {own}({size}, old, new, options)"
    )
    size = unless("bitstring", "bits", "bits")
    macros.append(f"bitstring(value, bits) AS system.main.bitstring(value, {size})")
    size = unless("array_to_string", "len(list)::DOUBLE * strlen(sep)", "list")
    macros.append(f"array_to_string(list, sep) AS system.main.array_to_string({size}, sep)")
    for function in (*_BY_ELEMENT, *_BY_PAIR):
        text = f"{_UNBOUNDED}{function} is refused, because DuckDB does not count what it makes"
        # An error without a type is a NULL to whatever is made of it.
        refuse = f"system.main.list_resize(list, CASE WHEN true THEN error('{text}') ELSE 0 END)"
        third = ", (list, f, start) AS " + refuse if function in _BY_PAIR else ""
        macros.append(f"{function}(list, f) AS {refuse}{third}")
    for resize in ("list_resize", "array_resize"):
        size = unless(resize, "size::DOUBLE * 8", "size")
        macros.append(
            f"{resize}(list, size) AS system.main.{resize}(list, {size}), "
            f"(list, size, value) AS system.main.{resize}(list, {size}, value)"
        )
    start, stop = point("start", "TIMESTAMP"), point("stop", "TIMESTAMP")
    step = point("step", "INTERVAL")
    for series in ("range", "generate_series"):
        own = f"system.main.{series}"
        one = unless(series, f"8 * {stop}", "stop")
        two = unless(series, f"8 * abs({stop} - {start})", "stop")
        three = unless(series, f"8 * abs({stop} - {start}) / greatest(abs({step}), 1e-6)", "stop")
        macros.append(
            f"{series}(stop) AS {own}({one}), (start, stop) AS {own}(start, {two}), "
            f"(start, stop, step) AS {own}(start, {three}, step)"
        )
    return macros


def _interrupt(connection: duckdb.DuckDBPyConnection) -> None:
    import duckdb

    # One that is closed has nothing to stop.
    with contextlib.suppress(duckdb.ConnectionException):
        connection.interrupt()


@atexit.register
def _stop_all() -> None:
    end = time.monotonic() + _AT_EXIT
    for thread, connection in _left:
        while thread.is_alive() and time.monotonic() < end:
            _interrupt(connection)
            thread.join(0.05)


def _leave(thread: threading.Thread, connection: duckdb.DuckDBPyConnection) -> None:
    """Stop a query without waiting for it for long."""
    _interrupt(connection)
    thread.join(_GRACE)
    _left[:] = [(t, c) for t, c in _left if t.is_alive()]
    if thread.is_alive():
        _left.append((thread, connection))


def check_timeout(timeout: float | None) -> None:
    """Refuse what is no number of seconds."""
    if timeout is not None and not 0 <= timeout < threading.TIMEOUT_MAX:
        raise invalid("timeout is a number of seconds, not below 0")


def run(
    connection: duckdb.DuckDBPyConnection,
    work: Callable[[], T],
    timeout: float | None,
    start: float,
) -> T:
    """Do `work` on a connection and close it.

    It is stopped by Ctrl-C, and `timeout` seconds after `start`.
    """
    results: list[T] = []
    errors: list[BaseException] = []

    def do() -> None:
        try:
            results.append(work())
        except BaseException as e:
            errors.append(e)
        finally:
            connection.close()

    thread = threading.Thread(target=do, name="slaf-duckdb", daemon=True)
    thread.start()
    try:
        thread.join(None if timeout is None else max(start + timeout - time.monotonic(), 0))
        late = thread.is_alive()
    except BaseException:
        _leave(thread, connection)
        raise
    if late:
        _leave(thread, connection)
        raise from_kind("time-limit", f"the query took longer than {timeout} s")
    if errors:
        raise errors[0]
    return results[0]


def collect(relation: duckdb.DuckDBPyRelation) -> pl.DataFrame:
    """Read all rows, as many as the memory of queries holds."""
    import polars as pl
    import pyarrow as pa

    reader = relation.to_arrow_reader()
    names = reader.schema.names
    for name in names:
        if names.count(name) > 1:
            message = f'more than one column "{name}": name those that are wanted, with AS'
            raise from_kind("invalid-query", message)
    if any(map(_has_intervals, reader.schema.types)):
        raise _unknown_to_polars(reader.schema)
    batches, held = [], 0
    for batch in reader:
        held += batch.nbytes
        if held > query_memory():
            raise from_kind(
                "memory-limit",
                "the result does not fit in the memory of queries: ask for less, or raise "
                "SLAF_QUERY_MEMORY",
            )
        batches.append(batch)
    try:
        return pl.DataFrame(pa.Table.from_batches(batches, reader.schema))
    except pl.exceptions.PolarsError as e:
        raise _unknown_to_polars(reader.schema) from e


def _has_intervals(data_type: pa.DataType) -> bool:
    """Tell of a type that polars panics over, also inside of another."""
    import pyarrow as pa

    inner = (data_type.field(i).type for i in range(data_type.num_fields))
    return pa.types.is_interval(data_type) or any(map(_has_intervals, inner))


def _unknown_to_polars(schema: pa.Schema) -> SlafError:
    types = ", ".join(f"{field.name} ({field.type})" for field in schema)
    return from_kind(
        "unsupported-feature",
        f"polars holds no column of one of these types: {types}; cast it, for example to VARCHAR",
    )


# A function that is called by its full name, past the macros.
_QUALIFIED = re.compile(r'(?<![\w"])"?main"?\s*\.\s*"?\w+"?\s*\(', re.IGNORECASE)


def check_names(sql: str) -> None:
    """Refuse a text that calls functions by their full names."""
    import duckdb

    # Places count bytes.
    text = sql.encode()
    tokens = duckdb.tokenize(sql)
    ends = [at for at, _ in tokens[1:]] + [len(text)]
    plain = (duckdb.token_type.string_const, duckdb.token_type.comment)
    parts = [
        text[at:end] for (at, kind), end in zip(tokens, ends, strict=True) if kind not in plain
    ]
    if (found := _QUALIFIED.search(b"".join(parts).decode(errors="replace"))) is not None:
        raise from_kind("invalid-query", f"functions have no schema here: {found[0]}...)")


# What DuckDB says of a stream that could not begin (with the class of the error), or go on (with
# its kind at the end).
_BEGUN = re.compile(r"exporting a stream from the object .*? failed: (\w+Error): (.*)", re.DOTALL)
_STREAMED = re.compile(r"Compute error: (.*) \[([a-z-]+)\]\s*$", re.DOTALL)


def _error_of_store(text: str) -> SlafError | None:
    """Make the exception again that reading a table of the store raised."""
    if (begun := _BEGUN.search(text)) is not None:
        kinds = [kind for kind, of in KINDS.items() if of.__name__ == begun[1]]
        return from_kind(kinds[0], begun[2]) if kinds else None
    if (streamed := _STREAMED.search(text)) is not None and streamed[2] in KINDS:
        return from_kind(streamed[2], streamed[1])
    return None


def from_duckdb(error: duckdb.Error) -> SlafError:
    """Make the exception for an error of DuckDB."""
    import duckdb

    text = str(error)
    of_store = _error_of_store(text)
    if of_store is not None:
        return of_store
    if _REFUSED in text:
        text = text.split(_REFUSED, 1)[1]
        return from_kind("memory-limit", f"{text}: ask for less, or raise SLAF_QUERY_MEMORY")
    if _UNBOUNDED in text:
        hint = "unnest the list, or pass a connection of your own: slaf_array.duckdb(connection)"
        return from_kind("unsupported-feature", f"{text.split(_UNBOUNDED, 1)[1]}: {hint}")
    if isinstance(error, duckdb.InterruptException):
        return from_kind("interrupted", "the query was stopped")
    if isinstance(error, duckdb.OutOfMemoryException):
        return from_kind("memory-limit", text)
    if isinstance(error, duckdb.PermissionException):
        return from_kind("read-only", text)
    if isinstance(error, duckdb.IOException):
        full = "No space left" in text or "max_temp_directory_size" in text
        return from_kind("disk-full" if full else "io", f"a temporary file of the query: {text}")
    if text.startswith('Binder Error: Referenced column "'):
        hint = "; a text stands in single quotes, and genes are columns for engine='datafusion'"
        return from_kind("unknown-column", text + hint)
    if text.startswith("Catalog Error: Table with name "):
        return from_kind("unknown-table", text)
    return from_kind("invalid-query", text)
