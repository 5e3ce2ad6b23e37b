"""What the queue holds in memory at its cap, by what it counts and by what the interpreter has allocated.

python bench/memory.py [CHARACTERS OF A MESSAGE …]
"""

from __future__ import annotations

import sys
import tracemalloc

import logweir

CAP = 16 << 20
SIZES = (40, 200, 1_000, 10_000)
# Nobody listens there.
NOWHERE = "http://127.0.0.1:1"


def held(characters: int) -> float:
    client = logweir.Client(
        endpoint=NOWHERE, service="bench", queue_bytes=CAP, queue_records=1 << 20, on_notice=lambda text: None
    )
    logs = 2 * CAP // characters
    tracemalloc.start()
    for number in range(min(logs, 60_000)):
        client.emit("ERROR", f"log {number} ".ljust(characters, "x"), user=number)
    client.stats()
    traced, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    counted = client.shared.queue.bytes
    client.shutdown(0)
    print(
        f"  {characters:6} characters: counted {counted / CAP:6.1%} of the cap, allocated {traced / CAP:6.1%}"
    )
    return traced / CAP


def main() -> None:
    print(f"a queue of {CAP >> 20} MiB; Python {sys.version.split()[0]}")
    for characters in map(int, sys.argv[1:] or SIZES):
        held(characters)


if __name__ == "__main__":
    main()
