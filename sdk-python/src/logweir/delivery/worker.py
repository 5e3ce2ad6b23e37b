"""The sending thread: queue → batch → spool → server, and the account of it all.

One loop owns everything but the queue. It sleeps until something happens (a wake, a call, a response, a
moment that was waited for), then takes one turn: expire, cut batches, reply to those who wait, send. Without
a spool a batch is cut only when it can be sent, so that memory holds no more than the queue and the batches
under way. With a spool batches are cut as they fill, and those that cannot be sent at once stay on disk
alone.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Callable

from logweir import platform, wire
from logweir.config import Config, Rejection
from logweir.delivery import batch as batches
from logweir.delivery.batch import Batcher, EncodedBatch
from logweir.delivery.disk import Disk
from logweir.delivery.notices import INVALID_TIME_OF_RECORD, NOTICE_INTERVAL, NoticeLimiter, drop_list
from logweir.delivery.request import RequestBuilder
from logweir.delivery.shared import Shared
from logweir.delivery.track import Lines, Tracked
from logweir.delivery.transport import Accepted, Outcome, OutOfTime, Refused, Sender, TooLarge
from logweir.delivery.wait import Waiters
from logweir.errors import (
    AUTH_FAILED,
    CACHE_OVERFLOW,
    EXPIRED,
    INTERNAL_SDK_ERROR,
    QUEUE_OVERFLOW,
    SHUTDOWN_TIMEOUT,
    TOO_LARGE,
)
from logweir.record.record import MESSAGE_BYTES_MAX
from logweir.record.redaction import Redactor

# No server's limit is taken to be lower: it must take a single log.
BATCH_BYTES_FLOOR = MESSAGE_BYTES_MAX
# With nothing to wait for, the loop still turns this often.
IDLE = 3_600.0
# While logs wait, the inbox is looked at this often, however few are in it.
TAKE_IN_INTERVAL = 1.0
# A batch's delay is spread by a tenth, so that a fleet does not send in one moment.
DELAY_SPREAD = 0.1
# After a fault of the library itself the loop goes on, but does not spin.
FAULT_PAUSE = 0.1


class Worker:
    """See above. `run` is the thread's body; it may also run on the caller's own thread."""

    def __init__(self, config: Config, shared: Shared) -> None:
        self._config = config
        self._shared = shared
        self._queue = shared.queue
        self._lock = shared.queue.lock
        self._outstanding = shared.outstanding
        self._progress = shared.progress
        self._notice = config.notice
        self._batch_records = config.batch_records
        self._batch_bytes = config.batch_bytes
        self._batcher = Batcher(platform.random_bytes(batches.ID_BYTES), config.resource.message())
        self._redactor = Redactor(config.redact_keys)
        self._sender = Sender(config, shared.poller, is_spooling=lambda: self._disk.works)
        self._disk = Disk(config.spool, shared, self._notice, self._notify_fault)
        self._in_flight: dict[int, Tracked] = {}
        self._lines = Lines()
        # Own logs that are in the accounts of other producers, because their batch was split.
        self._moved = 0
        self._waiters = Waiters(shared, self._tell_account)
        # Logs before this position are not kept waiting for others.
        self._forced_through = 0
        self._batch_due: float | None = None
        self._drops_notified_at: float | None = None
        self._notices = NoticeLimiter()
        self._sends = 0

    def run(self) -> None:
        """Runs until shutdown."""
        platform.inside_mark.set(True)
        self._disk.open(platform.now())
        while True:
            now = platform.now()
            try:
                self._turn(now)
                if self._waiters.is_shutdown_over(now):
                    self._finish()
                    return
                until = self._next_moment(now)
                self._wait(until, now)
            except Exception as error:
                self._notify_fault("internal", f"a fault of the library itself: {error!r}")
                self._shared.poller.wait((), FAULT_PAUSE)

    def discard(self) -> None:
        """In a forked child: closes what is the parent's, and tells nobody."""
        self._sender.discard()

    def _wait(self, until: float, now: float) -> None:
        shared = self._shared
        # Whoever appends looks at this afterwards; so a log is seen here, or wakes.
        shared.wake_threshold = 1 if self._queue.records == 0 else self._config.inbox_records
        if shared.wake_threshold == 1 and self._queue.inbox:
            until = now
        self._sender.wait(until, now)
        shared.wake_threshold = self._config.inbox_records

    def _turn(self, now: float) -> None:
        self._forced_through = max(self._forced_through, self._waiters.accept_commands(now))
        self._take_in(now)
        self._notify_drops(now)
        self._adopt(now)
        self._force_what_is_due(now)
        self._cut_batches(now)
        self._start_sends(now)
        self._sender.step(now)
        # An attempt that failed at once may have made room.
        self._cut_batches(now)
        self._waiters.reply(now)
        self._start_sends(now)
        self._sender.step(now)
        # Last, so that the wait to come ends in time for what was written above.
        self._maintain_spool(now)

    # Logs.

    def _take_in(self, now: float) -> None:
        refused = self._sender.is_token_refused
        with self._lock:
            self._queue.overflow_reason = AUTH_FAILED if refused else QUEUE_OVERFLOW
            self._queue.take_in(now)
            self._queue.expire(now - self._config.memory_age_max, EXPIRED)
            has_logs = self._queue.records > 0
        if has_logs:
            self._sender.open(now)

    def _notify_drops(self, now: float) -> None:
        is_due = self._drops_notified_at is None or now >= self._drops_notified_at + NOTICE_INTERVAL
        if not is_due or not self._queue.has_untold_drops:
            return
        with self._lock:
            self._queue.has_untold_drops = False
            dropped = drop_list(self._queue.dropped)
        self._drops_notified_at = now
        self._notice(f"logs dropped so far: {dropped}")

    def _force_what_is_due(self, now: float) -> None:
        """Whatever must not wait for a full batch any longer."""
        with self._lock:
            is_due = self._batch_due is not None and self._batch_due <= now
            if self._queue.is_urgent or is_due:
                self._queue.is_urgent = False
                self._forced_through = self._queue.next_position
                self._batch_due = None
            oldest = self._queue.oldest()
        if oldest is None:
            self._batch_due = None
        elif oldest.position >= self._forced_through and self._batch_due is None:
            share = 1 - DELAY_SPREAD + 2 * DELAY_SPREAD * platform.random_share()
            self._batch_due = now + self._config.batch_delay * share

    def _cut_batches(self, now: float) -> None:
        while self._may_cut() and self._has_cause_to_cut():
            self._cut_batch(now)
            # A batch that can go out at once does not go to disk alone.
            self._start_sends(now)

    def _may_cut(self) -> bool:
        """A batch is cut when it can go out at once, or to disk as all before it did."""
        if len(self._in_flight) + len(self._lines.live) < self._config.in_flight:
            return True
        return self._disk.works and all(map(_is_on_disk, self._lines.live))

    def _has_cause_to_cut(self) -> bool:
        with self._lock:
            queue = self._queue
            if queue.records >= self._batch_records or queue.bytes >= self._batch_bytes:
                return True
            oldest = queue.oldest()
            return oldest is not None and oldest.position < self._forced_through

    def _cut_batch(self, now: float) -> None:
        builder = RequestBuilder(self._redactor, self._batch_bytes, platform.now_unix_nano())
        with self._lock:
            self._queue.take_in(now)
            self._queue.take(self._batch_records, builder.fits)
            self._queue.count_drop(INTERNAL_SDK_ERROR, builder.faulty)
            # The account is taken with the last of the logs, so that it is true of exactly this batch.
            tracked = self._build(builder.request, now)
        if builder.has_invalid_time:
            self._shared.notify_once(INVALID_TIME_OF_RECORD, self._notice)
        if builder.fault:
            self._notify_fault("log", f"a log cannot be encoded: {builder.fault}")
        self._track(tracked)

    def _build(self, request: Any, now: float) -> Tracked:
        """The next batch, under the lock."""
        account = self._account()
        created = platform.now_unix_nano()
        built = self._batcher.build(request, account, created, platform.random_bytes(10))
        tracked = Tracked(
            record_count=built.record_count,
            batch=built,
            tag=self._outstanding.next_tag(),
            cut_at=now,
        )
        self._begin(tracked)
        return tracked

    def _account(self) -> Any:
        """What the producer has done, under the lock."""
        return batches.account_of(
            emitted=self._queue.emitted,
            dropped=self._queue.dropped,
            moved=self._moved,
            rejected=self._progress.rejected,
            queued=self._queue.records,
            spooled=self._outstanding.spooled,
        )

    # Sending.

    def _start_sends(self, now: float) -> None:
        while len(self._in_flight) < self._config.in_flight:
            # One place is always free of dead processes' batches.
            adopted = sum(tracked.is_adopted for tracked in self._in_flight.values())
            tracked = self._lines.next(adopted < max(self._config.in_flight - 1, 1))
            if tracked is None:
                return
            self._send(tracked, now)

    def _send(self, tracked: Tracked, now: float) -> None:
        batch = tracked.batch
        if batch is None and tracked.frame is not None:
            batch = self._disk.read(tracked.frame)
        if batch is None and self._replace_taken_spool():
            self._leave_to_adopter(tracked)
            return
        if batch is None:
            self._give_up(tracked, INTERNAL_SDK_ERROR)
            return
        deadline = self._deadline(tracked, batch, now)
        if deadline <= now:
            self._give_up(tracked, EXPIRED)
            return
        self._sends += 1
        number = self._sends
        self._in_flight[number] = replace(tracked, batch=batch)
        self._sender.send(batch, deadline, lambda outcome: self._handle_outcome(number, outcome))

    def _deadline(self, tracked: Tracked, batch: EncodedBatch, now: float) -> float:
        """When it is given up. Only a dead process's batch is as old as the machine's clock says, which
        may have jumped."""
        spool = self._config.spool
        age_max = self._config.memory_age_max if tracked.frame is None or spool is None else spool.age_max
        if tracked.cut_at is not None:
            return tracked.cut_at + age_max
        age = max((platform.now_unix_nano() - batch.created_unix_nano) / 1e9, 0.0)
        return now + age_max - age

    # Outcomes.

    def _handle_outcome(self, number: int, outcome: Outcome) -> None:
        tracked = self._in_flight.pop(number)
        if isinstance(outcome, Accepted):
            self._accepted(tracked, outcome.rejected)
        elif isinstance(outcome, TooLarge):
            self._split(tracked)
        elif isinstance(outcome, Refused):
            self._refused(tracked, outcome)
        elif isinstance(outcome, OutOfTime):
            self._give_up(tracked, EXPIRED)

    def _accepted(self, tracked: Tracked, rejected: Sequence[Any]) -> None:
        rejected_count = min(len(rejected), tracked.record_count)
        sent = tracked.record_count - rejected_count
        with self._lock:
            if tracked.is_adopted:
                self._progress.adopted_sent += sent
                self._progress.adopted_dropped += rejected_count
            else:
                self._progress.sent += sent
                self._progress.rejected += rejected_count
            self._end(tracked)
        self._acknowledge(tracked)
        for record in rejected:
            self._notify_rejected(record.reason, record.message)

    def _refused(self, tracked: Tracked, refused: Refused) -> None:
        """Sends a batch again without the logs that the server named, once; gives it up otherwise."""
        bad = [position for position in refused.bad_records if position < tracked.record_count]
        is_repairable = not tracked.is_repaired and 0 < len(bad) < tracked.record_count
        rest = None
        if is_repairable and tracked.batch is not None:
            rest = batches.without(tracked.batch, bad, refused.reason)
        if rest is None:
            self._notify_fault("batch", refused.notice)
            self._give_up(tracked, refused.reason)
        else:
            repaired = tracked.successor(rest, repaired=True)
            self._replace(tracked, [repaired], dropped=len(bad), reason=refused.reason)

    def _split(self, tracked: Tracked) -> None:
        """Splits a batch that is too large, or gives it up if it is a single log."""
        halves = batches.halves(tracked.batch) if tracked.batch is not None else None
        if halves is None:
            self._give_up(tracked, TOO_LARGE)
            return
        first, second = halves
        if not tracked.is_adopted and not tracked.is_moved:
            self._moved += second.record_count
        # From now on no batch is larger, so that splitting, and a producer for each second half, stays rare.
        self._batch_records = min(self._batch_records, max(first.record_count, 1))
        self._batch_bytes = min(self._batch_bytes, max(len(first.request), BATCH_BYTES_FLOOR))
        self._replace(tracked, [tracked.successor(first), tracked.successor(second, moved=True)])

    # Where batches are.

    def _adopt(self, now: float) -> None:
        for adopted in self._disk.adopt(now):
            tracked = Tracked(record_count=adopted.record_count, frame=adopted.frame)
            with self._lock:
                self._begin(tracked)
            self._lines.adopted.append(tracked)

    def _track(self, tracked: Tracked) -> None:
        """Takes a new batch on: into the spool if there is one, and into the line."""
        self._replace_taken_spool()
        self._lines.live.append(self._written(tracked))
        self._lines.leave_surplus_on_disk(self._config.in_flight)
        self._evict_from_spool()

    def _replace(self, old: Tracked, new: list[Tracked], dropped: int = 0, reason: str = TOO_LARGE) -> None:
        """Puts batches at the head of the line in the place of one that cannot be sent as it is. They are
        in the spool before it leaves it."""
        with self._lock:
            self._count_drop(old, reason, dropped)
            for tracked in new:
                self._begin(tracked)
            self._end(old)
        self._replace_taken_spool()
        spooled = [self._written(tracked) for tracked in new]
        self._acknowledge(old)
        self._lines.live.extendleft(reversed(spooled))
        self._evict_from_spool()

    def _give_up(self, tracked: Tracked, reason: str) -> None:
        """Counts a batch as given up."""
        with self._lock:
            self._count_drop(tracked, reason, tracked.record_count)
            self._end(tracked)
        self._acknowledge(tracked)

    def _count_drop(self, tracked: Tracked, reason: str, count: int) -> None:
        if tracked.is_adopted:
            self._progress.adopted_dropped += count
            return
        self._queue.count_drop(reason, count)
        if tracked.is_moved:
            self._moved -= count

    def _begin(self, tracked: Tracked) -> None:
        if tracked.tag is None:
            self._progress.adopted_waiting += tracked.record_count
        else:
            self._outstanding.add(tracked.tag, tracked.record_count, tracked.frame is not None)

    def _end(self, tracked: Tracked) -> None:
        if tracked.tag is None:
            self._progress.adopted_waiting -= tracked.record_count
        else:
            self._outstanding.remove(tracked.tag, tracked.record_count, tracked.frame is not None)

    def _placed(self, tracked: Tracked, placed: Tracked) -> Tracked:
        """Counts a batch at another place than before."""
        with self._lock:
            self._begin(placed)
            self._end(tracked)
        return placed

    def _leave_to_adopter(self, tracked: Tracked) -> None:
        """A batch on disk alone that another process took over with the spool."""
        with self._lock:
            if not tracked.is_adopted:
                self._outstanding.left_to_adopter += tracked.record_count
            self._end(tracked)

    # The spool.

    def _maintain_spool(self, now: float) -> None:
        if self._disk.is_renewal_due(now):
            self._spool_again()
        is_behind = not all(map(_is_on_disk, [*self._lines.live, *self._in_flight.values()]))
        self._disk.maintain(now, is_behind)

    def _spool_again(self) -> None:
        """Writes what is in memory alone, because a write had failed or what was written is gone: until
        then it would keep all that follows out of the spool."""
        self._replace_taken_spool()
        self._change_in_memory(lambda tracked: tracked if _is_on_disk(tracked) else self._written(tracked))
        self._evict_from_spool()

    def _replace_taken_spool(self) -> bool:
        """Goes on with a new spool if another process took the old one over. What was on disk alone is the
        other's to send; what is in memory as well is sent by both, which is harmless."""
        if not self._disk.replace_if_taken():
            return False
        for tracked in self._lines.take_out(_is_on_disk):
            self._leave_to_adopter(tracked)
        self._keep_in_memory(_is_on_disk)
        return True

    def _written(self, tracked: Tracked) -> Tracked:
        """The batch with its place in the spool, if there is one that takes it."""
        frame = None if tracked.batch is None else self._disk.append(tracked.batch)
        return tracked if frame is None else self._placed(tracked, replace(tracked, frame=frame))

    def _acknowledge(self, tracked: Tracked) -> None:
        if tracked.frame is not None:
            self._disk.acknowledge(tracked.frame)

    def _evict_from_spool(self) -> None:
        """Gives up what a full spool has no room for. What is in memory as well is sent all the same."""
        while (segment := self._disk.evict()) is not None:
            self._evicted(segment)

    def _evicted(self, segment: int) -> None:
        def is_gone(tracked: Tracked) -> bool:
            return tracked.is_in(segment)

        for tracked in self._lines.take_out(is_gone):
            self._give_up(tracked, CACHE_OVERFLOW)
        self._keep_in_memory(is_gone)

    def _keep_in_memory(self, is_gone: Callable[[Tracked], bool]) -> None:
        """Goes on without the spool for batches that are gone from it."""

        def in_memory(tracked: Tracked) -> Tracked:
            return self._placed(tracked, replace(tracked, frame=None)) if is_gone(tracked) else tracked

        self._change_in_memory(in_memory)

    def _change_in_memory(self, change: Callable[[Tracked], Tracked]) -> None:
        self._lines.live = deque(map(change, self._lines.live))
        self._in_flight = {number: change(tracked) for number, tracked in self._in_flight.items()}

    # What a person is told.

    def _notify_fault(self, kind: str, text: str) -> None:
        """Says what may go wrong again and again, each kind at most once a minute."""
        if self._notices.count(f"fault {kind}", platform.now()) is not None:
            self._notice(text)

    def _notify_rejected(self, reason: str, message: str) -> None:
        """Counts a rejection, and tells it if it was not told within the minute."""
        count = self._notices.count(f"rejected {reason}", platform.now())
        if count is None:
            return
        call = self._config.on_rejected
        if call is None:
            self._notice(f"the server rejected {count} logs, {reason}: {message}")
        else:
            self._survive(call, Rejection(reason, message, count))

    def _survive(self, call: Callable[[Rejection], None], rejection: Rejection) -> None:
        try:
            call(rejection)
        except Exception as error:
            self._notify_fault("on_rejected", f"on_rejected failed: {type(error).__name__}: {error}")

    # The account, and the end.

    def _tell_account(self, now: float) -> None:
        """Sends a batch without logs, if its account is news to the server."""
        with self._lock:
            if not self._batcher.is_news(self._account()):
                return
            request = wire.IngestRequest()
            request.batch.SetInParent()
            news = self._build(request, now)
        self._track(news)

    def _finish(self) -> None:
        """Leaves the rest to the spool or drops it, and replies to everyone."""
        self._sender.discard()
        self._spool_the_queue()
        for tracked in [*self._in_flight.values(), *self._lines.live]:
            if tracked.frame is None:
                self._give_up(tracked, SHUTDOWN_TIMEOUT)
        with self._lock:
            self._queue.clear(SHUTDOWN_TIMEOUT)
        self._spool_the_account()
        self._disk.close()
        self._drops_notified_at = None
        self._notify_drops(platform.now())
        self._waiters.reply_to_all()
        self._shared.poller.close()

    def _spool_the_queue(self) -> None:
        """Even if the last write failed: the disk may have room by now."""
        self._spool_again()
        is_worth_it = self._disk.is_open
        while is_worth_it and self._queue.records > 0:
            self._cut_batch(platform.now())
            is_worth_it = self._disk.works

    def _spool_the_account(self) -> None:
        """What the server could not be told now, it learns from the next process."""
        if self._disk.works and self._outstanding.spooled > 0:
            self._tell_account(platform.now())

    def _next_moment(self, now: float) -> float:
        """When the next turn is due even if nothing happens."""
        moments = [now + IDLE, self._disk.next_moment(), self._waiters.next_deadline()]
        if self._queue.records > 0:
            moments.append(now + TAKE_IN_INTERVAL)
        if self._batch_due is not None:
            moments.append(self._batch_due)
        if self._drops_notified_at is not None and self._queue.has_untold_drops:
            moments.append(self._drops_notified_at + NOTICE_INTERVAL)
        return min(moments)


def _is_on_disk(tracked: Tracked) -> bool:
    return tracked.frame is not None
