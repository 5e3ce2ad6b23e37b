"""The way to a real server: retries, tokens, encryption, compression, limits of a connection."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Callable

import grpc
import pytest
from clients import HOUR, Notices, balanced, client_of, wait_until
from server import PATIENCE, Hold, Refuse, Server, serving

from logweir import Client, EndpointError, TlsError, TlsOptions, TokenError
from logweir.delivery.connection import Call
from logweir.delivery.transport import refusal_notice


def emit(client: Client, count: int, size: int = 0) -> None:
    for number in range(count):
        client.emit("INFO", f"log {number}".ljust(size, "x"))


def test_every_batch_says_who_sends_it() -> None:
    with serving() as server, client_of(server.endpoint, token="secret") as client:
        emit(client, 3)
        assert client.flush(PATIENCE).is_complete
    metadata = server.metadata[0]
    assert metadata["authorization"] == "Bearer secret"
    assert metadata["user-agent"].startswith("logweir-sdk-python/")
    producer = server.attempts[0].producer
    assert producer.sdk_name == "logweir-sdk-python" and producer.sdk_version
    assert server.attempts[0].resource.service == "tests"


def test_large_requests_are_compressed_and_small_ones_are_not() -> None:
    with serving() as server, relaying(server.port) as (port, count):
        with client_of(f"127.0.0.1:{port}", compression="gzip") as client:
            emit(client, 1, size=500)
            client.flush(PATIENCE)
            assert count() > 500
            before = count()
            emit(client, 100, size=1_000)
            client.flush(PATIENCE)
            assert count() - before < 10_000
    assert len(server.records) == 101


@contextmanager
def relaying(port: int) -> Iterator[tuple[int, Callable[[], int]]]:
    """Hands everything on to a port, and counts the bytes that go there."""
    listener = socket.create_server(("127.0.0.1", 0))
    counts = []

    def relay(source: socket.socket, target: socket.socket, counts_it: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65_536):
                if counts_it:
                    counts.append(len(data))
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)

    def serve() -> None:
        source, _ = listener.accept()
        target = socket.create_connection(("127.0.0.1", port))
        back = threading.Thread(target=relay, args=(target, source, False))
        back.start()
        relay(source, target, True)
        back.join(PATIENCE)
        source.close()
        target.close()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1], lambda: sum(counts)
    finally:
        thread.join(PATIENCE)
        listener.close()


def test_batches_larger_than_all_windows_arrive() -> None:
    settings = {"batch_bytes": 3 << 20, "batch_records": 10_000, "batch_delay": HOUR}
    with serving() as server, client_of(server.endpoint, **settings) as client:
        emit(client, 190, size=15_000)
        assert client.flush(PATIENCE).sent == 190
        assert len(server.attempts) == 1


def test_many_batches_are_under_way_together() -> None:
    release = threading.Event()
    with serving([Hold(release) for _ in range(8)]) as server:
        with client_of(server.endpoint, in_flight=8, batch_records=10) as client:
            emit(client, 80)
            server.wait_for(lambda: server.in_call == 8)
            assert balanced(client) and client.stats().in_flight == 80
            release.set()
            assert client.flush(PATIENCE).sent == 80
    assert server.in_call_most == 8


def test_an_attempt_that_is_not_answered_in_time_is_made_again() -> None:
    release = threading.Event()
    with serving([Hold(release)]) as server, client_of(server.endpoint, attempt_timeout=0.2) as client:
        emit(client, 5)
        assert client.flush(PATIENCE).sent == 5
        release.set()
    # On a busy machine others may come too late, too.
    first, *again = server.attempts
    assert again and all(attempt == first for attempt in again)
    assert len(server.messages) == 5


def test_a_server_that_goes_and_comes_back_gets_everything_once() -> None:
    notices = Notices()
    server = Server()
    with client_of(server.endpoint, on_notice=notices) as client:
        emit(client, 10)
        assert client.flush(PATIENCE).sent == 10
        port = server.port
        server.stop()
        emit(client, 10)
        assert client.flush(0).pending == 10
        assert "refused" in notices.wait_for(f"cannot reach http://127.0.0.1:{port}")
        again = Server(port=port)
        assert client.flush(PATIENCE).sent == 20
        notices.wait_for(f"http://127.0.0.1:{port} is back after")
        assert len(again.messages) == 10
        again.stop()
    assert sum("cannot reach" in text for text in notices.texts) == 1


def test_another_address_takes_over() -> None:
    with serving() as first, serving() as second:
        list_of_both = f"{first.endpoint},{second.endpoint}"
        with client_of(list_of_both, batch_records=1, in_flight=1) as client:
            emit(client, 10)
            client.flush(PATIENCE)
            assert first.messages and second.messages
            second.stop()
            emit(client, 10)
            assert client.flush(PATIENCE).sent == 20
            assert len(first.messages) + len(second.messages) == 20


def test_a_token_of_a_file_is_read_again_when_it_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("old\n")
    with serving() as server, client_of(server.endpoint, token=file) as client:
        server.token = "new"
        emit(client, 5)
        server.wait_for(lambda: len(server.attempts) >= 3)
        file.write_text("new\n")
        assert client.flush(PATIENCE).sent == 5
    assert len(server.messages) == 5


def test_a_token_of_a_function_is_asked_for_again() -> None:
    tokens = iter(["old", "new"])
    with serving() as server, client_of(server.endpoint, token=lambda: next(tokens)) as client:
        server.token = "new"
        emit(client, 5)
        assert client.flush(PATIENCE).sent == 5
    assert len(server.attempts) == 2


def test_a_function_for_the_token_may_fail() -> None:
    notices = Notices()

    def fails() -> str:
        raise RuntimeError("no vault")

    with serving() as server, client_of(server.endpoint, token=fails, on_notice=notices) as client:
        emit(client, 5)
        assert client.flush(PATIENCE).sent == 5
    notices.wait_for("RuntimeError: no vault")


def test_a_function_for_the_token_that_fails_later_leaves_the_token_and_is_told_once() -> None:
    notices = Notices()
    calls = []

    def vault() -> str:
        calls.append(1)
        if len(calls) > 1:
            raise RuntimeError("no vault")
        return "good"

    with serving() as server, client_of(server.endpoint, token=vault, on_notice=notices) as client:
        # It refuses the good token for a while.
        server.token = "other"
        emit(client, 1)
        server.wait_for(lambda: len(server.attempts) > 5)
        server.token = "good"
        assert client.flush(PATIENCE).sent == 1
    assert len(calls) > 3
    assert sum("no vault" in text for text in notices.texts) == 1


def test_an_address_that_is_not_one_is_told_in_plain_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGWEIR_ENDPOINT", "ftp://a")
    notices = Notices()
    Client(service="tests", on_notice=notices)
    assert notices.texts[0].endswith("; going on with http://127.0.0.1:4317")


def test_an_answer_without_a_status_of_grpc_is_of_no_server_of_ours() -> None:
    call = Call(b"", "", None, 1.0, done=lambda answer: None, headers={":status": "200"})
    response = call.response()
    assert response.is_foreign
    expected = "http://a:1 refused a batch for good (HTTP status 200 without a status of gRPC); is this"
    assert refusal_notice("http://a:1", response).startswith(expected)


@pytest.mark.parametrize("endpoint", ["ftp://a", "", "http://a:1/path", "http://a:0x1"])
def test_a_wrong_endpoint_fails_at_once(endpoint: str) -> None:
    with pytest.raises(EndpointError, match="HOST:PORT"):
        Client(endpoint=endpoint)


def test_a_token_file_that_is_missing_fails_at_once(tmp_path: Path) -> None:
    with pytest.raises(TokenError, match="check its path"):
        Client(token=tmp_path / "none")


def test_files_for_tls_that_are_none_fail_at_once(tmp_path: Path) -> None:
    with pytest.raises(TlsError, match="check the files"):
        Client(endpoint="https://localhost:1", tls=TlsOptions(ca_file=str(tmp_path / "none")))


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: Any) -> Path:
    """A folder with a certificate for localhost, signed by itself, and its key."""
    folder: Path = tmp_path_factory.mktemp("tls")
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    files = ["-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")]
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    subprocess.run([*command, *names, *files], check=True, stderr=subprocess.PIPE)
    return folder


@pytest.mark.parametrize("asks_for_a_certificate", [False, True])
def test_encrypted(certificate: Path, asks_for_a_certificate: bool) -> None:
    key, cert = (certificate / name for name in ("key.pem", "cert.pem"))
    pair = [(key.read_bytes(), cert.read_bytes())]
    root = cert.read_bytes() if asks_for_a_certificate else None
    credentials = grpc.ssl_server_credentials(pair, root, asks_for_a_certificate)
    own = (str(cert), str(key)) if asks_for_a_certificate else (None, None)
    with serving(credentials=credentials) as server:
        options = TlsOptions(str(cert), *own)
        with client_of(f"https://localhost:{server.port}", tls=options) as client:
            emit(client, 400, size=5_000)
            assert client.flush(PATIENCE).sent == 400


def test_a_certificate_that_nobody_vouches_for_is_told(certificate: Path) -> None:
    notices = Notices()
    pair = [((certificate / "key.pem").read_bytes(), (certificate / "cert.pem").read_bytes())]
    with serving(credentials=grpc.ssl_server_credentials(pair)) as server:
        endpoint = f"https://localhost:{server.port}"
        with client_of(endpoint, on_notice=notices) as client:
            emit(client, 1)
            assert "certificate" in notices.wait_for(f"cannot reach {endpoint} (TLS: ")
            client.shutdown(0)


@contextmanager
def listening(answer: bytes, closes: bool) -> Iterator[int]:
    """A server that is none of ours: gives this answer to whoever connects."""
    listener = socket.create_server(("127.0.0.1", 0))
    kept = []

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            connection.recv(1_024)
            connection.sendall(answer)
            kept.append(connection)
            if closes:
                connection.close()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        # A thread that waits in `accept` keeps the port: one last caller wakes it.
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(PATIENCE)
        for connection in kept:
            connection.close()


@pytest.mark.parametrize(
    ("answer", "closes", "cause"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", False, "does not speak HTTP/2"),
        (b"", True, "is this the port for gRPC?"),
        (b"", False, "no answer"),
    ],
    ids=["http 1", "closes", "silent"],
)
def test_an_address_that_is_no_server_of_ours_is_told(answer: bytes, closes: bool, cause: str) -> None:
    notices = Notices()
    with listening(answer, closes) as port, client_of(f"127.0.0.1:{port}", on_notice=notices) as client:
        emit(client, 1)
        assert cause in notices.wait_for(f"cannot reach http://127.0.0.1:{port} (")
        client.shutdown(0)


def test_a_name_that_nobody_knows_is_told() -> None:
    notices = Notices()
    with client_of("http://no-such-host.invalid:1", on_notice=notices) as client:
        emit(client, 1)
        notices.wait_for("cannot reach http://no-such-host.invalid:1 (the name cannot be resolved: ")
        client.shutdown(0)


def test_a_server_of_another_service_is_told_and_the_logs_counted() -> None:
    notices = Notices()
    with serving([Refuse("UNIMPLEMENTED", "no such method")]) as server:
        with client_of(server.endpoint, on_notice=notices) as client:
            emit(client, 2)
            assert client.flush(PATIENCE).dropped == {"send_error": 2}
    hint = "is this a Logweir server? check LOGWEIR_ENDPOINT"
    assert f"{server.endpoint} refused a batch for good (no such method); {hint}" in notices.texts


def test_sockets_are_given_back() -> None:
    def open_files() -> int:
        return len(os.listdir("/proc/self/fd"))

    with serving() as server:
        with client_of(server.endpoint) as client:
            emit(client, 1)
            client.flush(PATIENCE)
        before = open_files()
        for _ in range(10):
            with client_of(server.endpoint) as client:
                emit(client, 1)
                assert client.flush(PATIENCE).sent == 1
        wait_until(lambda: open_files() <= before + 1)
