"""Coroutines log side by side, each in a trace of its own.

python coroutines.py COUNT
"""

from __future__ import annotations

import asyncio
import logging
import sys

import logweir


async def work(number: int) -> None:
    with logweir.trace() as context:
        logging.info("start %d", number)
        await asyncio.sleep(0)
        logging.info("end %d of %s", number, context.trace_id.hex())


async def main() -> None:
    await asyncio.gather(*(work(number) for number in range(int(sys.argv[1]))))


if __name__ == "__main__":
    logweir.init("coroutines")
    asyncio.run(main())
