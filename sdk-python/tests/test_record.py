"""Logs are cut to the limits, whatever the program hands over."""

from __future__ import annotations

import enum
import math
from datetime import datetime, timezone
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logweir import wire
from logweir.record.record import (
    ATTRIBUTE_KEY_BYTES_MAX,
    ATTRIBUTE_VALUE_BYTES_MAX,
    ATTRIBUTES_MAX,
    MESSAGE_BYTES_MAX,
    UNKNOWN_LEVEL,
    Json,
    Level,
    Record,
    attributes_of,
    fit,
    level_of,
    nanoseconds,
    value_of,
    write,
)

NOW = 1_700_000_000_000_000_000
# Every text that Python can hold, halves of pairs included.
ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=60)
LONG_TEXT = st.tuples(ANY_TEXT, st.sampled_from([1, 7, 400, 3_000])).map(lambda pair: pair[0] * pair[1])
VALUES = st.one_of(
    LONG_TEXT, LONG_TEXT.map(Json), st.booleans(), st.floats(), st.integers(-(1 << 63), (1 << 63) - 1)
)
RECORDS = st.builds(
    Record,
    level=st.integers(-3, 9),
    time=st.one_of(st.integers(-5, 1 << 70), st.floats()),
    message=LONG_TEXT,
    logger=LONG_TEXT,
    trace=st.one_of(st.none(), st.tuples(st.binary(max_size=20), st.binary(max_size=20))),
    attributes=st.lists(st.tuples(LONG_TEXT, VALUES), max_size=200).map(tuple),
    latency_ms=st.one_of(st.none(), st.floats()),
    severity_number=st.integers(-5, 90),
)


def written(record: Record) -> Any:
    return write(record, wire.Batch().records, NOW)


@given(RECORDS)
def test_any_log_fits_the_wire(record: Record) -> None:
    log = written(record)
    again = wire.LogRecord.FromString(log.SerializeToString())
    assert str(again) == str(log)
    assert len(log.message.encode()) <= MESSAGE_BYTES_MAX
    assert len(log.trace_id) in (0, 16) and len(log.span_id) in (0, 8)
    assert log.severity_number <= 24 and log.level in set(Level)
    assert not log.HasField("latency_ms") or (math.isfinite(log.latency_ms) and log.latency_ms >= 0)
    assert len(log.attributes) <= ATTRIBUTES_MAX
    for attribute in log.attributes:
        assert 1 <= len(attribute.key.encode()) <= ATTRIBUTE_KEY_BYTES_MAX
        for text in (attribute.string_value, attribute.json_value):
            assert len(text.encode()) <= ATTRIBUTE_VALUE_BYTES_MAX


@given(RECORDS)
def test_fitting_twice_changes_nothing(record: Record) -> None:
    once = fit(record, NOW)
    # NaN is not itself, but its text is.
    assert repr(fit(once, NOW)) == repr(once)


@given(ANY_TEXT)
def test_text_that_is_no_unicode_is_made_so(text: str) -> None:
    message = written(Record(Level.INFO, 1, text)).message
    assert message == text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


class Colour(enum.Enum):
    RED = "red"


class Loud:
    def __str__(self) -> str:
        raise RuntimeError("no")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("a", "a"),
        (True, True),
        (7, 7),
        (1 << 63, "9223372036854775808"),
        (0.5, 0.5),
        (None, Json("null")),
        ({"a": [1, None]}, Json('{"a": [1, null]}')),
        ([1, {"é": Decimal("1.5")}], Json('[1, {"é": "1.5"}]')),
        ((1, 2), Json("[1, 2]")),
        (Json("{}"), Json("{}")),
        (Level.WARN, 4),
        (Colour.RED, "red"),
        (Decimal("1.5"), "1.5"),
        (b"raw", "b'raw'"),
        (datetime(2024, 1, 2, tzinfo=timezone.utc), "2024-01-02 00:00:00+00:00"),
        (Loud(), "<Loud that cannot be shown: RuntimeError>"),
        ([Loud()], Json('["<Loud that cannot be shown: RuntimeError>"]')),
    ],
    ids=repr,
)
def test_values(given: object, expected: object) -> None:
    found = value_of(given)
    assert (type(found), found) == (type(expected), expected)


def test_a_dict_that_holds_itself_becomes_text() -> None:
    loop: dict[str, Any] = {}
    loop["self"] = loop
    assert value_of(loop) == "{'self': {...}}"


def test_names_are_texts() -> None:
    assert attributes_of({"a": 1, 2: "b"}) == (("a", 1), ("2", "b"))  # type: ignore[dict-item]


@pytest.mark.parametrize(
    ("given", "expected"),
    [("info", 3), ("WARNING", 4), ("Critical", 6), (Level.DEBUG, 2), (5, 5), (0, 0)],
)
def test_levels(given: object, expected: int) -> None:
    assert level_of(given) == expected


@pytest.mark.parametrize("given", ["loud", 7, -1, None, 3.5])
def test_what_is_no_level(given: object) -> None:
    assert level_of(given) == UNKNOWN_LEVEL


@pytest.mark.parametrize(
    ("given", "expected"),
    [(0, 0), (5, 5), (1.5, 1_500_000_000)],
)
def test_times(given: float, expected: int) -> None:
    assert nanoseconds(given) == expected


@pytest.mark.parametrize("given", [-1, -0.5, 1 << 64, math.nan, math.inf, 1e300, "soon", None])
def test_a_time_that_is_none_becomes_that_at_hand_and_is_flagged(given: Any) -> None:
    log = written(Record(Level.INFO, given, "m"))
    assert nanoseconds(given) is None and log.time_unix_nano == NOW
    assert [(flag.key, flag.bool_value) for flag in log.attributes] == [("logweir.truncated", True)]
