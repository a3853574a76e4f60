"""Cells that are appended, compared with what anndata's concat makes of the same data."""

import threading

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from processes import run_slaf

import slaf
from slaf import SLAFArray
from slaf.data import SLAFConverter
from slaf.integrations import read_slaf


def sample(n, genes, seed, dtype=np.float32, **obs):
    rng = np.random.default_rng(seed)
    X = sp.random(n, len(genes), 0.4, "csr", rng=rng, data_rvs=lambda k: rng.integers(1, 300, k))
    names = [f"s{seed}c{i}" for i in range(n)]
    frame = pd.DataFrame(obs, index=names)
    adata = ad.AnnData(X.astype(dtype), frame, pd.DataFrame(index=list(genes)))
    adata.obsm["X_pca"] = rng.normal(size=(n, 3)).astype(np.float32)
    adata.layers["counts"] = adata.X * 2
    return adata


@pytest.fixture
def two():
    first = sample(
        30,
        "abcdef",
        1,
        cat=pd.Categorical(["x", "y", None] * 10, ["y", "x", "unused"]),
        number=np.arange(30),
        only_first=np.arange(30, dtype=np.int32),
        text=[f"t{i % 4}" for i in range(30)],
        flag=np.arange(30) % 2 == 0,
    )
    second = sample(
        20,
        "cdefgh",
        2,
        cat=pd.Categorical(["z", "x"] * 10),
        number=np.arange(20) / 4,
        only_second=[f"o{i}" for i in range(20)],
        fraction=np.arange(20) / 8,
        text=[f"u{i}" for i in range(20)],
        flag=np.arange(20) % 3 == 0,
    )
    return first, second


def stored(adata, path):
    SLAFConverter().convert_anndata(adata, path)
    return SLAFArray(path)


def assert_concat(path, parts, **options):
    found = read_slaf(path).to_memory()
    expected = ad.concat(parts, join="outer", fill_value=0, **options)
    assert list(found.obs_names) == list(expected.obs_names)
    assert sorted(found.var_names) == sorted(expected.var_names)
    expected = expected[:, found.var_names]
    for of, other in [(found.X, expected.X), (found.layers["counts"], expected.layers["counts"])]:
        np.testing.assert_array_equal(of.toarray(), sp.csr_matrix(other).toarray())
    np.testing.assert_array_equal(found.obsm["X_pca"], expected.obsm["X_pca"])
    columns = {c for part in parts for c in part.obs}
    for name in columns:
        values = pd.concat(
            [
                p.obs[name].astype(object)
                if name in p.obs
                else pd.Series(None, p.obs.index, dtype=object)
                for p in parts
            ]
        )
        ours = found.obs[name].astype(object)
        same = (ours == values) | (ours.isna() & values.isna())
        assert same.all(), (name, found.obs[name].dtype)
    return found


def test_append_is_concat(tmp_path, two):
    first, second = two
    array = stored(first, tmp_path / "a.slaf")
    report = array.append(second)
    assert (report.version, array.version, array.shape) == (2, 2, (50, 8))
    found = assert_concat(tmp_path / "a.slaf", [first, second])
    assert list(found.var_names) == list("abcdefgh")
    assert list(found.obs["cat"].cat.categories) == ["y", "x", "unused", "z"]
    assert (found.obs["number"].dtype, str(found.obs["only_first"].dtype)) == (float, "Int32")
    # Questions about genes that the first cells do not have.
    g = array.query("SELECT SUM(value) AS s, COUNT(*) AS n FROM expression WHERE gene_id = 'g'")
    assert g["s"][0] == second[:, "g"].X.sum()
    assert array.get_gene_expression("h")["value"].sum() == second[:, "h"].X.sum()
    totals = array.query("SELECT gene_id, SUM(value) AS s FROM expression GROUP BY gene_id")
    for gene, total in totals.rows():
        assert total == found[:, gene].X.sum()
    # The version before is as it was.
    old = read_slaf(tmp_path / "a.slaf", version=1).to_memory()
    assert (old.X != first.X).nnz == 0
    pd.testing.assert_frame_equal(old.obs, first.obs)


def test_append_again_and_grow_between(tmp_path, two):
    first, second = two
    array = stored(first, tmp_path / "a.slaf")
    array.add_obs({"cluster": pd.Categorical(["k"] * 30)})
    array.drop("obs/text")
    first.obs["cluster"] = pd.Categorical(["k"] * 30)
    del first.obs["text"]
    array.append(second)
    array.add_obs({"later": np.arange(50)})
    first.obs["later"], second.obs["later"] = np.arange(30), np.arange(30, 50)
    third = sample(5, "ab", 3, later=np.arange(5), text=list("vwxyz"))
    array.append(third)
    assert_concat(tmp_path / "a.slaf", [first, second, third])
    array.rollback(1)
    assert array.shape == (30, 6)


@pytest.mark.filterwarnings("ignore:Observation names are not unique")
def test_sources_of_every_kind(tmp_path, two):
    first, second = two
    second.write_h5ad(tmp_path / "b.h5ad")
    stored(second, tmp_path / "b.slaf")
    array = stored(first, tmp_path / "a.slaf")
    array.append(tmp_path / "b.h5ad")
    array.append(str(tmp_path / "b.slaf"))
    array.append(SLAFArray(tmp_path / "b.slaf"))
    array.append(read_slaf(tmp_path / "b.slaf"))
    array.append([tmp_path / "b.h5ad", tmp_path / "b.slaf"])
    assert_concat(tmp_path / "a.slaf", [first] + [second] * 6)
    with pytest.raises(slaf.InvalidArgumentError, match="not a int"):
        array.append(3)
    with pytest.raises(slaf.NotFoundError):
        array.append(tmp_path / "nothing.h5ad")
    (tmp_path / "x.h5ad").write_bytes(b"no hdf5")
    with pytest.raises(slaf.SlafError):
        array.append(tmp_path / "x.h5ad")
    assert array.refresh() == 6


@pytest.mark.filterwarnings("ignore:Observation names are not unique")
def test_a_store_is_appended_in_the_version_that_is_shown(tmp_path, two):
    first, second = two
    other = stored(second, tmp_path / "b.slaf")
    other.append(first)
    old = SLAFArray(tmp_path / "b.slaf", version=1)
    array = stored(first, tmp_path / "a.slaf")
    array.append(old)
    assert array.append([old, tmp_path / "b.slaf"]).n_cells == 30 + 20 + 20 + 50
    assert_concat(tmp_path / "a.slaf", [first, second, second, second, first])
    # So is the store itself.
    SLAFArray(tmp_path / "a.slaf").append(SLAFArray(tmp_path / "a.slaf", version=1))
    assert array.refresh() == 4
    assert array.obs["cell_id"].to_list()[-30:] == list(first.obs_names)


def test_names_of_sources(tmp_path, two):
    first, second = two
    array = stored(first, tmp_path / "a.slaf")
    array.append(second, source_name="night 2")
    source = read_slaf(tmp_path / "a.slaf").obs["source"]
    assert source.isna().sum() == 30
    assert set(source[30:]) == {"night 2"}
    second.write_h5ad(tmp_path / "b.h5ad")
    array.append(tmp_path / "b.h5ad")
    assert read_slaf(tmp_path / "a.slaf").obs["source"].iloc[-1].endswith("b.h5ad")
    second.obs["source"] = "mine"
    with pytest.raises(slaf.InvalidArgumentError, match="source"):
        array.append(second, source_name="x")
    array.append(second)
    assert read_slaf(tmp_path / "a.slaf").obs["source"].iloc[-1] == "mine"


@pytest.mark.parametrize("name", ["a\0b", "night\n2", "\x1b[2J"])
def test_control_characters_in_names_are_refused(tmp_path, two, name):
    first, second = two
    array = stored(first, tmp_path / "a.slaf")
    with pytest.raises(slaf.InvalidArgumentError, match="source_name") as error:
        array.append(second, source_name=name)
    assert name not in str(error.value)
    with pytest.raises(slaf.InvalidArgumentError, match="control character"):
        array.tag(name)
    second.write_h5ad(tmp_path / "b.h5ad")
    with pytest.raises(slaf.InvalidArgumentError, match="source_column"):
        SLAFConverter(source_column=name).convert([tmp_path / "b.h5ad"] * 2, tmp_path / "b.slaf")
    assert array.refresh() == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.slaf", "b.h5ad"]


def test_what_only_one_side_has_is_refused_by_name(tmp_path, two):
    first, second = two
    first.obsm["X_umap"] = np.ones((30, 2))
    first.obsp["graph"] = sp.eye(30, format="csr")
    del second.layers["counts"]
    array = stored(first, tmp_path / "a.slaf")
    with pytest.raises(slaf.InputError) as error:
        array.append(second)
    for name in ("obsm/X_umap", "obsp/graph of the store", "layers/counts", "--allow-loss"):
        assert name in str(error.value)
    assert "hold the store" not in str(error.value)
    assert array.refresh() == 1
    array.append(second, allow_loss=True)
    found = read_slaf(tmp_path / "a.slaf")
    assert (list(found.obsm), list(found.layers), list(found.obsp)) == (["X_pca"], [], [])
    assert found.shape == (50, 8)


@pytest.mark.parametrize("dense", [False, True])
def test_a_layer_of_one_side_is_filled_on_request(tmp_path, two, dense):
    """Whichever side has it; what stands for no values is on record."""
    first, second = two
    first.layers["spliced"] = first.X * 3
    second.layers["spliced"] = second.X * 5 / 4
    if dense:
        second.layers["spliced"] = second.layers["spliced"].toarray()
    for number, sides in enumerate(([first], [second], [])):
        path = tmp_path / f"{number}.slaf"
        parts = [part.copy() for part in two]
        for part, mine in zip(parts, two, strict=True):
            if not any(mine is side for side in sides):
                del part.layers["spliced"]
        array = stored(parts[0], path)
        report = array.append(parts[1], fill_layers=True)
        found = read_slaf(path).to_memory()
        assert_concat(path, parts)
        assert array.verify() == []
        if not sides:
            assert list(found.layers) == ["counts"]
            assert "by_source" not in found.uns
            continue
        for part in parts:
            here = found[part.obs_names, part.var_names].layers["spliced"]
            told = part.layers.get("spliced", sp.csr_matrix(part.shape))
            np.testing.assert_array_equal(here.toarray(), sp.csr_matrix(told).toarray())
        assert found.layers["spliced"].sum() == sides[0].layers["spliced"].sum()
        lacks, note = (
            ("AnnData", "AnnData") if sides[0] is first else ("the first 30 cells", "the store")
        )
        assert any(f"{note}: zeros in spliced" in told for told in report.notes)
        (told,) = found.uns["by_source"].values()
        assert (told["source"], list(told["absent_layers"])) == (lacks, ["spliced"])
        # It is a layer as any other one: of later cells, too.
        more = sample(5, "abc", 3, dtype=np.float64)
        more.layers["spliced"] = more.X / 8
        array.append(more)
        late = read_slaf(path)[-5:, list("abc")].layers["spliced"]
        np.testing.assert_array_equal(late.toarray(), more.layers["spliced"].toarray())
        sums = array.query("SELECT SUM(spliced) AS s FROM layers")["s"].item()
        assert sums == pytest.approx(found.layers["spliced"].sum() + more.layers["spliced"].sum())


def test_types_that_promote(tmp_path):
    counts = sample(10, "abc", 1, np.uint8)
    halves = sample(10, "abc", 2)
    halves.X.data += 0.5
    halves.layers["counts"] = halves.X
    negative = sample(10, "abc", 3, np.int16)
    negative.X.data *= -1
    array = stored(counts, tmp_path / "a.slaf")
    array.append(negative)
    array.append(halves)
    found = read_slaf(tmp_path / "a.slaf").to_memory()
    expected = sp.vstack([p.X.astype(np.float64) for p in (counts, negative, halves)])
    np.testing.assert_array_equal(found.X.toarray(), expected.toarray())
    large = sample(10, "abc", 4, np.int64)
    large.X.data[0] = 2**53 + 1
    array = stored(large, tmp_path / "b.slaf")
    with pytest.raises(slaf.InputError, match="rounded"):
        array.append(halves)


def test_uns(tmp_path, two):
    first, second = two
    first.uns = {"same": 1, "own": "a"}
    second.uns = {"same": 1, "own": "b", "new": [1, 2]}
    array = stored(first, tmp_path / "a.slaf")
    array.append(second, allow_loss=True)
    array.append(second, allow_loss=True)
    uns = read_slaf(tmp_path / "a.slaf").uns
    assert (uns["same"], uns["own"]) == (1, "a")
    assert sorted(uns["by_source"]) == ["0", "1"]
    for number in ("0", "1"):
        part = uns["by_source"][number]["uns"]
        assert (part["own"], list(part["new"]), sorted(part)) == ("b", [1, 2], ["new", "own"])


@pytest.mark.filterwarnings("ignore:Observation names are not unique")
def test_writers_at_once(tmp_path, two):
    first, second = two
    stored(first, tmp_path / "a.slaf")
    second.write_h5ad(tmp_path / "b.h5ad")

    def put(n):
        array = SLAFArray(tmp_path / "a.slaf")
        array.append(tmp_path / "b.h5ad") if n % 2 else array.set_uns(f"k{n}", n)

    threads = [threading.Thread(target=put, args=(n,)) for n in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    found = assert_concat(tmp_path / "a.slaf", [first, second, second])
    assert {"k0", "k2"} <= set(found.uns)


def test_command_line(tmp_path, two):
    first, second = two
    stored(first, tmp_path / "a.slaf")
    second.write_h5ad(tmp_path / "b.h5ad")
    files = [tmp_path / "a.slaf", tmp_path / "b.h5ad"]
    done = run_slaf("append", *files, "--join", "reference")
    assert done.returncode == 0, done.stderr
    assert "50 cells x 6 genes" in done.stdout
    assert "2 genes of inputs are left out" in done.stdout
    done = run_slaf("append", files[0])
    assert done.returncode == 2


def test_a_column_of_whole_numbers_takes_fractions_after_a_source_without_it(tmp_path):
    def cells(prefix, **columns):
        obs = pd.DataFrame(columns, index=[f"{prefix}{i}" for i in range(3)])
        return ad.AnnData(sp.csr_matrix(np.eye(3, dtype=np.float32)), obs=obs)

    path = tmp_path / "s.slaf"
    SLAFConverter().convert_anndata(cells("a", num=[1, 2, 3]), path)
    array = SLAFArray(path)
    array.append(cells("b"))
    array.append(cells("c", num=[0.5, 1.5, 2.5]))
    expected = [1, 2, 3, np.nan, np.nan, np.nan, 0.5, 1.5, 2.5]
    np.testing.assert_array_equal(read_slaf(path).obs.copy()["num"].to_numpy(), expected)


def test_a_source_without_x_takes_x_out_of_the_next_version(two, tmp_path):
    first, second = two
    array = stored(first, tmp_path / "a.slaf")
    bare = ad.AnnData(None, second.obs, second.var, obsm={"X_pca": second.obsm["X_pca"]})
    with pytest.raises(slaf.InputError, match="X"):
        array.append(bare)
    array.append(bare, allow_loss=True)
    assert (array.version, array.shape) == (2, (50, 8))
    assert array.verify() == []
    found = read_slaf(array.path).to_memory()
    assert found.X is None
    assert list(found.obs_names) == [*first.obs_names, *second.obs_names]
    expected = np.vstack([first.obsm["X_pca"], second.obsm["X_pca"]])
    np.testing.assert_array_equal(found.obsm["X_pca"], expected)
    # It grows further, and the version before has X still.
    array.append(bare, allow_loss=True)
    assert array.optimize(force=True).rewritten
    assert array.verify() == []
    before = SLAFArray(array.path, version=1)
    assert (before.to_csr() != first.X).nnz == 0


def test_a_frame_of_obsm_goes_without_any_uns(two, tmp_path):
    first, second = two
    first.obsm["scores"] = pd.DataFrame({"p": np.arange(30.0)}, index=first.obs_names)
    array = stored(first, tmp_path / "a.slaf")
    with pytest.raises(slaf.InputError, match="obsm/scores"):
        array.append(second)
    array.append(second, allow_loss=True)
    found = read_slaf(array.path).to_memory()
    assert (found.n_obs, list(found.obsm), dict(found.uns)) == (50, ["X_pca"], {})
    before = read_slaf(array.path, version=1).to_memory()
    pd.testing.assert_frame_equal(before.obsm["scores"], first.obsm["scores"])
    assert array.verify() == []


def test_a_damaged_store_is_named_once(two, tmp_path, monkeypatch):
    first, second = two
    array = stored(first, tmp_path / "a.slaf")
    broken = stored(second, tmp_path / "broken.slaf")
    for path in (tmp_path / "broken.slaf").glob("cells-*/data/*"):
        path.write_bytes(path.read_bytes()[:100])
    monkeypatch.chdir(tmp_path)
    with pytest.raises(slaf.CorruptError) as error:
        array.append("broken.slaf")
    assert str(error.value).count("broken.slaf") == 1
    assert broken.path in str(error.value)
    assert array.refresh() == 1
