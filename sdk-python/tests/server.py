"""A real gRPC server, of grpcio, that gives the answers it is told, and remembers what it was sent."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Callable

# Otherwise gRPC starts its poller anew in a forked child. A child of `subprocess` closes the poller's file
# before its program begins, and is killed for that by gRPC (grpc/grpc#43055). No forked child here uses gRPC.
os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"

import grpc

from logweir import wire

METHOD = "/logweir.v1.IngestService/Ingest"
PATIENCE = 180.0
"""How long a test waits for what must happen; nothing is measured by it."""


@dataclass
class Refuse:
    """The answer is an error."""

    code: str
    message: str = "told to refuse"
    retry_delay_ms: int | None = None
    reason: str = ""
    bad_records: list[int] = field(default_factory=list)
    # The batch is stored all the same: the answer is lost on the way.
    stores: bool = False


@dataclass
class Reject:
    """These positions are rejected, the rest is stored."""

    positions: list[int]
    message: str = "told to reject"


@dataclass
class Hold:
    """The answer is kept back until the test says so."""

    until: threading.Event


Response = Any


class Server:
    """Listens on a free port of loopback. Thread-safe."""

    def __init__(self, answers: list[Response] | None = None, port: int = 0, **options: Any) -> None:
        self.answers = list(answers or [])
        # Every batch of more logs is too large.
        self.records_max: int | None = None
        self.token: str | None = None
        self.attempts: list[Any] = []
        self.metadata: list[dict[str, str]] = []
        self.stored: dict[bytes, Any] = {}
        self.in_call = 0
        self.in_call_most = 0
        self._changed = threading.Condition()
        pool = ThreadPoolExecutor(max_workers=16)
        self._server = grpc.server(pool, options=(("grpc.so_reuseport", 0),))
        self._server.add_generic_rpc_handlers((_Handler(self),))
        credentials = options.get("credentials")
        if credentials is None:
            self.port = self._server.add_insecure_port(f"127.0.0.1:{port}")
        else:
            self.port = self._server.add_secure_port(f"localhost:{port}", credentials)
        self._server.start()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def stop(self) -> None:
        self._server.stop(None).wait(PATIENCE)

    def wait_for(self, condition: Callable[[], bool]) -> None:
        """Waits until it holds; looked at after each change of the server."""
        with self._changed:
            assert self._changed.wait_for(condition, PATIENCE), "it did not happen in time"

    @property
    def records(self) -> list[Any]:
        """All logs that are stored."""
        return [record for batch in self.stored.values() for record in batch.records]

    @property
    def messages(self) -> list[str]:
        return [record.message for record in self.records]

    def last_account(self, producer_id: bytes | None = None) -> Any:
        """The last account that is stored of a producer; of the first one if none is named."""
        batches = list(self.stored.values())
        producer_id = producer_id or batches[0].producer.producer_id
        own = [batch for batch in batches if batch.producer.producer_id == producer_id]
        return max(own, key=lambda batch: batch.producer.sequence).producer.account

    def ingest(self, request: Any, context: Any) -> Any:
        with self._changed:
            self.attempts.append(request.batch)
            self.metadata.append({key: str(value) for key, value in context.invocation_metadata()})
            self.in_call += 1
            self.in_call_most = max(self.in_call_most, self.in_call)
            answer = self.answers.pop(0) if self.answers else None
            self._changed.notify_all()
        try:
            return self._answer(request.batch, answer, context)
        finally:
            with self._changed:
                self.in_call -= 1
                self._changed.notify_all()

    def _answer(self, batch: Any, answer: Response, context: Any) -> Any:
        if self.token is not None and self.metadata[-1].get("authorization") != f"Bearer {self.token}":
            answer = Refuse("UNAUTHENTICATED", "no such token")
        if self.records_max is not None and len(batch.records) > self.records_max:
            answer = Refuse("RESOURCE_EXHAUSTED", "too large", reason="BATCH_TOO_LARGE")
        if isinstance(answer, Hold):
            answer.until.wait(PATIENCE)
        if isinstance(answer, Refuse):
            if answer.stores:
                self._store(batch, ())
            return refuse(context, answer)
        positions = answer.positions if isinstance(answer, Reject) else []
        self._store(batch, positions)
        response = wire.IngestResponse(accepted=len(batch.records) - len(positions))
        for position in positions:
            response.rejected.add(index=position, reason="told", message=answer.message)
        return response

    def _store(self, batch: Any, rejected: Any) -> None:
        with self._changed:
            if batch.batch_id in self.stored:
                return
            kept = wire.Batch()
            kept.CopyFrom(batch)
            for position in sorted(rejected, reverse=True):
                del kept.records[position]
            self.stored[batch.batch_id] = kept
            self._changed.notify_all()


class _Handler(grpc.GenericRpcHandler):  # type: ignore[misc]
    def __init__(self, server: Server) -> None:
        self._server = server

    def service(self, details: Any) -> Any:
        if details.method != METHOD:
            return None
        return grpc.unary_unary_rpc_method_handler(
            self._server.ingest,
            request_deserializer=wire.IngestRequest.FromString,
            response_serializer=wire.IngestResponse.SerializeToString,
        )


def refuse(context: Any, answer: Refuse) -> None:
    code = grpc.StatusCode[answer.code]
    status = wire.Status(code=code.value[0], message=answer.message)
    if answer.retry_delay_ms is not None:
        seconds, milliseconds = divmod(answer.retry_delay_ms, 1_000)
        delay = wire.Duration(seconds=seconds, nanos=milliseconds * 1_000_000)
        _add(status, "RetryInfo", wire.RetryInfo(retry_delay=delay))
    if answer.reason:
        _add(status, "ErrorInfo", wire.ErrorInfo(reason=answer.reason))
    if answer.bad_records:
        fields = [f"batch.records[{position}].message" for position in answer.bad_records]
        violations = [wire.FieldViolation(field=name) for name in fields]
        _add(status, "BadRequest", wire.BadRequest(field_violations=violations))
    context.set_trailing_metadata((("grpc-status-details-bin", status.SerializeToString()),))
    context.abort(code, answer.message)


def _add(status: Any, kind: str, message: Any) -> None:
    type_url = f"type.googleapis.com/google.rpc.{kind}"
    status.details.add(type_url=type_url, value=message.SerializeToString())


@contextmanager
def serving(answers: list[Response] | None = None, **options: Any) -> Iterator[Server]:
    server = Server(answers, **options)
    try:
        yield server
    finally:
        server.stop()
