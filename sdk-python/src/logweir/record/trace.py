"""W3C Trace Context: which trace a log belongs to.

with logweir.trace(request.headers.get("traceparent")) as context:
    logging.info("paid")
    call(headers={"traceparent": context.child().header})
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from logweir import platform

_HEADER = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?\Z")
# The version that allows nothing after the flags, and the one that is forbidden.
_VERSION, _VERSION_INVALID = "00", "ff"
TRACE_ID_BYTES = 16
SPAN_ID_BYTES = 8
SAMPLED = 1


@dataclass(frozen=True)
class TraceContext:
    """A place in a trace: 16 bytes of the trace, 8 of the span, and the flags."""

    trace_id: bytes
    span_id: bytes
    flags: int = SAMPLED

    @staticmethod
    def parse(header: str | None) -> TraceContext | None:
        """What a header `traceparent` says; none if it is absent or not valid."""
        found = _HEADER.match((header or "").strip())
        if found is None:
            return None
        version, trace_id, span_id, flags, more = found.groups()
        if version == _VERSION_INVALID or (version == _VERSION and more):
            return None
        if not trace_id.strip("0") or not span_id.strip("0"):
            return None
        return TraceContext(bytes.fromhex(trace_id), bytes.fromhex(span_id), int(flags, 16))

    @staticmethod
    def new(random: bytes | None = None) -> TraceContext:
        """A trace that begins here, of 24 random bytes."""
        random = random or platform.random_bytes(TRACE_ID_BYTES + SPAN_ID_BYTES)
        return TraceContext(random[:TRACE_ID_BYTES], random[TRACE_ID_BYTES:])

    def child(self, random: bytes | None = None) -> TraceContext:
        """The context of a call made within this one: the same trace, a new span."""
        return TraceContext(self.trace_id, random or platform.random_bytes(SPAN_ID_BYTES), self.flags)

    @property
    def header(self) -> str:
        """The header `traceparent` that carries it on."""
        return f"{_VERSION}-{self.trace_id.hex()}-{self.span_id.hex()}-{self.flags:02x}"


_Ids = tuple[bytes, bytes]
_current_ids: ContextVar[_Ids | None] = ContextVar("logweir_trace", default=None)
own_ids = _current_ids.get
"""Trace and span of what runs here, by this module alone."""
OTEL_MODULE = "opentelemetry.trace"


def current_ids() -> _Ids | None:
    """Trace and span of what runs here: OpenTelemetry's, if the program has it, else this module's."""
    otel = sys.modules.get(OTEL_MODULE)
    return (None if otel is None else _ids_of_otel(otel)) or own_ids()


def traceparent() -> str | None:
    """The header `traceparent` for a call to another service; none outside of a trace."""
    ids = current_ids()
    return None if ids is None else TraceContext(*ids).header


def _ids_of_otel(otel: Any) -> _Ids | None:
    try:
        span = otel.get_current_span()
        if span is otel.INVALID_SPAN:
            return None
        span = span.get_span_context()
        if not span.is_valid:
            return None
        return span.trace_id.to_bytes(TRACE_ID_BYTES, "big"), span.span_id.to_bytes(SPAN_ID_BYTES, "big")
    except Exception:
        # It is being imported, or not what it seems to be; a log does without a trace.
        return None


@contextmanager
def trace(header: str | None = None) -> Iterator[TraceContext]:
    """Logs within belong to the trace that the header names, in a span of their own; without a valid
    header, to a new trace."""
    caller = TraceContext.parse(header)
    with within(caller.child() if caller else TraceContext.new()) as context:
        yield context


@contextmanager
def within(context: TraceContext) -> Iterator[TraceContext]:
    """Logs within belong to this very place in a trace."""
    token = _current_ids.set((context.trace_id, context.span_id))
    try:
        yield context
    finally:
        _current_ids.reset(token)
