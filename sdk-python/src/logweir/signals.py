"""SIGTERM: the last logs are sent, and the signal stays the program's."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType
from typing import Any, Optional

from logweir.client import EXIT_TIMEOUT, Client


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

    def on_sigterm(number: int, frame: Optional[FrameType]) -> Any:
        if callable(before):
            client.flush(0)
            return before(number, frame)
        client.shutdown(EXIT_TIMEOUT)
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
        return None

    signal.signal(signal.SIGTERM, on_sigterm)
