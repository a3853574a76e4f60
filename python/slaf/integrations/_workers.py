"""Passes over the matrices of stores by the workers of a Dask cluster."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, cast

import numpy as np

from slaf import _boundary as boundary
from slaf import _slaf
from slaf._boundary import Comparison, Question, Request, Vectors
from slaf._errors import NotFoundError, SlafError, from_kind, invalid
from slaf._selectors import Axis, for_rust
from slaf._store import Key, Store
from slaf.integrations._lazy import LazyMatrix
from slaf.integrations._plan import Floats, Step, Stored

#: Pieces that wait in the cluster for each thread of a worker, so that results do not pile up.
AHEAD = 3


def on_workers(matrix: LazyMatrix, client: Any) -> LazyMatrix:
    """The matrix, whose passes the workers of a client of Dask take; as it is without a client.

    Each worker opens the same version of the store and reads what it works on. What passes find is
    the same, bit by bit.

    Raises
    ------
    InvalidArgumentError
        For a client that is no ``dask.distributed.Client``, is asynchronous, or has no workers.
    UnsupportedError
        For a matrix that is not one of a store.
    """
    if client is None:
        return matrix
    check_client(client)
    source = matrix._source
    if not isinstance(source, Stored):
        raise from_kind(
            "unsupported-feature",
            f"{matrix.name} is not in a store, where workers could read it: leave client out, or "
            "write() the data set and open the new store",
        )
    there = LazyMatrix(OnWorkers.of(source, client), matrix._steps)
    there._known = matrix._known
    return there


def check_client(client: Any) -> None:
    """Refuse what is no client of a cluster with workers.

    Raises
    ------
    InvalidArgumentError, UnsupportedError
        As :func:`on_workers`.
    """
    try:
        from distributed import Client
    except ImportError as e:
        message = "client= needs dask.distributed: pip install 'slaf[dask]'"
        raise from_kind("unsupported-feature", message) from e
    if not isinstance(client, Client):
        raise invalid(f"client is a dask.distributed.Client, not a {type(client).__name__}")
    if client.asynchronous:
        raise invalid("client is asynchronous: give one that is not, as Client(address) makes it")
    if client.status != "running":
        raise invalid(f"client is {client.status}: connect to the cluster again")
    # Dask has no types of it.
    if not cast(Any, client).nthreads():
        raise invalid("the cluster of client has no workers")


@dataclass(frozen=True, eq=False)
class _Task:
    """A matrix of a store, as workers get it."""

    store: Store | _There
    write_id: str
    stored: boundary.Stored
    steps: list[Step]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "store": _There(*self.store.__reduce__()[1])}


class _There:
    """A store that a worker opens when it works on it.

    Opened when it arrives, one that is not there would end the connection, without a word of why.
    """

    def __init__(self, *how: Any):
        self._how = how
        self._lock = threading.Lock()
        self._store: Store | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return _There, self._how

    @property
    def native(self) -> _slaf.Dataset:
        """The store, opened."""
        with self._lock:
            if self._store is None:
                try:
                    self._store = Store(*self._how)
                except NotFoundError as e:
                    message = (
                        "a worker of the cluster finds no store at this path, where all machines "
                        f"need it: {e}"
                    )
                    raise from_kind("not-found", message, self._how[0]) from e
            return self._store.native


class OnWorkers(Stored):
    """Rows and columns of a matrix of a store, whose passes workers take."""

    def __init__(self, store: Store, key: Key, rows: Axis, cols: Axis, client: Any):
        super().__init__(store, key, rows, cols)
        self._client = client

    @classmethod
    def of(cls, stored: Stored, client: Any) -> OnWorkers:
        """The same of a client."""
        return cls(stored._store, stored._key, stored._rows, stored._cols, client)

    def select(self, rows: Any, cols: Any) -> OnWorkers:
        """Choose the rows and columns at these positions."""
        return self.of(super().select(rows, cols), self._client)

    def reduce(self, steps: list[Step], request: Request) -> _slaf.Summary:
        """Statistics, in one pass over the stored rows."""
        with self._scattered(steps) as matrix:
            found: _slaf.Summary = matrix.answer(Question(request=request))
        return found

    def rank_sums(self, steps: list[Step], comparison: Comparison) -> _slaf.RankSums:
        """Sums of ranks, gene by gene."""
        with self._scattered(steps) as matrix:
            found: _slaf.RankSums = matrix.answer(Question(comparison=comparison))
        return found

    def gram(self, steps: list[Step]) -> _slaf.Gram:
        """Products and sums of columns, in one pass over the stored rows."""
        with self._scattered(steps) as matrix:
            found: _slaf.Gram = matrix.answer(Question())
        return found

    def leading(self, steps: list[Step], means: Floats, factors: Floats, k: int) -> _slaf.Leading:
        """Eigenvalues of products of columns, in some passes over the stored rows.

        Workers multiply; the vectors of the next pass are made here of what they found.
        """
        search = _slaf.Lanczos(self.shape[1], k)
        with self._scattered(steps) as matrix:
            while True:
                vectors = Vectors(means, factors, search.block)
                found = search.take(matrix.answer(Question(vectors=vectors)))
                if found is not None:
                    return found

    @contextmanager
    def _scattered(self, steps: list[Step]) -> Iterator[_Scattered]:
        """Give the matrix after some steps to all workers; it is gone from them at the end."""
        native, client = self._store.native, self._client
        task = _Task(self._store, native.write_id, self._native(), steps)
        with _connected(client):
            there = client.scatter(task, broadcast=True, hash=False)
            try:
                yield _Scattered(client, task, there)
            finally:
                _forget(client, [there])


@dataclass(frozen=True, eq=False)
class _Scattered:
    """A matrix that all workers have."""

    client: Any
    task: _Task
    there: Any

    def answer(self, question: Question) -> Any:
        """Let workers do the pieces of a pass, and put together what they find."""
        task, client = self.task, self.client
        workers = max(sum(client.nthreads().values()), 1)
        pieces = _slaf.pieces_stored(task.store.native, task.stored, task.steps, question, workers)
        asked = client.scatter(question, broadcast=True, hash=False)
        waiting, sent = deque(pieces.waiting), deque[Any]()
        try:
            while waiting or sent:
                while waiting and len(sent) < AHEAD * workers:
                    piece = waiting.popleft()
                    sent.append(client.submit(_work, self.there, asked, piece, pure=False))
                # In their order: sums are added in it.
                pieces.take(_result(sent[0]))
                sent.popleft().release()
        finally:
            _forget(client, [*sent, asked])
        return pieces.finish()


@contextmanager
def _connected(client: Any) -> Iterator[None]:
    """Say of a client that is closed during a pass that it is; dask raises what it comes upon."""
    try:
        yield
    except SlafError:
        raise
    except Exception as e:
        if client.status == "running":
            raise
        message = f"client is {client.status}, in the midst of a pass: connect to the cluster again"
        raise from_kind("io", message) from e


def _forget(client: Any, futures: list[Any]) -> None:
    """Take futures from the workers, unless the client is closed, which did so."""
    if client.status == "running":
        client.cancel(futures)


def _result(piece: Any) -> bytes:
    from distributed import KilledWorker
    from distributed.client import FutureCancelledError

    try:
        result: bytes = piece.result()
    except (KilledWorker, FutureCancelledError) as e:
        message = (
            f"workers of the cluster ended while they worked ({e}): a system ends processes that "
            "take too much memory; try again when workers are there"
        )
        raise from_kind("io", message) from e
    return result


def _work(task: _Task, question: Question, piece: list[int]) -> bytes:
    """Do a piece, in a worker."""
    native = task.store.native
    if native.write_id != task.write_id:
        message = "a worker finds another store here: all machines need the same one at this path"
        raise from_kind("conflict", message, native.uri)
    stored, steps, asked = (_aligned(part) for part in (task.stored, task.steps, question))
    return _slaf.work_stored(native, stored, steps, asked, piece)


def _aligned(value: Any) -> Any:
    """The same with arrays at addresses that Rust can read; see :func:`for_rust`."""
    if isinstance(value, np.ndarray):
        return for_rust(value)
    if isinstance(value, list):
        return [_aligned(part) for part in value]
    if is_dataclass(value) and not isinstance(value, type):
        parts = {field.name: _aligned(getattr(value, field.name)) for field in fields(value)}
        return replace(value, **parts)
    return value
