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
        done = subprocess.run([PROGRAM, *arguments], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
    assert "cell5" in done.stdout


def test_exit_status(tmp_path):
    def run(*args):
        return subprocess.run([PROGRAM, *args], capture_output=True, text=True, timeout=60)

    failed = run("info", tmp_path / "no")
    assert (failed.returncode, failed.stdout) == (1, "")
    assert "no such store" in failed.stderr
    assert run("infoo").returncode == 2
    version = run("version")
    assert slaf.__version__ in version.stdout
