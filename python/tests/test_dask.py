"""Data sets as dask arrays, also in workers of a cluster."""

import pickle

import anndata as ad
import numpy as np
import pytest
import scipy.sparse as sp
from helpers import assert_same

import slaf
from slaf.integrations import LazyMatrix, read_slaf
from slaf.integrations._plan import InMemory

pytest.importorskip("dask.array")


def test_everything_is_there(store_path, original):
    lazy = read_slaf(store_path).to_dask(chunk_rows=4)
    assert isinstance(lazy, ad.AnnData)
    assert lazy.X.chunks == ((4, 2), (4,))
    assert isinstance(lazy.X._meta, sp.csr_matrix)
    np.testing.assert_array_equal(lazy.X.compute().toarray(), original.X.toarray())
    in_memory = lazy.to_memory()
    original.layers["double"] = original.layers["double"].tocsr()
    original.layers["dense"] = sp.csr_matrix(original.layers["dense"])
    assert_same(in_memory, original)
    part = lazy[[5, 1], ["gene3", "gene0"]]
    np.testing.assert_array_equal(
        part.X.compute().toarray(), original.X.toarray()[[5, 1]][:, [3, 0]]
    )


def test_arithmetic_goes_along(store_path, original):
    adata = read_slaf(store_path)[::2].copy()
    adata.X = np.log1p(adata.X)
    np.testing.assert_array_equal(
        adata.to_dask(2).X.compute().toarray(), np.log1p(original.X[::2]).toarray()
    )
    adata.X = adata.X + 1
    dense = adata.to_dask(2).X
    assert isinstance(dense._meta, np.ndarray)
    np.testing.assert_array_equal(dense.compute(), np.log1p(original.X[::2].toarray()) + 1)
    assert adata[:0].to_dask().shape == (0, 4)
    with pytest.raises(slaf.InvalidArgumentError, match="chunk_rows"):
        adata.to_dask(0)


def moved(thing):
    """Send a thing as Dask does: its arrays arrive at odd addresses."""
    buffers = []
    data = pickle.dumps(thing, protocol=5, buffer_callback=buffers.append)
    received = []
    for buffer in buffers:
        message = bytearray(1 + buffer.raw().nbytes)
        message[1:] = buffer.raw()
        received.append(memoryview(message)[1:])
    return pickle.loads(data, buffers=received)


def test_arrays_arrive_at_any_address(store_path, original):
    X = original.X.toarray().astype(np.float64)
    totals, weights = X.sum(axis=1) + 1, np.arange(1.0, 5.0)
    rows = [5, 0, 3]
    lazy = read_slaf(store_path)[rows].X
    for matrix in (lazy, LazyMatrix(InMemory.of(original.X[rows]))):
        there = moved((matrix / totals[rows][:, None]).multiply(weights))
        expected = X[rows] / totals[rows][:, None] * weights
        assert any(not s.numbers.flags.aligned for s in there._steps)
        assert all(s.native().numbers.flags.aligned for s in there._steps)
        np.testing.assert_allclose(there.toarray(), expected)
        np.testing.assert_allclose(np.asarray(there.sum(axis=0)).ravel(), expected.sum(axis=0))


@pytest.mark.filterwarnings("ignore")
def test_scanpy_runs_on_it(shared_data, tmp_path):
    sc = pytest.importorskip("scanpy")
    slaf.data.SLAFConverter().convert(shared_data / "pbmc3k_raw.h5ad", tmp_path / "a.slaf")
    expected = ad.read_h5ad(shared_data / "pbmc3k_raw.h5ad")
    lazy = read_slaf(tmp_path / "a.slaf").to_dask(chunk_rows=500)
    for adata in (expected, lazy):
        sc.pp.filter_genes(adata, min_cells=3)
        sc.pp.normalize_total(adata, target_sum=1e4)
        sc.pp.log1p(adata)
        sc.pp.highly_variable_genes(adata, n_top_genes=1000)
    assert (lazy.var["highly_variable"] == expected.var["highly_variable"]).mean() > 0.999
    np.testing.assert_allclose(
        lazy.X[:50].compute().toarray(), expected.X[:50].toarray(), rtol=1e-5
    )


@pytest.mark.filterwarnings("ignore")
def test_two_worker_processes(store_path, original):
    distributed = pytest.importorskip("distributed")
    cluster = distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
    )
    with cluster, distributed.Client(cluster) as client:
        array = read_slaf(store_path).to_dask(chunk_rows=1).X
        total = array.map_blocks(lambda x: x.toarray(), dtype="f4", meta=np.empty((0, 0), "f4"))
        np.testing.assert_array_equal(total.compute(), original.X.toarray())
        # Both processes have read.
        pids = client.run(lambda: __import__("os").getpid())
        assert len(set(pids.values())) == 2
