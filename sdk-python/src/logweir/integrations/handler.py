"""Logs of the standard library's `logging`.

`handle` is overridden, so that no lock of `logging` is taken: a log costs its caller little more than its
being made. The message is formatted at once, since its arguments may change; all else is left to the sending
thread.
"""

from __future__ import annotations

import logging
from sys import modules
from typing import Any

from logweir.client import INBOX_CHARACTERS_MAX, Client
from logweir.platform import inside
from logweir.record.fields import exception_attributes, take_latency, take_trace
from logweir.record.record import Attributes, Level, Record, attributes_of, text_of
from logweir.record.trace import OTEL_MODULE as _OTEL
from logweir.record.trace import current_ids, own_ids

# What every record has; any other name was given by the program.
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_LogRecord = logging.LogRecord
_STANDARD_COUNT = len(vars(logging.makeLogRecord({})))
_LEVELS = {
    logging.DEBUG: int(Level.DEBUG),
    logging.INFO: int(Level.INFO),
    logging.WARNING: int(Level.WARN),
    logging.ERROR: int(Level.ERROR),
    logging.CRITICAL: int(Level.FATAL),
}
FORMAT_ERROR = "logweir.format_error"
"""The attribute of a log whose message does not fit its arguments: what was wrong."""


def level_of_number(number: int) -> int:
    """The level of a number of `logging`, which the program may have made up."""
    for threshold in (logging.CRITICAL, logging.ERROR, logging.WARNING, logging.INFO, logging.DEBUG):
        if number >= threshold:
            return _LEVELS[threshold]
    return int(Level.TRACE)


class Handler(logging.Handler):
    """Sends what `logging` logs to a client.

    Names given by `extra=` become attributes, but for `latency_ms` or `duration_ms` (a number), `trace_id`
    and `span_id` (hexadecimal), which have fields of their own; so do the logger's name and the time. An
    exception becomes `exception.type`, `exception.message` and `exception.stacktrace`. Filters and the level
    count as for any handler; a formatter does not, since the server has the parts.
    """

    def __init__(self, client: Client, level: int | str = logging.NOTSET) -> None:
        super().__init__(level)
        self.client = client
        # Levels that are not urgent, of which there are few logs.
        self._levels = {number: level for number, level in _LEVELS.items() if level < client.urgent_level}

    def handle(self, record: logging.LogRecord) -> Any:
        """Takes a log, on the caller's thread. Never fails, and never waits."""
        if self.filters:
            kept = self.filter(record)
            if not kept:
                return kept
            if isinstance(kept, logging.LogRecord):
                record = kept
        client = self.client
        if (
            record.process != client.tuples_process_id
            or record.thread == client.sending_thread_id
            or record.exc_info
            or record.stack_info
            or type(record) is not _LogRecord
        ):
            return self._handle_rare(record)
        # The rest is what nearly all logs cost their caller: one tuple, appended. All is written out here,
        # as a call costs more than what it would do. The dictionary is only made when it is looked at: last.
        try:
            message = record.msg
            if type(message) is not str:
                message = text_of(message)
            if record.args:
                message %= record.args
            level = self._levels[record.levelno]
        except Exception:
            return self._handle_rare(record)
        trace = current_ids() if _OTEL in modules else own_ids()
        entry = (level, record.created, message, record.name, trace, (), None, 0)
        if len(record.__dict__) != _STANDARD_COUNT:
            return self._handle_rare(record)
        inbox = client.inbox
        inbox.append(entry)
        if len(inbox) >= client.shared.wake_threshold or len(message) > INBOX_CHARACTERS_MAX:
            client.on_wake_threshold(level, message)
        return record

    def _handle_rare(self, record: logging.LogRecord) -> Any:
        if not inside():
            self.client.put_made(self._record, record)
        return record

    emit = handle

    def _record(self, record: logging.LogRecord) -> Record:
        """The same with everything that a log may have."""
        attributes: Attributes = ()
        try:
            message = text_of(record.getMessage())
        except Exception as error:
            message = text_of(record.msg)
            attributes = ((FORMAT_ERROR, f"{type(error).__name__}: {text_of(error)}"),)
        level = _LEVELS.get(record.levelno) or level_of_number(record.levelno)
        trace, latency_ms, named = self._named(record)
        attributes += named
        return Record(level, record.created, message, record.name, trace, attributes, latency_ms)

    def _named(self, record: logging.LogRecord) -> tuple[Any, float | None, Attributes]:
        """Trace, latency and attributes of a log that has more than a message."""
        named = {name: value for name, value in vars(record).items() if name not in _STANDARD}
        latency_ms = take_latency(named)
        trace = take_trace(named) or current_ids()
        attributes = attributes_of(named)
        if record.exc_info:
            attributes += exception_attributes(record.exc_info)
        elif record.exc_text:
            attributes += (("exception.stacktrace", record.exc_text),)
        if record.stack_info:
            attributes += (("stack_info", text_of(record.stack_info)),)
        return trace, latency_ms, attributes

    def flush(self) -> None:
        """Does nothing: `logging` calls it at the end, where the client flushes by itself."""
