"""Named values of a log that mean more than an attribute. Pure.

`latency_ms` or `duration_ms`, if a number that a latency can be; `trace_id` and `span_id`, if hexadecimal
digits. What does not fit stays an attribute.
"""

from __future__ import annotations

import math
import traceback
from types import TracebackType
from typing import Any, Optional, Union

from logweir.record.record import SPAN_ID_BYTES, TRACE_ID_BYTES, Attributes, text_of

LATENCY_NAMES = ("latency_ms", "duration_ms")

ExceptionInfo = Union[
    tuple[type[BaseException], BaseException, Optional[TracebackType]], tuple[None, None, None]
]


def take_latency(named: dict[str, Any]) -> float | None:
    """Takes out the first latency there is, milliseconds."""
    for name in LATENCY_NAMES:
        latency = _latency_of(named.get(name))
        if latency is not None:
            del named[name]
            return latency
    return None


def _latency_of(value: Any) -> float | None:
    try:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return None
        latency = float(value)
    except Exception:
        # No float is so large, or the value's own code fails.
        return None
    return latency if math.isfinite(latency) and latency >= 0 else None


def take_trace(named: dict[str, Any]) -> tuple[bytes, bytes] | None:
    """Takes out the ids of trace and span; none if there is neither."""
    trace_id = _take_id(named, "trace_id", TRACE_ID_BYTES)
    span_id = _take_id(named, "span_id", SPAN_ID_BYTES)
    return (trace_id, span_id) if trace_id or span_id else None


def _take_id(named: dict[str, Any], name: str, size: int) -> bytes:
    value = named.get(name)
    try:
        if not isinstance(value, str) or len(value) != 2 * size:
            return b""
        found = bytes.fromhex(value)
    except Exception:
        # No hexadecimal digits, or the value's own code fails.
        return b""
    if len(found) != size:
        # Blanks between digits.
        return b""
    del named[name]
    return found


def exception_attributes(info: Any) -> Attributes:
    """What an exception is told as: its type, message and stack. `info`: as of `sys.exc_info()`."""
    kind, error, stack = info
    if kind is None:
        return ()
    module = "" if kind.__module__ == "builtins" else f"{kind.__module__}."
    return (
        ("exception.type", f"{module}{kind.__qualname__}"),
        ("exception.message", text_of(error)),
        ("exception.stacktrace", _stack_text(kind, error, stack)),
    )


def _stack_text(kind: Any, error: Any, stack: Any) -> str:
    try:
        return "".join(traceback.format_exception(kind, error, stack))
    except Exception as fault:
        return f"(the stack cannot be shown: {type(fault).__name__}: {fault})"
