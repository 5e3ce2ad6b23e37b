"""Clients for tests: quick to try again, and what they say is kept."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Callable

from server import PATIENCE

from logweir import Client, RetryPolicy
from logweir.delivery import spool_owner
from logweir.delivery.spool_owner import OWNER_FILE, Owner

MOMENT = 0.001
HOUR = 3_600.0
QUICK = RetryPolicy(
    first=MOMENT,
    max=MOMENT,
    server_delay_max=MOMENT,
    token_first=MOMENT,
    token_max=MOMENT,
    permission_wait=MOMENT,
    permission_pause=MOMENT,
)


class Notices:
    """What the library says, as it says it."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self._changed = threading.Condition()

    def __call__(self, text: str) -> None:
        with self._changed:
            self.texts.append(text)
            self._changed.notify_all()

    def wait_for(self, part: str) -> str:
        """The first notice with this text in it, once there is one."""
        with self._changed:
            assert self._changed.wait_for(lambda: self._with(part) is not None, PATIENCE), self.texts
            return str(self._with(part))

    def _with(self, part: str) -> Any:
        return next((text for text in self.texts if part in text), None)


@contextmanager
def client_of(endpoint: str, **settings: Any) -> Iterator[Client]:
    """A client of its own service, shut down at the end."""
    defaults = {
        "endpoint": endpoint,
        "service": "tests",
        "retry": QUICK,
        "compression": "none",
        "on_notice": Notices(),
        "resource_detection": False,
    }
    client = Client(**{**defaults, **settings})
    try:
        yield client
    finally:
        client.shutdown(PATIENCE)


def balanced(client: Client) -> bool:
    """Whether every log that was handed over is in one count."""
    stats = client.stats()
    settled = stats.sent + stats.rejected + sum(stats.dropped.values())
    return stats.emitted == settled + stats.queued + stats.in_flight + stats.spooled


def wait_until(condition: Callable[[], bool]) -> None:
    """Waits for what another thread or process does."""
    deadline = threading.Event()
    timer = threading.Timer(PATIENCE, deadline.set)
    timer.daemon = True
    timer.start()
    while not condition():
        assert not deadline.is_set(), "it did not happen in time"
        deadline.wait(MOMENT)
    timer.cancel()


def kill(root: Path) -> None:
    """Makes the owners of all folders of a spool dead: a process that has ended had their number."""
    ended = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], stdout=subprocess.PIPE)
    for file in root.glob(f"*/{OWNER_FILE}"):
        file.write_text(Owner(int(ended.stdout), "1", spool_owner.own_namespace()).line())
