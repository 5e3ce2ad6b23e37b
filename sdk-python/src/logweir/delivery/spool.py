"""The spool: batches on disk until the server has them, so that they survive `kill -9`.

Each process has a folder of its own under the spool's root. A batch is appended to the folder's newest
segment before it is sent; when it is done with, a mark goes into the file beside the segment, and a
segment whose batches are all done with is deleted. Folders of dead processes are taken over by renaming
them into one's own, which only one process can do, and their batches sent under their own ids.

A damaged segment loses only what is damaged; it is kept aside as `*.corrupt` (the newest few) once the
rest is sent. A lost mark costs one harmless resend. Failures are `OSError`s.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from logweir import platform
from logweir.delivery import spool_frame, spool_owner
from logweir.delivery.batch import EncodedBatch
from logweir.delivery.spool_owner import NO_PROCESS, OWNER_FILE, Owner
from logweir.errors import SpoolError

# A segment is closed at this size.
SEGMENT_BYTES = 8 << 20
# No segment of ours is larger than this: one more batch than SEGMENT_BYTES.
SEGMENT_BYTES_MAX = 32 << 20
# How many damaged segments are kept for a person to look at.
CORRUPT_KEPT_MAX = 4
# Most batches in a spool: each costs a few bytes of memory.
FRAMES_MAX = 1 << 16
NAME_BYTES = 8
# Any other folder is none of ours.
_NAME = re.compile(r"[0-9a-f]{16}\Z")
ADOPTED_FOLDER = "adopted"
SYNC_ALWAYS = 0.0
"""Batches are forced to disk before they are sent: survives a power cut."""


@dataclass(frozen=True)
class SpoolOptions:
    """The spool's settings."""

    directory: str
    """Its root. Processes may share it."""
    bytes_max: int = 256 << 20
    """Most bytes of one process. The oldest go first."""
    age_max: float = 24 * 3_600.0
    """Longest time a batch waits, seconds."""
    sync: float = 1.0
    """How often writes are forced to disk, seconds: a power cut may cost what came since, `kill -9` costs
    nothing. 0: before each batch is sent."""


@dataclass(frozen=True)
class FrameRef:
    """Where a batch lies."""

    segment: int
    offset: int
    length: int


@dataclass(frozen=True)
class Adopted:
    """A batch of a dead process."""

    frame: FrameRef
    record_count: int


@dataclass
class _Segment:
    folder: Path
    # In the folder.
    name: str
    bytes: int = 0
    # Batches not done with.
    waiting: int = 0
    # No more is appended.
    is_sealed: bool = False
    is_damaged: bool = False

    @property
    def path(self) -> Path:
        return self.folder / f"{self.name}.seg"

    @property
    def marks(self) -> Path:
        return self.folder / f"{self.name}.ack"

    @property
    def salt(self) -> int:
        return spool_frame.salt(self.folder.name)


class Spool:
    """An open spool. For one thread."""

    def __init__(self, options: SpoolOptions) -> None:
        self.options = options
        self.damaged_runs = 0
        self.needs_sync = False
        self._root = Path(options.directory)
        self._owner: Owner = spool_owner.this_process()
        self._segments: dict[int, _Segment] = {}
        self._active: tuple[int, BinaryIO] | None = None
        self._next_segment = 0
        self._next_name = 0
        self._bytes = 0
        self._waiting = 0
        self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._own = self._create_folder()

    def append(self, batch: EncodedBatch) -> FrameRef:
        """Writes a batch, forced to disk if the options say so."""
        number, file = self._active_segment()
        segment = self._segments[number]
        frame = spool_frame.encode(segment.salt, batch)
        try:
            if file.write(frame) != len(frame):
                raise SpoolError("the disk is full")
            self.needs_sync = True
            if self.options.sync == SYNC_ALWAYS:
                self.sync()
        except OSError:
            # What was written of it is passed over as a frame cut off.
            self._seal()
            raise
        place = FrameRef(number, segment.bytes, len(frame))
        self._load(segment, len(frame), 1)
        return place

    def read(self, place: FrameRef) -> EncodedBatch:
        """Reads a batch back; an error if it is damaged by now, or deleted."""
        segment = self._segments.get(place.segment)
        if segment is None:
            raise SpoolError("a batch of the spool is gone")
        with segment.path.open("rb") as file:
            file.seek(place.offset)
            decoded = spool_frame.decode(segment.salt, file.read(place.length))
        if decoded is None:
            self.damaged_runs += 1
            segment.is_damaged = True
            raise SpoolError(f"a batch in {segment.path} is damaged")
        return decoded[0]

    def acknowledge(self, place: FrameRef) -> None:
        """Marks a batch as done with. An error costs a harmless resend after a restart."""
        segment = self._segments.get(place.segment)
        if segment is None:
            return
        self._load(segment, 0, -1)
        if segment.waiting == 0 and segment.is_sealed:
            self._delete_segment(place.segment)
            return
        with open(segment.marks, "ab", opener=_private) as file:
            file.write(spool_frame.encode_mark(segment.salt, place.offset))

    def evict(self) -> int | None:
        """Deletes the oldest segment if the spool is too full. Its number; its waiting batches are lost."""
        if (self._bytes <= self.options.bytes_max and self._waiting <= FRAMES_MAX) or not self._segments:
            return None
        oldest = min(self._segments)
        if self._active is not None and self._active[0] == oldest:
            self._seal()
        self._delete_segment(oldest)
        return oldest

    def sync(self) -> None:
        """Forces what was written to disk."""
        if self.needs_sync and self._active is not None:
            os.fsync(self._active[1].fileno())
            self.needs_sync = False

    def renew(self) -> None:
        """Says that the owner is alive."""
        os.utime(self._own / OWNER_FILE)

    @property
    def is_taken(self) -> bool:
        """Whether the owner was taken for dead, and its folder with all that was in it taken over."""
        try:
            os.stat(self._own / OWNER_FILE)
        except OSError as error:
            return isinstance(error, FileNotFoundError)
        return False

    def start_over(self) -> None:
        """Begins anew with an empty folder. What was in the old one is another's."""
        self._seal()
        self._own = self._create_folder()
        for number in list(self._segments):
            self._unload(number)

    def close(self) -> None:
        """Forces everything to disk and deletes what is done with."""
        try:
            self.sync()
        finally:
            self._seal()
            for number in [number for number, s in self._segments.items() if s.waiting == 0]:
                self._delete_segment(number)
            self._remove_folder(self._own)
            self._leave_to_others()

    def _leave_to_others(self) -> None:
        """What is left may be taken over, also by another client of this process."""
        file = self._own / OWNER_FILE
        if file.exists():
            file.write_text(replace(self._owner, pid=NO_PROCESS).line(), encoding="utf-8")

    def adopt(self) -> list[Adopted]:
        """Takes over the folders of dead processes; of each, the oldest batches come first."""
        adopted: list[Adopted] = []
        for folder in sorted(_folders(self._root)):
            is_spool = _NAME.match(folder.name) and folder != self._own
            if is_spool and self._is_of_our_user(folder) and self._may_take(folder):
                adopted.extend(self._adopt_folder(folder))
        return adopted

    # Folders.

    def _create_folder(self) -> Path:
        folder = self._root / platform.random_bytes(NAME_BYTES).hex()
        # Logs are nobody else's business.
        folder.mkdir(mode=0o700)
        with open(folder / OWNER_FILE, "x", encoding="utf-8", opener=_private) as file:
            file.write(self._owner.line())
        return folder

    def _is_of_our_user(self, folder: Path) -> bool:
        """Whether it is a folder, and nobody else can have put logs into it for us to send."""
        try:
            there, own = folder.lstat(), self._own.lstat()
        except OSError:
            return False
        return stat.S_ISDIR(there.st_mode) and there.st_uid == own.st_uid

    def _may_take(self, folder: Path) -> bool:
        """Whether its owner is dead, and there is room for it. One folder is always taken."""
        try:
            if not self._is_dead(folder):
                return False
        except OSError:
            # One that cannot be looked at is left alone.
            return False
        with contextlib.suppress(OSError):
            # One that is empty holds nothing to take over.
            os.rmdir(folder)
            return False
        return self._waiting == 0 or self._has_room_for(folder)

    def _is_dead(self, folder: Path) -> bool:
        """Whether its owner is dead; raises OSError if nobody can tell now."""
        file = folder / OWNER_FILE
        try:
            owner, changed = spool_owner.parse(platform.read_text(str(file))), file.stat().st_mtime
        except FileNotFoundError:
            owner, changed = None, folder.stat().st_mtime
        age_s = platform.now_unix_nano() / 1e9 - changed
        return spool_owner.is_dead(owner, age_s, self._owner.namespace, spool_owner.start_of)

    def _has_room_for(self, folder: Path) -> bool:
        try:
            size = sum(path.stat().st_size for path in folder.rglob("*.seg"))
        except OSError:
            return False
        return self._bytes + size <= self.options.bytes_max and self._waiting < FRAMES_MAX

    def _adopt_folder(self, folder: Path) -> list[Adopted]:
        """Renames a folder, and those that it had taken over itself, into our own."""
        mine = self._own / ADOPTED_FOLDER
        target = mine / folder.name
        try:
            mine.mkdir(mode=0o700, exist_ok=True)
            folder.rename(target)
        except OSError:
            # Another process was quicker.
            return []
        theirs = target / ADOPTED_FOLDER
        taken = [target]
        for inner in sorted(_folders(theirs)):
            with contextlib.suppress(OSError):
                taken.append(inner.rename(mine / inner.name))
        with contextlib.suppress(OSError):
            theirs.rmdir()
        adopted = [batch for path in taken for batch in self._adopt_segments(path)]
        for path in taken:
            self._remove_folder(path)
        return adopted

    def _adopt_segments(self, folder: Path) -> list[Adopted]:
        adopted: list[Adopted] = []
        for path in sorted(folder.glob("*.seg")):
            adopted.extend(self._adopt_segment(_Segment(folder, path.stem, is_sealed=True)))
        return adopted

    def _adopt_segment(self, segment: _Segment) -> list[Adopted]:
        try:
            with segment.path.open("rb") as file:
                data = file.read(SEGMENT_BYTES_MAX)
            marks = segment.marks.read_bytes() if segment.marks.exists() else b""
        except OSError:
            # One that cannot be read is left where it is, and so is its folder.
            self.damaged_runs += 1
            return []
        found = spool_frame.scan(segment.salt, data)
        done = set(spool_frame.decode_marks(segment.salt, marks))
        self.damaged_runs += found.damaged_runs
        segment.is_damaged = found.damaged_runs > 0
        number = self._insert(segment)
        adopted = [
            Adopted(FrameRef(number, offset, length), batch.record_count)
            for offset, length, batch in found.frames
            if offset not in done
        ]
        self._load(segment, len(data), len(adopted))
        if not adopted:
            self._delete_segment(number)
        return adopted

    def _remove_folder(self, folder: Path) -> None:
        """Removes a folder without segments; one with anything unknown in it stays."""
        if any(segment.folder == folder for segment in self._segments.values()):
            return
        with contextlib.suppress(OSError):
            if any(folder.glob("*.seg")):
                return
            for orphan in folder.glob("*.ack"):
                orphan.unlink()
            if folder == self._own and any(_folders(folder / ADOPTED_FOLDER)):
                return
            with contextlib.suppress(OSError):
                (folder / ADOPTED_FOLDER).rmdir()
            (folder / OWNER_FILE).unlink(missing_ok=True)
            folder.rmdir()

    # Segments.

    def _active_segment(self) -> tuple[int, BinaryIO]:
        """The segment to append to."""
        if self._active is not None and self._segments[self._active[0]].bytes >= SEGMENT_BYTES:
            self.sync()
            self._seal()
        if self._active is not None:
            return self._active
        segment = _Segment(self._own, f"{self._next_name:010}")
        file = open(segment.path, "xb", buffering=0, opener=_private)  # noqa: SIM115 (it stays open)
        _sync_folder(self._own)
        self._next_name += 1
        self._active = (self._insert(segment), file)
        return self._active

    def _insert(self, segment: _Segment) -> int:
        number = self._next_segment
        self._next_segment += 1
        self._segments[number] = segment
        return number

    def _load(self, segment: _Segment, size: int, waiting: int) -> None:
        segment.bytes += size
        segment.waiting += waiting
        self._bytes += size
        self._waiting += waiting

    def _unload(self, number: int) -> _Segment | None:
        segment = self._segments.pop(number, None)
        if segment is not None:
            self._bytes -= segment.bytes
            self._waiting -= segment.waiting
        return segment

    def _seal(self) -> None:
        """Appends no more to the active segment. Should forcing it to disk fail here, it can still be
        read and sent: only a power cut would show it."""
        with contextlib.suppress(OSError):
            self.sync()
        self.needs_sync = False
        if self._active is None:
            return
        number, file = self._active
        self._active = None
        segment = self._segments[number]
        segment.is_sealed = True
        file.close()
        if segment.waiting == 0:
            self._delete_segment(number)

    def _delete_segment(self, number: int) -> None:
        """Deletes a segment, then its marks: the other way round, a crash between would send it all again."""
        segment = self._unload(number)
        if segment is None:
            return
        # A segment that cannot be deleted keeps its marks.
        with contextlib.suppress(OSError):
            if segment.is_damaged:
                self._keep_aside(segment)
            else:
                segment.path.unlink()
            segment.marks.unlink(missing_ok=True)
        if segment.folder != self._own:
            self._remove_folder(segment.folder)

    def _keep_aside(self, segment: _Segment) -> None:
        """Keeps a damaged segment for a person to look at, and only the newest few of those."""
        segment.path.rename(self._root / f"{segment.folder.name}-{segment.name}.corrupt")
        kept = sorted(self._root.glob("*.corrupt"), key=lambda path: path.stat().st_mtime)
        for path in kept[:-CORRUPT_KEPT_MAX]:
            path.unlink()


def _folders(path: Path) -> list[Path]:
    try:
        return [Path(entry.path) for entry in os.scandir(path) if entry.is_dir(follow_symlinks=False)]
    except OSError:
        return []


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _sync_folder(folder: Path) -> None:
    """Forces the folder's list of files to disk, where the system knows such a thing."""
    with contextlib.suppress(PermissionError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
