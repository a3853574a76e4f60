"""Compares the loader over S3 with the loader on the local disk, with latency added.

    python benchmarks/loader_s3.py ~/.cache/slaf/bench/slaf_store/100000x30000/default.slaf

Needs an environment with slaf, torch, boto3 and ministack. An S3 server on the loopback interface
holds the store; a proxy before it adds the latency to each request and counts requests and bytes.
Server, proxy and loader share the processors of one machine, which no real object store does.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

from remote import access
from remote.server import running

from slaf import SLAFArray
from slaf.ml import SLAFDataLoader


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
    with running(args.latency) as server:
        server.upload(args.store, "store.slaf")
        local, local_first, _ = epoch(SLAFArray(args.store), shuffle="block")
        options = access.options(server.endpoint)
        array = SLAFArray(f"s3://{access.BUCKET}/store.slaf", storage_options=options)
        server.take()
        remote, remote_first, n = epoch(array)
        requests = server.take().get("", [])
    # Two epochs.
    n_requests = len(requests) / 2
    n_bytes = sum(request.bytes for request in requests) / 2
    print("| store | cells/s | first batch | requests per 1,000 cells | bytes per cell |")
    print("|---|---|---|---|---|")
    print(f"| local, block shuffle | {local:,.0f} | {local_first:.3f} s | | |")
    print(
        f"| S3, {args.latency * 1000:.0f} ms | {remote:,.0f} ({remote / local:.0%}) | "
        f"{remote_first:.3f} s | {n_requests / n * 1000:.1f} | {n_bytes / n:,.0f} |"
    )


if __name__ == "__main__":
    main()
