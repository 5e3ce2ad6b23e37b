"""Emits numbered logs by OpenTelemetry's Python SDK, and prints the numbers that it says it exported.

    python emit.py grpc|http COUNT

with ENDPOINT and TOKEN in its environment. Prints one line of JSON, a list of numbers, at the end.
"""

from __future__ import annotations

import json
import os
import sys

from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import (
    BatchLogRecordProcessor,
    LogRecordExporter,
    LogRecordExportResult,
)
from opentelemetry.sdk.resources import Resource

TIME = 1_700_000_000_000_000_001
BATCH = 500


class Noting(LogRecordExporter):
    """Hands batches to an exporter, and notes those that it exported."""

    def __init__(self, inner: LogRecordExporter) -> None:
        self.inner = inner
        self.exported: list[int] = []

    def export(self, batch):
        result = self.inner.export(batch)
        if result is LogRecordExportResult.SUCCESS:
            self.exported += [item.log_record.attributes["number"] for item in batch]
        return result

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return True

    def shutdown(self) -> None:
        self.inner.shutdown()


def exporter(protocol: str) -> LogRecordExporter:
    endpoint, headers = os.environ["ENDPOINT"], {"authorization": f"Bearer {os.environ['TOKEN']}"}
    if protocol == "grpc":
        from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter

        return OTLPLogExporter(endpoint=endpoint, headers=headers, insecure=True)
    from opentelemetry.exporter.otlp.proto.http import Compression
    from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter

    path, compression = f"{endpoint}/v1/logs", Compression.Gzip
    return OTLPLogExporter(endpoint=path, headers=headers, compression=compression)


def main() -> None:
    protocol, count = sys.argv[1], int(sys.argv[2])
    noting = Noting(exporter(protocol))
    provider = LoggerProvider(resource=Resource.create({"service.name": "otlp-python"}))
    processor = BatchLogRecordProcessor(
        noting, schedule_delay_millis=50, max_export_batch_size=BATCH, max_queue_size=count
    )
    provider.add_log_record_processor(processor)
    logger = provider.get_logger("emit")
    for number in range(count):
        record = LogRecord(
            timestamp=TIME + number,
            severity_number=SeverityNumber.INFO,
            body=f"log {number} of the otlp test",
            attributes={"number": number},
        )
        logger.emit(record)
    provider.force_flush()
    provider.shutdown()
    print(json.dumps(noting.exported), flush=True)


if __name__ == "__main__":
    main()
