"""Stores in the object stores of Google and Microsoft, as `test_s3` has them in Amazon's."""

import base64
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

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
from slaf.ml.dataloaders import SLAFDataLoader

PROGRAM = Path(sys.executable).with_name("slaf")
# One character of the key, or of the token, is another one.
WRONG = {
    "gs": {"google_bearer_token": "another-token"},
    "az": {"azure_storage_account_key": base64.b64encode(b"another key").decode()},
}


@pytest.fixture(params=["gs", "az"])
def place(request):
    """The scheme of a store, and its options."""
    return request.param, request.getfixturevalue(request.param)


def command(*args, storage, **kwargs):
    given = [f"--storage-option={key}={value}" for key, value in storage.items()]
    done = subprocess.run(
        [PROGRAM, *args, *given], capture_output=True, text=True, timeout=120, **kwargs
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_store(place, h5ad_path, original):
    scheme, storage = place
    path = f"{scheme}://bucket/folder/small.slaf"
    SLAFConverter(storage_options=storage).convert(h5ad_path, path)
    array = SLAFArray(path, storage_options=storage)
    assert array.shape == original.shape
    total = array.query("SELECT SUM(value) AS s FROM expression")["s"][0]
    assert total == original.X.sum()
    expected = list(original.obs_names[original.obs["batch"] == "b2"])
    assert array.filter_cells(batch="b2")["cell_id"].to_list() == expected
    lazy = read_slaf(path, storage_options=storage)
    assert_same(
        lazy[::-2, ["gene3", "gene0"]].to_memory(), original[::-2, ["gene3", "gene0"]].copy()
    )
    assert_same(lazy.to_memory(), original)
    with pytest.raises(slaf.AlreadyExistsError):
        SLAFConverter(storage_options=storage).convert(h5ad_path, path)
    SLAFConverter(storage_options=storage, overwrite=True).convert(h5ad_path, path)
    assert_same(read_slaf(path, storage_options=storage).to_memory(), original)
    checked = SLAFArray(path, storage_options=storage, verify="first-touch")
    assert checked.query("SELECT SUM(value) AS s FROM expression")["s"][0] == total


def test_an_epoch(place, h5ad_path, original):
    scheme, storage = place
    path = f"{scheme}://bucket/epoch.slaf"
    SLAFConverter(storage_options=storage).convert(h5ad_path, path)
    loader = SLAFDataLoader(SLAFArray(path, storage_options=storage), batch_size=4, raw_mode=True)
    seen = np.concatenate([np.asarray(batch["cell_ids"]) for batch in loader])
    assert sorted(seen) == list(range(original.n_obs))


def test_export_and_verify(place, h5ad_path, original, tmp_path):
    scheme, storage = place
    path = f"{scheme}://bucket/exported.slaf"
    command("convert", h5ad_path, path, storage=storage)
    command("export", path, tmp_path / "back.h5ad", storage=storage)
    assert_same(ad.read_h5ad(tmp_path / "back.h5ad"), original)
    assert command("verify", path, storage=storage)
    asked = command(
        "query", path, "SELECT COUNT(*) AS n FROM cells", "--output=csv", storage=storage
    )
    assert asked.split() == ["n", "6"]


def test_files_of_several_parts(place):
    """Files above 5 MiB are uploaded in parts."""
    scheme, storage = place
    path = f"{scheme}://bucket/large.slaf"
    rng = np.random.default_rng(0)
    X = sp.random(3000, 2000, 0.5, "csr", "f4", rng=rng)
    adata = ad.AnnData(
        X,
        pd.DataFrame(index=[f"c{i}" for i in range(3000)]),
        pd.DataFrame(index=[f"g{i}" for i in range(2000)]),
    )
    SLAFConverter(storage_options=storage).convert_anndata(adata, path)
    back = SLAFArray(path, storage_options=storage).to_csr()
    assert (back != X).nnz == 0


def test_one_of_several_writers_wins(place, tmp_path):
    scheme, storage = place
    n_writers = 4
    for number in range(n_writers):
        obs = pd.DataFrame({"n": number}, index=[f"{number}-{i}" for i in range(30)])
        X = sp.csr_matrix(np.full((30, 5), number + 1, "f4"))
        ad.AnnData(X, obs=obs).write_h5ad(tmp_path / f"{number}.h5ad")
    for turn in range(3):
        path = f"{scheme}://bucket/writers-{turn}.slaf"
        start = threading.Barrier(n_writers)

        def convert(number, start=start, path=path):
            converter = SLAFConverter(storage_options=storage)
            start.wait(60)
            try:
                converter.convert(tmp_path / f"{number}.h5ad", path)
            except slaf.SlafError as e:
                return number, e.kind
            return number, None

        with ThreadPoolExecutor(n_writers) as pool:
            outcomes = dict(pool.map(convert, range(n_writers)))
        (winner,) = (n for n, kind in outcomes.items() if kind is None)
        assert {kind for kind in outcomes.values() if kind} <= {"already-exists", "conflict"}
        array = SLAFArray(path, storage_options=storage)
        assert array.version == 1
        assert set(array.obs["n"]) == {winner}
        assert set(array.to_csr().data) == {winner + 1}
        assert command("verify", path, storage=storage)


def test_what_is_not_there(place, h5ad_path):
    scheme, storage = place
    with pytest.raises(slaf.NotFoundError):
        SLAFArray(f"{scheme}://bucket/nothing.slaf", storage_options=storage)
    missing = f"{scheme}://no-such-bucket/a.slaf"
    for call in (
        lambda: SLAFArray(missing, storage_options=storage),
        lambda: SLAFConverter(storage_options=storage).convert(h5ad_path, missing),
    ):
        with pytest.raises(slaf.NotFoundError) as caught:
            call()
        assert missing in str(caught.value)
        assert "<" not in str(caught.value)
        assert "\n" not in str(caught.value)


def test_wrong_credentials(place, h5ad_path):
    scheme, storage = place
    path = f"{scheme}://bucket/denied.slaf"
    wrong = storage | WRONG[scheme]
    for call in (
        lambda: SLAFArray(path, storage_options=wrong),
        lambda: SLAFConverter(storage_options=wrong).convert(h5ad_path, path),
    ):
        with pytest.raises(slaf.PermissionDeniedError) as caught:
            call()
        assert caught.value.kind == "permission-denied"
        text = str(caught.value)
        assert path in text
        assert "<" not in text
        assert "\n" not in text
        assert not any(secret in text for secret in WRONG[scheme].values())


def test_a_single_file_is_no_store(place, h5ad_path):
    scheme, storage = place
    path = f"{scheme}://bucket/single.slaf"
    SLAFConverter(storage_options=storage).convert(h5ad_path, path)
    manifest = f"{path}/_slaf/versions/{1:020}.json"
    with pytest.raises(slaf.NotAStoreError, match=r"single file.*slaf convert"):
        read_slaf(manifest, storage_options=storage)
