"""A store in an object store."""

import subprocess

import pytest
from helpers import assert_same
from processes import SLAF

import slaf
from slaf import SLAFArray
from slaf.data import SLAFConverter
from slaf.integrations import read_slaf


def test_a_store_on_s3(s3, h5ad_path, original):
    path = "s3://bucket/folder/small.slaf"
    SLAFConverter(storage_options=s3).convert(h5ad_path, path)
    array = SLAFArray(path, storage_options=s3)
    assert array.shape == (6, 4)
    assert array.query("SELECT SUM(value) AS s FROM expression")["s"][0] == 46
    assert array.filter_cells(batch="b2")["cell_id"].to_list() == ["cell3", "cell4"]
    lazy = read_slaf(path, storage_options=s3)
    assert_same(
        lazy[::-2, ["gene3", "gene0"]].to_memory(), original[::-2, ["gene3", "gene0"]].copy()
    )
    assert_same(lazy.to_memory(), original)
    with pytest.raises(slaf.AlreadyExistsError):
        SLAFConverter(storage_options=s3).convert(h5ad_path, path)


def test_an_object_goes_to_s3(s3, original):
    path = "s3://bucket/object.slaf"
    SLAFConverter(storage_options=s3).convert_anndata(original, path)
    assert_same(read_slaf(path, storage_options=s3).to_memory(), original)


def test_nothing_on_s3(s3):
    with pytest.raises(slaf.NotFoundError):
        SLAFArray("s3://bucket/nothing.slaf", storage_options=s3)


def test_other_things_on_s3(s3, h5ad_path):
    """A missing bucket is one line and no XML, a single file is named as such."""
    with pytest.raises(slaf.NotFoundError) as caught:
        SLAFArray("s3://no-such-bucket/a.slaf", storage_options=s3)
    assert "<" not in str(caught.value)
    assert "\n" not in str(caught.value)
    with pytest.raises(slaf.NotFoundError) as caught:
        SLAFConverter(storage_options=s3).convert(h5ad_path, "s3://no-such-bucket/a.slaf")
    assert "<" not in str(caught.value)
    assert "\n" not in str(caught.value)
    names = {"endpoint_url": "aws_endpoint", "region_name": "aws_region"}
    keys = ("aws_access_key_id", "aws_secret_access_key")
    options = {**{k: s3[v] for k, v in names.items()}, **{k: s3[k] for k in keys}}
    client = pytest.importorskip("boto3").client("s3", **options)
    client.upload_file(str(h5ad_path), "bucket", "folder/x.h5ad")
    for name in ("config.json", "expression.lance/data/a.lance"):
        client.put_object(Bucket="bucket", Key=f"set-of-slafdb/{name}", Body=b"{}")
    client.close()
    with pytest.raises(slaf.NotAStoreError, match=r"single file.*slaf convert"):
        read_slaf("s3://bucket/folder/x.h5ad", storage_options=s3)
    with pytest.raises(slaf.NotAStoreError, match=r"slafdb.*slaf convert"):
        read_slaf("s3://bucket/set-of-slafdb", storage_options=s3)


def test_the_secret_is_in_no_error(s3):
    wrong = {**s3, "aws_endpoint": "http://127.0.0.1:9", "aws_secret_access_key": "hunter2"}
    with pytest.raises(slaf.SlafError) as caught:
        SLAFArray("s3://bucket/a.slaf", storage_options={**wrong, "client_max_retries": "0"})
    assert "hunter2" not in str(caught.value)


def test_requests_are_counted(s3, h5ad_path):
    path = "s3://bucket/counted.slaf"
    SLAFConverter(storage_options=s3).convert(h5ad_path, path)
    array = SLAFArray(path, storage_options=s3)
    opened = array.io_stats()
    assert opened.requests == {"get": 1, "list": 1}
    assert opened.n_requests == 2
    assert opened.bytes_read > 1000
    assert opened.seconds > 0
    array.get_cell_expression("cell3")
    asked = array.io_stats() - opened
    assert set(asked.requests) <= {"get", "head"}
    assert asked.bytes_read > 0
    array.get_cell_expression("cell3")
    again = array.io_stats() - opened - asked
    assert again.n_requests <= 2
    assert again.cache_hits > 0
    options = [f"--storage-option={k}={v}" for k, v in s3.items()]
    command = [*SLAF, "query", path, "SELECT COUNT(*) FROM cells", "--stats", *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "requests (" in done.stderr
    assert "bytes read" in done.stderr
    assert "requests" not in done.stdout


def test_a_local_store_has_no_requests(store_path):
    array = SLAFArray(store_path)
    array.get_cell_expression("cell3")
    assert array.io_stats().requests == {}
