"""Models of scvi-tools on cells of a store, against the same models on an AnnData."""

import numpy as np
import pandas as pd
import pytest
from loading import made, stored

import slaf
from slaf.integrations import read_slaf

scvi = pytest.importorskip("scvi", reason="scvi-tools is not installed")
torch = pytest.importorskip("torch", reason="torch is not installed")

# Of scvi-tools, Lightning and what they import.
pytestmark = pytest.mark.filterwarnings("ignore")

KEYS = {
    "batch_key": "drug",
    "labels_key": "line",
    "size_factor_key": "depth",
    "categorical_covariate_keys": ["good", "plate"],
    "continuous_covariate_keys": ["rank"],
}
CHECKED = ["X", "batch", "labels", "size_factor", "extra_categorical_covs", "extra_continuous_covs"]


@pytest.fixture(scope="module")
def adata():
    adata = made()
    adata.obs["depth"] += 1
    adata.obs["plate"] = pd.Categorical([f"p{i % 4}" for i in range(adata.n_obs)])
    return adata


@pytest.fixture(scope="module")
def array(tmp_path_factory, adata):
    return stored(tmp_path_factory.mktemp("scvi"), adata)


def module(array, **options):
    from slaf.ml.scvi import SLAFScviDataModule

    return SLAFScviDataModule(array, **{**KEYS, "batch_size": 16, **options})


def plain(value):
    """Nested dictionaries with lists for arrays."""
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple, np.ndarray, pd.Index)):
        return [plain(v) for v in value]
    return value


@pytest.mark.parametrize("keys", [KEYS, {}, {"batch_key": "drug", "layer": "twice"}], ids=str)
def test_the_registry_is_that_of_an_anndata(array, adata, keys):
    copied = adata.copy()
    scvi.model.SCVI.setup_anndata(copied, **keys)
    expected = scvi.model.SCVI(copied).registry
    got = module(array, **{**dict.fromkeys(["batch_key", "labels_key", "size_factor_key"]),
                           "categorical_covariate_keys": (), "continuous_covariate_keys": (),
                           **keys}).registry  # fmt: skip
    assert got["setup_args"] == expected["setup_args"]
    for field in CHECKED:
        a, b = (plain(r["field_registries"].get(field)) for r in (got, expected))
        assert a == b, field


def test_batches_are_those_of_an_anndata(array, adata):
    copied = adata.copy()
    scvi.model.SCVI.setup_anndata(copied, **KEYS)
    theirs = scvi.model.SCVI(copied)._make_data_loader(copied, batch_size=16)
    ours = module(array).inference_dataloader()
    assert len(ours) == 7
    for a, b in zip(ours, theirs, strict=True):
        for key in a:
            assert a[key].dtype == b[key].dtype or key == "extra_categorical_covs", key
            np.testing.assert_allclose(a[key], b[key], err_msg=key)


def test_a_model_learns_and_is_saved(array, adata, tmp_path):
    scvi.settings.seed = 0
    data = module(array)
    assert (data.n_obs, data.n_vars, data.n_train + data.n_val) == (101, 23, 101)
    model = scvi.model.SCVI(registry=data.registry, n_latent=3, n_hidden=16)
    model.train(
        datamodule=data, max_epochs=30, accelerator="cpu", check_val_every_n_epoch=1,
        enable_progress_bar=False, logger=None, plan_kwargs={"lr": 0.01},
    )  # fmt: skip
    history = model.history["elbo_train"].to_numpy().ravel()
    assert len(history) == 30
    assert history[-1] < 0.9 * history[0]
    assert len(model.history["elbo_validation"]) == 30
    latent = model.get_latent_representation(dataloader=data.inference_dataloader())
    assert latent.shape == (101, 3)
    some = model.get_latent_representation(dataloader=data.inference_dataloader(cells=[7, 3]))
    np.testing.assert_allclose(some, latent[[7, 3]], rtol=1e-4, atol=1e-5)

    model.save(tmp_path / "model")
    loaded = scvi.model.SCVI.load(tmp_path / "model", adata=read_slaf(array.path).compute())
    np.testing.assert_allclose(loaded.get_latent_representation(), latent, rtol=1e-4, atol=1e-5)
    again = scvi.model.SCVI.load(tmp_path / "model")
    latent_again = again.get_latent_representation(dataloader=data.inference_dataloader())
    np.testing.assert_allclose(latent_again, latent, rtol=1e-4, atol=1e-5)


def test_cells_without_a_batch(array):
    with pytest.raises(slaf.InvalidArgumentError, match="'donor' is missing for 10 cells"):
        module(array, batch_key="donor")
    data = module(array, batch_key="donor", where="donor IS NOT NULL")
    assert data.n_obs == 91


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size_factor_key": "line", "labels_key": None}, "is String and not numeric"),
        ({"size_factor_key": "rank", "batch_key": "rank"}, "categories and numbers"),
        ({"dense": False}, "dense: a model of scvi-tools leaves no choice"),
    ],
    ids=str,
)
def test_what_models_do_not_take(array, options, message):
    with pytest.raises(slaf.InvalidArgumentError, match=message):
        module(array, **options)
