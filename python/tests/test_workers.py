"""Passes by workers of a cluster: the bits of one machine, at any number of workers and threads."""

import json
import os
import pickle
import shutil
import subprocess
import sys
import warnings
from contextlib import contextmanager
from importlib.util import find_spec
from unittest import mock

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from processes import LIMIT

import slaf
from slaf._boundary import Question
from slaf.analysis import analyze
from slaf.data import SLAFConverter
from slaf.integrations import get, pp, read_slaf, tl
from slaf.integrations._workers import _result, _Task, _work, on_workers
from slaf.integrations.scanpy import _pca

distributed = pytest.importorskip("distributed")

#: Rows of a part; 64 of them are a stretch, so that there are some.
ROWS = 2
N_CELLS, N_GENES = 300, 60


@pytest.fixture(scope="module", autouse=True)
def tiny():
    before = os.environ.get("SLAF_BATCH_ROWS")
    os.environ["SLAF_BATCH_ROWS"] = str(ROWS)
    yield
    if before is None:
        del os.environ["SLAF_BATCH_ROWS"]
    else:
        os.environ["SLAF_BATCH_ROWS"] = before


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    rng = np.random.default_rng(5)
    counts = rng.poisson(rng.gamma(0.6, 2, N_GENES) * rng.uniform(0.5, 2, (N_CELLS, 1)))
    X = sp.csr_matrix(counts.astype(np.float32))
    obs = pd.DataFrame(
        {
            "kind": pd.Categorical([f"k{i % 4}" for i in range(N_CELLS)]),
            "lane": pd.Categorical([f"l{i % 3}" for i in range(N_CELLS)]),
        },
        index=[f"c{i}" for i in range(N_CELLS)],
    )
    var = pd.DataFrame({"mt": np.arange(N_GENES) % 7 == 0}, index=[f"g{i}" for i in range(N_GENES)])
    adata = ad.AnnData(X, obs=obs, var=var, layers={"thirds": sp.csr_matrix(X / np.float32(3))})
    path = tmp_path_factory.mktemp("workers") / "a.slaf"
    SLAFConverter().convert_anndata(adata, path)
    return str(path)


@pytest.fixture(scope="module")
def client(tiny):
    with warnings.catch_warnings():
        # Of dask itself, about ports and event loops.
        warnings.simplefilter("ignore")
        cluster = distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
        )
        with cluster, distributed.Client(cluster) as client:
            yield client


def normalised(path):
    adata = read_slaf(path)
    pp.normalize_total(adata, target_sum=1e3)
    pp.log1p(adata)
    return adata


def qc(path, client):
    frames = [
        pp.calculate_qc_metrics(
            read_slaf(path), qc_vars=["mt"], percent_top=top, layer=layer, client=client
        )
        for top in ((5, 20), None)
        for layer in (None, "thirds")
    ]
    return [frame for pair in frames for frame in pair]


def hvg(path, client):
    found = []
    for batch_key in (None, "lane"):
        for flavor in ("seurat", "cell_ranger", "seurat_v3"):
            adata = read_slaf(path) if flavor == "seurat_v3" else normalised(path)
            pp.highly_variable_genes(
                adata, flavor=flavor, n_top_genes=20, batch_key=batch_key, span=0.6, client=client
            )
            found.append(adata.var)
    return found


def pca(path, client):
    found = []
    for scaled, zero_center in ((False, True), (True, True), (False, False)):
        adata = normalised(path)
        if scaled:
            pp.scale(adata, max_value=4)
        pp.pca(adata, n_comps=7, zero_center=zero_center, client=client)
        about = adata.uns["pca"]
        found += [adata.obsm["X_pca"], adata.varm["PCs"], about["variance"]]
        found.append(about["variance_ratio"])
    few = normalised(path)[:25].copy()
    pp.pca(few, n_comps=3, client=client)
    found.append(few.obsm["X_pca"])
    found.append(pp.pca(normalised(path).X[::2], 5, client=client))
    return found


def lanczos(path, client):
    """Components of more genes than have products of all pairs."""
    found = []
    # As it is, scaled, scaled and clipped (which makes it dense), and not centred.
    ways = ((None, True), ({}, True), ({"max_value": 4}, True), (None, False))
    with mock.patch.object(_pca, "MOST_COLUMNS", 20):
        for scale, zero_center in ways:
            adata = normalised(path)
            if scale is not None:
                pp.scale(adata, **scale)
            pp.pca(adata, n_comps=7, zero_center=zero_center, client=client)
            about = adata.uns["pca"]
            found += [adata.obsm["X_pca"], adata.varm["PCs"], about["variance"]]
            found += [about["variance_ratio"], about["residuals"]]
        found.append(pp.pca(normalised(path).X[::2], 5, client=client))
    return found


def ranks(path, client):
    found = []
    ways = (
        {"method": "t-test", "pts": True},
        {"method": "t-test_overestim_var", "reference": "k1"},
        {"method": "wilcoxon", "tie_correct": True},
        {"method": "wilcoxon", "tie_correct": True, "reference": "k2", "mean_in_log_space": False},
        {"method": "wilcoxon", "layer": "thirds"},
    )
    for how in ways:
        adata = normalised(path)
        tl.rank_genes_groups(adata, "kind", **how, client=client)
        found.append(get.rank_genes_groups_df(adata, None))
    return found


def pseudobulk(path, client):
    adata = read_slaf(path)
    found = [
        get.pseudobulk(adata, ["kind", "lane"], layer=layer, func=func, client=client)
        for layer in (None, "thirds")
        for func in ("sum", "mean")
    ]
    return [bulk.to_df() for bulk in found]


PASSES = (qc, hvg, pca, lanczos, ranks, pseudobulk)


def bits(found):
    """The bytes of frames and arrays, texts as texts."""
    parts = []
    for part in found:
        columns = part.items() if isinstance(part, pd.DataFrame) else [("", part)]
        for name, values in columns:
            values = np.asarray(values)
            told = values.tolist() if values.dtype == object else values.tobytes().hex()
            parts.append([name, str(values.dtype), told])
    return parts


@pytest.mark.filterwarnings("ignore:.*data. Please log|.*scipy.sparse.*|zero-centering")
@pytest.mark.parametrize("work", PASSES, ids=lambda work: work.__name__)
def test_two_workers_find_the_bits_of_one_machine(path, client, work):
    assert bits(work(path, client)) == bits(work(path, None))


@contextmanager
def both_work(client):
    """See that each of the workers has something to do."""

    def count(dask_worker):
        return dask_worker.state.executed_count

    before = client.run(count)
    yield
    after = client.run(count)
    assert len(after) == 2
    assert all(after[worker] > before[worker] for worker in after)


@pytest.mark.filterwarnings("ignore:zero-centering")
def test_both_workers_work(path, client):
    for work in (qc, lanczos):
        with both_work(client):
            work(path, client)


def test_an_analysis_is_that_of_one_machine(client, tmp_path):
    from test_analyze import QUICK, assert_same_results, counts

    paths = [tmp_path / "alone.slaf", tmp_path / "together.slaf"]
    SLAFConverter().convert_anndata(counts(), paths[0])
    shutil.copytree(*paths)
    doublets = find_spec("skimage") is not None
    options = {**QUICK, "batch_key": "donor", "harmony": False, "doublets": doublets, "scale": 10}
    analyze(paths[0], **options)
    with both_work(client):
        analyze(paths[1], client=client, **options)
    assert_same_results(*paths)
    with pytest.raises(slaf.InvalidArgumentError, match=r"a dask\.distributed\.Client, not a str"):
        analyze(paths[1], client="tcp://localhost:8786", **options)


SCRIPT = """
import json, sys, warnings
sys.path.insert(0, {tests!r})
import test_workers as t
warnings.simplefilter("ignore")
json.dump([t.bits(work({path!r}, None)) for work in t.PASSES], sys.stdout)
"""


def test_threads_make_no_difference(path):
    script = SCRIPT.format(tests=os.path.dirname(__file__), path=path)
    found = set()
    for threads in (1, 2, 5):
        env = {**os.environ, "RAYON_NUM_THREADS": str(threads)}
        done = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, timeout=LIMIT, env=env
        )
        assert done.returncode == 0, done.stderr
        assert len(json.loads(done.stdout)) == len(PASSES)
        found.add(done.stdout)
    assert len(found) == 1


@pytest.mark.parametrize("n_workers", [1, 5])
@pytest.mark.filterwarnings("ignore")
def test_workers_make_no_difference(path, n_workers):
    expected = [bits(work(path, None)) for work in PASSES]
    # Threads of this process, which are workers as well.
    cluster = distributed.LocalCluster(
        n_workers=n_workers, threads_per_worker=1, processes=False, dashboard_address=None
    )
    with cluster, distributed.Client(cluster) as client:
        assert [bits(work(path, client)) for work in PASSES] == expected


def test_what_workers_cannot_read_is_refused(path, client, original):
    adata = read_slaf(path)
    adata.X = sp.csr_matrix(np.ones((N_CELLS, N_GENES), np.float32))
    with pytest.raises(slaf.UnsupportedError, match=r"is not in a store.*write\(\)"):
        pp.calculate_qc_metrics(adata, percent_top=None, client=client)
    with pytest.raises(slaf.UnsupportedError, match="is not in a store"):
        on_workers(read_slaf(path).X.T, client)
    with pytest.raises(slaf.InvalidArgumentError, match=r"a dask\.distributed\.Client, not a str"):
        pp.pca(read_slaf(path), client="tcp://localhost:8786")
    with pytest.raises(slaf.InvalidArgumentError, match="logreg"):
        tl.rank_genes_groups(normalised(path), "kind", method="logreg", client=client)


def test_errors_of_workers_arrive(path, client):
    adata = read_slaf(path)
    adata.X = adata.X * np.inf
    with pytest.raises(slaf.InvalidArgumentError, match="contains infinity"):
        pp.pca(adata, n_comps=3, client=client)
    # The cluster goes on.
    assert len(qc(path, client)) == 8


def test_another_store_at_the_same_path_is_found_out(path):
    matrix = read_slaf(path).X
    task = _Task(matrix._source._store, "of another", matrix._source._native(), [])
    with pytest.raises(slaf.ConflictError, match="another store here"):
        _work(pickle.loads(pickle.dumps(task)), Question(), [0, 0, 0, 1, ROWS])


def test_a_store_that_workers_do_not_see_is_named(path, client, tmp_path, monkeypatch):
    expected = pp.calculate_qc_metrics(read_slaf(path), percent_top=[5])[0]
    # Workers may be in other folders.
    monkeypatch.chdir(os.path.dirname(path))
    client.run(os.chdir, "/")
    relative = read_slaf(os.path.basename(path))
    found = pp.calculate_qc_metrics(relative, percent_top=[5], client=client)[0]
    pd.testing.assert_frame_equal(found, expected)
    copy = shutil.copytree(path, tmp_path / "b.slaf")
    source = read_slaf(copy).X._source
    task = _Task(source._store, source._store.native.write_id, source._native(), [])
    copy.rename(tmp_path / "moved.slaf")
    there = pickle.loads(pickle.dumps(task))
    with pytest.raises(slaf.NotFoundError, match="finds no store at this path") as e:
        _work(there, Question(), [0, 0, 0, 1, ROWS])
    assert str(copy) in str(e.value)


def test_a_client_that_is_closed_and_workers_that_end(path, client):
    closed = distributed.Client(client.cluster)
    closed.close()
    with pytest.raises(slaf.InvalidArgumentError, match="client is closed"):
        pp.calculate_qc_metrics(read_slaf(path), client=closed)

    class Lost:
        def result(self):
            raise distributed.client.FutureCancelledError("piece", "lost dependencies")

    with pytest.raises(slaf.StorageError, match=r"ended while they worked.*lost dependencies"):
        _result(Lost())


def test_a_client_that_is_closed_during_a_pass(path, client):
    other = distributed.Client(client.cluster)
    source = on_workers(normalised(path).X, other)._source

    def closing():
        with source._scattered([]) as matrix:
            other.close()
            matrix.answer(Question())

    with pytest.raises(slaf.StorageError, match="in the midst of a pass"):
        closing()


def test_settings_that_differ_are_found_out(path, client):
    adata = normalised(path)
    os.environ["SLAF_BATCH_ROWS"] = "5"
    try:
        with pytest.raises(slaf.InvalidArgumentError, match="SLAF_BATCH_ROWS alike"):
            pp.highly_variable_genes(adata, client=client)
        for most_columns in (20, N_GENES):
            with (
                mock.patch.object(_pca, "MOST_COLUMNS", most_columns),
                pytest.raises(slaf.InvalidArgumentError, match="SLAF_BATCH_ROWS alike"),
            ):
                pp.pca(adata, n_comps=3, client=client)
    finally:
        os.environ["SLAF_BATCH_ROWS"] = str(ROWS)
