"""What questions cost in requests to an object store, and what is spared."""

import json
import os
import subprocess
import sys

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

import slaf
from slaf import CorruptError, SLAFArray
from slaf.data import SLAFConverter

N = 60_000
SQL = "SELECT cell_type, COUNT(*) AS n, AVG(total) AS mean FROM cells WHERE batch = 'b1' GROUP BY 1"


def name(i):
    return f"a-rather-long-name-of-a-cell-{i}"


@pytest.fixture(scope="module")
def large(s3, tmp_path_factory):
    """The address of a store whose names have an index, and the object that it is of."""
    rng = np.random.default_rng(1)
    obs = pd.DataFrame(
        {
            "cell_type": pd.Categorical.from_codes(rng.integers(0, 3, N), ["B", "NK", "T"]),
            "batch": [f"b{i % 4}" for i in range(N)],
            "total": rng.random(N),
        },
        index=[name(i) for i in range(N)],
    )
    x = sp.random(N, 40, 0.1, "csr", np.float32, random_state=rng)
    adata = ad.AnnData(x, obs, pd.DataFrame(index=[f"gene{i}" for i in range(40)]))
    path = tmp_path_factory.mktemp("large") / "large.h5ad"
    adata.write_h5ad(path)
    address = "s3://bucket/large.slaf"
    SLAFConverter(storage_options=s3).convert(path, address)
    return address, adata


def asked(array, question):
    """The answer, and what it took."""
    before = array.io_stats()
    answer = question()
    return answer, array.io_stats() - before


def test_questions_take_few_requests_and_again_none(s3, large):
    address, adata = large
    array = SLAFArray(address, storage_options=s3)
    assert array.io_stats().n_requests == 2

    def cell(i):
        return array.get_cell_expression(name(i))

    values, io = asked(array, lambda: cell(31_415))
    assert values["value"].sum() == pytest.approx(adata.X[31_415].sum(), rel=1e-6)
    # The index of names, the heads of all files, the name, where the row is and the row.
    assert io.n_requests <= 5
    assert io.bytes_read <= 1_000_000
    _, io = asked(array, lambda: cell(31_415))
    assert io.n_requests == 0
    assert io.cache_hits > 0
    _, io = asked(array, lambda: cell(50_000))
    assert io.n_requests <= 3

    frame, io = asked(array, lambda: array.query(SQL).sort("cell_type"))
    expected = adata.obs[adata.obs["batch"] == "b1"].groupby("cell_type", observed=True)["total"]
    assert frame["n"].to_list() == expected.size().to_list()
    np.testing.assert_allclose(frame["mean"], expected.mean())
    # What it needs of three columns lies side by side.
    assert io.n_requests <= 2
    again, io = asked(array, lambda: array.query(SQL).sort("cell_type"))
    assert again.equals(frame)
    assert io.n_requests == 0

    other = SLAFArray(address, storage_options=s3)
    column, io = asked(other, lambda: other.to_csr(genes=["gene7"]))
    assert (column != adata[:, "gene7"].X).nnz == 0
    # The heads, where the rows are, and the rows.
    assert io.n_requests <= 3
    _, io = asked(other, lambda: other.to_csr(genes=["gene7"]))
    assert io.n_requests == 0


def test_a_name_in_sql_reads_no_more_than_it_needs(s3, large):
    address, _ = large
    array = SLAFArray(address, storage_options=s3)
    sql = "SELECT cell_integer_id FROM cells WHERE cell_id = ?"
    frame, io = asked(array, lambda: array.query(sql, [name(59_999)]))
    assert frame["cell_integer_id"].to_list() == [59_999]
    assert io.bytes_read < 1_000_000
    frame, io = asked(array, lambda: array.query(sql, [name(60_000)]))
    assert len(frame) == 0


SCRIPT = """
import json, sys, warnings
warnings.simplefilter("ignore")
from slaf import SLAFArray
address, options, cell, sql = json.loads(sys.argv[1])
array = SLAFArray(address, storage_options=options)
values = array.get_cell_expression(cell)["value"].sum()
counts = array.query(sql).sort("cell_type")["n"].to_list()
print(json.dumps([values, counts, array.io_stats().n_requests]))
"""


def in_a_process(s3, address, folder, **environment):
    """What a process of its own answers, its number of requests, and what it logs."""
    arguments = json.dumps([address, s3, name(31_415), SQL])
    environment = {"SLAF_CACHE_DIR": str(folder), "SLAF_LOG": "warn", **environment}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    *answer, requests = json.loads(done.stdout)
    return answer, requests, done.stderr


def entries(folder):
    return [path for path in folder.rglob("*") if path.is_file()]


def test_processes_share_blocks_on_the_disk(s3, large, tmp_path):
    address, _ = large
    folder = tmp_path / "cache"
    first, requests, log = in_a_process(s3, address, folder)
    assert requests > 4
    assert "cannot be written" not in log
    # Only what may change is asked for: which version is the newest, and what it consists of.
    assert in_a_process(s3, address, folder)[:2] == (first, 2)
    there = entries(folder)
    assert there
    assert folder.stat().st_mode & 0o077 == 0
    # Neither the address nor the secret is in any name.
    for part in (part for path in there for part in path.relative_to(folder).parts):
        assert "bucket" not in part
        assert part == "blocks-1" or part.isdigit() or len(bytes.fromhex(part)) == 32
    # Damage is noticed, and what was damaged is read anew.
    for path in there:
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    again, more, _ = in_a_process(s3, address, folder)
    assert again == first
    assert more == requests
    for path in entries(folder):
        path.write_bytes(path.read_bytes()[:20])
    assert in_a_process(s3, address, folder)[0] == first
    assert in_a_process(s3, address, folder)[:2] == (first, 2)


def test_a_disk_cache_that_cannot_be_written_is_done_without(s3, large, tmp_path):
    address, _ = large
    folder = tmp_path / "file"
    folder.write_text("not a folder")
    first, requests, log = in_a_process(s3, address, folder)
    assert log.count("cannot be written") == 1
    assert "secret" not in log
    assert in_a_process(s3, address, folder)[:2] == (first, requests)


def test_a_disk_cache_stays_within_its_size(s3, large, tmp_path):
    address, _ = large
    folder = tmp_path / "cache"
    limit = 200_000
    for _ in range(2):
        in_a_process(s3, address, folder, SLAF_CACHE_SIZE=str(limit))
    assert sum(path.stat().st_size for path in entries(folder)) <= limit + 70_000


def test_no_memory_for_blocks(s3, large, tmp_path):
    address, _ = large
    with_cache, requests, _ = in_a_process(s3, address, "", SLAF_CACHE_MEMORY="1000000")
    without, more, _ = in_a_process(s3, address, "", SLAF_CACHE_MEMORY="0")
    assert without == with_cache
    assert more > requests


def objects(s3, prefix):
    boto3 = pytest.importorskip("boto3")

    client = boto3.client(
        "s3",
        endpoint_url=s3["aws_endpoint"],
        aws_access_key_id=s3["aws_access_key_id"],
        aws_secret_access_key=s3["aws_secret_access_key"],
        region_name=s3["aws_region"],
    )
    listed = client.list_objects_v2(Bucket="bucket", Prefix=prefix).get("Contents", [])
    return client, [item["Key"] for item in listed]


@pytest.fixture
def small(s3):
    """The address of a store with one column of obs that has nothing to check it by."""
    rng = np.random.default_rng(3)
    obs = pd.DataFrame({"u": rng.normal(size=3000)}, index=[f"c{i}" for i in range(3000)])
    adata = ad.AnnData(sp.random(3000, 5, 0.2, "csr", np.float32, random_state=rng), obs)
    address = "s3://bucket/small.slaf"
    SLAFConverter(storage_options=s3, overwrite=True).convert_anndata(adata, address)
    return address, obs["u"].to_numpy()


def test_damage_that_was_kept_is_forgotten_when_it_is_looked_for(s3, small, tmp_path, monkeypatch):
    address, values = small
    monkeypatch.setenv("SLAF_CACHE_DIR", str(tmp_path / "cache"))
    sql = "SELECT u FROM cells WHERE cell_integer_id = 1234"

    def value(address=address, **options):
        return SLAFArray(address, storage_options=s3, **options).query(sql)["u"][0]

    client, keys = objects(s3, "small.slaf/cells-")
    held = {key: client.get_object(Bucket="bucket", Key=key)["Body"].read() for key in keys}
    (key,) = (key for key, data in held.items() if values[1234].tobytes() in data)
    damaged = bytearray(held[key])
    damaged[held[key].find(values[1234].tobytes()) + 6] ^= 1
    client.put_object(Bucket="bucket", Key=key, Body=bytes(damaged))
    assert value() != values[1234]
    client.put_object(Bucket="bucket", Key=key, Body=held[key])
    # A copy of the store is another one.
    for other in objects(s3, "small.slaf/")[1]:
        target = other.replace("small.slaf", "copy.slaf")
        source = {"Bucket": "bucket", "Key": other}
        client.copy_object(Bucket="bucket", Key=target, CopySource=source)
    assert value("s3://bucket/copy.slaf") == values[1234]
    assert value(verify="first-touch") == values[1234]
    client.put_object(Bucket="bucket", Key=key, Body=bytes(damaged))
    assert SLAFArray(address, storage_options=s3).verify() != []
    assert value() != values[1234]
    client.put_object(Bucket="bucket", Key=key, Body=held[key])
    assert SLAFArray(address, storage_options=s3).verify() == []
    assert value() == values[1234]


def test_empty_objects_are_named(s3, small):
    address, _ = small
    client, keys = objects(s3, "small.slaf/_slaf/versions/")
    newest = max(key for key in keys if key.endswith(".json"))
    held = client.get_object(Bucket="bucket", Key=newest)["Body"].read()
    client.put_object(Bucket="bucket", Key=newest, Body=b"")
    with pytest.raises(CorruptError, match="version"):
        SLAFArray(address, storage_options=s3)
    client.put_object(Bucket="bucket", Key=newest, Body=held)
    # More files than versions that are listed at once, and a hint that says nothing.
    for i in range(1001):
        key = f"small.slaf/_slaf/versions/zz{i:04}"
        client.put_object(Bucket="bucket", Key=key, Body=b"x")
    client.put_object(Bucket="bucket", Key="small.slaf/_slaf/versions/newest", Body=b"")
    array = SLAFArray(address, storage_options=s3)
    assert array.shape == (3000, 5)
    array.set_uns("q", 1)
    assert SLAFArray(address, storage_options=s3).version == array.version


@pytest.mark.parametrize("name", ["SLAF_CACHE_SIZE", "SLAF_CACHE_MEMORY"])
@pytest.mark.parametrize("value", ["abc", "-5", "1e9", "10 furlongs", "1.5GB", ""])
def test_sizes_that_are_none(monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    # Nobody is asked.
    with pytest.raises(slaf.InvalidArgumentError, match=f"{name}=.{value}. is no number of bytes"):
        SLAFArray("s3://bucket/none.slaf", storage_options={"endpoint": "http://127.0.0.1:9"})
