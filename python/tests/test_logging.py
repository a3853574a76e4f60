"""Messages about the work: asked for by SLAF_LOG or `slaf.logging`, and without what is secret."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(sys.executable).with_name("slaf")
LINE = re.compile(r"^\S+Z +DEBUG (.*): slaf(_\w+)?(::\w+)*: close time\.busy=\S+ time\.idle=\S+$")


def run(command, **environment):
    environment = {k: v for k, v in os.environ.items() if k != "SLAF_LOG"} | environment
    # A debug build warns when it is imported.
    environment["PYTHONWARNINGS"] = "ignore:slaf was compiled"
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done


def spans(stderr):
    """The spans of the lines, such as `convert{...}:commit{...}`; every line is one."""
    found = [LINE.match(line) for line in stderr.splitlines()]
    assert all(found), stderr
    return [match[1] for match in found]


def test_silence_is_the_default(store_path):
    done = run([PROGRAM, "query", store_path, "SELECT COUNT(*) FROM cells"])
    assert done.stderr == ""


def test_the_command_says_what_it_does(h5ad_path, tmp_path):
    store = tmp_path / "said.slaf"
    convert = run([PROGRAM, "convert", h5ad_path, store], SLAF_LOG="debug")
    said = spans("\n".join(line for line in convert.stderr.splitlines() if "time.busy" in line))
    assert any(re.fullmatch(r"convert\{inputs=1 store=.*said\.slaf\}", s) for s in said)
    assert any(re.search(r"convert\{.*\}:commit\{version=1 cells=6\}$", s) for s in said)
    sql = "SELECT cell_id FROM cells WHERE cell_id = 'cell3'"
    query = run([PROGRAM, "query", store, sql], SLAF_LOG="debug")
    said = spans(query.stderr)
    assert any(s == f"open{{store={store}}}" for s in said)
    assert any(s == f"query{{store={store} characters={len(sql)}}}" for s in said)
    # Neither what was asked for nor what was found.
    assert "cell3" not in query.stderr


def test_python_says_what_it_does(store_path):
    program = f"""
import slaf.logging
from slaf import SLAFArray
from slaf.ml.dataloaders import SLAFDataLoader
slaf.logging.start()
array = SLAFArray({store_path!r})
array.to_csr()
for batch in SLAFDataLoader(array, batch_size=2, raw_mode=True):
    pass
del batch
"""
    said = spans(run([sys.executable, "-c", program]).stderr)
    assert f"open{{store={store_path}}}" in said
    assert "read{matrix=X rows=6 columns=4}" in said
    assert "load{epoch=0 batches=3}" in said
    assert run([sys.executable, "-c", program.replace("slaf.logging.start()", "")]).stderr == ""


def test_python_asks_the_environment(store_path):
    program = f"import slaf; slaf.SLAFArray({store_path!r})"
    said = spans(run([sys.executable, "-c", program], SLAF_LOG="slaf=debug").stderr)
    assert f"open{{store={store_path}}}" in said


def test_a_wrong_level(store_path):
    done = run([sys.executable, "-c", "import slaf"], SLAF_LOG="loud")
    assert 'SLAF_LOG: "loud" is no level of messages: error, warn, info' in done.stderr


def test_credentials_are_not_said(tmp_path):
    secrets = {"aws_secret_access_key": "hunter2", "aws_session_token": "swordfish"}
    program = f"""
import slaf
options = {{**{secrets!r}, "aws_access_key_id": "me", "aws_endpoint": "http://127.0.0.1:9",
           "aws_region": "x", "allow_http": "true", "client_max_retries": "0"}}
try:
    slaf.SLAFArray("s3://me:open-sesame@bucket/a.slaf", storage_options=options)
except slaf.SlafError:
    pass
"""
    done = run([sys.executable, "-c", program], SLAF_LOG="trace")
    assert "open{store=s3://...@bucket/a.slaf}" in done.stderr
    assert not any(s in done.stderr for s in [*secrets.values(), "open-sesame"])


@pytest.mark.parametrize("again", ["debug", "off"])
def test_messages_start_once(again):
    program = f"""
import slaf.logging
slaf.logging.start("info")
try:
    slaf.logging.start({again!r})
except slaf.InvalidArgumentError as e:
    print(e)
"""
    assert "shown already" in run([sys.executable, "-c", program]).stdout
