"""The loader of `slafdb`: `slafdb_loader.py STORE TASK BATCH CELLS`."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from timing import measure

from slaf import SLAFArray
from slaf.ml.dataloaders import SLAFDataLoader

TASKS = {
    "raw": {"raw_mode": True},
    "geneformer": {"tokenizer_type": "geneformer", "max_genes": 2048},
    "scgpt": {"tokenizer_type": "scgpt", "max_genes": 1200},
}


def main() -> None:
    """Times one task."""
    path, task, batch, cells = sys.argv[1:]
    array = SLAFArray(path)
    # A loader that is made before fails and says nothing.
    array.wait_for_metadata()

    def epoch() -> Iterator[int]:
        loader = SLAFDataLoader(array, batch_size=int(batch), verbose=False, **TASKS[task])
        for data in loader:
            yield len(data["cell_ids"])

    # Leaving an epoch early leaves its threads running beside the next one.
    measure(epoch, int(cells) or None, warm_up=False)


if __name__ == "__main__":
    main()
