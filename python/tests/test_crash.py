"""A conversion that is killed, and a reader while the store is replaced."""

import json
import os
import random
import subprocess
import sys
import textwrap
import time
from collections import Counter
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from processes import child, rounds

from slaf import SLAFArray, SlafError, _slaf
from slaf.data import SLAFConverter

PROGRAM = Path(sys.executable).with_name("slaf")
TRIALS = rounds(50, 200)
N_CELLS, N_GENES, NNZ = 300, 100, 6000


def of_ones(number):
    """Cells whose every value, annotation and name tells `number`: a mixture cannot hide."""
    X = sp.random(
        N_CELLS, N_GENES, NNZ / N_CELLS / N_GENES, "csr", "f4", rng=np.random.default_rng(0)
    )
    X.data[:] = number
    names = [f"{number}-{i}" for i in range(N_CELLS)]
    obs = pd.DataFrame({"n": number, "kind": pd.Categorical([f"k{number}"] * N_CELLS)}, index=names)
    return ad.AnnData(X, obs=obs, uns={"n": number})


def number_of(array):
    """The number that the whole of a store tells."""
    X, obs = array.to_csr(), array.obs
    sums = array.query("SELECT SUM(value) AS s, COUNT(*) AS n FROM expression").row(0)
    by_gene = array.to_csr(genes=[5]).data
    told = {float(x) for x in np.concatenate([X.data, obs["n"].to_numpy(), by_gene])}
    told |= {float(kind[1:]) for kind in obs["kind"].unique()}
    told |= {float(name.split("-")[0]) for name in obs["cell_id"]}
    told.add(sums[0] / sums[1])
    assert (X.nnz, len(obs), len(told)) == (NNZ, N_CELLS, 1), told
    return int(told.pop())


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sources")
    for number in (1, 2):
        of_ones(number).write_h5ad(folder / f"{number}.h5ad")
    return {number: folder / f"{number}.h5ad" for number in (1, 2)}


def command(*args):
    """The command, in this process: an import for each call would take most of the time."""
    return _slaf.cli_main(["slaf", *map(str, args)])


def attempt(call):
    """What a call gives, or its error."""
    try:
        return call(), None
    except SlafError as e:
        return None, e


def of_blocks(number):
    """As `of_ones`, with as many values in every cell."""
    adata = of_ones(number)
    columns = np.tile(np.arange(NNZ // N_CELLS, dtype="i4"), N_CELLS)
    indptr = np.arange(0, NNZ + 1, NNZ // N_CELLS)
    adata.X = sp.csr_matrix((np.full(NNZ, number, "f4"), columns, indptr), shape=adata.shape)
    return adata


def start(source, target, *flags):
    return start_program("convert", source, target, *flags)


def start_program(*arguments):
    return child(
        [PROGRAM, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        # Many small files: the writing, not the start of the program, takes the time.
        env=os.environ | {"SLAF_FRAGMENT_ROWS": "20", "SLAF_BATCH_ROWS": "20"},
    )


def wait_for_first_write(process, target):
    before = sorted(target.glob("*"))
    while process.poll() is None and not (target.exists() and sorted(target.glob("*")) != before):
        time.sleep(0.0005)


def killed(conversion, target, delay):
    """Kills a conversion some time after its first write; whether it had reported success."""
    with conversion as process:
        wait_for_first_write(process, target)
        time.sleep(delay)
        process.kill()
        report, errors = process.communicate(timeout=60)
    assert errors == b""
    return report != b""


def seconds_of_writing(source, target, *flags):
    with start(source, target, *flags) as process:
        wait_for_first_write(process, target)
        begin = time.monotonic()
        assert process.wait(60) == 0
    return time.monotonic() - begin


def assert_whole(target, capfd):
    capfd.readouterr()
    assert command("verify", target) == 0, capfd.readouterr().err


def files_of(target):
    return {f.relative_to(target).as_posix() for f in target.rglob("*") if f.is_file()}


def assert_nothing_is_left_over(target):
    manifest = max((target / "_slaf" / "versions").glob("*.json"))
    committed = {f["path"] for f in json.loads(manifest.read_text())["files"]}
    assert files_of(target) == committed | {manifest.relative_to(target).as_posix()}


def assert_mended(source, target, number, capfd):
    assert command("convert", source, target, "--overwrite") == 0, capfd.readouterr().err
    assert_whole(target, capfd)
    assert number_of(SLAFArray(target)) == number
    assert_nothing_is_left_over(target)


def test_the_unfinished_manifest_of_a_killed_commit(tmp_path, sources, capfd):
    """The moment is too short for the tests below to hit it often."""
    target = tmp_path / "a.slaf"
    SLAFConverter().convert(sources[1], target)
    manifest = target / "_slaf" / "versions" / f"{2:020}.json"
    Path(f"{manifest}.tmp.0123456789abcdef").write_text('{"checksum": "')
    assert_whole(target, capfd)
    assert number_of(SLAFArray(target)) == 1
    assert_mended(sources[2], target, 2, capfd)


def test_the_unfinished_files_of_a_killed_write(tmp_path, sources, capfd):
    """As above: small files have this name until they are whole."""
    target = tmp_path / "a.slaf"
    SLAFConverter().convert(sources[1], target)
    writer = "0123456789abcdef0123456789abcdef"
    (cells,) = target.glob("cells-*.lance")
    for name in (
        f"_slaf/categories/{writer}.arrow#1",
        f"_slaf/writing/{writer}#1",
        f"{cells.name}/data/x#1",
    ):
        (target / name).parent.mkdir(exist_ok=True)
        (target / name).write_bytes(b"half")
    assert_whole(target, capfd)
    assert number_of(SLAFArray(target)) == 1
    assert_mended(sources[2], target, 2, capfd)


@pytest.mark.faults
def test_killed_while_a_store_is_made(tmp_path, sources, capfd):
    rng = random.Random(1)
    seconds = seconds_of_writing(sources[1], tmp_path / "whole.slaf")
    seen, wrong = Counter(), []
    for trial in range(TRIALS):
        target = tmp_path / f"{trial}.slaf"
        reported = killed(start(sources[1], target), target, rng.uniform(0, 1.2 * seconds))
        array, error = attempt(lambda target=target: SLAFArray(target))
        if error is not None:
            seen[error.kind] += 1
            assert not reported
            assert error.kind == ("not-a-store" if target.exists() else "not-found")
            if target.exists() and "--overwrite" not in error.message:
                wrong.append(f"says not what to do: {error}")
        else:
            seen["whole"] += 1
            assert_whole(target, capfd)
            assert number_of(array) == 1
        if command("convert", sources[2], target, "--overwrite") != 0:
            wrong.append(capfd.readouterr().err)
            continue
        assert_mended(sources[1], target, 1, capfd)
    assert seen["not-a-store"] >= TRIALS // 10, f"hardly any was killed in time: {seen}"
    assert wrong == [], f"{len(wrong)} of {TRIALS} trials"


@pytest.mark.faults
def test_killed_while_a_store_is_replaced(tmp_path, sources, capfd):
    rng = random.Random(2)
    target = tmp_path / "a.slaf"
    SLAFConverter().convert(sources[1], target)
    seconds = seconds_of_writing(sources[1], target, "--overwrite")
    old, seen = 1, Counter()
    for trial in range(TRIALS):
        new = 3 - old
        conversion = start(sources[new], target, "--overwrite")
        reported = killed(conversion, target, rng.uniform(0, 1.2 * seconds))
        assert_whole(target, capfd)
        number = number_of(SLAFArray(target))
        assert number == new or (number == old and not reported)
        seen[number == new] += 1
        old = number
        # The debris of some kills piles up before the next conversion that ends.
        if trial % 5 == 4:
            assert_mended(sources[old], target, old, capfd)
    assert seen[False] >= TRIALS // 10, f"hardly any was killed in time: {seen}"


def blocks_of(array):
    """The cells by the number that each of them tells, everywhere alike."""
    X, obs = array.to_csr(), array.obs
    numbers = obs["n"].to_numpy()
    np.testing.assert_array_equal(np.repeat(numbers, np.diff(X.indptr)), X.data)
    assert [int(name.split("-")[0]) for name in obs["cell_id"]] == list(numbers)
    assert [f"k{number}" for number in numbers] == list(obs["kind"])
    gene = array.to_csr(genes=[5])
    assert (gene != X[:, [5]]).nnz == 0
    counts = Counter(numbers.tolist())
    told = array.query("SELECT n, COUNT(*) AS values FROM expression NATURAL JOIN cells GROUP BY n")
    assert dict(told.rows()) == {number: NNZ // N_CELLS * n for number, n in counts.items()}
    return counts


@pytest.mark.faults
@pytest.mark.parametrize("change", ["append", "optimize", "delete-cells"])
def test_killed_while_a_store_changes(tmp_path, capfd, change):
    """An append, a rewriting and a deletion: all of it is there, or nothing."""
    rng = random.Random(3)
    trials = rounds(5, 100)
    target, more = tmp_path / "a.slaf", tmp_path / "2.h5ad"
    of_blocks(1).write_h5ad(tmp_path / "1.h5ad")
    of_blocks(2).write_h5ad(more)
    SLAFConverter().convert(tmp_path / "1.h5ad", target)
    SLAFArray(target).append(more)
    start_with, both = SLAFArray(target).version, Counter({1: N_CELLS, 2: N_CELLS})
    arguments = {
        "append": ["append", target, tmp_path / "3.h5ad"],
        "optimize": ["optimize", target, "--force"],
        "delete-cells": ["delete-cells", target, "--where", "n = 2"],
    }[change]
    of_blocks(3).write_h5ad(tmp_path / "3.h5ad")
    done = {
        "append": both + Counter({3: N_CELLS}),
        "optimize": both,
        "delete-cells": Counter({1: N_CELLS}),
    }[change]
    with start_program(*arguments) as process:
        wait_for_first_write(process, target)
        begin = time.monotonic()
        assert process.wait(60) == 0
        seconds = time.monotonic() - begin
    seen = Counter()
    for _ in range(trials):
        SLAFArray(target).rollback(start_with)
        version = SLAFArray(target).version
        reported = killed(start_program(*arguments), target, rng.uniform(0, 1.2 * seconds))
        assert_whole(target, capfd)
        array = SLAFArray(target)
        landed = array.version == version + 1
        assert landed or (array.version == version and not reported)
        assert blocks_of(array) == (done if landed else both)
        seen[landed] += 1
    assert seen[False] >= trials // 10, f"hardly any was killed in time: {seen}"
    # What the killed ones left is in nobody's way.
    SLAFArray(target).rollback(start_with)
    assert command(*arguments) == 0, capfd.readouterr().err
    assert_whole(target, capfd)
    assert blocks_of(SLAFArray(target)) == done


def read(array, of):
    return {
        "X": lambda: set(array.to_csr().data),
        "gene": lambda: set(array.to_csr(genes=[5]).data),
        "obs": lambda: set(array.obs["n"]),
        "names": lambda: {int(name.split("-")[0]) for name in array.obs["cell_id"]},
        "query": lambda: {array.query("SELECT AVG(value) AS a FROM expression")["a"][0]},
    }[of]()


@pytest.mark.parametrize("before", [(), ("obs",), ("X",), ("X", "gene", "obs", "query")])
def test_a_handle_of_a_replaced_store(tmp_path, sources, before):
    """It goes on with its version, or says that it cannot: never numbers of the new one."""
    SLAFConverter().convert(sources[1], tmp_path / "a.slaf")
    array = SLAFArray(tmp_path / "a.slaf")
    for of in before:
        read(array, of)
    SLAFConverter(overwrite=True).convert(sources[2], tmp_path / "a.slaf")
    for of in ("X", "gene", "obs", "names", "query"):
        told, error = attempt(lambda of=of: read(array, of))
        assert told == {1} if error is None else error.kind not in ("internal", "io"), error
    assert array.shape == (N_CELLS, N_GENES)
    assert number_of(SLAFArray(tmp_path / "a.slaf")) == 2


READERS = """
    import sys, threading
    from collections import Counter
    from concurrent.futures import ThreadPoolExecutor
    from test_crash import number_of
    from slaf import SLAFArray, SlafError
    from slaf.data import SLAFConverter

    one, two, target = sys.argv[1:]
    done = threading.Event()
    SLAFConverter().convert(one, target)

    def go_on_reading():
        seen = Counter()
        while not done.is_set():
            try:
                seen[number_of(SLAFArray(target))] += 1
            except SlafError as e:
                assert e.kind not in ("internal", "io"), e
        return seen

    with ThreadPoolExecutor(3) as pool:
        readers = [pool.submit(go_on_reading) for _ in range(3)]
        try:
            for source in [two, one] * 20:
                SLAFConverter(overwrite=True, durability="os").convert(source, target)
        finally:
            done.set()
        seen = sum((reader.result() for reader in readers), Counter())
    assert seen[1] > 0 and seen[2] > 0, seen
    assert number_of(SLAFArray(target)) == 1
"""


def test_readers_while_a_store_is_replaced(tmp_path, sources):
    # In a process of its own, because threads that wait for each other cannot be stopped.
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(READERS), *sources.values(), tmp_path / "a.slaf"],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        timeout=90,
    )
    assert done.returncode == 0, done.stderr


AT_ONCE = """
    import sys
    from concurrent.futures import ThreadPoolExecutor
    from slaf import SLAFArray
    from slaf.data import SLAFConverter

    source, store, target = sys.argv[1:]
    SLAFConverter().convert(source, store)
    array = SLAFArray(store)
    with ThreadPoolExecutor(2) as pool:
        converting = pool.submit(lambda: [SLAFConverter(overwrite=True).convert(source, target)
                                          for _ in range(20)])
        while not converting.done():
            assert array.query("SELECT COUNT(*) AS n FROM expression WHERE value > 0")["n"][0]
            assert array.to_csr().nnz
        converting.result()
"""


def test_reading_and_converting_in_one_process(tmp_path, sources):
    """Neither may hold a thread that the other waits for, on a machine with one processor."""
    subprocess.run(
        [sys.executable, "-c", textwrap.dedent(AT_ONCE), sources[1], *(tmp_path / n for n in "ab")],
        env=os.environ | {"RAYON_NUM_THREADS": "1", "TOKIO_WORKER_THREADS": "1"},
        check=True,
        timeout=60,
    )
