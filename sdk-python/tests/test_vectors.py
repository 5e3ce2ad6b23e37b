"""The cases that all client libraries run, but for those that need a server (`test_accounts.py`)."""

from __future__ import annotations

from typing import Any

import pytest
import vectors

from logweir import wire
from logweir.config import ProcessContext, environment_of, resolve
from logweir.delivery import batch as batches
from logweir.delivery import spool_frame, spool_owner
from logweir.delivery.batch import Batcher, EncodedBatch
from logweir.delivery.compression import GZIP, ZSTD
from logweir.delivery.queue import Queue, QueueBounds
from logweir.delivery.retry import Code, EndpointPool, History, Next, Refusal, RetryPolicy, Ticket, Wait
from logweir.errors import ConfigError, TokenError
from logweir.record.record import Level, Record, write
from logweir.record.redaction import REDACT_KEYS, Redactor
from logweir.record.sampling import Sampler
from logweir.record.trace import TraceContext

BATCHES = vectors.load("batches")
DROPS = vectors.load("drops")["cases"]
ENVIRONMENT = vectors.load("environment")["cases"]
FILTERS = vectors.load("filters")
LIMITS = vectors.load("limits")["cases"]
RESPONSES = vectors.load("responses")["cases"]
SPOOL = vectors.load("spool")
TRACE = vectors.load("trace")


@pytest.mark.parametrize("case", LIMITS, ids=vectors.names(LIMITS))
def test_limits(case: Any) -> None:
    records = wire.Batch().records
    written = write(vectors.record(case["record"]), records, now_unix_nano=0)
    # Compared as text, in which NaN is itself.
    assert str(written) == str(vectors.log(case["expected"]))


@pytest.mark.parametrize("case", DROPS, ids=vectors.names(DROPS))
def test_drops(case: Any) -> None:
    queue = Queue(QueueBounds(**case["bounds"]))
    number = 0
    for push in case["push"]:
        for _ in range(push.get("times", 1)):
            queue.push(Record(Level[push["level"]], 0, str(number)), push.get("bytes", 1), 0.0)
            number += 1
    kept: list[int] = []
    queue.take(number, lambda record: kept.append(int(record.message)) or True)  # type: ignore[func-returns-value]
    assert kept == case["kept"]
    assert queue.dropped["queue_overflow"] == case["dropped"]
    assert queue.emitted == number


@pytest.mark.parametrize("case", FILTERS["redaction"], ids=vectors.names(FILTERS["redaction"]))
def test_redaction(case: Any) -> None:
    redactor = Redactor(case.get("redact_keys", REDACT_KEYS))
    found = redactor.redact(tuple(vectors.attributes(case["attributes"])))
    expected = tuple(vectors.attributes(case["expected"]))
    assert [(key, type(value), value) for key, value in found] == [
        (key, type(value), value) for key, value in expected
    ]


@pytest.mark.parametrize("case", FILTERS["sampling"], ids=vectors.names(FILTERS["sampling"]))
def test_sampling(case: Any) -> None:
    sampler = Sampler(case["sample_rates"])
    draws = case["draws"]
    kept = [[level, draw, sampler.keeps(Level[level], draw)] for level, draw, _ in draws]
    assert kept == draws


@pytest.mark.parametrize("case", BATCHES["batch_ids"])
def test_batch_ids(case: Any) -> None:
    found = batches.batch_id(int(case["now_unix_nano"]), bytes.fromhex(case["random"]))
    assert found.hex() == case["batch_id"]


@pytest.mark.parametrize("case", BATCHES["derived"])
def test_derived_ids(case: Any) -> None:
    origin = bytes.fromhex(case["batch_id"])
    found = {
        "batch_id": origin.hex(),
        "first_half": batches.derived_batch_id(origin, batches.FIRST_HALF).hex(),
        "second_half": batches.derived_batch_id(origin, batches.SECOND_HALF).hex(),
        "second_producer": batches.derived(origin, batches.SECOND_PRODUCER).hex(),
        "repaired": batches.derived_batch_id(origin, batches.REPAIRED).hex(),
    }
    assert found == case


@pytest.mark.parametrize("case", BATCHES["encoded"], ids=vectors.names(BATCHES["encoded"]))
def test_encoded(case: Any) -> None:
    given = wire.IngestRequest.FromString(bytes.fromhex(case["request"]))
    assert given == vectors.request(case["batch"])
    own = wire.IngestRequest()
    own.CopyFrom(given)
    del own.batch.records[:]
    for record in case["batch"]["records"]:
        write(vectors.record(record), own.batch.records, now_unix_nano=0)
    assert wire.IngestRequest.FromString(own.SerializeToString()) == given


@pytest.mark.parametrize("case", BATCHES["built"], ids=vectors.names(BATCHES["built"]))
def test_built(case: Any) -> None:
    batcher = Batcher(bytes.fromhex(case["producer_id"]), vectors.resource(case["resource"]))
    assert len(case["builds"]) == len(case["expected"])
    for build, expected in zip(case["builds"], case["expected"]):
        request = wire.IngestRequest()
        request.batch.SetInParent()
        for record in build["records"]:
            write(vectors.record(record), request.batch.records, now_unix_nano=0)
        built = batcher.build(
            request,
            vectors.account(build["account"]),
            int(build["now_unix_nano"]),
            bytes.fromhex(build["random"]),
        ).decode()
        wanted = vectors.request(expected)
        for message in (built, wanted):
            message.batch.producer.ClearField("sdk_name")
            message.batch.producer.ClearField("sdk_version")
        assert built == wanted


def encoded(batch: Any) -> EncodedBatch:
    return batches.encoded(vectors.request(batch), 1_700_000_000_000_000_000)


@pytest.mark.parametrize("case", BATCHES["splits"], ids=vectors.names(BATCHES["splits"]))
def test_splits(case: Any) -> None:
    halves = batches.halves(encoded(case["whole"]))
    if case["halves"] is None:
        assert halves is None
    else:
        assert halves is not None
        assert [half.decode() for half in halves] == list(map(vectors.request, case["halves"]))


@pytest.mark.parametrize("case", BATCHES["repairs"], ids=vectors.names(BATCHES["repairs"]))
def test_repairs(case: Any) -> None:
    rest = batches.without(encoded(case["whole"]), case["positions"], case["reason"])
    assert rest is not None
    assert rest.decode() == vectors.request(case["repaired"])


# Sums of seconds are not exact where those of milliseconds are.
ROUNDING = 1e-9


@pytest.mark.parametrize("case", RESPONSES, ids=vectors.names(RESPONSES))
def test_responses(case: Any) -> None:
    pool = EndpointPool(RetryPolicy(), case["endpoints"])
    tickets: dict[str, Ticket] = {}
    of_all = History()
    for step in case["steps"]:
        now = step["at_ms"] / 1e3
        if "start" in step:
            ticket = pool.start(now + ROUNDING)
            assert isinstance(ticket, Ticket), step
            assert ticket.endpoint == step.get("endpoint", ticket.endpoint), step
            tickets[step["start"]] = ticket
        elif "refuse" in step:
            ticket = tickets[step["refuse"]]
            history = of_all if case.get("batch") == "one" else History()
            following = pool.refused(ticket, refusal(step["answer"]), history, now, step["random"])
            pool.finish(ticket)
            found = following.value if isinstance(following, Next) else following
            assert found == step["next"], step
        elif "succeed" in step:
            pool.succeeded(tickets[step["succeed"]])
            pool.finish(tickets[step["succeed"]])
        elif "abandon" in step:
            pool.finish(tickets[step["abandon"]])
        else:
            check_wait(pool.start(now), now, step["wait_ms"])


def refusal(answer: Any) -> Refusal:
    delay = answer.get("retry_delay_ms")
    return Refusal(
        Code[answer["code"]],
        is_transport=answer.get("is_transport", False),
        retry_delay=None if delay is None else delay / 1e3,
        reason=answer.get("reason", ""),
    )


def check_wait(found: Any, now: float, wait_ms: Any) -> None:
    assert isinstance(found, Wait)
    if wait_ms is None:
        assert found.until is None
    else:
        assert found.until is not None
        assert found.until - now == pytest.approx(wait_ms / 1e3)


FIELDS = (
    ("service", lambda config: config.resource.service),
    ("host", lambda config: config.resource.host),
    ("instance", lambda config: config.resource.instance),
    ("environment", lambda config: config.resource.environment),
    ("version", lambda config: config.resource.version),
    ("region", lambda config: config.resource.region),
    ("attributes", lambda config: dict(config.resource.attributes)),
    ("endpoint", lambda config: list(config.endpoints)),
    ("token", lambda config: token_of(config)),
    ("queue_records", lambda config: config.queue.records_max),
    ("queue_bytes", lambda config: config.queue.bytes_max),
    ("drop_policy", lambda config: config.queue.policy),
    ("batch_records", lambda config: config.batch_records),
    ("batch_bytes", lambda config: config.batch_bytes),
    ("batch_delay_ms", lambda config: config.batch_delay * 1e3),
    ("in_flight", lambda config: config.in_flight),
    ("memory_age_max_ms", lambda config: config.memory_age_max * 1e3),
    ("attempt_timeout_ms", lambda config: config.attempt_timeout * 1e3),
    ("compression", lambda config: config.compression),
    ("spool_directory", lambda config: config.spool and config.spool.directory),
    ("sample_rates", lambda config: dict(config.sample_rates)),
    ("redact_keys", lambda config: list(config.redact_keys)),
    ("is_disabled", lambda config: config.is_disabled),
)


def token_of(config: Any) -> Any:
    try:
        return config.token.read()
    except TokenError:
        return None


@pytest.mark.parametrize("case", ENVIRONMENT, ids=vectors.names(ENVIRONMENT))
def test_environment(case: Any) -> None:
    files = case.get("files", {})
    notices: list[str] = []

    def read_text(path: str) -> str:
        if path not in files:
            raise FileNotFoundError(2, "No such file or directory", path)
        return str(files[path])

    context = ProcessContext(environment_of(case["environment"]), read_text, "h", 17)
    code = {**case["code"], "on_notice": notices.append}
    if "fails" in case:
        with pytest.raises(ConfigError) as failure:
            resolve(code, context)
        assert failure.value.setting == case["fails"]
        return
    config = resolve(code, context)
    for name, read in FIELDS:
        if name in case["expected"]:
            found, expected = read(config), case["expected"][name]
            allowed = (GZIP, ZSTD) if expected == "compressed" else (expected,)
            assert found in allowed, name
    assert set(case["expected"]) <= {name for name, _ in FIELDS}
    assert len(notices) == case["notices"], notices


SALT = spool_frame.salt(SPOOL["folder"])


def test_spool_salt() -> None:
    assert SPOOL["salt"] == SALT


@pytest.mark.parametrize("case", SPOOL["frames"])
def test_spool_frames(case: Any) -> None:
    batch = EncodedBatch(
        bytes.fromhex(case["batch_id"]),
        bytes.fromhex(case["producer_id"]),
        case["sequence"],
        case["record_count"],
        int(case["created_unix_nano"]),
        bytes.fromhex(case["request"]),
    )
    frame = bytes.fromhex(case["frame"])
    assert spool_frame.encode(SALT, batch).hex() == case["frame"]
    assert spool_frame.decode(SALT, frame) == (batch, len(frame))


@pytest.mark.parametrize("case", SPOOL["scans"], ids=vectors.names(SPOOL["scans"]))
def test_spool_scans(case: Any) -> None:
    found = spool_frame.scan(SALT, bytes.fromhex(case["data"]))
    assert [[offset, batch.sequence] for offset, _, batch in found.frames] == case["found"]
    assert found.damaged_runs == case["damaged_runs"]


@pytest.mark.parametrize("case", SPOOL["marks"])
def test_spool_marks(case: Any) -> None:
    assert spool_frame.encode_mark(SALT, int(case["offset"])).hex() == case["mark"]


@pytest.mark.parametrize("case", SPOOL["mark_files"], ids=vectors.names(SPOOL["mark_files"]))
def test_spool_mark_files(case: Any) -> None:
    found = spool_frame.decode_marks(SALT, bytes.fromhex(case["data"]))
    assert list(map(str, found)) == case["offsets"]


@pytest.mark.parametrize("case", SPOOL["owners"], ids=vectors.names(SPOOL["owners"]))
def test_spool_owners(case: Any) -> None:
    owner = None if case["owner"] is None else spool_owner.parse(case["owner"])
    processes = case["processes"]
    found = spool_owner.is_dead(
        owner, case["age_s"], case["namespace"], lambda pid: processes.get(str(pid), "")
    )
    assert found == case["is_dead"]


@pytest.mark.parametrize("case", TRACE["parse"], ids=[case["header"] for case in TRACE["parse"]])
def test_trace_parse(case: Any) -> None:
    context = TraceContext.parse(case["header"])
    if case["trace_id"] is None:
        assert context is None
    else:
        assert context is not None
        assert context.trace_id.hex() == case["trace_id"]
        assert context.span_id.hex() == case["span_id"]
        assert context.flags == case["flags"]


@pytest.mark.parametrize("case", TRACE["child"])
def test_trace_child(case: Any) -> None:
    context = TraceContext.parse(case["header"])
    assert context is not None
    assert context.child(bytes.fromhex(case["random"])).header == case["child"]


@pytest.mark.parametrize("case", TRACE["new"])
def test_trace_new(case: Any) -> None:
    assert TraceContext.new(bytes.fromhex(case["random"])).header == case["header"]
