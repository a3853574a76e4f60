"""The seeded selections that every store is asked for, and names that tell positions.

Needs numpy alone: it is imported in every peer's environment.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from registry import TASKS

BASES = np.frombuffer(b"ACGT", dtype=np.uint8)
# Odd, so multiplication modulo 2^32 is a bijection: names look random and can still be decoded.
BARCODE_STEP = 2654435761
BARCODE_UNSTEP = pow(BARCODE_STEP, -1, 2**32)
BARCODE_LENGTH = 16
GENE_PREFIX = "ENSG"

# A repetition never asks for the same cells or genes again: a store's own result cache would
# otherwise be measured instead of the store.
REPETITIONS = 7


def barcodes(index: np.ndarray) -> np.ndarray:
    """Names of cells as a 10x run writes them (`b"ACGT...-1"`), one for each position."""
    code = (index.astype(np.uint64) * np.uint64(BARCODE_STEP)) & np.uint64(0xFFFFFFFF)
    shifts = np.arange(0, 2 * BARCODE_LENGTH, 2, dtype=np.uint64)
    letters = BASES[((code[:, None] >> shifts) & np.uint64(3)).astype(np.intp)]
    return np.char.add(
        np.ascontiguousarray(letters).view(f"S{BARCODE_LENGTH}").ravel(), np.bytes_(b"-1")
    )


def cell_positions(names: np.ndarray) -> np.ndarray:
    """Positions in the source of cells named by `barcodes`."""
    width = BARCODE_LENGTH + 2
    letters = np.asarray(names, dtype=f"S{width}").view(np.uint8).reshape(-1, width)
    digit = np.zeros(256, dtype=np.uint64)
    digit[BASES] = np.arange(4)
    shifts = np.arange(0, 2 * BARCODE_LENGTH, 2, dtype=np.uint64)
    code = (digit[letters[:, :BARCODE_LENGTH]] << shifts).sum(axis=1, dtype=np.uint64)
    unstepped = (code * np.uint64(BARCODE_UNSTEP)) & np.uint64(0xFFFFFFFF)
    return unstepped.astype(np.int64)


def gene_names(n_vars: int) -> list[str]:
    """Ensembl-like ids; the number is the gene's position."""
    return [f"{GENE_PREFIX}{i:011d}" for i in range(n_vars)]


def gene_positions(names: np.ndarray) -> np.ndarray:
    """Positions in the source of genes named by `gene_names`."""
    digits = np.asarray(names, dtype=f"S{len(GENE_PREFIX) + 11}").view(np.uint8)
    digits = digits.reshape(-1, len(GENE_PREFIX) + 11)[:, len(GENE_PREFIX) :]
    return (digits - ord("0")).astype(np.int64) @ (10 ** np.arange(10, -1, -1, dtype=np.int64))


def draw(
    name: str,
    repetition: int,
    n_obs: int,
    expressed: np.ndarray,
    cell_types: list[str],
    batches: list[str],
) -> dict[str, Any]:
    """Arguments of one repetition of a task, as they go to the store's method.

    Args:
        name: A key of `TASKS`.
        repetition: Which repetition; each has its own seed.
        n_obs: Number of cells.
        expressed: Genes that may be asked for (a gene seen nowhere asks nothing of a store).
        cell_types: Cell types, the most common first.
        batches: Batches.
    """
    task = TASKS[name]
    rng = np.random.default_rng([repetition, *name.encode()])
    if task.method == "filter_cells":
        return {"cell_type": cell_types[repetition % len(cell_types)], "min_genes": 2000}
    if task.method == "filter_counts":
        return {
            "cell_type": cell_types[(repetition + 2) % len(cell_types)],
            "batch": batches[repetition % len(batches)],
        }
    arguments: dict[str, Any] = {}
    if task.cells:
        # Sorted: several peers return cells in stored order whatever the order asked for.
        size = min(task.cells, n_obs)
        arguments["rows"] = np.sort(rng.choice(n_obs, size=size, replace=False)).tolist()
    if task.genes:
        size = min(task.genes, len(expressed))
        arguments["cols"] = np.sort(rng.choice(expressed, size=size, replace=False)).tolist()
    return arguments
