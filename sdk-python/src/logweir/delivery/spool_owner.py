"""The owner of a folder of the spool: the process that writes to it, and whether that one still runs."""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import dataclass
from typing import Callable

OWNER_FILE = "owner"
# An owner elsewhere renews its file more often, unless it is dead.
SILENCE_S_MAX = 600.0
# In /proc/PID/stat: the fields after the name of the program, which may hold blanks, begin with the third,
# the state.
_STATE_FIELD, _START_FIELD = 3, 22
# A number that no process has.
NO_PROCESS = 0
# States of processes that have ended, and that nobody has asked about so far.
_ENDED = (b"Z", b"X")


@dataclass(frozen=True)
class Owner:
    """A process: its number, when it started, and where numbers mean the same."""

    pid: int
    start: str
    namespace: str

    def line(self) -> str:
        """One line of JSON."""
        return json.dumps({"pid": self.pid, "start": self.start, "namespace": self.namespace}) + "\n"


def parse(line: str) -> Owner | None:
    """The owner that a file names; none if it cannot be read."""
    try:
        found = json.loads(line)
        return Owner(int(found["pid"]), str(found["start"]), str(found["namespace"]))
    except (ValueError, KeyError, TypeError):
        return None


def is_dead(owner: Owner | None, age_s: float, namespace: str, start_of: Callable[[int], str]) -> bool:
    """Whether an owner is dead. `age_s`: of its file; `namespace`: ours; `start_of`: when a process of
    ours started, empty if there is none."""
    if owner is None or not namespace or owner.namespace != namespace:
        return age_s > SILENCE_S_MAX
    return start_of(owner.pid) != owner.start


def this_process() -> Owner:
    """The process that runs this."""
    pid = os.getpid()
    return Owner(pid, start_of(pid), own_namespace())


def start_of(pid: int) -> str:
    """When a process started, as the kernel counts; empty if it has ended, or there is no /proc. Raises
    OSError if nobody can tell now: it must not be taken for dead because no file was free."""
    gone = (FileNotFoundError, ProcessLookupError, IndexError)
    with contextlib.suppress(*gone), open(f"/proc/{pid}/stat", "rb") as file:
        fields = file.read().rpartition(b")")[2].split()
        if fields[0] not in _ENDED:
            return fields[_START_FIELD - _STATE_FIELD].decode()
    return ""


def own_namespace() -> str:
    """Where process numbers mean the same: this start of this machine, this namespace; empty if there is
    no /proc."""
    with contextlib.suppress(OSError), open("/proc/sys/kernel/random/boot_id") as file:
        return f"{file.read().strip()}/{os.readlink('/proc/self/ns/pid')}"
    return ""
