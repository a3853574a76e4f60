"""Weighted, balanced and mixed sampling, and sets."""

import numpy as np
import pytest
from loading import N_CELLS, cells_of, made, stored

import slaf
from slaf.ml import Balanced, GeneformerTokenizer, Mixture, Sets, SLAFDataLoader, Weighted


@pytest.fixture(scope="module")
def adata():
    return made()


@pytest.fixture(scope="module")
def array(tmp_path_factory, adata):
    return stored(tmp_path_factory.mktemp("samplers"), adata)


def raw(array, **options):
    return SLAFDataLoader(array, raw_mode=True, return_tensors="numpy", **options)


def test_weighted(array, adata):
    weights = adata.obs.depth.to_numpy(np.float64)
    loaders = [
        raw(array, sampler=Weighted(weights, n=20_000), batch_size=500),
        raw(array, sampler=Weighted("depth", n=20_000), batch_size=500),
    ]
    cells, same = map(cells_of, loaders)
    np.testing.assert_array_equal(cells, same)
    expected = weights / weights.sum() * 20_000
    found = np.bincount(cells, minlength=N_CELLS)
    # Six standard deviations of a Poisson distribution.
    assert (np.abs(found - expected) <= 6 * np.sqrt(expected + 1)).all()
    once = cells_of(raw(array, sampler=Weighted(weights, replacement=False)))
    assert sorted(once) == np.flatnonzero(weights > 0).tolist()
    assert weights[once[:30]].mean() > weights[once[-30:]].mean()


def test_balanced(array, adata):
    loader = raw(array, sampler=Balanced("line", n=9000), where="rank > 20", batch_size=300)
    cells = cells_of(loader)
    shares = adata.obs.line.iloc[cells].value_counts()[["a", "b", "c"]].to_numpy()
    assert (np.abs(shares - 3000) < 6 * np.sqrt(3000)).all()
    assert (adata.obs["rank"].iloc[cells] > 20).all()
    donors = adata.obs.donor.iloc[cells_of(raw(array, sampler=Balanced("donor", n=500)))]
    assert donors.notna().all()


def test_wrong_weights(array):
    for sampler in (
        Weighted([1.0, 2.0]),
        Weighted(np.full(N_CELLS, -1.0)),
        Weighted(np.zeros(N_CELLS)),
        Weighted("line"),
        Weighted(np.ones(N_CELLS), n=200, replacement=False),
    ):
        with pytest.raises(slaf.InvalidArgumentError):
            raw(array, sampler=sampler)
    with pytest.raises(slaf.InvalidArgumentError):
        raw(array, sampler=Balanced("line"), shuffle=False)
    with pytest.raises(slaf.UnknownNameError):
        raw(array, sampler=Balanced("nothing"))


def test_mixed_stores(tmp_path, array, adata):
    other = made(n_cells=37, n_genes=30, seed=1, dtype=np.uint16)
    other = other[:, ::-1].copy()
    second = stored(tmp_path, other)
    sampler = Mixture([1, 3], n=4096)
    loader = raw([array, second], sampler=sampler, batch_size=64, obs_columns=["line"])
    assert loader.gene_ids == list(adata.var_names)
    expected = [adata.X.toarray(), other[:, adata.var_names].X.toarray()]
    seen = [[], []]
    for batch in loader:
        for i, (source, cell) in enumerate(
            zip(batch["source_ids"], batch["cell_ids"], strict=True)
        ):
            np.testing.assert_array_equal(batch["x"][i].toarray()[0], expected[source][cell])
            label = [adata, other][source].obs.line.iloc[cell]
            assert loader.codes["line"][batch["line"][i]] == label
            seen[source].append(cell)
    assert [len(s) for s in seen] == [1024, 3072]
    # Whole passes, and a part of one.
    assert set(np.bincount(seen[0])) == {10, 11}
    assert set(np.bincount(seen[1])) == {83, 84}
    dense = raw([array, second], sampler=sampler, batch_size=64, dense=True)
    for ours, theirs in zip(
        raw([array, second], sampler=sampler, batch_size=64), dense, strict=True
    ):
        np.testing.assert_array_equal(ours["x"].toarray(), theirs["x"])
    with pytest.raises(slaf.InvalidArgumentError):
        raw([array, second], sampler=Mixture([1, 2, 3]))
    with pytest.raises(slaf.InvalidArgumentError):
        raw([array, second], cells=[1])


def test_several_stores_one_after_the_other(tmp_path, array, adata):
    other = made(n_cells=40, n_genes=30, seed=1)[:, ::-1].copy()
    second = stored(tmp_path, other)
    options = {"max_genes": 7, "return_tensors": "numpy", "batch_size": 16}
    loader = SLAFDataLoader([array, second], where="good", **options)
    own = GeneformerTokenizer(array, max_genes=7)
    tokenizers = [own, own.for_array(second)]
    seen = []
    for batch in loader:
        for i, (source, cell) in enumerate(
            zip(batch["source_ids"], batch["cell_ids"], strict=True)
        ):
            expected = tokenizers[source].tokenize([cell])["input_ids"][0]
            np.testing.assert_array_equal(batch["input_ids"][i], expected)
            seen.append((source, cell))
    expected = [(0, c) for c in range(0, N_CELLS, 2)] + [(1, c) for c in range(0, 40, 2)]
    assert sorted(seen) == expected


def test_sets(array, adata):
    sampler = Sets("drug", "control", match=["line"], set_size=3, n_controls=2)
    loader = raw(array, sampler=sampler, batch_size=10)
    obs = adata.obs
    seen = []
    for batch in loader:
        np.testing.assert_array_equal(batch["is_control"][:5], [0, 0, 0, 1, 1])
        for cells in batch["cell_ids"].reshape(-1, 5):
            rows = obs.iloc[cells]
            assert rows.line.nunique() == 1
            assert rows.drug.iloc[:3].nunique() == 1
            assert (rows.drug.iloc[:3] != "control").all()
            assert (rows.drug.iloc[3:] == "control").all()
            seen += cells[:3].tolist()
    treated = np.flatnonzero(obs.drug != "control")
    assert set(seen) == set(treated)
    # Only the last set of a group repeats cells.
    assert len(seen) - len(treated) <= 2 * 6
    for wrong in (Sets("drug", "placebo"), Sets("drug", "control", set_size=0)):
        with pytest.raises(slaf.InvalidArgumentError):
            raw(array, sampler=wrong, batch_size=64)
    with pytest.raises(slaf.InvalidArgumentError, match="part sets"):
        raw(array, sampler=sampler, batch_size=12)


def test_samplers_resume(array):
    for sampler in (Weighted("depth"), Balanced("line", n=80), Sets("drug", "control", (), 4, 4)):
        loader = raw(array, sampler=sampler, batch_size=8)
        iterator = iter(loader)
        first = [next(iterator) for _ in range(3)]
        other = raw(array, sampler=sampler, batch_size=8)
        other.load_state_dict(loader.state_dict())
        whole = cells_of(raw(array, sampler=sampler, batch_size=8))
        np.testing.assert_array_equal(cells_of(first + list(other)), whole)
        with pytest.raises(slaf.ConflictError):
            raw(array, batch_size=8).load_state_dict(loader.state_dict())
