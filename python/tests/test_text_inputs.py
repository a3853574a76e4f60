"""Inputs of text, and looms: as scanpy, scipy, pandas and h5py read them."""

import gzip
import warnings

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest
import scipy.io
import scipy.sparse as sp

import slaf
from slaf import SLAFArray
from slaf.data import SLAFConverter
from slaf.integrations import read_slaf

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import scanpy as sc

HEAD = "%%MatrixMarket matrix coordinate {} general\n%\n"
BIG = 2**53 + 1


def converted(source, target="store.slaf", **options):
    folder = source[0].parent if isinstance(source, list) else source.parent
    SLAFConverter(durability="os", **options).convert(source, folder / target)
    return folder / target


def refused(source, kind="would-lose-data"):
    with pytest.raises(slaf.SlafError) as caught:
        converted(source, "refused.slaf")
    assert caught.value.kind == kind
    return str(caught.value)


def folder_of(path, features, barcodes, matrix):
    path.mkdir()
    files = {"features.tsv": features, "barcodes.tsv": barcodes, "matrix.mtx": matrix}
    for name, text in files.items():
        (path / f"{name}.gz").write_bytes(gzip.compress(text.encode()))
    return path


@pytest.mark.parametrize(
    ("features", "barcodes"),
    [
        ('"E1"\t"A"\t"Gene Expression"\n"E2"\tB 5" x\tPeaks\n', '"AA-1"\n"CC-1"\n"GG-1"\n'),
        (
            "\ufeffE1\tA 3' UTR\tGene Expression\r\nE2\tB\tPeaks\r\n",
            "\ufeffAA-1\r\nCC-1\r\nGG-1\r\n",
        ),
    ],
)
def test_side_files_are_read_as_scanpy_reads_them(tmp_path, features, barcodes):
    matrix = HEAD.format("integer") + "2 3 3\n1 1 4\n2 3 5\n1 2 7\n"
    folder = folder_of(tmp_path / "10x", features, barcodes, matrix)
    expected = sc.read_10x_mtx(folder, make_unique=False, gex_only=False)
    ours = read_slaf(converted(folder)).to_memory()
    assert list(ours.obs_names) == list(expected.obs_names)
    pd.testing.assert_frame_equal(ours.var.astype(object), expected.var.astype(object))
    np.testing.assert_array_equal(ours.X.toarray(), expected.X.toarray())


def test_positions_of_features_are_columns(tmp_path):
    features = (
        "E1\tA\tGene Expression\tchr1\t100\t200\n"
        "E2\tB\tGene Expression\t\t\t\n"
        "chr2:5-9\tchr2:5-9\tPeaks\tchr2\t5\t9\n"
    )
    matrix = HEAD.format("integer") + "3 2 1\n1 1 4\n"
    folder = folder_of(tmp_path / "arc", features, "AA-1\tx\nCC-1\t\n", matrix)
    ours = read_slaf(converted(folder)).to_memory()
    assert list(ours.var.columns) == ["gene_ids", "feature_types", "chromosome", "start", "end"]
    assert ours.var["start"].tolist() == [100, pd.NA, 5]
    assert ours.var["chromosome"].tolist() == ["chr1", "", "chr2"]
    assert ours.obs["column_2"].isna().tolist() == [False, True]


def test_integers_of_matrix_market_are_those_of_scipy(tmp_path):
    for i, value in enumerate([2**24 + 1, BIG, 2**63 - 1]):
        matrix = HEAD.format("integer") + f"2 2 2\n1 1 {value}\n2 2 3\n"
        folder = folder_of(tmp_path / str(i), "E1\tA\nE2\tB\n", "c1\nc2\n", matrix)
        expected = scipy.io.mmread(folder / "matrix.mtx.gz").T.toarray()
        x = SLAFArray(converted(folder, f"{i}.slaf")).to_csr().toarray()
        assert [[int(v) for v in row] for row in x] == expected.tolist()
    matrix = HEAD.format("real") + f"2 2 2\n1 1 0.5\n2 2 {BIG}\n"
    text = refused(folder_of(tmp_path / "mixed", "E1\tA\nE2\tB\n", "c1\nc2\n", matrix))
    assert "matrix.mtx.gz: the entry at 2, 2" in text


def test_integers_of_tables_are_those_of_pandas(tmp_path):
    for i, values in enumerate([[BIG, 1], [2**64 - 1, 0], [-(2**63), 5]]):
        path = tmp_path / f"{i}.csv"
        path.write_text(f",G1,G2\nA,{values[0]},{values[1]}\nB,1,2\n")
        expected = pd.read_csv(path, index_col=0)
        array = SLAFArray(converted(path, f"{i}.slaf", genes_in_rows=False))
        assert array.to_csr().dtype == expected["G1"].dtype
        assert array.to_csr().toarray().tolist() == expected.to_numpy(dtype=object).tolist()
    for other in ["0.5", "", "NA", str(10**23 - 1)]:
        path.write_text(f",G1,G2\nA,1,{other}\nB,{BIG},2\n")
        assert "would round" in refused(path)
    report = SLAFConverter(allow_loss=True).convert(path, tmp_path / "rounded.slaf")
    assert len(report.lost) == 1


def write(path, x, **slots):
    n, m = x.shape
    names = {"obs": [f"{path.stem}{i}" for i in range(n)], "var": [f"g{i}" for i in range(m)]}
    frame = pd.DataFrame(slots.pop("obs", {}), index=names["obs"])
    adata = ad.AnnData(sp.csr_matrix(x), obs=frame, var=pd.DataFrame(index=names["var"]), **slots)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        adata.write_h5ad(path)
    return path


def test_integers_of_merged_inputs_are_exact_or_refused(tmp_path):
    floats = write(tmp_path / "f.h5ad", np.array([[0.5, 0]], "f4"))
    counts = np.array([[3, 0], [0, 7]], "i8")
    small = write(tmp_path / "s.h5ad", counts)
    assert SLAFArray(converted([small, floats])).to_csr().toarray().tolist() == [
        [3, 0],
        [0, 7],
        [0.5, 0],
    ]
    counts[1, 1] = BIG
    large = write(tmp_path / "l.h5ad", counts)
    assert SLAFArray(converted([large, small], "ints.slaf")).to_csr()[1, 1] == BIG
    for inputs, row in [([large, floats], 1), ([floats, large], 2)]:
        text = refused(inputs)
        assert f"{BIG} in row {row}, column 1" in text
    rounded = converted([large, floats], "rounded.slaf", allow_loss=True)
    assert SLAFArray(rounded).to_csr()[1, 1] == 2.0**53
    plain = np.array([[1]], "f4")
    for slot, one, other in [
        ("obs", {"v": [BIG]}, {"v": [0.5]}),
        ("obs", {"v": pd.Categorical([BIG])}, {"v": [0.5]}),
        ("obsm", {"v": np.array([[BIG]])}, {"v": np.array([[0.5]])}),
        ("layers", {"v": sp.csr_matrix([[BIG]])}, {"v": sp.csr_matrix([[0.5]])}),
    ]:
        a = write(tmp_path / "a.h5ad", plain, **{slot: one})
        b = write(tmp_path / "b.h5ad", plain, **{slot: other})
        assert "rounded" in refused([a, b])


def test_a_column_without_values_takes_the_type_of_the_others(tmp_path):
    x, none = np.eye(2, dtype="f4"), [np.nan, np.nan]
    columns = {
        "text": ["a", "b"],
        "factor": pd.Categorical(["u", "v"]),
        "count": [BIG, 2],
        "flag": [True, False],
        "score": [0.5, 1.5],
        "nothing": none,
    }
    a = write(tmp_path / "a.h5ad", x, obs=dict.fromkeys(columns, none))
    b = write(tmp_path / "b.h5ad", x, obs=columns)
    for i, inputs in enumerate([[a, b], [b, a], [a, b, a]]):
        obs = read_slaf(converted(inputs, f"{i}.slaf")).obs
        frames = [ad.read_h5ad(p).obs.astype(object) for p in inputs]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            expected = pd.concat(frames)
        for name in columns:
            found = [None if pd.isna(v) else v for v in obs[name]]
            assert found == [None if pd.isna(v) else v for v in expected[name]], name
        assert obs["count"].dtype == "Int64"
        assert obs["flag"].dtype == "boolean"
    # A column that has values keeps its own type: text beside numbers is still refused.
    c = write(tmp_path / "c.h5ad", x, obs={"text": [1.0, np.nan]})
    assert "text" in refused([b, c])


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("sep", [" ", "\t", ",", ";"])
def test_tables_of_r(tmp_path, sep, packed):
    rows = ['"g 1" "g2" "g3"', '"c1" 0 1e+05 3', '"c2" 2 0 NA', '"c3" 0 0 0']
    text = "\n".join(row.replace(" ", sep).replace(f"g{sep}1", "g 1") for row in rows) + "\n"
    path = tmp_path / ("x.txt.gz" if packed else "x.txt")
    path.write_bytes(gzip.compress(text.encode()) if packed else text.encode())
    expected = pd.read_csv(path, sep=sep)
    ours = read_slaf(converted(path, genes_in_rows=False)).to_memory()
    assert list(ours.obs_names) == list(expected.index)
    assert list(ours.var_names) == list(expected.columns)
    np.testing.assert_array_equal(sp.csr_matrix(ours.X).toarray(), expected.to_numpy())


def test_folders_have_the_layers_of_their_matrices(tmp_path):
    rng = np.random.default_rng(0)
    velocyto, kb, fry = (tmp_path / name for name in ["Velocyto", "kb", "alevin"])
    for folder in (velocyto, kb, fry):
        folder.mkdir()
    genes, cells = ["E1", "E2", "E3", "E4"], ["AA", "CC", "GG"]
    lines = lambda names: "".join(f"{n}\n" for n in names)  # noqa: E731
    (velocyto / "features.tsv").write_text(lines(f"{g}\t{g}\tGene Expression" for g in genes))
    (velocyto / "barcodes.tsv").write_text(lines(cells))
    (kb / "cells_x_genes.genes.txt").write_text(lines(genes))
    (kb / "cells_x_genes.barcodes.txt").write_text(lines(cells))
    (fry / "quants_mat_rows.txt").write_text(lines(cells))
    (fry / "quants_mat_cols.txt").write_text(lines(g + s for s in ["", "-U", "-A"] for g in genes))
    layers = ["spliced", "unspliced", "ambiguous"]
    counts = {name: sp.coo_matrix(rng.poisson(1, (3, 4))) for name in layers}
    for name, x in counts.items():
        scipy.io.mmwrite(velocyto / f"{name}.mtx", x.T)
        scipy.io.mmwrite(kb / f"cells_x_genes.{name}.mtx", x)
    scipy.io.mmwrite(fry / "quants_mat.mtx", sp.hstack([counts[name] for name in layers]))
    for folder in (velocyto, kb, fry):
        ours = read_slaf(converted(folder, f"{folder.name}.slaf"))
        assert (list(ours.obs_names), list(ours.var_names)) == (cells, genes)
        for name in layers:
            found = ours.layers[name].compute().toarray()
            np.testing.assert_array_equal(found, counts[name].toarray(), f"{folder.name} {name}")


def test_looms_of_scope(tmp_path):
    x = np.array([[1, 0, 2], [0, 3, 0]], "f4")
    points = np.array([(0.5, 1.5), (2.5, 3.5), (4.5, 5.5)], [("_X", "f8"), ("_Y", "f4")])
    regulons = np.array([(1, BIG), (0, 1)], [("r1", "i8"), ("r2", "u8")])
    with h5py.File(tmp_path / "scope.loom", "w") as f:
        f["matrix"] = x
        f["col_attrs/CellID"] = np.array([b"c0", b"c1", b"c2"])
        f["row_attrs/Gene"] = np.array([b"g0", b"g1"])
        f.create_dataset("col_attrs/Embedding", data=points, chunks=(2,), compression="gzip")
        f["col_attrs/pca"] = np.arange(6.0).reshape(3, 2)
        f["row_attrs/Regulons"] = regulons
        f.attrs["LOOM_SPEC_VERSION"] = "2.0.1"
        f.attrs["MetaData"] = '{"a": 1}'
        f.attrs["title"] = np.bytes_(b"scope")
    ours = read_slaf(converted(tmp_path / "scope.loom")).to_memory()
    np.testing.assert_array_equal(ours.X.toarray(), x.T)
    for field in points.dtype.names:
        column = ours.obs[f"Embedding.{field}"]
        assert column.dtype == points.dtype[field]
        assert column.tolist() == points[field].tolist()
    assert ours.var["Regulons.r2"].tolist() == [BIG, 1]
    np.testing.assert_array_equal(ours.obsm["pca"], np.arange(6.0).reshape(3, 2))
    assert dict(ours.uns) == {"MetaData": '{"a": 1}', "title": "scope"}
