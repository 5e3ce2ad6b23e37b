"""Those who wait for a flush or the shutdown."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Callable

from logweir.delivery.shared import Command, Shared
from logweir.report import FlushReport


@dataclass(eq=False)
class _Waiter:
    command: Command
    # It waits for the logs before this position of the queue.
    position: int
    # It waits for the batches with tags below this; none while one of its logs is still in the queue.
    mark: int | None = None
    # The account was sent after its logs, or the server knew it.
    account_told: bool = False


class Waiters:
    """Each waits until its logs are done with, then until the server knows the account, but not beyond its
    deadline. `tell_account` sends the account, if it is news to the server."""

    def __init__(self, shared: Shared, tell_account: Callable[[float], None]) -> None:
        self._shared = shared
        self._queue = shared.queue
        self._lock = shared.queue.lock
        self._outstanding = shared.outstanding
        self._progress = shared.progress
        self._tell_account = tell_account
        self._waiting: list[_Waiter] = []

    def accept_commands(self, now: float) -> int:
        """Takes in the calls made since the last time. Logs before the position returned are waited for."""
        position = 0
        while self._shared.commands:
            command = self._shared.commands.popleft()
            with self._lock:
                self._queue.take_in(now)
                self._queue.closed = self._queue.closed or command.closes
                position = self._queue.next_position
            self._waiting.append(_Waiter(command, position))
        return position

    def reply(self, now: float) -> None:
        """Replies to those whose logs are done with, or whose time is up. A shutdown is left to the end."""
        for waiter in list(self._waiting):
            self._advance(waiter, now)
            if self._is_over(waiter, now) and not waiter.command.closes:
                waiter.command.reply(self._report(waiter))
                self._waiting.remove(waiter)

    def is_shutdown_over(self, now: float) -> bool:
        """Whether a shutdown has done what it could."""
        return any(waiter.command.closes and self._is_over(waiter, now) for waiter in self._waiting)

    def next_deadline(self) -> float:
        """When the time of the first is up."""
        return min((waiter.command.deadline for waiter in self._waiting), default=math.inf)

    def reply_to_all(self) -> None:
        """Gives all who wait, and all to come, the last report."""
        with self._lock:
            report = FlushReport(
                sent=self._progress.sent,
                rejected=self._progress.rejected,
                dropped=self._shared.dropped(),
                spooled=self._outstanding.spooled,
            )
        self._shared.last_report = report
        for waiter in self._waiting:
            waiter.command.reply(report)
        while self._shared.commands:
            self._shared.commands.popleft().reply(report)

    def _advance(self, waiter: _Waiter, now: float) -> None:
        """First the logs, then the account."""
        with self._lock:
            oldest = self._queue.oldest()
            if waiter.mark is None and (oldest is None or oldest.position >= waiter.position):
                waiter.mark = self._outstanding.mark()
        if not waiter.account_told and self._is_complete(waiter):
            waiter.account_told = True
            self._tell_account(now)
            # Also when another waiter's account is under way.
            waiter.mark = self._outstanding.mark()

    def _is_complete(self, waiter: _Waiter) -> bool:
        return waiter.mark is not None and self._outstanding.is_complete_below(waiter.mark)

    def _is_over(self, waiter: _Waiter, now: float) -> bool:
        return waiter.command.deadline <= now or (waiter.account_told and self._is_complete(waiter))

    def _report(self, waiter: _Waiter) -> FlushReport:
        with self._lock:
            mark = self._outstanding.mark() if waiter.mark is None else waiter.mark
            in_memory, spooled = self._outstanding.records_below(mark)
            return FlushReport(
                sent=self._progress.sent,
                rejected=self._progress.rejected,
                dropped=self._shared.dropped(),
                spooled=spooled,
                pending=in_memory + self._queue.count_before(waiter.position),
            )
