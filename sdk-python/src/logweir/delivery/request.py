"""A batch that fills with logs, up to its bounds. Pure."""

from __future__ import annotations

from logweir import wire
from logweir.record.record import Record, write
from logweir.record.redaction import Redactor

# Tag and length before each log in a batch: at most so many bytes.
RECORD_FRAME_BYTES = 5


class RequestBuilder:
    """A request that takes one log after the other."""

    def __init__(self, redactor: Redactor, bytes_max: int, now_unix_nano: int) -> None:
        self.request = wire.IngestRequest()
        self.faulty = 0
        """Logs that could not be encoded."""
        self.fault = ""
        """Why the last of them could not."""
        self.has_invalid_time = False
        """Whether the time of a log was not valid, so that it has that of the batch."""
        # There even if no log gets into it.
        self.request.batch.SetInParent()
        self._records = self.request.batch.records
        self._room = bytes_max
        self._redactor = redactor
        self._now_unix_nano = now_unix_nano

    def fits(self, record: Record) -> bool:
        """Packs a log if there is room. One larger than a whole batch goes alone."""
        count = len(self._records)
        try:
            if record[5]:
                record = Record._make(record)._replace(attributes=self._redactor.redact(record[5]))
            log = write(record, self._records, self._now_unix_nano, self._note_invalid_time)
            size = log.ByteSize() + RECORD_FRAME_BYTES
        except Exception as error:
            del self._records[count:]
            self.faulty += 1
            self.fault = repr(error)
            return True
        if size > self._room and count > 0:
            del self._records[count:]
            return False
        self._room -= size
        return True

    def _note_invalid_time(self) -> None:
        self.has_invalid_time = True
