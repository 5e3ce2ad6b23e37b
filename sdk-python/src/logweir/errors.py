"""What can go wrong, for the few calls that may fail, and why logs are given up."""

from __future__ import annotations

QUEUE_OVERFLOW = "queue_overflow"
CACHE_OVERFLOW = "cache_overflow"
TOO_LARGE = "too_large"
AUTH_FAILED = "auth_failed"
EXPIRED = "expired"
SEND_ERROR = "send_error"
SAMPLE_RATE = "sample_rate"
BEFORE_SEND = "before_send"
SHUTDOWN_TIMEOUT = "shutdown_timeout"
INTERNAL_SDK_ERROR = "internal_sdk_error"

DROP_REASONS = (
    QUEUE_OVERFLOW,
    CACHE_OVERFLOW,
    TOO_LARGE,
    AUTH_FAILED,
    EXPIRED,
    SEND_ERROR,
    SAMPLE_RATE,
    BEFORE_SEND,
    SHUTDOWN_TIMEOUT,
    INTERNAL_SDK_ERROR,
)
"""Why logs are given up, by the names of the wire contract."""


class ConfigError(ValueError):
    """A setting of the code that cannot be used; the client is not made. Not worth a retry unchanged.

    `setting` is its name.
    """

    def __init__(self, setting: str, message: str) -> None:
        super().__init__(message)
        self.setting = setting


class EndpointError(ConfigError):
    """An address that is not one."""

    def __init__(self, endpoint: str) -> None:
        super().__init__(
            "endpoint",
            f"endpoint {endpoint!r} is not usable: give http(s)://HOST:PORT, several separated by commas",
        )


class TokenError(ConfigError):
    """A token that cannot be sent, or a file of one that cannot be read."""

    def __init__(self, message: str) -> None:
        super().__init__("token", message)


class ServiceError(ConfigError):
    """A service name that the server would refuse."""

    def __init__(self, service: str) -> None:
        super().__init__(
            "service",
            f"service {service!r} is not valid: use 1 to 128 characters of A-Z a-z 0-9 . _ / -",
        )


class TlsError(ConfigError):
    """A certificate or key that cannot be used."""

    def __init__(self, cause: str) -> None:
        super().__init__(
            "tls",
            f"TLS cannot be set up: {cause}; check the files of the CA, the certificate and the key",
        )


class SpoolError(OSError):
    """The spool cannot be written or read. The client goes on in memory."""
