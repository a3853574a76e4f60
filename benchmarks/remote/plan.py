"""Draws the questions of every round, and computes their answers: `plan.py H5AD PLAN`.

Reads the source with h5py alone and in pieces, so that a million cells fit into memory.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import reference
import selections
from peers import harness
from scipy import sparse

ROUNDS = selections.REPETITIONS
PIECE = 1 << 24


class Counts:
    """X of the source, of which only what is asked for is in memory."""

    def __init__(self, file: h5py.File) -> None:
        self.group = file["X"]
        self.n_obs, self.n_vars = (int(n) for n in self.group.attrs["shape"])
        self.indptr = self.group["indptr"][:]

    def rows(self, cells: list[int]) -> sparse.csr_matrix:
        """Counts of some cells."""
        parts = []
        for cell in cells:
            where = slice(self.indptr[cell], self.indptr[cell + 1])
            genes, values = self.group["indices"][where], self.group["data"][where]
            pointers = np.array([0, len(genes)])
            parts.append(sparse.csr_matrix((values, genes, pointers), shape=(1, self.n_vars)))
        return sparse.vstack(parts, format="csr")

    def cells_of_genes(self) -> np.ndarray:
        """In how many cells each gene is."""
        found = np.zeros(self.n_vars, np.int64)
        for start in range(0, self.indptr[-1], PIECE):
            some = self.group["indices"][start : start + PIECE]
            found += np.bincount(some, minlength=self.n_vars)
        return found

    def columns(self, genes: list[int]) -> dict[int, sparse.csr_matrix]:
        """Counts of some genes in all cells."""
        found: dict[int, list[tuple[np.ndarray, np.ndarray]]] = {gene: [] for gene in genes}
        for start in range(0, self.indptr[-1], PIECE):
            indices = self.group["indices"][start : start + PIECE]
            values = self.group["data"][start : start + PIECE]
            for gene, parts in found.items():
                at = np.flatnonzero(indices == gene)
                cells = np.searchsorted(self.indptr, start + at, side="right") - 1
                parts.append((cells, values[at]))
        return {gene: self.column(parts) for gene, parts in found.items()}

    def column(self, parts: list[tuple[np.ndarray, np.ndarray]]) -> sparse.csr_matrix:
        """One gene from its pieces."""
        cells, values = (np.concatenate([part[i] for part in parts]) for i in (0, 1))
        return sparse.csr_matrix((values, (cells, np.zeros_like(cells))), shape=(self.n_obs, 1))


def names_of(cells: list[int]) -> list[str]:
    """Names of cells."""
    return [name.decode() for name in selections.barcodes(np.asarray(cells))]


def by_type(obs: dict[str, np.ndarray], batch: str) -> dict[str, tuple[int, float]]:
    """Number and mean of `total_counts` of each type in a batch."""
    types, totals = obs["cell_type"], obs["total_counts"].astype(np.float64)
    there = obs["batch"] == batch.encode()
    found = {}
    for name in np.unique(types[there]):
        some = totals[there & (types == name)]
        found[name.decode()] = (len(some), float(some.mean()))
    return found


def main() -> None:
    """Writes the plan."""
    source, target = map(Path, sys.argv[1:])
    with h5py.File(source) as file:
        counts = Counts(file)
        columns = ("cell_type", "batch", "total_counts")
        obs = {name: reference.read_column(file["obs"][name]) for name in columns}
        seen = counts.cells_of_genes()
        draws: dict[str, Any] = {
            "n_obs": counts.n_obs,
            "expressed": np.flatnonzero(seen >= reference.EXPRESSED_SHARE * counts.n_obs),
            "cell_types": [],
            "batches": [],
        }
        tasks: dict[str, list[dict[str, Any]]] = {"open": [{} for _ in range(ROUNDS)]}

        def add(task: str, arguments: Any, expected: Any, **positions: list[int]) -> None:
            step = {"arguments": arguments, "expected": expected, "positions": positions}
            tasks.setdefault(task, []).append(step)

        drawn = [selections.draw("one_gene", i, **draws)["cols"][0] for i in range(ROUNDS)]
        columns_of = counts.columns(drawn)
        batches = sorted(name.decode() for name in np.unique(obs["batch"]))
        names = selections.gene_names(counts.n_vars)
        for i in range(ROUNDS):
            # Cells of two tasks are not the same ones.
            for task, offset in (("cell_by_name", 0), ("cell_by_number", ROUNDS)):
                cells = selections.draw("one_cell", i + offset, **draws)["rows"]
                expected = harness.checksum("cells", counts.rows(cells), {"rows": cells})
                argument = {"name": names_of(cells)[0]} if offset == 0 else {"number": cells[0]}
                add(task, argument, expected, rows=cells)
            gene = drawn[i]
            expected = harness.checksum("cells", columns_of[gene], {"cols": [gene]})
            add("gene", {"name": names[gene], "number": gene}, expected, cols=[gene])
            batch = batches[i % len(batches)]
            add("group", {"batch": batch}, by_type(obs, batch))
            cells = selections.draw("cells_64", i, **draws)["rows"]
            expected = harness.checksum("cells", counts.rows(cells), {"rows": cells})
            add("cells", {"names": names_of(cells), "numbers": cells}, expected, rows=cells)
    shape = {"n_obs": counts.n_obs, "n_vars": counts.n_vars, "nonzeros": int(counts.indptr[-1])}
    target.write_text(json.dumps({**shape, "tasks": tasks}))


if __name__ == "__main__":
    main()
