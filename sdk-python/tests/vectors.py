"""Reads the cases that all client libraries run, and speaks their form of logs and batches."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from logweir import wire
from logweir.record.record import UNKNOWN_LEVEL, Json, Level, Record, write_attributes

FOLDER = Path(__file__).resolve().parents[2] / "proto/vectors"


def load(name: str) -> Any:
    return json.loads((FOLDER / f"{name}.json").read_text())


def names(cases: list[Any]) -> list[str]:
    return [case["name"] for case in cases]


def text(given: Any) -> str:
    return given if isinstance(given, str) else given["repeat"] * given["times"]


def attributes(given: list[Any]) -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for attribute in given:
        if "numbered" in attribute:
            found += [(f"k{number}", number) for number in range(attribute["numbered"])]
        else:
            found.append((text(attribute["key"]), _value(attribute)))
    return found


def _value(attribute: Any) -> Any:
    if "string" in attribute:
        return text(attribute["string"])
    if "json" in attribute:
        return Json(text(attribute["json"]))
    if "int" in attribute:
        return int(attribute["int"])
    if "double" in attribute:
        return float(attribute["double"])
    return attribute["bool"]


def record(given: Any) -> Record:
    level = given.get("level", "UNSPECIFIED")
    trace = bytes.fromhex(given.get("trace_id", "")), bytes.fromhex(given.get("span_id", ""))
    latency = given.get("latency_ms")
    return Record(
        Level[level] if isinstance(level, str) else UNKNOWN_LEVEL,
        int(given.get("time_unix_nano", 0)),
        text(given.get("message", "")),
        text(given.get("logger", "")),
        trace,
        tuple(attributes(given.get("attributes", []))),
        None if latency is None else float(latency),
        given.get("severity_number", 0),
    )


def log(given: Any) -> Any:
    """The message that a log of a vector is on the wire, made without the library's own code."""
    message = wire.LogRecord(
        time_unix_nano=int(given.get("time_unix_nano", 0)),
        level=Level[given.get("level", "UNSPECIFIED")],
        severity_number=given.get("severity_number", 0),
        message=text(given.get("message", "")),
        trace_id=bytes.fromhex(given.get("trace_id", "")),
        span_id=bytes.fromhex(given.get("span_id", "")),
        logger=text(given.get("logger", "")),
    )
    if "latency_ms" in given:
        message.latency_ms = given["latency_ms"]
    write_attributes(attributes(given.get("attributes", [])), message.attributes)
    return message


def account(given: Any) -> Any:
    dropped = [wire.DropCount(reason=name, count=count) for name, count in given["dropped"].items()]
    counts = {name: given[name] for name in ("emitted", "rejected", "queued", "spooled")}
    return wire.Account(dropped=dropped, **counts)


def resource(given: Any) -> Any:
    message = wire.Resource(**{name: value for name, value in given.items() if name != "attributes"})
    write_attributes(attributes(given.get("attributes", [])), message.attributes)
    return message


def request(batch: Any) -> Any:
    """The IngestRequest with a batch of a vector."""
    producer = batch["producer"]
    message = wire.IngestRequest()
    message.batch.batch_id = bytes.fromhex(batch["batch_id"])
    message.batch.producer.producer_id = bytes.fromhex(producer["producer_id"])
    message.batch.producer.sequence = producer["sequence"]
    message.batch.producer.account.CopyFrom(account(producer["account"]))
    message.batch.producer.sdk_name = producer["sdk_name"]
    message.batch.producer.sdk_version = producer["sdk_version"]
    message.batch.resource.CopyFrom(resource(batch["resource"]))
    message.batch.records.extend(map(log, batch["records"]))
    return message
