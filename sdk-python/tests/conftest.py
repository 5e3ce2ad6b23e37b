"""The real server, and programs in processes of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from server import PATIENCE

# A machine that is busy with something else makes examples slowly; that is no failure.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")

PROGRAMS = Path(__file__).with_name("programs")
READY = "ready on http://"
# The exit code of `logweir report` when something is missing.
MISSING = 5


class Logweir:
    """`logweir standalone`, from the binary that LOGWEIR_BINARY names."""

    def __init__(self, data_dir: Path) -> None:
        self._binary = os.environ["LOGWEIR_BINARY"]
        self._data_dir = data_dir
        self._process: subprocess.Popen[str] | None = None
        self.address = "127.0.0.1:0"
        issue = ["token", "issue", "--service", "*", "--role", "admin"]
        self.token = self._run(*issue, "--data-dir", str(data_dir)).strip()
        self.start()

    def start(self) -> None:
        """Starts it, at the address that it had before."""
        command = [self._binary, "standalone", "--data-dir", str(self._data_dir), "--listen", self.address]
        self._process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith(READY):
                self.address = line[len(READY) :].strip()
                return
        raise AssertionError("the server does not start")

    def kill(self) -> None:
        """Ends it as `kill -9` does."""
        assert self._process is not None
        self._process.kill()
        self._process.communicate()

    @property
    def environment(self) -> dict[str, str]:
        """What a program needs to reach it."""
        own = {"LOGWEIR_ENDPOINT": f"http://{self.address}", "LOGWEIR_TOKEN": self.token}
        path = os.pathsep.join([str(PROGRAMS), *filter(None, [os.environ.get("PYTHONPATH")])])
        return {**os.environ, **own, "PYTHONPATH": path}

    def report(self, service: str) -> dict[str, int]:
        """The sums of all its senders' accounts."""
        senders = self._lines("report", "--json", "--service", service)
        names = ("emitted", "stored", "rejected", "dropped", "missing")
        return {name: sum(sender[name] for sender in senders) for name in names}

    def messages(self, service: str) -> list[str]:
        """All messages of a service."""
        logs = self._lines("export", f"service={service}")
        return [str(log["message"]) for log in logs]

    def _lines(self, *arguments: str) -> list[Any]:
        return [json.loads(line) for line in self._run(*arguments).splitlines()]

    def _run(self, *arguments: str) -> str:
        command = [self._binary, *arguments]
        environment = self.environment if hasattr(self, "token") else None
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True)
        # A report also tells by its exit code what is missing; under way, a later batch may be there first.
        assert done.returncode in (0, MISSING) if arguments[0] == "report" else done.returncode == 0
        return done.stdout


@pytest.fixture
def logweir_server() -> Iterator[Logweir]:
    with tempfile.TemporaryDirectory() as folder:
        server = Logweir(Path(folder))
        try:
            yield server
        finally:
            server.kill()


def run_program(server: Logweir, name: str, *arguments: object, **environment: str) -> str:
    """Runs a program of `programs` to its end, and returns what it prints."""
    command = [sys.executable, str(PROGRAMS / name), *map(str, arguments)]
    env = {**server.environment, **environment}
    done = subprocess.run(command, env=env, stdout=subprocess.PIPE, text=True, timeout=2 * PATIENCE)
    assert done.returncode == 0, f"{name} ended with {done.returncode}: {done.stdout}"
    return done.stdout
