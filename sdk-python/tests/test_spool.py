"""The spool on a real disk: what is not done with outlives its process."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
from clients import kill

from logweir import platform
from logweir.delivery import spool_owner
from logweir.delivery.batch import EncodedBatch
from logweir.delivery.spool import SEGMENT_BYTES, SYNC_ALWAYS, Adopted, FrameRef, Spool, SpoolOptions
from logweir.delivery.spool_owner import OWNER_FILE, SILENCE_S_MAX

MEBIBYTE = 1 << 20


def batch(sequence: int, size: int = 100) -> EncodedBatch:
    request = bytes([sequence % 256]) * size
    return EncodedBatch(platform.random_bytes(16), b"p" * 16, sequence, 2, 1, request)


def opened(root: Path, bytes_max: int = 256 * MEBIBYTE) -> Spool:
    return Spool(SpoolOptions(str(root), bytes_max=bytes_max, sync=SYNC_ALWAYS))


def sequences(spool: Spool, adopted: list[Adopted]) -> list[int]:
    return [spool.read(one.frame).sequence for one in adopted]


def files(root: Path) -> list[str]:
    """The files under the root, without the folders' random names."""
    return sorted(path.name for path in root.rglob("*") if path.is_file())


def settle(spool: Spool, adopted: list[Adopted]) -> None:
    for one in adopted:
        spool.acknowledge(one.frame)


def test_what_is_not_done_with_outlives_its_process(tmp_path: Path) -> None:
    dead = opened(tmp_path)
    written = [batch(number) for number in range(1, 5)]
    places = [dead.append(one) for one in written]
    dead.acknowledge(places[1])
    kill(tmp_path)
    spool = opened(tmp_path)
    adopted = spool.adopt()
    assert sequences(spool, adopted) == [1, 3, 4]
    assert spool.read(adopted[1].frame) == written[2]
    assert [one.record_count for one in adopted] == [2, 2, 2]
    settle(spool, adopted)
    spool.close()
    assert files(tmp_path) == []
    assert list(tmp_path.iterdir()) == []


def test_folders_are_private(tmp_path: Path) -> None:
    spool = opened(tmp_path / "new")
    spool.acknowledge(spool.append(batch(1)))
    modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "new").rglob("*")}
    folder = next(name for name in modes if len(name) == 16)
    expected = {"0000000000.seg": 0o600, "0000000000.ack": 0o600, OWNER_FILE: 0o600, folder: 0o700}
    assert modes == expected


def test_a_living_process_keeps_its_folder(tmp_path: Path) -> None:
    living = opened(tmp_path)
    living.append(batch(1))
    other = opened(tmp_path)
    assert other.adopt() == []
    other.close()
    assert files(tmp_path) == ["0000000000.seg", OWNER_FILE]


def test_what_the_dead_had_taken_over_is_taken_over(tmp_path: Path) -> None:
    opened(tmp_path).append(batch(1))
    kill(tmp_path)
    second = opened(tmp_path)
    assert len(second.adopt()) == 1
    second.append(batch(2))
    kill(tmp_path)
    third = opened(tmp_path)
    adopted = third.adopt()
    assert sorted(sequences(third, adopted)) == [1, 2]
    settle(third, adopted)
    third.close()
    assert list(tmp_path.iterdir()) == []


def test_what_a_client_leaves_at_its_end_may_be_taken_over_by_the_next_of_its_process(
    tmp_path: Path,
) -> None:
    first = opened(tmp_path)
    first.append(batch(7))
    first.close()
    second = opened(tmp_path)
    assert sequences(second, second.adopt()) == [7]


def test_two_that_look_at_once_take_each_folder_once(tmp_path: Path) -> None:
    for number in range(8):
        opened(tmp_path).append(batch(number))
    kill(tmp_path)
    first, second = opened(tmp_path), opened(tmp_path)
    found = [*sequences(first, first.adopt()), *sequences(second, second.adopt())]
    assert sorted(found) == list(range(8))


def test_what_does_not_fit_waits_but_one_is_always_taken(tmp_path: Path) -> None:
    for number in range(3):
        opened(tmp_path).append(batch(number, 4 * MEBIBYTE))
    kill(tmp_path)
    counts = []
    for _ in range(3):
        spool = opened(tmp_path, bytes_max=10 * MEBIBYTE)
        adopted = spool.adopt()
        counts.append(len(adopted))
        assert spool.evict() is None
        settle(spool, adopted)
        spool.close()
    assert counts == [2, 1, 0]
    large = opened(tmp_path)
    for number in range(3):
        large.append(batch(number, 4 * MEBIBYTE))
    kill(tmp_path)
    assert len(opened(tmp_path, bytes_max=10 * MEBIBYTE).adopt()) == 3


def test_full_segments_are_deleted_when_done_with(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    places = [spool.append(batch(number, SEGMENT_BYTES // 2)) for number in range(3)]
    assert files(tmp_path) == ["0000000000.seg", "0000000001.seg", OWNER_FILE]
    spool.acknowledge(places[0])
    spool.acknowledge(places[1])
    assert files(tmp_path) == ["0000000001.seg", OWNER_FILE]
    spool.close()
    assert files(tmp_path) == ["0000000001.seg", OWNER_FILE]


def test_a_full_spool_gives_up_its_oldest_segment(tmp_path: Path) -> None:
    spool = opened(tmp_path, bytes_max=10 * MEBIBYTE)
    places: list[FrameRef] = []
    evicted = []
    for number in range(4):
        places.append(spool.append(batch(number, 3 * MEBIBYTE)))
        evicted.append(spool.evict())
    assert evicted == [None, None, None, 0]
    with pytest.raises(OSError, match="gone"):
        spool.read(places[0])
    assert spool.read(places[3]).sequence == 3


def test_a_damaged_segment_loses_one_batch_and_is_kept_aside(tmp_path: Path) -> None:
    dead = opened(tmp_path)
    places = [dead.append(batch(number)) for number in range(1, 4)]
    segment = next(tmp_path.rglob("*.seg"))
    data = bytearray(segment.read_bytes())
    data[places[1].offset + 30] ^= 1
    segment.write_bytes(data)
    kill(tmp_path)
    spool = opened(tmp_path)
    adopted = spool.adopt()
    assert (sequences(spool, adopted), spool.damaged_runs) == ([1, 3], 1)
    settle(spool, adopted)
    spool.close()
    assert files(tmp_path) == [f"{segment.parent.name}-0000000000.corrupt"]


def test_only_the_newest_damaged_segments_are_kept(tmp_path: Path) -> None:
    for _ in range(6):
        dead = opened(tmp_path)
        dead.append(batch(1))
        next(tmp_path.rglob("*.seg")).write_bytes(b"noise" * 100)
        kill(tmp_path)
        spool = opened(tmp_path)
        assert spool.adopt() == []
        spool.close()
    assert len(files(tmp_path)) == 4


def test_foreign_and_half_made_folders_do_not_stop_the_start(tmp_path: Path) -> None:
    old = platform.now_unix_nano() / 1e9 - SILENCE_S_MAX - 1
    empty_and_old, empty_and_new = tmp_path / ("0" * 16), tmp_path / ("1" * 16)
    for folder in (empty_and_old, empty_and_new, tmp_path / "foreign"):
        folder.mkdir()
    (tmp_path / "foreign/notes.txt").write_text("keep me")
    (tmp_path / "a file").write_text("keep me")
    (tmp_path / "a link").symlink_to(tmp_path / "foreign")
    for folder in (empty_and_old, tmp_path / "foreign"):
        os.utime(folder, (old, old))
    spool = opened(tmp_path)
    assert spool.adopt() == []
    spool.close()
    left = sorted(path.name for path in tmp_path.rglob("*") if path.is_file())
    assert left == ["a file", "notes.txt"]
    assert empty_and_new.is_dir() and not empty_and_old.exists()


def test_an_owner_that_was_taken_for_dead_begins_anew(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    place = spool.append(batch(1))
    spool.renew()
    assert not spool.is_taken
    kill(tmp_path)
    other = opened(tmp_path)
    assert len(other.adopt()) == 1
    assert spool.is_taken
    with pytest.raises(FileNotFoundError):
        spool.renew()
    spool.start_over()
    assert not spool.is_taken
    with pytest.raises(OSError, match="gone"):
        spool.read(place)
    assert spool.read(spool.append(batch(2))).sequence == 2
    spool.close()
    assert files(tmp_path) == ["0000000000.seg", "0000000001.seg", OWNER_FILE, OWNER_FILE, OWNER_FILE]


def test_a_folder_whose_owner_cannot_be_read_is_left_alone(tmp_path: Path) -> None:
    opened(tmp_path).append(batch(1))
    (owner,) = tmp_path.glob(f"*/{OWNER_FILE}")
    owner.unlink()
    # No file: whoever opens it gets an error.
    owner.mkdir()
    assert opened(tmp_path).adopt() == []
    assert owner.parent.is_dir()


WITHOUT_FILES = """
import os, resource
from logweir.delivery.spool_owner import start_of
resource.setrlimit(resource.RLIMIT_NOFILE, (0, 0))
try:
    start_of(os.getpid())
except OSError as error:
    print(error.strerror, end="")
"""


def test_a_process_is_not_dead_because_no_file_is_free() -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT_FILES], stdout=subprocess.PIPE, text=True)
    assert done.stdout == os.strerror(errno.EMFILE)


def test_a_process_that_has_ended_unasked_is_dead() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""], stdout=subprocess.PIPE)
    assert child.stdout is not None
    child.stdout.read()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert spool_owner.start_of(child.pid) == ""
    child.wait()
    assert spool_owner.start_of(os.getpid()) != ""
