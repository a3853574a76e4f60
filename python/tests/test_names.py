"""Names that trip whoever builds paths, SQL or system columns of them."""

import traceback

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from helpers import assert_same

import slaf
from slaf import SLAFArray
from slaf.data import SLAFConverter
from slaf.integrations import read_slaf

SLOTS = ["obs", "var", "layers", "obsm", "varm", "obsp", "varp", "uns"]
# What AnnData can write and read.
HARMLESS = [
    *("..", "...", " ", "a b", "\n", "a\\b", "..\\..\\x", "%2e%2e%2f", "a:b", "CON", "*", "~"),
    *('quo"te', "it's", "'; DROP TABLE cells; --", "select", "$HOME"),
    *("🧬", "e\u0301", "é", "n" * 300, "n" * 299),
    # Pairs that differ in case.
    *("gene", "Gene", "GENE"),
    # Columns, tables and folders of our own.
    *("cell_id", "gene_id", "cell_integer_id", "gene_integer_id", "value", "rank", "n_cells"),
    *("n_genes", "total_counts", "total", "nnz", "x", "raw", "o0", "v0", "l1", "m0", "p0"),
    *("_rowid", "_rowaddr", "_slaf", "cells", "cells.lance", "by_gene", "expression", "X", "index"),
]
# What HDF5 takes for something else than one name.
AWKWARD = ["../../etc/x", "/etc/x", "a/b", "a/", "n" * 300 + "/x", ".", "", "\0", "a\0b"]


def put(adata, slot, name, number=1):
    if slot in ("obs", "var"):
        getattr(adata, slot)[name] = np.arange(3.0) + number
    elif slot in ("obsm", "varm"):
        getattr(adata, slot)[name] = np.arange(6.0).reshape(3, 2) + number
    elif slot == "uns":
        adata.uns[name] = float(number)
    else:
        getattr(adata, slot)[name] = sp.csr_matrix(np.eye(3) * number)


def three():
    names = {"obs": ["c0", "c1", "c2"], "var": ["g0", "g1", "g2"]}
    frames = {axis: pd.DataFrame(index=index) for axis, index in names.items()}
    return ad.AnnData(sp.csr_matrix(np.eye(3, dtype="f4")), **frames)


@pytest.mark.parametrize("slot", SLOTS)
def test_harmless_names_stay(tmp_path, slot):
    """Every name has a value of its own: none stands for another."""
    adata = three()
    for i, name in enumerate(HARMLESS):
        put(adata, slot, name, i + 1)
    adata.write_h5ad(tmp_path / "a.h5ad")
    SLAFConverter().convert(tmp_path / "a.h5ad", tmp_path / "a.slaf")
    SLAFConverter().convert_anndata(adata, tmp_path / "b.slaf")
    for store in ("a.slaf", "b.slaf"):
        assert_same(read_slaf(tmp_path / store).to_memory(), adata)
        SLAFArray(tmp_path / store).export(tmp_path / "back.h5ad", overwrite=True)
        assert_same(ad.read_h5ad(tmp_path / "back.h5ad"), adata)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.h5ad", "a.slaf", "b.slaf", "back.h5ad"]


@pytest.mark.parametrize("axis", ["obs", "var"])
def test_harmless_names_of_cells_and_genes_stay(tmp_path, axis):
    rows = [*HARMLESS, "", ".", "a/b", "../../etc/x", "/etc/x"]
    frames = {"obs": pd.DataFrame(index=["c"]), "var": pd.DataFrame(index=["g"])}
    frames[axis] = pd.DataFrame(index=rows)
    X = np.arange(1.0, len(rows) + 1, dtype="f4").reshape(len(frames["obs"]), len(frames["var"]))
    adata = ad.AnnData(sp.csr_matrix(X), **frames)
    SLAFConverter().convert_anndata(adata, tmp_path / "a.slaf")
    assert_same(read_slaf(tmp_path / "a.slaf").to_memory(), adata)
    array = SLAFArray(tmp_path / "a.slaf")
    column = {"obs": "cell_id", "var": "gene_id"}[axis]
    told = array.query(f"SELECT {column} AS name, value FROM expression")
    assert dict(told.iter_rows()) == {name: i + 1 for i, name in enumerate(rows)}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.slaf"]


# AnnData warns of slashes and goes on; its users need not make errors of warnings.
@pytest.mark.filterwarnings("ignore:Forward slashes:FutureWarning")
@pytest.mark.parametrize("name", AWKWARD, ids=[repr(name[-11:]) for name in AWKWARD])
@pytest.mark.parametrize("slot", SLOTS)
def test_awkward_names_stay_or_are_refused(tmp_path, slot, name):
    """Never another name, and never a file elsewhere."""
    adata = three()
    put(adata, slot, name)
    folder = tmp_path / "a" / "b"
    folder.mkdir(parents=True)
    try:
        SLAFConverter().convert_anndata(adata, folder / "a.slaf")
        error, left = None, ["a.slaf"]
    except slaf.SlafError as e:
        error, left = e, []
    if error is not None:
        assert error.kind == "would-lose-data", error
        # A message about a temporary file that is gone helps nobody.
        assert ".slaf-" not in str(error)
        assert slot in str(error)
    else:
        assert_same(read_slaf(folder / "a.slaf").to_memory(), adata)
    assert [p.name for p in folder.iterdir()] == left
    assert [p.relative_to(tmp_path).as_posix() for p in tmp_path.glob("*/*")] == ["a/b"]


@pytest.mark.parametrize("name", [n for n in HARMLESS if n not in ("cell_id", "cell_integer_id")])
def test_harmless_columns_can_be_queried(queried, name):
    array, number = queried
    quoted = name.replace('"', '""')
    column = array.query(f'SELECT "{quoted}" AS c FROM cells ORDER BY cell_integer_id')["c"]
    assert column.to_list() == list(np.arange(3.0) + number[name])


@pytest.fixture(scope="module")
def queried(tmp_path_factory):
    adata = three()
    number = {name: i + 1 for i, name in enumerate(HARMLESS)}
    for name, i in number.items():
        put(adata, "obs", name, i)
    path = tmp_path_factory.mktemp("queried") / "a.slaf"
    SLAFConverter().convert_anndata(adata, path)
    return SLAFArray(path), number


@pytest.mark.parametrize("links", ["/etc/passwd", "../../../etc/passwd"])
def test_a_link_to_another_file_is_refused(tmp_path, h5ad_path, links):
    h5py = pytest.importorskip("h5py")
    path = tmp_path / "a.h5ad"
    path.write_bytes(h5ad_path.read_bytes())
    with h5py.File(path, "r+") as file:
        file["layers/outside"] = h5py.ExternalLink(links, "/x")
    with pytest.raises(slaf.SlafError) as caught:
        SLAFConverter().convert(path, tmp_path / "a.slaf")
    assert caught.value.kind not in ("internal", "io"), traceback.format_exception(caught.value)
    assert "layers" in str(caught.value)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.h5ad"]
