"""Logs of `logging`, structlog and loguru, and the trace they belong to."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import loguru
import pytest
import structlog
from clients import Notices, client_of
from server import PATIENCE, Server, serving

import logweir
import logweir.loguru
import logweir.structlog
from logweir import Client, Handler, Level
from logweir.record.trace import current_ids


@contextmanager
def logging_to_server(**settings: Any) -> Iterator[tuple[logging.Logger, Client, Server]]:
    logger = logging.Logger("shop.tests")
    with serving() as server, client_of(server.endpoint, **settings) as client:
        logger.addHandler(Handler(client))
        yield logger, client, server


def sent(client: Client, server: Server) -> list[Any]:
    """All logs, once they are there."""
    assert client.flush(PATIENCE).is_complete
    return server.records


def named(record: Any) -> dict[str, Any]:
    return {a.key: getattr(a, a.WhichOneof("value")) for a in record.attributes}


def test_a_log_has_all_that_logging_knows() -> None:
    with logging_to_server() as (logger, client, server):
        logger.warning("order %d of %s", 17, "ann")
        (record,) = sent(client, server)
    assert (record.message, record.logger) == ("order 17 of ann", "shop.tests")
    assert (record.level, named(record)) == (Level.WARN, {})
    assert record.time_unix_nano > 1_700_000_000_000_000_000


@pytest.mark.parametrize("created", [math.nan, -1.0, math.inf, 1e300])
def test_a_time_of_logging_that_is_none_is_replaced_flagged_and_told_once(created: float) -> None:
    notices = Notices()
    with logging_to_server(on_notice=notices) as (logger, client, server):
        before = time.time_ns()
        for _ in range(2):
            log = logger.makeRecord("shop.tests", logging.INFO, "", 0, "x", (), None)
            log.created = created
            logger.handle(log)
            # Each in a batch of its own.
            records = sent(client, server)
        assert all(before <= record.time_unix_nano <= time.time_ns() for record in records)
    assert [named(record) for record in records] == 2 * [{"logweir.truncated": True}]
    assert notices.texts == [
        "the time of a log record is not valid, so it has the time of its batch: "
        "its `created` must be seconds since 1970"
    ]


@pytest.mark.parametrize(
    ("number", "level"),
    [(1, "TRACE"), (9, "TRACE"), (10, "DEBUG"), (15, "DEBUG"), (25, "INFO"), (45, "ERROR"), (99, "FATAL")],
)
def test_levels_that_the_program_made_up(number: int, level: str) -> None:
    with logging_to_server() as (logger, client, server):
        logger.log(number, "x")
        assert [record.level for record in sent(client, server)] == [Level[level]]


def test_extra_names_become_attributes_and_some_mean_more() -> None:
    extra = {
        "user": {"id": 7},
        "count": 3,
        "duration_ms": 8.5,
        "trace_id": "0af7651916cd43dd8448eb211c80319c",
        "span_id": "b7ad6b7169203331",
    }
    with logging_to_server() as (logger, client, server):
        logger.info("x", extra=extra)
        logger.info("x", extra={"latency_ms": -1, "trace_id": "none"})
        first, second = sent(client, server)
    assert named(first) == {"user": '{"id": 7}', "count": 3}
    assert (first.latency_ms, first.trace_id.hex()) == (8.5, extra["trace_id"])
    assert first.span_id.hex() == extra["span_id"]
    assert named(second) == {"latency_ms": -1, "trace_id": "none"}


def test_what_changes_after_the_call_is_sent_as_it_was() -> None:
    cart = ["a"]
    with logging_to_server() as (logger, client, server):
        logger.info("cart %s", cart, extra={"cart": cart})
        cart.append("b")
        (record,) = sent(client, server)
    assert (record.message, named(record)) == ("cart ['a']", {"cart": '["a"]'})


def test_exceptions_come_with_their_stack() -> None:
    with logging_to_server() as (logger, client, server):
        try:
            raise KeyError("nobody")
        except KeyError:
            logger.exception("failed", stack_info=True)
        (record,) = sent(client, server)
    found = named(record)
    assert (found["exception.type"], found["exception.message"]) == ("KeyError", "'nobody'")
    assert 'raise KeyError("nobody")' in found["exception.stacktrace"]
    assert "stack_info" in found


def test_a_message_that_does_not_fit_its_arguments_is_kept() -> None:
    with logging_to_server() as (logger, client, server):
        logger.info("order %d", "seventeen")
        (record,) = sent(client, server)
    assert record.message == "order %d"
    assert named(record)["logweir.format_error"].startswith("TypeError: ")


def test_filters_levels_and_formatters_of_others_do_no_harm() -> None:
    with logging_to_server() as (logger, client, server):
        handler = logger.handlers[0]
        handler.setLevel(logging.INFO)
        handler.addFilter(lambda record: record.getMessage() != "left out")
        logger.handlers.insert(0, other := logging.StreamHandler(open("/dev/null", "w")))  # noqa: SIM115
        other.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
        for message in ("kept", "left out"):
            logger.info(message)
        logger.debug("too low")
        records = sent(client, server)
    assert [(record.message, named(record)) for record in records] == [("kept", {})]


def test_records_with_a_message_of_their_own_form() -> None:
    class Braces(logging.LogRecord):
        def getMessage(self) -> str:
            return str(self.msg).format(*(self.args or ()))

    with logging_to_server() as (logger, client, server):
        logger.handle(Braces("a", logging.INFO, "", 1, "order {}", (17,), None))
        assert [record.message for record in sent(client, server)] == ["order 17"]


def test_before_send_may_log_without_end() -> None:
    logger = logging.Logger("endless")

    def before_send(event: Any) -> Any:
        logger.info("about to send %s", event.message)
        return event

    with serving() as server, client_of(server.endpoint, before_send=before_send) as client:
        logger.addHandler(Handler(client))
        logger.info("one")
        messages = [record.message for record in sent(client, server)]
        assert messages == ["about to send one", "one"]
        assert client.stats().emitted == 2


def test_no_lock_of_logging_is_taken() -> None:
    with logging_to_server() as (logger, client, server):
        handler = logger.handlers[0]
        assert handler.lock is not None
        with handler.lock:
            thread = threading.Thread(target=logger.info, args=("one",))
            thread.start()
            thread.join(PATIENCE)
            assert not thread.is_alive()
        assert len(sent(client, server)) == 1


def test_a_log_belongs_to_the_trace_around_it() -> None:
    header = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    with logging_to_server() as (logger, client, server):
        with logweir.trace(header) as context:
            logger.info("inside")
            client.emit("INFO", "inside")
            assert logweir.traceparent() == context.header
        logger.info("outside")
        assert logweir.traceparent() is None
        first, second, third = sent(client, server)
    for record in (first, second):
        assert (record.trace_id, record.span_id) == (context.trace_id, context.span_id)
    assert context.trace_id.hex() in header and context.span_id.hex() not in header
    assert (third.trace_id, third.span_id) == (b"", b"")


def test_a_log_belongs_to_opentelemetrys_span() -> None:
    from opentelemetry.sdk.trace import TracerProvider

    tracer = TracerProvider().get_tracer("tests")
    with logging_to_server() as (logger, client, server):
        with tracer.start_as_current_span("request") as span, logweir.trace():
            logger.info("inside")
        with logweir.trace() as context:
            logger.info("without a span")
        first, second = sent(client, server)
    of_span = span.get_span_context()
    assert int.from_bytes(first.trace_id, "big") == of_span.trace_id
    assert int.from_bytes(first.span_id, "big") == of_span.span_id
    assert second.trace_id == context.trace_id


def test_structlog() -> None:
    with serving() as server, client_of(server.endpoint) as client:
        processors = [structlog.processors.add_log_level, logweir.structlog.Processor(client)]
        drop = [*processors, lambda *_: (_ for _ in ()).throw(structlog.DropEvent)]
        logger = structlog.wrap_logger(None, processors=drop, wrapper_class=structlog.BoundLogger)
        logger = logger.bind(user="ann", latency_ms=3)
        logger.warning("paid", cart=[1])
        try:
            raise ValueError("no")
        except ValueError:
            logger.exception("failed")
        first, second = sent(client, server)
    assert (first.message, first.level, first.latency_ms) == ("paid", Level.WARN, 3)
    assert named(first) == {"user": "ann", "cart": "[1]"}
    assert (second.level, named(second)["exception.type"]) == (Level.ERROR, "ValueError")


def test_loguru() -> None:
    with serving() as server, client_of(server.endpoint) as client:
        number = loguru.logger.add(logweir.loguru.Sink(client), format="{message}", level=0)
        try:
            loguru.logger.bind(user="ann").trace("paid {}", 17)
            try:
                raise ValueError("no")
            except ValueError:
                loguru.logger.exception("failed")
        finally:
            loguru.logger.remove(number)
        first, second = sent(client, server)
    assert (first.message, first.level, named(first)) == ("paid 17", Level.TRACE, {"user": "ann"})
    assert first.logger == __name__
    assert (second.level, named(second)["exception.type"]) == (Level.ERROR, "ValueError")


def test_requests_of_asgi_have_a_trace() -> None:
    import asyncio

    header = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    seen = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        seen.append(current_ids())

    wrapped = logweir.AsgiMiddleware(application)
    for scope in (
        {"type": "http", "headers": [(b"traceparent", header)]},
        {"type": "http", "headers": []},
        {"type": "lifespan"},
    ):
        asyncio.run(wrapped(scope, None, None))
    assert seen[0][0].hex() in header.decode()
    assert seen[1] is not None and seen[1][0] != seen[0][0]
    assert seen[2] is None


def test_bodies_of_wsgi_are_made_within_the_trace() -> None:
    seen = []

    def application(environ: Any, start_response: Any) -> Iterator[bytes]:
        for _ in range(2):
            seen.append(current_ids())
            yield b"part"

    body = logweir.WsgiMiddleware(application)({}, None)
    assert list(body) == [b"part", b"part"]
    assert seen[0] == seen[1] is not None
    assert current_ids() is None
