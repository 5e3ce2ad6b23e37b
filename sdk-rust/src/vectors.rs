//! The cases of `proto/vectors`, against this library's own code. `accounts.json` runs against a
//! server, in `tests/accounts.rs`.

use std::{
    collections::HashMap,
    io,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use logweir_proto::v1::{self, Attribute, Level, LogRecord, attribute::Value as WireValue};
use prost::Message;
use serde_json::Value;
use tonic::Code;

use crate::{
    Client, ClientBuilder, DropPolicy, DropReason, RetryPolicy, TraceContext,
    delivery::{
        batch::{self, Batcher, EncodedBatch, Part},
        queue::{Queue, QueueBounds, Queued, Room},
        retry::{EndpointPool, History, Next, Refusal, Start, Ticket},
        spool::{frame, owner},
    },
    error::ConfigError,
    lock::Mutex,
    platform::{self, ProcessContext},
    record::{self, redaction::Redaction, sampling::SampleRates},
};

fn file(name: &str) -> Value {
    let path = format!("{}/../proto/vectors/{name}.json", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().unwrap()
}

fn string(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

/// A whole number, which a text may stand for.
fn number<T: TryFrom<i128>>(value: &Value) -> T {
    let number: i128 = match value {
        Value::String(text) => text.parse().unwrap(),
        other => other.to_string().parse().unwrap(),
    };
    T::try_from(number).unwrap_or_else(|_| panic!("{number} is out of range"))
}

fn bytes(value: &Value) -> Vec<u8> {
    hex::decode(value.as_str().unwrap()).unwrap()
}

fn array<const SIZE: usize>(value: &Value) -> [u8; SIZE] {
    bytes(value).try_into().unwrap()
}

fn double(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| value.as_str().unwrap().parse().unwrap())
}

/// What is absent is empty.
fn or_default<T: Default>(value: &Value, read: impl Fn(&Value) -> T) -> T {
    if value.is_null() { T::default() } else { read(value) }
}

/// A string, or a repeated one.
fn text(value: &Value) -> String {
    if value.is_object() {
        return string(&value["repeat"]).repeat(number(&value["times"]));
    }
    string(value)
}

fn level(value: &Value) -> i32 {
    match value {
        Value::String(name) => Level::from_str_name(&format!("LEVEL_{name}")).unwrap().into(),
        other => number(other),
    }
}

fn attributes(value: &Value) -> Vec<Attribute> {
    let entry = |entry: &Value| -> Vec<Attribute> {
        if entry["numbered"].is_u64() {
            let named = |n: i64| record::attribute(format!("k{n}"), n.into());
            return (0..number(&entry["numbered"])).map(named).collect();
        }
        let (kind, given) =
            entry.as_object().unwrap().iter().find(|(name, _)| *name != "key").unwrap();
        let value = match kind.as_str() {
            "string" => WireValue::StringValue(text(given)),
            "int" => WireValue::IntValue(number(given)),
            "double" => WireValue::DoubleValue(double(given)),
            "bool" => WireValue::BoolValue(given.as_bool().unwrap()),
            "json" => WireValue::JsonValue(text(given)),
            other => panic!("{other}"),
        };
        vec![Attribute { key: text(&entry["key"]), value: Some(value) }]
    };
    list(value).iter().flat_map(entry).collect()
}

fn log_record(value: &Value) -> LogRecord {
    LogRecord {
        time_unix_nano: or_default(&value["time_unix_nano"], number),
        level: or_default(&value["level"], level),
        severity_number: or_default(&value["severity_number"], number),
        message: or_default(&value["message"], text),
        latency_ms: or_default(&value["latency_ms"], |latency| Some(double(latency))),
        trace_id: or_default(&value["trace_id"], bytes),
        span_id: or_default(&value["span_id"], bytes),
        logger: or_default(&value["logger"], text),
        attributes: or_default(&value["attributes"], attributes),
    }
}

fn account(value: &Value) -> v1::Account {
    let dropped = value["dropped"].as_object().unwrap().iter();
    v1::Account {
        emitted: number(&value["emitted"]),
        dropped: dropped
            .map(|(reason, count)| v1::DropCount { reason: reason.clone(), count: number(count) })
            .collect(),
        rejected: number(&value["rejected"]),
        queued: number(&value["queued"]),
        spooled: number(&value["spooled"]),
    }
}

fn resource(value: &Value) -> v1::Resource {
    v1::Resource {
        service: or_default(&value["service"], string),
        instance: or_default(&value["instance"], string),
        environment: or_default(&value["environment"], string),
        version: or_default(&value["version"], string),
        region: or_default(&value["region"], string),
        host: or_default(&value["host"], string),
        attributes: or_default(&value["attributes"], attributes),
    }
}

fn whole_batch(value: &Value) -> v1::Batch {
    let producer = &value["producer"];
    v1::Batch {
        batch_id: bytes(&value["batch_id"]),
        producer: Some(v1::Producer {
            producer_id: bytes(&producer["producer_id"]),
            sequence: number(&producer["sequence"]),
            account: Some(account(&producer["account"])),
            sdk_name: string(&producer["sdk_name"]),
            sdk_version: string(&producer["sdk_version"]),
        }),
        resource: Some(resource(&value["resource"])),
        records: list(&value["records"]).iter().map(log_record).collect(),
    }
}

/// In the order of their names, as maps in JSON have none.
fn sorted(mut batch: v1::Batch) -> v1::Batch {
    let account = batch.producer.as_mut().and_then(|producer| producer.account.as_mut());
    account.unwrap().dropped.sort_by(|one, other| one.reason.cmp(&other.reason));
    batch
}

fn code(value: &Value) -> Code {
    let names = "OK CANCELLED UNKNOWN INVALID_ARGUMENT DEADLINE_EXCEEDED NOT_FOUND ALREADY_EXISTS \
                 PERMISSION_DENIED RESOURCE_EXHAUSTED FAILED_PRECONDITION ABORTED OUT_OF_RANGE \
                 UNIMPLEMENTED INTERNAL UNAVAILABLE DATA_LOSS UNAUTHENTICATED";
    let position = names.split_whitespace().position(|name| name == value.as_str().unwrap());
    Code::from_i32(i32::try_from(position.unwrap()).unwrap())
}

fn drop_reason(name: &str) -> DropReason {
    DropReason::ALL.into_iter().find(|reason| reason.as_str() == name).unwrap()
}

#[test]
fn limits() {
    for case in list(&file("limits")["cases"]) {
        let mut record = log_record(&case["record"]);
        record::fit(&mut record);
        // As text, since NaN is not equal to itself.
        let expected = log_record(&case["expected"]);
        assert_eq!(format!("{record:?}"), format!("{expected:?}"), "{}", case["name"]);
    }
}

#[test]
fn redaction() {
    for case in list(&file("filters")["redaction"]) {
        let names = or_default(&case["redact_keys"], |names| {
            Some(Redaction::of(&list(names).iter().map(string).collect::<Vec<_>>()))
        });
        let mut given = attributes(&case["attributes"]);
        names.unwrap_or_default().apply(&mut given);
        assert_eq!(given, attributes(&case["expected"]), "{}", case["name"]);
    }
}

#[test]
fn sampling() {
    for case in list(&file("filters")["sampling"]) {
        let mut rates = SampleRates::default();
        for (name, rate) in case["sample_rates"].as_object().unwrap() {
            let level = Level::try_from(level(&Value::from(name.as_str()))).unwrap();
            rates.set(level, double(rate)).unwrap();
        }
        for draw in list(&case["draws"]) {
            let keeps = rates.keeps(level(&draw[0]), || double(&draw[1]));
            assert_eq!(keeps, draw[2].as_bool().unwrap(), "{} {draw}", case["name"]);
        }
    }
}

#[test]
fn trace_contexts() {
    let cases = file("trace");
    for case in list(&cases["parse"]) {
        let parsed = TraceContext::parse(case["header"].as_str().unwrap());
        let expected = or_default(&case["trace_id"], |trace_id| {
            let (trace_id, span_id) = (array(trace_id), array(&case["span_id"]));
            Some(TraceContext { trace_id, span_id, flags: number(&case["flags"]) })
        });
        assert_eq!(parsed, expected, "{}", case["header"]);
    }
    for case in list(&cases["child"]) {
        let caller = TraceContext::parse(case["header"].as_str().unwrap()).unwrap();
        assert_eq!(caller.child_with(array(&case["random"])).to_string(), string(&case["child"]));
    }
    for case in list(&cases["new"]) {
        let random: [u8; 24] = array(&case["random"]);
        let (trace_id, span_id) = random.split_at(16);
        let begun = TraceContext::begun(trace_id.try_into().unwrap(), span_id.try_into().unwrap());
        assert_eq!(begun.to_string(), string(&case["header"]));
    }
}

#[test]
fn batch_ids() {
    let cases = file("batches");
    for case in list(&cases["batch_ids"]) {
        let id = batch::batch_id(number(&case["now_unix_nano"]), &array(&case["random"]));
        assert_eq!(id, array(&case["batch_id"]));
    }
    for case in list(&cases["derived"]) {
        let id = array(&case["batch_id"]);
        let found = [
            batch::derived_batch_id(id, Part::FirstHalf),
            batch::derived_batch_id(id, Part::SecondHalf),
            batch::derived(id, Part::SecondProducer),
            batch::derived_batch_id(id, Part::Repaired),
        ];
        let names = ["first_half", "second_half", "second_producer", "repaired"];
        assert_eq!(found, names.map(|name| array(&case[name])), "{}", case["batch_id"]);
    }
}

#[test]
fn encoding() {
    for case in list(&file("batches")["encoded"]) {
        let expected = whole_batch(&case["batch"]);
        let request = v1::IngestRequest::decode(&bytes(&case["request"])[..]).unwrap();
        assert_eq!(sorted(request.batch.unwrap()), sorted(expected.clone()), "{}", case["name"]);
        let encoded = EncodedBatch::new(expected.clone(), 0);
        assert_eq!(encoded.decode(), Some(expected), "{}", case["name"]);
    }
}

#[test]
fn built_batches() {
    for case in list(&file("batches")["built"]) {
        let mut batcher = Batcher::new(array(&case["producer_id"]), resource(&case["resource"]));
        for (build, expected) in list(&case["builds"]).iter().zip(list(&case["expected"])) {
            let records = list(&build["records"]).iter().map(log_record).collect();
            let (now, random) = (number(&build["now_unix_nano"]), array(&build["random"]));
            let built = batcher.build(records, account(&build["account"]), now, &random);
            let mut expected = whole_batch(expected);
            let producer = expected.producer.as_mut().unwrap();
            producer.sdk_name = batch::SDK_NAME.into();
            producer.sdk_version = batch::SDK_VERSION.into();
            assert_eq!(built.decode(), Some(expected), "{}", case["name"]);
        }
    }
}

#[test]
fn splits_and_repairs() {
    let cases = file("batches");
    let decoded = |batch: EncodedBatch| sorted(batch.decode().unwrap());
    for case in list(&cases["splits"]) {
        let whole = EncodedBatch::new(whole_batch(&case["whole"]), 7);
        let halves = batch::halves(&whole).map(|halves| halves.map(decoded).to_vec());
        let expected = or_default(&case["halves"], |halves| {
            Some(list(halves).iter().map(|half| sorted(whole_batch(half))).collect())
        });
        assert_eq!(halves, expected, "{}", case["name"]);
    }
    for case in list(&cases["repairs"]) {
        let whole = EncodedBatch::new(whole_batch(&case["whole"]), 7);
        let positions: Vec<u32> = list(&case["positions"]).iter().map(number).collect();
        let reason = drop_reason(case["reason"].as_str().unwrap());
        let repaired = batch::without(&whole, &positions, reason).map(decoded);
        let expected = Some(sorted(whole_batch(&case["repaired"])));
        assert_eq!(repaired, expected, "{}", case["name"]);
    }
}

#[test]
fn drops() {
    for case in list(&file("drops")["cases"]) {
        let bounds = &case["bounds"];
        let mut queue = Queue::new(QueueBounds {
            records_max: number(&bounds["records_max"]),
            bytes_max: number(&bounds["bytes_max"]),
            wake_records: usize::MAX,
            wake_bytes: usize::MAX,
            urgent: Level::Fatal,
            policy: DropPolicy::named(bounds["policy"].as_str().unwrap()).unwrap(),
        });
        let pushes = list(&case["push"]).iter().flat_map(|push| {
            let times = or_default(&push["times"], |times| Some(number(times)));
            std::iter::repeat_n(push, times.unwrap_or(1))
        });
        for (position, push) in pushes.enumerate() {
            let record = LogRecord {
                level: level(&push["level"]),
                message: position.to_string(),
                ..LogRecord::default()
            };
            let memory_bytes = or_default(&push["bytes"], |bytes| Some(number(bytes))).unwrap_or(1);
            let at = platform::now();
            let queued = Queued { record, at, memory_bytes, wire_bytes: memory_bytes, position: 0 };
            drop(queue.push(Box::new(queued), DropReason::QueueOverflow));
        }
        let (mut room, mut kept) = (Room { records: usize::MAX, bytes: usize::MAX }, Vec::new());
        while queue.take(&mut room, 3, &mut kept) {}
        let kept: Vec<String> = kept.into_iter().map(|record| record.message).collect();
        let expected: Vec<String> = list(&case["kept"]).iter().map(Value::to_string).collect();
        assert_eq!(kept, expected, "{}", case["name"]);
        assert_eq!(queue.dropped().total(), number::<u64>(&case["dropped"]), "{}", case["name"]);
    }
}

/// A pool of endpoints on a clock of its own.
struct Scene {
    pool: EndpointPool,
    start: Instant,
    tickets: HashMap<String, Ticket>,
    histories: HashMap<String, History>,
    is_one_batch: bool,
}

impl Scene {
    fn new(case: &Value) -> Self {
        let policy = RetryPolicy { hold_on_refused_token: true, ..RetryPolicy::default() };
        Self {
            pool: EndpointPool::new(policy, number(&case["endpoints"])),
            start: platform::now(),
            tickets: HashMap::new(),
            histories: HashMap::new(),
            is_one_batch: case["batch"] == "one",
        }
    }

    fn step(&mut self, step: &Value) {
        let now = self.start + Duration::from_millis(number(&step["at_ms"]));
        let fields = step.as_object().unwrap();
        if let Some(name) = fields.get("start") {
            let Start::Now(ticket) = self.pool.start(now) else { panic!("must wait: {step}") };
            if let Some(endpoint) = fields.get("endpoint") {
                assert_eq!(ticket.endpoint, number::<usize>(endpoint), "{step}");
            }
            self.tickets.insert(string(name), ticket);
        } else if let Some(wait) = fields.get("wait_ms") {
            let Start::Wait(until) = self.pool.start(now) else { panic!("need not wait: {step}") };
            let wait = or_default(wait, |wait| Some(Duration::from_millis(number(wait))));
            assert_eq!(until.map(|until| until - now), wait, "{step}");
        } else if let Some(name) = fields.get("refuse") {
            self.refuse(name.as_str().unwrap(), step, now);
        } else if let Some(name) = fields.get("succeed") {
            let ticket = self.tickets[name.as_str().unwrap()];
            self.pool.succeeded(ticket);
            self.pool.finish(ticket);
        } else {
            self.pool.finish(self.tickets[step["abandon"].as_str().unwrap()]);
        }
    }

    fn refuse(&mut self, name: &str, step: &Value, now: Instant) {
        let answer = &step["answer"];
        let refusal = Refusal {
            code: code(&answer["code"]),
            is_transport: answer["is_transport"] == true,
            retry_delay: or_default(&answer["retry_delay_ms"], |delay| {
                Some(Duration::from_millis(number(delay)))
            }),
            reason: or_default(&answer["reason"], string),
            bad_records: Vec::new(),
            message: String::new(),
        };
        let batch = if self.is_one_batch { "one" } else { name };
        let history = self.histories.entry(batch.to_owned()).or_default();
        let (ticket, random) = (self.tickets[name], double(&step["random"]));
        let next = self.pool.refused(ticket, &refusal, history, now, random);
        self.pool.finish(ticket);
        let expected = match step["next"].as_str().unwrap() {
            "again" => Next::Again,
            "read_token" => Next::ReadToken,
            "split" => Next::Split,
            reason => Next::GiveUp(drop_reason(reason)),
        };
        assert_eq!(next, expected, "{step}");
    }
}

#[test]
fn responses() {
    for case in list(&file("responses")["cases"]) {
        let mut scene = Scene::new(case);
        for step in list(&case["steps"]) {
            scene.step(step);
        }
    }
}

/// What a case's environment and files are.
fn surroundings(case: &Value) -> ProcessContext {
    let texts = |value: &Value| -> HashMap<String, String> {
        let entries = value.as_object().into_iter().flatten();
        entries.map(|(name, value)| (name.clone(), string(value))).collect()
    };
    let (variables, files) = (texts(&case["environment"]), texts(&case["files"]));
    ProcessContext {
        variable: Arc::new(move |name| variables.get(name).filter(|v| !v.is_empty()).cloned()),
        file: Arc::new(move |path: &Path| {
            files.get(path.to_str().unwrap()).cloned().ok_or(io::ErrorKind::NotFound.into())
        }),
        host: "h".into(),
        process_id: 17,
    }
}

fn builder(code: &Value) -> ClientBuilder {
    let settings = code.as_object().unwrap().iter();
    settings.fold(Client::builder(), |builder, (name, value)| match name.as_str() {
        "service" => builder.service(string(value)),
        "version" => builder.version(string(value)),
        "endpoint" => builder.endpoint(string(value)),
        "token" => builder.token(string(value)),
        "queue_records" => builder.queue_records(number(value)),
        "batch_records" => builder.batch_records(number(value)),
        "batch_bytes" => builder.batch_bytes(number(value)),
        "in_flight" => builder.in_flight(number(value)),
        "resource_detection" => builder.resource_detection(value.as_bool().unwrap()),
        "attributes" => {
            value.as_object().unwrap().iter().fold(builder, |builder, entry| match entry {
                (key, Value::String(text)) => builder.attribute(key, text.as_str()),
                (key, number_given) => builder.attribute(key, number::<i64>(number_given)),
            })
        }
        other => panic!("{other}"),
    })
}

/// The settings as the vectors name them.
fn settings(config: &crate::config::Config) -> Value {
    let resource = &config.resource;
    let attributes = resource.attributes.iter().map(|attribute| {
        let value = match attribute.value.clone().unwrap() {
            WireValue::StringValue(text) => Value::from(text),
            WireValue::IntValue(number) => Value::from(number),
            other => panic!("{other:?}"),
        };
        (attribute.key.clone(), value)
    });
    let endpoint: Vec<String> = config.endpoints.split(',').map(ToOwned::to_owned).collect();
    let rate = |level: i32| {
        let mut most = 1.0_f64;
        // The rate is the least draw that keeps nothing.
        let mut least = 0.0_f64;
        for _ in 0..60 {
            let middle = f64::midpoint(least, most);
            if config.sample_rates.keeps(level, || middle) { least = middle } else { most = middle }
        }
        (most * 1e9).round() / 1e9
    };
    let rates = (1..=6).map(|level| {
        let name = Level::try_from(level).unwrap().as_str_name();
        (name.trim_start_matches("LEVEL_").to_owned(), rate(level))
    });
    let rates: serde_json::Map<_, _> =
        rates.filter(|(_, rate)| *rate < 1.0).map(|(name, rate)| (name, rate.into())).collect();
    let compression = match config.send.compression.encoding(&endpoint) {
        None => "none",
        Some(tonic::codec::CompressionEncoding::Gzip) => "gzip",
        Some(_) => "compressed",
    };
    let policy = match config.queue.policy {
        DropPolicy::SeverityAware => "severity_aware",
        DropPolicy::Newest => "newest",
        DropPolicy::Oldest => "oldest",
    };
    serde_json::json!({
        "endpoint": endpoint,
        "token": config.token.text().unwrap(),
        "service": resource.service,
        "host": resource.host,
        "instance": resource.instance,
        "environment": resource.environment,
        "version": resource.version,
        "region": resource.region,
        "attributes": attributes.collect::<serde_json::Map<_, _>>(),
        "queue_records": config.queue.records_max,
        "queue_bytes": config.queue.bytes_max,
        "batch_records": config.batch_records,
        "batch_bytes": config.batch_bytes,
        "batch_delay_ms": config.batch_delay.as_millis() as u64,
        "drop_policy": policy,
        "in_flight": config.in_flight,
        "memory_age_max_ms": config.memory_age_max.as_millis() as u64,
        "attempt_timeout_ms": config.send.attempt_timeout.as_millis() as u64,
        "compression": compression,
        "spool_directory": config.spool.as_ref().map(|spool| spool.directory.to_str().unwrap()),
        "sample_rates": rates,
        "redact_keys": config.redaction.0,
        "is_disabled": config.is_disabled,
    })
}

#[test]
fn environment() {
    for case in list(&file("environment")["cases"]) {
        let notices: Arc<Mutex<Vec<String>>> = Arc::default();
        let sink = Arc::clone(&notices);
        let builder = builder(&case["code"]).on_notice(move |text| sink.lock().push(text.into()));
        let resolved = builder.resolve(&surroundings(case));
        let config = match (resolved, case["fails"].as_str()) {
            (Ok(config), None) => config,
            (Err(error), Some(setting)) => {
                let is_right = match error {
                    ConfigError::Endpoint(_) => setting == "endpoint",
                    ConfigError::Token => setting == "token",
                    ConfigError::Service(_) => setting == "service",
                    _ => false,
                };
                assert!(is_right, "{}: {error}", case["name"]);
                continue;
            }
            (resolved, _) => panic!("{}: {:?}", case["name"], resolved.err()),
        };
        let found = settings(&config);
        for (name, expected) in case["expected"].as_object().unwrap() {
            let is_same = match (&found[name], expected) {
                // 0 and 0.0 are the same rate.
                (Value::Object(found), Value::Object(expected)) if name == "sample_rates" => {
                    let rates = |map: &serde_json::Map<String, Value>| -> Vec<(String, f64)> {
                        map.iter().map(|(level, rate)| (level.clone(), double(rate))).collect()
                    };
                    rates(found) == rates(expected)
                }
                (found, expected) => found == expected,
            };
            assert!(is_same, "{}: {name} is {}, not {expected}", case["name"], found[name]);
        }
        assert_eq!(notices.lock().len(), number::<usize>(&case["notices"]), "{}", case["name"]);
    }
}

#[test]
fn spool_frames_and_marks() {
    let cases = file("spool");
    let salt = frame::salt(cases["folder"].as_str().unwrap());
    assert_eq!(salt, number::<u32>(&cases["salt"]));
    for case in list(&cases["frames"]) {
        let batch = EncodedBatch {
            batch_id: array(&case["batch_id"]),
            producer_id: array(&case["producer_id"]),
            sequence: number(&case["sequence"]),
            record_count: number(&case["record_count"]),
            created_unix_nano: number(&case["created_unix_nano"]),
            request: bytes(&case["request"]).into(),
        };
        let expected = bytes(&case["frame"]);
        assert_eq!(frame::encode(salt, &batch), expected);
        assert_eq!(frame::decode(salt, &expected), Some((batch, expected.len())));
    }
    for case in list(&cases["scans"]) {
        let scan = frame::scan(salt, &bytes(&case["data"]));
        let found: Vec<Value> = scan
            .frames
            .iter()
            .map(|(offset, _, batch)| serde_json::json!([offset, batch.sequence]))
            .collect();
        assert_eq!(found, list(&case["found"]), "{}", case["name"]);
        assert_eq!(scan.damaged_runs, number::<u32>(&case["damaged_runs"]), "{}", case["name"]);
    }
    for case in list(&cases["marks"]) {
        let mark = frame::encode_mark(salt, number(&case["offset"]));
        assert_eq!(mark.to_vec(), bytes(&case["mark"]));
    }
    for case in list(&cases["mark_files"]) {
        let data = bytes(&case["data"]);
        let offsets: Vec<u64> = frame::decode_marks(salt, &data).collect();
        let expected: Vec<u64> = list(&case["offsets"]).iter().map(number).collect();
        assert_eq!(offsets, expected, "{}", case["name"]);
    }
}

#[test]
fn spool_owners() {
    for case in list(&file("spool")["owners"]) {
        let parsed = case["owner"].as_str().and_then(owner::Owner::parse);
        let age = Duration::from_secs(number(&case["age_s"]));
        let start_of =
            |process_id: u32| Ok(case["processes"].get(process_id.to_string()).map(string));
        let namespace = case["namespace"].as_str().unwrap();
        let is_dead = owner::is_dead(parsed.as_ref(), age, namespace, start_of);
        assert_eq!(is_dead, case["is_dead"].as_bool().unwrap(), "{}", case["name"]);
    }
}
