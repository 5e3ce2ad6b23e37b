"""Waits for sockets, and can be woken from another thread.

`select.poll` is looked up at each use, so that gevent's takes its place wherever the program has it so.
It has no file of its own: a forked child that closes its copy of the sockets leaves the parent's alone.
"""

from __future__ import annotations

import contextlib
import math
import select
import socket
import time
from collections.abc import Iterable

# Without a free file for the sockets that wake it, a wait ends this often, seconds, and looks by itself.
BLIND_INTERVAL = 0.1


class Poller:
    """For one thread that waits, and any that wake it. Makes its sockets at the first wait, so that who only
    wakes it needs no files."""

    def __init__(self) -> None:
        # Whether the next wait ends at once. It counts alone until there are sockets.
        self._is_woken = False
        self._sockets: tuple[socket.socket, socket.socket] | None = None

    def wake(self) -> None:
        """Ends the wait that runs, or else the next one."""
        self._is_woken = True
        # In this order: who waits makes the sockets first, and then looks whether it was woken.
        if self._sockets is not None:
            with contextlib.suppress(OSError, ValueError):
                # A socket that is full has woken it already; one that is closed has nobody to wake.
                self._sockets[1].send(b"w")

    def wait(self, sockets: Iterable[tuple[int, bool]], seconds: float) -> dict[int, bool]:
        """Waits until one of these sockets can be read from, or written to where so asked; at most so
        long. Those that can, and whether they can be read from."""
        own = self._open()
        if own is None:
            seconds = min(seconds, BLIND_INTERVAL)
        if self._is_woken:
            seconds = 0.0
        numbers = dict(sockets) if own is None else {own.fileno(): False, **dict(sockets)}
        ready = _wait(numbers, max(seconds, 0.0))
        self._is_woken = False
        if own is not None and ready.pop(own.fileno(), False):
            with contextlib.suppress(OSError):
                while own.recv(4_096):
                    pass
        return ready

    def _open(self) -> socket.socket | None:
        """The socket that tells of a wake; none while no file is free for it."""
        if self._sockets is None:
            try:
                pair = socket.socketpair()
            except OSError:
                return None
            for end in pair:
                end.setblocking(False)
            self._sockets = pair
        return self._sockets[0]

    def close(self) -> None:
        """Gives both sockets back."""
        for end in self._sockets or ():
            end.close()


def _wait(sockets: dict[int, bool], seconds: float) -> dict[int, bool]:
    if not hasattr(select, "poll"):
        if not sockets:
            # Windows takes it for an error to select among none.
            time.sleep(seconds)
            return {}
        writers = [number for number, writes in sockets.items() if writes]
        readable, writable, broken = select.select(list(sockets), writers, list(sockets), seconds)
        return {number: number in readable for number in {*readable, *writable, *broken}}
    poll = select.poll()
    for number, writes in sockets.items():
        poll.register(number, select.POLLIN | (select.POLLOUT if writes else 0))
    reads = select.POLLIN | select.POLLHUP | select.POLLERR
    return {number: bool(events & reads) for number, events in poll.poll(math.ceil(seconds * 1e3))}
