"""A tokenizer like Geneformer's own, for genes whose names are none of its."""

from __future__ import annotations

import numpy as np

from slaf import SLAFArray
from slaf.ml import GeneformerTokenizer


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
