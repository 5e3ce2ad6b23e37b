"""Logs of loguru: a sink.

loguru.logger.add(logweir.loguru.Sink(client), format="{message}", backtrace=False)
"""

from __future__ import annotations

from typing import Any

from logweir import platform
from logweir.client import Client
from logweir.integrations.handler import level_of_number
from logweir.record.fields import exception_attributes, take_latency, take_trace
from logweir.record.record import Record, attributes_of, text_of
from logweir.record.trace import current_ids


class Sink:
    """Sends each message to a client. What is bound to the logger becomes attributes."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def __call__(self, message: Any) -> None:
        """Takes a message. Never fails, and never waits."""
        if not platform.inside():
            self._client.put_made(_record, message.record)


def _record(record: Any) -> Record:
    named = dict(record["extra"])
    exception = record["exception"]
    latency_ms = take_latency(named)
    trace = take_trace(named) or current_ids()
    attributes = attributes_of(named)
    if exception is not None:
        attributes += exception_attributes(tuple(exception))
    return Record(
        level_of_number(record["level"].no),
        record["time"].timestamp(),
        text_of(record["message"]),
        record["name"] or "",
        trace,
        attributes,
        latency_ms,
    )
