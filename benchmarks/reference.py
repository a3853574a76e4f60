"""Draws the selections of every task, and computes the answers that a store must give.

Reads the source with h5py and scipy alone, so that no store is its own judge.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import registry
import scipy.sparse
import selections
from peers import harness

EXPRESSED_SHARE = 0.005


class Source:
    """The source in memory, in both orders."""

    def __init__(self, path: Path) -> None:
        with h5py.File(path) as file:
            group = file["X"]
            shape = tuple(int(n) for n in group.attrs["shape"])
            parts = (group["data"][:], group["indices"][:], group["indptr"][:])
            self.rows = scipy.sparse.csr_matrix(parts, shape=shape)
            self.obs = {name: read_column(file["obs"][name]) for name in file["obs"]}
        self.columns = self.rows.tocsc()

    def answer(self, method: str, arguments: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        """The right answer, and the positions of its rows and columns."""
        if method == "filter_cells":
            keep = (self.obs["cell_type"] == arguments["cell_type"].encode()) & (
                self.obs["n_genes_by_counts"] >= arguments["min_genes"]
            )
            table = {name: self.obs[name][keep] for name in ("cell_id", "total_counts")}
            return Table(table), {}
        if method == "filter_counts":
            keep = (self.obs["cell_type"] == arguments["cell_type"].encode()) & (
                self.obs["batch"] == arguments["batch"].encode()
            )
            positions = {"rows": np.flatnonzero(keep).tolist()}
            return self.rows[keep], positions
        if method == "gene_sums":
            return np.bincount(self.rows.indices, self.rows.data, self.rows.shape[1]), {}
        if method == "cell_sums":
            return np.asarray(self.columns.sum(axis=1, dtype=np.float64)).ravel(), {}
        if method == "everything":
            return self.rows, {}
        if method == "genes":
            return self.columns[:, arguments["cols"]], arguments
        matrix = self.rows[arguments["rows"]]
        return (matrix[:, arguments["cols"]] if "cols" in arguments else matrix), arguments


class Table(dict[str, np.ndarray]):
    """Columns by name, as much of a table as the checks need."""

    @property
    def columns(self) -> list[str]:
        """Names of the columns."""
        return list(self)


def read_column(item: h5py.Group | h5py.Dataset) -> np.ndarray:
    """A column of obs."""
    if isinstance(item, h5py.Group):
        return np.asarray(item["categories"][:], dtype=bytes)[item["codes"][:]]
    values = item[:]
    return values.astype(bytes) if values.dtype == object else values


def steps_of(name: str, source: Source, draws: dict[str, Any]) -> list[dict[str, Any]]:
    """Every repetition of a task, with the checksum of its answer."""
    method = registry.TASKS[name].method
    steps: list[dict[str, Any]] = []
    for repetition in range(selections.REPETITIONS):
        arguments = selections.draw(name, repetition, **draws)
        if steps and arguments == steps[0]["arguments"]:
            steps.append(steps[0])
            continue
        step: dict[str, Any] = {"arguments": arguments}
        if method != "open":
            result, positions = source.answer(method, arguments)
            step["expected"] = harness.checksum(method, result, positions)
            if positions != arguments:
                step["positions"] = positions
        steps.append(step)
    return steps


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    args = parser.parse_args()
    source = Source(args.source)
    n_obs, n_vars = source.rows.shape
    seen = np.diff(source.columns.indptr)
    types, counts = np.unique(source.obs["cell_type"], return_counts=True)
    draws = {
        "n_obs": n_obs,
        "expressed": np.flatnonzero(seen >= EXPRESSED_SHARE * n_obs),
        "cell_types": [types[i].decode() for i in np.argsort(-counts)],
        "batches": [name.decode() for name in np.unique(source.obs["batch"])],
    }
    plan = {
        "n_obs": n_obs,
        "n_vars": n_vars,
        "nonzeros": int(source.rows.nnz),
        "tasks": {name: steps_of(name, source, draws) for name in registry.TASKS},
    }
    args.target.write_text(json.dumps(plan))


if __name__ == "__main__":
    main()
