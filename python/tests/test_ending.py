"""Daemon threads that are inside of SLAF when the program ends do not abort it."""

import sys
import textwrap

import pytest
from processes import child
from test_queries import annotated, counts

from slaf.data import SLAFConverter

# PyTorch itself aborts a process that ends with a daemon thread inside of it.
BATCHES = 'SLAFDataLoader(array, batch_size=8, raw_mode=True, return_tensors="numpy")'
TASKS = {
    "slices": "array.to_csr(slice(0, 50))",
    "queries": "array.query('SELECT COUNT(*) FROM expression')",
    "batches": f"next(iter({BATCHES}))",
}


@pytest.fixture(scope="module")
def path(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("ending")
    SLAFConverter().convert_anndata(annotated(counts(300, 40, 1), 1), str(folder / "a.slaf"))
    return str(folder / "a.slaf")


@pytest.mark.parametrize("task", TASKS)
def test_daemon_threads_end_with_the_program(path, task):
    code = f"""
        import sys, threading, time
        from slaf import SLAFArray
        from slaf.ml import SLAFDataLoader
        array = SLAFArray(sys.argv[1])
        def work():
            while True:
                {TASKS[task]}
        {TASKS[task]}
        for _ in range(3):
            threading.Thread(target=work, daemon=True).start()
        time.sleep(0.3)
    """
    for _ in range(3):
        command = [sys.executable, "-W", "ignore", "-c", textwrap.dedent(code), path]
        with child(command) as process:
            assert process.wait(60) == 0
