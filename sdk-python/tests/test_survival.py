"""What a program may do to the library: let go of it, fork or be interrupted at the worst moment, hand over
values that cannot be shown, log where the library calls it. Nothing of it may throw, hang or lose a log in
silence."""

from __future__ import annotations

import subprocess
import sys

from server import PATIENCE, serving


def run_code(code: str, *arguments: str) -> str:
    """Runs a program to its end, and returns what it prints."""
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=PATIENCE, check=True)
    return done.stdout


NO_IMPORT_LATER = """
import sys, logweir
client = logweir.Client(service="tests", endpoint=sys.argv[1])
before = set(sys.modules)
client.emit("INFO", "one")
assert client.flush(60).sent == 1
print(sorted(set(sys.modules) - before))
"""


def test_the_sending_thread_imports_nothing() -> None:
    """A fork during an import leaves the child with half a module for good."""
    with serving() as server:
        assert run_code(NO_IMPORT_LATER, f"http://localhost:{server.port}") == "[]\n"


LET_GO = """
import gc, sys, logweir

def main():
    client = logweir.Client(service="tests", endpoint=sys.argv[1], batch_delay=3600)
    client.emit("INFO", "from a function")

main()
gc.collect()
"""


def test_a_client_that_the_program_lets_go_of_sends_its_logs() -> None:
    with serving() as server:
        run_code(LET_GO, server.endpoint)
        assert server.messages == ["from a function"]
