"""The form of a batch on disk, and how it is found again in a damaged file. Pure.

A frame is `magic, payload length, payload checksum, header checksum`, each 4 bytes, little endian, then
the payload: what is known of the batch, and its bytes. Both checksums (CRC-32) start from the salt of
the folder. It is random, so that a log whose text imitates a frame is never taken for one where a damaged
file is searched for the next frame.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from struct import Struct
from typing import Union
from zlib import crc32

from logweir.delivery.batch import EncodedBatch

MAGIC = b"LwF1"
# Magic, length of the payload, checksum of the payload; then the checksum of these.
_HEADER = Struct("<4sII")
_CHECKSUM = Struct("<I")
HEADER_BYTES = _HEADER.size + _CHECKSUM.size
# Creation time, sequence, number of records, batch id, producer id.
_FACTS = Struct("<qQI16s16s")
# The offset of a frame, and the checksum of it.
_OFFSET = Struct("<Q")
MARK_BYTES = _OFFSET.size + _CHECKSUM.size

Bytes = Union[bytes, memoryview]


def salt(folder_name: str) -> int:
    """The salt of a folder, from its random name."""
    return crc32(folder_name.encode())


def encode(salt: int, batch: EncodedBatch) -> bytes:
    """A batch as a frame."""
    facts = _FACTS.pack(
        batch.created_unix_nano, batch.sequence, batch.record_count, batch.batch_id, batch.producer_id
    )
    checksum = crc32(batch.request, crc32(facts, salt))
    header = _HEADER.pack(MAGIC, len(facts) + len(batch.request), checksum)
    return b"".join((header, _CHECKSUM.pack(crc32(header, salt)), facts, batch.request))


def decode(salt: int, data: Bytes) -> tuple[EncodedBatch, int] | None:
    """The batch whose frame `data` starts with, and the frame's length; none if there is no whole and
    sound one."""
    header = _sound_header(salt, data)
    if header is None:
        return None
    length, checksum = header
    end = HEADER_BYTES + length
    payload = data[HEADER_BYTES:end]
    if len(payload) < length or length < _FACTS.size or crc32(payload, salt) != checksum:
        return None
    created, sequence, record_count, batch_id, producer_id = _FACTS.unpack_from(payload)
    request = bytes(payload[_FACTS.size :])
    return EncodedBatch(batch_id, producer_id, sequence, record_count, created, request), end


def _sound_header(salt: int, data: Bytes) -> tuple[int, int] | None:
    """Length and checksum of the payload."""
    if len(data) < HEADER_BYTES:
        return None
    magic, length, checksum = _HEADER.unpack_from(data)
    (own,) = _CHECKSUM.unpack_from(data, _HEADER.size)
    is_sound = magic == MAGIC and crc32(data[: _HEADER.size], salt) == own
    return (length, checksum) if is_sound else None


@dataclass
class Scan:
    """What a file holds."""

    # Whole and sound frames: where, how long, what.
    frames: list[tuple[int, int, EncodedBatch]] = field(default_factory=list)
    # Runs of bytes that are no frame, other than the last frame cut off by a crash.
    damaged_runs: int = 0


def scan(salt: int, data: bytes) -> Scan:
    """Finds every sound frame, whatever lies between them."""
    found, offset, in_damage = Scan(), 0, False
    view = memoryview(data)
    while offset < len(data):
        decoded = decode(salt, view[offset:])
        if decoded is not None:
            batch, length = decoded
            found.frames.append((offset, length, batch))
            offset, in_damage = offset + length, False
            continue
        if not in_damage and not _is_cut_off(salt, view[offset:]):
            found.damaged_runs += 1
        in_damage = True
        following = data.find(MAGIC, offset + 1)
        offset = len(data) if following < 0 else following
    return found


def _is_cut_off(salt: int, data: memoryview) -> bool:
    """Whether a frame starts here that the end of the file cuts off: a crash while writing, no damage."""
    if len(data) < HEADER_BYTES:
        return MAGIC.startswith(bytes(data[: len(MAGIC)]))
    header = _sound_header(salt, data)
    return header is not None and len(data) - HEADER_BYTES < header[0]


def encode_mark(salt: int, offset: int) -> bytes:
    """The mark that the frame at an offset is done with."""
    place = _OFFSET.pack(offset)
    return place + _CHECKSUM.pack(crc32(place, salt))


def decode_marks(salt: int, data: bytes) -> Iterator[int]:
    """The offsets marked in a file of acknowledgements. A damaged mark is left out: its batch is sent
    once more, which is harmless."""
    for start in range(0, len(data) - MARK_BYTES + 1, MARK_BYTES):
        mark = data[start : start + MARK_BYTES]
        (offset,) = _OFFSET.unpack_from(mark)
        if encode_mark(salt, offset) == mark:
            yield offset
