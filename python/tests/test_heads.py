"""Heads of files in a bucket: what a handle asks for once to know where things are."""

import shutil
import threading
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from slaf import SLAFArray
from slaf.data import SLAFConverter

N = 60_000
COMPAT = Path(__file__).parents[2] / "compat/stores"


def sample(n, prefix, seed=5):
    rng = np.random.default_rng(seed)
    obs = pd.DataFrame({"u": rng.normal(size=n)}, index=[f"{prefix}-{i}" for i in range(n)])
    var = pd.DataFrame(index=[f"gene{i}" for i in range(40)])
    return ad.AnnData(sp.random(n, 40, 0.1, "csr", np.float32, random_state=rng), obs, var)


@pytest.fixture(scope="module")
def client(s3):
    import boto3

    return boto3.client(
        "s3",
        endpoint_url=s3["aws_endpoint"],
        aws_access_key_id=s3["aws_access_key_id"],
        aws_secret_access_key=s3["aws_secret_access_key"],
        region_name=s3["aws_region"],
    )


def keys(client, prefix):
    pages = client.get_paginator("list_objects_v2").paginate(Bucket="bucket", Prefix=prefix)
    return [item["Key"] for page in pages for item in page.get("Contents", [])]


def value(s3, address, row, **options):
    """A value of obs from a handle of its own, and the requests that it took."""
    array = SLAFArray(address, storage_options=s3, **options)
    before = array.io_stats().n_requests
    found = array.query("SELECT u FROM cells WHERE cell_integer_id = ?", [row])["u"][0]
    return found, array.io_stats().n_requests - before


@pytest.fixture(scope="module")
def cells():
    return sample(N, "a-rather-long-name-of-a-cell")


@pytest.fixture
def store(s3, client, cells, request):
    name = request.node.name
    SLAFConverter(storage_options=s3).convert_anndata(cells, f"s3://bucket/{name}.slaf")
    return f"s3://bucket/{name}.slaf", name


def test_tags_and_rollback_have_heads_of_their_own(s3, client, store, cells):
    address, name = store
    first = cells.obs["u"].to_numpy()
    array = SLAFArray(address, storage_options=s3)
    array.tag("before")
    array.add_obs({"u": -first}, overwrite=True)
    array.append(sample(500, "new"))
    for options, expected in [({"version": "before"}, first[7]), ({}, -first[7])]:
        found, requests = value(s3, address, 7, **options)
        assert found == expected
        # The heads, and the value.
        assert requests <= 2
    SLAFArray(address, storage_options=s3).rollback("before")
    assert value(s3, address, 7) == (first[7], 2)
    array = SLAFArray(address, storage_options=s3)
    array.gc(older_than=0, dry_run=False)
    assert array.verify() == []
    # Of the first version, its tag, and what was made of it: no file was new.
    assert len(keys(client, f"{name}.slaf/_slaf/heads/")) == 1


def test_missing_and_damaged_heads_cost_requests_alone(s3, client, store, cells):
    address, name = store
    expected = cells.obs["u"].to_numpy()[31_415]
    found, with_heads = value(s3, address, 31_415)
    assert found == expected
    (key,) = keys(client, f"{name}.slaf/_slaf/heads/")
    held = client.get_object(Bucket="bucket", Key=key)["Body"].read()
    damaged = bytearray(held)
    damaged[len(held) // 3] ^= 1
    for content in (None, b"", held[:77], bytes(damaged)):
        if content is None:
            client.delete_object(Bucket="bucket", Key=key)
        else:
            client.put_object(Bucket="bucket", Key=key, Body=content)
        found, requests = value(s3, address, 31_415)
        assert found == expected
        assert requests > with_heads
        (damage,) = SLAFArray(address, storage_options=s3).verify()
        assert key.endswith(damage.file)
    client.put_object(Bucket="bucket", Key=key, Body=held)
    assert value(s3, address, 31_415) == (expected, with_heads)
    assert SLAFArray(address, storage_options=s3).verify() == []


def test_writers_at_once_have_the_heads_of_all(s3, client, store, cells):
    address, _ = store
    names = [f"n{i}" for i in range(4)]
    errors = []

    def add(name, i):
        try:
            SLAFArray(address, storage_options=s3).add_obs({name: np.arange(N) * (i + 1.5)})
        except Exception as e:
            errors.append(e)

    threads = [threading.Thread(target=add, args=(name, i)) for i, name in enumerate(names)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    array = SLAFArray(address, storage_options=s3)
    assert array.verify() == []
    before = array.io_stats().n_requests
    sql = f"SELECT {', '.join(names)} FROM cells WHERE cell_integer_id = 1000"
    assert array.query(sql).row(0) == tuple(1000 * (i + 1.5) for i in range(4))
    # The heads, and a value of each file.
    assert array.io_stats().n_requests - before <= 5


def test_a_store_that_is_copied_into_a_bucket_has_its_heads(s3, client, tmp_path, cells):
    store = tmp_path / "copied.slaf"
    SLAFConverter().convert_anndata(cells, store)
    SLAFArray(store).add_obs({"v": np.arange(N)})
    upload(client, store, "copied.slaf")
    found, requests = value(s3, "s3://bucket/copied.slaf", 5)
    assert found == cells.obs["u"].iloc[5]
    assert requests <= 2


def upload(client, folder, name):
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    # Root manifests last.
    for path in sorted(files, key=lambda p: "versions" in p.parts and "_slaf" in p.parts):
        client.upload_file(str(path), "bucket", f"{name}/{path.relative_to(folder).as_posix()}")


def test_a_store_of_an_earlier_version_gets_heads_of_what_is_new(s3, client, tmp_path):
    store = tmp_path / "old.slaf"
    shutil.copytree(COMPAT / "layout-1.slaf", store)
    upload(client, store, "old.slaf")
    address = "s3://bucket/old.slaf"
    array = SLAFArray(address, storage_options=s3)
    n, _ = array.shape
    before = array.query("SELECT * FROM cells")
    array.add_obs({"fresh": np.arange(n)})
    assert len(keys(client, "old.slaf/_slaf/heads/")) == 1
    array = SLAFArray(address, storage_options=s3)
    assert array.query("SELECT * FROM cells").drop("fresh").equals(before)
    assert array.query("SELECT fresh FROM cells")["fresh"].to_list() == list(range(n))
    assert array.verify() == []
    assert SLAFArray(address, storage_options=s3, version=1).verify() == []
