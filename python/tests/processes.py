"""Processes of tests: none is waited for without a limit. And how often hostile tests repeat."""

import os
import subprocess
import sys
import threading
from contextlib import contextmanager

# Seconds that a process may take; long, for machines that do much else.
LIMIT = 120

# What is interrupted must not ignore Ctrl-C, as the tests themselves may: under nohup, or in the
# background of a script.
RESET = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)
os.execv(sys.argv[1], sys.argv[1:])
"""


@contextmanager
def child(command, limit=LIMIT, **kwargs):
    """A process that Ctrl-C interrupts; it ends with the context, and after `limit` seconds."""
    command = [sys.executable, "-c", RESET, *map(str, command)]
    with subprocess.Popen(command, **kwargs) as process:
        # Whatever the test waits for, it ends with the process.
        guard = threading.Timer(limit, process.kill)
        guard.start()
        try:
            yield process
        finally:
            guard.cancel()
            process.kill()


def rounds(short, full):
    """How often: `make test-faults` takes its time."""
    return full if os.environ.get("SLAF_FAULTS") == "full" else short


#: The command as the installed script runs it, of the package that is imported.
SLAF = [sys.executable, "-c", "from slaf._cli import main; main()"]


def run_slaf(*args, timeout=60, **options):
    """Run the command to its end; its output is text."""
    command = [*SLAF, *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, **options)
