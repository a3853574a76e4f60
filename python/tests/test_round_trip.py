"""h5ad -> slaf -> AnnData and h5ad -> slaf -> h5ad give back what was there."""

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest
from helpers import assert_same
from hypothesis import given
from strategies import anndatas

import slaf
from slaf import SLAFArray
from slaf.data import SLAFConverter
from slaf.integrations import read_slaf

pytestmark = pytest.mark.filterwarnings("ignore:.*names are not unique:UserWarning")


def write(adata, path):
    with ad.settings.override(allow_write_nullable_strings=True):
        adata.write_h5ad(path, convert_strings_to_categoricals=False)
    return ad.read_h5ad(path)


@given(adata=anndatas())
def test_any_anndata(adata, tmp_path_factory):
    folder = tmp_path_factory.mktemp("any")
    expected = write(adata, folder / "in.h5ad")
    SLAFConverter(durability="os").convert(folder / "in.h5ad", folder / "out.slaf")
    lazy = read_slaf(folder / "out.slaf")
    assert lazy.shape == expected.shape
    assert_same(lazy.to_memory(), expected)
    SLAFArray(folder / "out.slaf").export(folder / "back.h5ad")
    assert_same(ad.read_h5ad(folder / "back.h5ad"), expected)


def test_nan_in_uns(tmp_path, original):
    original.uns["params"] = {"cutoff": np.nan}
    SLAFConverter().convert_anndata(original, tmp_path / "a.slaf")
    SLAFArray(tmp_path / "a.slaf").export(tmp_path / "back.h5ad")
    for back in (read_slaf(tmp_path / "a.slaf").to_memory(), ad.read_h5ad(tmp_path / "back.h5ad")):
        assert np.isnan(back.uns["params"]["cutoff"])


@pytest.mark.parametrize("na_value", ["NA", "NaN"])
def test_what_pandas_calls_missing_text(tmp_path, original, na_value):
    original.obs["text"] = pd.array(["a", None, "", "b", None, "c"], dtype="string")
    write(original, tmp_path / "in.h5ad")
    with h5py.File(tmp_path / "in.h5ad", "r+") as file:
        # As anndata writes it with pandas 3.
        file["obs/text"].attrs["na-value"] = na_value
    expected = ad.read_h5ad(tmp_path / "in.h5ad")
    SLAFConverter().convert(tmp_path / "in.h5ad", tmp_path / "a.slaf")
    assert_same(read_slaf(tmp_path / "a.slaf").to_memory(), expected)
    SLAFArray(tmp_path / "a.slaf").export(tmp_path / "back.h5ad")
    assert_same(ad.read_h5ad(tmp_path / "back.h5ad"), expected)
    with h5py.File(tmp_path / "back.h5ad") as file:
        assert file["obs/text"].attrs.get("na-value", "NA") == na_value


@pytest.mark.parametrize("by_gene", [True, False])
def test_small(tmp_path, original, h5ad_path, by_gene):
    report = SLAFConverter(by_gene=by_gene).convert(h5ad_path, tmp_path / "a.slaf")
    assert (report.n_cells, report.n_genes, report.nnz) == (6, 4, 10)
    assert_same(read_slaf(tmp_path / "a.slaf").to_memory(), original)


REAL = [
    "pbmc3k_raw.h5ad",
    "pbmc1k_v3_filt.h5ad",
    "reference_small.h5ad",
    "pbmc68k_reduced.h5ad",
    "format_zoo/bpcells_mini_mat.anndata-v0.10.9.h5ad",
]


@pytest.mark.filterwarnings("ignore::anndata.OldFormatWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("name", REAL)
def test_real_files(tmp_path, shared_data, name):
    expected = ad.read_h5ad(shared_data / name)
    SLAFConverter().convert(shared_data / name, tmp_path / "a.slaf")
    assert_same(read_slaf(tmp_path / "a.slaf").to_memory(), expected)
    SLAFArray(tmp_path / "a.slaf").export(tmp_path / "back.h5ad")
    assert_same(ad.read_h5ad(tmp_path / "back.h5ad"), expected)


@pytest.mark.filterwarnings("ignore::anndata.OldFormatWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("version", ["0.7.0", "0.7.8"])
def test_files_of_old_versions(tmp_path, shared_data, version):
    file = shared_data / f"format_zoo/anndata_v{version}_adata.h5ad"
    expected = ad.read_h5ad(file)
    # A frame with categoricals, which such files keep as references.
    assert expected.obsm["df"].dtypes.astype(str).tolist().count("category") > 0
    SLAFConverter().convert(file, tmp_path / "a.slaf")
    assert_same(read_slaf(tmp_path / "a.slaf").to_memory(), expected)
    SLAFArray(tmp_path / "a.slaf").export(tmp_path / "back.h5ad")
    assert_same(ad.read_h5ad(tmp_path / "back.h5ad"), expected)


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("name", ["pbmc3k_raw.h5ad", "reference_small.h5ad"])
def test_zarr_of_real_files(tmp_path, shared_data, name):
    SLAFConverter(allow_loss=True).convert(shared_data / name, tmp_path / "a.slaf")
    array = SLAFArray(tmp_path / "a.slaf")
    array.export(tmp_path / "a.zarr", "zarr")
    assert_same(ad.read_zarr(tmp_path / "a.zarr"), read_slaf(tmp_path / "a.slaf").to_memory())
    with pytest.raises(slaf.AlreadyExistsError):
        array.export(tmp_path / "a.zarr", "zarr")
    array.export(tmp_path / "a.zarr", "zarr", overwrite=True)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.slaf", "a.zarr"]
