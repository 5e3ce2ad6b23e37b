"""The Python client library of Logweir.

    import logging
    import logweir

    logweir.init("shop")
    logging.info("order %d paid", 17, extra={"latency_ms": 8.5})

Everything but `emit` happens on one thread of the library's own. After `init` nothing fails, blocks or grows
without bound; every log that is lost is counted by its reason, here and on the server.
"""

from __future__ import annotations

import logging
from typing import Any

from logweir.client import Client, LogEvent
from logweir.config import Rejection, TlsOptions
from logweir.delivery.batch import SDK_VERSION as __version__
from logweir.delivery.retry import RetryPolicy
from logweir.delivery.spool import SpoolOptions
from logweir.errors import (
    DROP_REASONS,
    ConfigError,
    EndpointError,
    ServiceError,
    TlsError,
    TokenError,
)
from logweir.integrations.handler import Handler
from logweir.integrations.middleware import AsgiMiddleware, WsgiMiddleware
from logweir.record.record import Json, Level
from logweir.record.trace import TraceContext, trace, traceparent
from logweir.report import FlushReport, Stats
from logweir.signals import flush_on_sigterm

__all__ = [
    "DROP_REASONS",
    "AsgiMiddleware",
    "Client",
    "ConfigError",
    "EndpointError",
    "FlushReport",
    "Handler",
    "Json",
    "Level",
    "LogEvent",
    "Rejection",
    "RetryPolicy",
    "ServiceError",
    "SpoolOptions",
    "Stats",
    "TlsError",
    "TlsOptions",
    "TokenError",
    "TraceContext",
    "WsgiMiddleware",
    "__version__",
    "init",
    "trace",
    "traceparent",
]


def init(service: str = "", *, level: int | str = logging.INFO, **settings: Any) -> Client:
    """Sends what `logging` logs, from this level on, and returns the client. Address and token come from
    the environment (`LOGWEIR_ENDPOINT`, `LOGWEIR_TOKEN`) unless they are given.

    The last logs are sent at the end of the process, and on SIGTERM, which the program keeps.
    """
    if service:
        settings["service"] = service
    client = Client(**settings)
    root = logging.getLogger()
    root.addHandler(Handler(client, level))
    if root.getEffectiveLevel() > logging._checkLevel(level):  # type: ignore[attr-defined]
        root.setLevel(level)
    flush_on_sigterm(client)
    return client
