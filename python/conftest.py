import os
import shutil
import socket
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import anndata as ad
import hypothesis
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from slaf.data import SLAFConverter
from slaf.integrations import read_slaf

SHARED = Path(os.environ.get("SLAF_SHARED_DATA", Path(__file__).parents[2] / "shared" / "data"))

# What these need is not installed for tests; importing them says so.
MODULES = {"datasets": "torch", "lightning": "lightning", "ray": "ray", "scvi": "scvi"}
collect_ignore = [
    f"slaf/ml/{module}.py" for module, needs in MODULES.items() if find_spec(needs) is None
]

hypothesis.settings.register_profile(
    "default",
    deadline=None,
    max_examples=50,
    suppress_health_check=[
        hypothesis.HealthCheck.too_slow,
        hypothesis.HealthCheck.function_scoped_fixture,
        hypothesis.HealthCheck.data_too_large,
    ],
)
hypothesis.settings.register_profile(
    "thorough", hypothesis.settings.get_profile("default"), max_examples=2000
)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


def small():
    """Six cells, four genes."""
    X = np.array(
        [[1, 0, 0, 2], [0, 3, 0, 0], [0, 0, 0, 4], [5, 0, 6, 0], [0, 0, 0, 0], [7, 8, 9, 1]],
        dtype=np.float32,
    )
    obs = pd.DataFrame(
        {
            "batch": pd.Categorical(["b1", "b1", "b1", "b2", "b2", "b1"], ["b1", "b2", "unused"]),
            "n_counts": [1, 2, 3, 4, 5, 0],
            "score": [0.5, np.nan, -1.5, 0.1, 2.5, np.inf],
            "note": [">=3", "x", "", "y'z", "x", "é"],
            "doublet": [True, False, False, True, False, False],
            "depth": pd.array([1, None, 3, 4, None, 6], dtype="Int32"),
        },
        index=pd.Index([f"cell{i}" for i in range(6)], dtype=object),
    )
    var = pd.DataFrame(
        {"symbol": ["S0", "S1", "S2", "S3"], "highly_variable": [True, False, True, False]},
        index=pd.Index([f"gene{i}" for i in range(4)], dtype=object),
    )
    return ad.AnnData(
        X=sp.csr_matrix(X),
        obs=obs,
        var=var,
        layers={"double": sp.csc_matrix(X * 2), "dense": (X > 0).astype(np.int32)},
        obsm={"X_pca": np.arange(12, dtype=np.float64).reshape(6, 2)},
        varm={"PCs": np.arange(8, dtype=np.float32).reshape(4, 2)},
        obsp={"connectivities": sp.csr_matrix(np.diag(np.arange(6.0)))},
        varp={"corr": np.eye(4)},
        uns={"batch_colors": np.array(["#1", "#2", "#3"], dtype=object), "log1p": {"base": 2.0}},
    )


@pytest.fixture
def growing_path(tmp_path, store_path):
    """A copy of the store, to be changed."""
    path = tmp_path / "growing.slaf"
    shutil.copytree(store_path, path)
    return path


@pytest.fixture(scope="session")
def h5ad_path(tmp_path_factory):
    path = tmp_path_factory.mktemp("small") / "small.h5ad"
    small().write_h5ad(path, convert_strings_to_categoricals=False)
    return path


@pytest.fixture(scope="session")
def store_path(tmp_path_factory, h5ad_path):
    path = tmp_path_factory.mktemp("store") / "small.slaf"
    SLAFConverter().convert(h5ad_path, path)
    return str(path)


@pytest.fixture
def original(h5ad_path):
    """What anndata reads from the file that `store_path` was made of."""
    return ad.read_h5ad(h5ad_path)


@pytest.fixture(scope="session")
def s3(tmp_path_factory):
    """Storage options of a server on the loopback interface that has the bucket `bucket`."""
    boto3 = pytest.importorskip("boto3")
    program = Path(sys.executable).with_name("ministack")
    if not program.exists():
        pytest.skip("ministack is not installed")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder = tmp_path_factory.mktemp("s3")
    environment = {
        **os.environ,
        "BIND_HOST": "127.0.0.1",
        "GATEWAY_PORT": str(port),
        "SERVICES": "s3",
        "S3_PERSIST": "0",
        "IOT_MTLS_ENABLED": "false",
        "SFTP_ENABLED": "false",
        "DOCKER_HOST": "unix:///nonexistent",
    }
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(
            [program], cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT
        )
    endpoint = f"http://127.0.0.1:{port}"
    client = boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
    )
    for _ in range(100):
        try:
            client.create_bucket(Bucket="bucket")
            break
        except Exception:
            assert server.poll() is None, (folder / "log").read_text()
            time.sleep(0.2)
    yield {
        "aws_endpoint": endpoint,
        "aws_access_key_id": "test",
        "aws_secret_access_key": "test",
        "aws_region": "us-east-1",
        "allow_http": "true",
    }
    client.close()
    server.terminate()
    try:
        server.wait(10)
    except subprocess.TimeoutExpired:
        server.kill()


@pytest.fixture(params=["local", "s3"])
def anywhere(request, tmp_path):
    """Gives for a name the address of a store, its options, and how to list and read its files."""
    if request.param == "local":

        def files(target):
            return {f.relative_to(target).as_posix() for f in target.rglob("*") if f.is_file()}

        yield lambda name: (tmp_path / name, {}, files, lambda file: Path(file).read_bytes())
        return
    storage = request.getfixturevalue("s3")
    boto3 = pytest.importorskip("boto3")
    client = boto3.client(
        "s3",
        endpoint_url=storage["aws_endpoint"],
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
    )

    def objects(target):
        prefix = target.removeprefix("s3://bucket/") + "/"
        pages = client.get_paginator("list_objects_v2").paginate(Bucket="bucket", Prefix=prefix)
        found = [o["Key"] for page in pages for o in page.get("Contents", [])]
        return {key.removeprefix(prefix) for key in found}

    def read(address):
        return client.get_object(Bucket="bucket", Key=address.removeprefix("s3://bucket/"))[
            "Body"
        ].read()

    folder = tmp_path.name
    yield lambda name: (f"s3://bucket/{folder}/{name}", storage, objects, read)
    client.close()


@pytest.fixture(scope="session")
def gs(tmp_path_factory):
    """Storage options of an emulator of Google's store that has the bucket `bucket`."""
    from object_stores import fake_gcs

    with fake_gcs(tmp_path_factory.mktemp("gs")) as options:
        yield options


@pytest.fixture(scope="session")
def az(tmp_path_factory):
    """Storage options of an emulator of Microsoft's store that has the container `bucket`."""
    from object_stores import azurite

    with azurite(tmp_path_factory.mktemp("az")) as options:
        yield options


@pytest.fixture
def shared_data():
    if not SHARED.is_dir():
        pytest.skip(f"no folder {SHARED}: set SLAF_SHARED_DATA to the folder of the real files")
    return SHARED


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    """Gives a data set, and the same as a lazy one."""
    folder, stores = tmp_path_factory.mktemp("pairs"), {}

    def open_both(name, make):
        if name not in stores:
            adata = make()
            SLAFConverter().convert_anndata(adata, folder / f"{name}.slaf")
            stores[name] = adata
        return stores[name].copy(), read_slaf(folder / f"{name}.slaf")

    return open_both


@pytest.fixture(autouse=True)
def _names_in_docstrings(request, doctest_namespace):
    if request.node.__class__.__name__ == "DoctestItem":
        doctest_namespace["store_path"] = request.getfixturevalue("store_path")
        doctest_namespace["h5ad_path"] = request.getfixturevalue("h5ad_path")
        doctest_namespace["tmp_path"] = request.getfixturevalue("tmp_path")
        doctest_namespace["growing_path"] = request.getfixturevalue("growing_path")
