"""Compares the loader over S3 with the loader on the local disk, with latency added.

    python benchmarks/loader_s3.py ~/.cache/slaf/bench/slaf_store/100000x30000/default.slaf

Needs an environment with slaf, torch, boto3 and ministack. An S3 server on the loopback interface
holds the store; a proxy before it adds the latency to each request and counts requests and bytes.
Server, proxy and loader share the processors of one machine, which no real object store does.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import boto3

from slaf import SLAFArray
from slaf.ml import SLAFDataLoader

KEYS = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def proxy(port: int, target: int, latency: float, requests: Any, sent: Any) -> None:
    """Passes connections on, each request after the latency."""

    async def pump(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter, is_request: bool
    ) -> None:
        try:
            while data := await reader.read(1 << 20):
                if is_request:
                    # A GET is one write of the client, and it waits for the answer to it.
                    requests.value += 1
                    await asyncio.sleep(latency)
                else:
                    sent.value += len(data)
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()

    async def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        up_reader, up_writer = await asyncio.open_connection("127.0.0.1", target)
        await asyncio.gather(pump(reader, up_writer, True), pump(up_reader, writer, False))

    async def serve() -> None:
        server = await asyncio.start_server(connect, "127.0.0.1", port, limit=1 << 20)
        await server.serve_forever()

    asyncio.run(serve())


def start_s3(port: int, folder: Path) -> subprocess.Popen[bytes]:
    """The S3 server, with nothing but S3."""
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
    program = Path(sys.executable).with_name("ministack")
    with (folder / "log").open("wb") as log:
        return subprocess.Popen([program], env=environment, cwd=folder, stdout=log, stderr=log)


def upload(store: Path, port: int) -> None:
    """Puts what the loader reads into the bucket `bucket`."""
    client = boto3.client(
        "s3", endpoint_url=f"http://127.0.0.1:{port}", region_name="us-east-1", **KEYS
    )
    for _ in range(100):
        try:
            client.create_bucket(Bucket="bucket")
            break
        except Exception:
            time.sleep(0.2)
    for file in store.rglob("*"):
        if file.is_file() and not any(p.startswith("by_gene") for p in file.parts):
            key = f"store.slaf/{file.relative_to(store).as_posix()}"
            client.upload_file(str(file), "bucket", key)


def epoch(array: SLAFArray, **options: Any) -> tuple[float, float, int]:
    """Cells per second, seconds to the first batch, and cells of an epoch after a first one."""
    loader = SLAFDataLoader(array, raw_mode=True, batch_size=64, **options)
    for _ in range(2):
        begin = time.perf_counter()
        n = sum(len(batch["cell_ids"]) for batch in loader)
        seconds = time.perf_counter() - begin
    return n / seconds, loader.stats().first_batch_seconds, n


def main() -> None:
    """Measures both and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("store", type=Path)
    parser.add_argument("--latency", type=float, default=0.030)
    args = parser.parse_args()
    server_port, proxy_port = free_port(), free_port()
    context = multiprocessing.get_context("spawn")
    requests, sent = context.Value("q", 0), context.Value("q", 0)
    with tempfile.TemporaryDirectory() as folder:
        server = start_s3(server_port, Path(folder))
        arguments = (proxy_port, server_port, args.latency, requests, sent)
        between = context.Process(target=proxy, args=arguments, daemon=True)
        try:
            upload(args.store, server_port)
            between.start()
            local, local_first, _ = epoch(SLAFArray(args.store), shuffle="block")
            options = {
                "aws_endpoint": f"http://127.0.0.1:{proxy_port}",
                "aws_region": "us-east-1",
                "allow_http": "true",
                **KEYS,
            }
            array = SLAFArray("s3://bucket/store.slaf", storage_options=options)
            before = requests.value, sent.value
            remote, remote_first, n = epoch(array)
        finally:
            server.terminate()
            if between.is_alive():
                between.terminate()
    # Two epochs.
    n_requests, n_bytes = (requests.value - before[0]) / 2, (sent.value - before[1]) / 2
    print("| store | cells/s | first batch | requests per 1,000 cells | bytes per cell |")
    print("|---|---|---|---|---|")
    print(f"| local, block shuffle | {local:,.0f} | {local_first:.3f} s | | |")
    print(
        f"| S3, {args.latency * 1000:.0f} ms | {remote:,.0f} ({remote / local:.0%}) | "
        f"{remote_first:.3f} s | {n_requests / n * 1000:.1f} | {n_bytes / n:,.0f} |"
    )


if __name__ == "__main__":
    main()
