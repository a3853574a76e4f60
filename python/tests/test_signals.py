"""Commands that are told to stop: nothing half-done is seen or left, and the next one works."""

import json
import os
import random
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from processes import LIMIT, SLAF, child, rounds, run_slaf

from slaf import SLAFArray
from slaf.data import SLAFConverter
from slaf.integrations import read_slaf

N_CELLS, N_GENES = 300, 60
# Many small files: the writing, not the start of the program, takes the time.
ENVIRONMENT = os.environ | {"SLAF_FRAGMENT_ROWS": "20", "SLAF_BATCH_ROWS": "20"}
SIGNALS = [signal.SIGINT, signal.SIGTERM]


def cells(number):
    """Cells whose every value tells `number`."""
    rng = np.random.default_rng(number)
    X = sp.random(N_CELLS, N_GENES, 0.3, "csr", "f4", rng=rng)
    X.data[:] = number
    obs = pd.DataFrame({"n": number}, index=[f"{number}-{i}" for i in range(N_CELLS)])
    return ad.AnnData(X, obs=obs)


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sources")
    for number in (1, 2, 3):
        cells(number).write_h5ad(folder / f"{number}.h5ad")
    return {number: folder / f"{number}.h5ad" for number in (1, 2, 3)}


def numbers_of(target, storage):
    """How many cells a store has of each number, everywhere alike."""
    array = SLAFArray(target, storage_options=storage)
    assert array.verify() == []
    X, numbers = array.to_csr(), array.obs["n"].to_numpy()
    np.testing.assert_array_equal(np.repeat(numbers, np.diff(X.indptr)), X.data)
    gene = array.to_csr(genes=[5])
    assert (gene != X[:, [5]]).nnz == 0
    return Counter(numbers.tolist())


def named(files, target, read):
    """The files that a store's versions name, and their root manifests."""
    manifests = [f for f in files if f.startswith("_slaf/versions/") and f.endswith(".json")]
    of = {f["path"] for m in manifests for f in json.loads(read(f"{target}/{m}"))["files"]}
    return of | set(manifests)


def run(*args, storage):
    given = [f"--storage-option={key}={value}" for key, value in storage.items()]
    return run_slaf(*args, *given, timeout=LIMIT, env=ENVIRONMENT)


def stopped(how, delay, *args, storage):
    """Sends a command a signal some time after it began to work; gives its status."""
    given = [f"--storage-option={key}={value}" for key, value in storage.items()]
    command = [*SLAF, *args, *given]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with child(command, env=ENVIRONMENT, **pipes) as process:
        wait_for_handlers(process)
        time.sleep(delay)
        process.send_signal(how)
        sent = time.monotonic()
        out, err = process.communicate(timeout=LIMIT)
        took = time.monotonic() - sent
    # One that comes when all is done and told ends the program, as it ends any other.
    status = 0 if out and process.returncode == -how else process.returncode
    if status == 0:
        assert err == ""
    else:
        by = "" if how == signal.SIGINT else f" by {how.name}"
        told = f"slaf: interrupted{by}\n"
        assert (process.returncode, out, err) == (128 + how, "", told)
        assert took < 10
    return status


def wait_for_handlers(process):
    """Until the command of Rust has its own: before that, Python's end the process."""
    bit = 1 << (signal.SIGTERM - 1)
    while process.poll() is None:
        try:
            status = Path(f"/proc/{process.pid}/status").read_text()
        except OSError:
            return
        (caught,) = [line for line in status.splitlines() if line.startswith("SigCgt")]
        if int(caught.split()[1], 16) & bit:
            return
        time.sleep(0.001)


needs_proc = pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="looks for handlers in /proc"
)

#: Commands that change a store of cells 1 and 2: arguments, and the cells after them.
CHANGES = {
    "append": (["append", "STORE", "3.h5ad"], {1: N_CELLS, 2: N_CELLS, 3: N_CELLS}),
    "optimize": (["optimize", "STORE", "--force"], {1: N_CELLS, 2: N_CELLS}),
    "delete-cells": (["delete-cells", "STORE", "--where", "n = 2"], {1: N_CELLS}),
    "overwrite": (["convert", "3.h5ad", "STORE", "--overwrite"], {3: N_CELLS}),
    "annotate": (["annotate", "STORE", "labels.csv", "--on", "cell_id"], {1: N_CELLS, 2: N_CELLS}),
}
#: Commands that make a store, and its cells.
MAKERS = {
    "convert": (["convert", "1.h5ad", "2.h5ad", "NEW"], {1: N_CELLS, 2: N_CELLS}),
    "workers": (["convert", "1.h5ad", "2.h5ad", "NEW", "--workers", "2"], {1: N_CELLS, 2: N_CELLS}),
    "filter": (["filter", "STORE", "NEW", "--where", "n = 2"], {2: N_CELLS}),
}
READERS = {
    "export": ["export", "STORE", "FOLDER/out.h5ad"],
    "export-10x": ["export", "STORE", "FOLDER/out", "--format", "10x-mtx"],
    "query": ["query", "STORE", "SELECT * FROM expression", "-o", "FOLDER/out.csv"],
    "verify": ["verify", "STORE"],
}


class Place:
    """A store of cells 1 and 2, and how its commands are called."""

    def __init__(self, sources, anywhere, tmp_path):
        self.sources, self.folder = sources, tmp_path / "out"
        self.folder.mkdir()
        self.store, self.storage, self.files, self.read = anywhere("store.slaf")
        self.new = anywhere("new.slaf")[0]
        SLAFConverter(storage_options=self.storage).convert(sources[1], self.store)
        array = SLAFArray(self.store, storage_options=self.storage)
        array.append(sources[2])
        self.version = array.version
        names = array.obs["cell_id"]
        labels = "".join(f"{name},l{i % 3}\n" for i, name in enumerate(names))
        (self.folder.parent / "labels.csv").write_text("cell_id,label\n" + labels)

    def arguments(self, args):
        known = {"STORE": self.store, "NEW": self.new}
        known |= {f"{number}.h5ad": path for number, path in self.sources.items()}
        known["labels.csv"] = self.folder.parent / "labels.csv"
        return [str(known.get(a, a)).replace("FOLDER", str(self.folder)) for a in args]

    def seconds(self, args):
        """How long a command takes after its start; it must succeed."""
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        given = [f"--storage-option={key}={value}" for key, value in self.storage.items()]
        command = [*SLAF, *self.arguments(args), *given]
        with child(command, env=ENVIRONMENT, **pipes) as process:
            wait_for_handlers(process)
            began = time.monotonic()
            _, err = process.communicate(timeout=LIMIT)
            assert process.returncode == 0, err
            return time.monotonic() - began

    def stop(self, how, delay, args):
        return stopped(how, delay, *self.arguments(args), storage=self.storage)

    def remove(self, store):
        if not self.storage:
            subprocess.run(["rm", "-r", str(store)], check=True, timeout=LIMIT)
            return
        boto3 = pytest.importorskip("boto3")
        keys = ("aws_access_key_id", "aws_secret_access_key")
        bucket = boto3.resource(
            "s3",
            endpoint_url=self.storage["aws_endpoint"],
            region_name="us-east-1",
            **{key: self.storage[key] for key in keys},
        ).Bucket("bucket")
        bucket.objects.filter(Prefix=str(store).removeprefix("s3://bucket/") + "/").delete()

    def assert_nothing_is_left(self, store):
        files = self.files(store)
        assert files == named(files, store, self.read)


@pytest.fixture
def place(sources, anywhere, tmp_path):
    return Place(sources, anywhere, tmp_path)


@needs_proc
@pytest.mark.faults
@pytest.mark.parametrize("change", CHANGES)
def test_a_change_is_stopped(place, change):
    args, after = CHANGES[change]
    before = Counter({1: N_CELLS, 2: N_CELLS})
    seconds = place.seconds(args)
    rng, seen = random.Random(change), Counter()
    for i in range(rounds(2, 30)):
        if change == "overwrite":
            place.remove(place.store)
            SLAFConverter(storage_options=place.storage).convert(place.sources[1], place.store)
            SLAFArray(place.store, storage_options=place.storage).append(place.sources[2])
        else:
            SLAFArray(place.store, storage_options=place.storage).rollback(place.version)
        version = SLAFArray(place.store, storage_options=place.storage).version
        status = place.stop(SIGNALS[i % 2], rng.uniform(0, 0.9 * seconds), args)
        landed = SLAFArray(place.store, storage_options=place.storage).version > version
        # One that was done when the signal came says that it is.
        assert landed == (status == 0)
        assert numbers_of(place.store, place.storage) == (after if landed else before)
        place.assert_nothing_is_left(place.store)
        seen[landed] += 1
    assert seen[False] >= rounds(0, 3), f"hardly any was stopped in time: {seen}"
    done = run(*place.arguments(args), storage=place.storage)
    assert done.returncode == (1 if change == "annotate" and landed else 0), done.stderr


@needs_proc
@pytest.mark.faults
@pytest.mark.parametrize("maker", MAKERS)
def test_a_new_store_is_not_made(place, maker):
    args, after = MAKERS[maker]
    seconds = place.seconds(args)
    rng, seen = random.Random(maker), Counter()
    for i in range(rounds(2, 30)):
        if place.files(place.new if place.storage else Path(place.new)):
            place.remove(place.new)
        status = place.stop(SIGNALS[i % 2], rng.uniform(0, 0.9 * seconds), args)
        seen[status == 0] += 1
        if status:
            assert place.files(place.new) == set()
            assert place.storage or not Path(place.new).exists()
        else:
            assert numbers_of(place.new, place.storage) == after
            place.assert_nothing_is_left(place.new)
    assert seen[False] >= rounds(0, 3), f"hardly any was stopped in time: {seen}"
    if not status:
        place.remove(place.new)
    done = run(*place.arguments(args), storage=place.storage)
    assert done.returncode == 0, done.stderr
    assert numbers_of(place.new, place.storage) == after


@needs_proc
@pytest.mark.faults
@pytest.mark.parametrize("reader", READERS)
def test_what_is_read_is_whole_or_not_there(place, reader):
    args = READERS[reader]
    seconds = place.seconds(args)
    rng = random.Random(reader)
    whole = read_slaf(place.store, storage_options=place.storage).to_memory().X.sum()
    for i in range(rounds(2, 20)):
        subprocess.run(["rm", "-rf", *place.folder.iterdir()], check=True, timeout=LIMIT)
        status = place.stop(SIGNALS[i % 2], rng.uniform(0, 0.9 * seconds), args)
        there = [p.name for p in place.folder.iterdir()]
        if status or reader == "verify":
            assert there == []
        elif reader == "export":
            assert ad.read_h5ad(place.folder / "out.h5ad").X.sum() == whole
        else:
            assert there == [Path(place.arguments(args)[-1]).name if reader == "query" else "out"]
    place.assert_nothing_is_left(place.store)
