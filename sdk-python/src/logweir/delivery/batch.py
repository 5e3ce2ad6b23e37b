"""Batches: immutable, numbered, encoded once. A retry repeats the very bytes.

A batch that the server does not take as it is goes on as others that follow from it alone: ids, numbers
and content are those that any process would come to, so that one killed halfway, and the next that
starts over, send the same. A pair of producer and sequence names one batch for ever, because the server
recognises a repeat by it once it has forgotten the batch's id.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from logweir import wire

SDK_NAME = "logweir-sdk-python"
"""The name that batches carry."""


def _version() -> str:
    try:
        return version("logweir")
    except PackageNotFoundError:
        # It runs from its sources.
        return "0"


SDK_VERSION = _version()
"""The version that batches carry."""
MOVED = "moved"
"""What an account gives as the reason for logs that are in another producer's account."""

# What follows from a batch, each with an id of its own.
FIRST_HALF, SECOND_HALF, SECOND_PRODUCER, REPAIRED = 1, 2, 3, 4
ID_BYTES = 16
# The first bytes of a UUIDv7: milliseconds since 1970.
TIME_BYTES = 6


@dataclass(frozen=True)
class EncodedBatch:
    """A batch as it goes over the wire, with what must be known about it without decoding it."""

    batch_id: bytes
    producer_id: bytes
    sequence: int
    record_count: int
    created_unix_nano: int
    # The encoded IngestRequest.
    request: bytes

    def decode(self) -> Any | None:
        """The IngestRequest itself; none if the bytes are damaged."""
        try:
            request = wire.IngestRequest.FromString(self.request)
        except Exception:
            # Runtimes differ in what they raise: `DecodeError` is the class of some of them only.
            return None
        return request if request.HasField("batch") else None


def encoded(request: Any, created_unix_nano: int) -> EncodedBatch:
    """Encodes a batch that carries its own id and producer."""
    batch = request.batch
    return EncodedBatch(
        batch_id=batch.batch_id,
        producer_id=batch.producer.producer_id,
        sequence=batch.producer.sequence,
        record_count=len(batch.records),
        created_unix_nano=created_unix_nano,
        request=request.SerializeToString(),
    )


def batch_id(now_unix_nano: int, random: bytes) -> bytes:
    """A batch id: UUIDv7 of a time and 10 random bytes."""
    milliseconds = max(now_unix_nano, 0) // 1_000_000
    return _as_uuid_7((milliseconds % (1 << 48)).to_bytes(TIME_BYTES, "big") + random)


def _as_uuid_7(raw: bytes) -> bytes:
    """16 bytes with the version 7 and the variant of RFC 9562."""
    marked = bytearray(raw)
    marked[6] = marked[6] & 0x0F | 0x70
    marked[8] = marked[8] & 0x3F | 0x80
    return bytes(marked)


def derived(origin: bytes, part: int) -> bytes:
    """Random bytes that follow from an id."""
    return hashlib.sha256(origin + bytes([part])).digest()[:ID_BYTES]


def derived_batch_id(origin: bytes, part: int) -> bytes:
    """A batch id that follows from another, of the same time: the server tells a batch's age by it."""
    return _as_uuid_7(origin[:TIME_BYTES] + derived(origin, part)[TIME_BYTES:])


class Batcher:
    """Numbers batches and fills in their account."""

    def __init__(self, producer_id: bytes, resource: Any) -> None:
        self.producer_id = producer_id
        self._resource = resource
        self._last_sequence = 0
        self._last_account = wire.Account()

    def build(self, request: Any, account: Any, now_unix_nano: int, random: bytes) -> EncodedBatch:
        """Makes the next batch of a request with nothing but logs in it. Keeps the request."""
        self._last_sequence += 1
        self._last_account = account
        batch = request.batch
        batch.batch_id = batch_id(now_unix_nano, random)
        batch.producer.producer_id = self.producer_id
        batch.producer.sequence = self._last_sequence
        batch.producer.account.CopyFrom(account)
        batch.producer.sdk_name = SDK_NAME
        batch.producer.sdk_version = SDK_VERSION
        batch.resource.CopyFrom(self._resource)
        return encoded(request, now_unix_nano)

    def is_news(self, account: Any) -> bool:
        """Whether the server knows less than this from the last batch built. What waits in the spool
        does not count: the server sees it arrive."""
        return _known(account) != _known(self._last_account)


def _known(account: Any) -> tuple[int, int, int, dict[str, int]]:
    dropped = {drop.reason: drop.count for drop in account.dropped}
    return account.emitted, account.rejected, account.queued, dropped


def account_of(
    emitted: int, dropped: Mapping[str, int], moved: int, rejected: int, queued: int, spooled: int
) -> Any:
    """An account; drops of no logs are left out."""
    counts = {**dropped, MOVED: moved}
    return wire.Account(
        emitted=emitted,
        dropped=[wire.DropCount(reason=name, count=count) for name, count in counts.items() if count],
        rejected=rejected,
        queued=queued,
        spooled=spooled,
    )


def halves(whole: EncodedBatch) -> tuple[EncodedBatch, EncodedBatch] | None:
    """The halves of a batch that is too large; none if it cannot be split.

    The first keeps the number, which would otherwise be a hole for ever. The second is the only batch
    of a producer of its own, since all other numbers of the old one are given; both accounts balance.
    """
    first, second = whole.decode(), whole.decode()
    if first is None or second is None or len(first.batch.records) < 2:
        return None
    middle = (len(first.batch.records) + 1) // 2
    del second.batch.records[:middle]
    del first.batch.records[middle:]
    moved = len(second.batch.records)
    if second.batch.HasField("producer"):
        producer = second.batch.producer
        producer.producer_id = derived(whole.batch_id, SECOND_PRODUCER)
        producer.sequence = 1
        producer.account.CopyFrom(wire.Account(emitted=moved))
    second.batch.batch_id = derived_batch_id(whole.batch_id, SECOND_HALF)
    first.batch.batch_id = derived_batch_id(whole.batch_id, FIRST_HALF)
    _add_drop(first.batch, MOVED, moved)
    created = whole.created_unix_nano
    return encoded(first, created), encoded(second, created)


def without(whole: EncodedBatch, positions: list[int], reason: str) -> EncodedBatch | None:
    """The batch under its old number, without the logs at some positions, which it says are dropped;
    none if it is damaged."""
    request = whole.decode()
    if request is None:
        return None
    bad = {position for position in positions if position < len(request.batch.records)}
    for position in sorted(bad, reverse=True):
        del request.batch.records[position]
    request.batch.batch_id = derived_batch_id(whole.batch_id, REPAIRED)
    _add_drop(request.batch, reason, len(bad))
    return encoded(request, whole.created_unix_nano)


def _add_drop(batch: Any, reason: str, count: int) -> None:
    """Adds to what a batch's account says was dropped."""
    if not batch.HasField("producer"):
        return
    dropped = batch.producer.account.dropped
    for drop in dropped:
        if drop.reason == reason:
            drop.count += count
            return
    dropped.add(reason=reason, count=count)
