"""A web application that logs each request, for servers of all kinds."""

from __future__ import annotations

import logging
from typing import Any

import logweir

logweir.init("web")


def answer(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    logging.info("request %s", environ["PATH_INFO"])
    start_response("200 OK", [("content-type", "text/plain")])
    return [b"done"]


application = logweir.WsgiMiddleware(answer)
