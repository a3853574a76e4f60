"""Outages of an object store: named as what they are, in bounded time, and over when they are over.

Only what the bytes of a store prove is `corrupt`.
"""

import time

import anndata as ad
import numpy as np
import pytest
import scipy.sparse as sp
from processes import rounds
from trouble import proxy

import slaf
from slaf import SLAFArray
from slaf.data import SLAFConverter
from slaf.ml import SLAFDataLoader

STORE = "s3://bucket/outages/a.slaf"
# Few tries, so that an outage is soon over.
IMPATIENT = {"client_max_retries": "1", "lance_aimd_max_retries": "0", "answer_timeout": "2s"}


@pytest.fixture(scope="module")
def store(s3, tmp_path_factory):
    rng = np.random.default_rng(0)
    X = sp.random(600, 50, 0.3, format="csr", dtype=np.float32, random_state=rng)
    path = tmp_path_factory.mktemp("outages") / "a.h5ad"
    ad.AnnData(X).write_h5ad(path)
    SLAFConverter(storage_options=s3, overwrite=True).convert(path, STORE)
    return X.toarray()


@pytest.fixture
def trouble(s3, store):
    with proxy(s3["aws_endpoint"]) as server:
        server.options = {
            **s3,
            **IMPATIENT,
            "aws_endpoint": f"http://127.0.0.1:{server.server_port}",
        }
        yield server


def total(array):
    return float(array.query("SELECT SUM(value) AS s FROM expression")["s"][0])


def genes(array):
    return array.query('SELECT AVG("0") AS a FROM cells WHERE "1" > 0.5')["a"][0]


def one_slice(array):
    return array.get_submatrix(slice(0, 300), slice(0, 10))["value"].to_numpy()


def epoch(array):
    loader = SLAFDataLoader(array, raw_mode=True, return_tensors="numpy", batch_size=64, seed=0)
    return sum(float(batch["x"].sum()) for batch in loader)


MODES = {
    "down": ("down", "io", "may be tried again"),
    "reset": ("reset", "io", "may be tried again"),
    "truncate": ("truncate", "io", "may be tried again"),
    "silent": ("silent", "io", "has not answered for 2s"),
    "500": (
        (500, "InternalError"),
        "io",
        "(InternalError|500 Internal Server Error).*given up after .* tr.*may be tried again",
    ),
    "503": (
        (503, "SlowDown"),
        "io",
        "(SlowDown|503 Service Unavailable).*given up after .*may be tried again",
    ),
    "403": (
        (403, "AccessDenied"),
        "permission-denied",
        "(AccessDenied|403 Forbidden).*check the credentials",
    ),
    "expired": ((400, "ExpiredToken"), "permission-denied", "ExpiredToken.*renew them"),
}
ACTIONS = {"sum": total, "genes": genes, "slice": one_slice, "epoch": epoch}


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("after", rounds([0], [0, 3]))
@pytest.mark.faults
def test_an_outage_after_opening(trouble, action, mode, after):
    """The store goes away after it was opened, or in the middle, and comes back."""
    how, kind, text = MODES[mode]
    act = ACTIONS[action]
    array = SLAFArray(STORE, storage_options=trouble.options)
    trouble.fail(how, after=0 if how == "down" else after)
    started = time.monotonic()
    with pytest.raises(slaf.SlafError, match=f"(?s){text}") as caught:
        act(array)
    assert caught.value.kind == kind, caught.value
    assert time.monotonic() - started < 12
    assert "verify" not in str(caught.value)
    trouble.mend()
    # The same handle reads on.
    again = act(array)
    assert np.allclose(again, act(SLAFArray(STORE, storage_options=trouble.options)))


@pytest.mark.parametrize("mode", MODES)
def test_an_outage_while_opening_and_converting(trouble, mode, h5ad_path):
    how, kind, text = MODES[mode]
    trouble.fail(how)
    for call in (
        lambda: SLAFArray(STORE, storage_options=trouble.options),
        lambda: SLAFConverter(storage_options=trouble.options).convert(
            h5ad_path, "s3://bucket/outages/new.slaf"
        ),
    ):
        with pytest.raises(slaf.SlafError, match=f"(?s){text}") as caught:
            call()
        assert caught.value.kind == kind, caught.value


def test_a_missing_file_is_damage(trouble):
    """The store answers, and says that a file is not there which the root manifest names."""
    array = SLAFArray(STORE, storage_options=trouble.options)
    trouble.fail((404, "NoSuchKey"), only="/data/")
    with pytest.raises(slaf.SlafError, match="verify") as caught:
        total(array)
    assert caught.value.kind == "corrupt"


def test_a_silent_store_is_named_within_30_seconds(trouble):
    patient = {k: v for k, v in trouble.options.items() if k not in IMPATIENT}
    array = SLAFArray(STORE, storage_options=patient)
    trouble.fail("silent")
    started = time.monotonic()
    with pytest.raises(slaf.SlafError, match="has not answered for 25s") as caught:
        one_slice(array)
    assert caught.value.kind == "io"
    assert time.monotonic() - started < 30


def test_a_slow_store_is_waited_for(trouble, monkeypatch):
    """What answers, however slowly, is not silent."""
    array = SLAFArray(STORE, storage_options={**trouble.options, "answer_timeout": "700ms"})
    forward = trouble.RequestHandlerClass.forward

    def slowly(handler):
        time.sleep(0.3)
        forward(handler)

    monkeypatch.setattr(trouble.RequestHandlerClass, "do_GET", slowly)
    assert np.isclose(total(array), total(SLAFArray(STORE, storage_options=trouble.options)))
