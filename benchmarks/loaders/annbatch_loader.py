"""annbatch over its own pre-shuffled store: `annbatch_loader.py STORE TASK BATCH CELLS`.

`annbatch_loader.py --build H5AD STORE` makes the store.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import annbatch
import zarr
from timing import measure

# Cells of a chunk and chunks of a fetch: its defaults, and the fastest of four settings here.
CHUNK, PRELOAD = 512, 32


def main() -> None:
    """Builds the store, or times one task."""
    warnings.simplefilter("ignore")
    # The codecs in Rust that its documentation recommends.
    zarr.config.set({"codec_pipeline.path": "zarrs.ZarrsCodecPipeline"})
    if sys.argv[1] == "--build":
        source, target = sys.argv[2:]
        annbatch.DatasetCollection(Path(target)).add_adatas([source])
        return
    path, _task, batch, cells = sys.argv[1:]

    def epoch() -> Iterator[int]:
        loader = annbatch.Loader(
            batch_size=int(batch),
            chunk_size=CHUNK,
            preload_nchunks=PRELOAD,
            shuffle=True,
            to="torch",
        )
        loader.use_collection(annbatch.DatasetCollection(Path(path), mode="r"))
        for data in loader:
            yield data["X"].shape[0]

    measure(epoch, int(cells) or None, warm_up=True)


if __name__ == "__main__":
    main()
