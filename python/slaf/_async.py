"""Questions to a store from an event loop of asyncio."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from slaf import _frames, _parameters
from slaf._slaf import Cancel
from slaf._store import Store

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

    import polars as pl
    import scipy.sparse as sp

Answer = TypeVar("Answer")

# A thread waits for Rust without the GIL: how many questions of a process are under way at once.
_MOST_AT_ONCE = 64
# By process, since a fork leaves the threads to the parent.
_executors: dict[int, ThreadPoolExecutor] = {}


def _executor() -> ThreadPoolExecutor:
    from concurrent.futures import ThreadPoolExecutor

    process = os.getpid()
    if process not in _executors:
        _executors.clear()
        _executors[process] = ThreadPoolExecutor(_MOST_AT_ONCE, "slaf-async")
    return _executors[process]


async def _wait_for(call: Callable[[], Answer]) -> Answer:
    import asyncio

    return await asyncio.get_running_loop().run_in_executor(_executor(), call)


class Asynchronous:
    """The questions of a :class:`slaf.SLAFArray` that an event loop can wait for.

    Each is the method without ``_async``, with its arguments, its answer and its errors. Any
    number may be under way on one handle; 64 of a process are answered at once.
    """

    @property
    @abstractmethod
    def _store(self) -> Store:
        """The store."""

    filter_cells: Callable[..., pl.DataFrame]
    get_cell_expression: Callable[[Any], pl.DataFrame]
    get_gene_expression: Callable[..., pl.DataFrame]
    get_submatrix: Callable[..., pl.DataFrame]
    to_csr: Callable[..., sp.csr_matrix]

    async def query_async(
        self,
        sql: str,
        params: Any = None,
        *,
        tables: Mapping[str, Any] | None = None,
        dialect: str = "slaf",
        timeout: float | None = None,
        measured: bool = False,
    ) -> pl.DataFrame:
        """Ask in the SQL of DataFusion; see :meth:`slaf.SLAFArray.query`.

        A query whose task is cancelled is stopped.

        Examples
        --------
        >>> import asyncio
        >>> from slaf import SLAFArray
        >>> slaf_array = SLAFArray(store_path)
        >>> async def ask():
        ...     texts = [f"SELECT gene{i} FROM cells WHERE cell_id = 'cell1'" for i in (0, 1)]
        ...     return await asyncio.gather(*map(slaf_array.query_async, texts))
        >>> [answer.item() for answer in asyncio.run(ask())]
        [0.0, 3.0]
        """
        import asyncio

        native, cancel = self._store.native, Cancel()
        asked = _parameters.asked(self._store, sql, params, timeout, tables, dialect, measured)

        def ask() -> pl.DataFrame:
            return _frames.of_stream(native.query(*asked, cancel))

        try:
            return await _wait_for(ask)
        except asyncio.CancelledError:
            cancel.cancel()
            raise

    async def filter_cells_async(
        self, where: str | None = None, /, **conditions: Any
    ) -> pl.DataFrame:
        """See :meth:`slaf.SLAFArray.filter_cells`."""
        return await _wait_for(partial(self.filter_cells, where, **conditions))

    async def get_cell_expression_async(self, cells: Any) -> pl.DataFrame:
        """See :meth:`slaf.SLAFArray.get_cell_expression`."""
        return await _wait_for(partial(self.get_cell_expression, cells))

    async def get_gene_expression_async(
        self, genes: Any, *, measured: bool = False
    ) -> pl.DataFrame:
        """See :meth:`slaf.SLAFArray.get_gene_expression`."""
        return await _wait_for(partial(self.get_gene_expression, genes, measured=measured))

    async def get_submatrix_async(
        self, cell_selector: Any = None, gene_selector: Any = None, layer: str | None = None
    ) -> pl.DataFrame:
        """See :meth:`slaf.SLAFArray.get_submatrix`."""
        return await _wait_for(partial(self.get_submatrix, cell_selector, gene_selector, layer))

    async def to_csr_async(
        self, cells: Any = None, genes: Any = None, layer: str | None = None
    ) -> sp.csr_matrix:
        """See :meth:`slaf.SLAFArray.to_csr`."""
        return await _wait_for(partial(self.to_csr, cells, genes, layer))
