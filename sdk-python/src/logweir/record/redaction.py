"""Which attributes are blanked out before they are sent. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable

from logweir.record.record import Attributes, Json, Value

REDACT_KEYS = (
    "password",
    "passwd",
    "secret",
    "api_key",
    "apikey",
    "access_token",
    "refresh_token",
    "auth_token",
    "authorization",
    "cookie",
    "set_cookie",
    "private_key",
    "credentials",
)
"""The names that are listed by default."""

REDACTED = "[redacted]"
# A name in JSON, with what may be escaped in it, and the colon after it.
_JSON_KEY = re.compile(r'"((?:[^"\\]|\\.)*)"\s*:')


def plain_key(key: str) -> str:
    """A name as it is compared."""
    return key.strip().lower().replace("-", "_")


class Redactor:
    """Blanks out the values of attributes with a listed name, or a name that ends with one."""

    def __init__(self, keys: Iterable[str] = REDACT_KEYS) -> None:
        self.keys = tuple(plain_key(key) for key in keys)
        listed = "|".join(re.escape(key) for key in self.keys)
        self._pattern = re.compile(f"(?:^|[._])(?:{listed})$") if self.keys else None
        # Names of attributes are few and come again and again.
        self._known: dict[str, bool] = {}

    def redact(self, attributes: Attributes) -> Attributes:
        """The attributes, blanked out where they must be."""
        if self._pattern is None:
            return attributes
        return tuple([(key, REDACTED if self._hides(key, value) else value) for key, value in attributes])

    def _hides(self, key: str, value: Value) -> bool:
        if self._is_listed(key):
            return True
        return isinstance(value, Json) and any(map(self._is_listed, _JSON_KEY.findall(value)))

    def _is_listed(self, key: str) -> bool:
        found = self._known.get(key)
        if found is None:
            found = self._pattern is not None and bool(self._pattern.search(plain_key(key)))
            if len(self._known) < KNOWN_KEYS_MAX:
                self._known[key] = found
        return found


# How many names are remembered: more than any program has, unless it makes them up.
KNOWN_KEYS_MAX = 4_096
