"""What a program hands over, cut to the limits of the contract.

The server refuses a log that is over a limit. The library never does: it cuts text at a character
boundary, leaves out what cannot be kept, and says so in two attributes of the log, `logweir.truncated`
and `logweir.dropped_attributes`.
"""

from __future__ import annotations

import enum
import json
import math
from collections.abc import Iterable, Mapping
from sys import getsizeof
from typing import Any, Callable, NamedTuple, Union

MESSAGE_BYTES_MAX = 64 << 10
"""Longest message."""
ATTRIBUTES_MAX = 128
"""Most attributes of a log."""
ATTRIBUTE_KEY_BYTES_MAX = 256
"""Longest name of an attribute."""
ATTRIBUTE_VALUE_BYTES_MAX = 16 << 10
"""Longest value of an attribute."""
NAME_BYTES_MAX = 256
"""Longest logger, instance, environment, version, region or host."""

TRUNCATED = "logweir.truncated"
DROPPED_ATTRIBUTES = "logweir.dropped_attributes"
# The two flags themselves are attributes.
FLAGS_MAX = 2
SEVERITY_NUMBER_MAX = 24
TRACE_ID_BYTES = 16
SPAN_ID_BYTES = 8
INT64_MIN, INT64_MAX = -(1 << 63), (1 << 63) - 1
UINT64_MAX = (1 << 64) - 1
# No character takes more bytes in UTF-8.
UTF8_BYTES_MAX = 4


class Level(enum.IntEnum):
    """How serious a log is, by the numbers of the wire contract."""

    UNSPECIFIED = 0
    TRACE = 1
    DEBUG = 2
    INFO = 3
    WARN = 4
    ERROR = 5
    FATAL = 6


LEVEL_MAX = int(Level.FATAL)
_OTHER_NAMES = {"WARNING": Level.WARN, "CRITICAL": Level.FATAL, "NOTSET": Level.UNSPECIFIED}
_LEVEL_OF_NAME: dict[str, int] = {
    name: int(level) for name, level in (*Level.__members__.items(), *_OTHER_NAMES.items())
}
# Neither a level nor the name of one; cleared and flagged when the log is cut to the limits.
UNKNOWN_LEVEL = LEVEL_MAX + 1


def level_of(level: object) -> int:
    """The number of a level that is given by number or by name."""
    try:
        if isinstance(level, int):
            return int(level) if 0 <= level <= LEVEL_MAX else UNKNOWN_LEVEL
        return _LEVEL_OF_NAME.get(str(level).upper(), UNKNOWN_LEVEL)
    except Exception:
        # The value's own code fails.
        return UNKNOWN_LEVEL


class Json(str):
    """JSON text, kept as a nested value and not as text."""

    __slots__ = ()


Value = Union[str, int, float, bool, Json]
"""What an attribute can be on the wire."""
Attributes = tuple[tuple[str, Value], ...]


class Record(NamedTuple):
    """A log, as it waits in the queue. Its values cannot change any more. What is quicker to make, a plain
    tuple of the same, will do in its place until it is written."""

    level: int
    # Nanoseconds, or seconds as a float, since 1970-01-01 UTC.
    time: int | float
    message: str
    logger: str = ""
    # Trace id and span id, either of which may be empty.
    trace: tuple[bytes, bytes] | None = None
    attributes: Attributes = ()
    latency_ms: float | None = None
    severity_number: int = 0


def attributes_of(named: Mapping[str, object]) -> Attributes:
    """Values as the wire knows them."""
    return tuple(
        [(key if type(key) is str else text_of(key), value_of(value)) for key, value in named.items()]
    )


def value_of(value: object) -> Value:
    """A value as the wire knows it: what is nested becomes JSON text, anything else text."""
    kind = type(value)
    if kind is str or kind is bool or kind is float:
        return value  # type: ignore[return-value]
    if kind is int:
        return value if INT64_MIN <= value <= INT64_MAX else str(value)  # type: ignore[operator,return-value]
    try:
        return _value_of_other(value)
    except Exception:
        # Its own code fails, even where it says of what class it is.
        return text_of(value)


def _value_of_other(value: object) -> Value:
    if value is None or isinstance(value, (dict, list, tuple)):
        return json_of(value)
    if isinstance(value, Json):
        return value
    if isinstance(value, enum.Enum):
        return value_of(value.value)
    for plain in (str, int, float):
        if isinstance(value, plain):
            return value_of(plain(value))
    return text_of(value)


def json_of(value: object) -> Value:
    """JSON text; what JSON does not know is text inside it."""
    try:
        return Json(json.dumps(value, default=text_of, ensure_ascii=False))
    except Exception:
        # It has no form in JSON, or its own code fails.
        return text_of(value)


def text_of(value: object) -> str:
    """A text, whatever the value's own code does."""
    try:
        # `str` may give back a class derived from it.
        return str.__str__(str(value))
    except Exception as error:
        return f"<{type(value).__name__} that cannot be shown: {type(error).__name__}>"


# What a log takes in memory besides its texts, on a 64-bit CPython: its tuple and its place in the queue,
# each with the header of the garbage collector (120 + 88), its time, position and size (three of 32), and
# its slot in the lane (8).
RECORD_BYTES = 312
# The tuple of its attributes, if it has any; then for each a pair (72) and its slot (8).
ATTRIBUTES_BYTES, ATTRIBUTE_BYTES = 56, 80


def memory_bytes_of(record: Record) -> int:
    """What a log takes in memory, bytes. Loggers are names of the program and not counted."""
    size = RECORD_BYTES + getsizeof(record[2])
    if record[5]:
        size += ATTRIBUTES_BYTES
        for key, value in record[5]:
            size += ATTRIBUTE_BYTES + getsizeof(key) + getsizeof(value)
    return size


def fit(record: Record, now_unix_nano: int) -> Record:
    """The log, cut to the limits, with what was cut flagged. An invalid time becomes `now_unix_nano`."""
    message, truncated = cut(record.message, MESSAGE_BYTES_MAX)
    logger, logger_cut = cut(record.logger, NAME_BYTES_MAX)
    cleared = _clear(record, now_unix_nano)
    attributes = [_fit_attribute(key, value) for key, value in record.attributes if key]
    truncated |= logger_cut or cleared != record or any(was_cut for _, was_cut in attributes)
    named = tuple(pair for pair, _ in attributes)
    return cleared._replace(
        message=message,
        logger=logger,
        attributes=_flagged(named, truncated, len(record.attributes)),
    )


def _flagged(named: Attributes, truncated: bool, given: int) -> Attributes:
    nameless = len(named) < given
    if not (truncated or nameless or given > ATTRIBUTES_MAX):
        return named
    flags = FLAGS_MAX if nameless or given >= ATTRIBUTES_MAX else 1
    kept = named[: ATTRIBUTES_MAX - flags]
    left_out = given - len(kept)
    count: Attributes = ((DROPPED_ATTRIBUTES, left_out),) if left_out else ()
    flag: Attributes = () if (TRUNCATED, True) in kept else ((TRUNCATED, True),)
    return (*kept, *flag, *count)


def with_time(record: Record, time_unix_nano: int) -> Record:
    """The log with this time in the place of an invalid one, and flagged. The flag comes first, where it
    is never left out."""
    others = [pair for pair in record.attributes if pair[0] != TRUNCATED]
    return record._replace(time=time_unix_nano, attributes=((TRUNCATED, True), *others))


def _clear(record: Record, now_unix_nano: int) -> Record:
    """The log without what the server would refuse it for."""
    trace = record.trace
    if trace is not None:
        trace = (_id_of(trace[0], TRACE_ID_BYTES), _id_of(trace[1], SPAN_ID_BYTES))
    latency = record.latency_ms
    if latency is not None and not (math.isfinite(latency) and latency >= 0):
        latency = None
    severity = record.severity_number
    return record._replace(
        level=record.level if 0 <= record.level <= LEVEL_MAX else int(Level.UNSPECIFIED),
        time=record.time if nanoseconds(record.time) is not None else now_unix_nano,
        trace=trace,
        latency_ms=latency,
        severity_number=severity if 0 <= severity <= SEVERITY_NUMBER_MAX else 0,
    )


def id_bytes(given: object, size: int) -> bytes:
    """An id as bytes. OpenTelemetry has ids as numbers. Raises TypeError, or OverflowError."""
    if isinstance(given, int):
        return int.to_bytes(given, size, "big")
    if isinstance(given, (bytes, bytearray, memoryview)):
        return bytes(given)
    raise TypeError(f"an id is bytes or an int, not {type(given).__name__}")


def _id_of(given: bytes, size: int) -> bytes:
    return given if len(given) in (0, size) else b""


def _fit_attribute(key: str, value: Value) -> tuple[tuple[str, Value], bool]:
    key, key_cut = cut(key, ATTRIBUTE_KEY_BYTES_MAX)
    if not isinstance(value, str):
        return (key, value), key_cut
    text, value_cut = cut(value, ATTRIBUTE_VALUE_BYTES_MAX)
    if isinstance(value, Json) and not value_cut:
        text = Json(text)
    # A part of a JSON text is no JSON text.
    return (key, text), key_cut or value_cut


def cut(text: str, bytes_max: int) -> tuple[str, bool]:
    """A text cut to a number of bytes at a character boundary, made valid Unicode; whether it was longer."""
    if len(text) * UTF8_BYTES_MAX <= bytes_max and text.isascii():
        return text, False
    # No longer text can be kept, so that an enormous one is not encoded as a whole.
    head = text[: bytes_max + 1]
    try:
        encoded = head.encode()
    except UnicodeEncodeError:
        head = valid(head)
        encoded = head.encode()
    if len(encoded) <= bytes_max and len(text) <= bytes_max:
        return head, False
    return encoded[:bytes_max].decode(errors="ignore"), True


def valid(text: str) -> str:
    """A text with what is no valid Unicode replaced by U+FFFD."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


# Texts of no more characters are within the limits in any case.
MESSAGE_CHARACTERS_SAFE = MESSAGE_BYTES_MAX // UTF8_BYTES_MAX
NAME_CHARACTERS_SAFE = NAME_BYTES_MAX // UTF8_BYTES_MAX
KEY_CHARACTERS_SAFE = ATTRIBUTE_KEY_BYTES_MAX // UTF8_BYTES_MAX
VALUE_CHARACTERS_SAFE = ATTRIBUTE_VALUE_BYTES_MAX // UTF8_BYTES_MAX


def _ignore() -> None:
    """Where nobody is to hear of an invalid time."""


def write(
    record: Record, into: Any, now_unix_nano: int, on_invalid_time: Callable[[], None] = _ignore
) -> Any:
    """Adds a log to a batch's `records`, and returns it there. An invalid time becomes `now_unix_nano`,
    the log is flagged, and `on_invalid_time` is called."""
    level, time, message, logger, trace, attributes, latency_ms, severity_number = record
    nano = nanoseconds(time)
    if (
        nano is not None
        and 0 <= level <= LEVEL_MAX
        and len(message) <= MESSAGE_CHARACTERS_SAFE
        and len(logger) <= NAME_CHARACTERS_SAFE
        and latency_ms is None
        and severity_number == 0
        and (trace is None or (len(trace[0]) == TRACE_ID_BYTES and len(trace[1]) == SPAN_ID_BYTES))
        and (not attributes or _are_safe(attributes))
    ):
        count = len(into)
        try:
            log = into.add(time_unix_nano=nano, level=level, message=message, logger=logger)
            if trace is not None:
                log.trace_id, log.span_id = trace
            if attributes:
                write_attributes(attributes, log.attributes)
            return log
        except UnicodeError:
            # A text is no valid Unicode; `fit` makes it so.
            del into[count:]
    if nano is None:
        on_invalid_time()
    return _write_fitted(fit(Record._make(record), now_unix_nano), into)


def _are_safe(attributes: Attributes) -> bool:
    """Whether attributes are within the limits in any case."""
    for key, value in attributes:
        if not 0 < len(key) <= KEY_CHARACTERS_SAFE:
            return False
        if isinstance(value, str) and len(value) > VALUE_CHARACTERS_SAFE:
            return False
    return len(attributes) <= ATTRIBUTES_MAX


def nanoseconds(time: int | float) -> int | None:
    """A time in the wire's unit; none if the wire cannot hold it. 0 is no time, which the server takes for
    now."""
    try:
        nano = time if type(time) is int else int(time * 1e9)
    except Exception:
        # It is no number, or its own code fails.
        return None
    return nano if 0 <= nano <= UINT64_MAX else None


def _write_fitted(record: Record, into: Any) -> Any:
    log = into.add(
        time_unix_nano=nanoseconds(record.time),
        level=record.level,
        severity_number=record.severity_number,
        message=record.message,
        logger=record.logger,
    )
    if record.latency_ms is not None:
        log.latency_ms = record.latency_ms
    if record.trace is not None:
        log.trace_id, log.span_id = record.trace
    write_attributes(record.attributes, log.attributes)
    return log


def write_attributes(attributes: Iterable[tuple[str, Value]], into: Any) -> None:
    """Adds attributes to a repeated field."""
    for key, value in attributes:
        into.add(key=key, **{_FIELD_OF_TYPE[type(value)]: value})


_FIELD_OF_TYPE = {
    str: "string_value",
    bool: "bool_value",
    int: "int_value",
    float: "double_value",
    Json: "json_value",
}
