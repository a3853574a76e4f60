"""Several writers at one target: one is told that it won, and its store is there and whole."""

import json
import random
import shutil
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from processes import child, rounds

import slaf
from slaf import SLAFArray, _slaf
from slaf.data import SLAFConverter
from slaf.integrations import read_slaf

ROUNDS = rounds(3, 200)
PROGRAM = Path(sys.executable).with_name("slaf")
# Some are quick, some take their time; the last one is there before the others in an overwrite.
SIZES = {1: 50, 2: 50, 3: 1500, 4: 1500, 5: 20}


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """Files whose every value, and the annotation of every cell, tells their number."""
    folder = tmp_path_factory.mktemp("sources")
    for number, n_cells in SIZES.items():
        X = sp.random(n_cells, 40, 0.3, "csr", "f4", rng=np.random.default_rng(number))
        X.data[:] = number
        obs = pd.DataFrame({"n": number}, index=[f"{number}-{i}" for i in range(n_cells)])
        ad.AnnData(X, obs=obs).write_h5ad(folder / f"{number}.h5ad")
    return {number: folder / f"{number}.h5ad" for number in SIZES}


def number_of(target, storage):
    """The number that the whole of a store tells."""
    array = SLAFArray(target, storage_options=storage)
    told = {float(n) for n in array.obs["n"].unique()} | {float(x) for x in array.to_csr().data}
    told |= {float(name.split("-")[0]) for name in array.obs["cell_id"]}
    (number,) = told
    assert array.n_obs == SIZES[number]
    options = [f"--storage-option={k}={v}" for k, v in storage.items()]
    assert _slaf.cli_main(["slaf", "verify", str(target), *options]) == 0
    return number


def race(sources, target, storage, numbers, overwrite, rng):
    """Converts at the same time; gives the numbers that won, and the kinds of the errors."""
    start = threading.Barrier(len(numbers))
    delays = {n: rng.choice([0, 0, 0.02, 0.1]) for n in numbers}

    def convert(number):
        converter = SLAFConverter(overwrite=overwrite, durability="os", storage_options=storage)
        start.wait(60)
        time.sleep(delays[number])
        try:
            converter.convert(sources[number], target)
        except slaf.SlafError as e:
            return number, e.kind
        return number, None

    with ThreadPoolExecutor(len(numbers)) as pool:
        outcomes = list(pool.map(convert, numbers))
    return [n for n, kind in outcomes if kind is None], {kind for _, kind in outcomes if kind}


@pytest.mark.faults
@pytest.mark.parametrize("overwrite", [False, True], ids=["fresh", "overwrite"])
@pytest.mark.parametrize("numbers", [(1, 3), (1, 2, 3, 4)], ids=["two", "four"])
def test_writers_at_one_target(sources, anywhere, numbers, overwrite, capfd):
    rng = random.Random(len(numbers))
    for i in range(ROUNDS if len(numbers) == 2 else max(2, ROUNDS // 2)):
        target, storage, files, read = anywhere(f"{len(numbers)}-{overwrite}-{i}.slaf")
        if overwrite:
            SLAFConverter(durability="os", storage_options=storage).convert(sources[5], target)
        won, kinds = race(sources, target, storage, numbers, overwrite, rng)
        assert kinds <= ({"conflict"} if overwrite else {"already-exists"})
        # An overwrite may begin when another one has ended.
        assert won if overwrite else len(won) == 1
        assert number_of(target, storage) in won, capfd.readouterr().err
        # Nothing but what the version names.
        version = SLAFArray(target, storage_options=storage).version
        manifest = f"_slaf/versions/{version:020}.json"
        named = {f["path"] for f in json.loads(read(f"{target}/{manifest}"))["files"]}
        assert files(target) == named | {manifest}


def start(source, target, *flags):
    return child(
        [PROGRAM, "convert", source, target, *flags],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.faults
@pytest.mark.parametrize("killed", [False, True])
def test_processes_at_one_target(tmp_path, sources, killed, capfd):
    """As above, with locks of two processes; one may be killed, which the other outlives."""
    rng = random.Random(1)
    for i in range(rounds(2, 100)):
        target = tmp_path / f"{i}.slaf"
        flags = ["--overwrite"] if i % 2 else []
        if flags:
            SLAFConverter().convert(sources[5], target)
        with start(sources[3], target, *flags) as slow, start(sources[1], target, *flags) as quick:
            if killed:
                time.sleep(rng.uniform(0.1, 0.5))
                slow.kill()
            outcomes = {}
            for number, process in ((3, slow), (1, quick)):
                out, err = process.communicate(timeout=60)
                outcomes[number] = (process.returncode, out, err.strip())
        told = "[conflict]" if flags else "[already-exists]"
        for number, (status, _, err) in outcomes.items():
            if not (killed and number == 3):
                assert status == 0 or err.endswith(told), err
        won = {number for number, (status, _, _) in outcomes.items() if status == 0}
        assert won or killed
        # The killed one may have committed before it told so.
        allowed = won | ({3} if killed else set())
        assert number_of(target, {}) in allowed, capfd.readouterr().err
        shutil.rmtree(target)


def names(folder):
    return sorted(p.name for p in folder.iterdir())


@pytest.mark.parametrize("what", ["export", "query", "convert_anndata"])
def test_temporary_files_of_killed_processes_are_swept(tmp_path, sources, what):
    """They wait for the next run in the same folder."""
    store, place = tmp_path / "a.slaf", tmp_path / "place"
    place.mkdir()
    SLAFConverter().convert(sources[3], store)
    code = """
        import os, sys, threading, time
        from pathlib import Path
        from slaf import SLAFArray, _slaf
        what, store, place = sys.argv[1:]

        def kill():
            # As soon as there is a temporary file.
            while not any(name.startswith(".slaf-") for name in os.listdir(place)):
                pass
            os.kill(os.getpid(), 9)

        array = SLAFArray(store)
        if what == "convert_anndata":
            from slaf.data import SLAFConverter
            from slaf.integrations import read_slaf
            adata = read_slaf(store).to_memory()
        threading.Thread(target=kill, daemon=True).start()
        while True:
            if what == "export":
                array.export(Path(place, "b.h5ad"), overwrite=True)
            elif what == "query":
                sql = "SELECT * FROM expression"
                _slaf.cli_main(["slaf", "query", store, sql, "--overwrite", "-o", place + "/b.csv"])
            else:
                SLAFConverter(overwrite=True).convert_anndata(adata, place + "/b.slaf")
    """
    lines = code.splitlines()
    code = "\n".join(line.removeprefix("        ") for line in lines)
    for _ in range(2):
        with child([sys.executable, "-W", "ignore", "-c", code, what, store, place]) as process:
            assert process.wait(100) == -9
        debris = [name for name in names(place) if name.startswith(".slaf-")]
        # What the first one left is gone when the second one begins.
        assert len(debris) <= 1
    if what == "convert_anndata":
        adata = ad.AnnData(sp.csr_matrix(np.eye(2, dtype="f4")))
        SLAFConverter(overwrite=True).convert_anndata(adata, place / "b.slaf")
    else:
        SLAFArray(store).export(place / "c.h5ad")
    assert not [name for name in names(place) if name.startswith(".slaf-")]


def test_foreign_files_stay(tmp_path, sources):
    target = tmp_path / "a.slaf"
    SLAFConverter().convert(sources[1], target)
    (target / "README.md").write_text("mine")
    with pytest.raises(slaf.AlreadyExistsError, match=r"README\.md"):
        SLAFConverter(overwrite=True).convert(sources[2], target)
    assert (target / "README.md").read_text() == "mine"
    inside = target / "in.h5ad"
    (target / "README.md").unlink()
    shutil.copy(sources[2], inside)
    with pytest.raises(slaf.InvalidArgumentError, match="inside of the target"):
        SLAFConverter(overwrite=True).convert(inside, target)
    assert inside.exists()
    inside.unlink()
    assert number_of(target, {}) == 1


def test_zarr_replaces_nothing_but_zarr(tmp_path, sources):
    pytest.importorskip("zarr")
    store, target = tmp_path / "a.slaf", tmp_path / "place"
    SLAFConverter().convert(sources[1], store)
    array = SLAFArray(store)
    target.mkdir()
    (target / "manuscript.md").write_text("mine")
    for place in (target, store, tmp_path):
        with pytest.raises(slaf.AlreadyExistsError, match="is not replaced"):
            array.export(place, "zarr", overwrite=True)
    assert number_of(store, {}) == 1
    (target / "manuscript.md").unlink()
    for _ in range(2):
        array.export(target, "zarr", overwrite=True)
        assert ad.read_zarr(target).n_obs == SIZES[1]
    for mine in (target / "notes", target / "obs" / "notes"):
        mine.write_text("mine")
        with pytest.raises(slaf.AlreadyExistsError, match="notes"):
            array.export(target, "zarr", overwrite=True)
        assert mine.read_text() == "mine"
        mine.unlink()
    with pytest.raises(slaf.AlreadyExistsError):
        array.export(target, "zarr")


def test_zarr_takes_no_place_that_was_taken_meanwhile(tmp_path, sources, monkeypatch):
    zarr = pytest.importorskip("zarr")
    store, target = tmp_path / "a.slaf", tmp_path / "place"
    SLAFConverter().convert(sources[1], store)
    array = SLAFArray(store)
    consolidate = zarr.consolidate_metadata

    def comes(group):
        target.mkdir()
        return consolidate(group)

    monkeypatch.setattr(zarr, "consolidate_metadata", comes)
    with pytest.raises(slaf.AlreadyExistsError):
        array.export(target, "zarr")
    assert names(target) == []
    monkeypatch.undo()
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(slaf.AlreadyExistsError):
        array.export(tmp_path / "link", "zarr")
    assert names(tmp_path) == ["a.slaf", "link", "place"]


def test_nothing_is_written_into_a_store(tmp_path, sources):
    store = tmp_path / "a.slaf"
    SLAFConverter().convert(sources[1], store)
    lazy = read_slaf(store)
    lazy.obs["more"] = 1
    array, inside = SLAFArray(store), store / "inside"
    writes = [
        lambda: array.export(inside, "h5ad", overwrite=True),
        lambda: array.export(inside, "10x-mtx", overwrite=True),
        lambda: lazy.write(store / "inside.h5ad"),
        lambda: SLAFConverter().convert(sources[1], inside),
    ]
    if find_spec("zarr"):
        writes += [lambda: array.export(inside, "zarr"), lambda: lazy.write_zarr(inside)]
    for write in writes:
        with pytest.raises(slaf.InvalidArgumentError, match=r"inside of the store .*a\.slaf"):
            write()
    assert not [name for name in names(store) if "inside" in name]
    assert number_of(store, {}) == 1


def test_file_uris(tmp_path, sources):
    base = f"file://localhost{tmp_path}"
    SLAFConverter().convert_anndata(ad.read_h5ad(sources[1]), f"{base}/a%20b.slaf")
    SLAFConverter().convert_anndata(ad.read_h5ad(sources[1]), f"file:{tmp_path}/c.slaf")
    lazy = read_slaf(f"{base}/a%20b.slaf")
    lazy.write(f"{base}/d%20e.h5ad")
    lazy.obs["more"] = 1
    lazy.write(f"{base}/f%20g.h5ad")
    for name in ("d e.h5ad", "f g.h5ad"):
        assert ad.read_h5ad(tmp_path / name).n_obs == SIZES[1]
    assert names(tmp_path) == ["a b.slaf", "c.slaf", "d e.h5ad", "f g.h5ad"]
    with pytest.raises(slaf.InvalidArgumentError, match='"server"'):
        read_slaf("file://server/a.slaf")
