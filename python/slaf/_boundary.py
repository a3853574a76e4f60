"""What is handed to Rust: frozen objects, whose fields Rust reads by name.

Each class has a like in ``python/src``, with the same fields: a new option is added to the two.
Names of enums are those that their crate knows, and Rust refuses others.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from slaf._selectors import for_rust

if TYPE_CHECKING:
    from slaf._slaf import Measured, Tokenizer
    from slaf._store import Key

#: All rows, a range of them, or their numbers.
Chosen: TypeAlias = "tuple[int, int] | npt.NDArray[np.int64] | None"


@dataclass(frozen=True, kw_only=True)
class ConvertOptions:
    """Options of a conversion; see :class:`slaf.data.SLAFConverter`."""

    overwrite: bool
    allow_loss: bool
    by_gene: bool
    memory: int | None
    join: Literal["outer", "inner", "reference"]
    source_column: str | None
    fill_layers: bool
    genome: str | None
    feature_type: str | None
    modality: str | None
    genes_in_rows: bool | None
    measured: Measured | None
    durability: Literal["full", "os"]
    storage_options: dict[str, str]


@dataclass(frozen=True, kw_only=True)
class GrowOptions:
    """Options of a change of a store, and the version that it is made for."""

    durability: Literal["full", "os"]
    storage_options: dict[str, str]
    version: int
    write_id: str


@dataclass(frozen=True, kw_only=True)
class AddOptions:
    """How slots are added; see :func:`slaf._growing.add_slots`."""

    overwrite: bool
    drop: list[str]
    keep_changes: bool


@dataclass(frozen=True, kw_only=True)
class AppendOptions:
    """How cells are appended; see :meth:`slaf.SLAFArray.append`.

    Of sources that are opened stores, by their places: the version, and the options of the object
    store.
    """

    join: Literal["outer", "inner", "reference"]
    source_name: str | None
    shown: str | None
    allow_loss: bool
    fill_layers: bool
    allow_disjoint: bool
    measured: Measured | None
    stores: dict[int, tuple[int, dict[str, str]]]


@dataclass(frozen=True, kw_only=True)
class RewriteOptions:
    """How a version is written anew; see :meth:`slaf.SLAFArray.optimize`."""

    allow_loss: bool
    memory: int | None


@dataclass(frozen=True, eq=False)
class LoaderSource:
    """A store of a loader: its tokenizer, its genes, and columns of obs, a value for each cell."""

    tokenizer: Tokenizer | None
    genes: Chosen
    columns: list[npt.NDArray[Any]]


@dataclass(frozen=True, kw_only=True)
class LoaderOptions:
    """How batches are made; see :class:`slaf.ml.SLAFDataLoader`."""

    matrix: Key
    form: Literal["sparse", "dense", "tokens"]
    batch_size: int
    remainder: Literal["drop", "pad", "uneven"]
    dtype: str | None
    target_sum: float | None
    log1p: bool
    measured: bool
    seed: int
    memory: int


@dataclass(frozen=True)
class Shard:
    """One consumer of the batches: a worker of a rank."""

    rank: int = 0
    world: int = 1
    worker: int = 0
    workers: int = 1


@dataclass(frozen=True, eq=False)
class Stored:
    """A part of a matrix of a store."""

    key: Key
    rows: Chosen
    cols: Chosen


@dataclass(frozen=True, eq=False)
class Labels:
    """A group of each row or column, of `n` groups; other labels are of no group."""

    labels: npt.NDArray[np.uint32]
    n: int


@dataclass(frozen=True, eq=False)
class Factor:
    """Numbers of each row or column, `k` of each, flat."""

    weights: npt.NDArray[np.float64]
    k: int

    @classmethod
    def of(cls, weights: npt.ArrayLike) -> Factor:
        """Take one number for each, or a row of them."""
        array = for_rust(weights, np.float64)
        return cls(array.ravel(), 1 if array.ndim == 1 else array.shape[1])


@dataclass(frozen=True, kw_only=True, eq=False)
class Request:
    """Which statistics of a matrix are wanted.

    Parameters
    ----------
    rows, columns
        Counts and sums of each.
    detail
        ``"sums"``, ``"squares"`` or ``"all"``, each of which takes longer.
    signs
        Counts of values above zero, and of values that are no integers, too; ``"all"`` has them.
    skip_nan
        NaN is counted and left out.
    running
        Running statistics of columns.
    top
        Sums of so many largest values of each row; rising.
    dot, left
        The products ``X @ weights`` and ``weights.T @ X``.
    groups, column_groups
        Groups of rows, for the statistics of columns; and of columns, for those of rows.
    centres
        One for each column, about which squares are summed.
    """

    rows: bool = False
    columns: bool = False
    detail: Literal["sums", "squares", "all"] = "sums"
    signs: bool = False
    skip_nan: bool = False
    running: bool = False
    top: list[int] = field(default_factory=list)
    dot: Factor | None = None
    left: Factor | None = None
    groups: Labels | None = None
    column_groups: Labels | None = None
    centres: npt.NDArray[np.float64] | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Comparison:
    """Which groups of cells are ranked, and among which cells.

    Parameters
    ----------
    groups
        The groups.
    reference
        The group that each is compared with; ``None`` for all other cells, also those of no group.
    ties
        Find the coefficients that correct for ties, too.
    """

    groups: Labels
    reference: int | None
    ties: bool


@dataclass(frozen=True, eq=False)
class Vectors:
    """Vectors, flat, to multiply with the products of columns less means and times factors."""

    means: npt.NDArray[np.float64]
    factors: npt.NDArray[np.float64]
    values: npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Question:
    """What a pass in pieces finds: one of these, or the products of all pairs of columns."""

    request: Request | None = None
    comparison: Comparison | None = None
    vectors: Vectors | None = None
