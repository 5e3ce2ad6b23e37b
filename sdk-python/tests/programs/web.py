"""A web application that logs each request, for servers of all kinds.

Leaves a file in LOADED_FOLDER for each time that it is loaded.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import logweir

logweir.init("web")


def answer(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    logging.info("request %s", environ["PATH_INFO"])
    start_response("200 OK", [("content-type", "text/plain")])
    return [b"done"]


application = logweir.WsgiMiddleware(answer)
Path(os.environ["LOADED_FOLDER"], str(os.getpid())).touch()
