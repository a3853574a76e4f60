"""SLAF's loader: `slaf_loader.py STORE TASK BATCH CELLS`."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import numpy as np
from timing import measure

from slaf import SLAFArray
from slaf.ml import GeneformerTokenizer, SLAFDataLoader

TASKS = {
    "raw": {"raw_mode": True, "shuffle": "full"},
    "raw-block": {"raw_mode": True, "shuffle": "block"},
    "raw-stored": {"raw_mode": True, "shuffle": "full", "gene_order": "stored"},
    "geneformer-medians": {},
    "geneformer": {"tokenizer_type": "geneformer", "max_genes": 2048},
    "scgpt": {"tokenizer_type": "scgpt", "max_genes": 1200},
}


def with_medians(array: SLAFArray) -> GeneformerTokenizer:
    """Geneformer with a token and a median for five of six genes, as the published files have.

    The published medians are about log-normal: half of them lie between 2.1 and 4.2.
    """
    names = array.query("SELECT gene_id FROM genes ORDER BY gene_integer_id")["gene_id"]
    genes = [name for i, name in enumerate(names) if i % 6]
    tokens = {"<pad>": 0, "<mask>": 1, **{gene: i + 2 for i, gene in enumerate(genes)}}
    medians = np.random.default_rng(0).lognormal(1.09, 0.51, len(genes)).tolist()
    return GeneformerTokenizer(
        array, token_dictionary=tokens, gene_medians=dict(zip(genes, medians, strict=True))
    )


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
