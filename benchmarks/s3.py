"""Asks stores in an object store, with latency added to each request, and counts what they ask for.

    python benchmarks/s3.py --output benchmarks/results/s3.md
    python benchmarks/s3.py --cells 2000 --peer-cells 2000 --rounds 1 --versions 20     # smoke

Needs boto3 and ministack where it runs. An S3 server on the loopback interface holds the stores; a
proxy before it puts the latency before each request of every library and counts all of them
alike. Data, environments and stores are those of `run.py`, copied into the bucket.

- All libraries have the same `--peer-cells` cells. Each task and library has a process of its own
  in each round, with a new handle and another cell, gene or batch, and asks the same a second
  time. All answers are compared with the source. Libraries take turns.
- SLAF alone is asked the same of `--cells` cells, then opened after `--versions` commits more, and
  asked by `--clients` threads that share a handle.

Requests and bytes are those of the server. Server, proxy and libraries share the processors of one
machine, which no real object store does.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import registry
import run
from remote import access
from remote.proxy import Request, depth
from remote.server import Server, running

HERE = Path(__file__).resolve().parent

# Modules of `remote/`, by the column of `run.py` whose store and environment they read.
LIBRARIES = {
    registry.SLAF: "slaf_remote",
    "slafdb": "slafdb_remote",
    "slafdb-plain": "slafdb_remote",
    "tiledbsoma": "tiledbsoma_remote",
    "homeobox": "homeobox_remote",
    "zarr": "zarr_remote",
}
DEFAULT = (registry.SLAF, "slafdb-plain", "tiledbsoma", "homeobox", "zarr")

TASKS = {
    "open": "open",
    "cell_by_name": "first cell, by name",
    "cell_by_number": "first cell, by number",
    "gene": "first gene",
    "group": "filter and GROUP BY of obs",
    "cells": "64 random cells",
}


class Answer(NamedTuple):
    """What one process measured, or why it did not."""

    seconds: dict[str, float]
    requests: dict[str, list[Request]]
    failed: str = ""


class Bucket:
    """Stores of one size in the bucket, and the processes that ask them."""

    def __init__(self, args: argparse.Namespace, server: Server, cells: int) -> None:
        self.args, self.server = args, server
        settings = {**vars(args), "cells": cells, "regenerate": False}
        self.runner = run.Runner(argparse.Namespace(**settings))
        self.data = self.runner.generate()
        self.plan = self.data.source.with_suffix(".remote.json")
        self.stores: dict[str, Path] = {}
        if not self.plan.exists():
            python = str(self.runner.interpreter(registry.DATA_MODULE))
            command = [python, str(HERE / "remote" / "plan.py"), str(self.data.source)]
            subprocess.run([*command, str(self.plan)], check=True, env=run.environment())

    def fill(self, names: list[str]) -> None:
        """Builds what is missing, and puts it into the bucket."""
        for column in run.chosen(",".join(names)):
            if self.runner.interpreter(column.module) is None:
                raise SystemExit("slaf is not importable (see --slaf-python)")
            target = self.runner.build(column, self.data)
            if target is not None:
                self.server.upload(target, self.key(column.name))
                self.stores[column.name] = target

    def key(self, name: str) -> str:
        """Where a store is in the bucket."""
        return f"{self.data.name}/{name}"

    def command(self, name: str, script: str) -> list[str]:
        """A script of `remote/` in the environment of a library."""
        (column,) = run.chosen(name)
        return [str(self.runner.python[column.module]), str(HERE / "remote" / f"{script}.py")]

    def ask(self, name: str, task: str, step: int, key: str | None = None) -> Answer:
        """Asks one library one question."""
        output = self.args.cache / f"remote-{os.getpid()}.json"
        output.unlink(missing_ok=True)
        command = self.command(name, LIBRARIES[name])
        command += ["--address", f"s3://{access.BUCKET}/{key or self.key(name)}"]
        command += ["--endpoint", self.server.endpoint, "--plan", str(self.plan)]
        command += ["--task", task, "--step", str(step), "--output", str(output)]
        variables = {**run.environment(), **access.environment(self.server.endpoint)}
        self.server.take()
        failed = ""
        try:
            done = subprocess.run(
                command, env=variables, capture_output=True, text=True,
                timeout=self.args.timeout, check=False,
            )  # fmt: skip
            if done.returncode:
                lines = done.stderr.strip().splitlines() or ["no message"]
                failed = f"exit status {done.returncode}: {lines[-1][:200]}"
        except subprocess.TimeoutExpired:
            failed = f"not done in {self.args.timeout:.0f} s"
        requests = self.server.take()
        if failed:
            return Answer({}, requests, failed)
        measured: dict[str, Any] = json.loads(output.read_text())
        output.unlink()
        wrong = f"WRONG: {measured['wrong']}" if measured["wrong"] else ""
        return Answer(measured["seconds"], requests, wrong)

    def rounds(self, names: list[str]) -> dict[str, dict[str, list[Answer]]]:
        """Answers of all rounds by task and library."""
        found: dict[str, dict[str, list[Answer]]] = {}
        for task in self.args.tasks.split(","):
            of_task = found.setdefault(task, {name: [] for name in names if name in self.stores})
            for step in range(self.args.rounds):
                for name, answers in of_task.items():
                    # What failed once is not tried again.
                    if answers and answers[-1].failed:
                        continue
                    answers.append(self.ask(name, task, step))
                    print(f"{task} {name}: {answers[-1].failed or 'done'}", flush=True)
        return found


def n_bytes(requests: list[Request]) -> float:
    """MB of what was received."""
    return sum(request.bytes for request in requests if request.kind in ("GET", "LIST")) / 1e6


def kinds(requests: list[Request]) -> str:
    """Number of requests, and of those that are no GET."""
    others = dict.fromkeys(("LIST", "HEAD", "PUT", "POST", "DELETE"), 0)
    for request in requests:
        if request.kind in others:
            others[request.kind] += 1
    text = ", ".join(f"{n} {kind}" for kind, n in others.items() if n)
    return f"{len(requests):,}" + (f" ({text})" if text else "")


def middle(lists: list[list[Request]]) -> list[Request]:
    """The requests of the round with the median number of them."""
    return sorted(lists, key=lambda some: (len(some), n_bytes(some)))[len(lists) // 2]


def ratio(ours: list[float], theirs: list[float]) -> str:
    """How many times as long another library takes: the median of the rounds, and the lowest."""
    each = [b / a for a, b in zip(ours, theirs, strict=False)]
    return f"{statistics.median(each):.1f}x ({min(each):.1f}x)" if each else ""


def waited(answer: Answer) -> float:
    """Seconds from nothing to the first answer."""
    return answer.seconds["open"] + answer.seconds.get("first", 0.0)


def table(found: dict[str, dict[str, list[Answer]]]) -> str:
    """One row for each task and library."""
    lines = [
        "| task | library | seconds | requests | one after another | MB | with opening, s "
        "| against slaf | again, s | requests | against slaf |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for task, of_task in found.items():
        ours = of_task.get(registry.SLAF, [])
        if any(answer.failed for answer in ours):
            ours = []
        for name, answers in of_task.items():
            start = f"| {TASKS[task]} | {name} |"
            if failed := next((answer.failed for answer in answers if answer.failed), ""):
                lines.append(f"{start} {failed.replace('|', ' ')} | | | | | | | | |")
                continue
            mark = "open" if task == "open" else "first"
            requests = middle([answer.requests.get(mark, []) for answer in answers])
            seconds = statistics.median(answer.seconds[mark] for answer in answers)
            text = f"{start} {seconds:.3f} | {kinds(requests)} | {depth(requests)} "
            text += f"| {n_bytes(requests):.2f} "
            text += f"| {statistics.median(map(waited, answers)):.3f} "
            against = "" if name == registry.SLAF else ratio(*waits(ours, answers))
            text += f"| {against} "
            if task == "open":
                lines.append(f"{text}| | | |")
                continue
            again = [answer.seconds["again"] for answer in answers]
            repeated = middle([answer.requests.get("again", []) for answer in answers])
            of_ours = [answer.seconds["again"] for answer in ours]
            against = "" if name == registry.SLAF else ratio(of_ours, again)
            lines.append(
                f"{text}| {statistics.median(again):.4f} | {kinds(repeated)} | {against} |"
            )
    return "\n".join(lines)


def waits(ours: list[Answer], theirs: list[Answer]) -> tuple[list[float], list[float]]:
    """Seconds from nothing to the first answer, of both."""
    return [waited(answer) for answer in ours], [waited(answer) for answer in theirs]


def listed(found: dict[str, dict[str, list[Answer]]]) -> str:
    """Every request of SLAF's first round."""
    lines = []
    for task, of_task in found.items():
        for answer in of_task.get(registry.SLAF, [])[:1]:
            for mark in ("open", "first", "again"):
                requests = sorted(answer.requests.get(mark, []), key=lambda r: r.began)
                lines.append(f"{TASKS[task]}, {mark}: {len(requests)} requests")
                for at in requests:
                    begins, ends = (when - requests[0].began for when in (at.began, at.ended))
                    lines.append(
                        f"  {begins:.3f}-{ends:.3f} s {at.kind} {at.key} {at.range} "
                        f"-> {at.status}, {at.bytes:,} bytes"
                    )
    return "\n".join(lines)


def versions(bucket: Bucket) -> str:
    """What opening takes after many versions."""
    args, server, name = bucket.args, bucket.server, registry.SLAF
    key = f"{bucket.data.name}/versions"
    server.copy(bucket.key(name), key)
    command = [*bucket.command(name, "slaf_alone"), "commit"]
    command += [f"s3://{access.BUCKET}/{key}", server.direct, str(args.versions)]
    subprocess.run(command, check=True, env=run.environment())
    found = {
        task: {name: [bucket.ask(name, task, step, key) for step in range(args.rounds)]}
        for task in ("open", "cell_by_name")
    }
    text = f"After {args.versions:,} versions more:\n\n{table(found)}"
    return f"{text}\n\n{listed(found)}" if args.requests else text


def clients(bucket: Bucket) -> str:
    """What many threads with one handle are answered."""
    args, server, name = bucket.args, bucket.server, registry.SLAF
    server.take()
    command = [*bucket.command(name, "slaf_alone"), "clients"]
    command += [f"s3://{access.BUCKET}/{bucket.key(name)}", server.endpoint]
    command += [str(bucket.stores[name]), str(args.clients), str(args.seconds)]
    command.append(str(args.questions))
    variables = run.environment()
    done = subprocess.run(command, check=True, env=variables, stdout=subprocess.PIPE, text=True)
    requests = [at for some in server.take().values() for at in some]
    return f"{done.stdout.strip()}\n{kinds(requests)} requests, {n_bytes(requests):.1f} MB"


def main() -> None:
    """Command line."""
    default_cache = os.environ.get("SLAF_BENCH_CACHE", Path.home() / ".cache" / "slaf" / "bench")
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cells", type=int, default=100_000, help="of SLAF alone; 0 for none")
    parser.add_argument("--peer-cells", type=int, default=20_000, help="of all; 0 for none")
    parser.add_argument("--genes", type=int, default=30_000)
    parser.add_argument("--genes-per-cell", type=float, default=2_500)
    parser.add_argument("--libraries", default=",".join(DEFAULT), help=f"of {','.join(LIBRARIES)}")
    parser.add_argument("--tasks", default=",".join(TASKS), help=f"of {','.join(TASKS)}")
    parser.add_argument("--latency", type=float, default=0.030, help="seconds before each request")
    parser.add_argument("--rounds", type=int, default=3, help="up to 7")
    parser.add_argument("--versions", type=int, default=1_000)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=10.0, help="of the clients")
    # More than they ask in that time, so that most are not answered from memory.
    parser.add_argument("--questions", type=int, default=10_000, help="that clients have, in all")
    parser.add_argument("--timeout", type=float, default=300, help="seconds for a process")
    parser.add_argument("--build-timeout", type=float, default=3600)
    parser.add_argument("--rebuild", action="store_true", help="build the stores again")
    parser.add_argument("--requests", action="store_true", help="also print SLAF's requests")
    parser.add_argument("--cache", type=Path, default=Path(default_cache))
    parser.add_argument("--slaf-python", help="interpreter that has slaf")
    parser.add_argument("--output", type=Path, help="also write the tables to this file")
    args = parser.parse_args()
    if args.output:
        args.output.parent.mkdir(parents=True, exist_ok=True)
        args.output.write_text("")

    def show(*parts: str) -> None:
        """Prints at once: what follows may fail."""
        text = "\n\n".join(parts) + "\n"
        print(f"\n{text}", flush=True)
        if args.output:
            with args.output.open("a") as file:
                file.write(f"{text}\n")

    # So that server and proxy end with this process.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by a signal"))
    with running(args.latency) as server:
        if args.peer_cells:
            names = args.libraries.split(",")
            bucket = Bucket(args, server, args.peer_cells)
            bucket.fill(names)
            found = bucket.rounds(names)
            show(f"{args.peer_cells:,} cells x {args.genes:,} genes:", table(found))
        if args.cells:
            bucket = Bucket(args, server, args.cells)
            bucket.fill([registry.SLAF])
            found = bucket.rounds([registry.SLAF])
            show(f"SLAF alone, {args.cells:,} cells x {args.genes:,} genes:", table(found))
            if args.requests:
                show(listed(found))
            if args.versions:
                show(versions(bucket))
            if args.clients:
                show(clients(bucket))


if __name__ == "__main__":
    main()
