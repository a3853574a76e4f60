"""homeobox: the latest snapshot of an atlas."""

from __future__ import annotations

from typing import Any

import homeobox
import obstore
import polars as pl
from peers import homeobox_store

from remote import access, asking


class HomeoboxRemote(asking.Store):
    """A snapshot that was checked out."""

    def __init__(self, address: str, endpoint: str) -> None:
        options = access.options(endpoint)
        allow = options.pop("allow_http") == "true"
        arrays = obstore.store.from_url(
            f"{address}/zarr_store", config=options, client_options={"allow_http": allow}
        )
        self.atlas = homeobox.RaggedAtlas.checkout_latest(
            address, store=arrays, store_kwargs=access.options(endpoint)
        )

    def counts(self, condition: str, numbers: list[int] | None = None) -> Any:
        """CSR of the cells of a condition."""
        found = self.atlas.query().where(condition).to_anndata()
        return homeobox_store.matrix(found, numbers or found.obs["cell"])

    def cell_by_name(self, name: str) -> Any:
        """A filter of obs, and the counts of what it finds."""
        return self.counts(f"cell_id = '{name}'")

    def cell_by_number(self, number: int) -> Any:
        """A filter of obs by the position, which is a column here."""
        return self.counts(f"cell = {number}")

    def gene(self, name: str, number: int) -> Any:
        """One gene of all cells, from the copy by gene."""
        wanted = homeobox_store.uids([name])
        query = self.atlas.query().features(wanted, homeobox_store.SPACE).select(["cell"])
        found = query.to_anndata()
        return homeobox_store.matrix(found, range(found.n_obs))

    def group(self, batch: str) -> dict[str, tuple[int, float]]:
        """A filter of obs, grouped by polars."""
        query = self.atlas.query().where(f"batch = '{batch}'")
        some = query.select(["cell_type", "total_counts"]).to_polars()
        found = some.group_by("cell_type").agg(pl.len(), pl.col("total_counts").mean().alias("m"))
        return {name: (n, mean) for name, n, mean in found.iter_rows()}

    def cells(self, names: list[str], numbers: list[int]) -> Any:
        """A filter of obs by positions."""
        return self.counts(homeobox_store.one_of("cell", numbers), numbers)


if __name__ == "__main__":
    asking.main(HomeoboxRemote)
