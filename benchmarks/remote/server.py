"""An S3 server on the loopback interface, with the proxy before it."""

from __future__ import annotations

import json
import multiprocessing
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3

from remote.access import BUCKET, KEYS, REGION
from remote.proxy import Request, own, run_proxy


@dataclass(frozen=True)
class Server:
    """Where the server and its proxy are."""

    #: The server itself, without waiting or counting.
    direct: str
    #: The proxy.
    endpoint: str

    def client(self) -> Any:
        """A client of boto3 of the server itself."""
        return boto3.client("s3", endpoint_url=self.direct, region_name=REGION, **KEYS)

    def upload(self, store: Path, prefix: str) -> None:
        """Puts a file, or all files of a folder, below a prefix of the bucket."""
        client = self.client()
        files = [store] if store.is_file() else [f for f in store.rglob("*") if f.is_file()]

        def put(file: Path) -> None:
            key = prefix if file == store else f"{prefix}/{file.relative_to(store).as_posix()}"
            client.upload_file(str(file), BUCKET, key)

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(put, files))

    def copy(self, source: str, target: str) -> None:
        """Copies all objects below a prefix to another one."""
        client = self.client()
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=f"{source}/")
        for key in [item["Key"] for page in pages for item in page.get("Contents", [])]:
            at = {"Bucket": BUCKET, "Key": key}
            client.copy_object(Bucket=BUCKET, Key=target + key.removeprefix(source), CopySource=at)

    def mark(self, name: str) -> None:
        """Writes a name between the requests."""
        own(self.endpoint, f"mark/{name}")

    def take(self) -> dict[str, list[Request]]:
        """Requests since the last call, by the mark before them."""
        found: dict[str, list[Request]] = {}
        name = ""
        for entry in json.loads(own(self.endpoint, "take")):
            if isinstance(entry, str):
                name = entry
            else:
                found.setdefault(name, []).append(Request(*entry))
        return found


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running(latency: float) -> Iterator[Server]:
    """A server with an empty bucket, and the proxy; both end with the block."""
    port, proxy_port = free_port(), free_port()
    context = multiprocessing.get_context("spawn")
    proxy = context.Process(target=run_proxy, args=(proxy_port, port, latency), daemon=True)
    with tempfile.TemporaryDirectory() as folder:
        server = start_s3(port, Path(folder))
        try:
            proxy.start()
            both = Server(f"http://127.0.0.1:{port}", f"http://127.0.0.1:{proxy_port}")
            for left in reversed(range(150)):
                try:
                    both.client().create_bucket(Bucket=BUCKET)
                    own(both.endpoint, "take")
                    break
                except Exception:
                    if left == 0 or server.poll() is not None:
                        raise
                    time.sleep(0.2)
            yield both
        finally:
            server.terminate()
            if proxy.is_alive():
                proxy.terminate()
            server.wait()


def start_s3(port: int, folder: Path) -> subprocess.Popen[bytes]:
    """The S3 server, with nothing but S3."""
    variables = {
        **os.environ,
        "BIND_HOST": "127.0.0.1",
        "GATEWAY_PORT": str(port),
        "SERVICES": "s3",
        "S3_PERSIST": "0",
        "IOT_MTLS_ENABLED": "false",
        "SFTP_ENABLED": "false",
        "DOCKER_HOST": "unix:///nonexistent",
    }
    program = Path(sys.executable).with_name("ministack")
    with (folder / "log").open("wb") as log:
        return subprocess.Popen([program], env=variables, cwd=folder, stdout=log, stderr=log)
