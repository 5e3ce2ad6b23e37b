"""What is said to a person, and how often. Pure: the time is an argument."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

NOTICE_INTERVAL = 60.0
"""Drops, rejections and faults are said this often, seconds."""
# Most kinds of rejections told apart.
KINDS_MAX = 64


@dataclass
class _Said:
    at: float
    since: int


class Pacing:
    """Lets each kind of notice through once an interval, and counts what comes between."""

    def __init__(self) -> None:
        self._said: dict[str, _Said] = {}

    def count(self, kind: str, now: float) -> int | None:
        """How many to tell of now; none if it is too early."""
        said = self._said.get(kind)
        if said is None and len(self._said) >= KINDS_MAX:
            return None
        if said is not None:
            said.since += 1
            if now < said.at + NOTICE_INTERVAL:
                return None
        self._said[kind] = _Said(now, 0)
        return 1 if said is None else said.since


def drop_list(dropped: Mapping[str, int]) -> str:
    """The counts by name: `queue_overflow 17, expired 3`."""
    return ", ".join(f"{reason} {count}" for reason, count in dropped.items() if count)
