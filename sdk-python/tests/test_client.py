"""What a program sees: flush, shutdown, filters, notices."""

from __future__ import annotations

import errno
import logging
import math
import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from clients import HOUR, Notices, balanced, client_of, kill, wait_until
from server import PATIENCE, Hold, Refuse, Reject, serving

from logweir import Client, ConfigError, LogEvent, Rejection, SpoolOptions
from logweir.delivery import connection, disk
from logweir.delivery.batch import EncodedBatch
from logweir.delivery.spool import FrameRef, Spool


def test_a_flush_settles_what_came_before_it() -> None:
    with serving() as server, client_of(server.endpoint, batch_delay=HOUR) as client:
        client.emit("INFO", "one")
        report = client.flush(PATIENCE)
        assert (report.sent, report.is_complete) == (1, True)
        assert server.messages == ["one"]


def test_a_flush_without_logs_needs_no_server() -> None:
    before = set(threading.enumerate())
    with client_of("127.0.0.1:1") as client:
        assert client.flush(PATIENCE).is_complete
        assert set(threading.enumerate()) <= before


def test_a_flush_out_of_time_says_what_is_open() -> None:
    release = threading.Event()
    with serving([Hold(release)]) as server, client_of(server.endpoint) as client:
        client.emit("INFO", "one")
        report = client.flush(0)
        assert (report.pending, report.is_complete) == (1, False)
        release.set()
        assert client.flush(PATIENCE).is_complete


def test_flushes_side_by_side_are_all_answered() -> None:
    with serving() as server, client_of(server.endpoint, batch_delay=HOUR) as client:

        def work() -> None:
            for _ in range(20):
                client.emit("INFO", "x")
                assert client.flush(PATIENCE).is_complete

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
        assert client.stats().sent == len(server.messages) == 160


def test_a_log_waits_for_others_but_not_for_ever() -> None:
    with serving() as server, client_of(server.endpoint, batch_delay=0.05) as client:
        client.emit("INFO", "one")
        server.wait_for(lambda: server.messages == ["one"])


def test_an_urgent_log_does_not_wait() -> None:
    with serving() as server, client_of(server.endpoint, batch_delay=HOUR) as client:
        client.emit("INFO", "one")
        client.emit("FATAL", "two")
        server.wait_for(lambda: server.messages == ["one", "two"])


def test_a_full_batch_does_not_wait() -> None:
    with serving() as server, client_of(server.endpoint, batch_delay=HOUR, batch_records=50) as client:
        for number in range(100):
            client.emit("INFO", str(number))
        server.wait_for(lambda: len(server.messages) == 100)


def test_a_shutdown_ends_it_and_later_logs_are_counted() -> None:
    with serving() as server, client_of(server.endpoint) as client:
        client.emit("INFO", "one")
        report = client.shutdown(PATIENCE)
        assert report.sent == 1
        client.emit("INFO", "late")
        assert client.shutdown(PATIENCE) == client.flush(PATIENCE) == report
        stats = client.stats()
        assert (stats.emitted, stats.emitted_after_shutdown) == (1, 1)
        assert server.messages == ["one"]


def test_a_shutdown_before_the_first_log() -> None:
    with client_of("127.0.0.1:1") as client:
        assert client.shutdown(PATIENCE).is_complete
        client.emit("INFO", "late")
        assert client.stats().emitted_after_shutdown == 1


def test_a_shutdown_out_of_time_drops_and_says_so() -> None:
    notices = Notices()
    with client_of("127.0.0.1:1", on_notice=notices) as client:
        client.emit("INFO", "one")
        assert client.shutdown(0).dropped == {"shutdown_timeout": 1}
    assert "logs dropped so far: shutdown_timeout 1" in notices.texts


def test_a_shutdown_out_of_time_leaves_logs_to_the_spool(tmp_path: Path) -> None:
    with client_of("127.0.0.1:1", spool=str(tmp_path)) as client:
        for number in range(10):
            client.emit("INFO", str(number))
        assert client.shutdown(0).spooled == 10
        assert balanced(client)
    with serving() as server, client_of(server.endpoint, spool=str(tmp_path)) as other:
        # The end of the first client let go of its folder.
        wait_until(lambda: other.stats().adopted_sent == 10)
        assert sorted(map(int, server.messages)) == list(range(10))


def test_what_waits_for_too_long_is_given_up() -> None:
    with client_of("127.0.0.1:1", memory_age_max=0.05, batch_delay=0) as client:
        client.emit("INFO", "one")
        wait_until(lambda: client.stats().dropped == {"expired": 1})
        assert balanced(client)


def test_what_is_said_of_drops_names_the_reasons() -> None:
    notices = Notices()
    settings = {"queue_records": 4, "on_notice": notices, "batch_delay": HOUR}
    with client_of("127.0.0.1:1", **settings) as client:
        for number in range(100):
            client.emit("INFO", str(number))
        notices.wait_for("logs dropped so far: queue_overflow ")
        client.shutdown(0)
    # At once and at the end, and not for each log.
    assert sum("dropped" in text for text in notices.texts) == 2


def test_a_refused_token_holds_the_logs_and_is_said_once() -> None:
    notices = Notices()
    with serving() as server, client_of(server.endpoint, on_notice=notices, token="old") as client:
        server.token = "new"
        client.emit("INFO", "one")
        server.wait_for(lambda: len(server.attempts) > 20)
        told = notices.wait_for("refuses the token")
        expected = "(no such token); logs are held; give a valid one, made by"
        assert told == f'{server.endpoint} refuses the token {expected} "logweir token issue"'
        assert client.stats().dropped == {}
        client.shutdown(0)
    assert sum("token" in text for text in notices.texts) == 1


def test_rejected_logs_are_told_once_a_reason() -> None:
    heard: list[Rejection] = []
    answers = [Reject([0], "first"), Reject([0, 1], "second")]
    # One batch at a time, so that the first is answered first.
    settings = {"on_rejected": heard.append, "batch_records": 2, "in_flight": 1}
    with serving(answers) as server:
        with client_of(server.endpoint, **settings) as client:
            for number in range(4):
                client.emit("INFO", str(number))
            client.flush(PATIENCE)
            assert client.stats().rejected == 3
    assert heard == [Rejection("told", "first", 1)]


def test_before_send_changes_logs_or_gives_them_up() -> None:
    def before_send(event: LogEvent) -> LogEvent | None:
        if event.message == "secret":
            return None
        if event.message == "broken":
            raise RuntimeError("no")
        event.message = event.message.upper()
        event.attributes["seen"] = {"yes": True}
        # What it logs itself is not given to it.
        client.emit("DEBUG", "from before_send")
        return event

    with serving() as server, client_of(server.endpoint, before_send=before_send) as client:
        for message in ("kept", "secret", "broken"):
            client.emit("INFO", message)
        assert client.flush(PATIENCE).dropped == {"before_send": 2}
    assert sorted(server.messages) == ["KEPT", "from before_send"]
    kept = next(record for record in server.records if record.message == "KEPT")
    assert kept.attributes[0].json_value == '{"yes": true}'


def test_values_are_redacted_before_they_are_sent() -> None:
    with serving() as server, client_of(server.endpoint) as client:
        client.emit("INFO", "x", password="hunter2", user="ann", request={"auth_token": "t"})
        client.flush(PATIENCE)
    found = {attribute.key: attribute.string_value for attribute in server.records[0].attributes}
    assert found == {"password": "[redacted]", "user": "ann", "request": "[redacted]"}


def test_a_field_that_has_not_its_type_costs_the_field() -> None:
    with serving() as server, client_of(server.endpoint) as client:
        client.emit("INFO", "kept", latency_ms="slow", trace_id="not bytes")  # type: ignore[arg-type]
        client.emit(None, {"a": 1}, level="inner", message="inner", self=1)
        assert client.flush(PATIENCE).sent == 2
    first, second = server.records
    assert first.message == "kept" and first.attributes[0].key == "logweir.emit_error"
    assert {attribute.key for attribute in second.attributes} >= {"level", "message", "self"}


INVALID_TIMES: list[Any] = [-1, 1 << 64, math.nan, math.inf, "soon", [1]]


def check_time_of_call(log: Any, before: int, after: int) -> None:
    """All but the time is there, and flagged."""
    assert before <= log.time_unix_nano <= after
    assert (log.logger, log.latency_ms, log.severity_number) == ("a.b", 1.5, 9)
    assert (log.trace_id, log.span_id) == (b"t" * 16, b"s" * 8)
    assert [(each.key, each.bool_value or each.int_value) for each in log.attributes] == [
        ("logweir.truncated", True),
        ("k", 7),
    ]


FIELDS: dict[str, Any] = {
    "logger": "a.b",
    "latency_ms": 1.5,
    "severity_number": 9,
    "trace_id": b"t" * 16,
    "span_id": b"s" * 8,
    "k": 7,
}


@pytest.mark.parametrize("given", INVALID_TIMES, ids=repr)
def test_a_time_that_is_none_is_that_of_the_call_and_costs_nothing_else(given: Any) -> None:
    notices = Notices()
    with serving() as server, client_of(server.endpoint, on_notice=notices) as client:
        before = time.time_ns()
        for _ in range(2):
            client.emit("INFO", "when", time_unix_nano=given, **FIELDS)
        after = time.time_ns()
        assert client.flush(PATIENCE).sent == 2
    for log in server.records:
        check_time_of_call(log, before, after)
    said = [text for text in notices.texts if "the time given with a log is not valid" in text]
    assert len(said) == 1 and said[0].endswith("so it has the time of the call: give nanoseconds since 1970")


@pytest.mark.parametrize("given", [*INVALID_TIMES, 0, None], ids=repr)
def test_a_time_of_before_send_that_is_none_is_that_of_the_call(given: Any) -> None:
    def before_send(event: LogEvent) -> LogEvent:
        event.time_unix_nano = given
        return event

    with serving() as server, client_of(server.endpoint, before_send=before_send) as client:
        before = time.time_ns()
        client.emit("INFO", "when", time_unix_nano=-1, **FIELDS)
        after = time.time_ns()
        assert client.flush(PATIENCE).sent == 1
    check_time_of_call(server.records[0], before, after)


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"batch_record": 1}, "batch_record"),
        ({"drop_policy": "random"}, "drop_policy"),
        ({"compression": "lzma"}, "compression"),
        ({"sample_rates": {"DEBUG": 2}}, "sample_rates"),
        ({"urgent_level": "loud"}, "urgent_level"),
        ({"batch_delay": "soon"}, "batch_delay"),
        ({"queue_records": "many"}, "queue_records"),
    ],
)
def test_a_wrong_setting_fails_at_once(settings: Any, name: str) -> None:
    with pytest.raises(ConfigError, match=name) as failure:
        Client(**settings)
    assert failure.value.setting == name


def test_a_disabled_client_takes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    with client_of("127.0.0.1:1") as client:
        client.emit("INFO", "one")
        assert client.stats().emitted == 0


def test_memory_is_bounded_while_nobody_answers() -> None:
    bytes_max = 1 << 20
    release = threading.Event()
    with serving([Hold(release) for _ in range(2)]) as server:
        with client_of(server.endpoint, queue_bytes=bytes_max, queue_records=1 << 20) as client:
            for number in range(20_000):
                client.emit("INFO", f"log {number} ".ljust(500, "x"))
                assert client.shared.queue.bytes <= bytes_max
            assert balanced(client)
            dropped = client.stats().dropped["queue_overflow"]
            release.set()
            assert client.flush(PATIENCE).sent == 20_000 - dropped


def test_a_batch_refused_for_good_is_said_once_a_minute() -> None:
    notices = Notices()
    answers = [Refuse("FAILED_PRECONDITION", "no") for _ in range(5)]
    with serving(answers) as server:
        with client_of(server.endpoint, on_notice=notices, batch_records=1) as client:
            for number in range(5):
                client.emit("INFO", str(number))
            client.flush(PATIENCE)
    told = [text for text in notices.texts if "refused a batch" in text]
    assert told == [f"{server.endpoint} refused a batch for good (no)"]


def test_what_on_notice_logs_or_raises_does_no_harm() -> None:
    logger = logging.getLogger("tests.notice")

    def on_notice(text: str) -> None:
        logger.error(text)
        raise RuntimeError("no")

    with client_of("127.0.0.1:1", on_notice=on_notice) as client:
        client.emit("INFO", "one")
        assert client.shutdown(0.1).dropped == {"shutdown_timeout": 1}


def test_the_spool_takes_what_memory_does_not_keep(tmp_path: Path) -> None:
    notices = Notices()
    options = SpoolOptions(str(tmp_path))
    settings = {"spool": options, "batch_records": 10, "on_notice": notices}
    with serving() as server:
        port = server.port
    with client_of(f"127.0.0.1:{port}", **settings) as client:
        for number in range(500):
            client.emit("INFO", str(number))
        wait_until(lambda: client.flush(0).spooled == 500)
        assert balanced(client) and client.stats().queued == 0
        notices.wait_for("logs are kept in the spool and sent when it is back")
        with serving(port=port) as server:
            assert client.flush(PATIENCE).sent == 500
            assert sorted(server.messages, key=int) == [str(number) for number in range(500)]
            client.shutdown(PATIENCE)
    assert list(tmp_path.iterdir()) == []


def test_a_spool_that_cannot_be_is_told_and_memory_does(tmp_path: Path) -> None:
    notices = Notices()
    (tmp_path / "file").write_text("")
    with serving() as server:
        spool = str(tmp_path / "file")
        with client_of(server.endpoint, spool=spool, on_notice=notices) as client:
            client.emit("INFO", "one")
            assert client.flush(PATIENCE).sent == 1
    notices.wait_for("cannot open the spool, going on without")


def test_what_is_said_of_a_server_that_is_away_is_true_of_a_spool_that_cannot_be(tmp_path: Path) -> None:
    notices = Notices()
    (tmp_path / "file").write_text("")
    with client_of("127.0.0.1:1", spool=str(tmp_path / "file"), on_notice=notices) as client:
        client.emit("INFO", "one")
        assert "logs are kept in memory and sent" in notices.wait_for("cannot reach")
        client.shutdown(0)


def test_a_full_spool_gives_up_its_oldest(tmp_path: Path) -> None:
    options = SpoolOptions(str(tmp_path), bytes_max=20_000)
    with client_of("127.0.0.1:1", spool=options, batch_records=10) as client:
        for number in range(2_000):
            client.emit("INFO", f"{number}".ljust(100, "x"))
        wait_until(lambda: "cache_overflow" in client.flush(0).dropped)
        assert balanced(client)
        client.shutdown(0)


@pytest.mark.parametrize("later", [0, 100])
def test_what_was_taken_over_with_the_spool_is_the_others_to_send(tmp_path: Path, later: int) -> None:
    notices = Notices()
    with serving() as server:
        port = server.port
    settings = {"spool": str(tmp_path), "batch_records": 10, "on_notice": notices}
    with client_of(f"127.0.0.1:{port}", **settings) as client:
        for number in range(100):
            client.emit("INFO", str(number))
        wait_until(lambda: client.flush(0).spooled == 100)
        kill(tmp_path)
        assert sum(batch.record_count for batch in Spool(SpoolOptions(str(tmp_path))).adopt()) == 100
        for number in range(100, 100 + later):
            client.emit("INFO", str(number))
        with serving(port=port) as server:
            assert client.flush(PATIENCE).is_complete
            stats = client.stats()
            assert (stats.dropped, stats.spool_failures) == ({}, 0)
            assert balanced(client) and stats.sent < stats.emitted
            assert {str(number) for number in range(100, 100 + later)} <= {*server.messages}
    notices.wait_for("the spool was taken over, going on with a new one")


def test_what_is_written_is_forced_to_disk_in_its_time_although_nothing_else_happens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, forced = os.fsync, threading.Event()

    def fsync(number: int) -> None:
        real(number)
        if os.readlink(f"/proc/self/fd/{number}").endswith(".seg"):
            forced.set()

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(disk, "RENEW_INTERVAL", HOUR)
    monkeypatch.setattr(disk, "ADOPT_INTERVAL", HOUR)
    monkeypatch.setattr(connection, "KEEPALIVE_INTERVAL", HOUR)
    release = threading.Event()
    settings = {"spool": str(tmp_path), "attempt_timeout": HOUR, "in_flight": 1}
    with serving([Hold(release)]) as server, client_of(server.endpoint, **settings) as client:
        client.emit("FATAL", "one")
        server.wait_for(lambda: len(server.attempts) == 1)
        assert forced.wait(PATIENCE)
        forced.clear()
        # It goes to disk alone: the only place is taken.
        client.emit("FATAL", "two")
        assert forced.wait(PATIENCE)
        release.set()


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """As long as it is set, nothing can be written to a spool."""
    real, is_full = Spool.append, threading.Event()

    def append(spool: Spool, batch: EncodedBatch) -> FrameRef:
        if is_full.is_set():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(spool, batch)

    monkeypatch.setattr(Spool, "append", append)
    return is_full


def test_a_spool_that_has_failed_is_written_to_again(tmp_path: Path, full_disk: threading.Event) -> None:
    with client_of("127.0.0.1:1", spool=str(tmp_path), batch_records=10) as client:
        full_disk.set()
        for number in range(100):
            client.emit("INFO", str(number))
        wait_until(lambda: client.stats().spool_failures > 0)
        full_disk.clear()
        wait_until(lambda: client.flush(0).spooled == 100)
        assert balanced(client)
        client.shutdown(0)


def test_at_the_end_a_spool_that_has_failed_is_tried_once_more(
    tmp_path: Path, full_disk: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk, "WRITE_AGAIN_INTERVAL", HOUR)
    with client_of("127.0.0.1:1", spool=str(tmp_path), batch_records=10) as client:
        full_disk.set()
        for number in range(100):
            client.emit("INFO", str(number))
        wait_until(lambda: client.stats().spool_failures > 0)
        full_disk.clear()
        report = client.shutdown(0)
        assert (report.spooled, report.dropped) == (100, {})


def test_what_cannot_be_forced_to_disk_once_is_forced_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = os.fsync, []

    def fsync(number: int) -> None:
        if os.readlink(f"/proc/self/fd/{number}").endswith(".seg"):
            calls.append(number)
            if len(calls) == 1:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
        real(number)

    monkeypatch.setattr(os, "fsync", fsync)
    # With one place, which is taken, all that follows goes to disk alone or nowhere.
    with client_of("127.0.0.1:1", spool=str(tmp_path), batch_records=10, in_flight=1) as client:
        client.emit("FATAL", "first")
        wait_until(lambda: client.stats().spool_failures > 0)
        for number in range(100):
            client.emit("INFO", str(number))
        wait_until(lambda: client.flush(0).spooled == 101)
        client.shutdown(0)
