"""A full disk, no permission, few files, little memory: named, and nothing is left behind."""

import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import anndata as ad
import h5py
import numpy as np
import pytest
import scipy.sparse as sp

from slaf import SLAFArray
from slaf.data import SLAFConverter

PROGRAM = Path(sys.executable).with_name("slaf")
MEBIBYTE = 1 << 20
# Root may write everywhere, unless the capabilities for it are gone before the program starts.
UNPRIVILEGED = """
import ctypes
for capability in range(4):  # CHOWN, DAC_OVERRIDE, DAC_READ_SEARCH, FOWNER
    ctypes.CDLL(None).prctl(24, capability, 0, 0, 0)  # PR_CAPBSET_DROP
"""


def limit(name, value):
    return f"import resource\nresource.setrlimit(resource.RLIMIT_{name}, ({value}, {value}))\n"


def run(*args, first="", program=(PROGRAM,), **kwargs):
    """Runs the command after the Python statements `first`. A command that hangs fails."""
    code = f"{first}\nimport os, sys\nos.execv(sys.argv[1], sys.argv[1:])"
    return subprocess.run(
        [sys.executable, "-c", code, *program, *args],
        stdout=kwargs.pop("stdout", subprocess.PIPE),
        stderr=subprocess.PIPE,
        text=True,
        timeout=120,
        **kwargs,
    )


def assert_failed(done, kind, cause):
    assert done.returncode == 1, done.stderr
    # One line: no panic, no traceback.
    assert re.fullmatch(rf"slaf: .*{cause}.* \[{kind}\]\n", done.stderr), done.stderr


def content(folder):
    return {p: p.read_bytes() if p.is_file() else None for p in sorted(folder.rglob("*"))}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """More than a small disk holds, as h5ad by cells and by genes, and as a store."""
    folder = tmp_path_factory.mktemp("data")
    n, per_cell = 6000, 200
    rng = np.random.default_rng(0)
    columns = rng.integers(0, 10, (n, per_cell)) + 10 * np.arange(per_cell)
    values = rng.random(n * per_cell, np.float32)
    shape = (n, 10 * per_cell)
    X = sp.csr_matrix((values, columns.ravel(), np.arange(n + 1) * per_cell), shape)
    ad.AnnData(X).write_h5ad(folder / "large.h5ad")
    ad.AnnData(X.tocsc()).write_h5ad(folder / "by_gene.h5ad")
    SLAFConverter().convert(folder / "large.h5ad", folder / "large.slaf")
    return folder


def writes(data):
    """Every command that writes, but for the name of what it writes."""
    query = ["query", data / "large.slaf", "SELECT * FROM expression", "-o"]
    return {
        "new.slaf": ["convert", data / "large.h5ad"],
        "new.h5ad": ["export", data / "large.slaf"],
        "new_mtx": ["export", data / "large.slaf"],
        "new.csv": query,
        "new.json": query,
        "new.parquet": query,
        "new.arrow": query,
    }


def assert_every_write_fails(data, folder, kind, cause, **kwargs):
    before = content(folder)
    for name, args in writes(data).items():
        assert_failed(run(*args, folder / name, **kwargs), kind, cause)
        assert content(folder) == before, name
    # A new version of a store, and a new file in place of an old one.
    for name, args in [
        ("old.slaf", writes(data)["new.slaf"]),
        ("old.h5ad", writes(data)["new.h5ad"]),
    ]:
        assert_failed(run(*args, folder / name, "--overwrite", **kwargs), kind, cause)
        assert content(folder) == before, name
    assert SLAFArray(folder / "old.slaf").shape == (6, 4)


@pytest.fixture
def place(tmp_path, h5ad_path):
    """A folder with an old store and an old file."""
    return fill(tmp_path / "place", h5ad_path)


def fill(folder, h5ad_path):
    folder.mkdir(exist_ok=True)
    SLAFConverter().convert(h5ad_path, folder / "old.slaf")
    SLAFArray(folder / "old.slaf").export(folder / "old.h5ad")
    return folder


@pytest.fixture
def small_disk(tmp_path, h5ad_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", disk]
    try:
        mounted = subprocess.run(mount, capture_output=True, text=True, timeout=60)
    except FileNotFoundError:
        pytest.skip("there is no program `mount`")
    if mounted.returncode != 0:
        pytest.skip(f"a disk cannot be mounted: {mounted.stderr.strip()}")
    yield fill(disk, h5ad_path)
    # Lazily: this process may still hold files of a store that it opened there.
    subprocess.run(["umount", "-l", disk], check=True, timeout=60)


def test_a_full_disk(data, small_disk):
    assert_every_write_fails(data, small_disk, "disk-full", "No space left on device")


def test_a_full_disk_for_temporary_files(data, small_disk, tmp_path):
    before = content(small_disk)
    args = ["convert", data / "by_gene.h5ad", tmp_path / "a.slaf", "--memory", "1M"]
    done = run(*args, env=os.environ | {"TMPDIR": str(small_disk)})
    assert_failed(done, "disk-full", f"{small_disk}.*No space left on device")
    assert content(small_disk) == before
    assert not (tmp_path / "a.slaf").exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
@pytest.mark.parametrize("args", [["info"], ["verify"], ["query", "SELECT * FROM cells"]])
def test_a_full_disk_for_the_output(data, args):
    with open("/dev/full", "w") as full:
        done = run(args[0], data / "large.slaf", *args[1:], stdout=full)
    assert_failed(done, "disk-full", "No space left on device")


@pytest.mark.parametrize("size", [0, 100, MEBIBYTE])
def test_a_limit_of_the_size_of_files(data, place, size):
    first = limit("FSIZE", size)
    assert_every_write_fails(data, place, "io", "File too large", first=first)


@pytest.mark.parametrize("files", [9, 11, 12, 13, 32])
def test_few_open_files(data, place, files):
    """What does not get by with them says so, and leaves nothing."""
    tiny = os.environ | {"SLAF_FRAGMENT_ROWS": "20", "SLAF_BATCH_ROWS": "20"}
    done = run("convert", place / "old.h5ad", place / "old.slaf", "--overwrite", env=tiny)
    assert done.returncode == 0
    commands = [
        *([*args, place / name] for name, args in writes(data).items()),
        ["convert", data / "large.h5ad", place / "old.slaf", "--overwrite"],
        ["verify", place / "old.slaf"],
        ["query", place / "old.slaf", "SELECT SUM(value) AS s FROM expression"],
    ]
    failures = []
    for args in commands:
        before = content(place)
        done = run(*args, first=limit("NOFILE", files))
        if done.returncode == 0:
            continue
        try:
            assert_failed(done, "too-many-files", "Too many open files")
            after = content(place)
            assert sorted(after.keys() - before.keys()) == []
            assert after == before
        except AssertionError as e:
            failures.append(f"{args[0]} {args[1].name}: {done.stderr}{str(e)[:300]}")
    assert not failures, "\n".join(failures)
    assert run("verify", place / "old.slaf").returncode == 0
    # A store of many files does not need many open ones.
    assert files < 32 or (place / "new.slaf").exists()


@pytest.fixture
def unprivileged(tmp_path):
    """The statements after which a program may not write to a read-only folder."""
    first = UNPRIVILEGED if os.geteuid() == 0 else ""
    folder = tmp_path / "probe"
    folder.mkdir(mode=0o555)
    code = f"open({str(folder / 'file')!r}, 'w')"
    if run("-c", code, program=(sys.executable,), first=first).returncode == 0:
        pytest.skip("this user may write to a read-only folder, and cannot give that up")
    return first


def test_no_permission_to_write(data, place, unprivileged):
    for path in [place, *place.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        assert_every_write_fails(
            data, place, "permission-denied", "Permission denied", first=unprivileged
        )
    finally:
        for path in [place, *place.rglob("*")]:
            path.chmod(0o755)


@pytest.mark.parametrize("of", [".", "_slaf/versions/*", "cells-*.lance/data/*"])
def test_no_permission_to_read(place, unprivileged, of):
    store = place / "old.slaf"
    if of == "cells-*.lance/data/*":
        commands = [["verify", store], ["query", store, "SELECT SUM(value) FROM expression"]]
    else:
        commands = [["info", store], ["query", store, "SELECT 1"], ["verify", store]]
    commands.append(["export", store, place / "new.h5ad"])
    before = sorted(place.rglob("*"))
    paths = [store] if of == "." else list(store.glob(of))
    assert paths
    for path in paths:
        path.chmod(0)
    try:
        for args in commands:
            done = run(*args, first=unprivileged)
            assert_failed(done, "permission-denied", "old.slaf.*Permission denied")
    finally:
        for path in paths:
            path.chmod(0o755)
    assert sorted(place.rglob("*")) == before


IN_PYTHON = """
    import resource, sys
    from slaf import SLAFArray, SlafError
    from slaf.data import SLAFConverter

    name, value, source, store, target = sys.argv[1:]
    array = SLAFArray(store)
    # Threads and libraries are there: what fails are the files of the calls.
    array.query("SELECT COUNT(*) AS n FROM expression")
    import anndata, h5py
    resource.setrlimit(getattr(resource, name), (int(value), int(value)))
    for call in (
        lambda: SLAFConverter().convert(source, target),
        lambda: SLAFConverter(overwrite=True).convert(source, store),
        lambda: SLAFArray(store).export(target),
    ):
        try:
            call()
        except SlafError as e:
            print(type(e).__name__, e.kind)
"""


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [("FSIZE", MEBIBYTE, "StorageError io"), ("NOFILE", 3, "ResourceError too-many-files")],
)
def test_errors_in_python_have_kinds(data, tmp_path, name, value, expected):
    store, target = tmp_path / "a.slaf", tmp_path / "b.h5ad"
    SLAFConverter().convert(data / "large.h5ad", store)
    code = textwrap.dedent(IN_PYTHON)
    args = [f"RLIMIT_{name}", value, data / "large.h5ad", store, target]
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, args)], capture_output=True, text=True, timeout=120
    )
    assert done.stdout.splitlines() == [expected] * 3, done.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["a.slaf"]


def write_large_h5ad(path, n_cells, n_genes, per_cell):
    """An h5ad in AnnData's format, without the memory that its X would take."""

    def encoding(element, name, version, **attrs):
        element.attrs.update({"encoding-type": name, "encoding-version": version, **attrs})

    with h5py.File(path, "w") as file:
        encoding(file, "anndata", "0.1.0")
        for name, n in (("obs", n_cells), ("var", n_genes)):
            frame = file.create_group(name)
            none = np.array([], dtype=h5py.string_dtype())
            encoding(frame, "dataframe", "0.2.0", _index="_index", **{"column-order": none})
            names = np.arange(n).astype(str).astype(object)
            frame.create_dataset("_index", data=names, dtype=h5py.string_dtype())
            encoding(frame["_index"], "string-array", "0.2.0")
        X = file.create_group("X")
        encoding(X, "csr_matrix", "0.1.0", shape=[n_cells, n_genes])
        X["indptr"] = np.arange(n_cells + 1) * per_cell
        X.create_dataset("indices", (n_cells * per_cell,), "i4")
        X.create_dataset("data", (n_cells * per_cell,), "f4")
        rng, step = np.random.default_rng(0), n_genes // per_cell
        for begin in range(0, n_cells, 2000):
            rows = min(2000, n_cells - begin)
            part = slice(begin * per_cell, (begin + rows) * per_cell)
            columns = rng.integers(0, step, (rows, per_cell)) + step * np.arange(per_cell)
            X["indices"][part] = columns.ravel()
            X["data"][part] = rng.integers(1, 20, rows * per_cell)


def peak(*args):
    """The most memory that the command had, in bytes."""
    # Buffers that grow with the number of processors are not what is measured.
    threads = {"RAYON_NUM_THREADS": "2", "TOKIO_WORKER_THREADS": "2"}
    pid = os.posix_spawn(PROGRAM, [PROGRAM, *map(str, args)], os.environ | threads)
    _, status, usage = os.wait4(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    return usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def test_memory_is_bounded(tmp_path):
    """Ten times the memory that is allowed, and more than there is in all."""
    source, store, back = (tmp_path / name for name in ("a.h5ad", "a.slaf", "b.h5ad"))
    write_large_h5ad(source, 60_000, 20_000, 1000)
    assert source.stat().st_size > 480 * 10**6
    # The program with its Python, and what it holds whatever the allowance.
    floor = peak("version") + 160 * MEBIBYTE
    assert peak("convert", source, store, "--memory", "48M") < floor + 48 * MEBIBYTE
    assert peak("export", store, back) < floor
    assert peak("query", store, "SELECT SUM(value) FROM expression") < floor
