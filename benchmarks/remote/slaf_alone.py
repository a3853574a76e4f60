"""What only SLAF is asked over an object store.

    slaf_alone.py commit ADDRESS ENDPOINT N
    slaf_alone.py clients ADDRESS ENDPOINT LOCAL THREADS SECONDS QUESTIONS

`commit` makes versions that change one entry of uns, `clients` is that of `team.py`: right is what
the same store on the local disk answers.
"""

from __future__ import annotations

import sys

import team

from remote import access
from slaf import SLAFArray


def main() -> None:
    """Command line."""
    action, address, endpoint, *rest = sys.argv[1:]
    array = SLAFArray(address, storage_options=access.options(endpoint))
    if action == "commit":
        for i in range(int(rest[0])):
            array.set_uns("commit", i, overwrite=True)
        return
    local, n_threads, seconds, n_questions = rest
    team.clients(array, SLAFArray(local), int(n_threads), float(seconds), int(n_questions))


if __name__ == "__main__":
    main()
