"""A decoder of packed rows in numpy, written from SPEC.md and not from the Rust code."""

import zlib

import numpy as np


def varint(row, at):
    n = shift = 0
    while True:
        n |= (row[at] & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if row[at - 1] < 0x80:
            return n, at


def numbers(row, at, n, width, patches):
    """Unpack `n` numbers of `width` bits and apply the patches; give the next position too."""
    end = at + -(-n * width // 8)
    raw = np.frombuffer(row[at:end], np.uint8)
    if n == 128:  # four lanes of 32 numbers; the lanes' 32-bit words alternate
        raw = raw.view("<u4").reshape(width, 4).T.copy().view(np.uint8)
    bits = np.unpackbits(raw, bitorder="little")[: n * width].reshape(n, width)
    out = (bits.astype(np.uint64) << np.arange(width, dtype=np.uint64)).sum(axis=1, dtype=np.uint64)
    if n == 128:
        out = out.reshape(4, 32).T.ravel()
    for i in range(patches):
        out[row[end + 2 * i]] |= np.uint64(row[end + 2 * i + 1] << width)
    return out.astype(np.int64), end + 2 * patches


def decode(row):
    """Columns and values of a packed row; values in the type that their kind implies."""
    assert row[0] in (1, 2), "version"
    if row[0] == 2:
        checksum, row = int.from_bytes(row[-4:], "little"), row[:-4]
        assert zlib.crc32(row) == checksum, "checksum"
    kind, index_bytes = row[1] & 0x0F, (row[1] >> 4) + 1
    nnz, at = varint(row, 2)
    dictionary = None
    if kind in (2, 3):
        size, at = varint(row, at)
        dtype = np.dtype("<f4" if kind == 2 else "<f8")
        dictionary = np.frombuffer(row[at : at + size * dtype.itemsize], dtype)
        at += size * dtype.itemsize
    raw_type = {4: "<f4", 5: "<f8", 6: "<i8", 7: "<u8"}.get(kind)
    lengths = [min(128, nnz - start) for start in range(0, nnz, 128)]
    table, at = at, at + len(lengths) * (index_bytes + 4)
    columns, values = [np.empty(0, np.int64)], [np.empty(0, raw_type or np.int64)]
    for n in lengths:
        first = int.from_bytes(row[table : table + index_bytes], "little")
        table += index_bytes + 4
        gap_width, value_code, gap_patches, value_patches = row[table - 4 : table]
        gaps, at = numbers(row, at, n, gap_width, gap_patches)
        columns.append(first + np.cumsum(gaps + 1) - 1 - gaps[0])
        if raw_type:
            size = n * np.dtype(raw_type).itemsize
            values.append(np.frombuffer(row[at : at + size], raw_type))
            at += size
        else:
            found, at = numbers(row, at, n, value_code & 0x3F, value_patches)
            values.append(found + (value_code >> 6))
    assert at == len(row), "bytes are left over"
    columns, values = np.concatenate(columns), np.concatenate(values)
    if kind == 1:
        values = (values >> 1) ^ -(values & 1)
    return columns, values if dictionary is None else dictionary[values]
