"""SLAF's loader: `slaf_loader.py STORE TASK BATCH CELLS`."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from timing import measure

from slaf import SLAFArray
from slaf.ml import SLAFDataLoader

TASKS = {
    "raw": {"raw_mode": True, "shuffle": "full"},
    "raw-block": {"raw_mode": True, "shuffle": "block"},
    "geneformer": {"tokenizer_type": "geneformer", "max_genes": 2048},
    "scgpt": {"tokenizer_type": "scgpt", "max_genes": 1200},
}


def main() -> None:
    """Times one task."""
    path, task, batch, cells = sys.argv[1:]
    array = SLAFArray(path, load_metadata=False)
    loader = SLAFDataLoader(array, batch_size=int(batch), **TASKS[task])

    def epoch() -> Iterator[int]:
        for data in loader:
            yield len(data["cell_ids"])

    measure(epoch, int(cells) or None, warm_up=True, tokens=lambda: loader.stats().tokens)


if __name__ == "__main__":
    main()
