"""Children of `multiprocessing` log and end.

python processes.py fork|spawn|forkserver COUNT
"""

from __future__ import annotations

import logging
import multiprocessing
import sys

import logweir

SIDE_BY_SIDE = 4


def child(number: int) -> None:
    if not logging.getLogger().handlers:
        # A child that is not forked begins with nothing.
        logweir.init("processes")
    logging.info("child %d", number)


def main() -> None:
    method, count = sys.argv[1], int(sys.argv[2])
    logweir.init("processes")
    logging.info("parent")
    context = multiprocessing.get_context(method)
    for first in range(0, count, SIDE_BY_SIDE):
        children = [
            context.Process(target=child, args=(number,))
            for number in range(first, min(first + SIDE_BY_SIDE, count))
        ]
        for process in children:
            process.start()
        for process in children:
            process.join()
            assert process.exitcode == 0
    with context.Pool(2) as pool:
        pool.map(child, range(count, count + 10))
        pool.close()
        pool.join()


if __name__ == "__main__":
    main()
