"""SLAF's loader: `slaf_loader.py STORE TASK BATCH CELLS`."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from medians import with_medians
from timing import measure

from slaf import SLAFArray
from slaf.ml import SLAFDataLoader

TASKS = {
    "raw": {"raw_mode": True, "shuffle": "full"},
    "raw-block": {"raw_mode": True, "shuffle": "block"},
    "raw-stored": {"raw_mode": True, "shuffle": "full", "gene_order": "stored"},
    "geneformer-medians": {},
    "geneformer": {"tokenizer_type": "geneformer", "max_genes": 2048},
    "scgpt": {"tokenizer_type": "scgpt", "max_genes": 1200},
}


def main() -> None:
    """Times one task."""
    path, task, batch, cells = sys.argv[1:]
    options = dict(TASKS[task])
    array = SLAFArray(path, load_metadata=False)
    if task == "geneformer-medians":
        options["tokenizer"] = with_medians(array)
    loader = SLAFDataLoader(array, batch_size=int(batch), **options)

    def epoch() -> Iterator[int]:
        for data in loader:
            yield len(data["cell_ids"])

    measure(epoch, int(cells) or None, warm_up=True, tokens=lambda: loader.stats().tokens)


if __name__ == "__main__":
    main()
