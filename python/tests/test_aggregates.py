"""Aggregates over groups against plain Python, with every type of values and hostile ones."""

import json
import math
import os
import shutil
import subprocess
import sys
import textwrap
from types import SimpleNamespace

import anndata as ad
import hypothesis
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from test_lazy_matrix import flat
from test_queries import open_with

from slaf import SLAFArray
from slaf.data import SLAFConverter
from slaf.integrations import read_slaf

NAN = float("nan")
FLOATS = [0.0, -0.0, 1.0, 2.0, 3.0, -1.5, 0.1, 1e30, -1e30, float("inf"), -float("inf"), NAN]
#: Values for each type: those where something could go wrong, and usual ones.
VALUES = {
    "f4": FLOATS,
    "f8": [*FLOATS, 1e200, 2.0**53],
    "u1": [0, 1, 2, 3, 255],
    "i2": [0, 1, 2, -3, 32767, -32768],
    "i4": [0, 1, 2, -3, 2**31 - 1, -(2**31)],
    "u4": [0, 1, 2, 3, 2**32 - 1],
    "i8": [0, 1, 2, -3, 2**53 + 1, -(2**53)],
    "u8": [0, 1, 2, 3, 2**53 + 1, 2**63],
}
#: Groups of a value by what it is joined with: cell, gene, a column of each.
GROUPS = {
    "": lambda c, g: (),
    "e.gene_integer_id": lambda c, g: (g.n,),
    "e.cell_integer_id": lambda c, g: (c.n,),
    "c.kind": lambda c, g: (c.kind,),
    "g.family": lambda c, g: (g.family,),
    "c.kind, e.gene_integer_id": lambda c, g: (c.kind, g.n),
    "c.kind, g.family": lambda c, g: (c.kind, g.family),
    "e.cell_integer_id, g.family": lambda c, g: (c.n, g.family),
    "e.gene_integer_id, c.kind, c.batch": lambda c, g: (g.n, c.kind, c.batch),
}
#: Conditions on cells, genes and values.
WHERE = {
    "": lambda c, g, v: True,
    "e.value > 1": lambda c, g, v: v > 1 or v != v,
    "e.value <= 2.5 AND 0 <> e.value": lambda c, g, v: v <= 2.5 and v != 0,
    "e.value = 3": lambda c, g, v: v == 3,
    "c.kind = 'a'": lambda c, g, v: c.kind == "a",
    "e.gene_integer_id IN (0, 2) AND e.value < 200": lambda c, g, v: g.n in (0, 2) and v < 200,
    "e.cell_integer_id % 3 = 1 AND e.value >= 1": lambda c, g, v: c.n % 3 == 1 and not v < 1,
    "e.gene_id LIKE 'g%'": lambda c, g, v: True,
    "e.cell_id <> 'c0'": lambda c, g, v: c.n != 0,
    "c.batch = 'none'": lambda c, g, v: False,
}


def numbered(values: list) -> list:
    """Values as SQL orders them: NaN is the largest."""
    return sorted(values, key=lambda v: (v != v, v))


def last(values: list) -> object:
    return values[-1] if values else None


def mean(values: list) -> float | None:
    return math_sum(values) / len(values) if values else None


def math_sum(values: list) -> float:
    with np.errstate(all="ignore"):
        return float(np.sum(np.asarray(values, dtype=np.float64)))


def variance(values: list, ddof: int) -> float | None:
    if len(values) <= ddof:
        return None
    with np.errstate(all="ignore"):
        return float(np.var(np.asarray(values, dtype=np.float64), ddof=ddof))


def root(value: float | None) -> float | None:
    return None if value is None else math.sqrt(value)


#: Aggregates, and what they are of a list of values.
AGGREGATES = {
    "COUNT(*)": len,
    "COUNT(e.value)": len,
    "COUNT(*) FILTER (WHERE e.value > 1)": lambda v: sum(x > 1 or x != x for x in v),
    "SUM(e.value)": lambda v: (math_sum(v) if isinstance(v[0], float) else sum(v)) if v else None,
    "AVG(e.value)": mean,
    "AVG(e.value) FILTER (WHERE e.value < 3)": lambda v: mean([x for x in v if x < 3]),
    "MIN(e.value)": lambda v: last(numbered(v)[::-1]),
    "MAX(e.value)": lambda v: last(numbered(v)),
    "MAX(e.value) FILTER (WHERE e.value <> 2)": lambda v: last(numbered([x for x in v if x != 2])),
    "VAR_SAMP(e.value)": lambda v: variance(v, 1),
    "STDDEV_POP(e.value)": lambda v: root(variance(v, 0)),
    "COUNT(e.value > 2)": len,
    "SUM(e.value * 2)": lambda v: math_sum(v) * 2 if v else None,
}


@st.composite
def data_sets(draw):
    """Few cells and genes, groups that are NULL, values stored that are zero."""
    n, m = draw(st.integers(1, 12)), draw(st.integers(4, 9))
    dtype = draw(st.sampled_from(sorted(VALUES)))
    elements = st.sampled_from(VALUES[dtype])
    if draw(st.booleans()):
        elements = st.sampled_from([v for v in VALUES[dtype] if abs(v) <= 3])
    dense = draw(hnp.arrays(dtype, (n, m), elements=elements))
    stored = np.nonzero(draw(hnp.arrays(bool, (n, m))))
    x = sp.coo_matrix((dense[stored], stored), shape=(n, m)).tocsr()
    kinds = draw(st.lists(st.sampled_from(["a", "b", None]), min_size=n, max_size=n))
    obs = pd.DataFrame(
        {"kind": pd.Categorical(kinds, categories=["b", "unused", "a"]), "batch": "one"},
        index=[f"c{i}" for i in range(n)],
    )
    families = draw(st.lists(st.sampled_from(["f", "g", None]), min_size=m, max_size=m))
    var = pd.DataFrame({"family": pd.array(families, "string")}, index=[f"g{i}" for i in range(m)])
    return ad.AnnData(x, obs=obs, var=var)


def grouped(adata, key, passes, name):
    """The aggregates by group, from the values one by one."""
    of_kind, of_family = adata.obs["kind"].astype(object), adata.var["family"].astype(object)
    coo = adata.X.tocoo()
    groups = {} if name else {(): []}
    for i, j, v in zip(coo.row, coo.col, coo.data.tolist(), strict=True):
        kind, family = of_kind.iloc[i], of_family.iloc[j]
        cell = SimpleNamespace(n=int(i), kind=None if pd.isna(kind) else kind, batch="one")
        gene = SimpleNamespace(n=int(j), family=None if pd.isna(family) else family)
        if passes(cell, gene, v):
            groups.setdefault(key(cell, gene), []).append(v)
    return groups


def same(found, expected, scale):
    if expected is None or found is None:
        return found is expected
    if expected != expected or found != found:
        return expected != expected and found != found
    if math.isinf(expected) or isinstance(expected, int):
        return found == expected
    # What cancels leaves the roundings of what was added.
    return found == pytest.approx(expected, rel=1e-9, abs=1e-12 * scale)


def opened(adata, folder, by_gene, tiny):
    with pytest.MonkeyPatch.context() as patch:
        if tiny:
            patch.setenv("SLAF_FRAGMENT_ROWS", "4")
            patch.setenv("SLAF_BATCH_ROWS", "3")
        path = folder / "a.slaf"
        SLAFConverter(by_gene=by_gene).convert_anndata(adata, path)
        return open_with(path), open_with(path, SLAF_PUSHDOWN="off")


@hypothesis.given(adata=data_sets(), by_gene=st.booleans(), tiny=st.booleans(), data=st.data())
@hypothesis.settings(
    max_examples=25, deadline=None, suppress_health_check=list(hypothesis.HealthCheck)
)
def test_groups(adata, by_gene, tiny, data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("groups")
    with pytest.MonkeyPatch.context() as patch:
        if tiny:
            patch.setenv("SLAF_FRAGMENT_ROWS", "4")
            patch.setenv("SLAF_BATCH_ROWS", "3")
        fast, slow = opened(adata, folder, by_gene, tiny)
        finite = np.abs(adata.X.data[np.isfinite(adata.X.data)].astype(float))
        scale = finite.sum() if finite.size else 1.0
        is_wide = adata.X.dtype.kind in "iu" and adata.X.dtype.itemsize == 8
        for _ in range(4):
            groups = data.draw(st.sampled_from(sorted(GROUPS)))
            where = data.draw(st.sampled_from(sorted(WHERE)))
            names = data.draw(
                st.lists(st.sampled_from(sorted(AGGREGATES)), min_size=1, max_size=4, unique=True)
            )
            if is_wide:
                # Their sums are test_sql_exact's matter.
                names = [n for n in names if "*" not in n or "COUNT" in n]
                names = [n for n in names if "SUM" not in n] or ["COUNT(*)"]
            if scale > 1e150:
                # DataFusion puts moments together by a formula whose squares overflow here.
                names = [n for n in names if "VAR" not in n and "STDDEV" not in n] or ["COUNT(*)"]
            expected = grouped(adata, GROUPS[groups], WHERE[where], groups)
            columns = ", ".join([*filter(None, [groups]), *names])
            sql = f"SELECT {columns} FROM expression e"
            if "c." in columns + where:
                sql += " JOIN cells c USING (cell_integer_id)"
            if "g." in columns:
                sql += " JOIN genes g USING (gene_integer_id)"
            sql += f" WHERE {where}" if where else ""
            sql += f" GROUP BY {groups}" if groups else ""
            sql = sql.replace("SELECT , ", "SELECT ")
            n_keys = len(groups.split(", ")) if groups else 0
            for array in (fast, slow):
                rows = {tuple(row[:n_keys]): row[n_keys:] for row in array.query(sql).rows()}
                assert set(rows) == set(expected), f"{sql}\n{rows}\n{expected}"
                for key, values in expected.items():
                    for name, found in zip(names, rows[key], strict=True):
                        wanted = AGGREGATES[name](values)
                        of = scale**2 if "VAR" in name else scale
                        assert same(found, wanted, of), f"{sql}\n{key} {name}: {found} {wanted}"


def test_what_is_found_in_arrays(tmp_path):
    x = sp.random(50, 20, 0.5, format="csr", random_state=1, dtype=np.float32)
    obs = pd.DataFrame({"kind": list("ab") * 25}, index=[str(i) for i in range(50)])
    adata = ad.AnnData(x, obs=obs)
    SLAFConverter().convert_anndata(adata, tmp_path / "a.slaf")
    array = open_with(tmp_path / "a.slaf")

    def plan(what, rest=""):
        of = f"EXPLAIN SELECT {what} FROM expression e JOIN cells c USING (cell_integer_id) {rest}"
        return array.query(of)["plan"].str.join("\n").str.contains("in arrays").any()

    assert plan("MAX(e.value)", "GROUP BY e.gene_id")
    assert plan("c.kind, e.gene_id, AVG(e.value), VAR_POP(e.value)", "GROUP BY c.kind, e.gene_id")
    assert plan("COUNT(*) FILTER (WHERE e.value > 0.5)", "WHERE e.value < 1 GROUP BY c.kind")
    assert plan("MAX(e.value)", "WHERE e.cell_id LIKE '1%' AND e.value > 0.5")
    # These are left to DataFusion.
    assert not plan("SUM(e.value * 2)", "GROUP BY c.kind")
    assert not plan("COUNT(DISTINCT e.value)", "GROUP BY c.kind")
    assert not plan("MAX(e.value)", "WHERE e.value > c.cell_integer_id")


def test_answers_do_not_depend_on_threads(tmp_path):
    rng = np.random.default_rng(0)
    x = sp.random(400, 60, 0.4, format="csr", random_state=1)
    x.data = rng.lognormal(0, 9, x.nnz)
    obs = pd.DataFrame({"kind": rng.choice(list("abc"), 400)}, index=[str(i) for i in range(400)])
    for by_gene in (True, False):
        path = tmp_path / f"{by_gene}.slaf"
        SLAFConverter(by_gene=by_gene).convert_anndata(ad.AnnData(x, obs=obs), path)
    code = """
        import json, sys
        from slaf import SLAFArray
        from slaf.integrations import read_slaf
        out = []
        for path in sys.argv[1:]:
            array = SLAFArray(path)
            for by in ("c.kind", "e.gene_id", "c.kind, e.gene_id", "e.cell_id"):
                what = f"{by}, SUM(e.value), AVG(e.value), VAR_SAMP(e.value)"
                of = "expression e JOIN cells c USING (cell_integer_id)"
                sql = f"SELECT {what} FROM {of} WHERE e.value > 1e-3 GROUP BY {by}"
                out.append(sorted(array.query(sql).rows()))
            X = read_slaf(path).X
            out += [X.sum(0).tolist(), X.var(0).tolist(), X.log1p().sum(0).tolist()]
        print(json.dumps(out))
    """

    def run(threads):
        environment = {
            **os.environ,
            "SLAF_BATCH_ROWS": "16",
            "RAYON_NUM_THREADS": threads,
            "TOKIO_WORKER_THREADS": threads,
        }
        paths = [str(tmp_path / f"{by_gene}.slaf") for by_gene in (True, False)]
        command = [sys.executable, "-c", textwrap.dedent(code), *paths]
        return json.loads(subprocess.check_output(command, env=environment, timeout=60))

    assert run("1") == run("3")


@hypothesis.given(adata=data_sets(), by_gene=st.booleans(), data=st.data())
@hypothesis.settings(
    max_examples=25, deadline=None, suppress_health_check=list(hypothesis.HealthCheck)
)
def test_statistics_that_the_store_has(adata, by_gene, data, tmp_path_factory):
    path = tmp_path_factory.mktemp("stored") / "a.slaf"
    SLAFConverter(by_gene=by_gene).convert_anndata(adata, path)
    dense, stored = adata.X.toarray(), adata.X
    ours = read_slaf(path).X
    n, m = dense.shape
    rows = data.draw(st.one_of(st.none(), st.lists(st.integers(0, n - 1), max_size=5)))
    cols = data.draw(st.one_of(st.none(), st.lists(st.integers(0, m - 1), max_size=5)))
    if rows is not None:
        ours, dense, stored = ours[rows], dense[rows], stored[rows]
    if cols is not None:
        ours, dense, stored = ours[:, cols], dense[:, cols], stored[:, cols]
    stored = sp.csr_matrix(stored)
    assert ours.nnz == stored.nnz
    for axis in (0, 1):
        assert ours.getnnz(axis).tolist() == stored.getnnz(axis).tolist()
        assert ours.T.getnnz(axis).tolist() == stored.T.tocsr().getnnz(axis).tolist()
        assert ours.count_nonzero(axis).tolist() == np.count_nonzero(dense, axis).tolist()
    if dense.size == 0:
        return
    with np.errstate(all="ignore"):
        if dense.dtype.kind == "f":
            wide = dense.astype(np.float64)
            for axis in (None, 0, 1):
                finite = np.where(np.isfinite(wide), np.abs(wide), 0)
                scale = float(finite.sum())
                for name in ("sum", "mean", "var", "std"):
                    expected = np.asarray(getattr(wide, name)(axis=axis)).astype(dense.dtype)
                    found = np.asarray(flat(getattr(ours, name)(axis=axis)))
                    of = scale * scale if name == "var" else scale
                    np.testing.assert_allclose(
                        found, expected, rtol=1e-6, atol=1e-7 * of, err_msg=name
                    )
            return
        exact = dense.astype(object)
        limits = np.iinfo(np.uint64 if dense.dtype.kind == "u" else np.int64)
        for axis in (0, 1):
            sums = exact.sum(axis)
            if all(limits.min <= s <= limits.max for s in sums):
                assert flat(ours.sum(axis)).tolist() == sums.tolist()
                assert ours.sum(axis).dtype == dense.sum(axis).dtype
                np.testing.assert_allclose(
                    flat(ours.mean(axis)), (sums / dense.shape[axis]).astype(float), rtol=1e-12
                )
                np.testing.assert_allclose(
                    flat(ours.var(axis)),
                    dense.astype(np.longdouble).var(axis).astype(float),
                    rtol=1e-6,
                    atol=1e-9,
                )


def test_sums_and_variances_of_genes_read_no_cells(tmp_path):
    """Nor any gene, where nothing cancels."""
    rng = np.random.default_rng(0)
    x = sp.random(300, 40, 0.3, format="csr", random_state=1, dtype=np.float32)
    x.data = rng.poisson(3, x.nnz).astype(np.float32) + 1
    SLAFConverter().convert_anndata(ad.AnnData(x), tmp_path / "a.slaf")
    X = read_slaf(tmp_path / "a.slaf").X
    (cells,) = (tmp_path / "a.slaf").rglob("cells*.lance")
    shutil.rmtree(cells)
    dense = x.toarray().astype(np.float64)
    np.testing.assert_array_equal(flat(X.sum(axis=0)), dense.sum(axis=0))
    np.testing.assert_allclose(
        flat(X[:, ::-2].mean(axis=0)), dense[:, ::-2].mean(axis=0), rtol=1e-6
    )
    np.testing.assert_allclose(flat(X.var(axis=0)), dense.var(axis=0), rtol=1e-6)
    assert X.getnnz(0).tolist() == x.getnnz(0).tolist()
    assert X.sum() == dense.sum()
    with pytest.raises(Exception, match="cells"):
        X.max(axis=0)


def test_constant_genes_have_no_variance(tmp_path):
    """Where sums of squares cancel, the values are read."""
    dense = np.full((40, 6), 0.1, dtype=np.float64)
    dense[:, 1] = 1e8 + np.arange(40)
    dense[:, 2] = 0
    dense[3, 3] = np.nan
    dense[3, 4] = np.inf
    SLAFConverter().convert_anndata(ad.AnnData(sp.csr_matrix(dense)), tmp_path / "a.slaf")
    X = read_slaf(tmp_path / "a.slaf").X
    with np.errstate(all="ignore"):
        found, expected = flat(X.var(axis=0)), dense.var(axis=0)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-30)
    whole = np.full((40, 2), 2**26 + 1, dtype=np.int32)
    SLAFConverter().convert_anndata(ad.AnnData(sp.csr_matrix(whole)), tmp_path / "b.slaf")
    assert flat(read_slaf(tmp_path / "b.slaf").X.var(axis=0)).tolist() == [0.0, 0.0]


def test_sums_that_cancel_are_exact(tmp_path):
    """In float64 the sum of these would be 0."""
    big = 2**53 + 1
    x = sp.csr_matrix(np.array([[big, 1], [1 - big, 2]], dtype=np.int64))
    SLAFConverter().convert_anndata(ad.AnnData(x), tmp_path / "a.slaf")
    X = read_slaf(tmp_path / "a.slaf").X
    assert flat(X.sum(axis=0)).tolist() == [1, 3]
    assert flat(X.sum(axis=1)).tolist() == [big + 1, 3 - big]
    array = open_with(tmp_path / "a.slaf")
    by_gene = "SELECT gene_id, SUM(value) FROM expression GROUP BY gene_id ORDER BY gene_id"
    assert [row[1] for row in array.query(by_gene).rows()] == [1, 3]


def test_sides_of_joins_that_are_spread_over_threads_run_once(tmp_path):
    """Ids that come twice, and too many groups: DataFusion looks groups up in place of us."""
    n_cells, n_genes = 1_200, 9_500  # More rows than a batch of DataFusion, and too many groups.
    x = sp.random(n_cells, n_genes, 0.001, format="csr", dtype=np.float32, random_state=3)
    x.data = np.ceil(x.data * 9)
    var = pd.DataFrame({"w": np.arange(n_genes) % 5}, index=[f"g{i}" for i in range(n_genes)])
    obs = pd.DataFrame({"q": np.arange(n_cells)}, index=[f"c{i}" for i in range(n_cells)])
    path = tmp_path / "store.slaf"
    SLAFConverter().convert_anndata(ad.AnnData(x, obs, var), path)
    array = SLAFArray(path)
    of_genes = "JOIN genes g ON g.gene_integer_id = e.gene_integer_id"

    twice = pd.DataFrame({"n": [0, 1, 1, 3, None]}).astype("Int64")
    sql = f"""
        SELECT g.w, SUM(e.value) FROM expression e {of_genes}
        JOIN twice t ON t.n = e.cell_integer_id WHERE g.w > 0 GROUP BY g.w ORDER BY g.w
    """
    total = x[[0, 1, 1, 3]].sum(axis=0).A1
    expected = [(w, total[w::5].sum()) for w in range(1, 5) if x[[0, 1, 3]][:, w::5].nnz]
    tables = {"twice": twice}
    assert array.query(sql, tables=tables).rows() == expected
    plan = array.query(f"EXPLAIN {sql}", tables=tables)["plan"].str.join("\n").to_list()[-1]
    assert "RoundRobinBatch" in plan
    plan = array.query(f"EXPLAIN ANALYZE {sql}", tables=tables)["plan"].str.join("\n").item()
    assert "by hash" in plan

    sql = f"""
        SELECT c.q, e.gene_integer_id, MAX(e.value) FROM expression e {of_genes}
        JOIN cells c ON c.cell_integer_id = e.cell_integer_id
        WHERE g.w > 0 GROUP BY c.q, e.gene_integer_id ORDER BY c.q, e.gene_integer_id
    """
    kept = np.flatnonzero(var["w"] > 0)
    coo = x[:, kept].tocoo()
    genes = kept[coo.col]
    values = sorted(zip(coo.row.tolist(), genes.tolist(), coo.data.tolist(), strict=True))
    assert array.query(sql).rows() == values
