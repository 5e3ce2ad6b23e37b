"""The batches that are outstanding: where each is, and how many logs wait in them. Pure."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace
from typing import Callable

from logweir.delivery.batch import EncodedBatch
from logweir.delivery.spool import FrameRef


@dataclass(frozen=True)
class Tracked:
    """A batch that is outstanding: neither accepted nor given up so far."""

    record_count: int
    # None while it is on disk alone.
    batch: EncodedBatch | None = None
    # Where it is on disk, if it is.
    frame: FrameRef | None = None
    # A number that rises with each batch cut; none for a dead process's batch.
    tag: int | None = None
    # When it was cut, by a clock that never jumps.
    cut_at: float | None = None
    # It is in the account of a producer of its own, and counts as moved in ours.
    is_moved: bool = False
    # Logs that the server named as faulty were taken out of it.
    is_repaired: bool = False

    @property
    def is_adopted(self) -> bool:
        """Whether it is a dead process's."""
        return self.tag is None

    def is_in(self, segment: int) -> bool:
        """Whether it is in this segment of the spool."""
        return self.frame is not None and self.frame.segment == segment

    def successor(self, batch: EncodedBatch, *, moved: bool = False, repaired: bool = False) -> Tracked:
        """A batch that takes this one's place."""
        return replace(
            self,
            batch=batch,
            frame=None,
            record_count=batch.record_count,
            is_moved=self.is_moved or moved,
            is_repaired=self.is_repaired or repaired,
        )


# Of so many sends one goes to what waits on disk, even if there is anything newer.
BACKLOG_TURN = 4


class Lines:
    """Batches that wait for their turn, each line oldest first."""

    def __init__(self) -> None:
        self.live: deque[Tracked] = deque()
        """In memory."""
        self.backlog: deque[Tracked] = deque()
        """Own ones on disk alone."""
        self.adopted: deque[Tracked] = deque()
        """Of dead processes, on disk alone."""
        self._turns = 0

    def next(self, adopted_may: bool) -> Tracked | None:
        """What is newest in line first, but what waits on disk has its share, so that neither starves the
        other. `adopted_may`: whether it may be a dead process's."""
        self._turns += 1
        lines = [self.live, self.backlog, self.adopted if adopted_may else deque()]
        turn = self._turns % (2 * BACKLOG_TURN)
        if turn == 0:
            lines.insert(0, lines[2])
        elif turn == BACKLOG_TURN:
            lines.insert(0, self.backlog)
        line = next((line for line in lines if line), None)
        return None if line is None else line.popleft()

    def leave_surplus_on_disk(self, live_max: int) -> None:
        """Keeps in memory what will be sent next, and no more. What is not on disk stays."""
        while len(self.live) > live_max:
            on_disk = next((tracked for tracked in self.live if tracked.frame is not None), None)
            if on_disk is None:
                return
            self.live.remove(on_disk)
            self.backlog.append(replace(on_disk, batch=None))

    def take_out(self, is_gone: Callable[[Tracked], bool]) -> list[Tracked]:
        """Takes out what was on disk alone, and is gone from there."""
        found = [tracked for line in (self.backlog, self.adopted) for tracked in line if is_gone(tracked)]
        self.backlog = deque(tracked for tracked in self.backlog if not is_gone(tracked))
        self.adopted = deque(tracked for tracked in self.adopted if not is_gone(tracked))
        return found


@dataclass
class _Count:
    batches: int = 0
    in_memory: int = 0
    spooled: int = 0

    def add(self, records: int, is_spooled: bool) -> None:
        if is_spooled:
            self.spooled += records
        else:
            self.in_memory += records


@dataclass
class Outstanding:
    """This process's outstanding batches, by tag."""

    tags_given: int = 0
    # Logs in the spool that another process took over: nobody here waits for them.
    left_to_adopter: int = 0
    all: _Count = field(default_factory=_Count)
    _by_tag: dict[int, _Count] = field(default_factory=dict)

    def next_tag(self) -> int:
        """A tag above all given so far."""
        self.tags_given += 1
        return self.tags_given

    @property
    def spooled(self) -> int:
        """Logs in a spool, this process's or its adopter's."""
        return self.all.spooled + self.left_to_adopter

    def mark(self) -> int:
        """What is above all tags given so far, and not above the next."""
        return self.tags_given + 1

    def add(self, tag: int, records: int, is_spooled: bool) -> None:
        """A batch of this tag is under way."""
        count = self._by_tag.setdefault(tag, _Count())
        count.batches += 1
        count.add(records, is_spooled)
        self.all.add(records, is_spooled)

    def remove(self, tag: int, records: int, is_spooled: bool) -> None:
        """A batch of this tag is done with."""
        count = self._by_tag[tag]
        count.batches -= 1
        count.add(-records, is_spooled)
        self.all.add(-records, is_spooled)
        if count.batches == 0:
            del self._by_tag[tag]

    def is_complete_below(self, mark: int) -> bool:
        """Whether every batch below a mark is done with. Tags are given in order, and kept in it."""
        oldest = next(iter(self._by_tag), mark)
        return oldest >= mark

    def records_below(self, mark: int) -> tuple[int, int]:
        """Logs below a mark in memory, and in the spool."""
        below = [count for tag, count in self._by_tag.items() if tag < mark]
        return sum(count.in_memory for count in below), sum(count.spooled for count in below)
