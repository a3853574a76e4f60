"""From what users want to see to a sampler of Rust."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from slaf import _slaf
from slaf._errors import invalid
from slaf._numbers import CELLS, MANY, whole
from slaf._store import Store
from slaf.ml import _labels
from slaf.ml._sources import Source
from slaf.ml.samplers import Balanced, Mixture, SamplerLike, Sets, Split, Weighted, interval

Pool: TypeAlias = "tuple[int, int] | npt.NDArray[np.int64]"


class Recipe(NamedTuple):
    """A sampler that can be pickled: a maker of :class:`slaf._slaf.Sampler` and its arguments."""

    maker: str
    arguments: tuple[Any, ...]

    def native(self) -> _slaf.Sampler:
        """Make the sampler."""

        def made(value: Any) -> Any:
            if isinstance(value, Recipe):
                return value.native()
            if isinstance(value, list):
                return [made(v) for v in value]
            if isinstance(value, tuple) and any(isinstance(v, Recipe) for v in value):
                return tuple(made(v) for v in value)
            return value

        sampler: _slaf.Sampler = getattr(_slaf.Sampler, self.maker)(*map(made, self.arguments))
        return sampler

    def fingerprint(self) -> str:
        """Hash maker and arguments."""
        digest = hashlib.blake2b(digest_size=16)

        def add(value: Any) -> None:
            if isinstance(value, np.ndarray):
                digest.update(f"array {value.dtype.str} {value.shape}".encode())
                digest.update(np.ascontiguousarray(value).tobytes())
            elif isinstance(value, (list, tuple)):
                digest.update(f"{type(value).__name__} {len(value)}".encode())
                for part in value:
                    add(part)
            else:
                digest.update(f"{value!r};".encode())

        add(self)
        return digest.hexdigest()


class Shuffle(NamedTuple):
    """How a cover is shuffled; ``block`` of 0 is the full shuffle."""

    on: bool
    block: int
    window: int


def offsets(stores: Sequence[Store]) -> npt.NDArray[np.int64]:
    """First cells of the stores in the numbering of all, and the number of cells."""
    return np.cumsum([0, *(s.shape[0] for s in stores)], dtype=np.int64)


def pools(sources: Sequence[Source], where: str | None, split: Split | None) -> list[Pool]:
    """Choose cells; one pool for each store, in the numbering of all.

    Raises
    ------
    InvalidArgumentError
        If no cell is left, or if selected cells have no value in a column that the split goes by.
    """
    stores = [s.store for s in sources]
    starts = offsets(stores)
    points = None if split is None else _split_points(stores, split)
    chosen: list[Pool] = []
    without_group = 0
    for i, source in enumerate(sources):
        n, start = source.array.n_obs, int(starts[i])
        if source.cells is None and where is None and points is None:
            chosen.append((start, start + n))
            continue
        rows = source.store.axis("obs") if source.cells is None else source.cells
        ids = rows.array()
        mask = np.ones(n, dtype=np.bool_) if where is None else source.array._where("obs", where)
        if split is not None and points is not None:
            low, high = interval(split)
            part = points[start : start + n]
            without_group += int((np.isinf(part) & mask)[ids].sum())
            mask &= (part >= low) & (part < high)
        chosen.append(ids[mask[ids]] + start)
    if split is not None and without_group:
        by = [split.by] if isinstance(split.by, str) else list(split.by)
        known = " AND ".join(f'"{name}" IS NOT NULL' for name in by)
        message = (
            f"{without_group} cells have no value in {by}: a split by it has no part for them; "
            f"leave them out with where='{known}', or give them a value"
        )
        raise invalid(message)
    if sum(size(p) for p in chosen) == 0:
        raise invalid("no cell is selected: see where=, cells= and split=")
    return chosen


def size(pool: Pool) -> int:
    """Count the cells of a pool."""
    return pool[1] - pool[0] if isinstance(pool, tuple) else len(pool)


def ids_of(pool: Pool) -> npt.NDArray[np.int64]:
    """Give the cells of a pool as an array."""
    return np.arange(*pool, dtype=np.int64) if isinstance(pool, tuple) else pool


def _split_points(stores: Sequence[Store], split: Split) -> npt.NDArray[np.float64]:
    seed = whole("seed of the split", split.seed, 0, (1 << 63) - 1)
    by = [split.by] if isinstance(split.by, str) else list(split.by)
    if not by:
        # Row numbers within a store, and the store: appended cells move no others.
        keys = [np.arange(s.shape[0], dtype=np.uint64) | (i << 48) for i, s in enumerate(stores)]
        return _slaf.split_points(np.concatenate(keys).astype(np.uint64), seed)
    codes, names = _labels.groups(stores, by)
    keys_of_groups = np.array([_labels.hashed(g) for g in names], dtype=np.uint64)
    points = _slaf.split_points(keys_of_groups, seed)
    # A cell without a group is in no part: `pools` refuses it.
    return np.append(points, np.inf)[codes]


def recipe(
    stores: Sequence[Store],
    chosen: list[Pool],
    sampler: SamplerLike | None,
    shuffle: Shuffle,
    seed: int,
) -> Recipe:
    """Describe the sampler.

    Raises
    ------
    InvalidArgumentError
        For arguments that do not go together.
    """

    def cover(pool: Pool) -> Recipe:
        return Recipe("cover", (pool, *shuffle, seed))

    if isinstance(sampler, Mixture):
        if len(sampler.proportions) != len(stores):
            n = len(sampler.proportions)
            raise invalid(f"{n} proportions for {len(stores)} stores")
        proportions = _floats("proportions", sampler.proportions)
        parts = [(cover(p), w) for p, w in zip(chosen, proportions.tolist(), strict=True)]
        n = sum(map(size, chosen)) if sampler.n is None else _epoch_size(sampler.n)
        return Recipe("mixture", (parts, n, seed))
    pool = _joined(chosen)
    if sampler is None:
        return cover(pool)
    if not shuffle.on:
        raise invalid("a sampler is random: it does not go with shuffle=False")
    if isinstance(sampler, Sets):
        return _sets(stores, ids_of(pool), sampler, seed)
    if isinstance(sampler, Balanced):
        weights = _balance(stores, ids_of(pool), sampler.column)
    else:
        weights = _weights(stores, ids_of(pool), sampler)
    n = size(pool) if sampler.n is None else _epoch_size(sampler.n)
    if not sampler.replacement and sampler.n is None:
        n = int((weights > 0).sum())
    return Recipe("weighted", (pool, weights, n, sampler.replacement, seed))


def _epoch_size(n: Any) -> int:
    return whole("n of the sampler", n, 1, CELLS)


def _floats(name: str, values: Any) -> npt.NDArray[np.float64]:
    try:
        return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError, OverflowError) as e:
        raise invalid(f"{name} are numbers: {e}") from e


def _joined(chosen: list[Pool]) -> Pool:
    first, last = chosen[0], chosen[-1]
    if all(isinstance(p, tuple) for p in chosen):
        return (int(first[0]), int(last[1]))
    return np.concatenate([ids_of(p) for p in chosen])


def _weights(
    stores: Sequence[Store], cells: npt.NDArray[np.int64], sampler: Weighted
) -> npt.NDArray[np.float64]:
    if isinstance(sampler.weights, str):
        columns = [_labels.numbers(_labels.column(s, sampler.weights)) for s in stores]
        weights = np.concatenate(columns).astype(np.float64)
    else:
        weights = _floats("weights", sampler.weights)
        n = int(offsets(stores)[-1])
        if weights.shape != (n,):
            raise invalid(f"weights of shape {weights.shape}: one for each of the {n} cells")
    return np.ascontiguousarray(weights[cells])


def _balance(
    stores: Sequence[Store], cells: npt.NDArray[np.int64], column: str
) -> npt.NDArray[np.float64]:
    codes = _labels.groups(stores, [column])[0][cells]
    counts = np.bincount(codes[codes >= 0], minlength=1)
    weights = np.zeros(len(codes))
    weights[codes >= 0] = 1.0 / counts[codes[codes >= 0]]
    return weights


def _sets(
    stores: Sequence[Store], cells: npt.NDArray[np.int64], sampler: Sets, seed: int
) -> Recipe:
    set_size = whole("set_size", sampler.set_size, 1, MANY)
    n_controls = whole("n_controls", sampler.n_controls, 0, MANY)
    columns = [sampler.group, *sampler.match]
    codes, names = _labels.groups(stores, columns)
    codes = codes[cells]
    order = np.argsort(codes, kind="stable")
    bounds = np.searchsorted(codes[order], np.arange(len(names) + 1))
    members = [cells[order[a:b]] for a, b in pairwise(bounds)]
    controls = {n[1:]: m for n, m in zip(names, members, strict=True) if n[0] == sampler.control}
    numbers = {context: i for i, context in enumerate(controls)}
    groups = []
    for name, cells_of_group in zip(names, members, strict=True):
        if name[0] == sampler.control or len(cells_of_group) == 0:
            continue
        if n_controls and len(controls.get(name[1:], ())) == 0:
            raise invalid(f"no controls {sampler.control!r} match the group {name}")
        groups.append((cells_of_group, numbers.get(name[1:], 0)))
    if not groups:
        raise invalid(f"no cells but controls in {sampler.group!r}")
    pools_of_controls = list(controls.values())
    arguments = (groups, pools_of_controls, set_size, n_controls, seed)
    return Recipe("sets", arguments)
