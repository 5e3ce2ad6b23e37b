"""The queue: bounds hold, and every log is in one count."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from logweir.delivery.queue import DROP_POLICIES, NEWEST, Queue, QueueBounds
from logweir.errors import EXPIRED, SAMPLE_RATE, SHUTDOWN_TIMEOUT
from logweir.record.record import Level, Record, memory_bytes_of

RECORDS_MAX, BYTES_MAX = 20, 400


def queue_of(policy: str = NEWEST) -> Queue:
    return Queue(QueueBounds(RECORDS_MAX, BYTES_MAX, policy))


def log(level: int, text: str = "") -> Record:
    return Record(level, 0, text)


@given(
    st.sampled_from(DROP_POLICIES),
    st.lists(st.tuples(st.integers(0, 6), st.integers(1, 60), st.booleans()), max_size=300),
)
def test_bounds_hold_and_the_account_balances(policy: str, steps: list[tuple[int, int, bool]]) -> None:
    queue, taken = queue_of(policy), 0
    for level, weight, takes in steps:
        queue.push(log(level), weight, 0.0)
        assert queue.records <= RECORDS_MAX and queue.bytes <= BYTES_MAX
        if takes:
            taken += queue.take(3, lambda record: True)
        assert queue.emitted == queue.records + sum(queue.dropped.values()) + taken
        assert queue.count_before(queue.next_position) == queue.records


@given(st.lists(st.integers(0, 6), max_size=20))
def test_logs_leave_in_the_order_in_which_they_came(levels: list[int]) -> None:
    queue, out = queue_of(), []
    for number, level in enumerate(levels):
        queue.push(log(level, str(number)), 1, 0.0)

    def fits(record: Record) -> bool:
        out.append(record.message)
        return True

    queue.take(len(levels), fits)
    assert out == [str(number) for number in range(len(levels))]
    assert queue.oldest() is None


def test_a_log_that_does_not_fit_stays_first() -> None:
    queue = queue_of()
    for number in range(3):
        queue.push(log(Level.INFO, str(number)), 1, 0.0)
    assert queue.take(3, lambda record: record.message == "0") == 1
    oldest = queue.oldest()
    assert oldest is not None and oldest.record.message == "1"
    assert (queue.records, queue.count_before(2)) == (2, 1)


def test_what_waits_too_long_is_given_up_in_all_lanes() -> None:
    queue = queue_of()
    for second, level in enumerate([Level.INFO, Level.FATAL, Level.DEBUG]):
        queue.push(log(level), 1, float(second))
    queue.expire(1.0, EXPIRED)
    assert (queue.records, queue.dropped[EXPIRED]) == (1, 2)


def test_the_inbox_is_taken_in_with_what_was_given_up_before() -> None:
    queue = queue_of()
    queue.inbox.extend([log(Level.INFO), SAMPLE_RATE, log(Level.FATAL)])
    queue.bounds = QueueBounds(RECORDS_MAX, 10_000)
    queue.take_in(0.0)
    assert (queue.emitted, queue.records, queue.dropped[SAMPLE_RATE]) == (3, 2, 1)
    assert queue.bytes == 2 * memory_bytes_of(log(Level.INFO))
    assert queue.is_urgent and not queue.has_untold_drops


def test_a_closed_queue_counts_and_no_more() -> None:
    queue = queue_of()
    queue.push(log(Level.INFO), 1, 0.0)
    queue.closed = True
    queue.inbox.extend([log(Level.INFO), SAMPLE_RATE])
    queue.take_in(0.0)
    assert (queue.records, queue.emitted, queue.emitted_after_close) == (1, 1, 2)
    queue.clear(SHUTDOWN_TIMEOUT)
    assert (queue.records, queue.bytes, queue.dropped[SHUTDOWN_TIMEOUT]) == (0, 0, 1)
