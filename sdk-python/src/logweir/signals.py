"""SIGTERM: the last logs are sent, and the signal stays the program's."""

from __future__ import annotations

import os
import re
import signal
import threading
from types import FrameType
from typing import Any

from logweir import platform
from logweir.client import EXIT_TIMEOUT, Client

_CAUGHT = re.compile(r"^SigCgt:\s*([0-9a-f]+)$", re.MULTILINE)


def _is_caught_outside_of_python() -> bool:
    """Whether the process has a handler for SIGTERM, by what the kernel says where it says so."""
    try:
        found = _CAUGHT.search(platform.read_text("/proc/self/status"))
    except OSError:
        return False
    return found is not None and bool(int(found[1], 16) >> (signal.SIGTERM - 1) & 1)


def flush_on_sigterm(client: Client) -> None:
    """Flushes on SIGTERM, then does what would have been done without it.

    Only the main thread may do so; elsewhere, and where the program ignores the signal, it does nothing. A
    handler that the program has already is called at once, with the logs on their way; one that it sets
    later takes the place of this, and the end of the process flushes.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    before = signal.getsignal(signal.SIGTERM)
    if before is None or before is signal.SIG_IGN:
        # None: it was not set by Python, and cannot be called.
        return
    if before is signal.SIG_DFL and _is_caught_outside_of_python():
        # A server that embeds Python, such as uWSGI, which would wait for it in vain.
        return

    def on_sigterm(number: int, frame: FrameType | None) -> Any:
        if client.defers(number):
            return None
        if callable(before):
            client.flush(0)
            return before(number, frame)
        client.shutdown(EXIT_TIMEOUT)
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
        return None

    signal.signal(signal.SIGTERM, on_sigterm)
