"""Which share of the logs of a level is kept. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from logweir.record.record import Level


class Sampler:
    """Keeps a log if a random draw is below the rate of its level."""

    def __init__(self, rates: Mapping[str, float]) -> None:
        self._rates = {int(Level[name]): rate for name, rate in rates.items()}
        if int(Level.INFO) in self._rates:
            self._rates[int(Level.UNSPECIFIED)] = self._rates[int(Level.INFO)]

    def keeps(self, level: int, random: float) -> bool:
        """Whether a log is kept; `random` is from 0.0 up to 1.0."""
        return random < self._rates.get(level, 1.0)
