"""The console script."""

import subprocess
import sys
from pathlib import Path

import slaf

PROGRAM = Path(sys.executable).with_name("slaf")


def test_the_snippet(tmp_path, h5ad_path):
    store = tmp_path / "output.slaf"
    for arguments in (
        ["convert", h5ad_path, store],
        ["info", store],
        ["query", store, "SELECT * FROM cells LIMIT 10"],
    ):
        done = subprocess.run([PROGRAM, *arguments], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    assert "cell5" in done.stdout


def test_exit_status(tmp_path):
    failed = subprocess.run([PROGRAM, "info", tmp_path / "no"], capture_output=True, text=True)
    assert (failed.returncode, failed.stdout) == (1, "")
    assert "no such store" in failed.stderr
    assert subprocess.run([PROGRAM, "infoo"], capture_output=True).returncode == 2
    version = subprocess.run([PROGRAM, "version"], capture_output=True, text=True)
    assert slaf.__version__ in version.stdout
