"""Messages about what slaf does, on the standard error: off unless they are asked for.

The environment variable ``SLAF_LOG`` asks for them when slaf is imported, :func:`start` later.
"""

from __future__ import annotations

from slaf import _slaf

__all__ = ["start"]


def start(level: str = "debug") -> None:
    """Show messages until the process ends.

    A line for each opening, reading, query, conversion, commit and epoch, when it ends, with the
    time that it took: ``time.busy`` in the thread that asked, ``time.idle`` the rest. Lines hold
    addresses and sizes; they hold no values or names of cells, texts of queries or credentials.

    Parameters
    ----------
    level
        ``"error"``, ``"warn"``, ``"info"``, ``"debug"`` or ``"trace"`` for slaf itself, or targets
        with levels, such as ``"slaf=debug,lance=info"``, which show what the libraries beneath
        say, too. What they show is up to them.

    Raises
    ------
    slaf.InvalidArgumentError
        For another level, and if messages are shown already.

    Examples
    --------
    >>> import slaf.logging
    >>> slaf.logging.start("loud")
    Traceback (most recent call last):
        ...
    slaf.InvalidArgumentError: "loud" is no level of messages: error, warn, info, debug, trace, ...
    """
    _slaf.start_logging(level)
