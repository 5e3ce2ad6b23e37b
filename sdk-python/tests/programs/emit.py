"""Emits numbered logs, waits until their fate is settled, and prints what became of them.

    python emit.py FIRST COUNT      with LOGWEIR_ENDPOINT, LOGWEIR_TOKEN and, if wanted, LOGWEIR_SPOOL_DIR

Prints one line of JSON, the client's counts, and ends with 0.
"""

from __future__ import annotations

import dataclasses
import json
import sys
import time

from logweir import Client, RetryPolicy

TIME = 1_700_000_000_000_000_000
MOMENT = 0.01
QUICK = RetryPolicy(first=MOMENT, max=MOMENT, server_delay_max=MOMENT)
QUEUED_MAX = 10_000
TIMEOUT = 120.0
STEP = 100


def main() -> None:
    first, count = map(int, sys.argv[1:3])
    client = Client(service="python", retry=QUICK)
    for number in range(first, first + count):
        client.emit("INFO", f"log {number} of the sdk test", time_unix_nano=TIME + number)
        if number % STEP == 0:
            while client.stats().queued > QUEUED_MAX:
                time.sleep(MOMENT)
    client.shutdown(TIMEOUT)
    print(json.dumps(dataclasses.asdict(client.stats())), flush=True)


if __name__ == "__main__":
    main()
