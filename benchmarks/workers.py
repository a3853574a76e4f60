"""Times conversion by one process and by several, in turns: a busy machine is busy for both.

    python generate.py counts.h5ad --cells 50000 --genes 30000 --genes-per-cell 2000
    python workers.py counts.h5ad --workers 2 4 --turns 3

`--slaf` is the program: the binary, or the script of an installed package. Prints a table in
Markdown: medians in seconds, and their ratio to one process.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import tempfile
import time
from pathlib import Path


def convert(program: list[str], inputs: list[str], store: Path, workers: int | None) -> float:
    """Seconds of a conversion."""
    shutil.rmtree(store, ignore_errors=True)
    command = [*program, "convert", *inputs, str(store)]
    if workers is not None:
        command += ["--workers", str(workers)]
    begin = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=3600)
    return time.perf_counter() - begin


def stripes(store: Path) -> int:
    """Pieces of the gene-major copy."""
    newest = max((store / "_slaf" / "versions").glob("*.json"))
    return len(json.loads(newest.read_text())["stripes"])


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("inputs", nargs="+")
    parser.add_argument("--workers", type=int, nargs="+", default=[4])
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--slaf", nargs="+", default=["slaf"])
    parser.add_argument("--folder", help="where the stores go; a temporary folder by default")
    args = parser.parse_args()
    kinds: list[int | None] = [None, *args.workers]
    seconds: dict[int | None, list[float]] = {kind: [] for kind in kinds}
    pieces: dict[int | None, int] = {}
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        store = Path(folder) / "out.slaf"
        # Files are in the page cache for all alike.
        convert(args.slaf, args.inputs, store, None)
        for turn in range(args.turns):
            for kind in kinds if turn % 2 == 0 else kinds[::-1]:
                seconds[kind].append(convert(args.slaf, args.inputs, store, kind))
                pieces[kind] = stripes(store)
    one = statistics.median(seconds[None])
    print("| processes | seconds | lowest | highest | ratio | stripes |\n|---|---|---|---|---|---|")
    for kind in kinds:
        found = seconds[kind]
        name = "one" if kind is None else f"`--workers {kind}`"
        median = statistics.median(found)
        print(
            f"| {name} | {median:.2f} | {min(found):.2f} | {max(found):.2f} "
            f"| {median / one:.2f} | {pieces[kind]} |"
        )


if __name__ == "__main__":
    main()
