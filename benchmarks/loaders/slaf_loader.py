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

    def epoch() -> Iterator[tuple[int, int]]:
        for data in loader:
            mask = data.get("attention_mask")
            yield len(data["cell_ids"]), 0 if mask is None else int(mask.sum())

    measure(epoch, int(cells) or None, warm_up=True)


if __name__ == "__main__":
    main()
