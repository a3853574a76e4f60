"""The tests themselves: no process is waited for without a limit, and all can be interrupted."""

import ast
import signal
import subprocess
import sys
import time
from pathlib import Path

import anndata as ad
import numpy as np
import pytest
import scipy.sparse as sp
from processes import child

HERE = Path(__file__).parent
PROGRAM = Path(sys.executable).with_name("slaf")


@pytest.fixture
def ctrl_c_ignored():
    """As under nohup."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    yield
    signal.signal(signal.SIGINT, before)


def without_a_limit(source):
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        name, given = node.func.attr, {k.arg for k in node.keywords}
        of_subprocess = isinstance(node.func.value, ast.Name) and node.func.value.id == "subprocess"
        runs = of_subprocess and name in ("run", "call", "check_call", "check_output")
        waits = name in ("wait", "communicate") and not node.args
        if (runs or waits) and "timeout" not in given:
            yield f"{name} in line {node.lineno}"


def test_no_process_is_waited_for_without_a_limit():
    assert list(without_a_limit("subprocess.run(a)\nsubprocess.run(a, timeout=1)")) == [
        "run in line 1"
    ]
    files = [*HERE.glob("*.py"), *HERE.parents[1].glob("compat/*.py")]
    found = {f.name: list(without_a_limit(f.read_text())) for f in files}
    assert {name: calls for name, calls in found.items() if calls} == {}


def test_a_child_can_be_interrupted_where_the_tests_cannot(ctrl_c_ignored):
    code = "import signal; print(signal.getsignal(signal.SIGINT).__name__)"
    with child([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.read() == "default_int_handler\n"


def test_a_child_ends_after_the_limit():
    start = time.monotonic()
    with child([sys.executable, "-c", "input()"], 0.5, stdin=subprocess.PIPE) as process:
        assert process.wait(60) == -signal.SIGKILL
    assert time.monotonic() - start < 60


def test_the_command_goes_on_where_ctrl_c_is_ignored(tmp_path, ctrl_c_ignored):
    rng = np.random.default_rng(0)
    X = sp.random(20_000, 300, 0.1, "csr", "f4", rng=rng)
    ad.AnnData(X).write_h5ad(tmp_path / "a.h5ad")
    target = tmp_path / "a.slaf"
    with subprocess.Popen(
        [PROGRAM, "convert", tmp_path / "a.h5ad", target], stdout=subprocess.DEVNULL
    ) as process:
        while process.poll() is None and not target.exists():
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
    assert subprocess.run([PROGRAM, "verify", target], timeout=60).returncode == 0
