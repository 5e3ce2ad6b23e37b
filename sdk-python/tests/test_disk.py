"""A spool that fails throws nothing."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from logweir import SpoolOptions
from logweir.delivery.batch import EncodedBatch
from logweir.delivery.disk import Disk
from logweir.delivery.queue import QueueBounds
from logweir.delivery.shared import Shared
from logweir.delivery.spool import FrameRef, Spool

BATCH = EncodedBatch(b"b" * 16, b"p" * 16, 1, 2, 1, b"request")
IN_MEMORY = "the spool fails, logs stay in memory: "


class Fixture:
    """A disk, and what it says and counts."""

    def __init__(self, folder: Path, **options: Any) -> None:
        self.told: list[str] = []
        shared = Shared(QueueBounds(1, 1))
        self.progress = shared.progress
        self.disk = Disk(SpoolOptions(str(folder), **options), shared, self.told.append, self._notify_fault)
        self.disk.open(0)

    def _notify_fault(self, kind: str, text: str) -> None:
        self.told.append(text)


def close_segment(root: Path) -> None:
    """Closes the file of the open segment, so that its owner cannot."""
    for number in map(int, os.listdir("/proc/self/fd")):
        path = Path(f"/proc/self/fd/{number}").resolve()
        if root in path.parents and path.suffix == ".seg":
            os.close(number)


def test_a_batch_that_cannot_be_read_does_not_end_the_spool(tmp_path: Path) -> None:
    fixture = Fixture(tmp_path)
    assert fixture.disk.read(FrameRef(segment=7, offset=0, length=1)) is None
    assert fixture.disk.works and fixture.told == [IN_MEMORY + "a batch of the spool is gone"]


def test_a_segment_that_cannot_be_closed_is_counted_and_goes_the_next_time(tmp_path: Path) -> None:
    fixture = Fixture(tmp_path, bytes_max=1)
    assert fixture.disk.append(BATCH) is not None
    close_segment(tmp_path)
    assert fixture.disk.evict() is None
    assert fixture.progress.spool_failures == 1
    assert fixture.disk.evict() == 0
    assert list(tmp_path.rglob("*.seg")) == []


def test_a_root_that_cannot_be_looked_through_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def adopt(spool: Spool) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(Spool, "adopt", adopt)
    fixture = Fixture(tmp_path)
    assert list(fixture.disk.adopt(0)) == []
    assert fixture.progress.spool_failures == 1
