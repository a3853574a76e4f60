"""The reference decoder of SPEC.md reads the rows that the Rust code writes.

The decoder is taken from the document itself, so the two cannot drift apart.
"""

import csv
import re
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent
ROWS = [
    {**row, "name": f"v{version} {row['name']}"}
    for version in (1, 2)
    for row in csv.DictReader(
        (ROOT / f"compat/packed_rows_v{version}.tsv").read_text().splitlines(), delimiter="\t"
    )
]


@pytest.fixture(scope="module")
def decode():
    code = re.search(r"```python\n(.*?)```", (ROOT / "SPEC.md").read_text(), re.DOTALL)
    assert code, "SPEC.md has no Python block"
    names: dict = {}
    exec(code[1], names)
    return names["decode"]


def numbers(text: str, base: int) -> list[int]:
    return [int(t, base) for t in text.split(",") if t]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["name"])
def test_the_specified_decoder_reads_the_row(decode, row):
    columns, values = decode(bytes.fromhex(row["row"]))
    assert columns.tolist() == numbers(row["columns"], 10)
    dtype = np.dtype(row["dtype"])
    # Bits are pinned sign-extended to 64: the low bytes are the value.
    bits = np.array(numbers(row["value bits"], 16), "<u8")
    expected = bits.view(np.uint8).reshape(-1, 8)[:, : dtype.itemsize].copy().view(dtype).ravel()
    assert values.astype(dtype).tobytes() == expected.tobytes()


@pytest.mark.parametrize(
    "row", [r for r in ROWS if r["row"].startswith("02")], ids=lambda row: row["name"]
)
def test_the_specified_decoder_finds_flips_of_a_row_with_a_checksum(decode, row):
    data = bytearray.fromhex(row["row"])
    for at in range(0, len(data), 7):
        data[at] ^= 1 << at % 8
        with pytest.raises(ValueError):
            decode(bytes(data))
        data[at] ^= 1 << at % 8


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["name"])
def test_the_specified_decoder_refuses_a_cut_row(decode, row):
    data = bytes.fromhex(row["row"])
    for end in range(2, len(data)):
        with pytest.raises(ValueError):
            decode(data[:end])
