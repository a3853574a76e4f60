"""Object stores that do not answer or refuse: named in bounded time, without the secrets."""

import os
import socket
import subprocess
import sys
import threading
import traceback
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

import slaf
from slaf import SLAFArray
from slaf.data import SLAFConverter

PROGRAM = Path(sys.executable).with_name("slaf")
SECRETS = {"aws_secret_access_key": "hunter2", "aws_session_token": "swordfish"}
STORE = "s3://bucket/folder/a.slaf"


def options(port, **more):
    return {
        "aws_endpoint": f"http://127.0.0.1:{port}",
        "aws_access_key_id": "somebody",
        "aws_region": "us-east-1",
        "allow_http": "true",
        **SECRETS,
        **more,
    }


@contextmanager
def server(status, code):
    """Answers every request with this error, and with the request's headers."""

    class Refuse(BaseHTTPRequestHandler):
        def answer(self):
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            body = f"<Error><Code>{code}</Code><Message>not for you</Message></Error>".encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = answer  # noqa: N815

        def log_message(self, *args):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Refuse) as httpd:
        thread = threading.Thread(target=httpd.serve_forever)
        thread.start()
        yield httpd.server_port
        httpd.shutdown()
        thread.join()


@pytest.fixture
def nobody():
    """A port where nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def silent():
    """A port where connections are taken and nothing is ever said."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(64)
        yield listener.getsockname()[1]


def run(*args, storage, **variables):
    # From options and from the environment: neither way may show a secret.
    environment = {k: v for k, v in os.environ.items() if not k.upper().startswith("AWS_")}
    environment |= variables
    environment |= {name.upper(): secret for name, secret in SECRETS.items()}
    given = [f"--storage-option={key}={value}" for key, value in storage.items()]
    done = subprocess.run(
        [PROGRAM, *args, *given], env=environment, capture_output=True, text=True, timeout=30
    )
    assert not any(secret in done.stdout + done.stderr for secret in SECRETS.values())
    return done


def commands(h5ad_path):
    query = ["query", STORE, "SELECT 1 AS one"]
    return [["info", STORE], query, ["verify", STORE], ["convert", h5ad_path, STORE]]


def assert_fails(commands, storage, kind, cause):
    for args in commands:
        done = run(*args, storage=storage)
        assert done.returncode == 1, done.stderr
        assert done.stderr.startswith(f"slaf: {STORE}"), done.stderr
        assert cause in done.stderr
        assert done.stderr.endswith(f" [{kind}]\n"), done.stderr


def test_nobody_listens(h5ad_path, nobody):
    assert_fails(commands(h5ad_path), options(nobody), "io", f"127.0.0.1:{nobody}")


def test_nobody_answers(h5ad_path, silent):
    storage = options(silent, timeout="1s", client_max_retries="1")
    assert_fails(commands(h5ad_path)[:1], storage, "io", f"127.0.0.1:{silent}")


def test_how_long_an_answer_is_waited_for(silent):
    """An option goes before the environment."""
    for option, said in (({}, "1s"), ({"answer_timeout": "2s"}, "2s")):
        done = run("info", STORE, storage=options(silent, **option), SLAF_ANSWER_TIMEOUT="1s")
        assert f"has not answered for {said}" in done.stderr
        assert done.stderr.endswith(" [io]\n")
    done = run("info", STORE, storage=options(silent), SLAF_ANSWER_TIMEOUT="soon")
    assert "SLAF_ANSWER_TIMEOUT" in done.stderr
    assert done.stderr.endswith(" [invalid-argument]\n")


def test_a_host_that_nobody_knows():
    storage = options(1, aws_endpoint="http://nobody.invalid:1", client_max_retries="1")
    assert_fails([["info", STORE]], storage, "io", "nobody.invalid")


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (403, "AccessDenied", "permission-denied"),
        (401, "Unauthorized", "permission-denied"),
        (400, "ExpiredToken", "permission-denied"),
        (403, "RequestTimeTooSkewed", "permission-denied"),
        (400, "InvalidBucketName", "invalid-argument"),
        (405, "MethodNotAllowed", "unsupported-feature"),
        (500, "InternalError", "io"),
        (503, "SlowDown", "io"),
    ],
)
def test_a_refusal_is_named(h5ad_path, status, code, kind):
    with server(status, code) as port:
        storage = options(port, client_max_retries="1")
        assert_fails(commands(h5ad_path), storage, kind, code)


@pytest.mark.parametrize(
    ("status", "code", "step"),
    [
        (403, "RequestTimeTooSkewed", "set the clock"),
        (400, "InvalidBucketName", "name of the bucket"),
        (405, "MethodNotAllowed", "aws_endpoint"),
        (405, "", "aws_endpoint"),
    ],
)
def test_what_another_try_would_not_help_names_the_next_step(status, code, step):
    with server(status, code) as port:
        done = run("info", STORE, storage=options(port, client_max_retries="1"))
    assert step in done.stderr
    assert "tried again" not in done.stderr
    assert "check the credentials" not in done.stderr


def without(storage, *names):
    return {name: value for name, value in storage.items() if name not in names}


KEYS = ("aws_access_key_id", "aws_secret_access_key")


@pytest.mark.parametrize(
    ("storage", "variables", "said"),
    [
        (without(options(1), *KEYS), {}, "no credentials for S3 were found"),
        (without(options(1), *KEYS), {"AWS_ACCESS_KEY_ID": "somebody"}, "no credentials"),
        (without(options(1), KEYS[1]), {}, "without aws_secret_access_key"),
        (without(options(1), KEYS[0]), {}, "without aws_access_key_id"),
    ],
)
def test_credentials_that_are_missing(tmp_path, storage, variables, said):
    """Neither a profile nor the service of a machine has some."""
    environment = {k: v for k, v in os.environ.items() if not k.upper().startswith("AWS_")}
    environment |= {"HOME": str(tmp_path), "AWS_EC2_METADATA_DISABLED": "true", **variables}
    given = [f"--storage-option={key}={value}" for key, value in storage.items()]
    done = subprocess.run(
        [PROGRAM, "info", STORE, *given],
        env=environment,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 1
    assert said in done.stderr
    assert "aws_access_key_id" in done.stderr
    assert "AWS_SECRET_ACCESS_KEY" in done.stderr or "AWS_ACCESS_KEY_ID" in done.stderr
    assert "AWS_PROFILE" in done.stderr
    assert "CredentialsNotLoaded" not in done.stderr
    assert "hunter2" not in done.stderr
    assert done.stderr.endswith(" [permission-denied]\n")


def test_http_that_is_not_allowed(nobody):
    done = run("info", STORE, storage=without(options(nobody), "allow_http"))
    assert "allow_http=true" in done.stderr
    assert done.stderr.endswith(" [invalid-argument]\n")


@pytest.mark.parametrize("address", ["127.0.0.1:9000", "somebody:opensesame@host"])
def test_an_endpoint_that_is_no_address(address):
    for storage, variables, name in (
        (options(1, aws_endpoint=address), {}, "aws_endpoint"),
        (without(options(1), "aws_endpoint"), {"AWS_ENDPOINT_URL": address}, "AWS_ENDPOINT_URL"),
    ):
        done = run("info", STORE, storage=storage, **variables)
        assert f"{name} is no address" in done.stderr
        assert "opensesame" not in done.stderr
        assert done.stderr.endswith(" [invalid-argument]\n")


def test_a_server_that_is_not_reached_names_the_option(nobody):
    done = run("info", STORE, storage=options(nobody, client_max_retries="1"))
    assert "refused" in done.stderr
    assert "aws_endpoint (AWS_ENDPOINT)" in done.stderr
    assert "given up after 2 tries, it may be tried again" in done.stderr


@pytest.mark.parametrize("call", ["open", "convert"])
def test_the_secrets_are_in_no_exception(h5ad_path, nobody, call):
    storage = options(nobody, client_max_retries="0")
    calls = {
        "open": lambda: SLAFArray(STORE, storage_options=storage),
        "convert": lambda: SLAFConverter(storage_options=storage).convert(h5ad_path, STORE),
    }
    with pytest.raises(slaf.StorageError) as caught:
        calls[call]()
    assert caught.value.kind == "io"
    everything = repr(caught.value.__dict__) + "".join(traceback.format_exception(caught.value))
    assert not any(secret in everything for secret in SECRETS.values())


def test_users_of_addresses_are_in_no_error(nobody):
    address = f"http://somebody:opensesame@127.0.0.1:{nobody}"
    done = run("info", STORE, storage=options(nobody, aws_endpoint=address, client_max_retries="0"))
    assert done.returncode == 1
    assert f"127.0.0.1:{nobody}" in done.stderr
    assert "opensesame" not in done.stderr
    for uri in (
        "https://somebody:opensesame@host/a.slaf",
        "s3://somebody:opensesame@bucket/a.slaf",
    ):
        with pytest.raises(slaf.SlafError) as caught:
            SLAFArray(uri, storage_options=options(nobody, client_max_retries="0"))
        everything = repr(caught.value.__dict__) + "".join(traceback.format_exception(caught.value))
        assert "opensesame" not in everything
