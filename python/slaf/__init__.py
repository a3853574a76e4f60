"""SLAF, the Sparse Lazy Array Format: one store for single-cell data, on disk or in the cloud.

Open a store with :class:`SLAFArray` for SQL, metadata and submatrices, or with
:func:`slaf.integrations.read_slaf` as an AnnData; make one with
:class:`slaf.data.SLAFConverter`.
"""

from __future__ import annotations

import warnings

from slaf import _errors, _slaf
from slaf._array import SLAFArray
from slaf._errors import (
    AlreadyExistsError,
    CommitOutcomeUnknownError,
    ConflictError,
    CorruptError,
    InputError,
    InternalError,
    InvalidArgumentError,
    MemoryLimitError,
    NotAStoreError,
    NotFoundError,
    OperationInterruptedError,
    OutOfRangeError,
    PermissionDeniedError,
    QueryError,
    ResourceError,
    SlafError,
    StorageError,
    TimeLimitError,
    UnknownNameError,
    UnsupportedError,
)

__version__: str = _slaf.__version__

__all__ = [
    "AlreadyExistsError",
    "CommitOutcomeUnknownError",
    "ConflictError",
    "CorruptError",
    "InputError",
    "InternalError",
    "InvalidArgumentError",
    "MemoryLimitError",
    "NotAStoreError",
    "NotFoundError",
    "OperationInterruptedError",
    "OutOfRangeError",
    "PermissionDeniedError",
    "QueryError",
    "ResourceError",
    "SLAFArray",
    "SlafError",
    "StorageError",
    "TimeLimitError",
    "UnknownNameError",
    "UnsupportedError",
]

# Tracebacks and documentation show the public place.
for _class in {SlafError, *_errors.KINDS.values()}:
    _class.__module__ = "slaf"

try:
    _slaf.start_logging(None)
except InvalidArgumentError as _error:
    # A mistake in the environment is no reason not to work.
    warnings.warn(str(_error), RuntimeWarning, stacklevel=2)

if _slaf.DEBUG_BUILD:
    warnings.warn(
        "slaf was compiled without optimisations and is many times slower than it should be: "
        "build it with `maturin develop --release`",
        RuntimeWarning,
        stacklevel=2,
    )
