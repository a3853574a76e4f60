"""Bytes of counts in another codec than the packed row, for `design/021-small-codec.md`.

Cells and genes are rows of a matrix in turn, columns in order of popularity. Gaps and values are
bytes of their own streams, those above 254 escaped, in blocks of some rows; each block goes through
zstd, and the time that zstd needs to decode it is that of one core. A block is what has to be read
and decoded for one row.

    python benchmarks/codec_sizes.py counts.h5ad [--store counts.slaf]

Of a store of the same data it says what the packed rows take.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import anndata
import numpy as np
import scipy.sparse as sp
import zstandard


def escaped(numbers: np.ndarray) -> np.ndarray:
    """Bytes of numbers: 255 and four bytes for those that do not fit one."""
    large = numbers >= 255
    if not large.any():
        return numbers.astype(np.uint8)
    widths = np.where(large, 5, 1)
    ends = np.cumsum(widths)
    out = np.zeros(ends[-1], np.uint8)
    out[ends - widths] = np.where(large, 255, numbers)
    for byte in range(4):
        out[ends[large] - 4 + byte] = (numbers[large] >> (8 * byte)) & 255
    return out


def popular(matrix: sp.csr_matrix) -> sp.csr_matrix:
    """The matrix with its columns in order of popularity."""
    counts = np.bincount(matrix.indices, minlength=matrix.shape[1])
    matrix = matrix[:, np.argsort(-counts, kind="stable")].tocsr()
    matrix.sort_indices()
    return matrix


def measure(matrix: sp.csr_matrix, rows: int, level: int) -> tuple[int, float]:
    """Bytes of all blocks of so many rows, and seconds to decode them."""
    compress, decompress = zstandard.ZstdCompressor(level), zstandard.ZstdDecompressor()
    total, seconds = 0, 0.0
    for first in range(0, matrix.shape[0], rows):
        bounds = matrix.indptr[first : first + rows + 1]
        columns = matrix.indices[bounds[0] : bounds[-1]].astype(np.int64)
        gaps = np.diff(columns, prepend=-1) - 1
        starts = bounds[:-1][np.diff(bounds) > 0] - bounds[0]
        gaps[starts] = columns[starts]
        values = matrix.data[bounds[0] : bounds[-1]].astype(np.int64) - 1
        raw = np.concatenate([escaped(gaps), escaped(values)]).tobytes()
        packed = compress.compress(raw)
        # What any row format needs beside its values: a length and a place.
        total += len(packed) + 4 * (len(bounds) - 1)
        began = time.perf_counter()
        decompress.decompress(packed)
        seconds += time.perf_counter() - began
    return total, seconds


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("input", type=Path)
    parser.add_argument("--store", type=Path, help="the same data as a SLAF store")
    arguments = parser.parse_args()
    data = anndata.read_h5ad(arguments.input)
    counts = sp.csr_matrix(data.X if data.raw is None else data.raw.X)
    counts.eliminate_zeros()
    if not (counts.data == np.round(counts.data)).all() or (counts.data < 1).any():
        raise SystemExit(f"{arguments.input}: not counts")
    nnz = counts.nnz
    print(f"{arguments.input.name}: {counts.shape[0]} x {counts.shape[1]}, {nnz} values")
    if arguments.store:
        newest = max((arguments.store / "_slaf" / "versions").glob("*.json"))
        manifest = json.loads(newest.read_text())
        x = next(matrix for matrix in manifest["matrices"] if matrix["slot"] == "X")
        files = (file for file in manifest["files"] if file["path"].startswith("by_gene-"))
        by_gene = sum(file["length"] for file in files if "/data/" in file["path"])
        print(f"packed rows: cells {x['bytes'] / nnz:.3f}, genes {by_gene / nnz:.3f} bytes a value")
    print("| rows are | rows in a block | zstd | bytes a value | decoded, ns a value |")
    print("|---|---|---|---|---|")
    for name, matrix in (("cells", popular(counts)), ("genes", popular(counts.T.tocsr()))):
        for rows in (1, 16, 64, 1024):
            for level in (3, 12):
                size, seconds = measure(matrix, rows, level)
                print(
                    f"| {name} | {rows} | {level} | {size / nnz:.3f} | {seconds / nnz * 1e9:.2f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
