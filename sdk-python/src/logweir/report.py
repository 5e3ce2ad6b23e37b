"""What a program is told of its logs."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Stats:
    """Counts since the start. `emitted = sent + rejected + dropped + queued + in_flight + spooled`."""

    emitted: int = 0
    """Logs handed over."""
    sent: int = 0
    """Logs that the server has for good."""
    rejected: int = 0
    """Logs that the server rejected."""
    dropped: dict[str, int] = field(default_factory=dict)
    """Logs given up, by reason; reasons that did not occur are left out."""
    queued: int = 0
    """Logs waiting in memory for a batch."""
    in_flight: int = 0
    """Logs in batches that are under way."""
    spooled: int = 0
    """Logs in batches in the spool that the server has not responded to."""
    adopted_waiting: int = 0
    """Logs of dead processes, taken over and still to be sent."""
    adopted_sent: int = 0
    """Logs of dead processes that the server has for good."""
    adopted_dropped: int = 0
    """Logs of dead processes that were refused or too old."""
    spool_failures: int = 0
    """Times that the spool could not be written or read."""
    spool_damaged: int = 0
    """Damaged places found in the spool."""
    emitted_after_shutdown: int = 0
    """Logs handed over after `shutdown`; they are in no other count."""


@dataclass(frozen=True)
class FlushReport:
    """What became of logs, by a flush."""

    sent: int = 0
    """Logs that the server has for good, since the start."""
    rejected: int = 0
    """Logs that the server rejected, since the start."""
    dropped: dict[str, int] = field(default_factory=dict)
    """Logs given up, by reason, since the start."""
    spooled: int = 0
    """Logs handed over before the call that are in the spool, without a response so far."""
    pending: int = 0
    """Logs handed over before the call whose fate is open."""

    @property
    def is_complete(self) -> bool:
        """Whether the fate of every log handed over before the call is known."""
        return self.spooled == 0 and self.pending == 0
