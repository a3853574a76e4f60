"""The command ``slaf analyze``."""

from __future__ import annotations

import argparse
import errno
import json
import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from slaf._errors import SlafError
from slaf.analysis._analyze import analyze, plan
from slaf.analysis._parameters import FLAVORS, METHODS, PRESETS

#: Options that are fields of the parameters: name, type or choices, and what they are.
_OPTIONS: Sequence[tuple[str, Any, str]] = (
    ("batch-key", str, "column of obs that has the batch (donor, sample) of each cell"),
    ("layer", str, "layer that has the counts, in place of X"),
    ("symbols", str, "column of var that has symbols of genes"),
    ("min-counts", int, "reject cells with fewer counts"),
    ("max-counts", int, "reject cells with so many counts or more"),
    ("min-genes", int, "reject cells with fewer genes"),
    ("max-genes", int, "reject cells with so many genes or more"),
    ("max-pct-mt", float, "reject cells with so many percent of mitochondrial counts or more"),
    ("mads", float, "reject cells so many median absolute deviations from the median; 0: do not"),
    ("mads-mt", float, "the same of the mitochondrial share"),
    ("min-cells", int, "leave out genes with counts in fewer cells"),
    ("target-sum", float, "counts of each cell after normalisation (median)"),
    ("flavor", FLAVORS, "how variable genes are found"),
    ("n-top-genes", int, "number of variable genes; 0: by cut-offs"),
    ("scale", float, "scale genes before the components, and clip to this; 0: do not"),
    ("n-comps", int, "number of principal components"),
    ("n-neighbors", int, "neighbours of a cell, itself among them"),
    ("n-pcs", int, "components that neighbours are found by"),
    ("resolution", float, "of clusters: higher ones give more"),
    ("method", METHODS, "test of markers"),
    ("n-markers", int, "genes listed for each cluster"),
    ("seed", int, "of everything that draws"),
)
#: Options whose 0 means that something is not done.
_ZERO_IS_NONE = ("mads", "mads_mt", "n_top_genes", "scale", "max_pct_mt", "target_sum")


_EPILOG = """\
Examples:
  slaf analyze pbmc.slaf --preset pbmc --out report.html
  slaf analyze atlas.slaf --batch-key donor --dry-run
"""


class _Formatter(argparse.HelpFormatter):
    """Leaves the lines of the examples as they are."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return text if text == _EPILOG else super()._fill_text(text, width, indent)


class _Parser(argparse.ArgumentParser):
    """Fails where help cannot be printed; argparse would say nothing."""

    def print_help(self, file: Any = None) -> None:
        if status := _show(self.format_help().rstrip()):
            self.exit(status)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="slaf analyze",
        description="From counts to clusters and markers: quality control, normalisation, variable "
        "genes, components, neighbours, layout, clusters and markers, each written into the store "
        "as one version. A second run goes on where the first was stopped.",
        epilog=_EPILOG,
        formatter_class=_Formatter,
        allow_abbrev=False,
    )
    parser.add_argument("store", help="the store: a folder, or a path that begins with s3://, ...")
    parser.add_argument("--preset", choices=list(PRESETS), help="a set of parameters")
    for name, kind, about in _OPTIONS:
        if isinstance(kind, tuple):
            parser.add_argument(f"--{name}", choices=kind, help=about)
        else:
            parser.add_argument(f"--{name}", type=kind, help=about, metavar=kind.__name__.upper())
    parser.add_argument("--doublets", action="store_true", help="find and leave out doublets")
    for what, about in (
        ("harmony", "do not take out what differs between batches"),
        ("umap", "no layout"),
        ("clusters", "no clusters, and no markers"),
    ):
        parser.add_argument(f"--no-{what}", action="store_true", help=about)
    parser.add_argument("--key-added", metavar="PREFIX", help="put PREFIX_ before all names")
    parser.add_argument("--out", metavar="FILE", help="write a report: one file of HTML")
    parser.add_argument("--overwrite", action="store_true", help="replace the file of the report")
    parser.add_argument("--dry-run", action="store_true", help="only tell what would be done")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument(
        "--storage-option",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        type=_key_value,
        help="an option of the object store (repeatable)",
    )
    return parser


def _key_value(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not key or not equals:
        # The text itself may hold a secret: it is not repeated.
        raise argparse.ArgumentTypeError("expected KEY=VALUE")
    return key, value


def _given(arguments: argparse.Namespace) -> dict[str, Any]:
    """The arguments of :func:`analyze`."""
    options: dict[str, Any] = {}
    for name, _, _ in _OPTIONS:
        field = name.replace("-", "_")
        value = getattr(arguments, field)
        if value is not None:
            options[field] = None if field in _ZERO_IS_NONE and value == 0 else value
    if arguments.doublets:
        options["doublets"] = True
    for what in ("harmony", "umap", "clusters"):
        if getattr(arguments, f"no_{what}"):
            options[what] = False
    options |= {"preset": arguments.preset, "key_added": arguments.key_added}
    options["storage_options"] = dict(arguments.storage_option)
    return options


@contextmanager
def _line(number: int, count: int, title: str) -> Iterator[Callable[[str], None]]:
    """A line on the terminal while a step is done, and what it gave."""
    start = f"\r\x1b[K[{number}/{count}] {title}"
    sys.stderr.write(f"{start} ...")
    sys.stderr.flush()
    told: list[str] = []
    try:
        yield told.append
    finally:
        end = f"{start}: {told[0]}" if told else start
        sys.stderr.write(f"{end}\n")
        sys.stderr.flush()


class _Ended(BaseException):
    """A signal that ends the process, where it is not Ctrl-C."""

    def __init__(self, number: int):
        super().__init__(number)
        self.number = number


@contextmanager
def _signals() -> Iterator[None]:
    """Let SIGTERM and SIGHUP stop what is done, as Ctrl-C does; ignored ones stay so."""

    def end(number: int, _: Any) -> None:
        raise _Ended(number)

    numbers = [getattr(signal, name, None) for name in ("SIGTERM", "SIGHUP")]
    heeded = [n for n in numbers if n is not None and signal.getsignal(n) is signal.SIG_DFL]
    try:
        for number in heeded:
            signal.signal(number, end)
        yield
    finally:
        for number in heeded:
            signal.signal(number, signal.SIG_DFL)


def _show(text: str) -> int:
    """Print on the standard output; gives the exit status."""
    try:
        print(text, flush=True)
    except OSError as e:
        # Python would try again at its end.
        sys.stdout = None
        if isinstance(e, BrokenPipeError):
            # The reader of a pipe stopped early.
            return 0
        full = e.errno in (errno.ENOSPC, errno.EDQUOT)
        kind = "disk-full" if full else "io"
        _fail(f"the standard output: {os.strerror(e.errno or 0)} [{kind}]")
        return 1
    return 0


def _fail(what: str) -> None:
    # A closed one is None, which print() takes for the standard output.
    if sys.stderr is not None:
        print(f"slaf: {what}", file=sys.stderr)


def run(arguments: Sequence[str]) -> int:
    """Run the command and give its exit status.

    0, 1 for a failure, 2 for a wrong command line, 128 and the number of the signal after one.
    """
    if sys.stdout is None:
        what = "the standard output is closed: send it to /dev/null if it is not wanted"
        _fail(f"{what} [io]")
        return 1
    parser = _parser()
    try:
        parsed = parser.parse_args(arguments)
    except SystemExit as e:
        return int(e.code or 0)
    options = _given(parsed)
    with warnings.catch_warnings():
        # Warnings of libraries are for those who write code.
        warnings.simplefilter("ignore")
        try:
            with _signals():
                if parsed.dry_run:
                    report = plan(parsed.store, **options)
                else:
                    is_shown = sys.stderr is not None and sys.stderr.isatty()
                    progress = _line if is_shown else None
                    files = {"out": parsed.out, "overwrite": parsed.overwrite}
                    report = analyze(parsed.store, progress=progress, **files, **options)
        except SlafError as e:
            _fail(f"{e} [{e.kind}]")
            return 1
        except KeyboardInterrupt:
            _fail("interrupted; what was done is kept")
            return 128 + signal.SIGINT
        except _Ended as e:
            name = signal.Signals(e.number).name
            _fail(f"interrupted by {name}; what was done is kept")
            return 128 + e.number
    return _show(json.dumps(report.to_dict(), indent=2) if parsed.json else str(report))
