"""AnnData's zarr v3 store, read lazily with AnnData's own functions through s3fs."""

from __future__ import annotations

from typing import Any

import anndata
import numpy as np
import zarr
from scipy import sparse

from remote import access, asking

CHUNK_ROWS = 5000


class ZarrRemote(asking.Store):
    """Opening reads obs, as `anndata.read_h5ad` with `backed` does."""

    def __init__(self, address: str, endpoint: str) -> None:
        options = {
            "endpoint_url": endpoint,
            "key": access.KEYS["aws_access_key_id"],
            "secret": access.KEYS["aws_secret_access_key"],
            "client_kwargs": {"region_name": access.REGION},
        }
        group = zarr.open_group(address, mode="r", storage_options=options)
        self.matrix = anndata.io.sparse_dataset(group["X"])
        self.obs = anndata.io.read_elem(group["obs"])

    def cell_by_name(self, name: str) -> Any:
        """A row of X."""
        return self.matrix[[self.obs.index.get_loc(name)]]

    def cell_by_number(self, number: int) -> Any:
        """A row of X."""
        return self.matrix[[number]]

    def gene(self, name: str, number: int) -> Any:
        """A column of X, by chunks of rows."""
        starts = range(0, self.matrix.shape[0], CHUNK_ROWS)
        parts = [self.matrix[start : start + CHUNK_ROWS][:, [number]] for start in starts]
        return sparse.vstack(parts, format="csr")

    def group(self, batch: str) -> dict[str, tuple[int, float]]:
        """Pandas over obs."""
        some = self.obs[self.obs["batch"] == batch]
        found = some.groupby("cell_type", observed=True)["total_counts"].agg(["size", "mean"])
        return {name: (n, mean) for name, n, mean in found.itertuples()}

    def cells(self, names: list[str], numbers: list[int]) -> Any:
        """Rows of X."""
        return self.matrix[np.asarray(numbers)]


if __name__ == "__main__":
    asking.main(ZarrRemote)
