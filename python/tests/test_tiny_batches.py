"""Everything again with batches of 3 rows and fragments of 7, where every boundary shows."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

FILES = [
    "test_round_trip.py",
    "test_slicing.py",
    "test_array.py",
    "test_loader.py",
    "test_samplers.py",
    "test_lazy_matrix.py",
    "test_lazy_anndata.py",
    "test_scanpy_get.py",
]


@pytest.mark.skipif("SLAF_BATCH_ROWS" in os.environ, reason="this is the inner run")
def test_tiny_batches():
    here = Path(__file__).parent
    inner = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-x",
            "-p",
            "no:cacheprovider",
            *FILES,
            "-k",
            "not real_files and not old_files",
        ],
        cwd=here,
        capture_output=True,
        text=True,
        timeout=1800,
        env={**os.environ, "SLAF_BATCH_ROWS": "3", "SLAF_FRAGMENT_ROWS": "7"},
    )
    assert inner.returncode == 0, inner.stdout[-5000:] + inner.stderr[-2000:]
