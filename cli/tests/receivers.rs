//! The receivers beside OTLP against the real binary: logs as JSON, Loki's push and Elasticsearch's bulk
//! requests. What each answers, fault by fault, and that no log is lost or doubled while the server dies;
//! seed as in `faults.rs`.

mod support;

use std::{
    collections::HashMap,
    io::Write as _,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use logweir_proto::v1::{ExportLogsRequest, query_service_client::QueryServiceClient};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde_json::{Value, json};
use support::{
    Process, client,
    http::{Answer, send},
    oracle::{Form, form},
    succeeded, token,
};
use tonic::{Request, metadata::MetadataValue};

/// Event time of log 0; that of the others is so many nanoseconds later.
const TIME: u64 = 1_700_000_000_000_000_001;

/// A server with a token for any service.
struct Server {
    process: Process,
    token: String,
    data_dir: tempfile::TempDir,
}

impl Server {
    fn start(env: &[(&str, &str)]) -> Self {
        let data_dir = tempfile::tempdir().expect("a folder");
        let token = token(data_dir.path(), "*", "admin");
        let process = Process::standalone_with(data_dir.path(), "127.0.0.1:0", env);
        Self { process, token, data_dir }
    }

    fn post(&self, path: &str, headers: &[(&str, &str)], body: impl AsRef<[u8]>) -> Answer {
        let bearer = format!("Bearer {}", self.token);
        let headers = [&[("Authorization", bearer.as_str())], headers].concat();
        send(self.process.address(), "POST", path, &headers, body.as_ref()).expect("it answers")
    }

    fn search(&self, filter: &[&str]) -> Vec<Value> {
        let args = [&["search", "--json"], filter].concat();
        let found = succeeded(&client(&self.process, &self.token, &args));
        found.lines().map(|line| serde_json::from_str(line).expect("NDJSON")).collect()
    }
}

/// How a request is made of logs by their numbers; what they say is the same in each form.
#[derive(Clone, Copy, Debug)]
enum Receiver {
    Json,
    LokiJson,
    LokiProtobuf,
    Bulk,
}

impl Receiver {
    const ALL: [Self; 4] = [Self::Json, Self::LokiJson, Self::LokiProtobuf, Self::Bulk];

    fn path(self) -> &'static str {
        match self {
            Self::Json => "/api/logs",
            Self::LokiJson | Self::LokiProtobuf => "/loki/api/v1/push",
            Self::Bulk => "/_bulk",
        }
    }

    fn content_type(self) -> (&'static str, &'static str) {
        let media_type = match self {
            Self::Json | Self::LokiJson => "application/json",
            Self::LokiProtobuf => "application/x-protobuf",
            Self::Bulk => "application/x-ndjson",
        };
        ("Content-Type", media_type)
    }

    fn body(self, numbers: std::ops::Range<u64>) -> Vec<u8> {
        let service = format!("{self:?}");
        let document = |number: u64| json!({ "time": (TIME + number).to_string(), "service": service, "message": message(number) });
        match self {
            Self::Json => json!(numbers.map(document).collect::<Vec<_>>()).to_string().into(),
            Self::LokiJson => {
                let values: Vec<Value> = numbers
                    .map(|number| json!([(TIME + number).to_string(), message(number)]))
                    .collect();
                let stream = json!({ "stream": { "service_name": service }, "values": values });
                json!({ "streams": [stream] }).to_string().into()
            }
            Self::LokiProtobuf => {
                let labels = format!("{{service_name=\"{service}\"}}");
                let entries: Vec<u8> = numbers
                    .flat_map(|number| {
                        let time = [
                            varint_field(1, (TIME + number) / 1_000_000_000),
                            varint_field(2, (TIME + number) % 1_000_000_000),
                        ]
                        .concat();
                        field(2, &[field(1, &time), field(2, message(number).as_bytes())].concat())
                    })
                    .collect();
                let push = field(1, &[field(1, labels.as_bytes()), entries].concat());
                snap::raw::Encoder::new().compress_vec(&push).expect("it is small")
            }
            Self::Bulk => numbers
                .map(|number| {
                    format!("{{\"create\":{{\"_index\":\"x\"}}}}\n{}\n", document(number))
                })
                .collect::<String>()
                .into(),
        }
    }

    fn is_taken(self, answer: &Answer) -> bool {
        match self {
            Self::Json => answer.status == 202,
            Self::LokiJson | Self::LokiProtobuf => answer.status == 204,
            Self::Bulk => answer.status == 200 && answer.json()["errors"] == false,
        }
    }
}

fn message(number: u64) -> String {
    format!("log {number} of the test of receivers")
}

fn varint(mut number: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number > 127 {
        bytes.push(number as u8 | 128);
        number >>= 7;
    }
    bytes.push(number as u8);
    bytes
}

/// Fields of protobuf: a number, and bytes.
fn varint_field(tag: u8, number: u64) -> Vec<u8> {
    [vec![tag << 3], varint(number)].concat()
}

fn field(tag: u8, content: &[u8]) -> Vec<u8> {
    [vec![tag << 3 | 2], varint(content.len() as u64), content.to_vec()].concat()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes).expect("memory takes it");
    encoder.finish().expect("memory takes it")
}

#[test]
fn json_is_taken_record_by_record_and_repeats_are_told() {
    let server = Server::start(&[]);
    let one = r#"{"service":"auth","level":"info","message":"User login success"}"#;
    for path in ["/api/logs", "/logs", "/ingest", "/api/ingest", "/api/ingest/"] {
        let answer = server.post(path, &[("Content-Type", "application/json")], one);
        assert_eq!(answer.status, 202, "{path}: {answer:?}");
        assert_eq!(answer.json()["status"], "queued");
    }
    // Without a time two equal ones are two events.
    assert_eq!(server.search(&["service:auth"]).len(), 5);

    let some = "{\"service\":\"shop\",\"msg\":\"a\",\"ts\":\"2026-01-02T03:04:05.001Z\"}\nno\n\
                {\"service\":\"shop\",\"msg\":\"took 12 ms\",\"level\":\"error\",\"ts\":\"2026-01-02T03:04:05.002Z\"}\n";
    for (repeated, encoding, body) in [
        (0, "identity", some.as_bytes().to_vec()),
        (2, "gzip", gzip(some.as_bytes())),
        (2, "zstd", zstd::encode_all(some.as_bytes(), 3).expect("memory")),
    ] {
        let headers = [("Content-Type", "application/x-ndjson"), ("Content-Encoding", encoding)];
        let said = server.post("/api/logs", &headers, body).json();
        assert_eq!((&said["accepted"], &said["repeated"]), (&json!(2), &json!(repeated)), "{said}");
        assert_eq!(said["rejected"], 1);
        assert_eq!(said["rejections"][0]["index"], 1);
    }
    let found = server.search(&["service:shop"]);
    assert_eq!(found.len(), 2);
    assert!(
        found.iter().any(|log| log["latency_ms"] == 12.0 && log["level"] == "ERROR"),
        "{found:?}"
    );
    let nothing = server.post("/api/logs", &[], "[1,2]");
    assert_eq!((nothing.status, &nothing.json()["rejected"]), (400, &json!(2)));
}

#[test]
fn an_idempotency_key_names_one_content() {
    let server = Server::start(&[]);
    let key = [("Idempotency-Key", "\"8e03978e-40d5-43dd-bc93-6894a57f9324\"")];
    let one = r#"{"service":"auth","message":"User login success"}"#;
    for repeated in [0, 1, 1] {
        let said = server.post("/api/logs", &key, one).json();
        assert_eq!((&said["accepted"], &said["repeated"]), (&json!(1), &json!(repeated)), "{said}");
    }
    let other = server.post("/api/logs", &key, r#"[{"service":"auth","message":"Another"}]"#);
    assert_eq!(
        (other.status, other.header("content-type")),
        (422, Some("application/problem+json"))
    );
    assert_eq!(other.json()["reason"], "IDEMPOTENCY_KEY_REUSED");
    assert_eq!(server.search(&["service:auth"]).len(), 1);
    let bad = server.post("/api/logs", &[("Idempotency-Key", "")], one);
    assert_eq!((bad.status, &bad.json()["reason"]), (400, &json!("INVALID_FIELD")));
    assert_eq!(server.process.metric("logweir_storage_dead_letters_total"), 0.0);
}

#[test]
fn loki_and_elasticsearch_answer_as_they_do() {
    let server = Server::start(&[]);
    for receiver in [Receiver::LokiJson, Receiver::LokiProtobuf, Receiver::Bulk] {
        for _ in 0..2 {
            let answer =
                server.post(receiver.path(), &[receiver.content_type()], receiver.body(0..3));
            assert!(receiver.is_taken(&answer), "{receiver:?}: {answer:?}");
        }
        assert_eq!(server.search(&[&format!("service:{receiver:?}")]).len(), 3, "{receiver:?}");
    }
    let long = "x".repeat(70_000);
    let push = json!({ "streams": [{ "stream": { "app": "web" }, "values": [["1700000000000000001", "ok"], ["1700000000000000002", long]] }] });
    let answer =
        server.post("/loki/api/v1/push", &[Receiver::LokiJson.content_type()], push.to_string());
    assert_eq!(answer.status, 400);
    assert!(answer.body.contains("1 lines were rejected and all others stored"), "{answer:?}");
    assert_eq!(server.search(&["service:web"]).len(), 1);

    let bulk = format!(
        "{{\"create\":{{\"_index\":\"app-2026.01.02\",\"_id\":\"7\"}}}}\n{{\"message\":\"ok\"}}\n{{\"index\":{{}}}}\n{{\"message\":\"{long}\"}}\n"
    );
    let said = server.post("/other/_bulk", &[Receiver::Bulk.content_type()], bulk).json();
    assert_eq!(said["errors"], true);
    assert_eq!(said["items"][0]["create"]["status"], 201);
    assert_eq!(
        (&said["items"][1]["index"]["status"], &said["items"][1]["index"]["_index"]),
        (&json!(400), &json!("other"))
    );
    assert_eq!(server.search(&["service:app", "elasticsearch.index=app-2026.01.02"]).len(), 1);
}

#[test]
fn shippers_find_what_they_ask_for_and_may_send_a_token_as_a_password() {
    let server = Server::start(&[]);
    let pair = BASE64.encode(format!("any:{}", server.token));
    for scheme in ["Basic", "ApiKey", "basic"] {
        let header = format!("{scheme} {pair}");
        let answer = send(server.process.address(), "GET", "/", &[("Authorization", &header)], b"");
        let answer = answer.expect("it answers");
        assert_eq!(
            (answer.status, answer.header("x-elastic-product")),
            (200, Some("Elasticsearch"))
        );
        assert_eq!(answer.json()["version"]["build_flavor"], "default");
    }
    let bearer = format!("Bearer {}", server.token);
    for (method, path) in [
        ("HEAD", "/"),
        ("GET", "/_license"),
        ("GET", "/_cluster/health"),
        ("HEAD", "/_index_template/filebeat-8.19.0"),
        ("PUT", "/_index_template/filebeat-8.19.0"),
        ("GET", "/_ilm/policy/filebeat"),
    ] {
        let address = server.process.address();
        let answer =
            send(address, method, path, &[("Authorization", &bearer)], b"").expect("it answers");
        assert_eq!(
            (answer.status, answer.header("x-elastic-product")),
            (200, Some("Elasticsearch")),
            "{path}"
        );
        assert_eq!(
            send(address, method, path, &[], b"").expect("it answers").status,
            401,
            "{path}"
        );
    }
}

#[test]
fn whose_the_logs_are_says_the_token_alone() {
    let server = Server::start(&[]);
    let output = support::logweir()
        .args(["token", "issue", "--service", "*", "--role", "ingest", "--tenant", "other"])
        .arg("--data-dir")
        .arg(server.data_dir.path())
        .output()
        .expect("the binary runs");
    let other = succeeded(&output);
    let bearer = format!("Bearer {}", other.trim());
    for receiver in Receiver::ALL {
        let headers = [
            receiver.content_type(),
            ("Authorization", bearer.as_str()),
            ("X-Scope-OrgID", "default"),
            ("Idempotency-Key", "one"),
        ];
        let path = receiver.path().to_owned() + "?tenant=default";
        let sent = send(server.process.address(), "POST", &path, &headers, &receiver.body(0..3));
        assert!(receiver.is_taken(&sent.expect("it answers")), "{receiver:?}");
        // The other's requests are none of ours, whatever they are called.
        let key = [receiver.content_type(), ("Idempotency-Key", "one")];
        assert!(receiver.is_taken(&server.post(receiver.path(), &key, receiver.body(3..4))));
    }
    assert_eq!(server.search(&[]).len(), Receiver::ALL.len());
}

/// What is answered to a fault, and whether the sender may repeat the request. The senders' rules:
/// Promtail, Alloy, Fluent Bit, Vector, Filebeat and Logstash all repeat after 429 and 503, and some of
/// them after nothing else.
#[test]
fn every_fault_that_passes_has_a_status_after_which_senders_repeat() {
    // So that the second request is refused.
    let slow = Server::start(&[("LOGWEIR_SERVER__RATE__TENANT_LOGS_PER_SECOND", "1")]);
    let small = Server::start(&[("LOGWEIR_SERVER__LIMITS__OTLP_REQUEST_BYTES_MAX", "1000")]);
    let viewer = support::token(small.data_dir.path(), "*", "viewer");
    let one_service = support::token(small.data_dir.path(), "other", "ingest");
    for receiver in Receiver::ALL {
        let (path, content_type) = (receiver.path(), receiver.content_type());
        let body = receiver.body(0..5);
        slow.post(path, &[content_type], receiver.body(5..105));
        let answer = slow.post(path, &[content_type], &body);
        check(receiver, &answer, 429, true);
        let large = small.post(path, &[content_type], receiver.body(0..500));
        check(receiver, &large, 413, false);
        let address = small.process.address();
        let none = send(address, "POST", path, &[content_type], &body).expect("it answers");
        check(receiver, &none, 401, false);
        let as_of = |token: &str| {
            let bearer = format!("Bearer {token}");
            let headers = [content_type, ("Authorization", bearer.as_str())];
            send(address, "POST", path, &headers, &body).expect("it answers")
        };
        check(receiver, &as_of(&viewer), 403, false);
        check(receiver, &as_of(&one_service), 403, false);
        if !matches!(receiver, Receiver::LokiProtobuf) {
            let unknown = [content_type, ("Content-Encoding", "br")];
            check(receiver, &small.post(path, &unknown, &body), 415, false);
            let bad = [content_type, ("Content-Encoding", "gzip")];
            check(receiver, &small.post(path, &bad, "no gzip"), 400, false);
        }
        let truncated = &body[..body.len() - 9];
        let answer = small.post(path, &[content_type], truncated);
        // Of lines the last one alone is bad.
        let expected = if matches!(receiver, Receiver::Bulk) { 200 } else { 400 };
        assert_eq!(answer.status, expected, "{receiver:?} {answer:?}");
    }
}

#[track_caller]
fn check(receiver: Receiver, answer: &Answer, status: u16, passes: bool) {
    assert_eq!(answer.status, status, "{receiver:?} {answer:?}");
    assert_eq!(answer.header("retry-after").is_some(), passes, "{receiver:?} {answer:?}");
}

#[test]
fn what_swells_is_refused_before_it_takes_memory() {
    let server = Server::start(&[]);
    let bomb = gzip(&vec![b'['; 200 << 20]);
    let zeros = snap::raw::Encoder::new().compress_vec(&vec![0; 100 << 20]).expect("it is small");
    let keys: Vec<String> = (0..1_000_000).map(|number| format!("\"k{number}\":0")).collect();
    let wide = format!("{{\"message\":\"m\",{}}}", keys.join(","));
    let before = server.process.memory("VmHWM");
    for receiver in Receiver::ALL {
        let (path, content_type) = (receiver.path(), receiver.content_type());
        let answer = match receiver {
            Receiver::LokiProtobuf => server.post(path, &[content_type], &zeros),
            _ => server.post(path, &[content_type, ("Content-Encoding", "gzip")], &bomb),
        };
        assert_eq!(answer.status, 413, "{receiver:?} {answer:?}");
    }
    let answer = server.post("/api/logs", &[], &wide);
    assert_eq!(
        (answer.status, &answer.json()["rejections"][0]["reason"]),
        (400, &json!("too_large_for_a_batch"))
    );
    let deep = format!(
        "{{\"message\":\"deep\",\"service\":\"s\",\"x\":{}{}}}",
        "[".repeat(1_000_000),
        "]".repeat(1_000_000)
    );
    assert_eq!(
        server.post("/api/logs", &[], deep).json()["rejections"][0]["reason"],
        "attribute_value_too_large"
    );
    let strange =
        r#"[{"service":"s","message":"a \ud800 b"},{"service":"s","message":"n","x":NaN}]"#;
    assert_eq!(server.post("/api/logs", &[], strange).json()["accepted"], 2);
    let grown = server.process.memory("VmHWM").saturating_sub(before);
    assert!(grown < 512 << 20, "it grew by {} MiB", grown >> 20);
}

/// How often each log is stored, by service.
async fn times_stored(server: &Process, token: &str) -> HashMap<(String, String), u32> {
    let connected = QueryServiceClient::connect(server.endpoint.clone()).await;
    let mut request = Request::new(ExportLogsRequest::default());
    let value = MetadataValue::try_from(format!("Bearer {token}")).expect("a token is ASCII");
    request.metadata_mut().insert("authorization", value);
    let exported = connected.expect("it is up").export_logs(request).await;
    let mut stream = exported.expect("export starts").into_inner();
    let mut times_stored = HashMap::new();
    while let Some(part) = stream.message().await.expect("export goes on") {
        for log in part.logs {
            let message = log.record.expect("every log has its record").message;
            *times_stored.entry((log.service, message)).or_insert(0) += 1;
        }
    }
    times_stored
}

/// Sends logs in requests, each until it is taken, as a log shipper does; how many.
fn ship(receiver: Receiver, address: &str, token: &str, is_over: &AtomicBool) -> u64 {
    const LOGS: u64 = 50;
    let bearer = format!("Bearer {token}");
    let headers = [("Authorization", bearer.as_str()), receiver.content_type()];
    let mut next = 0;
    while !is_over.load(Ordering::Relaxed) {
        let body = receiver.body(next..next + LOGS);
        loop {
            match send(address, "POST", receiver.path(), &headers, &body) {
                Ok(answer) if receiver.is_taken(&answer) => break,
                Ok(answer) if [429, 503].contains(&answer.status) => {}
                Ok(answer) => panic!("{receiver:?}: {answer:?}"),
                // It is down.
                Err(_) => std::thread::yield_now(),
            }
        }
        next += LOGS;
    }
    next
}

#[test]
fn no_log_is_lost_or_doubled_while_the_server_dies() {
    let Form { seed, is_long } = form();
    let mut random = StdRng::seed_from_u64(seed);
    let kills = if is_long { 20 } else { 3 };
    let Server { process, token, data_dir } = Server::start(&[]);
    let address = process.address().to_owned();
    let is_over = AtomicBool::new(false);
    let (process, sent) = std::thread::scope(|scope| {
        let mut process = process;
        let senders = Receiver::ALL.map(|receiver| {
            let (address, token, is_over) = (&address, &token, &is_over);
            (receiver, scope.spawn(move || ship(receiver, address, token, is_over)))
        });
        for _ in 0..kills {
            process =
                kill_after(process, random.random_range(500..4_000), &address, data_dir.path());
        }
        while process.metric("logweir_storage_logs_total") < 500.0 {}
        is_over.store(true, Ordering::Relaxed);
        let sent = senders.map(|(receiver, sender)| (receiver, sender.join().expect("it ends")));
        (process, sent)
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let stored = runtime.expect("a runtime").block_on(times_stored(&process, &token));
    let mut expected = 0;
    for (receiver, logs) in sent {
        println!("{receiver:?}: {logs} logs");
        for number in 0..logs {
            let key = (format!("{receiver:?}"), message(number));
            assert_eq!(stored.get(&key), Some(&1), "log {number} of {receiver:?}");
        }
        expected += logs;
    }
    assert_eq!(stored.len() as u64, expected);
}

/// Kills the server once it has stored so many logs since its start.
fn kill_after(process: Process, logs: u32, address: &str, data_dir: &Path) -> Process {
    while process.metric("logweir_storage_logs_total") < f64::from(logs) {}
    process.kill();
    Process::standalone_with(data_dir, address, &[])
}
