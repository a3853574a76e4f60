"""Compares SLAF's loader with its peers': whole epochs, the same data, one run.

    python benchmarks/loader.py --cells 100000 --output benchmarks/results/loader.md
    python benchmarks/loader.py --epoch-cells 4096        # smoke: some batches of each

Data and stores are those of `run.py --build-only`; annbatch's own store is made here. Contenders
take turns, so that a busy machine is busy for all, and the best of the rounds counts.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

import environments

HERE = Path(__file__).resolve().parent


class Case(NamedTuple):
    """A row of the table: a task with a batch size, and whose loaders do it."""

    title: str
    task: str
    batch: int
    peers: tuple[str, ...]


# Who reads what: `raw` is the full shuffle, where there is one.
FULL = ("annbatch", "scdl", "scdataset", "tiledbsoma", "slafdb")
# What is the same task for peers: they have one order of genes.
OF_PEERS = {"raw-stored": "raw"}
# Contenders whose tasks are all one: they have no blocks, or read a store that was shuffled.
ONE_ORDER = ("annbatch", "scdl", "slafdb")

CASES = (
    Case("raw, batch 64, full shuffle", "raw", 64, FULL),
    Case("raw, batch 64, block shuffle", "raw-block", 64, ("annbatch", "scdataset", "tiledbsoma")),
    Case("raw, batch 512, full shuffle", "raw", 512, ("annbatch", "scdl")),
    Case("raw, batch 512, block shuffle", "raw-block", 512, ("annbatch", "scdataset")),
    Case("raw in stored order, batch 64, full shuffle", "raw-stored", 64, FULL),
    Case("raw in stored order, batch 512, full shuffle", "raw-stored", 512, ("annbatch", "scdl")),
    Case("Geneformer, 2,048 tokens, batch 64", "geneformer", 64, ("slafdb",)),
    Case("Geneformer with medians, 2,048 tokens, batch 64", "geneformer-medians", 64, ()),
    Case("scGPT, 1,200 tokens, batch 64", "scgpt", 64, ("slafdb",)),
)


class Runner:
    """Runs loaders in their own environments."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.cache: Path = args.cache
        name = f"{args.cells}x{args.genes}"
        slaf = environments.find_slaf(args.slaf_python, self.cache)
        if slaf is None:
            raise SystemExit("no interpreter imports slaf: see --slaf-python")
        self.python = {"slaf": slaf}
        self.stores = {
            "slaf": self.cache / "slaf_store" / name / "default.slaf",
            "slafdb": self.cache / "slafdb_store" / name / "default.slaf",
            "tiledbsoma": self.cache / "tiledbsoma_store" / name / "default.soma",
            "scdataset": self.cache / "data" / f"{name}.h5ad",
            "annbatch": self.cache / "annbatch_loader" / name / "store.zarr",
            "scdl": self.cache / "scdl_loader" / name / "store",
        }
        for peer in args.peers:
            self.python[peer] = environments.ensure(f"{peer}_loader", self.cache)
        for peer in {"annbatch", "scdl"}.intersection(args.peers):
            store = self.stores[peer]
            if not store.exists():
                store.parent.mkdir(parents=True, exist_ok=True)
                source = self.cache / "data" / f"{name}.h5ad"
                subprocess.run(self.command(peer, "--build", str(source), str(store)), check=True)
        for who in self.python:
            if not self.stores[who].exists():
                raise SystemExit(f"{self.stores[who]} is missing: run.py --build-only makes it")

    def command(self, who: str, *arguments: str) -> list[str]:
        """The command line of a contender's program."""
        return [str(self.python[who]), str(HERE / "loaders" / f"{who}_loader.py"), *arguments]

    def epoch(self, who: str, task: str, batch: int) -> dict[str, Any]:
        """Measures one epoch."""
        cells = str(self.args.epoch_cells)
        command = self.command(who, str(self.stores[who]), task, str(batch), cells)
        environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
        done = subprocess.run(
            command, capture_output=True, text=True, env=environment, timeout=self.args.timeout
        )
        if done.returncode != 0 or not done.stdout.strip():
            raise SystemExit(f"{who} failed at {task}:\n{done.stderr[-3000:]}")
        result: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
        print(f"{who:10} {task:11} {batch:4} {rate(result):10,.0f} cells/s", flush=True)
        return result


def rate(result: dict[str, Any]) -> float:
    """Cells per second from the start to the last batch; what the end takes stands beside it."""
    cells: int = result["cells"]
    return cells / (result["seconds"] - result["shutdown"])


def row(title: str, who: str, result: dict[str, Any], own: float) -> str:
    """A line of the table."""
    tokens = f"{result['tokens'] / result['cells'] * rate(result) / 1e6:.0f} M"
    cells = [
        who,
        f"{rate(result):,.0f}",
        "" if who == "slaf" else f"{own / rate(result):.1f}x",
        tokens if result["tokens"] else "",
        f"{result['first_batch']:.2f} s",
        f"{result['shutdown']:.2f} s",
        f"{result['peak_mb'] - result['base_mb']:,.0f}",
        f"{result['cpu_seconds'] / result['cells'] * 1e6:.0f} us",
    ]
    return f"| {title} | " + " | ".join(cells) + " |"


def main() -> None:
    """Measures all cases and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = os.environ.get("SLAF_BENCH_CACHE", "~/.cache/slaf/bench")
    parser.add_argument("--cache", type=Path, default=Path(default).expanduser())
    parser.add_argument("--cells", type=int, default=100_000)
    parser.add_argument("--genes", type=int, default=30_000)
    parser.add_argument("--slaf-python")
    parser.add_argument(
        "--peers", type=lambda s: [p for p in s.split(",") if p], default="annbatch,slafdb"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--epoch-cells", type=int, default=0, help="stop an epoch early; 0: never")
    parser.add_argument("--timeout", type=float, default=900)
    parser.add_argument("--output", type=Path)
    args = parser.parse_args()
    runner = Runner(args)
    lines = [
        "| epoch | loader | cells/s | slaf is | tokens/s | first batch | end | MB beyond imports "
        "| CPU per cell |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for case in CASES:
        contenders = ["slaf", *(p for p in case.peers if p in args.peers)]
        rounds: dict[str, list[dict[str, Any]]] = {who: [] for who in contenders}
        for _ in range(args.rounds):
            for who in contenders:
                task = case.task if who == "slaf" else OF_PEERS.get(case.task, case.task)
                task = "raw" if who in ONE_ORDER and task == "raw-block" else task
                rounds[who].append(runner.epoch(who, task, case.batch))
        best = {who: max(r, key=rate) for who, r in rounds.items()}
        lines += [row(case.title, w, result, rate(best["slaf"])) for w, result in best.items()]
    table = "\n".join(lines) + "\n"
    print(table)
    if args.output:
        args.output.write_text(table)


if __name__ == "__main__":
    main()
