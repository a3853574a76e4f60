"""The exceptions of slaf.

Every exception is a :class:`SlafError` with a stable ``kind``, the same string as in Rust and on
the command line, and also an instance of the fitting builtin exception. Classes are cut by what a
handler does about them; ``kind`` is finer.
"""

from __future__ import annotations

from typing import Any


class SlafError(Exception):
    """The base of all exceptions of slaf.

    Attributes
    ----------
    kind : str
        The stable name of what went wrong, for example ``"unknown-column"``.
    message : str
        What is wrong and what to do about it, without the place.
    location : str or None
        The file, table, column or element at fault.
    """

    kind: str = "internal"

    def __init__(self, message: str, *, kind: str | None = None, location: str | None = None):
        super().__init__(message)
        self.message = message
        self.location = location
        if kind is not None:
            self.kind = kind

    def __str__(self) -> str:
        # Some builtin bases have a `__str__` of their own (KeyError shows a repr).
        return f"{self.location}: {self.message}" if self.location else self.message

    def __reduce__(self) -> tuple[Any, ...]:
        return from_kind, (self.kind, self.message, self.location)


class NotFoundError(SlafError, FileNotFoundError):
    """A file, folder, store or version does not exist."""


class AlreadyExistsError(SlafError, FileExistsError):
    """The target of a write exists already."""


class NotAStoreError(SlafError, ValueError):
    """The path holds something else than a SLAF store."""


class UnsupportedError(SlafError, NotImplementedError):
    """Something that this version of slaf cannot read or do."""


class InputError(SlafError, ValueError):
    """An input file is of no known format, breaks its rules, or holds what a store cannot."""


class CorruptError(SlafError, OSError):
    """A file of the store is damaged or missing."""


class InvalidArgumentError(SlafError, ValueError):
    """An argument is wrong."""


class UnknownNameError(SlafError, KeyError):
    """No column, table, cell or gene of that name, or more than one."""


class OutOfRangeError(SlafError, IndexError):
    """An index outside of the axis."""


class ConflictError(SlafError, RuntimeError):
    """Another writer committed first: open the store again and repeat the write."""


class CommitOutcomeUnknownError(SlafError, RuntimeError):
    """The answer to a commit was lost: open the store again to see whether it is there."""


class PermissionDeniedError(SlafError, PermissionError):
    """The operating system or the object store denied access."""


class ResourceError(SlafError, OSError):
    """The disk is full, or too many files are open."""


class TimeLimitError(SlafError, TimeoutError):
    """The time limit of a query is over."""


class MemoryLimitError(SlafError, MemoryError):
    """The memory budget does not suffice."""


class QueryError(SlafError, ValueError):
    """An SQL text is wrong, or would write or reach outside of the store."""


class OperationInterruptedError(SlafError, RuntimeError):
    """An operation was stopped before its end."""


class StorageError(SlafError, OSError):
    """Any other failure of reading or writing."""


class InternalError(SlafError, RuntimeError):
    """A defect of slaf itself."""


KINDS: dict[str, type[SlafError]] = {
    "not-found": NotFoundError,
    "already-exists": AlreadyExistsError,
    "not-a-store": NotAStoreError,
    "unknown-format": InputError,
    "unsupported-feature": UnsupportedError,
    "unsupported-input": UnsupportedError,
    "malformed-input": InputError,
    "corrupt": CorruptError,
    "would-lose-data": InputError,
    "invalid-argument": InvalidArgumentError,
    "unknown-column": UnknownNameError,
    "unknown-table": UnknownNameError,
    "unknown-cell": UnknownNameError,
    "unknown-gene": UnknownNameError,
    "ambiguous-name": UnknownNameError,
    "out-of-range": OutOfRangeError,
    "conflict": ConflictError,
    "commit-outcome-unknown": CommitOutcomeUnknownError,
    "permission-denied": PermissionDeniedError,
    "disk-full": ResourceError,
    "too-many-files": ResourceError,
    "memory-limit": MemoryLimitError,
    "time-limit": TimeLimitError,
    "invalid-query": QueryError,
    "read-only": QueryError,
    "interrupted": OperationInterruptedError,
    "io": StorageError,
    "internal": InternalError,
}


def from_kind(kind: str, message: str, location: str | None = None) -> SlafError:
    """Make the exception for a kind.

    Parameters
    ----------
    kind
        A key of :data:`KINDS`; any other gives a plain :class:`SlafError`.
    message, location
        See :class:`SlafError`.
    """
    return KINDS.get(kind, SlafError)(message, kind=kind, location=location)


def invalid(message: str) -> SlafError:
    """Make an ``invalid-argument`` exception."""
    return from_kind("invalid-argument", message)
