"""A store and the same data set in memory, changed alike in random order, stay the same.

Every change is one of the growing, the rewriting and the versions; the other side is AnnData and
pandas. After each the whole data set, every older version and some reads by gene are compared.
"""

import warnings

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from helpers import assert_same

from slaf import SLAFArray
from slaf.data import SLAFConverter
from slaf.integrations import read_slaf

GENES = 7


def cells_of(rng: np.random.Generator, n: int, first: int, like: ad.AnnData | None) -> ad.AnnData:
    """New cells; those of a data set that exists have its slots."""
    counts = sp.random(n, GENES, 0.4, format="csr", random_state=rng, dtype=np.float32)
    counts.data = np.ceil(counts.data * 9).astype(np.float32)
    names = [f"cell{first + i}" for i in range(n)]
    adata = ad.AnnData(
        counts,
        obs=pd.DataFrame(index=pd.Index(names)),
        var=pd.DataFrame(index=pd.Index([f"gene{i}" for i in range(GENES)])),
    )
    if like is None:
        adata.obs["depth"] = rng.integers(0, 9, n)
        adata.obs["score"] = np.where(rng.random(n) < 0.3, np.nan, rng.normal(size=n))
        adata.obs["type"] = pd.Categorical(rng.choice(["a", "b'", 'c"'], n))
        adata.obsm["X_pca"] = rng.normal(size=(n, 3))
        adata.layers["twice"] = counts * 2
        return adata
    for name, column in like.obs.items():
        if isinstance(column.dtype, pd.CategoricalDtype):
            codes = rng.integers(len(column.cat.categories), size=n)
            adata.obs[name] = pd.Categorical.from_codes(codes, dtype=column.dtype)
        else:
            adata.obs[name] = rng.integers(0, 9, n).astype(column.dtype)
    for name, array in like.obsm.items():
        adata.obsm[name] = rng.normal(size=(n, array.shape[1]))
    for name in like.layers:
        if name is not None:
            adata.layers[name] = counts * 3
    return adata


class Life:
    """Both sides, and what each version held."""

    def __init__(self, rng: np.random.Generator, folder) -> None:
        self.rng, self.folder = rng, folder
        self.path = folder / "a.slaf"
        self.memory = cells_of(rng, 12, 0, None)
        self.born = 12
        # Of each cell of a panel, the genes that it has.
        self.panels: dict[str, np.ndarray] = {}
        SLAFConverter().convert_anndata(self.memory, self.path)
        self.array = SLAFArray(self.path)
        self.versions = {1: self.memory.copy()}
        self.made = 0

    def name(self) -> str:
        self.made += 1
        return str(self.rng.choice(["n", "ü ", 'q"', "s'x"])) + str(self.made)

    def condition(self) -> tuple[str, np.ndarray]:
        obs = self.memory.obs
        limit = int(self.rng.integers(0, 9))
        choices = [
            (f"depth = {limit}", obs["depth"] == limit),
            (f"score > {limit / 9}", obs["score"] > limit / 9),
            ("type = 'b'''", obs["type"] == "b'"),
            ("gene3 > 2", self.memory.X[:, [3]].toarray()[:, 0] > 2),
        ]
        text, mask = choices[self.rng.integers(len(choices))]
        return text, np.asarray(mask, dtype=bool)

    def without(self, mask: np.ndarray) -> ad.AnnData:
        """Some cells; the categories stay, as a store has them for all versions."""
        part = self.memory[~mask].copy()
        for name, column in self.memory.obs.items():
            if isinstance(column.dtype, pd.CategoricalDtype):
                part.obs[name] = part.obs[name].cat.set_categories(column.cat.categories)
        return part

    # The changes.

    def delete(self) -> None:
        condition, mask = self.condition()
        before = self.array.version
        self.array.delete_cells(condition)
        assert self.array.version == before + bool(mask.any())
        self.memory = self.without(mask)

    def optimize(self) -> None:
        self.array.optimize(force=bool(self.rng.integers(2)))

    def append(self) -> None:
        new = cells_of(self.rng, int(self.rng.integers(1, 6)), self.born, self.memory)
        self.born += new.n_obs
        genes = self.rng.permutation(GENES)[: self.rng.choice([GENES, 3])]
        panel = np.isin(np.arange(GENES), genes)
        new.X = new.X @ sp.diags_array(panel.astype(np.float32), format="csr")
        new.X.eliminate_zeros()
        for name in list(new.layers):
            new.layers[name] = new.X * 3
        self.panels |= dict.fromkeys(new.obs_names, panel)
        self.array.append(new[:, genes].copy())
        united = ad.concat([self.memory, new], uns_merge="first")
        united.var = self.memory.var
        for name, column in self.memory.obs.items():
            if isinstance(column.dtype, pd.CategoricalDtype):
                united.obs[name] = united.obs[name].astype(column.dtype)
        united.varm = self.memory.varm
        self.memory = united

    def column(self) -> None:
        name, n = self.name(), self.memory.n_obs
        values = self.rng.integers(0, 99, n).astype(self.rng.choice(["i1", "f4", "u8", "f8"]))
        self.array.add_obs({name: values})
        self.memory.obs[name] = values

    def categories(self) -> None:
        name = self.name()
        values = pd.Categorical(self.rng.choice(["x", "y"], self.memory.n_obs))
        frame = pd.DataFrame({name: values}, index=self.memory.obs_names)
        self.array.add_obs(frame)
        self.memory.obs[name] = values

    def of_genes(self) -> None:
        name = self.name()
        values = self.rng.normal(size=GENES)
        self.array.add_var({name: values})
        self.memory.var[name] = values

    def layer(self) -> None:
        name = self.name()
        values = self.memory.X * 5
        self.array.add_layer(name, values)
        self.memory.layers[name] = values

    def embedding(self) -> None:
        name = self.name()
        values = self.rng.normal(size=(self.memory.n_obs, 2))
        self.array.add_embedding(name, values)
        self.memory.obsm[name] = values

    def drop(self) -> None:
        names = [name for name in self.memory.obs if name not in ("depth", "score", "type")]
        slots = [(f"obs/{name}", self.memory.obs, name) for name in names]
        slots += [(f"obsm/{name}", self.memory.obsm, name) for name in self.memory.obsm]
        slots += [(f"layers/{n}", self.memory.layers, n) for n in self.memory.layers if n]
        if slots:
            slot, owner, name = slots[self.rng.integers(len(slots))]
            self.array.drop(slot)
            del owner[name]

    def rename(self) -> None:
        names = [name for name in self.memory.obs if name not in ("depth", "score", "type")]
        if names:
            old, new = names[self.rng.integers(len(names))], self.name()
            self.array.rename(f"obs/{old}", new)
            self.memory.obs.rename(columns={old: new}, inplace=True)

    def save(self) -> None:
        lazy = read_slaf(self.path)
        values = self.rng.normal(size=self.memory.n_obs)
        for adata in (lazy, self.memory):
            adata.obs["saved"] = values
            adata.obs["depth"] = adata.obs["depth"] % 7
            adata.uns["note"] = {"of": np.array([self.made])}
        lazy.save()
        self.array.refresh()

    def rollback(self) -> None:
        version = int(self.rng.choice(list(self.versions)))
        self.array.rollback(version)
        self.memory = self.versions[version].copy()

    def part(self) -> None:
        """Goes on in a new store of some of the cells."""
        condition, mask = self.condition()
        if mask.any():
            self.made += 1
            self.path = self.folder / f"part{self.made}.slaf"
            self.array.filter(condition, self.path)
            self.array = SLAFArray(self.path)
            self.memory = self.without(~mask)
            self.versions = {}

    # What must hold.

    def compare(self) -> None:
        assert_same(read_slaf(self.path).to_memory(), self.memory)
        expected = self.memory.X
        gene = int(self.rng.integers(GENES))
        assert (self.array.to_csr(genes=[gene]) != expected[:, [gene]]).nnz == 0
        total = self.array.query("SELECT COALESCE(SUM(value), 0) AS s FROM expression")["s"][0]
        assert total == expected.sum()
        sums = np.asarray(read_slaf(self.path).X.sum(axis=0)).ravel()
        np.testing.assert_array_equal(sums, np.asarray(expected.sum(axis=0)).ravel())
        everything = np.ones(GENES, dtype=bool)
        panels = [self.panels.get(cell, everything) for cell in self.memory.obs_names]
        np.testing.assert_array_equal(self.array.is_measured(), np.reshape(panels, (-1, GENES)))
        self.versions[self.array.version] = self.memory.copy()


CHANGES = (
    "delete",
    "optimize",
    "append",
    "append",
    "column",
    "categories",
    "of_genes",
    "layer",
    "embedding",
    "drop",
    "rename",
    "save",
    "rollback",
    "part",
)


@pytest.mark.parametrize("rows", ["3", "1000"])
@pytest.mark.parametrize("seed", range(4))
def test_changes_in_any_order(tmp_path, monkeypatch, seed, rows):
    monkeypatch.setenv("SLAF_BATCH_ROWS", rows)
    monkeypatch.setenv("SLAF_FRAGMENT_ROWS", rows)
    rng = np.random.default_rng([seed, int(rows)])
    life = Life(rng, tmp_path)
    done = []
    for _ in range(12):
        change = CHANGES[rng.integers(len(CHANGES))]
        done.append(change)
        with warnings.catch_warnings():
            warnings.filterwarnings("error")
            getattr(life, change)()
        life.compare()
    for version, expected in life.versions.items():
        assert_same(read_slaf(life.path, version=version).to_memory(), expected)
    assert life.array.verify() == [], done
