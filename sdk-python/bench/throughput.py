"""How many logs a second one core sends, side by side with OpenTelemetry's batch exporter.

    python bench/throughput.py [LOGS [ENDPOINT]]

Each runs in a process of its own on the first core, alone; the sink is on the other. The logs go through
`logging`, in the form that programs write, and count once they are answered. Without an endpoint a sink of
its own answers. Rounds take turns; the medians count.
"""

from __future__ import annotations

import logging
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Callable

LOGS, ROUNDS = 200_000, 3
# Beyond so many that wait, the program pauses, so that nothing is dropped.
WAITING_MAX, PAUSE = 8_000, 0.001
QUEUE_RECORDS, BATCH_RECORDS = 16_384, 512
CLIENT_CORE, SINK_CORE = {0}, {1}


def run(logs: int, handler: logging.Handler, waiting: Callable[[], int]) -> None:
    logger = logging.getLogger("shop.orders")
    logger.propagate = False
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    for number in range(logs):
        logger.info("order %d of customer %s paid", number, "c-4711")
        if number % 256 == 0:
            while waiting() > WAITING_MAX:
                time.sleep(PAUSE)


def logweir_rate(logs: int, endpoint: str) -> float:
    import logweir

    client = logweir.Client(endpoint=endpoint, service="bench", queue_records=QUEUE_RECORDS)
    shared = client.shared
    began = time.perf_counter()
    run(logs, logweir.Handler(client), lambda: shared.queue.records + len(client.inbox))
    report = client.flush(60)
    seconds = time.perf_counter() - began
    assert report.sent == logs and report.is_complete, report
    return logs / seconds


def otel_rate(logs: int, endpoint: str) -> float:
    from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter
    from opentelemetry.sdk._logs import LoggerProvider, LoggingHandler
    from opentelemetry.sdk._logs.export import BatchLogRecordProcessor

    provider = LoggerProvider()
    processor = BatchLogRecordProcessor(
        OTLPLogExporter(endpoint=endpoint, insecure=True),
        max_queue_size=QUEUE_RECORDS,
        max_export_batch_size=BATCH_RECORDS,
    )
    provider.add_log_record_processor(processor)
    queue: Any = processor._batch_processor._queue
    began = time.perf_counter()
    run(logs, LoggingHandler(level=logging.INFO, logger_provider=provider), lambda: len(queue))
    provider.force_flush(60_000)
    return logs / (time.perf_counter() - began)


RATES = {"logweir": logweir_rate, "OpenTelemetry": otel_rate}


def measured(name: str, logs: int, endpoint: str) -> float:
    arguments = [sys.executable, __file__, name, str(logs), endpoint]
    return float(subprocess.run(arguments, check=True, stdout=subprocess.PIPE, text=True).stdout)


def main() -> None:
    if len(sys.argv) == 4 and sys.argv[1] in RATES:
        os.sched_setaffinity(0, CLIENT_CORE)
        print(RATES[sys.argv[1]](int(sys.argv[2]), sys.argv[3]))
        return
    logs = int(sys.argv[1]) if len(sys.argv) > 1 else LOGS
    sink = None
    if len(sys.argv) > 2:
        endpoint = sys.argv[2]
    else:
        sink = subprocess.Popen(
            [sys.executable, Path(__file__).with_name("sink.py")], stdout=subprocess.PIPE, text=True
        )
        os.sched_setaffinity(sink.pid, SINK_CORE)
        assert sink.stdout is not None
        endpoint = f"http://127.0.0.1:{sink.stdout.readline().strip()}"
    rates: dict[str, list[float]] = {name: [] for name in RATES}
    for _ in range(ROUNDS):
        for name, values in rates.items():
            values.append(measured(name, logs, endpoint))
    print(f"logs a second on one core, medians of {ROUNDS} rounds of {logs} logs")
    medians = {name: statistics.median(values) for name, values in rates.items()}
    for name, median in medians.items():
        print(f"  {name:16} {median:10,.0f}   {median / medians['OpenTelemetry']:5.2f} × OpenTelemetry")
    if sink is not None:
        sink.kill()
        sink.wait()


if __name__ == "__main__":
    main()
