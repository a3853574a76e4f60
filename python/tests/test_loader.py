"""The loader against the matrix that it was made of."""

import gc
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st
from loading import N_CELLS, N_GENES, cells_of, made, stored
from processes import child

import slaf
from slaf import SLAFArray
from slaf.ml import GeneformerTokenizer, ScGPTTokenizer, SLAFDataLoader, Split


@pytest.fixture(scope="module")
def adata():
    return made()


@pytest.fixture(scope="module")
def array(tmp_path_factory, adata):
    return stored(tmp_path_factory.mktemp("loader"), adata)


def raw(array, **options):
    return SLAFDataLoader(array, raw_mode=True, return_tensors="numpy", **options)


def test_raw_rows_are_those_of_the_matrix(array, adata):
    X = adata.X.toarray()
    loader = raw(array, batch_size=8)
    batches = list(loader)
    assert len(batches) == len(loader) == 13
    assert [len(b["cell_ids"]) for b in batches] == [8] * 12 + [5]
    for batch in batches:
        assert batch["x"].dtype == np.float32
        batch["x"].check_format(full_check=True)
        np.testing.assert_array_equal(batch["x"].toarray(), X[batch["cell_ids"]])
    assert sorted(cells_of(batches)) == list(range(N_CELLS))
    assert (cells_of(batches) != np.arange(N_CELLS)).any()


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.float64, np.bool_])
def test_other_types_of_values(tmp_path, dtype):
    adata = made(dtype=dtype)
    array = stored(tmp_path, adata)
    expected = np.float64 if dtype == np.float64 else np.float32
    for dense in (False, True):
        x = next(iter(raw(array, batch_size=N_CELLS, shuffle=False, dense=dense)))["x"]
        assert x.dtype == expected
        np.testing.assert_array_equal(x if dense else x.toarray(), adata.X.toarray())
    x = next(iter(raw(array, batch_size=N_CELLS, shuffle=False, dtype=dtype)))["x"]
    assert x.dtype == dtype
    with pytest.raises(slaf.InvalidArgumentError):
        raw(array, dtype=np.int64)


def test_counts_that_float32_cannot_hold(tmp_path):
    adata = made(dtype=np.int32)
    adata.X[7, 3] = (1 << 24) + 1
    array = stored(tmp_path, adata)
    with pytest.raises(slaf.InputError, match="float64") as caught:
        list(raw(array))
    assert caught.value.kind == "would-lose-data"
    x = next(iter(raw(array, batch_size=N_CELLS, shuffle=False, dtype="float64")))["x"]
    assert x[7, 3] == (1 << 24) + 1


@pytest.mark.parametrize("dense", [False, True])
def test_normalised_as_scanpy_does(array, adata, dense):
    X = adata.X.toarray()
    # The recipe of scanpy's normalize_total for CSR, with totals over all genes.
    totals = X.sum(axis=1, dtype=np.float64).astype(np.float32) / np.float32(1e4)
    totals[totals == 0] = 1
    expected = np.log1p(X / totals[:, None])[:, [5, 2, 7]]
    options = {"normalize": 1e4, "log1p": True, "genes": ["g5", "g2", "g7"], "dense": dense}
    loader = raw(array, batch_size=N_CELLS, shuffle=False, **options)
    assert loader.gene_ids == ["g5", "g2", "g7"]
    x = next(iter(loader))["x"]
    x = x if dense else x.toarray()
    np.testing.assert_allclose(x, expected, rtol=2.5e-7)
    exact = raw(array, batch_size=N_CELLS, shuffle=False, normalize=1e4)
    np.testing.assert_array_equal(next(iter(exact))["x"].toarray(), X / totals[:, None])


def by_popularity(counts):
    """Give the columns by how many rows have them, of equals the first."""
    return np.argsort(-(counts != 0).sum(axis=0), kind="stable")


@pytest.mark.parametrize("dense", [False, True])
@pytest.mark.parametrize(
    "options", [{}, {"layer": "twice"}, {"genes": [7, 3, 11, 5]}, {"log1p": True}]
)
def test_columns_in_stored_order(array, adata, dense, options):
    X = adata.X.toarray()
    order = by_popularity(X)
    assert (order != np.arange(N_GENES)).any()
    if "genes" in options:
        order = order[np.isin(order, options["genes"])]
    expected = {"layer": 2 * X, "log1p": np.log1p(X)}.get(next(iter(options), None), X)[:, order]
    loader = raw(array, batch_size=9, dense=dense, gene_order="stored", **options)
    assert loader.gene_ids == adata.var_names[order].tolist()
    for batch in loader:
        assert batch["x"].shape[1] == len(order)
        if not dense:
            batch["x"].check_format(full_check=True)
        x = batch["x"] if dense else batch["x"].toarray()
        np.testing.assert_allclose(x, expected[batch["cell_ids"]], rtol=2.5e-7)


def test_the_order_of_genes_is_no_part_of_a_state(array):
    loader = raw(array, batch_size=8, seed=3)
    for _ in zip(range(4), loader, strict=False):
        pass
    other = raw(array, batch_size=8, seed=3, gene_order="stored")
    other.load_state_dict(loader.state_dict())
    assert other.state_dict() == loader.state_dict()
    rest = list(raw(array, batch_size=8, seed=3))[4:]
    np.testing.assert_array_equal(cells_of(other), cells_of(rest))
    copy = pickle.loads(pickle.dumps(other))
    assert copy.gene_ids == other.gene_ids
    assert other.gene_ids != loader.gene_ids


def test_orders_of_genes_that_do_not_exist(array):
    with pytest.raises(slaf.InvalidArgumentError, match="'var' and 'stored'"):
        raw(array, gene_order="popular")
    with pytest.raises(slaf.InvalidArgumentError, match="twice"):
        raw(array, gene_order="stored", genes=[3, 5, 3])
    with pytest.raises(slaf.InvalidArgumentError, match="gene_order="):
        SLAFDataLoader(array, "scgpt", gene_order="stored", return_tensors="numpy")


def test_layers(array, adata):
    x = next(iter(raw(array, layer="twice", batch_size=N_CELLS, shuffle=False)))["x"]
    np.testing.assert_array_equal(x.toarray(), adata.layers["twice"].toarray())
    with pytest.raises(slaf.UnknownNameError):
        raw(array, layer="thrice")


@pytest.mark.parametrize("kind", ["geneformer", "scgpt"])
def test_tokens_are_those_of_the_tokenizer(array, kind):
    loader = SLAFDataLoader(
        array, kind, batch_size=10, max_genes=9, return_tensors="numpy", seed=4, n_epochs=2
    )
    made = {"geneformer": GeneformerTokenizer, "scgpt": ScGPTTokenizer}[kind]
    tokenizer = made(array, max_genes=9)
    n = 0
    for i, batch in enumerate(loader):
        expected = tokenizer.tokenize(batch["cell_ids"], seed=4, epoch=i // 11)
        assert set(batch) == {*expected, "epoch"}
        assert batch["epoch"] == i // 11
        for key, value in expected.items():
            assert batch[key].dtype == value.dtype
            np.testing.assert_array_equal(batch[key], value)
        n += int(batch["attention_mask"].sum())
    stats = loader.stats()
    assert (stats.batches, stats.cells, stats.tokens) == (22, 2 * N_CELLS, n)
    assert 0 < stats.first_batch_seconds <= stats.seconds
    assert stats.bytes_read > 0
    assert "cells/s" in str(stats)


def test_columns_of_obs(array, adata):
    names = ["line", "drug", "donor", "depth", "rank", "good"]
    loader = raw(array, obs_columns=names, batch_size=20)
    assert loader.codes["line"] == ["b", "a", "c", "unused"]
    assert loader.codes["drug"] == ["control", "x", "y"]
    for batch in loader:
        obs = adata.obs.iloc[batch["cell_ids"]]
        assert batch["line"].dtype == np.int64
        np.testing.assert_array_equal(batch["line"], obs.line.cat.codes)
        assert [loader.codes["drug"][c] for c in batch["drug"]] == obs.drug.to_list()
        labels = [loader.codes["donor"][c] if c >= 0 else None for c in batch["donor"]]
        assert labels == [d if isinstance(d, str) else None for d in obs.donor]
        assert batch["depth"].dtype == np.float32
        np.testing.assert_array_equal(batch["depth"], obs.depth)
        np.testing.assert_array_equal(batch["rank"], obs["rank"])
        assert batch["good"].dtype == np.bool_
        np.testing.assert_array_equal(batch["good"], obs.good)


def test_tables_of_labels_are_taken_over(array, adata):
    table = json.loads(json.dumps({"line": ["c", "d", "a"]}))
    loader = raw(array, obs_columns=["line"], codes=table, unknown_code=-100, shuffle=False)
    found = np.concatenate([b["line"] for b in loader])
    expected = adata.obs.line.map({"c": 0, "a": 2, "b": -100}).to_numpy()
    np.testing.assert_array_equal(found, expected)
    for wrong in ({"line": ["a", "a"]}, {"drug": ["x"]}):
        with pytest.raises(slaf.InvalidArgumentError):
            raw(array, obs_columns=["line"], codes=wrong)


def test_a_choice_of_cells(array, adata):
    chosen = np.flatnonzero((adata.obs.line == "a") & (adata.obs.depth > 20))
    assert 5 < len(chosen) < 30
    loader = raw(array, where="line = 'a' AND depth > 20 -- a comment", batch_size=4)
    assert sorted(cells_of(loader)) == chosen.tolist()
    both = raw(array, where="line = 'a' AND depth > 20", cells=adata.obs_names[chosen[:3]])
    assert sorted(cells_of(both)) == chosen[:3].tolist()
    with pytest.raises(slaf.InvalidArgumentError, match="no cell"):
        raw(array, where="line = 'unused'")
    with pytest.raises(slaf.QueryError):
        raw(array, where="line = = 'a'")


def test_splits(array, adata):
    parts = ["train", "val", "test"]
    by_cell = [set(cells_of(raw(array, split=Split(p, seed=1)))) for p in parts]
    assert sorted(set.union(*by_cell)) == list(range(N_CELLS))
    assert sum(map(len, by_cell)) == N_CELLS
    assert 60 < len(by_cell[0]) < 98
    halves = {"train": 1, "val": 1}
    missing = int(adata.obs.donor.isna().sum())
    assert missing > 0
    with pytest.raises(slaf.InvalidArgumentError, match=rf"^{missing} cells have no value in") as e:
        raw(array, split=Split("train", halves, "donor"))
    known = "donor IS NOT NULL"
    assert "IS NOT NULL" in str(e.value)
    by_donor = [cells_of(raw(array, where=known, split=Split(p, halves, "donor"))) for p in halves]
    donors = [set(adata.obs.donor.iloc[cells]) for cells in by_donor]
    assert donors[0].isdisjoint(donors[1])
    assert donors[0] | donors[1] == set(adata.obs.donor.dropna())
    assert sum(map(len, by_donor)) == N_CELLS - missing
    chosen = np.flatnonzero(adata.obs.donor.notna())
    assert raw(array, cells=chosen, split=Split("train", halves, "donor")).n_cells == len(
        by_donor[0]
    )
    split = Split("train", halves, ["donor"])
    again = raw(SLAFArray(array.path), where=known, split=split, seed=9)
    assert sorted(cells_of(again)) == sorted(by_donor[0])
    with pytest.raises(slaf.InvalidArgumentError):
        raw(array, split=Split("other"))


@given(
    batch=st.integers(1, 30),
    world=st.integers(1, 4),
    shuffle=st.sampled_from([True, False, "block"]),
    uneven=st.sampled_from(["pad", "uneven"]),
    drop_last=st.booleans(),
    where=st.sampled_from([None, "good", "rank < 10"]),
)
def test_every_cell_comes_once(array, adata, batch, world, shuffle, uneven, drop_last, where):
    chosen = {None: slice(None), "good": adata.obs.good, "rank < 10": adata.obs["rank"] < 10}
    expected = np.arange(N_CELLS)[chosen[where]]
    window = {"block_size": 3, "window": 20} if shuffle == "block" else {}
    ranks = []
    for rank in range(world):
        loader = raw(
            array, batch_size=batch, shuffle=shuffle, where=where, drop_last=drop_last,
            rank=rank, world_size=world, uneven=uneven, **window,
        )  # fmt: skip
        batches = list(loader)
        assert len(batches) == len(loader)
        ranks.append(batches)
    seen = np.sort(np.concatenate([cells_of(batches) for batches in ranks]))
    unique, counts = np.unique(seen, return_counts=True)
    if drop_last:
        assert len(seen) == len(expected) // (batch * world) * batch * world
        assert set(seen) <= set(expected)
        assert counts.max(initial=1) == 1
    else:
        np.testing.assert_array_equal(unique, expected)
        assert counts.sum() - len(counts) < (world if uneven == "pad" else 1)
    if drop_last or uneven == "pad":
        sizes = [[len(b["cell_ids"]) for b in batches] for batches in ranks]
        assert all(s == sizes[0] for s in sizes)


def test_epochs(array):
    def epoch(loader, number):
        loader.set_epoch(number)
        return cells_of(loader).tolist()

    loader = raw(array, seed=3)
    first, second, third = (cells_of(loader).tolist() for _ in range(3))
    assert first != second != third
    assert loader.epoch == 3
    # From a fresh loader, after a later epoch, and after one that was left early.
    assert epoch(raw(array, seed=3), 1) == second
    assert epoch(loader, 1) == second
    loader.set_epoch(2)
    for _ in zip(range(2), loader, strict=False):
        pass
    assert cells_of(loader).tolist() == third
    assert cells_of(raw(array, seed=3, n_epochs=3)).tolist() == first + second + third
    assert cells_of(raw(array, seed=4)).tolist() != first


def test_the_order_in_a_fresh_process(array):
    code = """
        import sys
        from slaf import SLAFArray
        from slaf.ml import SLAFDataLoader
        assert not any(m in sys.modules for m in ("torch", "pandas", "pyarrow"))
        loader = SLAFDataLoader(SLAFArray(sys.argv[1]), raw_mode=True, return_tensors="numpy")
        loader.set_epoch(5)
        print([int(c) for batch in loader for c in batch["cell_ids"]])
        assert "torch" not in sys.modules
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), array.path],
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    loader = raw(array)
    loader.set_epoch(5)
    assert json.loads(done.stdout) == cells_of(loader).tolist()


@pytest.mark.parametrize("taken", [0, 1, 7, 12, 13, 20, 25])
def test_resuming(array, taken):
    options = {"batch_size": 8, "n_epochs": 2, "seed": 5}
    expected = cells_of(raw(array, **options)).tolist()
    loader = raw(array, **options)
    iterator = iter(loader)
    first = [next(iterator) for _ in range(taken)]
    state = json.loads(json.dumps(loader.state_dict()))
    assert len(json.dumps(state)) < 500
    other = raw(array, **options)
    other.load_state_dict(state)
    assert other.state_dict() == state
    assert cells_of(first + list(other)).tolist() == expected


def test_after_the_last_batch_comes_the_next_epoch(array):
    options = {"batch_size": 8, "seed": 5}
    first = raw(array, **options)
    # As trainers do that know the number of batches.
    for _ in zip(range(len(first)), first, strict=False):
        pass
    assert first.state_dict()["epoch"] == first.epoch == 1
    other = raw(array, **options)
    other.load_state_dict(first.state_dict())
    expected = cells_of(raw(array, n_epochs=2, **options))[N_CELLS:]
    np.testing.assert_array_equal(cells_of(other), expected)
    np.testing.assert_array_equal(cells_of(first), expected)


def test_resuming_with_other_ranks(array):
    seen = []
    for rank in range(3):
        loader = raw(array, batch_size=4, rank=rank, world_size=3, uneven="uneven")
        iterator = iter(loader)
        seen += [next(iterator) for _ in range(5)]
    state = loader.state_dict()
    assert state["start"] == 5 * 4 * 3
    for rank in range(2):
        loader = raw(array, batch_size=7, rank=rank, world_size=2, uneven="uneven")
        loader.load_state_dict(state)
        seen += list(loader)
    assert sorted(cells_of(seen)) == list(range(N_CELLS))


def test_a_state_of_something_else_is_refused(array, tmp_path):
    state = raw(array).state_dict()
    other = stored(tmp_path, made(n_cells=50))
    for loader in (raw(other), raw(array, seed=1), raw(array, where="good")):
        with pytest.raises(slaf.ConflictError):
            loader.load_state_dict(state)
    for wrong in ({}, {**state, "skip": -1}, {**state, "epoch": "1"}):
        with pytest.raises(slaf.InvalidArgumentError):
            raw(array).load_state_dict(wrong)


def test_a_state_of_a_store_of_the_same_shape_is_refused(array, tmp_path):
    state = json.loads(json.dumps(raw(array).state_dict()))
    twin = stored(tmp_path, made(seed=1), "twin.slaf")
    assert (twin.version, twin.shape) == (array.version, array.shape)
    with pytest.raises(slaf.ConflictError, match=r"other data than .*twin\.slaf"):
        raw(twin).load_state_dict(state)
    # The store may move.
    shutil.copytree(array.path, tmp_path / "moved.slaf")
    raw(slaf.SLAFArray(tmp_path / "moved.slaf")).load_state_dict(state)


def test_what_is_no_state_is_refused_by_type(array):
    state = raw(array, seed=1).state_dict()
    wrong = [None, 3, "state", [state], {**state, "format": True}, {**state, "format": "2"}]
    for value in wrong:
        with pytest.raises(slaf.InvalidArgumentError, match="state"):
            raw(array, seed=1).load_state_dict(value)
    former = {**state, "format": 1, "data": [[array.version, *array.shape]]}
    wrong = [former, {**state, "seed": True}, {**state, "data": None}, {**state, "sampler": [1]}]
    for value in wrong:
        with pytest.raises(slaf.ConflictError):
            raw(array, seed=1).load_state_dict(value)


def test_pickled(array):
    loader = raw(array, obs_columns=["drug"])
    iterator = iter(loader)
    first = [next(iterator), next(iterator)]
    copy = pickle.loads(pickle.dumps(loader))
    assert copy.state_dict() == loader.state_dict()
    again = raw(array, obs_columns=["drug"])
    copy.load_state_dict(loader.state_dict())
    assert cells_of(first + list(copy)).tolist() == cells_of(again).tolist()


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_iterates(array):
    loader = raw(array, batch_size=2)
    iterator = iter(loader)
    next(iterator)
    pid = os.fork()
    if pid == 0:
        signal.alarm(60)
        try:
            try:
                next(iterator)
                ok = False
            except slaf.InvalidArgumentError:
                ok = True
            ok = ok and len(cells_of(loader)) == N_CELLS
        finally:
            os._exit(0 if ok else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert len(cells_of(iterator)) == N_CELLS - 2


def threads():
    """Names of the threads of this process."""
    names = []
    for task in os.listdir("/proc/self/task"):
        try:
            with open(f"/proc/self/task/{task}/comm") as comm:
                names.append(comm.read().strip())
        except FileNotFoundError:
            pass
    return names


@pytest.mark.skipif(sys.platform != "linux", reason="counts threads in /proc")
def test_leaving_early_stops_the_threads(array):
    loader = raw(array, batch_size=1, memory=1)
    for _ in loader:
        assert {"slaf-read", "slaf-make"} & set(threads())
        break
    gc.collect()
    end = time.monotonic() + 10
    while {"slaf-read", "slaf-make"} & set(threads()):
        assert time.monotonic() < end, threads()
        time.sleep(0.01)


def test_an_error_in_a_thread_reaches_the_consumer(tmp_path):
    array = stored(tmp_path, made())
    files = list((tmp_path / "store.slaf").glob("cells-*.lance/data/*"))
    assert files
    for file in files:
        file.unlink()
    with pytest.raises(slaf.SlafError) as caught:
        list(raw(SLAFArray(array.path), batch_size=8))
    assert caught.value.kind == "corrupt"


def test_a_function_as_tokenizer(array, adata):
    def tokenizer(batch):
        assert sp.issparse(batch["x"])
        return {"total": batch["x"].sum(axis=1), "cells": batch["cell_ids"]}

    for batch in SLAFDataLoader(array, tokenizer=tokenizer, return_tensors="numpy"):
        expected = adata.X[batch["cells"]].sum(axis=1)
        np.testing.assert_allclose(batch["total"], expected)

    def broken(batch):
        raise RuntimeError("no")

    before = threading.active_count()
    with pytest.raises(RuntimeError, match="no"):
        list(SLAFDataLoader(array, tokenizer=broken, return_tensors="numpy"))
    assert threading.active_count() == before


def test_arrow(array, adata):
    pa = pytest.importorskip("pyarrow")
    options = {"batch_size": N_CELLS, "shuffle": False, "return_tensors": "arrow"}
    batch = next(iter(SLAFDataLoader(array, raw_mode=True, obs_columns=["good"], **options)))
    assert isinstance(batch, pa.RecordBatch)
    found = np.zeros(adata.shape, np.float32)
    rows = zip(batch["x_indices"].to_pylist(), batch["x_values"].to_pylist(), strict=True)
    for i, (columns, values) in enumerate(rows):
        found[i, columns] = values
    np.testing.assert_array_equal(found, adata.X.toarray())
    batch = next(iter(SLAFDataLoader(array, max_genes=6, **options)))
    expected = GeneformerTokenizer(array, max_genes=6).tokenize()["input_ids"]
    assert batch["input_ids"].to_pylist() == expected.tolist()


def test_wrong_arguments(array):
    for options in (
        {"batch_size": 0},
        {"seed": -1},
        {"shuffle": "fully"},
        {"window": 5},
        {"rank": 1},
        {"rank": 2, "world_size": 2},
        {"n_epochs": 0},
        {"obs_columns": "line"},
        {"obs_columns": ["line", "line"]},
        {"normalize": 0},
        {"genes": [1, 1]},
        {"return_tensors": "jax"},
        {"uneven": "drop"},
    ):
        options = {"raw_mode": True, "return_tensors": "numpy", **options}
        with pytest.raises(slaf.InvalidArgumentError):
            list(SLAFDataLoader(array, **options))
    for options in (
        {"tokenizer_type": "bert"},
        {"genes": [1]},
        {"log1p": True},
        {"tokenizer": ScGPTTokenizer(array, binning="strict")},
    ):
        with pytest.raises(slaf.InvalidArgumentError):
            SLAFDataLoader(array, return_tensors="numpy", **options)
    with pytest.raises(slaf.UnknownNameError):
        raw(array, obs_columns=["lin"])


def test_the_report_of_a_shuffle(tmp_path):
    adata = made(n_cells=4000, n_genes=3)
    array = stored(tmp_path, adata)
    full = raw(array).shuffle_report("line")
    assert full.exact_cover
    assert 0.7 < full.neighbour_ratio < 1.3
    assert full.label_entropy == pytest.approx(full.ideal_label_entropy, rel=0.03)
    blocks = raw(array, shuffle="block", block_size=8, window=1000).shuffle_report("line")
    assert blocks.exact_cover
    assert 2.5 < blocks.neighbour_ratio < 4.5
    none = raw(array, shuffle=False).shuffle_report("line")
    assert none.neighbour_ratio > 100
    assert none.label_entropy < 0.1


def test_the_repr(array):
    text = repr(raw(array, rank=1, world_size=2, shuffle="block", n_epochs=2))
    assert "101 cells x 23 genes" in text
    assert "blocks of 16" in text
    assert "rank 1 of 2" in text
    assert f"{N_GENES} genes" in text


def test_ten_epochs_do_not_grow(array):
    resource = pytest.importorskip("resource")
    loader = raw(array, batch_size=4)
    for _ in range(3):
        list(loader)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(10):
        for _batch in loader:
            pass
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20_000
    assert sum(name.startswith("slaf-read") for name in threads()) <= 1


INTERRUPTED = """
    import sys
    from slaf import SLAFArray
    from slaf.ml import SLAFDataLoader, Weighted
    array, n = SLAFArray(sys.argv[1]), 4_000_000
    # One batch that takes seconds.
    loader = SLAFDataLoader(array, raw_mode=True, return_tensors="numpy", batch_size=n,
                            sampler=Weighted("depth", n=n))
    print("ready", flush=True)
    try:
        for _ in loader:
            print("too fast", flush=True)
    except KeyboardInterrupt:
        print("interrupted", flush=True)
"""


def test_ctrl_c(array):
    command = [sys.executable, "-c", textwrap.dedent(INTERRUPTED), array.path]
    with child(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.3)
        start = time.monotonic()
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == "interrupted\n"
        # Within a second, on a machine that does nothing else.
        assert time.monotonic() - start < 5
