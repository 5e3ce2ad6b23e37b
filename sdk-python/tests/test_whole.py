"""Whole paths, to the real server: programs that fork, servers of the web, kills. What is emitted is stored
once, and nothing is missing."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from clients import client_of, wait_until
from conftest import PROGRAMS, Logweir, run_program
from server import PATIENCE

README = Path(__file__).resolve().parents[1] / "README.md"
SCRIPTS = Path(sys.executable).parent


def check_stored(server: Logweir, service: str, expected: list[str]) -> None:
    """Every log once, by its text and by the accounts."""
    assert Counter(server.messages(service)) == Counter(expected)
    count = len(expected)
    wanted = {"emitted": count, "stored": count, "rejected": 0, "dropped": 0, "missing": 0}
    assert server.report(service) == wanted


def test_a_thousand_forks(logweir_server: Logweir) -> None:
    run_program(logweir_server, "forks.py", 1_000)
    both = [f"{who} {number}" for number in range(1_000) for who in ("parent", "child")]
    check_stored(logweir_server, "forks", ["before all", *both])


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_multiprocessing(logweir_server: Logweir, method: str) -> None:
    run_program(logweir_server, "processes.py", method, 20)
    expected = ["parent", *(f"child {number}" for number in range(30))]
    check_stored(logweir_server, "processes", expected)


def test_asyncio(logweir_server: Logweir) -> None:
    run_program(logweir_server, "coroutines.py", 200)
    messages = logweir_server.messages("coroutines")
    assert len(messages) == 400 and logweir_server.report("coroutines")["missing"] == 0
    traces = {text.split(" of ")[1] for text in messages if " of " in text}
    assert len(traces) == 200


def free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


GUNICORN = ["gunicorn", "--workers", "3", "--bind", "{address}", "web:application"]
UWSGI = ["uwsgi", "--http-socket", "{address}", "--master", "--processes", "3", "--die-on-term"]
UWSGI += ["--virtualenv", sys.prefix, "--module", "web:application"]
# How each is started, and in how many processes it loads the application.
SERVERS = {
    "gunicorn sync": ([*GUNICORN, "-k", "sync"], 3),
    "gunicorn sync, preloaded": ([*GUNICORN, "-k", "sync", "--preload"], 1),
    "gunicorn gthread": ([*GUNICORN, "-k", "gthread", "--threads", "4"], 3),
    "gunicorn gthread, preloaded": ([*GUNICORN, "-k", "gthread", "--threads", "4", "--preload"], 1),
    "gunicorn gevent": ([*GUNICORN, "-k", "gevent"], 3),
    "gunicorn gevent, preloaded": ([*GUNICORN, "-k", "gevent", "--preload"], 1),
    "uwsgi": (UWSGI, 1),
    "uwsgi with threads": ([*UWSGI, "--enable-threads", "--threads", "4"], 1),
    "uwsgi, loaded in each": ([*UWSGI, "--enable-threads", "--lazy-apps"], 3),
}


@pytest.mark.parametrize("name", SERVERS)
def test_web_server(logweir_server: Logweir, tmp_path: Path, name: str) -> None:
    address = f"127.0.0.1:{free_port()}"
    command, loads = SERVERS[name]
    program, *arguments = [part.format(address=address) for part in command]
    path = os.pathsep.join([logweir_server.environment["PYTHONPATH"], *sys.path[1:]])
    environment = {**logweir_server.environment, "PYTHONPATH": path, "LOADED_FOLDER": str(tmp_path)}
    server = subprocess.Popen(
        [SCRIPTS / program, *arguments], env=environment, cwd=PROGRAMS, stderr=subprocess.DEVNULL
    )

    def answers(path: str = "/first") -> bool:
        try:
            with urllib.request.urlopen(f"http://{address}{path}", timeout=PATIENCE) as response:
                return bool(response.read() == b"done")
        except OSError:
            return False

    try:
        # A worker of uWSGI that is told to end while it loads does not hear it.
        wait_until(lambda: len(list(tmp_path.iterdir())) == loads)
        wait_until(answers)
        paths = [f"/{number}" for number in range(100)]
        assert all(map(answers, paths))
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(PATIENCE)
    check_stored(logweir_server, "web", [f"request {path}" for path in ["/first", *paths]])


def test_celery(logweir_server: Logweir, tmp_path: Path) -> None:
    (tmp_path / "control").mkdir()
    environment = {**logweir_server.environment, "TASKS_FOLDER": str(tmp_path)}
    command = [SCRIPTS / "celery", "-A", "tasks", "worker", "--pool", "prefork", "--concurrency", "3"]
    worker = subprocess.Popen(
        [*command, "--loglevel", "WARNING"], env=environment, cwd=PROGRAMS, stdout=subprocess.DEVNULL
    )
    send = "import tasks\nfor number in range(60): tasks.work.delay(number)"
    try:
        wait_until((tmp_path / "ready").exists)
        subprocess.run([sys.executable, "-c", send], env=environment, cwd=PROGRAMS, check=True)
        wait_until(lambda: len(list(tmp_path.glob("done.*"))) == 60)
    finally:
        worker.send_signal(signal.SIGTERM)
        worker.wait(PATIENCE)
    check_stored(logweir_server, "tasks", [f"task {number}" for number in range(60)])


def test_a_server_that_is_killed_while_logs_come(logweir_server: Logweir) -> None:
    count, waiting_max = 60_000, 10_000
    found: list[Any] = []

    def run() -> None:
        said = run_program(logweir_server, "emit.py", 0, count, waiting_max)
        found.append(json.loads(said.splitlines()[-1]))

    program = threading.Thread(target=run)
    program.start()
    for stored in (1, 20_000, 40_000):
        wait_until(lambda stored=stored: logweir_server.report("python")["stored"] >= stored)  # type: ignore[misc]
        logweir_server.kill()
        logweir_server.start()
    program.join(PATIENCE)
    assert (found[0]["emitted"], found[0]["sent"], found[0]["dropped"]) == (count, count, {})
    check_stored(logweir_server, "python", [f"log {number} of the sdk test" for number in range(count)])


def test_a_program_that_is_killed_leaves_its_spool(logweir_server: Logweir, tmp_path: Path) -> None:
    safe = []
    environment = {**logweir_server.environment, "LOGWEIR_SPOOL_DIR": str(tmp_path)}
    for run in range(3):
        first = run * 1_000_000
        command = [sys.executable, PROGRAMS / "spool.py", str(first)]
        with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as program:
            assert program.stdout is not None
            for line in program.stdout:
                if int(line.split()[1]) >= first + 2_000:
                    break
            program.kill()
            said = [line, *program.stdout]
        safe.append((first, int(said[-1].split()[1])))
        logweir_server.kill()
        logweir_server.start()
    adopted = json.loads(run_program(logweir_server, "adopt.py", LOGWEIR_SPOOL_DIR=str(tmp_path)))
    assert adopted["adopted_dropped"] == adopted["spool_failures"] == 0
    assert list(tmp_path.iterdir()) == []
    messages = Counter(logweir_server.messages("python"))
    obliged = {f"log {number} of the sdk test" for first, end in safe for number in range(first, end)}
    assert obliged <= set(messages)
    assert set(messages.values()) == {1}
    assert logweir_server.report("python")["missing"] == 0


@pytest.mark.parametrize("packing", ["gzip", "zstd"])
def test_the_server_reads_what_is_compressed(logweir_server: Logweir, packing: str) -> None:
    settings = {"token": logweir_server.token, "compression": packing, "service": "packed"}
    with client_of(logweir_server.address, **settings) as client:
        for number in range(1_000):
            client.emit("INFO", f"log {number}")
        assert client.flush(PATIENCE).sent == 1_000
    check_stored(logweir_server, "packed", [f"log {number}" for number in range(1_000)])


def test_a_burst_and_the_end(logweir_server: Logweir) -> None:
    program = "import logging, logweir\nlogweir.init('burst')\n"
    program += "for number in range(5_000): logging.info('log %d', number)"
    subprocess.run([sys.executable, "-c", program], env=logweir_server.environment, check=True)
    check_stored(logweir_server, "burst", [f"log {number}" for number in range(5_000)])


@pytest.mark.parametrize("handler", ["", "signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))\n"])
def test_sigterm_sends_the_last_logs_and_stays_the_programs(logweir_server: Logweir, handler: str) -> None:
    program = "import logging, logweir, signal, sys\n" + handler
    program += "logweir.init('term')\nlogging.info('last words')\nprint('up', flush=True)\nsys.stdin.read()\n"
    command = [sys.executable, "-c", program]
    environment = logweir_server.environment
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, env=environment, **pipes) as process:
        assert process.stdout is not None and process.stdout.readline() == "up\n"
        process.send_signal(signal.SIGTERM)
        # A signal that comes just before a call of the system does not end it, but the end of the input does.
        process.communicate()
    assert process.returncode == (7 if handler else -signal.SIGTERM)
    check_stored(logweir_server, "term", ["last words"])


def test_the_first_snippet_of_the_readme(logweir_server: Logweir) -> None:
    snippet = re.search(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    assert snippet is not None
    done = subprocess.run(
        [sys.executable, "-"],
        input=snippet[1],
        env=logweir_server.environment,
        stderr=subprocess.PIPE,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    assert len(logweir_server.messages("shop")) == snippet[1].count("log.")
    assert logweir_server.report("shop")["missing"] == 0


@pytest.mark.parametrize(
    ("endpoint", "token", "line"),
    [
        ("{right}", "lw_wrong", r"logweir: \S+ refuses the token \(.+\); logs are held; give a valid one.*"),
        ("http://127.0.0.1:1", "", r"logweir: cannot reach http://127.0.0.1:1 \(Connection refused\).*"),
        ("http://no-such-host.invalid", "", r"logweir: cannot reach \S+ \(the name cannot be resolved.*"),
    ],
    ids=["wrong token", "server down", "wrong endpoint"],
)
def test_what_goes_wrong_is_one_line_on_stderr(
    logweir_server: Logweir, endpoint: str, token: str, line: str
) -> None:
    program = "import logging, logweir, sys\nclient = logweir.init('shop', batch_delay=0)\n"
    program += "for number in range(1000): logging.info('log %d', number)\nsys.stdin.read()\n"
    program += "client.shutdown(0)"
    told = endpoint.format(right=logweir_server.environment["LOGWEIR_ENDPOINT"])
    environment = {**logweir_server.environment, "LOGWEIR_ENDPOINT": told, "LOGWEIR_TOKEN": token or "x"}
    with subprocess.Popen(
        [sys.executable, "-c", program],
        env=environment,
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None and process.stdin is not None
        assert re.fullmatch(line, process.stderr.readline().strip())
        process.stdin.close()
        rest = process.stderr.read()
    assert rest == "logweir: logs dropped so far: shutdown_timeout 1000\n"
    assert process.returncode == 0
