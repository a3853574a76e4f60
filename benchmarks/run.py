"""Compares SLAF with its peers: builds every store, asks all of them the same, prints one table.

    python benchmarks/run.py --cells 100000        # the published table
    python benchmarks/run.py --cells 2000          # smoke

Needs the standard library alone. Environments, data and stores are made once and kept in the
cache folder. A store that answers wrong is reported as WRONG and has no time.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import environments
import registry
import report

HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Data:
    """The source and what goes with it."""

    name: str
    source: Path
    plan: Path


class Runner:
    """Runs peers' processes and keeps what they measured."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.cache: Path = args.cache
        self.cache.mkdir(parents=True, exist_ok=True)
        self.python: dict[str, Path] = {}
        self.results: dict[str, Any] = {"columns": {}, "machine": machine()}

    def interpreter(self, module: str) -> Path | None:
        """Interpreter of a module's environment; None if there is no slaf."""
        if module not in self.python:
            if module == "slaf_store":
                found = environments.find_slaf(self.args.slaf_python, self.cache)
                if found is None:
                    return None
            else:
                found = environments.ensure(module, self.cache)
            self.python[module] = found
        return self.python[module]

    def generate(self) -> Data:
        """Generates the data, once."""
        args = self.args
        name = f"{args.cells}x{args.genes}"
        folder = self.cache / "data"
        data = Data(name, folder / f"{name}.h5ad", folder / f"{name}.plan.json")
        python = str(self.interpreter(registry.DATA_MODULE))
        if not data.source.exists() or args.regenerate:
            command = [python, str(HERE / "generate.py"), str(data.source)]
            sizes = ["cells", "genes", "genes_per_cell"]
            for size in sizes:
                command += [f"--{size.replace('_', '-')}", str(getattr(args, size))]
            subprocess.run(command, check=True)
            data.plan.unlink(missing_ok=True)
        return data

    def prepare(self) -> Data:
        """Generates the data and the reference answers, once."""
        data = self.generate()
        if not data.plan.exists():
            print("computing the reference answers", flush=True)
            python = str(self.interpreter(registry.DATA_MODULE))
            command = [python, str(HERE / "reference.py"), str(data.source), str(data.plan)]
            subprocess.run(command, check=True, env=environment())
        return data

    def process(
        self, column: registry.Column, arguments: Sequence[str], seconds: float
    ) -> dict[str, Any]:
        """Runs a peer's module; what it measured, or how it failed."""
        folder = self.cache / column.module
        # Two runs at once, of different sizes, do not get into each other's way.
        output, log = folder / f"answer-{os.getpid()}.json", folder / f"log-{os.getpid()}.txt"
        command = [str(self.python[column.module]), str(HERE / "peers" / f"{column.module}.py")]
        command += [*arguments, "--variant", column.variant, "--output", str(output)]
        with log.open("w") as stream:
            try:
                finished = subprocess.run(
                    command, stdout=stream, stderr=stream, timeout=seconds, env=environment(),
                    check=False,
                )  # fmt: skip
            except subprocess.TimeoutExpired:
                return {"failed": f"not done in {seconds:.0f} s"}
        if finished.returncode < 0:
            return {"failed": f"crashed: {signal.Signals(-finished.returncode).name}"}
        if finished.returncode:
            lines = log.read_text(errors="replace").strip().splitlines()
            return {"failed": lines[-1][:200] if lines else "no message"}
        answer: dict[str, Any] = json.loads(output.read_text())
        output.unlink()
        log.unlink()
        return answer

    def build(self, column: registry.Column, data: Data) -> Path | None:
        """Builds a store unless it is there; None if it cannot be built."""
        target = self.cache / column.module / data.name / (column.variant + column.suffix)
        record = target.with_name(target.name + ".build.json")
        target.parent.mkdir(parents=True, exist_ok=True)
        # Other data makes other stores.
        again = self.args.rebuild or self.args.regenerate
        if again or not (target.exists() and record.exists()):
            print(f"building {column.name}", flush=True)
            places = ["--source", str(data.source), "--target", str(target)]
            answer = self.process(column, ["build", *places], self.args.build_timeout)
            record.write_text(json.dumps(answer))
        answer = json.loads(record.read_text())
        self.keep(column, "build", "once", answer)
        if "failed" in answer:
            print(f"{column.name}: not built: {answer['failed']}", flush=True)
            return None
        return target

    def measure(self, column: registry.Column, data: Data, target: Path, task: str) -> None:
        """Asks one store one question, cold and warm."""
        modes = ("cold", "warm") if self.args.cold else ("warm",)
        if self.args.resume and all(self.kept(column, task, mode) for mode in modes):
            return
        arguments = ["task", "--target", str(target), "--plan", str(data.plan)]
        arguments += ["--task", task, "--repetitions", str(self.args.repetitions)]
        arguments += ["--budget", str(self.args.budget), "--modes", ",".join(modes)]
        answer = self.process(column, arguments, self.args.timeout)
        for mode in modes:
            # What failed, or cannot be done, has no modes.
            self.keep(column, task, mode, answer.get(mode, answer))

    def kept(self, column: registry.Column, task: str, mode: str) -> bool:
        """Whether an earlier run measured this."""
        return mode in self.results["columns"].get(column.name, {}).get(task, {})

    def keep(self, column: registry.Column, task: str, mode: str, answer: dict[str, Any]) -> None:
        """Adds a measurement to the results."""
        of_column = self.results["columns"].setdefault(column.name, {})
        of_column.setdefault(task, {})[mode] = answer

    def run(self) -> None:
        """All of it."""
        args = self.args
        data = self.prepare()
        saved = self.cache / f"results-{data.name}.json"
        if args.resume and saved.exists():
            self.results = json.loads(saved.read_text())
        plan = json.loads(data.plan.read_text())
        self.results["data"] = {key: plan[key] for key in ("n_obs", "n_vars", "nonzeros")}
        stores: list[tuple[registry.Column, Path]] = []
        for column in chosen(args.peers):
            if self.interpreter(column.module) is None:
                print("slaf is not importable: its column is left out (see --slaf-python)")
                continue
            target = self.build(column, data)
            if target is not None:
                stores.append((column, target))
        if args.build_only:
            return
        tasks = args.tasks.split(",") if args.tasks else list(registry.TASKS)
        # Task by task: what is compared is measured within minutes of each other.
        for task in tasks:
            for column, target in stores:
                if task not in column.skip:
                    started = time.perf_counter()
                    self.measure(column, data, target, task)
                    saved.write_text(json.dumps(self.results, indent=1))
                    print(
                        f"{task} {column.name}: {time.perf_counter() - started:.1f} s", flush=True
                    )
        text = report.render(self.results)
        print(text)
        if args.output:
            args.output.parent.mkdir(parents=True, exist_ok=True)
            args.output.write_text(text + "\n")


def chosen(names: str | None) -> list[registry.Column]:
    """Columns asked for by name, or all."""
    if names is None:
        return list(registry.COLUMNS)
    asked = names.split(",")
    known = {column.name: column for column in registry.COLUMNS}
    unknown = [name for name in asked if name not in known]
    if unknown:
        raise SystemExit(f"unknown peers: {', '.join(unknown)}; there are {', '.join(known)}")
    return [known[name] for name in asked]


def environment() -> dict[str, str]:
    """Environment of a peer's process."""
    return {**os.environ, "PYTHONPATH": str(HERE)}


def machine() -> dict[str, Any]:
    """What the numbers were measured on."""
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "system": platform.system(),
        "processor": processor(),
        "cores": os.cpu_count(),
        "memory_gb": round(pages / 2**30),
    }


def processor() -> str:
    """Name of the processor where the system tells."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def main() -> None:
    """Command line."""
    default_cache = os.environ.get("SLAF_BENCH_CACHE", Path.home() / ".cache" / "slaf" / "bench")
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cells", type=int, default=100_000)
    parser.add_argument("--genes", type=int, default=30_000)
    parser.add_argument("--genes-per-cell", type=float, default=2_500)
    parser.add_argument("--peers", help="columns, separated by commas")
    parser.add_argument("--tasks", help=f"of {','.join(registry.TASKS)}")
    parser.add_argument("--repetitions", type=int, default=7)
    parser.add_argument("--budget", type=float, default=15, help="seconds of repeating a task")
    parser.add_argument("--timeout", type=float, default=300, help="seconds for a task's process")
    parser.add_argument("--build-timeout", type=float, default=3600)
    parser.add_argument("--no-cold", dest="cold", action="store_false", help="warm only")
    parser.add_argument("--rebuild", action="store_true", help="build the stores again")
    parser.add_argument("--regenerate", action="store_true", help="make data and stores again")
    parser.add_argument("--resume", action="store_true", help="keep what was measured before")
    parser.add_argument("--build-only", action="store_true")
    parser.add_argument("--cache", type=Path, default=Path(default_cache))
    parser.add_argument("--slaf-python", help="interpreter that has slaf")
    parser.add_argument("--output", type=Path, help="also write the table to this file")
    Runner(parser.parse_args()).run()


if __name__ == "__main__":
    main()
