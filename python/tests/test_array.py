"""SLAFArray: metadata, SQL, filters and submatrices."""

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import slaf
from slaf import SLAFArray
from slaf.data import SLAFConverter


@pytest.fixture
def array(store_path):
    return SLAFArray(store_path)


def test_what_it_is(array, store_path, capsys):
    assert (array.shape, array.n_obs, array.n_vars, len(array)) == ((6, 4), 6, 4, 6)
    assert (array.path, array.version) == (store_path, 1)
    assert repr(array) == f"SLAFArray({store_path!r}, version=1, shape=(6, 4))"
    (version,) = array.versions()
    assert (version.version, version.n_obs, version.n_vars) == (1, 6, 4)
    info = array.info()
    assert str(info) == capsys.readouterr().out.strip("\n")
    assert (info.n_cells, info.n_genes) == (6, 4)
    assert info.to_dict()["n_cells"] == 6
    with pytest.raises(AttributeError, match="n_cells"):
        _ = info.n_cell


def test_closed(store_path):
    with SLAFArray(store_path) as array:
        assert array.n_obs == 6
    with pytest.raises(slaf.InvalidArgumentError, match="closed"):
        _ = array.obs
    assert repr(array) == "SLAFArray(closed)"


def test_frames(array, original):
    obs = array.obs
    assert obs.columns == ["cell_id", "cell_integer_id", *original.obs.columns]
    assert obs["cell_id"].to_list() == list(original.obs_names)
    assert obs["cell_integer_id"].to_list() == list(range(6))
    assert obs["batch"].dtype == pl.Enum(["b1", "b2", "unused"])
    assert obs["depth"].to_list() == [1, None, 3, 4, None, 6]
    assert obs["depth"].dtype == pl.Int32
    assert obs["note"].to_list() == original.obs["note"].to_list()
    assert array.var["gene_id"].to_list() == list(original.var_names)
    assert array.var["highly_variable"].to_list() == [True, False, True, False]
    assert array.obs is obs


def test_metadata_in_the_background(store_path):
    array = SLAFArray(store_path)
    assert array.wait_for_metadata(timeout=60)
    assert array.is_metadata_ready()
    lazy = SLAFArray(store_path, load_metadata=False)
    assert not lazy.is_metadata_ready()
    assert lazy.wait_for_metadata()
    assert lazy.is_metadata_ready()
    assert not SLAFArray(store_path, load_metadata=False).wait_for_metadata(timeout=0)


def test_columns_named_as_ours(tmp_path, original):
    original.obs["cell_id"] = ["u", "v", "w", "x", "y", "z"]
    original.obs["cell_integer_id"] = 7
    SLAFConverter().convert_anndata(original, tmp_path / "a.slaf")
    array = SLAFArray(tmp_path / "a.slaf")
    assert array.obs["cell_id"].to_list() == list(original.obs_names)
    assert array.obs["obs:cell_id"].to_list() == list("uvwxyz")
    assert array.filter_cells(**{"obs:cell_id": "x"})["cell_integer_id"].to_list() == [3]
    assert array.query('SELECT "obs:cell_integer_id" AS i FROM cells')["i"].to_list() == [7] * 6


def test_query(array):
    counts = array.query("SELECT batch, COUNT(*) AS n FROM cells GROUP BY batch ORDER BY n DESC")
    assert counts.rows() == [("b1", 4), ("b2", 2)]
    total = array.query("SELECT SUM(value) AS s, COUNT(*) AS n FROM expression")
    assert total.rows() == [(46.0, 10)]
    joined = array.query("""
        SELECT g.gene_id, SUM(e.value) AS total FROM expression e
        JOIN cells c ON c.cell_integer_id = e.cell_integer_id
        JOIN genes g ON g.gene_integer_id = e.gene_integer_id
        WHERE c.batch = "b1" GROUP BY g.gene_id ORDER BY total""")
    assert joined.rows() == [("gene3", 7.0), ("gene0", 8.0), ("gene2", 9.0), ("gene1", 11.0)]
    assert array.query("SELECT * FROM cells WHERE n_counts > 100").height == 0


@pytest.mark.parametrize(
    ("sql", "kind"),
    [
        ("SELEC 1", "invalid-query"),
        ("SELECT nothing FROM cells", "unknown-column"),
        ("SELECT * FROM nothing", "unknown-table"),
        ("DROP TABLE cells", "read-only"),
        ("COPY cells TO '/tmp/slaf-must-not-exist.csv'", "read-only"),
        ("CREATE TABLE t AS SELECT 1", "read-only"),
        ("SET a = 1", "read-only"),
    ],
)
def test_wrong_queries(array, sql, kind):
    with pytest.raises(slaf.SlafError) as caught:
        array.query(sql)
    # Some front ends refuse a column or a statement when they parse it.
    assert caught.value.kind in (kind, "invalid-query")
    with pytest.raises(slaf.SlafError):
        array.query_stream(sql)


def test_query_stream(array):
    stream = array.query_stream("SELECT value FROM expression ORDER BY value")
    table = pa.RecordBatchReader.from_stream(stream).read_all()
    assert table["value"].to_pylist() == [1, 1, 2, 3, 4, 5, 6, 7, 8, 9]
    with pytest.raises(slaf.InvalidArgumentError, match="read before"):
        pl.DataFrame(stream)


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        ({}, [0, 1, 2, 3, 4, 5]),
        ({"batch": "b1"}, [0, 1, 2, 5]),
        ({"batch": ["b2", "nothing"]}, [3, 4]),
        ({"batch": "nothing"}, []),
        ({"batch": "b1", "n_counts": ">=2"}, [1, 2]),
        ({"n_counts": " < 2 "}, [0, 5]),
        ({"n_counts": "!=3"}, [0, 1, 3, 4, 5]),
        ({"n_counts": 3}, [2]),
        ({"n_counts": 3.0}, [2]),
        ({"n_counts": [1, 5, 99]}, [0, 4]),
        ({"n_counts": np.array([1, 5])}, [0, 4]),
        ({"n_counts": range(2, 4)}, [1, 2]),
        # A text column compares values, whatever they look like.
        ({"note": ">=3"}, [0]),
        ({"note": ["x", ""]}, [1, 2, 4]),
        ({"note": "y'z"}, [3]),
        ({"score": "<=0.1"}, [2, 3]),
        ({"score": ">1e3"}, [5]),
        ({"score": None}, [1]),
        ({"score": float("nan")}, [1]),
        ({"score": [0.5, None]}, [0, 1]),
        ({"depth": None}, [1, 4]),
        ({"depth": ">3"}, [3, 5]),
        ({"depth": pd.NA}, [1, 4]),
        ({"doublet": True}, [0, 3]),
        ({"doublet": [True, False]}, [0, 1, 2, 3, 4, 5]),
        ({"cell_id": ["cell4", "cell2"]}, [2, 4]),
        ({"cell_integer_id": ">=4"}, [4, 5]),
    ],
)
def test_filter_cells(array, store_path, conditions, expected):
    for source in (array, SLAFArray(store_path, load_metadata=False)):
        rows = source.filter_cells(**conditions)
        assert rows["cell_integer_id"].to_list() == expected
        assert rows.columns == array.obs.columns
        assert rows["note"].to_list() == array.obs["note"][expected].to_list()


@pytest.mark.parametrize(
    "conditions",
    [
        {"n_counts": "many"},
        {"n_counts": ">=many"},
        {"n_counts": "3"},
        {"n_counts": True},
        {"note": 3},
        {"note": [1, 2]},
        {"doublet": 1},
        {"doublet": ">0"},
        {"batch": 1},
    ],
)
def test_conditions_that_do_not_fit(array, conditions):
    with pytest.raises(slaf.InvalidArgumentError, match=next(iter(conditions))):
        array.filter_cells(**conditions)


def test_filter_by_sql(array):
    assert array.filter_cells("n_counts >= 2 AND batch = 'b1'").height == 2
    assert array.filter_cells("n_counts >= 2 -- a comment").height == 4
    assert array.filter_cells("n_counts >= 2", batch="b2")["cell_id"].to_list() == [
        "cell3",
        "cell4",
    ]
    assert array.filter_genes("highly_variable", symbol="S2")["gene_id"].to_list() == ["gene2"]
    with pytest.raises(slaf.SlafError):
        array.filter_cells("n_counts >")
    with pytest.raises(slaf.QueryError, match="Line: 1, Column: 12"):
        array.filter_cells("n_counts > > 1")


def test_unknown_columns_come_with_near_ones(array):
    with pytest.raises(slaf.UnknownNameError, match="n_counts") as caught:
        array.filter_cells(n_count=3)
    assert caught.value.kind == "unknown-column"


SELECTORS = [
    None,
    2,
    -1,
    slice(1, 5, 2),
    slice(None, None, -1),
    [3, 0, 3],
    np.array([1, 2]),
    [],
    np.array([True, False, True, True, False, False]),
    ["cell5", "cell0"],
    "cell3",
    pd.Series([True] * 6),
    range(2),
    (0, 1),
]


@pytest.mark.parametrize("cells", SELECTORS)
@pytest.mark.parametrize("genes", [None, ["gene3", "gene1"], slice(None, None, -1), 0])
@pytest.mark.parametrize("layer", [None, "double", "dense"])
def test_to_csr(array, original, cells, genes, layer):
    matrix = original.X if layer is None else original.layers[layer]
    dense = matrix if layer == "dense" else matrix.toarray()
    expected = pd.DataFrame(dense, original.obs_names, original.var_names)
    for axis, selector in enumerate((cells, genes)):
        if selector is not None:
            one = isinstance(selector, (int, str))
            selector = [selector] if one else selector
            by_name = (
                len(selector) and isinstance(selector[0], str)
                if one or isinstance(selector, list)
                else False
            )
            if isinstance(selector, tuple):
                selector = list(selector)
            index = expected.loc if by_name else expected.iloc
            if isinstance(selector, pd.Series):
                selector = selector.to_numpy()
            expected = index[selector] if axis == 0 else index[:, selector]
    csr = array.to_csr(cells, genes, layer=layer)
    assert csr.dtype == matrix.dtype
    np.testing.assert_array_equal(csr.toarray(), expected.to_numpy())
    long = array.get_submatrix(cells, genes, layer=layer)
    coo = csr.tocoo()
    assert long["cell_id"].to_list() == [expected.index[i] for i in coo.row]
    assert long["gene_id"].to_list() == [expected.columns[i] for i in coo.col]
    np.testing.assert_array_equal(long["value"].to_numpy(), coo.data)


def test_frames_select(array):
    cells = array.filter_cells(batch="b2")
    genes = array.filter_genes(highly_variable=True)
    np.testing.assert_array_equal(array.to_csr(cells, genes).toarray(), [[5, 6], [0, 0]])
    with pytest.raises(slaf.InvalidArgumentError, match="cell_integer_id"):
        array.to_csr(genes)


def test_expression_of_cells_and_genes(array):
    assert array.get_cell_expression(["cell3", "cell0"]).rows() == [
        ("cell3", "gene0", 5.0),
        ("cell3", "gene2", 6.0),
        ("cell0", "gene0", 1.0),
        ("cell0", "gene3", 2.0),
    ]
    assert array.get_gene_expression(["gene2", "gene1"]).rows() == [
        ("cell3", "gene2", 6.0),
        ("cell5", "gene2", 9.0),
        ("cell1", "gene1", 3.0),
        ("cell5", "gene1", 8.0),
    ]
    assert array.get_gene_expression(2).rows() == array.get_gene_expression("gene2").rows()


@pytest.mark.parametrize(
    ("arguments", "kind"),
    [
        ((["nobody"],), "unknown-cell"),
        ((None, "nothing"), "unknown-gene"),
        ((6,), "out-of-range"),
        ((None, [4]), "out-of-range"),
        (([True],), "out-of-range"),
        ((None, None, "nope"), "unknown-table"),
        ((object(),), "invalid-argument"),
        ((np.zeros((2, 2), int),), "invalid-argument"),
    ],
)
def test_wrong_selectors(array, arguments, kind):
    for method in (array.get_submatrix, array.to_csr):
        with pytest.raises(slaf.SlafError) as caught:
            method(*arguments)
        assert caught.value.kind == kind


def test_unknown_genes_are_listed(array):
    with pytest.raises(slaf.UnknownNameError) as caught:
        array.get_gene_expression([f"gone{i}" for i in range(9)])
    assert all(f"gone{i}" in str(caught.value) for i in range(5))
    assert "gone7" not in str(caught.value)


def test_opening_what_is_not_there(tmp_path, store_path):
    with pytest.raises(FileNotFoundError) as caught:
        SLAFArray(tmp_path / "nothing.slaf")
    assert caught.value.kind == "not-found"
    (tmp_path / "file.txt").write_text("hello")
    with pytest.raises(slaf.SlafError):
        SLAFArray(tmp_path / "file.txt")
    (tmp_path / "folder").mkdir()
    with pytest.raises(slaf.NotAStoreError):
        SLAFArray(tmp_path / "folder")
    with pytest.raises(slaf.NotFoundError, match="version 99"):
        SLAFArray(store_path, version=99)
    assert SLAFArray(store_path, version=1).version == 1


def test_export_refuses_to_replace(array, tmp_path):
    (tmp_path / "there.h5ad").write_text("mine")
    with pytest.raises(slaf.AlreadyExistsError):
        array.export(tmp_path / "there.h5ad")
    assert (tmp_path / "there.h5ad").read_text() == "mine"
    array.export(tmp_path / "there.h5ad", overwrite=True, compression=True)
    with pytest.raises(slaf.SlafError, match="format"):
        array.export(tmp_path / "x", "word")


def test_paths_of_any_kind(store_path):
    from pathlib import Path

    for path in (Path(store_path), f"file://{store_path}"):
        assert SLAFArray(path).shape == (6, 4)


@pytest.mark.parametrize("cells", [None, "cell5", [5, 0, 5], slice(None, None, -2), []])
@pytest.mark.parametrize("genes", [None, "gene2", [3, 1, 3], slice(1, 3), []])
def test_names_of_long_frames(array, original, cells, genes):
    rows = np.arange(6)[[5] if cells == "cell5" else slice(None) if cells is None else cells]
    cols = np.arange(4)[[2] if genes == "gene2" else slice(None) if genes is None else genes]
    X = original.X.toarray()
    expected = [
        (original.obs_names[r], original.var_names[c], X[r, c])
        for r in rows
        for c in cols
        if X[r, c]
    ]
    assert array.get_submatrix(cells, genes).rows() == expected
    if cells is None:
        by_gene = [
            (original.obs_names[r], original.var_names[c], X[r, c])
            for c in cols
            for r in rows
            if X[r, c]
        ]
        assert array.get_gene_expression(genes).rows() == by_gene


def test_expression_makes_no_names_of_python(store_path, monkeypatch):
    array = SLAFArray(store_path)

    class Watched:
        def __getattr__(self, name):
            assert name not in ("names", "columns"), "names of Python for a long frame"
            return getattr(native, name)

    native = array._store.native
    monkeypatch.setattr(array._store, "native", Watched())
    assert array.get_cell_expression(3).rows() == [("cell3", "gene0", 5.0), ("cell3", "gene2", 6.0)]
    assert array.get_gene_expression(1).rows() == [("cell1", "gene1", 3.0), ("cell5", "gene1", 8.0)]
