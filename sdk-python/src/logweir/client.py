"""What a program holds: `Client`. It hands logs to a thread of the library's own and never waits for it,
except in `flush` and `shutdown`."""

from __future__ import annotations

import atexit
import os
import sys
import threading
import weakref
from dataclasses import replace
from typing import Any, Optional

from logweir import rim, trace
from logweir.config import Config, Surroundings, environment_of, resolve
from logweir.errors import BEFORE_SEND, SAMPLE_RATE
from logweir.record import Level, Record, attributes_of, level_of, nanoseconds, text_of
from logweir.report import FlushReport, Stats
from logweir.sampling import Sampler
from logweir.shared import Command, Shared
from logweir.worker import Worker

EXIT_TIMEOUT = 5.0
"""How long the end of the process waits for the last logs, seconds."""
# The thread answers a flush at its deadline; beyond this it is taken for dead.
ANSWER_GRACE = 2.0
# The inbox may hold this share of the queue before it is taken in, and at most so many logs: beyond that
# bound the two together would hold more than they should.
INBOX_SHARE, INBOX_RECORDS_MAX = 32, 512
# A longer message is taken in at once, so that its size counts.
INBOX_CHARACTERS_MAX = 1_024


class Client:
    """Sends logs in the background. All settings are keyword arguments, see the README; raises
    `SettingError` for one that cannot be used. The server need not be up.

    After that nothing here fails, blocks for I/O or grows without bound: what cannot be delivered is
    dropped by the drop policy, and counted. At the end of the process the client flushes for up to 5 s.

    In a forked child it is as if made anew at the first log: what waited at the fork stays the parent's
    to send.
    """

    def __init__(self, **settings: Any) -> None:
        around = Surroundings(environment_of(os.environ))
        self._start(resolve(settings, around))

    def _start(self, config: Config) -> None:
        self._config = config
        self.is_disabled = config.is_disabled
        self._sampler = Sampler(config.sample_rates) if config.sample_rates else None
        self._before_send = config.before_send
        share = min(config.queue.records_max // INBOX_SHARE, config.batch_records, INBOX_RECORDS_MAX)
        self._inbox_records = max(share, 1)
        self._urgent_level = config.queue.urgent_level
        self._renew()
        _clients.add(self)
        if config.spool is not None and not config.is_disabled:
            # What dead processes left is sent even if this one has nothing to say.
            self._start_thread()

    def _renew(self) -> None:
        """Everything that belongs to one process."""
        self.process_id = rim.process_id()
        self._shared = Shared(self._config.queue)
        self.inbox = self._shared.queue.inbox
        self._worker: Optional[Worker] = None
        self._thread: Optional[threading.Thread] = None
        self._starting = threading.Lock()

    def emit(
        self,
        level: object,
        message: object,
        /,
        *,
        time_unix_nano: int = 0,
        severity_number: int = 0,
        latency_ms: Optional[float] = None,
        trace_id: bytes = b"",
        span_id: bytes = b"",
        logger: str = "",
        **attributes: object,
    ) -> None:
        """Takes a log. Never blocks for I/O, never fails, never waits for the server: if the queue is full
        the drop policy decides.

        `level`: a `Level`, or its name. `time_unix_nano`: nanoseconds since 1970-01-01 UTC, without it now.
        Without `trace_id` the log belongs to the trace that runs here, if any. All other names are
        attributes: dicts, lists and None become JSON, what is no str, int, float or bool becomes text.
        """
        try:
            record = Record(
                level_of(level),
                int(time_unix_nano) or rim.now_unix_nano(),
                message if type(message) is str else text_of(message),
                logger if type(logger) is str else text_of(logger),
                (bytes(trace_id), bytes(span_id)) if trace_id or span_id else trace.current_ids(),
                attributes_of(attributes),
                None if latency_ms is None else float(latency_ms),
                int(severity_number),
            )
        except (TypeError, ValueError) as error:
            # A field that has not its type: the log is kept, with what is wrong with it.
            attributes["logweir.emit_error"] = f"{type(error).__name__}: {error}"
            record = Record(
                level_of(level), rim.now_unix_nano(), text_of(message), attributes=attributes_of(attributes)
            )
        self.put(record)

    def put(self, record: Record) -> None:
        """Takes a log whose values are those of the wire. For bridges from other libraries."""
        if self.process_id != rim.process_id():
            self._after_fork()
        if self.is_disabled:
            return
        if self._sampler is not None or self._before_send is not None:
            kept = self._filtered(record)
            self.inbox.append(kept)
            if type(kept) is str:
                self._notice_inbox(0, "")
                return
            record = kept  # type: ignore[assignment]
        else:
            self.inbox.append(record)
        # This, and no more, is what most logs cost.
        if (
            self._shared.is_asleep
            or len(self.inbox) >= self._inbox_records
            or record[0] >= self._urgent_level
            or len(record[2]) > INBOX_CHARACTERS_MAX
            or self._thread is None
        ):
            self._notice_inbox(record[0], record[2])

    def flush(self, timeout: float = EXIT_TIMEOUT) -> FlushReport:
        """Waits until everything handed over before the call is answered, or the time (seconds) is up."""
        return self._ask(timeout, closes=False)

    def shutdown(self, timeout: float = EXIT_TIMEOUT) -> FlushReport:
        """Takes no more logs, flushes, leaves the rest to the spool or drops it, and says what happened.
        Later calls get the same report."""
        return self._ask(timeout, closes=True)

    def stats(self) -> Stats:
        """Counts since the start."""
        if self.process_id != rim.process_id():
            self._after_fork()
        return self._shared.stats()

    def _filtered(self, record: Record) -> Any:
        """The log, or the reason for which it is given up."""
        if self._sampler is not None and not self._sampler.keeps(record[0], rim.random_share()):
            return SAMPLE_RATE
        if self._before_send is None or rim.inside.get():
            return record
        # What it logs itself is not given to it.
        token = rim.inside.set(True)
        try:
            return _as_record(self._before_send(LogEvent(record))) or BEFORE_SEND
        except Exception:
            return BEFORE_SEND
        finally:
            rim.inside.reset(token)

    def _notice_inbox(self, level: int, message: str) -> None:
        """Something about the inbox must be done: the thread started or woken, or the inbox taken in."""
        shared = self._shared
        if self._thread is None and self._worker is None:
            self._start_thread()
        count = len(self.inbox)
        is_large = len(message) > INBOX_CHARACTERS_MAX
        if shared.is_asleep or level >= self._urgent_level or count == self._inbox_records:
            shared.is_asleep = False
            shared.poller.wake()
        if is_large or count > self._inbox_records:
            self._take_in()

    def _take_in(self) -> None:
        """Takes the inbox in if nobody does so now. It must not wait: a handler of a signal may have
        interrupted whoever holds the lock, on this very thread."""
        queue = self._shared.queue
        if queue.lock.acquire(blocking=False):
            try:
                before = queue.records
                queue.take_in(rim.now())
                is_full = before < self._config.batch_records <= queue.records
            finally:
                queue.lock.release()
            if is_full:
                self._shared.poller.wake()

    def _ask(self, timeout: float, closes: bool) -> FlushReport:
        if self.process_id != rim.process_id():
            self._after_fork()
        shared = self._shared
        # The sending thread cannot wait for itself.
        if shared.last_report is not None or rim.inside.get():
            return shared.report()
        command = Command(rim.now() + max(timeout, 0.0), closes)
        if self._worker is None and not self.inbox and shared.queue.emitted == 0:
            if closes:
                shared.queue.closed = True
            return shared.report()
        shared.commands.append(command)
        if self._start_thread():
            shared.poller.wake()
            if shared.last_report is None:
                command.answered.wait(max(timeout, 0.0) + ANSWER_GRACE)
        return command.report or shared.report()

    def _start_thread(self) -> bool:
        """Starts the sending thread, once. Where there are no threads any more, because the interpreter is
        about to end, a shutdown runs here. True if the thread runs."""
        with self._starting:
            if self._thread is not None:
                return True
            if self._worker is None:
                self._worker = Worker(self._config, self._shared)
            thread = threading.Thread(target=self._worker.run, name="logweir", daemon=True)
            try:
                thread.start()
            except RuntimeError:
                if any(command.closes for command in self._shared.commands):
                    self._worker.run()
                return False
            self._thread = thread
        _flush_at_end_of_child(self)
        return True

    def _after_fork(self) -> None:
        """In a forked child: another producer, with a thread, a queue and a spool of its own. What waited
        at the fork is the parent's, and so are the locks, which nobody here may ever open again."""
        if self.process_id == rim.process_id():
            return
        worker, parent_id, poller = self._worker, self.process_id, self._shared.poller
        resource = self._config.resource.for_child(parent_id, rim.process_id())
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
        self.time_unix_nano = nanoseconds(record.time)
        self.message = record.message
        self.logger = record.logger
        self.trace_id, self.span_id = record.trace or (b"", b"")
        self.attributes: dict[str, object] = dict(record.attributes)
        self.latency_ms = record.latency_ms
        self.severity_number = record.severity_number


_LEVELS = frozenset(map(int, Level))


def _as_record(event: Optional[LogEvent]) -> Optional[Record]:
    if event is None:
        return None
    return Record(
        level_of(event.level),
        int(event.time_unix_nano),
        text_of(event.message),
        text_of(event.logger),
        (bytes(event.trace_id), bytes(event.span_id)),
        attributes_of(event.attributes),
        event.latency_ms,
        int(event.severity_number),
    )


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
