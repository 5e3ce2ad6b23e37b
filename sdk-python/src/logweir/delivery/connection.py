"""One HTTP/2 connection to one address, and gRPC's unary calls over it.

It never blocks and has no thread: whoever owns it waits for its socket and calls `ready`, and calls `tick`
when `next_moment` has come. Nothing of it outlives a fork but the socket, which a child closes.
"""

from __future__ import annotations

import base64
import contextlib

# `getaddrinfo` imports it at the first name: a fork of another thread meanwhile would leave the child with
# half of it, and no name could be resolved there any more.
import encodings.idna  # noqa: F401
import errno
import os
import socket
import ssl
import threading
from dataclasses import dataclass, field
from struct import Struct
from typing import Any, Callable, Union
from urllib.parse import unquote, urlsplit

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions
from hpack import NeverIndexedHeaderTuple

from logweir import wire
from logweir.delivery.batch import SDK_NAME, SDK_VERSION
from logweir.delivery.retry import Code, Refusal

CONNECT_TIMEOUT = 5.0
# So long nothing was heard: ask with a PING, and wait so long for its response.
KEEPALIVE_INTERVAL = 10.0
KEEPALIVE_TIMEOUT = 5.0
PING_BYTES = b"logweir!"
INGEST_PATH = "/logweir.v1.IngestService/Ingest"
USER_AGENT = f"{SDK_NAME}/{SDK_VERSION}"
PORTS = {"http": 80, "https": 443}
RECEIVE_BYTES = 64 << 10
# What is waiting for the socket may grow to this before calls are kept back.
SEND_BYTES_MAX = 256 << 10
# A response is small; a larger one is none of ours.
RESPONSE_BYTES_MAX = 4 << 20
WRONG_PORT = "it does not speak HTTP/2; is this the port for gRPC?"
_HTTP_1 = b"HTTP/"
# Before each message: whether it is compressed, and its length.
_PREFIX = Struct(">BI")
_IN_PROGRESS = (0, errno.EINPROGRESS, errno.EWOULDBLOCK, errno.EALREADY)
# What gRPC makes of an HTTP status where there is no gRPC status.
_CODE_OF_HTTP = {
    400: Code.INTERNAL,
    401: Code.UNAUTHENTICATED,
    403: Code.PERMISSION_DENIED,
    404: Code.UNIMPLEMENTED,
    429: Code.UNAVAILABLE,
    502: Code.UNAVAILABLE,
    503: Code.UNAVAILABLE,
    504: Code.UNAVAILABLE,
}

Response = Union[Any, Refusal]
"""An IngestResponse, or why there is none."""


@dataclass
class Call:
    """One request, and what has come back of its response."""

    # The message, compressed already if there is an encoding.
    message: bytes
    encoding: str
    authorization: str | None
    timeout: float
    done: Callable[[Response], None]
    stream_id: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytearray = field(default_factory=bytearray)
    # What is not handed to HTTP/2 so far, for want of room in its windows.
    unsent: memoryview = field(default_factory=lambda: memoryview(b""))

    def header_list(self, scheme: str, authority: str) -> list[Any]:
        headers: list[Any] = [
            (":method", "POST"),
            (":scheme", scheme),
            (":path", INGEST_PATH),
            (":authority", authority),
            ("te", "trailers"),
            ("content-type", "application/grpc"),
            ("user-agent", USER_AGENT),
            ("grpc-timeout", f"{max(int(self.timeout * 1e3), 1)}m"),
        ]
        if self.encoding:
            headers.append(("grpc-encoding", self.encoding))
        if self.authorization:
            headers.append(NeverIndexedHeaderTuple("authorization", self.authorization))
        return headers

    def framed(self) -> memoryview:
        return memoryview(_PREFIX.pack(bool(self.encoding), len(self.message)) + self.message)

    def response(self) -> Response:
        """What the whole response means."""
        status = self.headers.get("grpc-status")
        if status is None:
            http = self.headers.get(":status", "")
            code = _CODE_OF_HTTP.get(int(http) if http.isdigit() else 0, Code.UNKNOWN)
            return Refusal(code, f"HTTP status {http or 'missing'} without a status of gRPC", is_foreign=True)
        if status != "0":
            return refusal_of(self.headers)
        return self._message()

    def _message(self) -> Response:
        if len(self.body) < _PREFIX.size:
            return Refusal(Code.INTERNAL, "the answer is cut off")
        is_compressed, length = _PREFIX.unpack_from(self.body)
        message = bytes(self.body[_PREFIX.size :])
        if is_compressed or len(message) != length:
            return Refusal(Code.INTERNAL, "the answer has not the form that was asked for")
        try:
            return wire.IngestResponse.FromString(message)
        except Exception as error:
            # Runtimes differ in what they raise.
            return Refusal(Code.INTERNAL, f"the answer cannot be read: {error}")


def refusal_of(headers: dict[str, str]) -> Refusal:
    """The refusal that trailers tell of."""
    status, message = headers.get("grpc-status", ""), unquote(headers.get("grpc-message", ""))
    number = int(status) if status.isdigit() else Code.UNKNOWN
    code = Code(number) if number in Code.__members__.values() else Code.UNKNOWN
    details = _details(headers.get("grpc-status-details-bin", ""))
    violations = details.get("BadRequest", wire.BadRequest()).field_violations
    positions = {record_position(violation.field) for violation in violations}
    retry = details.get("RetryInfo")
    return Refusal(
        code,
        message,
        retry_delay=None if retry is None else _seconds(retry.retry_delay),
        reason=details.get("ErrorInfo", wire.ErrorInfo()).reason,
        bad_records=tuple(sorted(position for position in positions if position is not None)),
    )


def _details(encoded: str) -> dict[str, Any]:
    """The details of a status, by the name of their kind. What cannot be read is left out."""
    found: dict[str, Any] = {}
    kinds = {"RetryInfo": wire.RetryInfo, "ErrorInfo": wire.ErrorInfo, "BadRequest": wire.BadRequest}
    try:
        padded = encoded + "=" * (-len(encoded) % 4)
        for detail in wire.Status.FromString(base64.b64decode(padded)).details:
            kind = detail.type_url.rpartition("/")[2].rpartition(".")[2]
            if kind in kinds:
                found[kind] = kinds[kind].FromString(detail.value)
    except Exception:
        # The code and the message still count. Runtimes of protobuf differ in what they raise.
        return found
    return found


def _seconds(duration: Any) -> float:
    return max(float(duration.seconds + duration.nanos / 1e9), 0.0)


def record_position(field: str) -> int | None:
    """The position in `batch.records[17].message`."""
    position = field.partition("records[")[2].partition("]")[0]
    return int(position) if position.isdigit() else None


class Connection:
    """A connection that is made at once. `opened` is called when the server has responded; `failed`, once,
    with the cause, when there is no connection any more: all calls have ended by then."""

    def __init__(
        self,
        endpoint: str,
        tls: ssl.SSLContext | None,
        now: float,
        wake: Callable[[], None],
        opened: Callable[[], None],
        failed: Callable[[str], None],
    ) -> None:
        url = urlsplit(endpoint)
        self._scheme, self._host = url.scheme, url.hostname or ""
        self._authority = url.netloc
        self._port = url.port or PORTS[url.scheme]
        self._tls = tls if url.scheme == "https" else None
        self._wake, self._opened, self._failed = wake, opened, failed
        self.began = now
        self.is_open = False
        self.is_closed = False
        self._socket: socket.socket | None = None
        self._is_connected = False
        self._is_handshaking = False
        self._has_begun = False
        self._tls_wants_write = False
        self._addresses: list[Any] | None = None
        self._resolve_error = ""
        self._last_cause = ""
        self._attempt_until = now + CONNECT_TIMEOUT
        self._heard = now
        self._ping_until: float | None = None
        config = h2.config.H2Configuration(client_side=True, header_encoding="utf-8")
        self._http = h2.connection.H2Connection(config)
        self._out = bytearray()
        self._waiting: list[Call] = []
        self._calls: dict[int, Call] = {}
        self._resolve()

    # What its owner needs to know.

    def socket_to_wait_for(self) -> tuple[int, bool] | None:
        """The socket's number, and whether it is to be written to; none while a name is looked up."""
        if self._socket is None:
            return None
        writes = not self._is_connected or (bool(self._out) and not self._is_handshaking)
        return self._socket.fileno(), writes or self._tls_wants_write

    def next_moment(self) -> float:
        """When `tick` must be called at the latest."""
        if not self.is_open:
            return min(self._attempt_until, self.began + CONNECT_TIMEOUT)
        return self._heard + KEEPALIVE_INTERVAL if self._ping_until is None else self._ping_until

    # Calls.

    def start(self, call: Call) -> None:
        """Makes a call as soon as the connection can take it."""
        self._waiting.append(call)
        if self.is_open:
            self._pump()

    def cancel(self, call: Call) -> None:
        """Ends a call whose response is not waited for any more; it hears of nothing."""
        if call in self._waiting:
            self._waiting.remove(call)
        elif self._calls.pop(call.stream_id, None) is not None:
            with contextlib.suppress(h2.exceptions.H2Error):
                self._http.reset_stream(call.stream_id, h2.errors.ErrorCodes.CANCEL)
            self._pump()

    def heard_since(self, moment: float) -> bool:
        """Whether anything came from the server since then."""
        return self._heard > moment

    def close(self, cause: str = "closed") -> None:
        """Ends it, and all calls with it."""
        if self.is_closed:
            return
        self.is_closed = True
        self.discard()
        calls = [*self._waiting, *self._calls.values()]
        self._waiting, self._calls = [], {}
        for call in calls:
            call.done(Refusal(Code.UNAVAILABLE, cause, is_transport=True))
        self._failed(cause)

    def discard(self) -> None:
        """Closes the socket and tells nobody. In a forked child: the parent's connection goes on."""
        self.is_closed = True
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.close()

    # What happens.

    def ready(self, readable: bool, now: float) -> None:
        """The socket can be read from or written to."""
        try:
            self._advance(readable, now)
        except ssl.SSLError as error:
            self._give_up(f"TLS: {_reason_of(error)}", now)
        except OSError as error:
            self._give_up(cause_of(error), now)

    def tick(self, now: float) -> None:
        """Time has passed, or a name was found."""
        if self.is_closed:
            return
        if not self.is_open:
            self._tick_connecting(now)
        elif self._ping_until is not None and now >= self._ping_until:
            self.close("no answer to a ping")
        elif self._ping_until is None and now >= self._heard + KEEPALIVE_INTERVAL:
            self._ping_until = now + KEEPALIVE_TIMEOUT
            self._http.ping(PING_BYTES)
            self._flush()

    # Before it is open.

    def _resolve(self) -> None:
        try:
            self._addresses = socket.getaddrinfo(
                self._host, self._port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST
            )
        except OSError:
            # A name, which may take its time to be found.
            thread = threading.Thread(target=self._look_up, name="logweir-resolver", daemon=True)
            try:
                thread.start()
            except RuntimeError:
                # There are no new threads any more; the program is about to end.
                self._look_up()
            return
        self.tick(self.began)

    def _look_up(self) -> None:
        try:
            found = socket.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            self._resolve_error = cause_of(error)
        else:
            self._addresses = found
        self._wake()

    def _tick_connecting(self, now: float) -> None:
        if self._resolve_error:
            self.close(f"the name cannot be resolved: {self._resolve_error}")
        elif now >= self.began + CONNECT_TIMEOUT:
            self.close(self._last_cause or f"no answer for {CONNECT_TIMEOUT:.0f} s")
        elif self._addresses is not None and (self._socket is None or now >= self._attempt_until):
            self._next_address(now)

    def _next_address(self, now: float) -> None:
        """Begins with the next address of the name; each has its share of the time."""
        while self._addresses:
            family, kind, protocol, _, address = self._addresses.pop(0)
            left = self.began + CONNECT_TIMEOUT - now
            self._attempt_until = now + left / (len(self._addresses) + 1)
            self.discard_socket()
            try:
                self._socket = socket.socket(family, kind, protocol)
                self._socket.setblocking(False)
                self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                code = self._socket.connect_ex(address)
            except OSError as error:
                self._last_cause = cause_of(error)
                continue
            if code in _IN_PROGRESS:
                return
            self._last_cause = os.strerror(code)
        self.close(self._last_cause or "no address")

    def discard_socket(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        self._is_connected = self._is_handshaking = self._tls_wants_write = False

    def _give_up(self, cause: str, now: float) -> None:
        """This address failed; another of the same name may not."""
        self._last_cause = cause
        if self._has_begun or not self._addresses:
            self.close(cause)
        else:
            self._next_address(now)

    def _advance(self, readable: bool, now: float) -> None:
        if self._socket is None:
            return
        if not self._is_connected:
            code = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if code:
                raise OSError(code, os.strerror(code))
            self._is_connected = True
            if self._tls is not None:
                self._socket = self._tls.wrap_socket(
                    self._socket, server_hostname=self._host, do_handshake_on_connect=False
                )
                self._is_handshaking = True
            else:
                self._begin()
        if self._is_handshaking and not self._handshake():
            return
        if readable:
            self._receive(now)
        if not self.is_closed:
            self._flush()

    def _handshake(self) -> bool:
        assert isinstance(self._socket, ssl.SSLSocket)
        self._tls_wants_write = False
        try:
            self._socket.do_handshake()
        except ssl.SSLWantReadError:
            return False
        except ssl.SSLWantWriteError:
            self._tls_wants_write = True
            return False
        self._is_handshaking = False
        if self._socket.selected_alpn_protocol() not in (None, "h2"):
            raise OSError(WRONG_PORT)
        self._begin()
        return True

    def _begin(self) -> None:
        self._has_begun = True
        self._http.initiate_connection()
        self._out += self._http.data_to_send()

    # Once it is open.

    def _receive(self, now: float) -> None:
        assert self._socket is not None
        while not self.is_closed:
            try:
                data = self._socket.recv(RECEIVE_BYTES)
            except (BlockingIOError, InterruptedError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                return
            if not data:
                self.close(
                    "the connection was closed"
                    if self.is_open
                    else "it closed the connection; is this the port for gRPC?"
                )
                return
            self._heard, self._ping_until = now, None
            if not self.is_open and data.startswith(_HTTP_1):
                # HTTP/2 would take it for the head of an enormous frame, and wait for the rest.
                self.close(WRONG_PORT)
                return
            try:
                events = self._http.receive_data(data)
            except h2.exceptions.ProtocolError as error:
                self.close(f"broken HTTP/2: {error}" if self.is_open else WRONG_PORT)
                return
            for event in events:
                self._handle(event)
            if not self.is_closed:
                self._pump()

    def _handle(self, event: h2.events.Event) -> None:
        if isinstance(event, h2.events.RemoteSettingsChanged):
            if not self.is_open:
                self.is_open = True
                self._opened()
        elif isinstance(event, h2.events.ConnectionTerminated):
            # What is under way is sent again, by another connection, which doubles nothing.
            self.close("the server is closing the connection")
        elif isinstance(event, (h2.events.ResponseReceived, h2.events.TrailersReceived)):
            call = self._calls.get(event.stream_id or 0)
            if call is not None:
                call.headers.update(_text_headers(event.headers or []))
        elif isinstance(event, h2.events.DataReceived):
            self._handle_data(event)
        elif isinstance(event, h2.events.StreamEnded):
            call = self._calls.pop(event.stream_id or 0, None)
            if call is not None:
                self._end_of_request(call)
                call.done(call.response())
        elif isinstance(event, h2.events.StreamReset):
            call = self._calls.pop(event.stream_id or 0, None)
            if call is not None:
                cause = f"the server broke the call off, code {event.error_code}"
                call.done(Refusal(Code.UNAVAILABLE, cause, is_transport=True))

    def _end_of_request(self, call: Call) -> None:
        """A server may respond before it has all of the request, which is then of no use."""
        if call.unsent:
            with contextlib.suppress(h2.exceptions.H2Error):
                self._http.reset_stream(call.stream_id, h2.errors.ErrorCodes.NO_ERROR)

    def _handle_data(self, event: h2.events.DataReceived) -> None:
        stream_id = event.stream_id or 0
        with contextlib.suppress(h2.exceptions.H2Error):
            # The stream may be over.
            self._http.acknowledge_received_data(event.flow_controlled_length or 0, stream_id)
        call = self._calls.get(stream_id)
        if call is None:
            return
        call.body += event.data or b""
        if len(call.body) > RESPONSE_BYTES_MAX:
            self.cancel(call)
            call.done(Refusal(Code.INTERNAL, "the answer is too large"))

    def _pump(self) -> None:
        """Begins calls, and goes on with those that wait for room."""
        try:
            while self._waiting and self._may_begin():
                self._begin_call(self._waiting.pop(0))
            for call in list(self._calls.values()):
                self._send_body(call)
        except h2.exceptions.H2Error as error:
            self.close(f"broken HTTP/2: {error}")
            return
        self._flush()

    def _may_begin(self) -> bool:
        most = self._http.remote_settings.max_concurrent_streams
        return self._http.open_outbound_streams < most and len(self._out) < SEND_BYTES_MAX

    def _begin_call(self, call: Call) -> None:
        call.stream_id = self._http.get_next_available_stream_id()
        call.unsent = call.framed()
        self._calls[call.stream_id] = call
        self._http.send_headers(call.stream_id, call.header_list(self._scheme, self._authority))

    def _send_body(self, call: Call) -> None:
        while call.unsent and len(self._out) < SEND_BYTES_MAX:
            window = self._http.local_flow_control_window(call.stream_id)
            room = min(window, self._http.max_outbound_frame_size)
            if room <= 0:
                return
            part, call.unsent = call.unsent[:room], call.unsent[room:]
            self._http.send_data(call.stream_id, bytes(part), end_stream=not call.unsent)
            self._out += self._http.data_to_send()

    def _flush(self) -> None:
        """Hands to the socket what it takes."""
        if self._socket is None or not self._is_connected or self._is_handshaking:
            return
        self._out += self._http.data_to_send()
        self._tls_wants_write = False
        try:
            while self._out:
                sent = self._socket.send(self._out)
                del self._out[:sent]
                if not self._out:
                    for call in self._calls.values():
                        self._send_body(call)
                    self._out += self._http.data_to_send()
        except (BlockingIOError, InterruptedError, ssl.SSLWantReadError):
            pass
        except ssl.SSLWantWriteError:
            self._tls_wants_write = True
        except OSError as error:
            self.close(cause_of(error))


def _text_headers(headers: list[Any]) -> list[tuple[str, str]]:
    return [(_text(name), _text(value)) for name, value in headers]


def _text(value: str | bytes) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def cause_of(error: Exception) -> str:
    """What a person should read."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__


def _reason_of(error: ssl.SSLError) -> str:
    verify = getattr(error, "verify_message", "")
    return str(verify or error.reason or error)
