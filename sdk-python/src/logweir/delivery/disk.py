"""The spool of the sending thread: opened, kept up, and done without where it fails."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Callable

from logweir.delivery.batch import EncodedBatch
from logweir.delivery.shared import Shared
from logweir.delivery.spool import Adopted, FrameRef, Spool, SpoolOptions
from logweir.platform import Notice

# How often an owner says that it lives, and looks for those that do not, seconds.
RENEW_INTERVAL = 30.0
ADOPT_INTERVAL = 60.0
# How soon what could not be written is written again, seconds.
WRITE_AGAIN_INTERVAL = 1.0


class Disk:
    """A spool that may fail, or not be wanted: nothing here raises an OSError. A failure is counted, and told
    once a minute at most."""

    def __init__(
        self,
        options: SpoolOptions | None,
        shared: Shared,
        notice: Notice,
        notify_fault: Callable[[str, str], None],
    ) -> None:
        self._options = options
        self._lock = shared.queue.lock
        self._progress = shared.progress
        self._notice = notice
        self._notify_fault = notify_fault
        self._spool: Spool | None = None
        self.works = False
        """Whether there is a spool, and the last write to it succeeded."""
        self._next_sync = self._next_renew = self._next_adopt = math.inf

    def open(self, now: float) -> None:
        """Makes the process's own folder. What dead ones left is adopted from now on."""
        if self._options is None:
            return
        try:
            self._spool = Spool(self._options)
        except OSError as error:
            self._count_failure()
            self._notice(f"cannot open the spool, going on without: {error}")
            return
        self.works = True
        self._next_renew = now + RENEW_INTERVAL
        self._next_adopt = now

    @property
    def is_open(self) -> bool:
        """Whether there is a spool, be it that it fails."""
        return self._spool is not None

    def maintain(self, now: float, is_behind: bool) -> None:
        """Forces to disk what is due, and shows other processes that this one lives. `is_behind`: something
        in memory is not on disk, so that this is due again soon."""
        if self._spool is None:
            return
        with self._failures_counted():
            self._sync(self._spool, now)
            if self.is_renewal_due(now):
                self._next_renew = now + RENEW_INTERVAL
                self._spool.renew()
        if is_behind:
            self._next_renew = min(self._next_renew, now + WRITE_AGAIN_INTERVAL)

    def is_renewal_due(self, now: float) -> bool:
        """Whether it is time to show that this process lives, and to write what is not on disk."""
        return now >= self._next_renew

    def replace_if_taken(self) -> bool:
        """Begins a new spool if another process took the old one over. True if all that was in it is the
        other's now."""
        if self._spool is None or not self._spool.is_taken:
            return False
        try:
            self._spool.start_over()
            self._notify_fault("taken", "the spool was taken over, going on with a new one")
        except OSError as error:
            self._failed(error)
        return True

    def _sync(self, spool: Spool, now: float) -> None:
        if not spool.needs_sync:
            self._next_sync = math.inf
        elif math.isinf(self._next_sync):
            self._next_sync = now + spool.options.sync
        elif now >= self._next_sync:
            self._next_sync = math.inf
            self.works = False
            spool.sync()
            self.works = True

    def next_moment(self) -> float:
        """When it is to be kept up, or to adopt, at the latest."""
        return min(self._next_sync, self._next_renew, self._next_adopt)

    def adopt(self, now: float) -> Sequence[Adopted]:
        """Takes over what dead processes left, if it is time to look for it."""
        if self._spool is None or now < self._next_adopt:
            return ()
        self._next_adopt = now + ADOPT_INTERVAL
        with self._failures_counted():
            adopted = self._spool.adopt()
            self._publish_damage()
            return adopted
        return ()

    def append(self, batch: EncodedBatch) -> FrameRef | None:
        """Writes a batch; none if it cannot be written."""
        if self._spool is None:
            return None
        self.works = False
        with self._failures_counted():
            frame = self._spool.append(batch)
            self.works = True
            return frame
        return None

    def read(self, frame: FrameRef) -> EncodedBatch | None:
        """A batch; none if it cannot be read."""
        if self._spool is None:
            return None
        with self._failures_counted():
            return self._spool.read(frame)
        return None

    def acknowledge(self, frame: FrameRef) -> None:
        """A batch is done with."""
        if self._spool is not None:
            with self._failures_counted():
                self._spool.acknowledge(frame)

    def evict(self) -> int | None:
        """Deletes the oldest segment if there is too much; its number, none if there is room."""
        if self._spool is None:
            return None
        with self._failures_counted():
            return self._spool.evict()
        return None

    def close(self) -> None:
        """Leaves what is not acknowledged to other processes."""
        if self._spool is not None:
            with self._failures_counted():
                self._spool.close()

    @contextmanager
    def _failures_counted(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            # That there is nothing any more in a folder that was taken over is no failure.
            if self._spool is None or not self._spool.is_taken:
                self._failed(error)

    def _failed(self, error: OSError) -> None:
        self._count_failure()
        self._publish_damage()
        self._notify_fault("spool", f"the spool fails, logs stay in memory: {error}")

    def _count_failure(self) -> None:
        with self._lock:
            self._progress.spool_failures += 1

    def _publish_damage(self) -> None:
        if self._spool is not None:
            with self._lock:
                self._progress.spool_damaged = self._spool.damaged_runs
