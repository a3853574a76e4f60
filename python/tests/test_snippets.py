"""The snippets that the contract promises to run verbatim, paths aside."""

import pytest

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")


@pytest.fixture
def path(tmp_path, shared_data):
    from slaf.data import SLAFConverter

    SLAFConverter().convert(shared_data / "reference_small.h5ad", tmp_path / "large_dataset.slaf")
    return str(tmp_path / "large_dataset.slaf")


def test_query(path):
    from slaf import SLAFArray

    slaf_array = SLAFArray(path)
    results = slaf_array.query("""
        SELECT cell_type, AVG(total_counts) as avg_counts
        FROM cells
        WHERE batch = "b1" AND cell_type IN ("T cell", "B cell")
        GROUP BY cell_type ORDER BY avg_counts DESC
    """)

    obs = slaf_array.obs.to_pandas()
    some = obs[(obs.batch == "b1") & obs.cell_type.isin(["T cell", "B cell"])]
    means = some.groupby("cell_type", observed=True).total_counts.mean()
    means = means.sort_values(ascending=False)
    assert results["cell_type"].to_list() == means.index.to_list()
    assert results["avg_counts"].to_list() == pytest.approx(means.to_list())


def test_anndata(path, shared_data):
    import anndata
    import numpy as np

    from slaf.integrations import read_slaf

    adata = read_slaf(path)
    subset = adata[adata.obs.cell_type == "T cell", :]
    first_ten_cells = subset[:10, :]
    expression = first_ten_cells.X.compute()

    original = anndata.read_h5ad(shared_data / "reference_small.h5ad")
    expected = original[original.obs.cell_type == "T cell", :][:10, :].X
    np.testing.assert_array_equal(expression.toarray(), expected.toarray())


def test_converter(tmp_path, shared_data):
    import anndata

    from slaf.data import SLAFConverter

    input_path, output_path = shared_data / "reference_small.h5ad", tmp_path / "output.slaf"
    adata = anndata.read_h5ad(input_path)
    SLAFConverter().convert(input_path, output_path)
    SLAFConverter().convert_anndata(adata, tmp_path / "out2.slaf")

    from slaf import SLAFArray

    assert SLAFArray(output_path).shape == SLAFArray(tmp_path / "out2.slaf").shape == adata.shape
