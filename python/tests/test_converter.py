"""SLAFConverter."""

import errno

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from anndata.tests.helpers import assert_equal
from helpers import assert_same

import slaf
from slaf.data import SLAFConverter
from slaf.integrations import read_slaf


def test_an_object_in_memory(tmp_path, original):
    before = original.copy()
    report = SLAFConverter().convert_anndata(original, tmp_path / "a.slaf")
    assert report.n_cells == 6
    # anndata's writer would have made categoricals of texts.
    pd.testing.assert_frame_equal(original.obs, before.obs)
    assert_same(read_slaf(tmp_path / "a.slaf").to_memory(), before)
    assert [p.name for p in tmp_path.iterdir()] == ["a.slaf"]


def test_a_view(tmp_path, original):
    SLAFConverter().convert_anndata(original[2:, ::-1], tmp_path / "a.slaf")
    assert_same(read_slaf(tmp_path / "a.slaf").to_memory(), original[2:, ::-1].copy())


def test_a_backed_object(tmp_path, h5ad_path, original):
    backed = ad.read_h5ad(h5ad_path, backed="r")
    SLAFConverter().convert_anndata(backed, tmp_path / "whole.slaf")
    assert_same(read_slaf(tmp_path / "whole.slaf").to_memory(), original)
    SLAFConverter().convert_anndata(backed[:3], tmp_path / "part.slaf")
    assert read_slaf(tmp_path / "part.slaf").shape == (3, 4)
    backed.obs["new"] = 1
    with pytest.raises(slaf.InvalidArgumentError, match="obs"):
        SLAFConverter().convert_anndata(backed, tmp_path / "changed.slaf")
    backed.file.close()


def test_what_anndata_cannot_write_is_named(tmp_path, original):
    original.uns["culprit"] = object()
    with pytest.raises(slaf.InputError, match="culprit") as caught:
        SLAFConverter().convert_anndata(original, tmp_path / "a.slaf")
    assert caught.value.kind == "would-lose-data"
    assert list(tmp_path.iterdir()) == []


def test_slots_of_several_inputs_that_cannot_be_united_are_named(tmp_path):
    rng = np.random.default_rng(0)
    for name, n in {"a": 9, "b": 5}.items():
        adata = ad.AnnData(sp.csr_matrix(rng.poisson(1, (n, 4)).astype(np.float32)))
        adata.obs_names = [f"{name}{i}" for i in range(n)]
        adata.raw = adata
        adata.obsm["same"], adata.obsm["other"] = np.ones((n, 2)), np.ones((n, n))
        adata.varm["PCs"], adata.varp["net"] = np.ones((4, 2)), sp.eye(4, format="csr")
        adata.obsp["near"], adata.uns["colors"] = sp.eye(n, format="csr"), ["red"]
        adata.layers["both"] = adata.X
        if name == "b":
            adata.layers["one"] = adata.X
        adata.write_h5ad(tmp_path / f"{name}.h5ad")
    inputs, target = [tmp_path / "a.h5ad", tmp_path / "b.h5ad"], tmp_path / "ab.slaf"
    with pytest.raises(slaf.InputError, match=r"^the store cannot hold .*obsp/near") as caught:
        SLAFConverter().convert(inputs, target)
    assert caught.value.kind == "would-lose-data"
    assert not target.exists()
    report = SLAFConverter(allow_loss=True).convert(inputs, target)
    slots = ["obsp/near", "varp/net", "varm/PCs", "raw", "raw/X"]
    expected = [f"{slot} of {path}" for path in inputs for slot in slots]
    assert sorted(what for what, _ in report.lost) == sorted(
        [*expected, "obsm/other", "layers/one"]
    )
    united = read_slaf(target).to_memory()
    # AnnData 0.13 lists X, without a name, among them.
    assert (list(united.obsm), {*united.layers} - {None}) == (["same"], {"both"})


@pytest.mark.parametrize("kind", ["whole", "view", "lazy"])
def test_text_with_missing_values_is_what_write_h5ad_makes_of_it(tmp_path, original, kind):
    adata = original.copy()
    text = np.array(["x10", None, "x9", np.nan, "x9", "x10"], dtype=object)
    if kind == "lazy":
        SLAFConverter().convert_anndata(adata, tmp_path / "before.slaf")
        given = read_slaf(tmp_path / "before.slaf")
        given.obs["t"] = text
    adata.obs["t"] = text
    adata.var["t"] = np.array(["x", None, "y", "z"], dtype=object)
    if kind == "lazy":
        given.var["t"] = adata.var["t"].to_numpy()
    else:
        adata.raw = adata
        given = adata[1:] if kind == "view" else adata
    before = given.obs.copy(), given.var.copy()
    SLAFConverter().convert_anndata(given, tmp_path / "a.slaf")
    for frame, old in zip((given.obs, given.var), before, strict=True):
        pd.testing.assert_frame_equal(frame, old)
        assert frame["t"].dtype == object
    ours = read_slaf(tmp_path / "a.slaf")
    theirs = (adata[1:] if kind == "view" else adata).copy()
    theirs.write_h5ad(tmp_path / "theirs.h5ad")
    SLAFConverter().convert(tmp_path / "theirs.h5ad", tmp_path / "theirs.slaf")
    expected = read_slaf(tmp_path / "theirs.slaf")
    pd.testing.assert_series_equal(ours.obs["t"], expected.obs["t"])
    pd.testing.assert_series_equal(ours.var["t"], expected.var["t"])
    if kind != "lazy":
        pd.testing.assert_series_equal(ours.raw.var["t"], expected.raw.var["t"])
        assert_equal(ours.to_memory().X, expected.to_memory().X)
    assert list(ours.uns) == list(expected.uns)
    assert list(ours.obsm) == list(expected.obsm)


@pytest.mark.parametrize("wrong", [[], ["a", "b"], None, "a.h5ad"])
def test_what_is_no_anndata_is_refused(tmp_path, wrong):
    hint = r"convert\(\[" if isinstance(wrong, list) else "takes one AnnData"
    with pytest.raises(slaf.InvalidArgumentError, match=hint):
        SLAFConverter().convert_anndata(wrong, tmp_path / "a.slaf")


def test_targets(tmp_path, h5ad_path, original):
    target = tmp_path / "a.slaf"
    SLAFConverter().convert(str(h5ad_path), str(target))
    with pytest.raises(FileExistsError):
        SLAFConverter().convert(h5ad_path, target)
    with pytest.raises(FileExistsError):
        SLAFConverter().convert_anndata(original, target)
    SLAFConverter(overwrite=True).convert_anndata(original[:2], target)
    assert read_slaf(target).shape == (2, 4)
    with pytest.raises(slaf.NotFoundError):
        SLAFConverter().convert_anndata(original, tmp_path / "no" / "folder" / "a.slaf")


def test_several_inputs(tmp_path, h5ad_path, original):
    original[:2].write_h5ad(tmp_path / "second.h5ad", convert_strings_to_categoricals=False)
    inputs = [h5ad_path, tmp_path / "second.h5ad"]
    with pytest.raises(slaf.InputError, match="obsp/connectivities"):
        SLAFConverter().convert(inputs, tmp_path / "a.slaf")
    report = SLAFConverter(allow_loss=True).convert(inputs, tmp_path / "a.slaf")
    assert (report.n_cells, report.n_genes) == (8, 4)
    lazy = read_slaf(tmp_path / "a.slaf")
    assert lazy.obs["source"].nunique() == 2
    assert lazy.uns["log1p"] == {"base": 2.0}
    expected = np.vstack([original.X.toarray(), original.X[:2].toarray()])
    np.testing.assert_array_equal(lazy.X.toarray(), expected)


@pytest.mark.parametrize(
    "options", [{"join": "left"}, {"durability": "none"}, {"storage_options": {}, "join": ""}]
)
def test_wrong_options(tmp_path, h5ad_path, options):
    with pytest.raises(slaf.InvalidArgumentError, match="there are"):
        SLAFConverter(**options).convert(h5ad_path, tmp_path / "a.slaf")


@pytest.mark.parametrize("memory", [0, 1, 1024, (1 << 20) - 1, -1, 1.5, "1G", True])
def test_budgets_have_a_least_one(tmp_path, h5ad_path, memory):
    with pytest.raises(slaf.InvalidArgumentError, match="memory="):
        SLAFConverter(memory=memory)
    SLAFConverter(memory=1 << 20).convert(h5ad_path, tmp_path / "a.slaf")
    array = slaf.SLAFArray(tmp_path / "a.slaf")
    with pytest.raises(slaf.InvalidArgumentError, match="memory="):
        array.optimize(memory=memory)
    with pytest.raises(slaf.InvalidArgumentError, match="memory="):
        array.delete_cells("cell_integer_id = 0", memory=memory)
    assert array.verify() == []


def test_wrong_inputs(tmp_path):
    with pytest.raises(slaf.InvalidArgumentError, match="no inputs"):
        SLAFConverter().convert([], tmp_path / "a.slaf")
    with pytest.raises(slaf.NotFoundError):
        SLAFConverter().convert(tmp_path / "nothing.h5ad", tmp_path / "a.slaf")
    (tmp_path / "text.bin").write_bytes(b"\x00\x01 neither fish nor fowl")
    with pytest.raises(slaf.InputError) as caught:
        SLAFConverter().convert(tmp_path / "text.bin", tmp_path / "a.slaf")
    assert caught.value.kind == "unknown-format"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["text.bin"]


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("1K_pbmc_citeseq.h5", (892, 36_611)),
        ("visium_ffpe_10x_mtx", (2_898, 19_465)),
        ("format_zoo/10x_v2.h5", None),
        ("format_zoo/10x_v3.h5", None),
    ],
)
@pytest.mark.filterwarnings("ignore:.*names are not unique:UserWarning")
def test_other_formats(tmp_path, shared_data, name, shape):
    report = SLAFConverter().convert(shared_data / name, tmp_path / "a.slaf")
    lazy = read_slaf(tmp_path / "a.slaf")
    assert lazy.shape == (report.n_cells, report.n_genes)
    assert shape in (None, lazy.shape)
    assert lazy.X.nnz == report.nnz


def test_a_full_disk_is_no_matter_of_the_object(tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(ad.AnnData, "write_h5ad", full)
    with pytest.raises(slaf.ResourceError) as caught:
        SLAFConverter().convert_anndata(ad.AnnData(np.ones((2, 2))), tmp_path / "a.slaf")
    assert caught.value.kind == "disk-full"
