"""scDataset over a backed AnnData: `scdataset_loader.py H5AD TASK BATCH CELLS`."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from typing import Any

import anndata as ad
import torch
from scdataset import BlockShuffling, scDataset
from timing import measure

# Cells that are read together, and batches of one read.
BLOCK, FETCH = {"raw": 1, "raw-block": 16}, 256


def tensor(matrix: Any) -> torch.Tensor:
    """Make a tensor as the other loaders give it."""
    parts = map(torch.from_numpy, (matrix.indptr, matrix.indices, matrix.data))
    return torch.sparse_csr_tensor(*parts, size=matrix.shape, check_invariants=False)


def main() -> None:
    """Times one task."""
    warnings.simplefilter("ignore")
    path, task, batch, cells = sys.argv[1:]
    matrix = ad.read_h5ad(path, backed="r").X
    data = scDataset(
        range(matrix.shape[0]),
        BlockShuffling(block_size=BLOCK[task]),
        fetch_callback=lambda _, cells: matrix[cells],
        batch_size=int(batch),
        fetch_factor=FETCH * 64 // int(batch),
        batch_transform=tensor,
    )

    def epoch() -> Iterator[int]:
        for x in data:
            yield x.shape[0]

    measure(epoch, int(cells) or None, warm_up=True)


if __name__ == "__main__":
    main()
