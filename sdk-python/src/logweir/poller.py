"""Waits for sockets, and can be woken from another thread.

`select.poll` is looked up at each use, so that gevent's takes its place wherever the program has it so.
It has no file of its own: a forked child that closes its copy of the sockets leaves the parent's alone.
"""

from __future__ import annotations

import contextlib
import math
import select
import socket
from collections.abc import Iterable


class Poller:
    """For one thread that waits, and any that wake it."""

    def __init__(self) -> None:
        self._receiver, self._sender = socket.socketpair()
        self._receiver.setblocking(False)
        self._sender.setblocking(False)

    def wake(self) -> None:
        """Ends the wait that runs, or else the next one."""
        with contextlib.suppress(OSError, ValueError):
            # A socket that is full has woken it already; one that is closed has nobody to wake.
            self._sender.send(b"w")

    def wait(self, sockets: Iterable[tuple[int, bool]], seconds: float) -> dict[int, bool]:
        """Waits until one of these sockets can be read from, or written to where so asked; at most so
        long. Those that can, and whether they can be read from."""
        own = self._receiver.fileno()
        ready = _wait({own: False, **dict(sockets)}, max(seconds, 0.0))
        if ready.pop(own, False):
            with contextlib.suppress(OSError):
                while self._receiver.recv(4_096):
                    pass
        return ready

    def close(self) -> None:
        """Gives both sockets back."""
        self._receiver.close()
        self._sender.close()


def _wait(sockets: dict[int, bool], seconds: float) -> dict[int, bool]:
    if not hasattr(select, "poll"):
        writers = [number for number, writes in sockets.items() if writes]
        readable, writable, broken = select.select(list(sockets), writers, list(sockets), seconds)
        return {number: number in readable for number in {*readable, *writable, *broken}}
    poll = select.poll()
    for number, writes in sockets.items():
        poll.register(number, select.POLLIN | (select.POLLOUT if writes else 0))
    reads = select.POLLIN | select.POLLHUP | select.POLLERR
    return {number: bool(events & reads) for number, events in poll.poll(math.ceil(seconds * 1e3))}
