"""What a log costs the thread that writes it, side by side with what people use, in one run.

    LOGWEIR_ENDPOINT=… python bench/emit.py [ROUNDS CALLS]

Rounds take turns, so that a busy machine slows all alike; the medians count. Without LOGWEIR_ENDPOINT a
sink of its own answers.
"""

from __future__ import annotations

import logging
import logging.handlers
import os
import queue
import statistics
import subprocess
import sys
import time
from collections import deque
from pathlib import Path
from typing import Any, Callable

import logweir

ROUNDS, CALLS, BOUND = 40, 1_000, 256
APPENDING = "handler that only appends"


class AppendingHandler(logging.Handler):
    """The least that a handler can do and still have the log. With a bound, what goes for it is freed on the
    caller's thread, as with any handler that keeps no more than it must; without, after the measurement."""

    def __init__(self, records: Any) -> None:
        super().__init__()
        self.records = records

    def handle(self, record: logging.LogRecord) -> bool:
        self.records.append(record)
        return True


def logger_with(name: str, handler: logging.Handler, level: int = logging.INFO) -> logging.Logger:
    logger = logging.getLogger(name)
    logger.propagate = False
    logger.setLevel(level)
    logger.addHandler(handler)
    return logger


def otel_handler(endpoint: str) -> Any:
    from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter
    from opentelemetry.sdk._logs import LoggerProvider, LoggingHandler
    from opentelemetry.sdk._logs.export import BatchLogRecordProcessor

    provider = LoggerProvider()
    exporter = OTLPLogExporter(endpoint=endpoint, insecure=True)
    provider.add_log_record_processor(BatchLogRecordProcessor(exporter))
    return LoggingHandler(level=logging.INFO, logger_provider=provider), provider


def microseconds_a_call(logger: logging.Logger, calls: int) -> float:
    """Processor time of this thread: what others do meanwhile is not counted."""
    info = logger.info
    began = time.thread_time()
    for number in range(calls):
        info("order %d of customer %s paid", number, "c-4711")
    return (time.thread_time() - began) / calls * 1e6


Candidates = dict[str, tuple[logging.Logger, Callable[[], Any]]]


def compare(title: str, candidates: Candidates, rounds: int, calls: int) -> None:
    times: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(rounds):
        for name, (logger, settle) in candidates.items():
            times[name].append(microseconds_a_call(logger, calls))
            settle()
    least = statistics.median(times[APPENDING])
    print(title)
    for name, values in times.items():
        median = statistics.median(values)
        print(f"  {name:32} {median:7.2f}   {median / least:5.2f} × appending")


def main() -> None:
    rounds, calls = map(int, sys.argv[1:3]) if len(sys.argv) > 2 else (ROUNDS, CALLS)
    sink = None
    endpoint = os.environ.get("LOGWEIR_ENDPOINT")
    if endpoint is None:
        sink = subprocess.Popen(
            [sys.executable, Path(__file__).with_name("sink.py")], stdout=subprocess.PIPE, text=True
        )
        assert sink.stdout is not None
        endpoint = f"http://127.0.0.1:{sink.stdout.readline().strip()}"
    client = logweir.Client(endpoint=endpoint, service="bench", queue_records=100_000)
    appending, bounded = AppendingHandler([]), AppendingHandler(deque(maxlen=BOUND))
    standard: queue.Queue[Any] = queue.Queue()
    candidates: Candidates = {
        "level off": (logger_with("off", appending, logging.ERROR), list),
        APPENDING: (logger_with("appending", appending), appending.records.clear),
        "the same, bounded": (logger_with("bounded", bounded), list),
        "logweir.Handler": (logger_with("ours", logweir.Handler(client)), lambda: client.flush(30)),
        "logging.handlers.QueueHandler": (
            logger_with("queue", logging.handlers.QueueHandler(standard)),
            standard.queue.clear,
        ),
    }
    print(f"µs a call, medians of {rounds} rounds of {calls} calls; Python {sys.version.split()[0]}")
    compare("plain:", candidates, rounds, calls)
    # From here on each log is looked up in OpenTelemetry's context, too.
    otel, provider = otel_handler(endpoint)
    candidates["OpenTelemetry, batch processor"] = (logger_with("otel", otel), provider.force_flush)
    compare("in a program with OpenTelemetry:", candidates, rounds, calls)
    report = client.shutdown(30)
    print(f"all logs of logweir.Handler sent: {report.is_complete and not report.dropped}")
    if sink is not None:
        sink.kill()
        sink.wait()


if __name__ == "__main__":
    main()
