"""Forks again and again while it logs; each child logs and ends.

    python forks.py COUNT

Ends with 0 if every child ended well and in time.
"""

from __future__ import annotations

import logging
import os
import signal
import sys

import logweir

# The end of a process waits for its last logs for 5 s: on a busy machine, more would take too long together.
SIDE_BY_SIDE = 5
# A child that takes longer hangs.
TIMEOUT_S = 120


def child(number: int) -> None:
    signal.alarm(TIMEOUT_S)
    logging.info("child %d", number)
    sys.exit(0)


def main() -> None:
    client = logweir.init("forks")
    logging.info("before all")
    client.flush()
    count = int(sys.argv[1])
    failed = 0
    for first in range(0, count, SIDE_BY_SIDE):
        children = []
        for number in range(first, min(first + SIDE_BY_SIDE, count)):
            # It waits in memory at the fork, and is the parent's to send.
            logging.info("parent %d", number)
            process_id = os.fork()
            if process_id == 0:
                child(number)
            children.append(process_id)
        failed += sum(os.waitpid(process_id, 0)[1] != 0 for process_id in children)
    sys.exit(failed)


if __name__ == "__main__":
    main()
