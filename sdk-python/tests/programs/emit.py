"""Emits numbered logs, says so, waits until their fate is settled, and prints what became of them.

    python emit.py FIRST COUNT WAITING_MAX

with LOGWEIR_ENDPOINT, LOGWEIR_TOKEN and, if wanted, LOGWEIR_SPOOL_DIR. Waits while more than WAITING_MAX
of its logs do. Prints "emitted" once they are, and at last one line of JSON, the client's counts.
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
TIMEOUT = 120.0
STEP = 100


def main() -> None:
    first, count, waiting_max = map(int, sys.argv[1:4])
    client = Client(service="python", retry=QUICK)
    for number in range(first, first + count):
        client.emit("INFO", f"log {number} of the sdk test", time_unix_nano=TIME + number)
        if number % STEP == 0:
            while client.stats().queued > waiting_max:
                time.sleep(MOMENT)
    print("emitted", flush=True)
    client.shutdown(TIMEOUT)
    print(json.dumps(dataclasses.asdict(client.stats())), flush=True)


if __name__ == "__main__":
    main()
