"""What a store asked of its object store."""

from __future__ import annotations

from typing import NamedTuple

KINDS = ("get", "head", "list", "put", "delete")


class IoStats(NamedTuple):
    """Requests to an object store, and what they moved.

    The difference of two is what happened in between.

    Examples
    --------
    >>> from slaf._io_stats import IoStats
    >>> before = IoStats({"get": 1, "list": 1}, 900, 0, 0, 0.06)
    >>> after = IoStats({"get": 3, "list": 1}, 1500, 0, 2, 0.12)
    >>> (after - before).requests
    {'get': 2}
    """

    #: Requests by kind: ``get``, ``head``, ``list``, ``put`` and ``delete``, without those of which
    #: there was none.
    #: A listing counts once, however many pages it has.
    requests: dict[str, int]
    #: Bytes of objects that were received.
    bytes_read: int
    #: Bytes of objects that were sent.
    bytes_written: int
    #: How often something was in memory that would have been asked for.
    cache_hits: int
    #: Seconds in which at least one request waited for its answer.
    seconds: float

    @property
    def n_requests(self) -> int:
        """Requests of all kinds."""
        return sum(self.requests.values())

    def __sub__(self, earlier: IoStats) -> IoStats:
        """Give what happened since `earlier`."""
        more = {k: n - earlier.requests.get(k, 0) for k, n in self.requests.items()}
        return IoStats(
            {k: n for k, n in more.items() if n},
            self.bytes_read - earlier.bytes_read,
            self.bytes_written - earlier.bytes_written,
            self.cache_hits - earlier.cache_hits,
            self.seconds - earlier.seconds,
        )
