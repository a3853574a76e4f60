"""Conversion by several processes gives what one gives, whatever happens to the processes."""

import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import threading
import time
import types
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from helpers import assert_same
from processes import LIMIT, SLAF, child, run_slaf

import slaf
from slaf import SLAFArray, _slaf
from slaf.data import SLAFConverter, convert_distributed
from slaf.integrations import read_slaf

N_GENES = 30


def sample(seed, n=40, genes=None, **changes):
    """Cells with something in each slot that can be read in parts."""
    rng = np.random.default_rng(seed)
    genes = [f"g{i}" for i in rng.permutation(N_GENES)] if genes is None else genes
    X = sp.csr_matrix(rng.poisson(0.4, (n, len(genes))).astype(np.float32))
    obs = pd.DataFrame(
        {
            "kind": pd.Categorical(
                rng.choice(["T", "B", f"only{seed}"], n), ["B", "T", f"only{seed}", "unused"]
            ),
            "depth": rng.integers(0, 1000, n),
            "score": np.where(rng.random(n) < 0.2, np.nan, rng.random(n)),
            "note": [f"note {i % 7}" for i in range(n)],
            "doublet": rng.random(n) < 0.1,
            "day": pd.array([i if i % 3 else None for i in range(n)], dtype="Int32"),
        },
        index=[f"s{seed}c{i}" for i in range(n)],
    )
    var = pd.DataFrame({"symbol": [f"S{g}" for g in genes]}, index=genes)
    layers = {"double": X * 2, "dense": X.toarray().astype(np.int32)}
    obsm = {"X_pca": rng.random((n, 3)).astype(np.float32)}
    adata = ad.AnnData(X, obs, var, layers=layers, obsm=obsm, uns={"seed": seed})
    for name, value in changes.items():
        setattr(adata, name, value)
    return adata


def everything(seed=0, n=60):
    """What a single input may have besides."""
    adata = sample(seed, n)
    adata.raw = sample(seed, n, genes=[f"r{i}" for i in range(45)])
    adata.obsp["distances"] = sp.random(n, n, 0.1, "csr", rng=np.random.default_rng(1))
    adata.varm["PCs"] = np.arange(2.0 * N_GENES).reshape(N_GENES, 2)
    adata.varp["corr"] = np.eye(N_GENES)
    return adata


def write(folder, **samples):
    paths = []
    for name, adata in samples.items():
        paths.append(folder / f"{name}.h5ad")
        adata.write_h5ad(paths[-1])
    return paths


def manifest_of(store):
    newest = max((Path(store) / "_slaf" / "versions").glob("*.json"))
    return newest, json.loads(newest.read_text())


def assert_nothing_is_left_over(store):
    newest, manifest = manifest_of(store)
    named = {f["path"] for f in manifest["files"]} | {newest.relative_to(store).as_posix()}
    there = {f.relative_to(store).as_posix() for f in Path(store).rglob("*") if f.is_file()}
    assert there == named


def assert_same_store(one, other):
    """The same cells, genes, values, statistics, ranks and descriptions; whole, and no more."""
    a, b = read_slaf(one), read_slaf(other)
    assert_same(a.to_memory(), b.to_memory())
    x, y = SLAFArray(one), SLAFArray(other)
    sql = "SELECT gene_id, COUNT(*) AS n, SUM(value) AS s FROM expression GROUP BY 1 ORDER BY 1"
    assert x.query(sql).equals(y.query(sql))
    np.testing.assert_array_equal(x.to_csr(genes=[3]).toarray(), y.to_csr(genes=[3]).toarray())
    assert x.sources().equals(y.sources())
    assert x.measured().equals(y.measured())
    (_, m), (_, n) = manifest_of(one), manifest_of(other)
    same = ("obs", "var", "raw_var", "matrices", "arrays", "n_cells", "n_genes", "reader_features")
    assert {k: m[k] for k in same} == {k: n[k] for k in same}
    _, tables = manifest_of(other)
    assert sum(s["n_cells"] for s in tables["stripes"]) == n["n_cells"]
    assert y.verify() == []
    assert_nothing_is_left_over(other)


@pytest.fixture
def inputs(tmp_path):
    """Four files of other genes, columns and categories."""
    more = [f"g{i}" for i in range(5, N_GENES + 5)]
    fewer = sample(3, 15)
    del fewer.obs["score"]
    return write(tmp_path, a=sample(0), b=sample(1, 25, more), c=fewer, d=sample(4, 10))


@pytest.mark.parametrize("part_cells", [None, 1000, 11])
@pytest.mark.parametrize("join", ["outer", "inner", "reference"])
def test_several_inputs(tmp_path, inputs, join, part_cells):
    expected = SLAFConverter(join=join).convert(inputs, tmp_path / "one.slaf")
    report = convert_distributed(
        inputs, tmp_path / "many.slaf", workers=2, part_cells=part_cells, join=join
    )
    assert_same_store(tmp_path / "one.slaf", tmp_path / "many.slaf")
    assert (report.n_cells, report.nnz, report.kept) == (90, expected.nnz, expected.kept)
    parts = {None: 1, 1000: 1, 11: 10}[part_cells]
    told = "converted in one part" if parts == 1 else f"converted in {parts} parts"
    assert report.notes[-1] == told


def test_all_slots_of_one_input(tmp_path):
    [path] = write(tmp_path, a=everything())
    SLAFConverter().convert(path, tmp_path / "one.slaf")
    for n in (3, 25):
        store = tmp_path / f"{n}.slaf"
        convert_distributed(path, store, workers=3, part_cells=n, durability="os")
        assert_same_store(tmp_path / "one.slaf", store)


def test_layers_that_some_lack_and_no_second_copy(tmp_path, inputs):
    del_layer = sample(5, 20)
    del del_layer.layers["double"]
    paths = [*inputs, *write(tmp_path, e=del_layer)]
    options = {"fill_layers": True, "by_gene": False, "source_column": "file"}
    SLAFConverter(**options).convert(paths, tmp_path / "one.slaf")
    convert_distributed(paths, tmp_path / "many.slaf", workers=2, part_cells=9, **options)
    assert_same_store(tmp_path / "one.slaf", tmp_path / "many.slaf")


def tenx(path, counts, features):
    """A 10x file of version 3."""
    import h5py

    n_cells, n_genes = counts.shape
    with h5py.File(path, "w") as file:
        matrix = file.create_group("matrix")
        for name in ("data", "indices", "indptr"):
            matrix[name] = getattr(counts, name)
        matrix["shape"] = np.array([n_genes, n_cells], np.int32)
        matrix["barcodes"] = np.array([f"{path.stem}{i}" for i in range(n_cells)], dtype="S")
        group = matrix.create_group("features")
        names = [f"G{i}" for i in range(n_genes)]
        group["id"] = group["name"] = np.array(names, dtype="S")
        group["feature_type"] = np.array(features, dtype="S")
        group["genome"] = np.array(["x"] * n_genes, dtype="S")


def test_tenx_files_and_features_that_are_left_out(tmp_path):
    features = ["Gene Expression"] * 20 + ["Antibody Capture"] * 5
    paths = [tmp_path / "p.h5", tmp_path / "q.h5"]
    for i, path in enumerate(paths):
        X = sp.random(31, 25, 0.3, "csr", np.float32, rng=np.random.default_rng(i))
        X.data = np.ceil(X.data * 9).astype(np.int32)
        tenx(path, X, features)
    options = {"feature_type": "Gene Expression"}
    for chosen in (paths, paths[:1]):
        SLAFConverter(overwrite=True, **options).convert(chosen, tmp_path / "one.slaf")
        convert_distributed(
            chosen, tmp_path / "many.slaf", workers=2, part_cells=7, overwrite=True, **options
        )
        assert_same_store(tmp_path / "one.slaf", tmp_path / "many.slaf")


def test_what_is_read_whole(tmp_path):
    table = tmp_path / "cells.csv"
    frame = pd.DataFrame(np.eye(12, 4, dtype=int), [f"c{i}" for i in range(12)], list("abcd"))
    frame.to_csv(table)
    [columns] = write(tmp_path, a=sample(0, layers={"csc": sample(0).X.tocsc()}))
    for path in (table, columns):
        SLAFConverter(overwrite=True).convert(path, tmp_path / "one.slaf")
        report = convert_distributed(
            path, tmp_path / "many.slaf", workers=2, part_cells=3, overwrite=True
        )
        assert report.notes[-1] == "converted in one part"
        assert_same_store(tmp_path / "one.slaf", tmp_path / "many.slaf")


def test_tiny_batches_and_fragments(tmp_path, inputs):
    env = os.environ | {"SLAF_BATCH_ROWS": "3", "SLAF_FRAGMENT_ROWS": "5", "SLAF_FEW_NAMES": "10"}
    for store, more in (("one.slaf", []), ("many.slaf", ["--workers", "2"])):
        run = run_slaf(
            "convert", *inputs, tmp_path / store, *more, env=env | {"SLAF_PART_CELLS": "13"}
        )
        assert (run.returncode, run.stderr) == (0, ""), run.stdout
    assert_same_store(tmp_path / "one.slaf", tmp_path / "many.slaf")
    names = SLAFArray(tmp_path / "many.slaf").query("SELECT * FROM cells WHERE cell_id = 's4c9'")
    assert len(names) == 1


def test_the_values_do_not_depend_on_the_workers(tmp_path):
    fractions = [sample(i, 30) for i in range(3)]
    for adata in fractions:
        adata.X.data = np.random.default_rng(len(adata)).random(adata.X.nnz).astype(np.float32)
    paths = write(tmp_path, **{f"f{i}": adata for i, adata in enumerate(fractions)})
    sums = []
    for workers in (1, 2, 4):
        store = tmp_path / f"{workers}.slaf"
        convert_distributed(paths, store, workers=workers, part_cells=8)
        sums.append(SLAFArray(store).query("SELECT gene_id, total_counts FROM genes ORDER BY 1"))
    assert sums[0].equals(sums[1])
    assert sums[0].equals(sums[2])


def workers_of(pid):
    """The worker processes of a process."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
            except (OSError, IndexError):
                continue
            if parent == pid:
                found.append(int(entry.name))
    return found


def wait_until(condition, seconds=LIMIT):
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end
        time.sleep(0.001)
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="looks for workers in /proc")
def test_a_worker_that_is_killed_is_replaced(tmp_path, inputs):
    SLAFConverter().convert(inputs, tmp_path / "one.slaf")
    killed = 0
    for round_ in range(2):
        store = tmp_path / f"{round_}.slaf"
        # Many small batches: the work takes longer than the start.
        env = os.environ | {"SLAF_BATCH_ROWS": "2", "SLAF_FRAGMENT_ROWS": "4"}
        command = [*SLAF, "convert", *inputs, store, "--workers", "2"]
        env["SLAF_PART_CELLS"] = "30"
        with child(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env) as process:
            wait_until(lambda: process.poll() is not None or list(store.glob("cells-*/data/*")))  # noqa: B023
            for pid in workers_of(process.pid)[: 1 + round_ % 2]:
                os.kill(pid, signal.SIGKILL)
                killed += 1
            out, err = process.communicate(timeout=LIMIT)
        assert (process.returncode, err) == (0, b""), out
        assert_same_store(tmp_path / "one.slaf", store)
    assert killed > 0


@pytest.mark.skipif(sys.platform != "linux", reason="looks for workers in /proc")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_workers_end_with_who_started_them(tmp_path, inputs, how):
    store = tmp_path / "a.slaf"
    env = os.environ | {"SLAF_BATCH_ROWS": "2", "SLAF_FRAGMENT_ROWS": "4", "SLAF_PART_CELLS": "20"}
    command = [*SLAF, "convert", *inputs, store, "--workers", "2"]
    with child(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env) as process:
        wait_until(lambda: process.poll() is not None or list(store.glob("cells-*/data/*")))
        workers = workers_of(process.pid)
        process.send_signal(how)
        process.communicate(timeout=LIMIT)
    assert process.returncode in (128 + how, -how, 0)
    wait_until(lambda: not any(is_running(pid) for pid in workers))
    if how != signal.SIGKILL and process.returncode:
        assert not store.exists()
    # What a dead conversion left is swept.
    SLAFConverter(overwrite=True).convert(inputs, store)
    assert_nothing_is_left_over(store)


def is_running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


@pytest.fixture
def worker_script(tmp_path, monkeypatch):
    """Puts a script in the place of the worker's; the extension module is where it was."""

    def put(text):
        folder = tmp_path / "package"
        folder.mkdir(exist_ok=True)
        original = Path(_slaf.__file__)
        real = original.with_name("_worker.py")
        (folder / "_worker.py").write_text(
            f"import os, runpy, sys\nsys.argv[1] = {str(original)!r}\n"
            f"def work():\n    runpy.run_path({str(real)!r}, run_name='__main__')\n{text}"
        )
        monkeypatch.setattr(_slaf, "__file__", str(folder / original.name))

    return put


def test_a_worker_that_always_dies(tmp_path, inputs, worker_script):
    store = tmp_path / "a.slaf"
    worker_script("sys.stdin.buffer.read(9)\nos.kill(os.getpid(), 9)\n")
    with pytest.raises(slaf.StorageError) as caught:
        convert_distributed(inputs, store, workers=2, part_cells=20)
    message = str(caught.value)
    assert caught.value.kind == "io"
    assert "part " in message
    assert ".h5ad" in message
    assert "SIGKILL" in message
    assert "3 times" in message
    assert not store.exists()
    SLAFConverter().convert(inputs, store)
    before = manifest_of(store)[1]
    with pytest.raises(slaf.StorageError):
        convert_distributed(inputs, store, workers=2, part_cells=20, overwrite=True)
    assert manifest_of(store)[1] == before
    assert_nothing_is_left_over(store)


@pytest.mark.parametrize("text", ["print('hello, world ' * 9, flush=True)\nwork()", "pass"])
def test_a_worker_that_says_something_else(tmp_path, inputs, worker_script, text):
    worker_script(text)
    with pytest.raises(slaf.StorageError, match="part 1 of"):
        convert_distributed(inputs, tmp_path / "a.slaf", workers=1, part_cells=50)
    assert not (tmp_path / "a.slaf").exists()


def test_parts_of_workers_that_die_late_are_converted_again(tmp_path, inputs, worker_script):
    SLAFConverter().convert(inputs, tmp_path / "one.slaf")
    marks = tmp_path / "marks"
    marks.mkdir()
    # The first processes die while they work, after they have written something.
    worker_script(
        f"""
import glob, signal, threading, time
mine = {str(marks)!r} + "/" + str(os.getpid())
first = len(os.listdir({str(marks)!r})) < 2
open(mine, "w").close()
def die():
    while not glob.glob({str(tmp_path / "many.slaf")!r} + "/cells-*/data/part-*"):
        time.sleep(0.0005)
    os.kill(os.getpid(), signal.SIGKILL)
if first:
    threading.Thread(target=die, daemon=True).start()
work()
"""
    )
    convert_distributed(inputs, tmp_path / "many.slaf", workers=2, part_cells=20)
    assert len(list(marks.iterdir())) > 2
    assert_same_store(tmp_path / "one.slaf", tmp_path / "many.slaf")


def test_an_error_of_a_part_names_its_input(tmp_path, inputs):
    import h5py

    with h5py.File(inputs[1], "r+") as file:
        file["X/indices"][-1] = 10_000
    with pytest.raises(slaf.InputError, match="index 10000") as caught:
        convert_distributed(inputs, tmp_path / "a.slaf", workers=2, part_cells=20)
    assert caught.value.kind == "malformed-input"
    assert caught.value.location.startswith(str(inputs[1]))
    assert not (tmp_path / "a.slaf").exists()
    with pytest.raises(slaf.InputError, match="index 10000") as caught:
        convert_distributed(inputs[1], tmp_path / "a.slaf", workers=1)
    assert caught.value.location.startswith(str(inputs[1]))


def test_two_conversions_at_one_target(tmp_path, inputs):
    SLAFConverter().convert(inputs, tmp_path / "one.slaf")
    for round_ in range(3):
        store = tmp_path / f"{round_}.slaf"
        ready = threading.Barrier(2)

        def convert(n, store=store, ready=ready):
            ready.wait(30)
            try:
                convert_distributed(inputs, store, workers=1, part_cells=20 + n)
            except slaf.SlafError as e:
                return e.kind
            return "won"

        with ThreadPoolExecutor(2) as pool:
            ended = sorted(pool.map(convert, [0, 1]))
        assert ended == ["already-exists", "won"]
        assert_same_store(tmp_path / "one.slaf", store)


def plan_of(inputs, store, part_cells=20, **options):
    return _slaf.Distributed(
        inputs, str(store), SLAFConverter(**options)._options, part_cells, None
    )


def test_a_part_of_another_version_is_refused(tmp_path, inputs):
    plan = plan_of(inputs, tmp_path / "a.slaf")
    task = plan.task(0).replace(f"slaf {slaf.__version__}".encode(), b"slaf 0.0.0", 1)
    with pytest.raises(slaf.UnsupportedError, match="install one version for all workers"):
        _slaf.convert_part(task)
    with pytest.raises(slaf.InvalidArgumentError, match="not a part of a conversion"):
        _slaf.convert_part(b"hello")
    with pytest.raises(slaf.OutOfRangeError):
        plan.task(99)
    plan.abandon()
    assert not (tmp_path / "a.slaf").exists()


def test_an_input_that_changes_is_noticed(tmp_path, inputs):
    plan = plan_of(inputs, tmp_path / "a.slaf")
    results = [_slaf.convert_part(plan.task(part)) for part in range(len(plan.cells))]
    sample(9).write_h5ad(inputs[0])
    with pytest.raises(slaf.ConflictError, match="since the conversion began"):
        _slaf.convert_part(plan.task(0))
    with pytest.raises(slaf.ConflictError, match="since the conversion began"):
        plan.finish(results, None)
    assert not (tmp_path / "a.slaf").exists()


def test_what_is_written_beside_the_files_of_an_input(tmp_path):
    """The target and a log in the folder that is read, and links that lead nowhere or round."""
    folder = tmp_path / "10x"
    folder.mkdir()
    (folder / "matrix.mtx").write_text(
        "%%MatrixMarket matrix coordinate integer general\n3 2 2\n1 1 5\n3 2 7\n"
    )
    (folder / "features.tsv").write_text(
        "".join(f"g{i}\tg{i}\tGene Expression\n" for i in range(3))
    )
    (folder / "barcodes.tsv").write_text("c0\nc1\n")
    (folder / "broken").symlink_to("nowhere")
    (folder / "round").symlink_to(".")
    for path in (folder, folder / "matrix.mtx"):
        plan = plan_of([path], folder / "out.slaf")
        (folder / "convert.log").write_text(str(path))
        results = [_slaf.convert_part(plan.task(part)) for part in range(len(plan.cells))]
        plan.finish(results, None)
        assert SLAFArray(folder / "out.slaf").to_csr().toarray().tolist() == [[5, 0, 0], [0, 0, 7]]
        shutil.rmtree(folder / "out.slaf")
    plan = plan_of([folder / "matrix.mtx"], folder / "out.slaf")
    (folder / "barcodes.tsv").write_text("c1\nc0\n\n")
    with pytest.raises(slaf.ConflictError, match="since the conversion began"):
        _slaf.convert_part(plan.task(0))


def test_a_plan_that_is_dropped_leaves_nothing(tmp_path, inputs):
    plan = plan_of(inputs, tmp_path / "a.slaf")
    task = plan.task(0)
    _slaf.convert_part(task)
    assert (tmp_path / "a.slaf").exists()
    del plan
    assert not (tmp_path / "a.slaf").exists()
    with pytest.raises(slaf.ConflictError, match="has ended, or was given up"):
        _slaf.convert_part(task)
    assert not list((tmp_path).glob("a.slaf/*"))


def test_arguments(tmp_path, inputs):
    store = tmp_path / "a.slaf"
    for wrong in ({}, {"workers": 1, "ray": True}, {"workers": 0}, {"workers": 1, "part_cells": 0}):
        with pytest.raises(slaf.InvalidArgumentError):
            convert_distributed(inputs, store, **wrong)
    with pytest.raises(slaf.InvalidArgumentError, match="no inputs"):
        convert_distributed([], store, workers=1)
    with pytest.raises(slaf.InvalidArgumentError, match="memry"):
        convert_distributed(inputs, store, workers=1, memry=3)
    run = run_slaf("convert", inputs[0], store, "--workers", "0")
    assert run.returncode == 2
    assert not store.exists()


def test_messages_are_small(tmp_path, inputs):
    plan = plan_of(inputs, tmp_path / "a.slaf")
    assert all(len(plan.task(part)) < 40_000 for part in range(len(plan.cells)))
    plan.abandon()


# --- Dask ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cluster():
    distributed = pytest.importorskip("distributed")
    options = {"n_workers": 2, "threads_per_worker": 1, "processes": True}
    with (
        distributed.LocalCluster(**options, dashboard_address=None) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


def test_workers_of_dask(tmp_path, inputs, cluster):
    SLAFConverter().convert(inputs, tmp_path / "one.slaf")
    report = convert_distributed(inputs, tmp_path / "many.slaf", client=cluster, part_cells=7)
    assert report.notes[-1] == "converted in 15 parts"
    assert_same_store(tmp_path / "one.slaf", tmp_path / "many.slaf")


def test_errors_in_workers_of_dask(tmp_path, inputs, cluster):
    import h5py

    with h5py.File(inputs[1], "r+") as file:
        file["X/indices"][-1] = 10_000
    with pytest.raises(slaf.InputError, match="index 10000") as caught:
        convert_distributed(inputs, tmp_path / "a.slaf", client=cluster, part_cells=20)
    assert caught.value.location.startswith(str(inputs[1]))
    wait_until(lambda: not list(tmp_path.glob("a.slaf/*")))


def die_once(marks, task):
    """Converts a part; the first process that comes here dies instead."""
    try:
        Path(marks, "dead").touch(exist_ok=False)
    except FileExistsError:
        return _slaf.convert_part(task)
    _slaf.convert_part(task)
    os.kill(os.getpid(), signal.SIGKILL)
    return None


def always_die(task):
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.filterwarnings("ignore")
def test_a_worker_of_dask_that_dies(tmp_path, inputs, cluster, monkeypatch):
    from functools import partial

    from slaf.data import distributed as module

    SLAFConverter().convert(inputs, tmp_path / "one.slaf")
    cloudpickle = pytest.importorskip("cloudpickle")
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    try:
        monkeypatch.setattr(module, "_convert_part", partial(die_once, str(tmp_path)))
        convert_distributed(inputs, tmp_path / "many.slaf", client=cluster, part_cells=20)
        assert (tmp_path / "dead").exists()
        assert_same_store(tmp_path / "one.slaf", tmp_path / "many.slaf")
        monkeypatch.setattr(module, "_convert_part", always_die)
        with pytest.raises(slaf.StorageError, match=r"part .* of") as caught:
            convert_distributed(inputs, tmp_path / "a.slaf", client=cluster, part_cells=50)
        assert ".h5ad" in str(caught.value)
        assert not (tmp_path / "a.slaf").exists()
    finally:
        cloudpickle.unregister_pickle_by_value(sys.modules[__name__])


def test_an_asynchronous_client_is_refused(tmp_path, inputs):
    client = types.SimpleNamespace(asynchronous=True)
    with pytest.raises(slaf.InvalidArgumentError, match="asynchronous"):
        convert_distributed(inputs, tmp_path / "a.slaf", client=client)
    assert not (tmp_path / "a.slaf").exists()


# --- Ray -------------------------------------------------------------------------------------


class FakeRay(types.ModuleType):
    """What is used of Ray, by a pool of threads; tasks and results are pickled, as Ray does it."""

    class exceptions:  # noqa: N801
        class RayTaskError(Exception):
            def __init__(self, cause):
                super().__init__(str(cause))
                self.cause = cause

        class WorkerCrashedError(Exception):
            pass

        class NodeDiedError(Exception):
            pass

        class OutOfMemoryError(Exception):
            pass

    def __init__(self, crashes=0):
        super().__init__("ray")
        self.pool = None
        self.crashes = crashes
        self.options = None

    def is_initialized(self):
        return self.pool is not None

    def init(self):
        self.pool = ThreadPoolExecutor(2)

    def cluster_resources(self):
        return {"CPU": 2.0, "memory": 1e9}

    def remote(self, **options):
        self.options = options

        def decorate(function):
            def run(task):
                if self.crashes:
                    raise self.exceptions.WorkerCrashedError("the worker died unexpectedly")
                try:
                    return pickle.loads(pickle.dumps(function))(pickle.loads(pickle.dumps(task)))
                except Exception as e:
                    raise self.exceptions.RayTaskError(e) from e

            return types.SimpleNamespace(remote=lambda task: self.pool.submit(run, task))

        return decorate

    def wait(self, refs, num_returns, timeout):
        from concurrent.futures import FIRST_COMPLETED, wait

        done, _ = wait(refs, timeout, return_when=FIRST_COMPLETED)
        done = [ref for ref in refs if ref in done][:num_returns]
        return done, [ref for ref in refs if ref not in done]

    def get(self, ref):
        return ref.result()

    def cancel(self, ref):
        ref.cancel()


@pytest.fixture
def fake_ray(monkeypatch):
    ray = FakeRay()
    monkeypatch.setitem(sys.modules, "ray", ray)
    yield ray
    if ray.pool is not None:
        ray.pool.shutdown()


def test_tasks_of_ray(tmp_path, inputs, fake_ray):
    SLAFConverter().convert(inputs, tmp_path / "one.slaf")
    convert_distributed(inputs, tmp_path / "many.slaf", ray=True, part_cells=9)
    assert fake_ray.options == {"num_cpus": 1, "max_retries": 2}
    assert_same_store(tmp_path / "one.slaf", tmp_path / "many.slaf")


def test_errors_in_tasks_of_ray(tmp_path, inputs, fake_ray):
    fake_ray.crashes = 1
    with pytest.raises(slaf.StorageError, match=r"part .* of .*h5ad: its worker died"):
        convert_distributed(inputs, tmp_path / "a.slaf", ray=True, part_cells=9)
    fake_ray.crashes = 0
    import h5py

    with h5py.File(inputs[1], "r+") as file:
        file["X/indices"][-1] = 10_000
    with pytest.raises(slaf.InputError, match="index 10000"):
        convert_distributed(inputs, tmp_path / "a.slaf", ray=True, part_cells=20)
    wait_until(lambda: not list(tmp_path.glob("a.slaf/*")))
