"""Pickles, threads, forks, signals, and the time of the import."""

import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from processes import child

from slaf import SLAFArray
from slaf.data import SLAFConverter
from slaf.integrations import read_slaf


def test_pickles(store_path):
    array = pickle.loads(pickle.dumps(SLAFArray(store_path, storage_options={"aws_region": "b"})))
    assert array.shape == (6, 4)
    assert array.version == 1
    view = pickle.loads(pickle.dumps(read_slaf(store_path)[[4, 0], 1:]))
    assert view.is_view
    assert view.shape == (2, 3)
    np.testing.assert_array_equal(view.X.toarray(), [[0, 0, 0], [0, 0, 2]])
    matrix = pickle.loads(pickle.dumps(read_slaf(store_path).X[:2]))
    assert matrix.nnz == 3


def test_secrets_are_not_shown(store_path):
    array = SLAFArray(store_path, storage_options={"aws_secret_access_key": "hunter2"})
    assert "hunter2" not in repr(array) + repr(array._store.native)


def test_eight_threads_on_one_handle(store_path, original):
    array, expected = SLAFArray(store_path), original.X.toarray()

    def work(seed):
        rng = np.random.default_rng(seed)
        for _ in range(20):
            cells = rng.integers(0, 6, 4)
            np.testing.assert_array_equal(array.to_csr(cells).toarray(), expected[cells])
            assert array.query("SELECT COUNT(*) AS n FROM expression")["n"][0] == 10

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))


def total(array):
    return float(array.to_csr().sum())


@pytest.mark.parametrize("method", ["spawn", "fork", "forkserver"])
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_child_processes(store_path, method):
    array = SLAFArray(store_path)
    assert total(array) == 46
    context = multiprocessing.get_context(method)
    with context.Pool(2) as pool:
        assert pool.map_async(total, [array] * 4).get(timeout=120) == [46.0] * 4


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_handle_of_the_parent_works_in_a_fork(store_path):
    array = SLAFArray(store_path)
    assert total(array) == 46
    pid = os.fork()
    if pid == 0:
        signal.alarm(60)
        ok = total(array) == 46 and array.obs.height == 6
        ok = ok and array.query("SELECT COUNT(*) AS n FROM expression")["n"][0] == 10
        os._exit(0 if ok else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


FORKED = """
    import os, signal, sys
    import polars as pl
    import slaf
    from slaf.ml import SLAFDataLoader
    array = slaf.SLAFArray(sys.argv[1])
    sql = "SELECT COUNT(*) AS n FROM expression"
    mine = {"mine": pl.LazyFrame({"n": [1]})}
    needs = {
        "DuckDB": lambda: array.query(sql, engine="duckdb", timeout=20),
        "connection": lambda: array.duckdb().sql(sql).fetchall(),
        "scan": lambda: array.scan("expression").collect(),
        "table": lambda: array.query("SELECT n FROM mine", tables=mine),
        "labels": lambda: SLAFDataLoader(array, raw_mode=True, obs_columns=["batch"]),
    }
    def answer(pipe, name):
        signal.alarm(60)
        try:
            needs[name]()
            told = "done"
        except BaseException as e:
            told = f"{type(e).__name__}: {e}"
        n = array.query(sql, timeout=20)["n"][0]
        os.write(pipe, f"{name}: {told}; {n}".encode())
        os._exit(0)
    used = sys.argv[2]
    if used in needs:
        needs[used]()
    for name in needs:
        here, there = os.pipe()
        if os.fork() == 0:
            answer(there, name)
        os.close(there)
        with os.fdopen(here) as told:
            print(told.read() or f"{name}: hangs")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no forks here")
@pytest.mark.parametrize("used", ["DuckDB", "labels", "nothing"])
def test_polars_after_a_fork_works_or_is_refused(store_path, used):
    command = [sys.executable, "-W", "ignore", "-c", textwrap.dedent(FORKED), store_path, used]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=240)
    lines = done.stdout.splitlines()
    assert len(lines) == 5, done.stderr
    for line in lines:
        assert line.endswith("; 10"), line
        assert ("that this one was forked from" in line) == (used != "nothing"), line
        assert (": done" in line) == (used == "nothing"), line


INTERRUPTED = """
    import sys, time
    from slaf import SLAFArray
    from slaf.data import SLAFConverter
    what, source, store, target = sys.argv[1:]
    array = SLAFArray(store)
    print("ready", flush=True)
    try:
        if what == "convert":
            SLAFConverter().convert(source, target)
        else:
            array.query("SELECT COUNT(*) FROM expression a, expression b, expression c WHERE "
                        "a.value * b.value * c.value = 0.5")
    except KeyboardInterrupt:
        print("interrupted", flush=True)
"""


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """A file that takes seconds to convert, and a store of some of its cells."""
    folder = tmp_path_factory.mktemp("large")
    n, per_cell = 60_000, 200
    rng = np.random.default_rng(0)
    columns = np.sort(rng.integers(0, 10, (n, per_cell)) + 10 * np.arange(per_cell))
    values = rng.integers(1, 50, n * per_cell).astype(np.float32)
    X = sp.csr_matrix((values, columns.ravel(), np.arange(n + 1) * per_cell), (n, 10 * per_cell))
    adata = ad.AnnData(X, obs=pd.DataFrame(index=np.arange(n).astype(str)))
    adata.write_h5ad(folder / "large.h5ad")
    SLAFConverter().convert_anndata(adata[:4000].copy(), folder / "some.slaf")
    return folder


@pytest.mark.parametrize("what", ["convert", "query"])
def test_ctrl_c(tmp_path, large, what):
    code = textwrap.dedent(INTERRUPTED)
    target = tmp_path / "target.slaf"
    paths = [large / "large.h5ad", large / "some.slaf", target]
    # Fragments of few cells make the conversion last for many times what the test waits.
    environment = os.environ | {"SLAF_FRAGMENT_ROWS": "50"}
    command = [sys.executable, "-W", "ignore", "-c", code, what, *paths]
    with child(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout.readline() == "ready\n"
        while what == "convert" and not target.exists() and process.poll() is None:
            time.sleep(0.01)
        time.sleep(0.3)
        assert process.poll() is None, "the operation is too short for this test"
        start = time.monotonic()
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == "interrupted\n"
        # Within a second, on a machine that does nothing else.
        assert time.monotonic() - start < 5
        assert process.wait(10) == 0
    assert list(tmp_path.iterdir()) == []


def test_other_threads_run_meanwhile(store_path):
    """The GIL is released: Python counts while a query runs."""
    array = SLAFArray(store_path)
    counted = 0
    done = threading.Event()

    def count():
        nonlocal counted
        while not done.is_set():
            counted += 1

    thread = threading.Thread(target=count)
    thread.start()
    array.query(
        "SELECT COUNT(*) FROM expression a, expression b, expression c, expression d, "
        "expression e, expression f WHERE a.value + f.value < 0"
    )
    done.set()
    thread.join()
    assert counted > 1000


def run(code):
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    ).stdout


HEAVY = """
    import sys
    heavy = {"anndata", "dask", "duckdb", "h5py", "pandas", "polars", "pyarrow", "scanpy", "scipy",
             "torch"}
    def loaded():
        return sorted(heavy & set(sys.modules))
"""


@pytest.mark.parametrize(
    "statement",
    [
        "import slaf",
        "from slaf.integrations import read_slaf",
        "from slaf.integrations import get, pp, tl",
        "from slaf.integrations import scanpy",
        "from slaf.data import SLAFConverter",
        "from slaf.ml import SLAFDataLoader, GeneformerTokenizer",
    ],
)
def test_imports_are_light(statement):
    assert run(f"{HEAVY}\n    {statement}\n    print(loaded())") == "[]\n"


def test_packages_are_imported_when_they_are_used(store_path):
    loaded = run(f"""{HEAVY}
    from slaf import SLAFArray
    from slaf.integrations import read_slaf
    array, adata = SLAFArray({store_path!r}), read_slaf({store_path!r})
    assert array.shape == adata.shape == adata.X.shape
    assert adata[:2, 0].X.shape == (2, 1)
    print(loaded())
    array.to_csr([0])
    print(loaded())
    array.filter_cells("cell_integer_id < 2")
    print(loaded())
    """)
    assert loaded.splitlines() == ["[]", "['scipy']", "['polars', 'scipy']"]


def test_the_import_is_quick():
    # Processor time: other programs on the machine do not count.
    code = "import time; t = time.process_time(); import slaf; print(time.process_time() - t)"
    assert min(float(run(code)) for _ in range(5)) < 0.3
