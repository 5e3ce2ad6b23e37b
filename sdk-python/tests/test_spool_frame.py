"""Frames on disk: what is damaged is lost, and nothing else."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from logweir.delivery.batch import EncodedBatch
from logweir.delivery.spool_frame import decode_marks, encode, encode_mark, scan

SALT = 0xDEADBEEF
PAYLOADS = st.lists(st.binary(max_size=200), min_size=1, max_size=8)


def file_of(payloads: list[bytes]) -> tuple[bytes, list[int]]:
    """A file of frames, and where each ends."""
    data, ends = b"", []
    for sequence, payload in enumerate(payloads):
        data += encode(SALT, EncodedBatch(b"b" * 16, b"p" * 16, sequence, 3, -5, payload))
        ends.append(len(data))
    return data, ends


@given(PAYLOADS)
def test_frames_read_back(payloads: list[bytes]) -> None:
    data, _ = file_of(payloads)
    found = scan(SALT, data)
    assert [batch.request for _, _, batch in found.frames] == payloads
    assert found.damaged_runs == 0
    assert scan(SALT + 1, data).frames == []


@given(PAYLOADS, st.data())
def test_a_flipped_bit_costs_the_frame_it_lies_in(payloads: list[bytes], draw: st.DataObject) -> None:
    data, ends = file_of(payloads)
    place = draw.draw(st.integers(0, len(data) - 1))
    damaged = bytearray(data)
    damaged[place] ^= 1 << draw.draw(st.integers(0, 7))
    hit = next(number for number, end in enumerate(ends) if place < end)
    found = scan(SALT, bytes(damaged))
    assert [batch.sequence for _, _, batch in found.frames] == [n for n in range(len(ends)) if n != hit]
    assert found.damaged_runs == 1


@given(PAYLOADS, st.data())
def test_a_file_cut_off_keeps_its_whole_frames(payloads: list[bytes], draw: st.DataObject) -> None:
    data, ends = file_of(payloads)
    place = draw.draw(st.integers(0, len(data)))
    found = scan(SALT, data[:place])
    assert len(found.frames) == sum(end <= place for end in ends)
    assert found.damaged_runs == 0


@given(st.binary(max_size=2_000))
def test_any_bytes_are_survived(data: bytes) -> None:
    assert scan(SALT, data).frames == []
    assert len(list(decode_marks(SALT, data))) <= len(data)


@given(st.lists(st.integers(0, (1 << 64) - 1), max_size=20), st.binary(max_size=11))
def test_marks_read_back(offsets: list[int], rest: bytes) -> None:
    data = b"".join(encode_mark(SALT, offset) for offset in offsets)
    assert list(decode_marks(SALT, data + rest)) == offsets
