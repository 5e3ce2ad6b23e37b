"""Sends what dead processes left in the spool, and prints what became of it.

    python adopt.py      with LOGWEIR_ENDPOINT, LOGWEIR_TOKEN and LOGWEIR_SPOOL_DIR

Prints one line of JSON, the client's counts, and ends with 0.
"""

from __future__ import annotations

import dataclasses
import json
import time

from logweir import Client, RetryPolicy

MOMENT = 0.01
QUICK = RetryPolicy(first=MOMENT, max=MOMENT, server_delay_max=MOMENT)
IN_FLIGHT = 32
TIMEOUT = 120.0


def main() -> None:
    client = Client(service="python", retry=QUICK, in_flight=IN_FLIGHT)
    # A flush is answered after the first look for dead folders.
    client.flush(TIMEOUT)
    while client.stats().adopted_waiting > 0:
        time.sleep(MOMENT)
    client.shutdown(TIMEOUT)
    print(json.dumps(dataclasses.asdict(client.stats())), flush=True)


if __name__ == "__main__":
    main()
