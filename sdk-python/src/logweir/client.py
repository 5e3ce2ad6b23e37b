"""What a program holds: `Client`. It hands logs to a thread of the library's own and never waits for it,
except in `flush` and `shutdown`."""

from __future__ import annotations

import atexit
import math
import os
import signal
import sys
import threading
import weakref
from dataclasses import replace
from typing import Any, Callable

from logweir import platform
from logweir.config import Config, ProcessContext, environment_of, resolve
from logweir.delivery.notices import INVALID_TIME_OF_CALL
from logweir.delivery.queue import GivenUp
from logweir.delivery.shared import Command, Shared
from logweir.delivery.worker import Worker
from logweir.errors import BEFORE_SEND, INTERNAL_SDK_ERROR, SAMPLE_RATE
from logweir.record.record import (
    SPAN_ID_BYTES,
    TRACE_ID_BYTES,
    UINT64_MAX,
    Level,
    Record,
    attributes_of,
    id_bytes,
    level_of,
    nanoseconds,
    text_of,
    with_time,
)
from logweir.record.sampling import Sampler
from logweir.record.trace import current_ids
from logweir.report import FlushReport, Stats

EXIT_TIMEOUT = 5.0
"""How long the end of the process waits for the last logs, seconds."""
# No call waits longer, seconds: a week, which every platform can wait.
TIMEOUT_MAX = 7 * 86_400.0
# The thread replies to a flush at its deadline; beyond this it is taken for dead.
REPLY_GRACE = 2.0
# The interpreter lets the sending thread run within 5 ms of a wake; if the inbox has grown to so many times
# as much by then, the caller takes it in.
INBOX_PATIENCE = 4
# In the error of the interpreter that starts no more threads because it is about to end.
AT_THE_END = "interpreter shutdown"
# No process has this number.
NO_PROCESS = -1
# A longer message is taken in at once, so that its size counts.
INBOX_CHARACTERS_MAX = 256


class Client:
    """Sends logs in the background. All settings are keyword arguments, see the README; raises
    `ConfigError` for one that cannot be used. The server need not be up.

    After that nothing here fails, blocks for I/O or grows without bound: what cannot be delivered is
    dropped by the drop policy, and counted. At the end of the process the client flushes for up to 5 s.

    In a forked child it is as if made anew at the first log: what waited at the fork stays the parent's
    to send.
    """

    def __init__(self, **settings: Any) -> None:
        context = ProcessContext(environment_of(os.environ))
        self._start(resolve(settings, context))

    def _start(self, config: Config) -> None:
        self._config = config
        self.is_disabled = config.is_disabled
        self._sampler = Sampler(config.sample_rates) if config.sample_rates else None
        self._before_send = config.before_send
        # Whether a log may go into the inbox as it is.
        self._is_filtered = self._sampler is not None or self._before_send is not None
        self.urgent_level = config.queue.urgent_level
        self._renew()
        _clients.add(self)
        if config.spool is not None and not config.is_disabled:
            # What dead processes left is sent even if this one has nothing to say.
            self._start_thread()

    def _renew(self) -> None:
        """Everything that belongs to one process."""
        self.process_id = platform.process_id()
        # A bridge may append to the inbox itself what comes from this process, but not from this thread.
        is_direct = not self._is_filtered and not self.is_disabled
        self.tuples_process_id = self.process_id if is_direct else NO_PROCESS
        self.sending_thread_id: int | None = None
        self.shared = Shared(self._config.queue)
        self.inbox = self.shared.queue.inbox
        self._worker: Worker | None = None
        self._thread: threading.Thread | None = None
        self._is_no_thread_told = False
        self._starting = threading.RLock()
        # A signal whose handling waits until the library's own work on that thread is done.
        self._deferred_signal: int | None = None

    def emit(
        self,
        level: object,
        message: object,
        /,
        *,
        time_unix_nano: int = 0,
        severity_number: int = 0,
        latency_ms: float | None = None,
        trace_id: bytes | int = b"",
        span_id: bytes | int = b"",
        logger: str = "",
        **attributes: object,
    ) -> None:
        """Takes a log. Never blocks for I/O, never fails, never waits for the server: if the queue is full
        the drop policy decides.

        `level`: a `Level`, or its name. `time_unix_nano`: nanoseconds since 1970-01-01 UTC, without it now;
        an invalid one gives way to that of the call, which the attribute `logweir.truncated` and a notice
        say.
        `trace_id`, `span_id`: 16 and 8 bytes, or the same as a number.
        Without them the log belongs to the trace that runs here, if any. All other names are
        attributes: dicts, lists and None become JSON, what is no str, int, float or bool becomes text.
        """
        try:
            now = platform.now_unix_nano()
            record = Record(
                level_of(level),
                _time_of(time_unix_nano, now),
                message if type(message) is str else text_of(message),
                logger if type(logger) is str else text_of(logger),
                _ids_of(trace_id, span_id) if trace_id or span_id else current_ids(),
                attributes_of(attributes),
                None if latency_ms is None else float(latency_ms),
                int(severity_number),
            )
        except Exception as error:
            self.put_made(_record_with_error, error, level, message, attributes)
            return
        self.put(record if record.time else self._with_time_of_call(record))

    def put_made(self, make: Callable[..., Record], *given: object) -> None:
        """Takes the log that `make` makes of what is given. If it fails, the log is counted. For bridges
        from other libraries."""
        try:
            record: Record | GivenUp = make(*given)
        except Exception:
            # The program's values have code of their own, whose errors must not come back to the program.
            record = INTERNAL_SDK_ERROR
        self.put(record)

    def put(self, record: Record | GivenUp) -> None:
        """Takes a log whose values are those of the wire, or the reason for which it is given up."""
        if self.process_id != platform.process_id():
            self._after_fork()
        if self.is_disabled:
            return
        kept: Any = self._filtered(record) if self._is_filtered else record
        self.inbox.append(kept)
        level, message = (0, "") if type(kept) is str else (kept[0], kept[2])
        if (
            len(self.inbox) >= self.shared.wake_threshold
            or level >= self.urgent_level
            or len(message) > INBOX_CHARACTERS_MAX
        ):
            self.on_wake_threshold(level, message)

    def flush(self, timeout: float = EXIT_TIMEOUT) -> FlushReport:
        """Waits until the server has responded to everything handed over before the call, or the time is up.
        `timeout`: seconds, at most a week; what is no number is taken for the default."""
        return self._ask(_seconds(timeout), closes=False)

    def shutdown(self, timeout: float = EXIT_TIMEOUT) -> FlushReport:
        """Takes no more logs, flushes, leaves the rest to the spool or drops it, and says what happened.
        Later calls get the same report."""
        return self._ask(_seconds(timeout), closes=True)

    def stats(self) -> Stats:
        """Counts since the start."""
        if self.process_id != platform.process_id():
            self._after_fork()
        stats = self.shared.stats()
        self._raise_deferred()
        return stats

    def defers(self, number: int) -> bool:
        """For the handler of a signal. Whether it has interrupted the library's own work on this thread,
        which would wait for itself for ever; the signal is raised again once that is done."""
        if self._is_interrupted():
            self._deferred_signal = number
            return True
        return False

    def _is_interrupted(self) -> bool:
        """Whether a handler of a signal runs here, which has interrupted who holds a lock of the library."""
        return platform.holds(self.shared.queue.lock) or platform.holds(self._starting)

    def _raise_deferred(self) -> None:
        number = self._deferred_signal
        if number is not None and not self._is_interrupted():
            self._deferred_signal = None
            signal.raise_signal(number)

    def _filtered(self, record: Record | GivenUp) -> Any:
        """The log, or the reason for which it is given up."""
        if isinstance(record, GivenUp):
            return record
        if self._sampler is not None and not self._sampler.keeps(record[0], platform.random_share()):
            return SAMPLE_RATE
        if self._before_send is None or platform.inside_before_send():
            return record
        token = platform.before_send_mark.set(True)
        try:
            return self._as_record(self._before_send(LogEvent(record)))
        except Exception:
            return BEFORE_SEND
        finally:
            platform.before_send_mark.reset(token)

    def _as_record(self, event: LogEvent | None) -> Record | GivenUp:
        if event is None:
            return BEFORE_SEND
        record = _record_of(event)
        return record if record.time else self._with_time_of_call(record)

    def _with_time_of_call(self, record: Record) -> Record:
        """A log whose time is not valid. That is told once."""
        self.shared.notify_once(INVALID_TIME_OF_CALL, self._config.notice)
        return with_time(record, platform.now_unix_nano())

    def on_wake_threshold(self, level: int, message: str) -> None:
        """Something about the inbox must be done: the thread started or woken, or the inbox taken in."""
        shared = self.shared
        is_running = self._thread is not None or shared.last_report is not None or self._start_thread()
        count, most = len(self.inbox), self._config.inbox_records * INBOX_PATIENCE
        # Without a thread the next log tries again to start one.
        if is_running and (
            level >= self.urgent_level or (shared.wake_threshold <= count and shared.wake_threshold < most)
        ):
            # The next to look is who finds that this was of no use.
            shared.wake_threshold = most
            shared.poller.wake()
        if count >= most or len(message) > INBOX_CHARACTERS_MAX:
            self._take_in()

    def _take_in(self) -> None:
        """Takes the inbox in if nobody does so now. It must not wait: a handler of a signal may have
        interrupted whoever holds the lock, on this very thread."""
        queue = self.shared.queue
        if not platform.holds(queue.lock) and queue.lock.acquire(blocking=False):
            try:
                before = queue.records
                queue.take_in(platform.now())
                self.shared.wake_threshold = 1 if self._thread is None else self._config.inbox_records
                is_full = before < self._config.batch_records <= queue.records
            finally:
                queue.lock.release()
            self._raise_deferred()
            if is_full:
                self.shared.poller.wake()

    def _ask(self, timeout: float, closes: bool) -> FlushReport:
        if self.process_id != platform.process_id():
            self._after_fork()
        shared = self.shared
        # The sending thread cannot wait for itself.
        if shared.last_report is not None or platform.inside():
            return shared.report()
        command = Command(platform.now() + timeout, closes)
        if self._worker is None and not self.inbox and shared.queue.emitted == 0:
            if closes:
                shared.queue.closed = True
            return shared.report()
        shared.commands.append(command)
        if self._start_thread():
            shared.poller.wake()
            # Whoever was interrupted on this thread may hold up the sending thread.
            if shared.last_report is None and not self._is_interrupted():
                command.replied.wait(timeout + REPLY_GRACE)
                if closes and self._thread is not None:
                    # A thread that still runs when the interpreter ends may take the process down with it.
                    self._thread.join(REPLY_GRACE)
        report = command.report or shared.report()
        self._raise_deferred()
        return report

    def _start_thread(self) -> bool:
        """Starts the sending thread, once. True if it runs, or is being started."""
        if platform.holds(self._starting) or not self._starting.acquire(blocking=False):
            # A handler of a signal may have interrupted the start on this very thread: it must not wait.
            return True
        try:
            is_running = self._thread is not None or self._try_to_start()
        finally:
            self._starting.release()
        self._raise_deferred()
        return is_running

    def _try_to_start(self) -> bool:
        """Where there are no threads any more, because the interpreter is about to end, a shutdown runs
        here."""
        if self._worker is None:
            self._worker = Worker(self._config, self.shared)
        thread = threading.Thread(target=self._run, name="logweir", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            if any(command.closes for command in self.shared.commands):
                self._worker.run()
            else:
                self._notify_no_thread(error)
            return False
        self._thread = thread
        self.sending_thread_id = thread.ident
        _flush_at_end_of_child(self)
        if _is_without_threads():
            self._config.notice(
                "uWSGI runs without enable-threads: logs are sent only while requests run, and at the end"
            )
        return True

    def _notify_no_thread(self, error: RuntimeError) -> None:
        """Once; and not at the end of the interpreter, where the shutdown to come sends the logs."""
        if not self._is_no_thread_told and AT_THE_END not in str(error):
            self._is_no_thread_told = True
            self._config.notice(
                f"no thread can be started ({error}); logs are kept in memory, and each new one tries again: "
                "raise the limit of threads or processes"
            )

    def _run(self) -> None:
        """The body of the sending thread, which so holds a client that the program has let go of: its logs
        are still to be sent."""
        if self._worker is not None:
            self._worker.run()

    def _after_fork(self) -> None:
        """In a forked child: another producer, with a thread, a queue and a spool of its own. What waited
        at the fork is the parent's, and so are the locks, which nobody here may ever open again."""
        if self.process_id == platform.process_id():
            return
        worker, parent_id, poller = self._worker, self.process_id, self.shared.poller
        resource = self._config.resource.for_child(parent_id, platform.process_id())
        self._config = replace(self._config, resource=resource)
        self._renew()
        if worker is not None:
            worker.discard()
        poller.close()


class LogEvent:
    """A log as `before_send` sees it; what it changes is kept."""

    __slots__ = (
        "attributes",
        "latency_ms",
        "level",
        "logger",
        "message",
        "severity_number",
        "span_id",
        "time_unix_nano",
        "trace_id",
    )

    def __init__(self, record: Record) -> None:
        self.level = Level(record.level) if record.level in _LEVELS else Level.UNSPECIFIED
        self.time_unix_nano = nanoseconds(record.time) or 0
        self.message = record.message
        self.logger = record.logger
        self.trace_id, self.span_id = record.trace or (b"", b"")
        self.attributes: dict[str, object] = dict(record.attributes)
        self.latency_ms = record.latency_ms
        self.severity_number = record.severity_number


_LEVELS = frozenset(map(int, Level))


def _record_of(event: LogEvent) -> Record:
    return Record(
        level_of(event.level),
        _time_of(event.time_unix_nano),
        text_of(event.message),
        text_of(event.logger),
        _ids_of(event.trace_id, event.span_id),
        attributes_of(event.attributes),
        event.latency_ms,
        int(event.severity_number),
    )


def _record_with_error(
    error: Exception, level: object, message: object, attributes: dict[str, object]
) -> Record:
    """A log with a field that has not its type: what it says is kept, with what is wrong with it."""
    wrong = {"logweir.emit_error": f"{type(error).__name__}: {text_of(error)}"}
    return Record(
        level_of(level),
        platform.now_unix_nano(),
        text_of(message),
        attributes=attributes_of({**attributes, **wrong}),
    )


def _time_of(given: Any, now: int = 0) -> int:
    """A time given in nanoseconds; `now` without one, 0 if it is not valid."""
    try:
        if given is None or given == 0:
            return now
        return int(given) if 0 < given <= UINT64_MAX else 0
    except Exception:
        # It is no number, or its own code fails.
        return 0


def _ids_of(trace_id: object, span_id: object) -> tuple[bytes, bytes]:
    return (
        id_bytes(trace_id, TRACE_ID_BYTES) if trace_id else b"",
        id_bytes(span_id, SPAN_ID_BYTES) if span_id else b"",
    )


def _seconds(timeout: object) -> float:
    """A time that can be waited for."""
    try:
        seconds = float(timeout)  # type: ignore[arg-type]
    except Exception:
        return EXIT_TIMEOUT
    return EXIT_TIMEOUT if math.isnan(seconds) else min(max(seconds, 0.0), TIMEOUT_MAX)


_clients: weakref.WeakSet[Client] = weakref.WeakSet()
"""All clients of this process."""


def _renew_in_child() -> None:
    for client in list(_clients):
        client._after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_in_child)


@atexit.register
def _shut_all_down() -> None:
    for client in list(_clients):
        client.shutdown(EXIT_TIMEOUT)


def _is_without_threads() -> bool:
    """Whether this is uWSGI, told to let no thread run between requests."""
    uwsgi = sys.modules.get("uwsgi")
    options = getattr(uwsgi, "opt", {})
    return uwsgi is not None and not {"enable-threads", "threads"} & {*options}


def _flush_at_end_of_child(client: Client) -> None:
    """Children of `multiprocessing`, and of Celery's copy of it, end without `atexit`: they run their own
    list of what is to be done at the end."""
    for name in ("multiprocessing", "billiard"):
        process, util = sys.modules.get(f"{name}.process"), sys.modules.get(f"{name}.util")
        if process is None or util is None:
            continue
        if getattr(process.current_process(), "_parent_pid", None) is not None:
            reference = weakref.ref(client)
            util.Finalize(None, _shut_down, args=(reference,), exitpriority=FINALIZE_PRIORITY)


# Late: what others do at the end may still be logged.
FINALIZE_PRIORITY = 0


def _shut_down(reference: weakref.ref[Client]) -> None:
    client = reference()
    if client is not None:
        client.shutdown(EXIT_TIMEOUT)
