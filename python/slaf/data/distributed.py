"""Conversion by several processes, on one machine or on many."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from slaf import _slaf
from slaf._errors import SlafError, from_kind, invalid
from slaf._progress import bar
from slaf._report import Report
from slaf.data.converter import PathLike, SLAFConverter

if TYPE_CHECKING:
    import distributed

_Show = Callable[[str, int, int], None]

#: Parts that are sent for each slot of a scheduler: the next one waits where it is needed.
_AHEAD = 2
#: How often a scheduler begins a part before the conversion fails.
_ATTEMPTS = 3


def convert_distributed(
    inputs: PathLike | Sequence[PathLike],
    output: PathLike,
    *,
    client: distributed.Client | None = None,
    ray: bool = False,
    workers: int | None = None,
    part_cells: int | None = None,
    **options: Any,
) -> Report:
    """Convert one input, or several into one store, by several processes.

    The cells are cut into parts, each part is converted where the scheduler likes, and one commit
    makes a store of them: the one that :class:`SLAFConverter` makes, in more pieces. Cuts depend on
    the inputs and on ``part_cells`` alone, so that the values of the store, sums of genes included,
    do not depend on who converted what. A part whose worker dies is converted again; what the dead
    one wrote is removed. Interrupted or failed, a conversion leaves nothing behind.

    Exactly one of ``client``, ``ray`` and ``workers`` says who converts.

    Parameters
    ----------
    inputs
        As :meth:`SLAFConverter.convert` has it. Every worker must see the files at the same paths.
        An input whose cells do not lie together in the file (CSC, text, loom, packed with gzip) is
        read by one worker as a whole.
    output
        Path or URI of the store. Every worker must see it, too.
    client
        A client of Dask: its workers convert. A worker of several threads converts as many parts at
        a time.
    ray
        Whether Ray converts, in tasks of one CPU each; it is started if it is not.
    workers
        So many processes on this machine convert, which share its processors.
    part_cells
        The most cells of a part. By default parts have about 16 million values, more where there
        are more than a billion, and at most one eighth of ``memory`` in values.
    **options
        Those of :class:`SLAFConverter`. Of ``memory`` each worker may hold as much, for each part
        that it converts at a time. ``storage_options`` are sent to the workers.

    Returns
    -------
    Report
        As :meth:`SLAFConverter.convert` gives it.

    Raises
    ------
    ConflictError
        If an input changes meanwhile, or another writer replaces the store at ``output``.
    StorageError
        If the worker of a part dies again and again: the message names the part and its input.
    UnsupportedError
        If a worker has another version of slaf.
    InvalidArgumentError
        For none, or more than one, of ``client``, ``ray`` and ``workers``; and the errors of
        :meth:`SLAFConverter.convert`.

    Examples
    --------
    >>> from slaf.data import convert_distributed
    >>> report = convert_distributed(h5ad_path, tmp_path / "distributed.slaf", workers=2)
    >>> report.n_cells, report.n_genes
    (6, 4)
    """
    given = [name for name, on in _choices(client, ray, workers) if on]
    if len(given) != 1:
        told = "all of " + " and ".join(given) if given else "none of client, ray and workers"
        raise invalid(f"say who converts by one of client=, ray=True and workers=, not by {told}")
    if workers is not None and workers < 1:
        raise invalid(f"workers={workers}: at least one process must convert")
    if part_cells is not None and part_cells < 1:
        raise invalid(f"part_cells={part_cells}: a part has at least one cell")
    paths = [inputs] if isinstance(inputs, (str, os.PathLike)) else list(inputs)
    if not paths:
        raise invalid("no inputs")
    chosen = SLAFConverter(**options)._options
    target = os.fspath(output)
    with bar() as show:
        if workers is not None:
            return Report(
                *_slaf.convert_with_workers(paths, target, chosen, part_cells, workers, show)
            )
        scheduler: _Scheduler = _Ray() if client is None else _Dask(client)
        plan = _slaf.Distributed(paths, target, chosen, part_cells, show)
        try:
            results = _converted(plan, scheduler, show)
            return Report(*plan.finish(results, show))
        finally:
            # Does nothing after the end.
            plan.abandon()


def _choices(client: object, ray: bool, workers: int | None) -> list[tuple[str, bool]]:
    return [("client", client is not None), ("ray", ray), ("workers", workers is not None)]


class _Scheduler(Protocol):
    """Who runs :func:`_convert_part` elsewhere."""

    def slots(self) -> int:
        """Give how many parts it can convert at a time."""

    def submit(self, task: bytes) -> Any:
        """Begin with a part; give what stands for its result."""

    def wait(self, running: Sequence[Any]) -> Iterable[Any]:
        """Give some of the parts that have ended, after a while at the latest."""

    def result(self, ended: Any, shown: str) -> bytes:
        """Give the result of a part that has ended, or raise its error."""

    def cancel(self, running: Sequence[Any]) -> None:
        """Give parts up."""


def _converted(plan: _slaf.Distributed, scheduler: _Scheduler, show: _Show | None) -> list[bytes]:
    """Have all parts converted; give the results."""
    cells = plan.cells
    waiting = iter(range(len(cells)))
    running: dict[Any, int] = {}
    results: list[bytes] = []
    done, total = 0, sum(cells)
    try:
        while len(results) < len(cells):
            while len(running) < max(1, scheduler.slots()) * _AHEAD:
                part = next(waiting, None)
                if part is None:
                    break
                running[scheduler.submit(plan.task(part))] = part
            for ended in scheduler.wait(list(running)):
                part = running.pop(ended)
                results.append(scheduler.result(ended, plan.shown(part)))
                done += cells[part]
            if show is not None:
                show("cells", done, total)
    except BaseException:
        scheduler.cancel(list(running))
        raise
    return results


def _died(shown: str, why: str) -> SlafError:
    message = (
        f"its worker died, {_ATTEMPTS} times ({why}): a system ends processes that take too much "
        "memory, in which case less memory for each (memory=) or fewer threads of a worker help"
    )
    return from_kind("io", message, shown)


class _Dask:
    """The workers of a cluster of Dask."""

    def __init__(self, client: Any):
        if getattr(client, "asynchronous", False):
            raise invalid("an asynchronous client: pass one that was made with asynchronous=False")
        if client.status != "running":
            raise invalid(f"the client is {client.status}: connect to the cluster again")
        self._client = client

    def slots(self) -> int:
        return sum(self._client.nthreads().values())

    def submit(self, task: bytes) -> Any:
        # Not pure: each submission is one of its own.
        return self._client.submit(_convert_part, task, pure=False)

    def wait(self, running: Sequence[Any]) -> Iterable[Any]:
        import distributed

        # Without types of its own.
        wait: Any = distributed.wait
        try:
            return list(wait(running, timeout=1, return_when="FIRST_COMPLETED").done)
        except (TimeoutError, distributed.TimeoutError):
            return []

    def result(self, ended: Any, shown: str) -> bytes:
        import distributed

        try:
            result: bytes = ended.result()
        except distributed.KilledWorker as e:
            raise _died(shown, str(e)) from e
        return result

    def cancel(self, running: Sequence[Any]) -> None:
        self._client.cancel(running)


class _Ray:
    """Tasks of Ray."""

    def __init__(self) -> None:
        import ray

        self._ray = ray
        if not ray.is_initialized():
            ray.init()
        self._convert = ray.remote(num_cpus=1, max_retries=_ATTEMPTS - 1)(_convert_part)

    def slots(self) -> int:
        return int(self._ray.cluster_resources().get("CPU", 1))

    def submit(self, task: bytes) -> Any:
        return self._convert.remote(task)

    def wait(self, running: Sequence[Any]) -> Iterable[Any]:
        ended: list[Any] = self._ray.wait(list(running), num_returns=1, timeout=1)[0]
        return ended

    def result(self, ended: Any, shown: str) -> bytes:
        errors = self._ray.exceptions
        try:
            result: bytes = self._ray.get(ended)
        except errors.RayTaskError as e:
            # Ray wraps what was raised.
            raise getattr(e, "cause", e) from None
        except (errors.WorkerCrashedError, errors.NodeDiedError, errors.OutOfMemoryError) as e:
            raise _died(shown, str(e)) from e
        return result

    def cancel(self, running: Sequence[Any]) -> None:
        for part in running:
            self._ray.cancel(part)


def _convert_part(task: bytes) -> bytes:
    return _slaf.convert_part(task)
