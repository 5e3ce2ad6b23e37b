"""The way to the server: one connection per address, retries by the policy of `RetryPolicy`.

A sender belongs to one thread, which calls `step` and then waits with `wait`. It holds no queue: a batch is
with it until it is durable, refused for good, or out of time.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Callable, Union

from logweir import platform
from logweir.config import Config
from logweir.delivery import compression
from logweir.delivery.batch import EncodedBatch
from logweir.delivery.connection import Call, Connection, Response
from logweir.delivery.poller import Poller
from logweir.delivery.retry import Code, EndpointPool, History, Next, Refusal, Ticket, Wait
from logweir.errors import TokenError

# A refused token is told at most this often.
TOKEN_NOTICE_INTERVAL = 300.0
# A connection that takes longer is told; a person is to know within two seconds.
SLOW_AFTER = 1.5


@dataclass(frozen=True)
class Accepted:
    """It is durable, but for the logs named."""

    rejected: Any


@dataclass(frozen=True)
class TooLarge:
    """It must be split, each part under a new id."""


@dataclass(frozen=True)
class Refused:
    """It was refused for good; never to be sent again unchanged."""

    reason: str
    bad_records: tuple[int, ...]
    # What a person should read: who refused it and why, and what to look at.
    notice: str


@dataclass(frozen=True)
class OutOfTime:
    """The deadline passed. It may be durable or not: it may be sent again under the same id."""


Outcome = Union[Accepted, TooLarge, Refused, OutOfTime]


@dataclass(eq=False)
class Sending:
    """A batch that is with the sender."""

    batch: EncodedBatch
    deadline: float
    done: Callable[[Outcome], None]
    history: History = field(default_factory=History)
    attempt: _Attempt | None = None


@dataclass(eq=False)
class _Attempt:
    sending: Sending
    ticket: Ticket
    connection: Connection
    call: Call
    began: float
    until: float


@dataclass
class _Endpoint:
    address: str
    connection: Connection | None = None
    # Since when nobody can reach it, if a person was told.
    unreachable_since: float | None = None


class Sender:
    """Sends batches and hands on their outcomes."""

    def __init__(self, config: Config, poller: Poller, is_spooling: Callable[[], bool]) -> None:
        self._config = config
        self._is_spooling = is_spooling
        self._poller = poller
        self._pool = EndpointPool(config.retry, len(config.endpoints))
        self._endpoints = [_Endpoint(endpoint) for endpoint in config.endpoints]
        self._compress = compression.compressor(config.compression)
        self._sendings: list[Sending] = []
        # When an attempt may start, if one must wait; none: when another has ended.
        self._start_at: float | None = None
        self._token_notified_at: float | None = None
        self._authorization: str | None = None
        self._read_token()

    @property
    def is_token_refused(self) -> bool:
        """Whether batches are held because the token is refused."""
        return self._pool.is_token_refused

    def __len__(self) -> int:
        return len(self._sendings)

    def send(self, batch: EncodedBatch, deadline: float, done: Callable[[Outcome], None]) -> None:
        """Sends a batch and tries again, byte for byte, until its response is final or the deadline has
        passed. `done` is called later."""
        self._sendings.append(Sending(batch, deadline, done))

    def open(self, now: float) -> None:
        """Opens the connections before they are needed, so that a person hears early if they cannot be."""
        for endpoint in self._endpoints:
            if endpoint.unreachable_since is None:
                self._connection(endpoint, now)

    def step(self, now: float) -> None:
        """Does what is due: connections, attempts that are over, new attempts."""
        for endpoint in self._endpoints:
            self._step_endpoint(endpoint, now)
        for sending in list(self._sendings):
            attempt = sending.attempt
            if attempt is not None and now >= attempt.until:
                self._time_out(attempt, now)
            if sending.attempt is None and now >= sending.deadline:
                self._finish(sending, OutOfTime())
        self._start_at = None
        for sending in list(self._sendings):
            if sending.attempt is None and not self._begin(sending, now):
                return

    def wait(self, until: float, now: float) -> None:
        """Waits until something happens, but no longer than this, and hands on what did."""
        connections = {
            found[0]: (connection, found[1])
            for connection in self._connections()
            if (found := connection.socket_to_wait_for()) is not None
        }
        sockets = [(number, writes) for number, (_, writes) in connections.items()]
        until = min([until, *self._moments()])
        ready = self._poller.wait(sockets, until - now)
        now = platform.now()
        for number, readable in ready.items():
            connections[number][0].ready(readable, now)

    def discard(self) -> None:
        """Gives up everything at once and tells nobody."""
        self._sendings = []
        for connection in self._connections():
            connection.discard()

    def _connections(self) -> list[Connection]:
        return [endpoint.connection for endpoint in self._endpoints if endpoint.connection is not None]

    def _moments(self) -> list[float]:
        """When there is something to do although nothing happens."""
        moments = [connection.next_moment() for connection in self._connections()]
        moments += [
            endpoint.connection.began + SLOW_AFTER
            for endpoint in self._endpoints
            if endpoint.connection is not None
            and not endpoint.connection.is_open
            and endpoint.unreachable_since is None
        ]
        for sending in self._sendings:
            moments.append(sending.attempt.until if sending.attempt else sending.deadline)
        if self._start_at is not None:
            moments.append(self._start_at)
        return moments

    # Addresses.

    def _connection(self, endpoint: _Endpoint, now: float) -> Connection:
        if endpoint.connection is None:
            # It may fail before it is made.
            connection = Connection(
                endpoint.address,
                self._config.tls_context,
                now,
                wake=self._poller.wake,
                opened=lambda: self._opened(endpoint),
                failed=lambda cause: self._failed(endpoint, cause),
            )
            endpoint.connection = None if connection.is_closed else connection
            return connection
        return endpoint.connection

    def _step_endpoint(self, endpoint: _Endpoint, now: float) -> None:
        connection = endpoint.connection
        if connection is None:
            return
        connection.tick(now)
        is_slow = not connection.is_open and now >= connection.began + SLOW_AFTER
        if is_slow and not connection.is_closed:
            self._notify_unreachable(endpoint, "no answer")

    def _opened(self, endpoint: _Endpoint) -> None:
        if endpoint.unreachable_since is not None:
            seconds = platform.now() - endpoint.unreachable_since
            endpoint.unreachable_since = None
            self._config.notice(f"{endpoint.address} is back after {seconds:.0f} s")

    def _failed(self, endpoint: _Endpoint, cause: str) -> None:
        was_open = endpoint.connection is not None and endpoint.connection.is_open
        endpoint.connection = None
        if not was_open:
            self._notify_unreachable(endpoint, cause)

    def _notify_unreachable(self, endpoint: _Endpoint, cause: str) -> None:
        if endpoint.unreachable_since is not None:
            return
        endpoint.unreachable_since = platform.now()
        place = "in the spool" if self._is_spooling() else "in memory"
        self._config.notice(
            f"cannot reach {endpoint.address} ({cause}); logs are kept {place} and sent when it is back"
        )

    # Attempts.

    def _begin(self, sending: Sending, now: float) -> bool:
        """Begins an attempt. False if none may start now."""
        ticket = self._pool.start(now)
        if isinstance(ticket, Wait):
            self._start_at = ticket.until
            return False
        connection = self._connection(self._endpoints[ticket.endpoint], now)
        limit = min(self._config.attempt_timeout, sending.deadline - now)
        call = self._call(sending, limit)
        attempt = _Attempt(sending, ticket, connection, call, now, now + limit)
        sending.attempt = attempt
        call.done = lambda response: self._handle_response(attempt, response)
        if connection.is_closed:
            refusal = Refusal(Code.UNAVAILABLE, "the connection failed", is_transport=True)
            self._handle_response(attempt, refusal)
        else:
            connection.start(call)
        return True

    def _call(self, sending: Sending, limit: float) -> Call:
        message, encoding = sending.batch.request, ""
        if self._compress is not None and len(message) >= compression.COMPRESS_FROM_BYTES:
            message, encoding = self._compress(message), self._config.compression
        return Call(message, encoding, self._authorization, limit, done=_nobody)

    def _time_out(self, attempt: _Attempt, now: float) -> None:
        attempt.connection.cancel(attempt.call)
        if not attempt.connection.heard_since(attempt.began):
            # It may be dead on the way; the next attempt looks the address up again.
            attempt.connection.close("no answer")
        if attempt.sending.attempt is attempt:
            self._handle_response(attempt, Refusal(Code.DEADLINE_EXCEEDED, "no answer in time"))

    def _handle_response(self, attempt: _Attempt, response: Response) -> None:
        sending = attempt.sending
        sending.attempt = None
        if not isinstance(response, Refusal):
            self._pool.succeeded(attempt.ticket)
            self._pool.finish(attempt.ticket)
            self._finish(sending, Accepted(response.rejected))
            return
        now = platform.now()
        following = self._pool.refused(
            attempt.ticket, response, sending.history, now, platform.random_share()
        )
        self._pool.finish(attempt.ticket)
        if following is Next.READ_TOKEN:
            self._read_token()
        if self._pool.is_token_refused:
            self._notify_token_refused(attempt.ticket, response.message, now)
        if following is Next.SPLIT:
            self._finish(sending, TooLarge())
        elif isinstance(following, str):
            notice = refusal_notice(self._endpoints[attempt.ticket.endpoint].address, response)
            self._finish(sending, Refused(following, response.bad_records, notice))

    def _finish(self, sending: Sending, outcome: Outcome) -> None:
        self._sendings.remove(sending)
        sending.done(outcome)

    # The token.

    def _read_token(self) -> None:
        """Reads the token. One that cannot be read now may be readable at the next probe: the old one
        is kept."""
        try:
            token = self._config.token.read()
        except TokenError:
            return
        self._authorization = None if token is None else f"Bearer {token}"

    def _notify_token_refused(self, ticket: Ticket, message: str, now: float) -> None:
        if self._token_notified_at is not None and now < self._token_notified_at + TOKEN_NOTICE_INTERVAL:
            return
        self._token_notified_at = now
        self._config.notice(
            f"{self._endpoints[ticket.endpoint].address} refuses the token ({message}); logs are held; "
            'give a valid one, made by "logweir token issue"'
        )


def refusal_notice(endpoint: str, refusal: Refusal) -> str:
    """What a person should read of a batch that is refused for good."""
    text = f"{endpoint} refused a batch for good ({refusal.message})"
    if refusal.is_foreign or refusal.code == Code.UNIMPLEMENTED:
        return f"{text}; is this a Logweir server? check LOGWEIR_ENDPOINT"
    return text


def _nobody(response: Response) -> None:
    """Before a call has somebody to tell."""
