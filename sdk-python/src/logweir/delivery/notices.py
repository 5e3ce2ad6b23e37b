"""What a person is told, and how often. Pure: the time is an argument."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

NOTICE_INTERVAL = 60.0
"""Drops, rejections and faults are told this often, seconds."""
# Most kinds of rejections told apart: their names come from the server, and must not fill memory.
KINDS_MAX = 64
INVALID_TIME_OF_CALL = (
    "the time given with a log is not valid, so it has the time of the call: give nanoseconds since 1970"
)
INVALID_TIME_OF_RECORD = (
    "the time of a log record is not valid, so it has the time of its batch: "
    "its `created` must be seconds since 1970"
)


@dataclass
class _LastNotice:
    at: float
    since: int


class NoticeLimiter:
    """Lets each kind of notice through once an interval, and counts what comes between."""

    def __init__(self) -> None:
        self._last: dict[str, _LastNotice] = {}

    def count(self, kind: str, now: float) -> int | None:
        """How many to tell of now; none if it is too early."""
        last = self._last.get(kind)
        if last is None and len(self._last) >= KINDS_MAX:
            return None
        if last is not None:
            last.since += 1
            if now < last.at + NOTICE_INTERVAL:
                return None
        self._last[kind] = _LastNotice(now, 0)
        return 1 if last is None else last.since


def drop_list(dropped: Mapping[str, int]) -> str:
    """The counts by name: `queue_overflow 17, expired 3`."""
    return ", ".join(f"{reason} {count}" for reason, count in dropped.items() if count)
