"""The loader for scvi-tools."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import polars as pl
import scipy.sparse as sp

from slaf import SLAFArray
from slaf._errors import invalid
from slaf._store import Key
from slaf.ml import _cells, _labels, _sources
from slaf.ml._batches import load
from slaf.ml.dataloaders import SLAFDataLoader
from slaf.ml.lightning import SLAFDataModule
from slaf.ml.samplers import Split

_scvi = load("scvi", "slaf.ml.scvi")

__all__ = ["SLAFScviDataModule"]


class SLAFScviDataModule(SLAFDataModule):
    """Cells of a store for a model of scvi-tools, which needs no AnnData then.

    Parameters
    ----------
    slaf_array
        The store, with counts in X or in `layer`; a lazy AnnData of it, or its path.
    batch_key, labels_key, categorical_covariate_keys
        Columns of obs, as in ``scvi.model.SCVI.setup_anndata``. They may be of any type; missing
        values are an error.
    size_factor_key, continuous_covariate_keys
        Numeric columns of obs.
    layer
        The layer to read in place of X.
    model
        The class of the model, whose ``setup_anndata`` says what it is told of the data;
        ``scvi.model.SCVI`` by default.
    split
        As in :class:`slaf.ml.lightning.SLAFDataModule`; 90 % for training and 10 % for validation
        by default.
    batch_size
        Cells of a batch.
    **options
        Of :class:`slaf.ml.dataloaders.SLAFDataLoader`.

    Raises
    ------
    InvalidArgumentError
        If a column has missing values, or is not numeric where it must be.
    UnknownNameError
        For a column or layer that is not there.
    UnsupportedError
        If scvi-tools is not installed.

    Notes
    -----
    Give :attr:`registry` to the model and the module to ``train``::

        module = SLAFScviDataModule(array, batch_key="donor")
        model = scvi.model.SCVI(registry=module.registry)
        model.train(datamodule=module, max_epochs=20)
        latent = model.get_latent_representation(dataloader=module.inference_dataloader())

    Methods of the model that take no ``dataloader`` need an AnnData: of some cells and all genes,
    ``scvi.model.SCVI.load(folder, adata=read_slaf(path)[cells].compute())``.
    """

    def __init__(
        self,
        slaf_array: _sources.One,
        batch_key: str | None = None,
        labels_key: str | None = None,
        size_factor_key: str | None = None,
        categorical_covariate_keys: Sequence[str] = (),
        continuous_covariate_keys: Sequence[str] = (),
        layer: str | None = None,
        model: Any = None,
        split: Split | None = None,
        batch_size: int = 128,
        **options: Any,
    ):
        self._batch_key, self._labels_key = batch_key, labels_key
        self._size_factor_key = size_factor_key
        self._categorical = list(categorical_covariate_keys)
        self._continuous = list(continuous_covariate_keys)
        encoded = [k for k in (batch_key, labels_key, *self._categorical) if k is not None]
        numeric = [k for k in (size_factor_key, *self._continuous) if k is not None]
        # A column may have several roles.
        columns = list(dict.fromkeys([*encoded, *numeric]))
        fixed = {"raw_mode", "dense", "obs_columns", "codes", "return_tensors", "dtype"}
        if taken := sorted(fixed & set(options)):
            raise invalid(f"{', '.join(taken)}: a model of scvi-tools leaves no choice")
        if both := sorted(set(encoded) & set(numeric)):
            raise invalid(f"{both} cannot be categories and numbers at once")
        key = Key("X") if layer is None else Key("layers", layer)
        sources = _sources.take(slaf_array, options.get("cells"), options.get("genes"), key)
        _sources.refuse_changed(sources, columns, options.get("where"), tokens=False)
        (pool,) = _cells.pools(sources, options.get("where"), None)
        categories = _categories(sources[0].array, pool, encoded, numeric)
        # As polars writes them.
        codes = {n: pl.Series(c).cast(pl.String).to_list() for n, c in categories.items()}
        super().__init__(
            slaf_array,
            Split(fractions={"train": 0.9, "val": 0.1}) if split is None else split,
            raw_mode=True,
            dense=True,
            dtype="float32",
            layer=layer,
            obs_columns=columns,
            codes=codes,
            batch_size=batch_size,
            **options,
        )
        train = self.train_dataloader()
        val = self.val_dataloader()
        self.n_obs = _cells.size(pool)
        self.n_train = train.n_cells
        self.n_val = val.n_cells if isinstance(val, SLAFDataLoader) else 0
        self.var_names = train.gene_ids
        self.n_vars = len(self.var_names)
        self.registry = self._registry(
            _scvi.model.SCVI if model is None else model, categories, layer
        )

    def _registry(
        self, model: Any, categories: Mapping[str, pd.Index[Any]], layer: str | None
    ) -> dict[str, Any]:
        """What the model would register of an AnnData: of one that has every category."""
        # Fewer than three cells of a category are worth a warning to scvi-tools.
        n = 3 * max([1, *map(len, categories.values())])
        obs = pd.DataFrame(index=[str(i) for i in range(n)])
        for name, labels in categories.items():
            obs[name] = pd.Categorical.from_codes(np.arange(n) % len(labels), labels)
        for name in [*self._continuous, *filter(None, [self._size_factor_key])]:
            obs[name] = np.ones(n, np.float32)
        X = sp.csr_matrix(sp.csr_array((n, self.n_vars), dtype=np.float32))
        adata = ad.AnnData(X, obs, pd.DataFrame(index=self.var_names))
        if layer is not None:
            adata.layers[layer] = X
        setup: dict[str, Any] = {
            "layer": layer,
            "batch_key": self._batch_key,
            "labels_key": self._labels_key,
            "size_factor_key": self._size_factor_key,
            "categorical_covariate_keys": self._categorical or None,
            "continuous_covariate_keys": self._continuous or None,
        }
        with warnings.catch_warnings():
            # Of a matrix without counts.
            warnings.simplefilter("ignore")
            model.setup_anndata(adata, **{k: v for k, v in setup.items() if v is not None})
            registry = copy.deepcopy(dict(model(adata).registry))
        matrix = registry["field_registries"][_scvi.REGISTRY_KEYS.X_KEY]
        matrix["state_registry"]["n_obs"] = self.n_obs
        matrix["summary_stats"]["n_cells"] = self.n_obs
        return registry

    def on_before_batch_transfer(
        self, batch: dict[str, Any], dataloader_idx: int = 0
    ) -> dict[str, Any]:
        """Name a batch's tensors as the models do; called by Lightning."""
        import torch

        keys = _scvi.REGISTRY_KEYS
        zeros = torch.zeros((len(batch["cell_ids"]), 1), dtype=torch.int64)

        def one(name: str | None) -> Any:
            return zeros if name is None else batch[name][:, None]

        named = {
            keys.X_KEY: batch["x"],
            keys.BATCH_KEY: one(self._batch_key),
            keys.LABELS_KEY: one(self._labels_key),
        }
        if self._size_factor_key is not None:
            named[keys.SIZE_FACTOR_KEY] = one(self._size_factor_key).float()
        if self._categorical:
            named[keys.CAT_COVS_KEY] = torch.cat([one(k) for k in self._categorical], dim=1)
        if self._continuous:
            values = [one(k).float() for k in self._continuous]
            named[keys.CONT_COVS_KEY] = torch.cat(values, dim=1)
        return named

    def inference_dataloader(self, **options: Any) -> _Inference:
        """Give the cells of the whole store, in its order, for methods that take ``dataloader=``.

        Parameters
        ----------
        **options
            Of :class:`slaf.ml.dataloaders.SLAFDataLoader`, such as ``cells=`` or ``batch_size=``.
        """
        quiet: dict[str, Any] = {"shuffle": False, "drop_last": False, "sampler": None}
        loader = SLAFDataLoader(self._array, **{**self._options, **quiet, "n_epochs": 1, **options})
        return _Inference(self, loader)


class _Inference:
    """Batches as the models take them."""

    def __init__(self, module: SLAFScviDataModule, loader: SLAFDataLoader):
        self._module = module
        self._loader = loader

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for batch in self._loader:
            yield self._module.on_before_batch_transfer(batch)

    def __len__(self) -> int:
        return len(self._loader)


def _categories(
    array: SLAFArray, pool: _cells.Pool, encoded: Sequence[str], numeric: Sequence[str]
) -> dict[str, pd.Index[Any]]:
    """Give the categories of columns; checks that columns are what models take."""
    categories: dict[str, pd.Index[Any]] = {}
    chosen = np.arange(*pool) if isinstance(pool, tuple) else pool
    for name in dict.fromkeys([*encoded, *numeric]):
        column = _labels.column(array._store, name)
        if missing := column.gather(chosen).null_count():
            message = (
                f"obs column {name!r} is missing for {missing} cells: leave them out by `where=`"
            )
            raise invalid(message)
        if name in encoded:
            values: Any = column.drop_nulls().unique().sort().to_list()
            if _labels.is_label(column):
                values = _labels.labels_of(array._store, name, column)
            categories[name] = pd.Index(values)
        elif not column.dtype.is_numeric():
            raise invalid(f"obs column {name!r} is {column.dtype} and not numeric")
    return categories
