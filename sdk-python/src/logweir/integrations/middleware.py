"""Requests of web servers: logs within one belong to the trace that its header names, or to a new one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from logweir.record.trace import TraceContext, trace, within

HEADER = "traceparent"


class WsgiMiddleware:
    """Around a WSGI application: `application = logweir.WsgiMiddleware(application)`."""

    def __init__(self, application: Any) -> None:
        self._application = application

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """Handles a request; also what is logged while its body is made belongs to the trace."""
        header = environ.get("HTTP_TRACEPARENT")
        with trace(header) as context:
            body = self._application(environ, start_response)
        return _Body(body, context)


class _Body:
    """A body whose parts are made within the trace."""

    def __init__(self, body: Iterable[bytes], context: TraceContext) -> None:
        self._body = body
        self._context = context

    def __iter__(self) -> Iterator[bytes]:
        parts = iter(self._body)
        while True:
            with within(self._context):
                try:
                    part = next(parts)
                except StopIteration:
                    return
            yield part

    def close(self) -> None:
        close = getattr(self._body, "close", None)
        if close is not None:
            with within(self._context):
                close()


class AsgiMiddleware:
    """Around an ASGI application: `application = logweir.AsgiMiddleware(application)`."""

    def __init__(self, application: Any) -> None:
        self._application = application

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        """Handles a request."""
        if scope["type"] not in ("http", "websocket"):
            await self._application(scope, receive, send)
            return
        headers = dict(scope.get("headers") or ())
        with trace(headers.get(HEADER.encode(), b"").decode("latin-1")):
            await self._application(scope, receive, send)
