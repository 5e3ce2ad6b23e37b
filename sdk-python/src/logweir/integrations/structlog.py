"""Logs of structlog: a processor.

structlog.configure(processors=[..., logweir.structlog.Processor(client), structlog.dev.ConsoleRenderer()])
"""

from __future__ import annotations

import sys
from typing import Any

from logweir import platform
from logweir.client import Client
from logweir.record.fields import exception_attributes, take_latency, take_trace
from logweir.record.record import Record, attributes_of, level_of, text_of
from logweir.record.trace import current_ids

_LEVELS = {"exception": "ERROR", "msg": "INFO", "log": "INFO"}


class Processor:
    """Sends each event to a client and hands it on unchanged. It belongs before a renderer, and before
    whatever makes text of exceptions or times."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def __call__(self, logger: Any, method: str, event: Any) -> Any:
        """Takes an event. Never fails, and never waits."""
        if not platform.inside():
            self._client.put_made(_record, logger, method, event)
        return event


def _record(logger: Any, method: str, event: Any) -> Record:
    named = dict(event)
    message = text_of(named.pop("event", ""))
    level = level_of(named.pop("level", None) or _LEVELS.get(method, method))
    name = named.pop("logger", None) or getattr(logger, "name", None) or ""
    # The time of the call is the log's, in whatever form a processor has added it.
    named.pop("timestamp", None)
    exception = _exception(named.pop("exc_info", method == "exception"))
    latency_ms = take_latency(named)
    trace = take_trace(named) or current_ids()
    attributes = attributes_of(named) + exception_attributes(exception)
    return Record(level, platform.now_unix_nano(), message, text_of(name), trace, attributes, latency_ms)


def _exception(given: Any) -> Any:
    """As of `sys.exc_info()`, of all that structlog takes for one."""
    if isinstance(given, BaseException):
        return type(given), given, given.__traceback__
    if isinstance(given, tuple):
        return given
    return sys.exc_info() if given else (None, None, None)
