"""What a program may do to the library: let go of it, fork or be interrupted at the worst moment, hand over
values that cannot be shown, log where the library calls it. Nothing of it may throw, hang or lose a log in
silence."""

from __future__ import annotations

import logging
import signal
import subprocess
import sys
import threading
from typing import Any, Callable

import loguru
import pytest
from clients import Notices, balanced, client_of
from server import PATIENCE, serving

import logweir
import logweir.loguru
import logweir.structlog


def run_code(code: str, *arguments: str) -> str:
    """Runs a program to its end, and returns what it prints."""
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=PATIENCE, check=True)
    return done.stdout


NO_IMPORT_LATER = """
import sys, logweir
client = logweir.Client(service="tests", endpoint=sys.argv[1])
before = set(sys.modules)
client.emit("INFO", "one")
assert client.flush(60).sent == 1
print(sorted(set(sys.modules) - before))
"""


def test_the_sending_thread_imports_nothing() -> None:
    """A fork during an import leaves the child with half a module for good."""
    with serving() as server:
        assert run_code(NO_IMPORT_LATER, f"http://localhost:{server.port}") == "[]\n"


LET_GO = """
import gc, sys, logweir

def main():
    client = logweir.Client(service="tests", endpoint=sys.argv[1], batch_delay=3600)
    client.emit("INFO", "from a function")

main()
gc.collect()
"""


def test_a_client_that_the_program_lets_go_of_sends_its_logs() -> None:
    with serving() as server:
        run_code(LET_GO, server.endpoint)
        assert server.messages == ["from a function"]


WITHOUT_FILES = """
import errno, os, resource, sys, threading, logweir

def leave_no_file_free():
    first_free = os.dup(0)
    os.close(first_free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (first_free, hard))

def notice(text):
    if os.strerror(errno.EMFILE) in text:
        is_told.set()

is_told = threading.Event()
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
client = logweir.Client(service="tests", endpoint=sys.argv[1], on_notice=notice)
client.emit("INFO", "from the parent")
assert client.flush(60).sent == 1
leave_no_file_free()
child = os.fork()
if child == 0:
    # The child has closed what is the parent's.
    leave_no_file_free()
    client.emit("INFO", "from the child")
    assert is_told.wait(60)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert client.flush(60).sent == 1
    os._exit(0)
sys.exit(os.waitpid(child, 0)[1] != 0)
"""


def test_a_log_after_a_fork_needs_no_file() -> None:
    with serving() as server:
        run_code(WITHOUT_FILES, server.endpoint)
        assert server.messages == ["from the parent", "from the child"]


class Text(str):
    def __str__(self) -> str:
        raise RuntimeError("no")


class Number(int):
    def __int__(self) -> int:
        raise RuntimeError("no")


class Lazy:
    @property
    def __class__(self) -> Any:  # type: ignore[override]
        raise RuntimeError("no")


class Named(dict):  # type: ignore[type-arg]
    def items(self) -> Any:
        raise RuntimeError("no")

    __iter__ = items


class Listed(list):  # type: ignore[type-arg]
    def __iter__(self) -> Any:
        raise RuntimeError("no")


class Kind(type):
    @property
    def __name__(cls) -> str:  # type: ignore[override]
        raise RuntimeError("no")


class Unnamed(metaclass=Kind):
    def __str__(self) -> str:
        raise RuntimeError("no")


HOSTILE = [Text("x"), Number(3), Lazy(), Named(a=1), Listed([1]), 10**400, float("inf"), Unnamed()]
FIELDS = [
    "time_unix_nano",
    "severity_number",
    "latency_ms",
    "duration_ms",
    "trace_id",
    "span_id",
    "logger",
    "attribute",
]


def emit(client: logweir.Client, named: dict[str, Any]) -> None:
    client.emit("INFO", "m", **named)


def log(client: logweir.Client, named: dict[str, Any]) -> None:
    logger = logging.Logger("hostile")
    logger.addHandler(logweir.Handler(client))
    logger.info("m", extra=named)


def log_by_structlog(client: logweir.Client, named: dict[str, Any]) -> None:
    logweir.structlog.Processor(client)(None, "info", {"event": "m", **named})


def log_by_loguru(client: logweir.Client, named: dict[str, Any]) -> None:
    number = loguru.logger.add(logweir.loguru.Sink(client), format="{message}", catch=False)
    try:
        loguru.logger.bind(**named).info("m")
    finally:
        loguru.logger.remove(number)


@pytest.mark.parametrize("way", [emit, log, log_by_structlog, log_by_loguru])
def test_values_whose_own_code_fails_throw_nothing_and_are_counted(way: Callable[..., None]) -> None:
    with serving() as server, client_of(server.endpoint, before_send=lambda event: event) as client:
        for field in FIELDS:
            for value in HOSTILE:
                way(client, {field: value})
        report = client.flush(PATIENCE)
        assert client.stats().emitted == len(FIELDS) * len(HOSTILE) and balanced(client)
        assert report.is_complete and set(report.dropped) <= {"internal_sdk_error"}
        # Only what cannot even be named is lost.
        assert sum(report.dropped.values()) <= len(FIELDS)


def test_levels_and_messages_may_be_anything() -> None:
    logger = logging.Logger("hostile")
    with serving() as server, client_of(server.endpoint) as client:
        logger.addHandler(logweir.Handler(client))
        for value in HOSTILE:
            client.emit(value, "m")
            client.emit("INFO", value)
            logger.info(value)
            # Two, as `logging` itself looks into a single one.
            logger.info("%s %s", value, value)
        assert client.flush(PATIENCE).is_complete
        assert client.stats().emitted == 4 * len(HOSTILE) and balanced(client)


def test_ids_may_be_numbers() -> None:
    """As OpenTelemetry has them."""
    with serving() as server, client_of(server.endpoint) as client:
        client.emit("INFO", "m", trace_id=0x4BF92F3577B34DA6A3CE929D0E0E4736, span_id=0x00F067AA0BA902B7)
        client.flush(PATIENCE)
    (record,) = server.records
    assert record.trace_id.hex() == "4bf92f3577b34da6a3ce929d0e0e4736"
    assert record.span_id.hex() == "00f067aa0ba902b7"


def test_any_time_to_wait_will_do() -> None:
    timeouts: list[Any] = [float("inf"), float("nan"), None, "soon", 10**400, Lazy()]
    for timeout in timeouts:
        with serving() as server, client_of(server.endpoint) as client:
            client.emit("INFO", "m")
            assert client.flush(timeout).is_complete
            assert client.shutdown(timeout).sent == 1


# Each interrupts the library at its own work on the main thread, at a place where it holds a lock.
AT_THE_START = """
import logweir.client

class Interrupted(logweir.client.Worker):
    def __init__(self, *given):
        super().__init__(*given)
        interrupt()

logweir.client.Worker = Interrupted
"""
AT_TAKING_IN = """
real, done = client.shared.queue.take_in, []

def take_in(now):
    if not done and threading.current_thread() is threading.main_thread():
        done.append(True)
        interrupt()
    real(now)

client.shared.queue.take_in = take_in
"""
BEGIN = """
import logging, os, signal, sys, threading, logweir

def interrupt():
    os.kill(os.getpid(), signal.SIGTERM)

def ask(number, frame):
    client.stats()
    client.emit("INFO", "y" * 300)
    client.flush(3600)
    client.emit("INFO", "from the handler")

client = logweir.init("tests", endpoint=sys.argv[1], resource_detection=False)
"""
ASK = "signal.signal(signal.SIGTERM, ask)"
# Longer than what may wait in the inbox, so that the caller takes it in.
LOG = """
logging.info("x" * 300)
print("after", flush=True)
"""


@pytest.mark.parametrize("place", [AT_THE_START, AT_TAKING_IN])
def test_sigterm_in_the_midst_of_a_log_ends_the_program_and_loses_nothing(place: str) -> None:
    with serving() as server:
        command = [sys.executable, "-c", BEGIN + place + LOG, server.endpoint]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=PATIENCE)
        assert (done.returncode, done.stdout) == (-signal.SIGTERM, "")
        assert server.messages == ["x" * 300]


@pytest.mark.parametrize("place", [AT_THE_START, AT_TAKING_IN])
def test_a_handler_of_a_signal_may_use_the_client_at_any_time(place: str) -> None:
    with serving() as server:
        assert run_code(BEGIN + ASK + place + LOG, server.endpoint) == "after\n"
        assert sorted(server.messages) == ["from the handler", "x" * 300, "y" * 300]


def test_without_threads_the_next_log_tries_again(monkeypatch: pytest.MonkeyPatch) -> None:
    real = threading.Thread.start
    has_threads = False

    def start(thread: threading.Thread) -> None:
        if thread.name == "logweir" and not has_threads:
            raise RuntimeError("can't start new thread")
        real(thread)

    monkeypatch.setattr(threading.Thread, "start", start)
    notices = Notices()
    with serving() as server, client_of(server.endpoint, on_notice=notices) as client:
        # Also with logs so long that the caller takes them in.
        for size in (1, 1_000, 1):
            client.emit("INFO", "x" * size)
        assert client.flush(0).pending == 3
        assert [text for text in notices.texts if "no thread can be started" in text] == notices.texts
        assert len(notices.texts) == 1
        has_threads = True
        client.emit("INFO", "last")
        server.wait_for(lambda: len(server.messages) == 4)
