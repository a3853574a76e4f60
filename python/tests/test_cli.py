"""The console script."""

import subprocess
import sys
from pathlib import Path

import anndata as ad
import numpy as np
import scipy.sparse as sp
from processes import SLAF

import slaf
from slaf.data import SLAFConverter

PROGRAM = Path(sys.executable).with_name("slaf")


def test_the_snippet(tmp_path, h5ad_path):
    store = tmp_path / "output.slaf"
    for arguments in (
        ["convert", h5ad_path, store],
        ["info", store],
        ["query", store, "SELECT * FROM cells LIMIT 10"],
    ):
        done = subprocess.run([PROGRAM, *arguments], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
    assert "cell5" in done.stdout


def slaf_under(limits, *args, shell='"$@"'):
    """Run the command in a shell that sets limits."""
    script = f"{limits}; {shell}"
    command = ["sh", "-c", script, "sh", *SLAF, *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def test_a_file_that_cannot_grow_is_named(tmp_path, store_path):
    sql = "SELECT i, i * i AS square FROM UNNEST(range(0, 400000)) AS t(i)"
    for name in ("a.csv", "a.json", "a.parquet", "a.arrow"):
        done = slaf_under("ulimit -f 64", "query", store_path, sql, "-o", tmp_path / name)
        assert done.returncode == 1, name
        assert f"{tmp_path / name}: " in done.stderr
        assert "File too large" in done.stderr
    X = sp.random(3000, 500, 0.5, format="csr", dtype=np.float32, rng=np.random.default_rng(0))
    SLAFConverter().convert_anndata(ad.AnnData(X), tmp_path / "big.slaf")
    for name in ("a.h5ad", "mtx"):
        done = slaf_under("ulimit -f 64", "export", tmp_path / "big.slaf", tmp_path / name)
        assert done.returncode == 1, name
        assert f"{tmp_path / name}: " in done.stderr
        assert "File too large" in done.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["big.slaf"]


def test_a_closed_standard_output_is_an_error(store_path):
    done = slaf_under(":", "query", store_path, "SELECT 1", shell='"$@" >&-')
    assert done.returncode == 1
    assert "standard output is closed" in done.stderr


def test_exit_status(tmp_path):
    def run(*args):
        return subprocess.run([PROGRAM, *args], capture_output=True, text=True, timeout=60)

    failed = run("info", tmp_path / "no")
    assert (failed.returncode, failed.stdout) == (1, "")
    assert "no such store" in failed.stderr
    assert run("infoo").returncode == 2
    version = run("version")
    assert slaf.__version__ in version.stdout
