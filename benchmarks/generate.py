"""Writes a realistic single-cell count matrix as an h5ad file, in bounded memory.

    python generate.py counts.h5ad --cells 100000 --genes 30000 --genes-per-cell 2500

Counts are negative binomial with dispersion 1/2. The mean of a gene in a cell is the cell's depth
times the abundance of the gene in the cell's type and batch. Abundances are log-normal, so a few
genes are in nearly every cell with high counts, and a long tail is rarely seen. With `--groups`
each cell has one of so many perturbations, which lowers the gene of its number. The same arguments
give the same file.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import selections

CELL_TYPES = [
    "T cells", "Monocytes", "B cells", "NK cells", "Fibroblasts", "Endothelial cells",
    "Dendritic cells", "Epithelial cells", "Macrophages", "Plasma cells", "Mast cells",
    "Megakaryocytes",
]  # fmt: skip
BATCHES = [f"batch{i + 1}" for i in range(8)]
DONORS = [f"donor{i + 1:02d}" for i in range(24)]
MITO_GENES = 13
MITO_SHARE = 0.06

ABUNDANCE_SIGMA = 2.05
DEPTH_SIGMA = 0.45
BATCH_SIGMA = 0.12
TYPE_SIGMA = 0.35
MARKER_SHARE = 0.03
MARKER_FOLD = 6.0
# A perturbation leaves so much of its gene; control cells are as many as those of 20 others.
KNOCKDOWN = 0.2
CONTROL = 20
# Tells the draws of groups from those of blocks, which begin with the number of a cell.
GROUPS_SEED = (1 << 32) - 1

# One block of means stays inside a core's L2 cache.
BLOCK_ELEMENTS = 1 << 19
FLUSH_NONZEROS = 1 << 22
# What h5py chooses by itself for an array of 1 GB; a growing dataset would get far smaller chunks.
HDF5_CHUNK = 1 << 15


@dataclass(frozen=True)
class Model:
    """Expected abundances, and where each cell stands among them."""

    types: np.ndarray  # [type, gene] abundance; a type's sum is about 1
    batches: np.ndarray  # [batch, gene] factor
    cell_type: np.ndarray
    cell_batch: np.ndarray
    cell_donor: np.ndarray
    depth: np.ndarray
    mito: np.ndarray
    # The perturbation of each cell, 0 for none; number i lowers gene i.
    cell_group: np.ndarray | None

    def mean_rows(self, cells: np.ndarray, out: np.ndarray) -> np.ndarray:
        """Half the expected counts of the given cells (half: the dispersion is 1/2)."""
        np.take(self.types, self.cell_type[cells], axis=0, out=out, mode="clip")
        out *= self.batches[self.cell_batch[cells]]
        out *= (self.depth[cells] / 2)[:, None]
        if self.cell_group is not None:
            group = self.cell_group[cells]
            gene = group % out.shape[1]
            out[np.arange(len(cells)), gene] *= np.where(group > 0, np.float32(KNOCKDOWN), 1)
        return out


def build_model(
    seed: int, n_obs: int, n_vars: int, genes_per_cell: float, by_type: bool, n_groups: int
) -> tuple[Model, np.random.Generator]:
    """Draws abundances and cells, and sets the depth that gives `genes_per_cell`.

    Returns the generator of what else there is of cells, too.
    """
    rng = np.random.default_rng(seed)
    base = np.exp(rng.normal(0, ABUNDANCE_SIGMA, n_vars))
    mito = np.sort(rng.choice(n_vars, min(MITO_GENES, n_vars), replace=False))
    base[mito] = np.exp(rng.normal(0, 0.5, len(mito)))
    types = base * np.exp(rng.normal(0, TYPE_SIGMA, (len(CELL_TYPES), n_vars)))
    types[rng.random(types.shape) < MARKER_SHARE] *= MARKER_FOLD
    types[:, mito] *= (
        MITO_SHARE * types.sum(axis=1, keepdims=True) / types[:, mito].sum(axis=1, keepdims=True)
    )
    types /= types.sum(axis=1, keepdims=True)
    batches = np.exp(rng.normal(0, BATCH_SIGMA, (len(BATCHES), n_vars)))

    share = 0.72 ** np.arange(len(CELL_TYPES))
    cell_type = rng.choice(len(CELL_TYPES), n_obs, p=share / share.sum())
    if by_type:
        cell_type.sort()
    cell_donor = rng.integers(0, len(DONORS), n_obs)
    depth = (
        np.exp(rng.normal(0, DEPTH_SIGMA, n_obs))
        * (0.7 + 0.6 * rng.random(len(CELL_TYPES)))[cell_type]
    )
    model = Model(
        types=types.astype(np.float32),
        batches=batches.astype(np.float32),
        cell_type=cell_type,
        # Three donors were run in each batch.
        cell_batch=cell_donor % len(BATCHES),
        cell_donor=cell_donor,
        depth=depth.astype(np.float32),
        mito=mito,
        cell_group=draw_groups(seed, n_obs, n_groups) if n_groups else None,
    )
    model.depth[:] *= depth_factor(model, rng, genes_per_cell)
    return model, rng


def draw_groups(seed: int, n_obs: int, n_groups: int) -> np.ndarray:
    """A group of each cell: the first is large, others differ in size by some 30 %."""
    rng = np.random.default_rng([seed, GROUPS_SEED])
    share = np.exp(rng.normal(0, 0.3, n_groups))
    share[0] = CONTROL
    return rng.choice(n_groups, n_obs, p=share / share.sum())


def depth_factor(model: Model, rng: np.random.Generator, genes_per_cell: float) -> float:
    """By bisection, the factor of every depth at which cells express `genes_per_cell` genes."""
    n_obs, n_vars = len(model.depth), model.types.shape[1]
    if genes_per_cell >= n_vars:
        raise ValueError(f"{genes_per_cell} genes per cell of {n_vars} genes")
    sample = rng.choice(n_obs, min(96, n_obs), replace=False)
    half = model.mean_rows(sample, np.empty((len(sample), n_vars), np.float32))
    low, high = 1.0, 1e9
    while high / low > 1.001:
        middle = (low * high) ** 0.5
        expressed = (1 - (1 + half * np.float32(middle)) ** -2).sum() / len(sample)
        low, high = (middle, high) if expressed < genes_per_cell else (low, middle)
    return low


def draw_block(
    model: Model, rng: np.random.Generator, cells: np.ndarray, work: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Counts of some cells: nonzeros per cell, gene of each nonzero, value of each nonzero.

    A negative binomial of dispersion 1/2 is a sum of two geometrics of ratio h/(1+h), where h is
    half the mean. So a gene is seen where u (1+h)^2 > 1 for a uniform u, and only the few values
    that are seen have to be drawn.
    """
    half = model.mean_rows(cells, work[: len(cells)])
    seen = half + 1
    seen *= seen
    seen *= rng.random(seen.shape, dtype=np.float32)
    flat = np.flatnonzero(seen.ravel() > 1)
    ratio = half.ravel()[flat]
    ratio /= ratio + 1

    log_ratio = np.log(ratio)
    first = rng.random(len(flat), dtype=np.float32)
    # Given that the sum is positive, the first geometric is positive with chance 1/(2 - ratio);
    # otherwise it is 0, and the second one has to be positive.
    only_second = first * (2 - ratio) >= 1
    values = 1 + geometric(rng, log_ratio)
    values += np.where(only_second, 0, geometric(rng, log_ratio))
    row, gene = np.divmod(flat, half.shape[1])
    return np.bincount(row, minlength=len(cells)), gene.astype(np.int32), values


def geometric(rng: np.random.Generator, log_ratio: np.ndarray) -> np.ndarray:
    """Geometric numbers from 0, by inversion."""
    # 1 - u is in (0, 1], so that the logarithm is finite.
    return np.floor(np.log(1 - rng.random(len(log_ratio), dtype=np.float32)) / log_ratio)


def write_counts(
    file: h5py.File, model: Model, seed: int, compression: str | None
) -> dict[str, np.ndarray]:
    """Streams X into the file, and returns what obs says of each cell."""
    n_obs, n_vars = len(model.depth), model.types.shape[1]
    group = file.create_group("X")
    group.attrs.update({"encoding-type": "csr_matrix", "encoding-version": "0.1.0"})
    group.attrs["shape"] = np.array([n_obs, n_vars], dtype=np.int64)
    layout = {"maxshape": (None,), "chunks": (HDF5_CHUNK,), "compression": compression}
    data = group.create_dataset("data", (0,), np.float32, **layout)
    indices = group.create_dataset("indices", (0,), np.int32, **layout)

    is_mito = np.zeros(n_vars, dtype=bool)
    is_mito[model.mito] = True
    n_genes = np.zeros(n_obs, dtype=np.int32)
    totals = np.zeros(n_obs, dtype=np.float32)
    mito = np.zeros(n_obs, dtype=np.float32)
    step = max(1, BLOCK_ELEMENTS // n_vars)
    work = np.empty((step, n_vars), dtype=np.float32)
    pending: list[tuple[np.ndarray, np.ndarray]] = []

    def flush() -> None:
        start, count = data.shape[0], sum(len(genes) for genes, _ in pending)
        for dataset, part in ((indices, 0), (data, 1)):
            dataset.resize((start + count,))
            dataset[start:] = np.concatenate([block[part] for block in pending])
        pending.clear()

    for start in range(0, n_obs, step):
        cells = np.arange(start, min(start + step, n_obs))
        # A seed for each block: the counts do not depend on how many cells follow.
        rng = np.random.default_rng([seed, start])
        counts, genes, values = draw_block(model, rng, cells, work)
        row = np.repeat(np.arange(len(cells)), counts)
        n_genes[cells] = counts
        totals[cells] = np.bincount(row, values, minlength=len(cells))
        mito[cells] = np.bincount(row, values * is_mito[genes], minlength=len(cells))
        pending.append((genes, values.astype(np.float32)))
        if sum(len(genes) for genes, _ in pending) >= FLUSH_NONZEROS:
            flush()
    if pending:
        flush()
    indptr = np.concatenate([[0], np.cumsum(n_genes, dtype=np.int64)])
    # scipy copies all indices in every slice if the two types differ, so AnnData's own files have
    # 64-bit pointers only where they must.
    fits = indptr[-1] <= np.iinfo(np.int32).max
    group["indptr"] = indptr.astype(np.int32) if fits else indptr
    percent = 100 * mito / np.maximum(totals, 1)
    return {"n_genes_by_counts": n_genes, "total_counts": totals, "pct_counts_mt": percent}


def write_strings(group: h5py.Group, name: str, values: list[str]) -> None:
    """A string array as AnnData writes it."""
    dataset = group.create_dataset(name, data=values, dtype=h5py.string_dtype())
    dataset.attrs.update({"encoding-type": "string-array", "encoding-version": "0.2.0"})


def write_categorical(
    group: h5py.Group, name: str, codes: np.ndarray, categories: list[str]
) -> None:
    """A categorical column as AnnData writes it."""
    column = group.create_group(name)
    column.attrs.update({"encoding-type": "categorical", "encoding-version": "0.2.0"})
    column.attrs["ordered"] = False
    write_strings(column, "categories", categories)
    column["codes"] = codes.astype(np.int8 if len(categories) < 128 else np.int32)
    column["codes"].attrs.update({"encoding-type": "array", "encoding-version": "0.2.0"})


def write_numbers(group: h5py.Group, name: str, values: np.ndarray) -> None:
    """A numeric column as AnnData writes it."""
    group[name] = values
    group[name].attrs.update({"encoding-type": "array", "encoding-version": "0.2.0"})


def write_frame(file: h5py.File, name: str, index: list[str], index_name: str) -> h5py.Group:
    """A data frame group with its index; columns are added by the caller."""
    group = file.create_group(name)
    group.attrs.update({"encoding-type": "dataframe", "encoding-version": "0.2.0"})
    group.attrs["_index"] = index_name
    write_strings(group, index_name, index)
    return group


def write_metadata(
    file: h5py.File, model: Model, measured: dict[str, np.ndarray], rng: np.random.Generator
) -> None:
    """Writes obs, var and the empty slots that an h5ad file has."""
    n_obs, n_vars = len(model.depth), model.types.shape[1]
    names = [name.decode() for name in selections.barcodes(np.arange(n_obs))]
    obs = write_frame(file, "obs", names, "cell_id")
    write_categorical(obs, "cell_type", model.cell_type, CELL_TYPES)
    write_categorical(obs, "batch", model.cell_batch, BATCHES)
    write_categorical(obs, "donor", model.cell_donor, DONORS)
    for column, values in measured.items():
        write_numbers(obs, column, values)
    write_numbers(obs, "doublet_score", rng.beta(2, 20, n_obs).astype(np.float32))
    columns = ["cell_type", "batch", "donor", *measured, "doublet_score"]
    if model.cell_group is not None:
        names = ["control", *(f"group{i:05d}" for i in range(1, int(model.cell_group.max()) + 1))]
        write_categorical(obs, "group", model.cell_group, names)
        columns.append("group")
    obs.attrs["column-order"] = columns

    symbols = [f"GENE{i}" for i in range(n_vars)]
    for i, gene in enumerate(model.mito):
        symbols[gene] = f"MT-{i + 1}"
    var = write_frame(file, "var", selections.gene_names(n_vars), "gene_ids")
    write_strings(var, "symbol", symbols)
    write_numbers(var, "is_mito", np.isin(np.arange(n_vars), model.mito))
    var.attrs["column-order"] = ["symbol", "is_mito"]
    for slot in ("layers", "obsm", "obsp", "uns", "varm", "varp"):
        group = file.create_group(slot)
        group.attrs.update({"encoding-type": "dict", "encoding-version": "0.1.0"})
    file.attrs.update({"encoding-type": "anndata", "encoding-version": "0.1.0"})


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("target", type=Path)
    parser.add_argument("--cells", type=int, default=100_000)
    parser.add_argument("--genes", type=int, default=30_000)
    parser.add_argument("--genes-per-cell", type=float, default=2_500)
    parser.add_argument("--groups", type=int, default=0, help="perturbations, as obs['group']")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--sort", action="store_true", help="order the cells by type")
    parser.add_argument("--gzip", action="store_true", help="compress X")
    args = parser.parse_args()

    started = time.perf_counter()
    sizes = args.cells, args.genes, args.genes_per_cell
    model, rng = build_model(args.seed, *sizes, args.sort, args.groups)
    args.target.parent.mkdir(parents=True, exist_ok=True)
    # A file that is there is a file that is complete.
    partial = args.target.with_name(args.target.name + ".partial")
    with h5py.File(partial, "w") as file:
        measured = write_counts(file, model, args.seed, "gzip" if args.gzip else None)
        write_metadata(file, model, measured, rng)
    partial.rename(args.target)
    nonzeros = int(measured["n_genes_by_counts"].sum())
    print(
        f"{args.target.name}: {args.cells} cells, {args.genes} genes, {nonzeros} nonzeros "
        f"in {time.perf_counter() - started:.1f} s"
    )


if __name__ == "__main__":
    main()
