"""TileDB-SOMA experiments, as `tiledbsoma.io.from_h5ad` writes them."""

from __future__ import annotations

from typing import Any

import tiledbsoma
from peers.tiledbsoma_store import LAYER, MEASUREMENT, triplets

from remote import access, asking


class SomaRemote(asking.Store):
    """An experiment with the default options of its context."""

    def __init__(self, address: str, endpoint: str) -> None:
        settings = {
            "vfs.s3.endpoint_override": endpoint.removeprefix("http://"),
            "vfs.s3.scheme": "http",
            "vfs.s3.use_virtual_addressing": "false",
            "vfs.s3.region": access.REGION,
            **{f"vfs.s3.{name}": value for name, value in access.KEYS.items()},
        }
        context = tiledbsoma.SOMATileDBContext(tiledb_config=settings)
        self.experiment = tiledbsoma.Experiment.open(address, context=context)
        self.measurement = self.experiment.ms[MEASUREMENT]
        self.matrix = self.measurement.X[LAYER]

    def counts(self, rows: Any, cols: Any) -> Any:
        """Triplets of a selection."""
        return triplets(self.matrix.read((rows, cols)).tables().concat())

    def cell_by_name(self, name: str) -> Any:
        """A filter of obs, then the counts."""
        condition = f"cell_id == '{name}'"
        read = self.experiment.obs.read(value_filter=condition, column_names=["soma_joinid"])
        return self.counts(read.concat()["soma_joinid"].to_pylist(), slice(None))

    def cell_by_number(self, number: int) -> Any:
        """Triplets of one cell."""
        return self.counts([number], slice(None))

    def gene(self, name: str, number: int) -> Any:
        """A filter of var, then the counts."""
        condition = f"gene_ids == '{name}'"
        read = self.measurement.var.read(value_filter=condition, column_names=["soma_joinid"])
        return self.counts(slice(None), read.concat()["soma_joinid"].to_pylist())

    def group(self, batch: str) -> dict[str, tuple[int, float]]:
        """A filter of obs, grouped by pandas."""
        columns = ["cell_type", "total_counts"]
        read = self.experiment.obs.read(value_filter=f"batch == '{batch}'", column_names=columns)
        some = read.concat().to_pandas()
        found = some.groupby("cell_type", observed=True)["total_counts"].agg(["size", "mean"])
        return {name: (n, mean) for name, n, mean in found.itertuples()}

    def cells(self, names: list[str], numbers: list[int]) -> Any:
        """Triplets of some cells."""
        return self.counts(numbers, slice(None))


if __name__ == "__main__":
    asking.main(SomaRemote)
