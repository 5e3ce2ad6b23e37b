"""What the program's threads and the sending thread of one process share."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass, field

from logweir import platform
from logweir.delivery.poller import Poller
from logweir.delivery.queue import Queue, QueueBounds
from logweir.delivery.track import Outstanding
from logweir.report import FlushReport, Stats


@dataclass
class Command:
    """A call of flush or shutdown."""

    deadline: float
    # It takes no more logs.
    closes: bool
    report: FlushReport | None = None
    replied: threading.Event = field(default_factory=threading.Event)

    def reply(self, report: FlushReport) -> None:
        """Ends the wait of the caller."""
        self.report = report
        self.replied.set()


@dataclass
class Progress:
    """What the sending thread has done so far."""

    sent: int = 0
    rejected: int = 0
    adopted_waiting: int = 0
    adopted_sent: int = 0
    adopted_dropped: int = 0
    spool_failures: int = 0
    spool_damaged: int = 0


class Shared:
    """Queue, counts and calls. `queue.lock` guards the counts as well, so that they always balance."""

    def __init__(self, bounds: QueueBounds) -> None:
        self.queue = Queue(bounds)
        self.outstanding = Outstanding()
        self.progress = Progress()
        self.poller = Poller()
        self.commands: deque[Command] = deque()
        # Whoever appends to the inbox does no more until it holds so many logs: at first and while the
        # sending thread sleeps, one.
        self.wake_threshold = 1
        self._notified: set[str] = set()
        # Of the shutdown, once it is over.
        self.last_report: FlushReport | None = None

    def notify_once(self, text: str, notice: platform.Notice) -> None:
        """Tells a person of a mistake of the program, which would come again with each of its logs."""
        if text not in self._notified:
            self._notified.add(text)
            notice(text)

    def stats(self) -> Stats:
        """Counts as of now. Where a handler of a signal has interrupted whoever holds the lock on this very
        thread, what is in the inbox is left to that one."""
        queue = self.queue
        is_interrupting = platform.holds(queue.lock)
        with queue.lock:
            if not is_interrupting:
                queue.take_in(platform.now())
            progress, outstanding = self.progress, self.outstanding
            return Stats(
                emitted=queue.emitted,
                sent=progress.sent,
                rejected=progress.rejected,
                dropped=self.dropped(),
                queued=queue.records,
                in_flight=outstanding.all.in_memory,
                spooled=outstanding.spooled,
                adopted_waiting=progress.adopted_waiting,
                adopted_sent=progress.adopted_sent,
                adopted_dropped=progress.adopted_dropped,
                spool_failures=progress.spool_failures,
                spool_damaged=progress.spool_damaged,
                emitted_after_shutdown=queue.emitted_after_close,
            )

    def report(self) -> FlushReport:
        """The report of whoever cannot wait for the sending thread."""
        if self.last_report is not None:
            return self.last_report
        stats = self.stats()
        return FlushReport(
            sent=stats.sent,
            rejected=stats.rejected,
            dropped=stats.dropped,
            spooled=stats.spooled,
            pending=stats.queued + stats.in_flight,
        )

    def dropped(self) -> dict[str, int]:
        """Drops by reason, under the lock."""
        return {reason: count for reason, count in self.queue.dropped.items() if count}
