"""The logs that wait in memory for their batch: bounded in number and in bytes.

The program's threads append to the inbox, which takes no lock: one call that the interpreter runs as a
whole. Under the lock the inbox is taken in: logs are counted, get their place in the lane of their level,
and at the bounds the drop policy decides who goes. So an account taken under the lock always balances.
"""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass
from typing import Any, Callable, NamedTuple

from logweir.errors import DROP_REASONS, QUEUE_OVERFLOW
from logweir.record.record import LEVEL_MAX, Level, Record, memory_bytes_of

SEVERITY_AWARE = "severity_aware"
"""The oldest log of the lowest level present goes, the new one included; a tenth of the queue is kept
for ERROR and FATAL."""
NEWEST = "newest"
"""The new log goes."""
OLDEST = "oldest"
"""The oldest log of any level goes."""
DROP_POLICIES = (SEVERITY_AWARE, NEWEST, OLDEST)

LANES = LEVEL_MAX
# Lanes below this hold what is less than an error.
ERROR_LANE = int(Level.ERROR) - 1
# A tenth is kept for errors.
RESERVED_DIVISOR = 10
INFO_LANE = int(Level.INFO) - 1


@dataclass(frozen=True)
class QueueBounds:
    """How much may wait, and who goes when it is too much."""

    records_max: int
    bytes_max: int
    policy: str = SEVERITY_AWARE
    # A log of this level is not kept waiting.
    urgent_level: int = LEVEL_MAX


class Queued(NamedTuple):
    """A log in its lane."""

    position: int
    # When it was taken in, by the clock that never jumps.
    at: float
    memory_bytes: int
    record: Record


GivenUp = str
"""In the inbox: a log that was given up before it got there, by its reason."""


class Queue:
    """The inbox, and a lane per level, each in order of arrival."""

    def __init__(self, bounds: QueueBounds) -> None:
        self.bounds = bounds
        # Reentrant: a handler of a signal may have interrupted whoever holds it, on this very thread.
        self.lock = threading.RLock()
        # Records, or plain tuples of the same, or GivenUp.
        self.inbox: deque[Any] = deque()
        self.records = 0
        self.bytes = 0
        self.next_position = 0
        self.emitted = 0
        self.emitted_after_close = 0
        self.dropped = dict.fromkeys(DROP_REASONS, 0)
        self.closed = False
        self.has_untold_drops = False
        self.is_urgent = False
        # What an overflow counts as: the token may be the reason why nothing goes out.
        self.overflow_reason = QUEUE_OVERFLOW
        self._lanes: list[deque[Queued]] = [deque() for _ in range(LANES)]
        self._records_below_error = 0
        self._bytes_below_error = 0

    # All of what follows is called under the lock.

    def take_in(self, now: float) -> None:
        """Takes in what is in the inbox now."""
        take = self.inbox.popleft
        for _ in range(len(self.inbox)):
            entry = take()
            if type(entry) is str:
                self.give_up(entry)
            else:
                self.push(entry, memory_bytes_of(entry), now)

    def push(self, record: Record, memory_bytes: int, now: float) -> None:
        """Takes a log in, and whoever must go for it out."""
        if self.closed:
            self.emitted_after_close += 1
            return
        self.emitted += 1
        lane = lane_of(record[0])
        while self._is_full_for(lane, memory_bytes):
            victim = self._victim(lane, memory_bytes)
            if victim is None:
                self.count_drop(self.overflow_reason, 1)
                return
            self._pop(victim)
            self.count_drop(self.overflow_reason, 1)
        self._lanes[lane].append(Queued(self.next_position, now, memory_bytes, record))
        self.next_position += 1
        self._load(lane, 1, memory_bytes)
        self.is_urgent = self.is_urgent or record[0] >= self.bounds.urgent_level

    def give_up(self, reason: str) -> None:
        """Counts a log that the program gave up itself: it is no news to anybody."""
        if self.closed:
            self.emitted_after_close += 1
        else:
            self.emitted += 1
            self.dropped[reason] += 1

    def take(self, count_max: int, fits: Callable[[Record], bool]) -> int:
        """Moves logs in order of arrival out, as long as `fits` takes them. Returns how many."""
        taken = 0
        while taken < count_max:
            lane, until = self._next_run()
            if lane is None:
                break
            logs = self._lanes[lane]
            while logs and logs[0][0] < until and taken < count_max:
                if not fits(logs[0][3]):
                    return taken
                self._pop(lane)
                taken += 1
        return taken

    def expire(self, limit: float, reason: str) -> None:
        """Gives up the logs that came before `limit`."""
        for lane, logs in enumerate(self._lanes):
            while logs and logs[0].at <= limit:
                self._pop(lane)
                self.count_drop(reason, 1)

    def clear(self, reason: str) -> None:
        """Gives up everything that waits."""
        self.count_drop(reason, self.records)
        for lane, logs in enumerate(self._lanes):
            while logs:
                self._pop(lane)

    def count_drop(self, reason: str, count: int) -> None:
        """Counts logs given up."""
        self.dropped[reason] += count
        self.has_untold_drops = self.has_untold_drops or count > 0

    def oldest(self) -> Queued | None:
        """The log that waits longest."""
        heads = [logs[0] for logs in self._lanes if logs]
        return min(heads) if heads else None

    def count_before(self, position: int) -> int:
        """How many wait that came before a position."""
        if position >= self.next_position:
            return self.records
        return sum(queued.position < position for logs in self._lanes for queued in logs)

    def _next_run(self) -> tuple[int | None, int]:
        """The lane of the oldest log, and the position up to which no other lane's log is older."""
        heads = sorted((logs[0].position, lane) for lane, logs in enumerate(self._lanes) if logs)
        if not heads:
            return None, 0
        return heads[0][1], heads[1][0] if len(heads) > 1 else self.next_position

    def _is_full_for(self, lane: int, memory_bytes: int) -> bool:
        bounds = self.bounds
        if self.records + 1 > bounds.records_max or self.bytes + memory_bytes > bounds.bytes_max:
            return True
        if bounds.policy != SEVERITY_AWARE or lane >= ERROR_LANE:
            return False
        return self._records_below_error + 1 > _share(
            bounds.records_max
        ) or self._bytes_below_error + memory_bytes > _share(bounds.bytes_max)

    def _victim(self, lane: int, memory_bytes: int) -> int | None:
        """The lane whose oldest log goes for a new one; none if the new one itself goes."""
        if memory_bytes > self.bounds.bytes_max or self.bounds.policy == NEWEST:
            return None
        if self.bounds.policy == OLDEST:
            return self._next_run()[0]
        return next((lower for lower in range(lane + 1) if self._lanes[lower]), None)

    def _pop(self, lane: int) -> None:
        self._load(lane, -1, -self._lanes[lane].popleft().memory_bytes)

    def _load(self, lane: int, records: int, memory_bytes: int) -> None:
        self.records += records
        self.bytes += memory_bytes
        if lane < ERROR_LANE:
            self._records_below_error += records
            self._bytes_below_error += memory_bytes


def _share(most: int) -> int:
    return most - most // RESERVED_DIVISOR


def lane_of(level: int) -> int:
    """The lane of a level; what is no level, or not given, counts as INFO."""
    return level - 1 if 0 < level <= LEVEL_MAX else INFO_LANE
