"""Questions from event loops: many at once, stopped, and from other threads."""

import asyncio
import threading
import time

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

import slaf
from slaf import SLAFArray
from slaf.data import SLAFConverter


@pytest.fixture(scope="module")
def adata():
    X = sp.random(300, 40, 0.2, "csr", "f4", rng=np.random.default_rng(1))
    obs = pd.DataFrame({"batch": [f"b{i % 3}" for i in range(300)]}, [f"c{i}" for i in range(300)])
    return ad.AnnData(X, obs, pd.DataFrame(index=[f"g{i}" for i in range(40)]))


@pytest.fixture(scope="module")
def array(adata, tmp_path_factory):
    path = tmp_path_factory.mktemp("async") / "a.slaf"
    SLAFConverter().convert_anndata(adata, path)
    return SLAFArray(path)


def test_many_questions_at_once_are_each_answered(array, adata):
    async def ask():
        sql = "SELECT g7 FROM cells WHERE cell_id = ?"
        cells = [array.query_async(sql, [f"c{i}"]) for i in range(300)]
        genes = [array.get_gene_expression_async(f"g{i}") for i in range(40)]
        return await asyncio.gather(*cells), await asyncio.gather(*genes)

    cells, genes = asyncio.run(ask())
    assert [frame.item() for frame in cells] == adata.X[:, [7]].toarray()[:, 0].tolist()
    for i, frame in enumerate(genes):
        column = adata.X[:, [i]].tocoo()
        assert frame["value"].to_list() == column.data[np.argsort(column.coords[0])].tolist()


def test_answers_are_those_of_the_plain_methods(array):
    async def ask():
        return await asyncio.gather(
            array.filter_cells_async("batch = 'b1'"),
            array.filter_cells_async(batch="b1"),
            array.get_cell_expression_async(["c3", "c1"]),
            array.get_submatrix_async(slice(5, 9), ["g3", "g1"]),
        )

    where, condition, cells, part = asyncio.run(ask())
    assert where.equals(array.filter_cells("batch = 'b1'"))
    assert where.equals(condition)
    assert cells.equals(array.get_cell_expression(["c3", "c1"]))
    assert part.equals(array.get_submatrix(slice(5, 9), ["g3", "g1"]))
    matrix = asyncio.run(array.to_csr_async([4, 2], slice(0, 10)))
    assert (matrix != array.to_csr([4, 2], slice(0, 10))).nnz == 0


def test_the_loop_goes_on_while_a_query_runs(array):
    async def ask():
        ticks = 0
        query = asyncio.create_task(array.query_async(SLOW, timeout=1))
        while not query.done():
            await asyncio.sleep(0.01)
            ticks += 1
        with pytest.raises(slaf.TimeLimitError):
            await query
        return ticks

    assert asyncio.run(ask()) > 10


SLOW = "SELECT COUNT(*) FROM expression a, expression b, expression c WHERE a.value < b.value"


def test_a_cancelled_query_is_stopped(array):
    async def ask():
        query = asyncio.create_task(array.query_async(SLOW, timeout=120))
        await asyncio.sleep(0.3)
        query.cancel()
        with pytest.raises(asyncio.CancelledError):
            await query

    start = time.monotonic()
    # Ending, asyncio and the interpreter wait for the thread of the query.
    asyncio.run(ask())
    waiting = [t for t in threading.enumerate() if t.name.startswith("slaf-async")]
    assert array.query("SELECT COUNT(*) FROM cells").item() == 300
    assert waiting
    assert time.monotonic() - start < 60


def test_errors_are_those_of_the_plain_methods(array):
    for call in [
        lambda: array.query_async("SELECT x FROM cells"),
        lambda: array.get_cell_expression_async("nobody"),
        lambda: array.filter_cells_async(nothing=1),
    ]:
        with pytest.raises(slaf.UnknownNameError):
            asyncio.run(call())
    with pytest.raises(slaf.InvalidArgumentError):
        asyncio.run(array.query_async("SELECT 1", timeout=-1))


def test_loops_of_several_threads_share_a_handle(array):
    answers = []

    def one(i):
        sql = "SELECT cell_integer_id FROM cells WHERE cell_id = $name"
        answers.append((i, asyncio.run(array.query_async(sql, {"name": f"c{i}"})).item()))

    threads = [threading.Thread(target=one, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(answers) == [(i, i) for i in range(8)]
