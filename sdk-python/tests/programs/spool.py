"""Emits numbered logs for ever, its spool on, and says which of them are safe; made to be killed.

    python spool.py FIRST      with LOGWEIR_ENDPOINT, LOGWEIR_TOKEN and LOGWEIR_SPOOL_DIR

Prints `safe N` once all logs below N are on disk, or answered.
"""

from __future__ import annotations

import sys

from logweir import Client, RetryPolicy

TIME = 1_700_000_000_000_000_000
MOMENT = 0.01
QUICK = RetryPolicy(first=MOMENT, max=MOMENT, server_delay_max=MOMENT)
STEP = 50
BATCH_RECORDS = 200


def main() -> None:
    client = Client(service="python", retry=QUICK, batch_records=BATCH_RECORDS)
    start = int(sys.argv[1])
    while True:
        for number in range(start, start + STEP):
            client.emit("INFO", f"log {number} of the sdk test", time_unix_nano=TIME + number)
        start += STEP
        # What is not answered at once must be in the spool.
        report = client.flush(0)
        if report.dropped:
            sys.exit(f"there is room for all, but {report.dropped} were dropped")
        if report.pending == 0:
            print(f"safe {start}", flush=True)


if __name__ == "__main__":
    main()
