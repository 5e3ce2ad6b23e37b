"""The one place that touches the outside directly: the clock, randomness, the process, stderr.
Everything else takes these as arguments."""

from __future__ import annotations

import contextlib
import os
import random
import socket
import sys
import time
from contextvars import ContextVar
from threading import Condition, RLock
from typing import Callable

Notice = Callable[[str], None]
"""Called with each line of text that a person should read."""

now = time.monotonic
"""Seconds on a clock that never jumps."""

now_unix_nano = time.time_ns
"""Nanoseconds since 1970-01-01 UTC by the machine's clock."""

random_bytes = os.urandom
"""Random bytes, for ids."""

process_id = os.getpid
"""The number of this process, which a fork changes."""

inside_mark: ContextVar[bool] = ContextVar("logweir_inside", default=False)
"""Set where the library itself is at work: what it logs must not come back to it. A variable of the
context, because under gevent many contexts share a thread."""

inside = inside_mark.get
"""Whether the library itself is at work here."""

before_send_mark: ContextVar[bool] = ContextVar("logweir_before_send", default=False)
"""Set where the program's `before_send` runs: what it logs is the program's, but is not given to it."""

inside_before_send = before_send_mark.get
"""Whether `before_send` runs here."""


def holds(lock: RLock) -> bool:
    """Whether what runs here holds this lock: nobody else may notify those who wait for a condition of it."""
    try:
        Condition(lock).notify(0)
    except RuntimeError:
        return False
    return True


def random_share() -> float:
    """A random share, 0.0 up to 1.0. Never seeded by the program, so that no two processes wait alike."""
    return _system_random.random()


_system_random = random.SystemRandom()


def host_name() -> str:
    """The name of this machine."""
    return socket.gethostname()


def read_text(path: str) -> str:
    """The text of a file; raises OSError. What is no UTF-8 is replaced."""
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read()


def notice_on_stderr(text: str) -> None:
    """Writes a notice to stderr. A program without stderr has nobody to tell, and must not fail for it."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        sys.stderr.write(f"logweir: {text}\n")
        sys.stderr.flush()
