"""The shop's orders: prices a cart and has the service of payments charge it.

One line starts the library, one gives each request its trace; the header hands the trace on.
"""

import logging
import os

import httpx
import logweir
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

PAYMENTS_URL = os.environ.get("PAYMENTS_URL", "http://127.0.0.1:8003")

logweir.init("orders")
log = logging.getLogger("orders")
app = FastAPI()
app.add_middleware(logweir.AsgiMiddleware)


@app.post("/orders/{cart}")
async def order(cart: str, request: Request) -> JSONResponse:
    amount = 5 * len(cart)
    log.info("cart %s costs %d EUR", cart, amount, extra={"cart": cart})
    async with httpx.AsyncClient() as client:
        answer = await client.post(
            f"{PAYMENTS_URL}/charge/{amount}", headers={"traceparent": logweir.traceparent()}
        )
    if answer.is_error:
        log.error("cart %s was not paid", cart, extra={"status": answer.status_code})
    return JSONResponse({"cart": cart, "amount": amount}, status_code=answer.status_code)
