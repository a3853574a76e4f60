"""The console script ``slaf``."""

from __future__ import annotations

import signal
import sys

from slaf import _slaf


def main() -> None:
    """Run the command line and exit with its status.

    ``slaf analyze`` is of Python, since it calls packages of Python; all other commands are of
    Rust, which lists this one in its help.
    """
    if sys.argv[1:2] == ["analyze"]:
        from slaf.analysis._command import run

        sys.exit(run(sys.argv[2:]))
    # Python's handler would run only after the command; the command has its own. Ctrl-C that is
    # ignored, as under nohup, stays so.
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    sys.exit(_slaf.cli_main(sys.argv))
