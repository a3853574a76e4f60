"""Rust's packed rows, read by an independent decoder."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from reference_decoder import decode

from slaf import InvalidArgumentError, _slaf

DTYPES = ["bool", "u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "f4", "f8"]


def check(columns, values):
    row = _slaf._encode_row(np.asarray(columns, np.uint32), values)
    found_columns, found_values = decode(row)
    np.testing.assert_array_equal(found_columns, columns)
    if values.dtype.kind == "f":
        # Bits, so that NaN payloads and -0.0 count.
        found_values = found_values.astype(values.dtype)
        assert found_values.tobytes() == values.tobytes()
    else:
        np.testing.assert_array_equal(found_values.astype(values.dtype), values)


@given(data=st.data(), dtype=st.sampled_from(DTYPES))
def test_any_row(data, dtype):
    columns = data.draw(st.sets(st.integers(0, 2**32 - 1) | st.integers(0, 500), max_size=300))
    values = data.draw(hnp.arrays(dtype, len(columns)))
    check(sorted(columns), values)


@pytest.mark.parametrize("n", [0, 1, 127, 128, 129, 255, 256, 257, 1000])
@pytest.mark.parametrize("high", [2, 3, 70, 300, 70_000, 2**32 - 1])
def test_counts_of_every_width(n, high):
    rng = np.random.default_rng(n)
    columns = np.sort(rng.choice(60_000, n, replace=False))
    check(columns, rng.integers(0, high, n).astype(np.uint32))
    check(columns, rng.integers(0, high, n).astype(np.float64))
    check(columns, rng.integers(-(high // 2), high // 2 + 1, n))


def test_dictionaries():
    rng = np.random.default_rng(0)
    columns = np.arange(0, 3000, 3)
    for dtype in ("f4", "f8"):
        check(columns, np.log1p(rng.integers(1, 9, 1000) / 7).astype(dtype))


def test_columns_must_rise():
    with pytest.raises(InvalidArgumentError, match="rise"):
        _slaf._encode_row(np.array([3, 3], np.uint32), np.array([1, 2], np.int64))
