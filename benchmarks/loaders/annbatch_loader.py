"""annbatch over its own pre-shuffled store: `annbatch_loader.py STORE TASK BATCH CELLS`.

`annbatch_loader.py --build H5AD STORE` makes the store.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import annbatch
from timing import measure

# Each with what its authors recommend: larger fetches for larger batches.
CHUNKS = {64: (64, 64), 512: (512, 32)}


def main() -> None:
    """Builds the store, or times one task."""
    warnings.simplefilter("ignore")
    if sys.argv[1] == "--build":
        source, target = sys.argv[2:]
        annbatch.DatasetCollection(Path(target)).add_adatas([source])
        return
    path, _task, batch, cells = sys.argv[1:]
    chunk, preload = CHUNKS.get(int(batch), (512, 32))

    def epoch() -> Iterator[int]:
        loader = annbatch.Loader(
            batch_size=int(batch),
            chunk_size=chunk,
            preload_nchunks=preload,
            shuffle=True,
            to="torch",
        )
        loader.use_collection(annbatch.DatasetCollection(Path(path), mode="r"))
        for data in loader:
            yield data["X"].shape[0]

    measure(epoch, int(cells) or None, warm_up=True)


if __name__ == "__main__":
    main()
