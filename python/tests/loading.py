"""What tests of loaders share."""

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp

from slaf import SLAFArray
from slaf.data import SLAFConverter

N_CELLS, N_GENES = 101, 23


def made(n_cells=N_CELLS, n_genes=N_GENES, seed=0, dtype=np.float32):
    """Give counts with labels: `line` in runs, `drug` mixed, some labels missing."""
    rng = np.random.default_rng(seed)
    X = rng.negative_binomial(0.6, 0.3, (n_cells, n_genes)).astype(dtype)
    X[n_cells // 2] = 0
    cells = np.arange(n_cells)
    obs = pd.DataFrame(
        {
            "line": pd.Categorical.from_codes(cells * 3 // n_cells, ["b", "a", "c", "unused"]),
            "drug": np.where(cells % 4 == 0, "control", np.where(cells % 3 == 0, "x", "y")),
            "donor": pd.Categorical.from_codes(
                np.where(cells % 10 == 9, -1, cells % 7), [f"d{i}" for i in range(7)]
            ),
            "depth": X.sum(axis=1).astype(np.float32),
            "rank": cells[::-1].astype(np.int32),
            "good": cells % 2 == 0,
        },
        index=[f"c{i}" for i in cells],
    )
    var = pd.DataFrame(index=[f"g{i}" for i in range(n_genes)])
    return ad.AnnData(sp.csr_matrix(X), obs, var, layers={"twice": sp.csr_matrix(X * 2)})


def stored(folder, adata, name="store.slaf"):
    """Write a store and open it."""
    SLAFConverter().convert_anndata(adata, folder / name)
    return SLAFArray(folder / name)


def cells_of(batches):
    """Give all cells in order."""
    parts = [np.asarray(batch["cell_ids"]) for batch in batches]
    return np.concatenate(parts) if parts else np.empty(0, np.int64)
