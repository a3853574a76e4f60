"""Genes that a source does not have: zeros as anndata's concat gives them, and known not to be."""

import asyncio
import json
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from processes import run_slaf

import slaf
from slaf import SLAFArray
from slaf.data import SLAFConverter
from slaf.integrations import pp, read_slaf
from slaf.ml import SLAFDataLoader


def panel(seed, n, genes):
    rng = np.random.default_rng(seed)
    X = sp.random(n, len(genes), 0.5, "csr", rng=rng, data_rvs=lambda k: rng.integers(1, 90, k))
    obs = pd.DataFrame(
        {"type": rng.choice(["T", "B"], n)}, index=[f"s{seed}c{i}" for i in range(n)]
    )
    adata = ad.AnnData(X.astype(np.float32), obs, pd.DataFrame(index=list(genes)))
    adata.layers["twice"] = adata.X * 2
    return adata


class Panels:
    """Data sets in one store, and a matrix in which NaN stands where nothing was measured."""

    def __init__(self, parts):
        self.parts = parts
        self.whole = ad.concat(parts, join="outer", fill_value=0)
        genes = list(dict.fromkeys(g for part in parts for g in part.var_names))
        self.whole = self.whole[:, genes].copy()
        self.genes = genes
        rows = [np.tile(np.isin(genes, part.var_names), (part.n_obs, 1)) for part in parts]
        self.mask = np.vstack(rows)
        X = sp.csr_matrix(self.whole.X).toarray()
        self.values = np.where(self.mask, X, np.nan)

    def select(self, cells):
        self.whole, self.mask = self.whole[cells].copy(), self.mask[cells]
        self.values = self.values[cells]
        return self

    def check(self, array):
        assert list(array.var["gene_id"]) == self.genes
        assert list(array.obs["cell_id"]) == list(self.whole.obs_names)
        np.testing.assert_array_equal(array.is_measured(), self.mask)
        found = array.measured()
        assert found["n_cells"].to_list() == self.mask.sum(0).tolist()
        sources = array.sources()
        assert sources["n_cells"].sum() == len(self.mask)
        for row in found.rows(named=True):
            there = np.zeros(len(self.mask), dtype=bool)
            for i in row["source_ids"]:
                first, n = sources.row(i)[2:4]
                there[first : first + n] = True
            np.testing.assert_array_equal(there, self.mask[:, row["gene_integer_id"]])
        # Zeros by default, as anndata has them.
        np.testing.assert_array_equal(array.to_csr().toarray(), np.nan_to_num(self.values))
        self.check_statistics(array)
        self.check_sql(array)
        assert array.verify() == []

    def check_statistics(self, array):
        n = self.mask.sum(0)
        for layer, factor in [(None, 1), ("twice", 2)]:
            frame = array.gene_statistics(layer=layer, measured=True)
            values = self.values * factor
            assert frame["n_cells"].to_list() == n.tolist()
            assert frame["n_expressing"].to_list() == (np.nan_to_num(values) > 0).sum(0).tolist()
            np.testing.assert_array_equal(frame["total"].to_numpy(), np.nansum(values, 0))
            for i in range(len(n)):
                of_gene = values[self.mask[:, i], i]
                mean, variance = frame["mean"][i], frame["variance"][i]
                assert (mean is None) == (n[i] == 0)
                assert (variance is None) == (n[i] < 2)
                if n[i] > 1:
                    assert mean == pytest.approx(of_gene.mean(dtype=float), rel=1e-12)
                    expected = of_gene.var(ddof=1, dtype=float)
                    assert variance == pytest.approx(expected, rel=1e-9)
        zeros = array.gene_statistics([1, 0])
        X = np.nan_to_num(self.values)[:, [1, 0]]
        assert zeros["gene_id"].to_list() == [self.genes[1], self.genes[0]]
        assert zeros["n_cells"].to_list() == [len(X)] * 2
        np.testing.assert_allclose(zeros["mean"].to_numpy(), X.mean(0, dtype=float))
        np.testing.assert_allclose(zeros["variance"].to_numpy(), X.var(0, ddof=1, dtype=float))

    def check_sql(self, array):
        types = self.whole.obs["type"].to_numpy()
        for i in (0, len(self.genes) - 1):
            gene = self.genes[i]
            sql = f"SELECT type, AVG({gene}) AS a, COUNT({gene}) AS n FROM cells GROUP BY type"
            for options, values in [({"measured": True}, self.values), ({}, None)]:
                values = np.nan_to_num(self.values) if values is None else values
                found = {t: (a, n) for t, a, n in array.query(sql, **options).rows()}
                assert set(found) == set(types)
                for name in found:
                    of_type = values[types == name, i]
                    of_type = of_type[~np.isnan(of_type)]
                    a, n = found[name]
                    assert n == len(of_type)
                    assert a is None if n == 0 else a == pytest.approx(of_type.mean(dtype=float))
            frame = array.get_gene_expression(gene, measured=True)
            np.testing.assert_array_equal(
                frame["value"].to_numpy(), self.values[self.mask[:, i], i]
            )
            assert frame["cell_id"].to_list() == list(self.whole.obs_names[self.mask[:, i]])
        above = array.query(f"SELECT cell_id FROM cells WHERE {gene} = 0", measured=True)
        expected = self.whole.obs_names[self.values[:, -1] == 0]
        assert above["cell_id"].to_list() == list(expected)


@pytest.fixture
def panels():
    return [panel(1, 30, "abcdef"), panel(2, 20, "cegh"), panel(3, 25, "abcdef"), panel(4, 1, "ah")]


def stored(adata, path):
    SLAFConverter().convert_anndata(adata, path)
    return SLAFArray(path)


@pytest.fixture
def array(tmp_path, panels):
    array = stored(panels[0], tmp_path / "a.slaf")
    for i, part in enumerate(panels[1:]):
        array.append(part, source_name=f"night {i}")
    return array


def test_appended_panels(array, panels):
    Panels(panels).check(array)
    assert array.sources().rows() == [
        (0, None, 0, 30, 6),
        (1, "night 0", 30, 20, 4),
        (2, "night 1", 50, 25, 6),
        (3, "night 2", 75, 1, 2),
    ]
    assert array.measured(["h", "a"]).rows() == [
        ("h", array.var["gene_id"].to_list().index("h"), 21, [1, 3]),
        ("a", 0, 56, [0, 2, 3]),
    ]
    np.testing.assert_array_equal(array.is_measured([75, 0, -1], ["g", "h"]).sum(1), [1, 0, 1])
    assert array.info().measured == "3 sets of genes in 4 sources"


def test_reference_keeps_the_genes_of_the_store(tmp_path, panels):
    array = stored(panels[0], tmp_path / "a.slaf")
    report = array.append(panels[1], join="reference")
    (source,) = report.sources
    assert source["name"] == "AnnData"
    assert (source["genes_matched"], source["genes_left_out"], source["genes_lacking"]) == (2, 2, 4)
    assert "2 of its 4 match, 2 are left out; 4 of the store's were not measured" in str(report)
    mask = array.is_measured()
    assert mask[:30].all()
    np.testing.assert_array_equal(mask[30:], np.tile(np.isin(list("abcdef"), ["c", "e"]), (20, 1)))


@pytest.mark.filterwarnings("ignore:Observation names are not unique")
def test_several_inputs_of_a_conversion(tmp_path, panels):
    paths = []
    for i, part in enumerate(panels):
        paths.append(tmp_path / f"{i}.h5ad")
        part.write_h5ad(paths[-1])
    SLAFConverter().convert(paths, tmp_path / "a.slaf")
    array = SLAFArray(tmp_path / "a.slaf")
    Panels(panels).check(array)
    assert array.sources()["source"].to_list() == [str(path) for path in paths]
    # Inputs with the same genes leave nothing to tell, whatever their order is.
    again = panel(5, 4, "fedcba")
    again.write_h5ad(tmp_path / "again.h5ad")
    SLAFConverter().convert([paths[0], tmp_path / "again.h5ad"], tmp_path / "b.slaf")
    same = SLAFArray(tmp_path / "b.slaf")
    assert same.sources().rows() == [(0, None, 0, 34, 6)]
    assert not (tmp_path / "b.slaf/_slaf/measured").exists()
    assert same.is_measured().all()
    # A store brings what it knows.
    same.append(tmp_path / "a.slaf")
    Panels([panels[0], again, *panels]).check(same)
    assert same.sources()["source"].to_list() == [None, *map(str, paths)]


def test_it_lives_through_changes(tmp_path, array, panels):
    array.tag("before")
    array.add_obs({"number": np.arange(76)})
    array.rename("obs/number", "cluster")
    array.set_uns("note", 1)
    array.drop("obs/cluster")
    Panels(panels).check(array)
    array.optimize(force=True)
    Panels(panels).check(array)
    is_b = array.obs["type"].to_numpy() == "B"
    array.delete_cells("type = 'B'")
    Panels(panels).select(~is_b).check(array)
    array.rollback(array.versions()[0].version)
    assert array.sources().rows() == [(0, None, 0, 30, 6)]
    before = SLAFArray(array.path, version="before")
    Panels(panels).check(before)
    before.filter("type = 'T'", tmp_path / "t.slaf")
    Panels(panels).select(~is_b).check(SLAFArray(tmp_path / "t.slaf"))
    before.rollback("before")
    before.gc(older_than=0, dry_run=False)
    Panels(panels).check(SLAFArray(array.path))
    # Another store in its place has a table of its own, or none.
    SLAFConverter(overwrite=True).convert_anndata(panels[0], array.path)
    assert SLAFArray(array.path).sources().height == 1
    assert not list((tmp_path / "a.slaf").glob("_slaf/measured/*"))


def test_files_of_other_formats_do_not_have_it(tmp_path, array, panels):
    array.export(tmp_path / "a.h5ad")
    SLAFConverter().convert(tmp_path / "a.h5ad", tmp_path / "again.slaf")
    again = SLAFArray(tmp_path / "again.slaf")
    assert again.sources().height == 1
    np.testing.assert_array_equal(again.to_csr().toarray(), array.to_csr().toarray())
    done = run_slaf("export", tmp_path / "a.slaf", tmp_path / "b.h5ad")
    assert done.returncode == 0, done.stderr
    assert "which genes were measured in which cells is not in it" in done.stdout


def test_genes_of_other_names_are_refused(tmp_path, panels):
    array = stored(panels[0], tmp_path / "a.slaf")
    other = panel(6, 5, ["ENSG0", "ENSG1"])
    with pytest.raises(slaf.InvalidArgumentError, match="none of its 2 genes is in the store") as e:
        array.append(other)
    assert all(part in str(e.value) for part in ("AnnData", '"a"', '"ENSG0"', "allow_disjoint"))
    with pytest.raises(slaf.InvalidArgumentError, match="none of its 2 genes"):
        array.append(other, join="reference")
    assert array.refresh() == 1
    report = array.append(other, allow_disjoint=True)
    assert report.sources[0]["genes_new"] == 2
    Panels([panels[0], other]).check(array)
    other.write_h5ad(tmp_path / "o.h5ad")
    stored(panels[0], tmp_path / "b.slaf")
    done = run_slaf("append", tmp_path / "b.slaf", tmp_path / "o.h5ad")
    assert done.returncode == 1
    assert "--allow-disjoint" in done.stderr
    done = run_slaf("append", tmp_path / "b.slaf", tmp_path / "o.h5ad", "--allow-disjoint")
    assert done.returncode == 0, done.stderr
    assert "o.h5ad: 0 of its 2 match, 2 are new; 6 of the store's were not" in done.stdout


def test_without_any_gene(tmp_path, panels):
    """A store or a source that has none has none in common with the other."""
    none = panel(6, 5, [])
    none.write_h5ad(tmp_path / "none.h5ad")
    array = stored(panels[0], tmp_path / "a.slaf")
    for join in ("outer", "reference"):
        with pytest.raises(slaf.InvalidArgumentError, match="it has no genes, and") as e:
            array.append(tmp_path / "none.h5ad", join=join)
        assert "--allow-disjoint" in str(e.value)
        assert "none.h5ad" in str(e.value)
    with pytest.raises(slaf.InvalidArgumentError, match=r"none\.h5ad has none of those"):
        array.append(tmp_path / "none.h5ad", join="inner")
    assert array.refresh() == 1
    report = array.append(none, allow_disjoint=True)
    assert report.n_cells == panels[0].n_obs + 5
    assert array.is_measured()[-5:].sum() == 0
    empty = stored(none, tmp_path / "none.slaf")
    with pytest.raises(slaf.InvalidArgumentError, match=r"the store has none.*--allow-disjoint"):
        empty.append(panels[0])
    empty.append(none, source_name="again")
    report = empty.append(panels[0], allow_disjoint=True)
    assert report.n_genes == panels[0].n_vars
    assert empty.verify() == []
    # Genes alone, of other names, are not added either.
    other = panel(6, 5, ["ENSG0", "ENSG1"])[:0].copy()
    with pytest.raises(slaf.InvalidArgumentError, match="none of its 2 genes"):
        array.append(other)


def test_symbols_and_parameters_of_measured(tmp_path, panels):
    adata = panels[0].copy()
    symbols = [f"Sym{i}" for i in range(adata.n_vars)]
    adata.var["symbol"] = [*symbols[:-1], symbols[0]]
    adata.varm["PCs"] = np.arange(2.0 * adata.n_vars).reshape(-1, 2) + 1
    array = stored(adata, tmp_path / "a.slaf")
    ids, sql = list(adata.var_names), "SELECT gene_id FROM measured({}) ORDER BY gene_id"
    assert array.query(sql.format(f"'Sym1', '{ids[2]}', 3"))["gene_id"].to_list() == ids[1:4]
    assert array.query(sql.format("'Sym2'")).item() == array.query(sql.format(f"'{ids[2]}'")).item()
    nearest = "SELECT gene_id FROM nearest_genes('PCs', '{}', 3, 'l2')"
    assert array.query(nearest.format("Sym1")).equals(array.query(nearest.format(ids[1])))
    with pytest.raises(slaf.SlafError, match="Sym0") as e:
        array.query(sql.format("'Sym0'"))
    assert e.value.kind == "ambiguous-name"
    with pytest.raises(slaf.UnknownNameError, match="Sym99"):
        array.query(sql.format("'Sym99'"))
    for text, params in (("?", ["Sym1"]), ("$1", ["Sym1"]), ("$gene", {"gene": "Sym1"})):
        with pytest.raises(slaf.QueryError, match=r"no parameter.*measured\(\) WHERE gene_id"):
            array.query(sql.format(text), params)
    with pytest.raises(slaf.QueryError, match="ids, symbols or numbers of genes"):
        array.query(sql.format("1.5"))
    sql = "SELECT gene_id FROM measured() WHERE gene_id = ?"
    assert array.query(sql, [ids[1]]).item() == ids[1]


def test_tables_and_functions_of_sql(array, panels):
    expected = Panels(panels)
    sources = array.query("SELECT * FROM sources()")
    assert sources.equals(array.sources())
    sql = "SELECT source_of(cell_integer_id) AS s, COUNT(*) AS n FROM cells GROUP BY s ORDER BY s"
    assert array.query(sql).rows() == [(0, 30), (1, 20), (2, 25), (3, 1)]
    assert array.query("SELECT source_of(50) AS s, source_of(NULL) AS n").rows() == [(2, None)]
    assert array.query("SELECT source_of(-1) AS s, source_of(76) AS n").rows() == [(None, None)]
    # Means of all genes, over the cells in which they were measured.
    sql = """
        SELECT g.gene_id, g.total_counts / m.n AS mean
        FROM genes g JOIN (
            SELECT gene_integer_id, SUM(n_cells) AS n FROM measured() GROUP BY gene_integer_id
        ) m USING (gene_integer_id) ORDER BY gene_integer_id
    """
    found = array.query(sql)
    np.testing.assert_allclose(found["mean"].to_numpy(), np.nanmean(expected.values, 0))
    sql = "SELECT source FROM sources() JOIN measured('h', 1) USING (source_id) ORDER BY source_id"
    names = array.query(sql)
    assert names["source"].to_list() == [None, "night 0", "night 1", "night 2"]
    frames = {"sources": array.sources()}
    sql = "SELECT COUNT(*) FROM cells JOIN sources ON cell_integer_id - first_cell BETWEEN 0 AND 9"
    assert array.query(sql, tables=frames).item() == 31
    assert array.query(sql, tables=frames, engine="duckdb").item() == 31
    with pytest.raises(slaf.InvalidArgumentError, match="DuckDB"):
        array.query("SELECT 1", engine="duckdb", measured=True)
    with pytest.raises(slaf.UnknownNameError, match="gone"):
        array.query("SELECT * FROM measured('gone')")
    with pytest.raises(slaf.SlafError, match="gene 8"):
        array.query("SELECT * FROM measured(8)")
    for wrong in ("measured(1.5)", "measured(NULL)", "sources(1)"):
        with pytest.raises(slaf.QueryError):
            array.query(f"SELECT * FROM {wrong}")
    answer = asyncio.run(array.query_async("SELECT COUNT(h) AS n FROM cells", measured=True))
    assert answer.item() == 21
    stream = array.query_stream("SELECT h FROM cells", measured=True)
    pa = pytest.importorskip("pyarrow")
    assert pa.RecordBatchReader.from_stream(stream).read_all()["h"].null_count == 55
    answer = asyncio.run(array.get_gene_expression_async("h", measured=True))
    assert answer.equals(array.get_gene_expression("h", measured=True))
    done = run_slaf("query", array.path, "SELECT COUNT(h) AS n FROM cells", "--measured")
    assert done.returncode == 0
    assert "21" in done.stdout


def test_it_is_held_as_described(array, panels):
    ipc = pytest.importorskip("pyarrow.ipc")
    newest = max((Path(array.path) / "_slaf/versions").iterdir())
    manifest = json.loads(newest.read_text())
    assert manifest["writer_features"] == ["measured"]
    measured = manifest["measured"]
    sets = ipc.open_file(Path(array.path) / measured["path"]).read_all()
    assert sets.column_names == [str(i) for i in range(measured["n_sets"])]
    rows = [
        np.tile(sets[str(source["set"])].to_numpy(), (source["n_cells"], 1))
        for source in measured["sources"]
    ]
    np.testing.assert_array_equal(np.vstack(rows), Panels(panels).mask)
    firsts = [source["first_cell"] for source in measured["sources"]]
    assert firsts == array.sources()["first_cell"].to_list()


def test_genes_of_which_nothing_is_left(array, panels):
    array.delete_cells("cell_integer_id >= 30")
    expected = Panels([panels[0]])
    assert array.shape == (30, 8)
    assert array.sources().rows() == [(0, None, 0, 30, 6)]
    mask = array.is_measured()
    np.testing.assert_array_equal(mask.all(0), np.isin(array.var["gene_id"], expected.genes))
    frame = array.gene_statistics(["g", "a"], measured=True)
    assert frame.select("n_cells", "mean", "variance").row(0) == (0, None, None)
    assert array.query("SELECT AVG(g) AS a FROM cells", measured=True).item() is None
    assert array.get_gene_expression("g", measured=True).height == 0


@pytest.mark.parametrize("rows", ["3", "1000"])
def test_statistics_in_any_pieces(array, panels, monkeypatch, rows):
    monkeypatch.setenv("SLAF_BATCH_ROWS", rows)
    Panels(panels).check(SLAFArray(array.path))


def test_masks_of_a_loader(array, panels):
    expected = Panels(panels)
    columns = [7, 0, 3]
    for dense in (False, True):
        loader = SLAFDataLoader(
            array,
            raw_mode=True,
            measured=True,
            dense=dense,
            genes=columns,
            batch_size=8,
            return_tensors="numpy",
        )
        seen = []
        for batch in loader:
            cells = batch["cell_ids"]
            seen += cells.tolist()
            mask = expected.mask[np.ix_(cells, columns)]
            np.testing.assert_array_equal(batch["measured"], mask)
            x = batch["x"] if dense else batch["x"].toarray()
            np.testing.assert_array_equal(
                np.where(mask, x, np.nan), expected.values[np.ix_(cells, columns)]
            )
        assert sorted(seen) == list(range(76))
    (batch,) = SLAFDataLoader(
        array,
        raw_mode=True,
        measured=True,
        gene_order="stored",
        batch_size=76,
        shuffle=False,
        return_tensors="numpy",
    )
    order = array._store.native.stored_genes()
    np.testing.assert_array_equal(batch["measured"], expected.mask[:, order])
    plain = SLAFDataLoader(array, raw_mode=True, return_tensors="numpy")
    assert "measured" not in next(iter(plain))
    with pytest.raises(slaf.InvalidArgumentError, match="raw_mode"):
        SLAFDataLoader(array, measured=True, return_tensors="numpy")
    with pytest.raises(slaf.InvalidArgumentError, match="measured"):
        SLAFDataLoader(array, raw_mode=True, measured=1, return_tensors="numpy")


def test_masks_of_several_stores(tmp_path, array, panels):
    other = stored(panel(8, 12, "hgba"), tmp_path / "o.slaf")
    loader = SLAFDataLoader(
        [array, other], raw_mode=True, measured=True, batch_size=16, return_tensors="numpy"
    )
    mask = Panels(panels).mask[:, [0, 1, 6, 7]]
    assert loader.gene_ids == ["a", "b", "g", "h"]
    for batch in loader:
        for row, cell, of in zip(
            batch["measured"], batch["cell_ids"], batch["source_ids"], strict=True
        ):
            np.testing.assert_array_equal(row, mask[cell] if of == 0 else [True] * 4)


def test_masks_of_torch_and_arrow(array, panels):
    expected = Panels(panels)
    torch = pytest.importorskip("torch")
    for batch in SLAFDataLoader(array, raw_mode=True, measured=True, batch_size=16):
        assert batch["measured"].dtype == torch.bool
        mask = expected.mask[batch["cell_ids"].numpy()]
        np.testing.assert_array_equal(batch["measured"].numpy(), mask)
    pytest.importorskip("pyarrow")
    loader = SLAFDataLoader(array, raw_mode=True, measured=True, return_tensors="arrow")
    for batch in loader:
        mask = expected.mask[batch["cell_ids"].to_numpy()]
        assert batch["measured"].to_pylist() == mask.tolist()


def test_all_genes_are_measured_where_nothing_is_recorded(tmp_path, panels):
    array = stored(panels[0], tmp_path / "a.slaf")
    assert array.append(panels[2]).sources[0]["genes_lacking"] == 0
    Panels([panels[0], panels[2]]).check(array)
    assert array.sources().rows() == [(0, None, 0, 55, 6)]
    assert not hasattr(array.info(), "measured")
    empty = read_slaf(array.path)[:0].to_memory()
    nothing = stored(empty, tmp_path / "e.slaf")
    assert nothing.sources().height == 0
    assert nothing.is_measured().shape == (0, 6)
    assert nothing.gene_statistics(measured=True)["mean"].to_list() == [None] * 6


def test_statistics_of_a_layer_that_has_values_everywhere(array, panels):
    expected = Panels(panels)
    layer = np.random.default_rng(0).normal(3, 1, expected.mask.shape)
    layer[::3] = 0
    array.add_layer("imputed", layer)
    genes = ["h", "a", "g", "a"]
    frame = array.gene_statistics(genes, layer="imputed", measured=True)
    assert frame["gene_id"].to_list() == genes
    for row in frame.rows(named=True):
        i = row["gene_integer_id"]
        values = layer[expected.mask[:, i], i]
        assert (row["n_cells"], row["n_expressing"]) == (len(values), np.count_nonzero(values))
        found = [row["total"], row["mean"], row["variance"]]
        assert found == pytest.approx([values.sum(), values.mean(), values.var(ddof=1)], rel=1e-12)


def test_stores_that_are_made_of_lazy_data_keep_it(tmp_path, array, panels, recwarn):
    adata = read_slaf(array.path)
    adata.write(tmp_path / "whole.slaf")
    Panels(panels).check(SLAFArray(tmp_path / "whole.slaf"))
    assert SLAFArray(tmp_path / "whole.slaf").sources().equals(array.sources())
    expected = Panels(panels)
    cells, genes = np.r_[70:76, 31:40, 3], [7, 0, 2]
    SLAFConverter().convert_anndata(adata[cells, genes], tmp_path / "part.slaf")
    part = SLAFArray(tmp_path / "part.slaf")
    np.testing.assert_array_equal(part.is_measured(), expected.mask[cells][:, genes])
    assert part.verify() == []
    grown = stored(panels[0], tmp_path / "grown.slaf")
    lazy = adata.copy()
    pp.log1p(lazy)
    grown.append(lazy)
    np.testing.assert_array_equal(
        grown.is_measured(), np.vstack([Panels([panels[0], *panels]).mask])
    )
    assert grown.sources()["source"].to_list() == [None, "AnnData", "night 0", "night 1", "night 2"]
    assert grown.verify() == []
    assert not [w for w in recwarn if "measured" in str(w.message)]
    # What was zero may have a value.
    lazy.X = lazy.X + 1
    for change in (lambda: lazy.write(tmp_path / "other.slaf"), lambda: grown.append(lazy)):
        with pytest.warns(
            UserWarning, match="which genes were measured in which cells is not kept"
        ):
            change()
    assert SLAFArray(tmp_path / "other.slaf").is_measured().all()


def test_a_source_that_comes_again_has_the_name_that_it_is_given(tmp_path, panels):
    array = stored(panels[0], tmp_path / "a.slaf")
    panels[1].write_h5ad(tmp_path / "p.h5ad")
    array.append(tmp_path / "p.h5ad")
    array.append(tmp_path / "p.h5ad", source_name="night 2")
    names = [None, str(tmp_path / "p.h5ad"), "night 2"]
    assert array.sources()["source"].to_list() == names
    assert array.sources()["n_cells"].to_list() == [30, 20, 20]
