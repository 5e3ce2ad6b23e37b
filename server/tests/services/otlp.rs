//! OTLP as its clients speak it: real requests over gRPC and HTTP, in protobuf and JSON, compressed and
//! not, good ones and each fault.

use std::io::Write;

use bytes::Bytes;
use futures::future::join_all;
use http_body_util::{BodyExt, Full};
use hyper::{Method, Request as HttpRequest, StatusCode, header::HeaderMap};
use logweir_core::{identity::Role, limits::Limits};
use logweir_proto::v1;
use logweir_queue::QueueLimits;
use logweir_server::{RateConfig, ServerConfig};
use opentelemetry_proto::tonic::{
    collector::logs::v1::{
        ExportLogsPartialSuccess, ExportLogsServiceRequest, ExportLogsServiceResponse,
        logs_service_client::LogsServiceClient,
    },
    common::v1::{AnyValue, InstrumentationScope, KeyValue, KeyValueList, any_value::Value},
    logs::v1::{LogRecord, ResourceLogs, ScopeLogs},
    resource::v1::Resource,
};
use prost::Message;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tonic::{Code, Status, body::Body, codec::CompressionEncoding, transport::Channel};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};
use tonic_types::StatusExt;
use tower::{Service, ServiceExt};

use crate::{
    abuse::memory_peak_bytes,
    harness::{Bench, NOW, messages, reason, with_token},
};

const PROTOBUF: &str = "application/x-protobuf";
const JSON: &str = "application/json";

fn string(text: &str) -> AnyValue {
    AnyValue { value: Some(Value::StringValue(text.to_owned())) }
}

fn pair(key: &str, value: AnyValue) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(value), ..KeyValue::default() }
}

/// A log some nanoseconds before now.
fn log(before_now: u64, text: &str) -> LogRecord {
    let time_unix_nano = NOW.as_unix_nanos() as u64 - before_now;
    LogRecord {
        time_unix_nano,
        body: Some(string(text)),
        severity_number: 9,
        ..LogRecord::default()
    }
}

fn logs_of(service: &str, logs: Vec<LogRecord>) -> ResourceLogs {
    let resource =
        Resource { attributes: vec![pair("service.name", string(service))], ..Resource::default() };
    ResourceLogs {
        resource: Some(resource),
        scope_logs: vec![ScopeLogs { log_records: logs, ..ScopeLogs::default() }],
        ..ResourceLogs::default()
    }
}

fn request(resource_logs: Vec<ResourceLogs>) -> ExportLogsServiceRequest {
    ExportLogsServiceRequest { resource_logs }
}

/// Logs of `payments` with these texts, the first one the newest.
fn payments(texts: &[&str]) -> ExportLogsServiceRequest {
    let logs = (1..).zip(texts).map(|(number, text)| log(number, text));
    request(vec![logs_of("payments", logs.collect())])
}

fn in_json(texts: &[&str]) -> Vec<u8> {
    let log = |(number, text): (u64, &&str)| {
        let time = NOW.as_unix_nanos() as u64 - number;
        json!({ "timeUnixNano": time.to_string(), "body": { "stringValue": text } })
    };
    let logs: Vec<_> = (1..).zip(texts).map(log).collect();
    let name = json!({ "key": "service.name", "value": { "stringValue": "payments" } });
    let resource = json!({ "attributes": [name] });
    let logs = json!({ "resource": resource, "scopeLogs": [{ "logRecords": logs }] });
    json!({ "resourceLogs": [logs] }).to_string().into_bytes()
}

fn gzip(plain: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(plain).unwrap();
    encoder.finish().unwrap()
}

/// So many MiB of zeros.
fn gzip_of_zeros(mebibytes: usize) -> Bytes {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    for _ in 0..mebibytes {
        encoder.write_all(&vec![0; 1 << 20]).unwrap();
    }
    encoder.finish().unwrap().into()
}

fn zstd(plain: &[u8]) -> Vec<u8> {
    zstd::encode_all(plain, 3).unwrap()
}

fn client(bench: &Bench) -> LogsServiceClient<Channel> {
    LogsServiceClient::new(bench.channel.clone())
}

async fn export(
    bench: &Bench,
    token: &str,
    request: ExportLogsServiceRequest,
) -> Result<Option<ExportLogsPartialSuccess>, Status> {
    let answer = client(bench).export(with_token(token, request)).await?;
    Ok(answer.into_inner().partial_success)
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl Answer {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    fn reason(&self) -> String {
        self.json()["details"][0]["reason"].as_str().unwrap().to_owned()
    }

    fn partial_success(&self) -> Option<ExportLogsPartialSuccess> {
        assert_eq!((self.status, self.header("content-type")), (StatusCode::OK, PROTOBUF));
        ExportLogsServiceResponse::decode(&self.body[..]).unwrap().partial_success
    }
}

/// One request over HTTP, with these headers.
async fn http(
    bench: &Bench,
    method: Method,
    headers: &[(&str, &str)],
    body: impl Into<Bytes>,
) -> Answer {
    let mut request = HttpRequest::builder().method(method).uri("/v1/logs");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    send(bench, request, body.into()).await
}

async fn send_to(bench: &Bench, path: &str, content_type: &str) -> Answer {
    let request = HttpRequest::builder().method(Method::POST).uri(path);
    send(bench, request.header("content-type", content_type), Bytes::new()).await
}

async fn send(bench: &Bench, request: hyper::http::request::Builder, body: Bytes) -> Answer {
    let body = Body::new(Full::new(body).map_err(|never| match never {}));
    let mut channel = bench.another_channel();
    let sent = channel.ready().await.unwrap().call(request.body(body).unwrap()).await;
    let (head, body) = sent.unwrap().into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    Answer { status: head.status, headers: head.headers, body }
}

/// A request of an administrator that is good but for what is said here.
async fn post(bench: &Bench, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Answer {
    post_with(bench, &bench.admin(), headers, body).await
}

async fn post_with(
    bench: &Bench,
    token: &str,
    headers: &[(&str, &str)],
    body: impl Into<Bytes>,
) -> Answer {
    let bearer = format!("Bearer {token}");
    let headers = [&[("authorization", bearer.as_str())], headers].concat();
    http(bench, Method::POST, &headers, body).await
}

#[tokio::test]
async fn each_form_and_compression_brings_the_same_logs() {
    let texts = ["one", "two"];
    let (protobuf, json) = (payments(&texts).encode_to_vec(), in_json(&texts));
    for (content_type, plain) in [(PROTOBUF, protobuf), (JSON, json)] {
        for (encoding, body) in
            [("identity", plain.clone()), ("gzip", gzip(&plain)), ("zstd", zstd(&plain))]
        {
            let bench = Bench::new().await;
            let headers = [("content-type", content_type), ("content-encoding", encoding)];
            let answer = post(&bench, &headers, body).await;
            assert_eq!(answer.status, StatusCode::OK, "{content_type} {encoding}");
            assert_eq!(answer.header("content-type"), content_type);
            let full_success = if content_type == JSON { &b"{}"[..] } else { b"" };
            assert_eq!(answer.body, full_success);
            let stored = bench.stored().await;
            assert_eq!(messages(&stored), texts);
            assert!(stored.iter().all(|log| log.service == "payments"));
        }
    }
    for compression in [None, Some(CompressionEncoding::Gzip), Some(CompressionEncoding::Zstd)] {
        let bench = Bench::new().await;
        let mut client = client(&bench);
        if let Some(compression) = compression {
            client = client.send_compressed(compression);
        }
        let answer = client.export(with_token(&bench.admin(), payments(&texts))).await.unwrap();
        assert_eq!(answer.into_inner(), ExportLogsServiceResponse::default());
        assert_eq!(messages(&bench.stored().await), texts);
    }
}

#[tokio::test]
async fn http_1_is_spoken_too() {
    let bench = Bench::new().await;
    let body = String::from_utf8(in_json(&["one"])).unwrap();
    let head = format!(
        "POST /v1/logs HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ncontent-type: \
         Application/JSON; charset=utf-8\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        bench.admin(),
        body.len()
    );
    let mut stream = TcpStream::connect(bench.address).await.unwrap();
    stream.write_all((head + &body).as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.ends_with("\r\n\r\n{}"), "{answer}");
    assert_eq!(messages(&bench.stored().await), ["one"]);
}

#[tokio::test]
async fn an_empty_request_is_answered_with_nothing() {
    let bench = Bench::new().await;
    let admin = bench.admin();
    assert_eq!(export(&bench, &admin, request(vec![])).await.unwrap(), None);
    let without_logs = request(vec![logs_of("no such name!", vec![])]);
    assert_eq!(export(&bench, &admin, without_logs).await.unwrap(), None);
    let answer = post(&bench, &[("content-type", PROTOBUF)], Bytes::new()).await;
    assert_eq!(answer.partial_success(), None);
    let answer = post(&bench, &[("content-type", JSON)], "{}").await;
    assert_eq!(answer.json(), json!({}));
}

#[tokio::test]
async fn a_repeat_adds_nothing_where_it_can_be_told() {
    let bench = Bench::new().await;
    let admin = bench.admin();
    for _ in 0..3 {
        export(&bench, &admin, payments(&["one", "two"])).await.unwrap();
        // Over HTTP and compressed it is the same content.
        let body = gzip(&payments(&["one", "two"]).encode_to_vec());
        let headers = [("content-type", PROTOBUF), ("content-encoding", "gzip")];
        assert_eq!(post_with(&bench, &admin, &headers, body).await.status, StatusCode::OK);
    }
    assert_eq!(messages(&bench.stored().await), ["one", "two"]);

    // In whole seconds the same log again may be another one.
    let twice = request(vec![logs_of("payments", vec![log(1_000_000_000, "tick")])]);
    for _ in 0..2 {
        export(&bench, &admin, twice.clone()).await.unwrap();
    }
    assert_eq!(messages(&bench.stored().await), ["one", "two", "tick", "tick"]);

    // Another token is another sender.
    let other = bench.token("default", "*", Role::Ingest);
    export(&bench, &other, payments(&["one", "two"])).await.unwrap();
    assert_eq!(bench.stored().await.len(), 6);
}

#[tokio::test]
async fn the_same_request_of_another_tenant_is_its_own() {
    let bench = Bench::new().await;
    let other = bench.token("other", "*", Role::Admin);
    export(&bench, &other, payments(&["one"])).await.unwrap();
    assert!(bench.stored().await.is_empty());
    export(&bench, &bench.admin(), payments(&["one"])).await.unwrap();
    assert_eq!(messages(&bench.stored().await), ["one"]);
}

#[tokio::test]
async fn a_large_request_is_stored_whole_and_once() {
    let bench = Bench::new().await;
    let admin = bench.admin();
    let logs: Vec<_> =
        (0..25_000).map(|n| log(n, &format!("log {n} {}", "x".repeat(200)))).collect();
    let (shop, rest) = (logs[..12_000].to_vec(), logs[12_000..].to_vec());
    let sent = request(vec![logs_of("shop", shop), logs_of("orders", rest)]);
    assert!(sent.encoded_len() > 4 << 20, "more than a native request may have");
    for _ in 0..2 {
        assert_eq!(export(&bench, &admin, sent.clone()).await.unwrap(), None);
    }
    let listed = with_token(&admin, v1::ListServicesRequest {});
    let services = bench.query().list_services(listed).await.unwrap().into_inner().services;
    let totals: Vec<_> = services.iter().map(|s| (s.service.as_str(), s.total)).collect();
    assert_eq!(totals, [("orders", 13_000), ("shop", 12_000)]);
}

/// A log of a resource that breaks a rule.
fn badly_described(log: LogRecord) -> ResourceLogs {
    let mut logs = logs_of("shop", vec![log]);
    let resource = logs.resource.as_mut().unwrap();
    resource.attributes.push(pair(&"k".repeat(300), string("v")));
    logs
}

#[tokio::test]
async fn an_sdk_that_has_met_its_own_limit_is_taken() {
    let bench = Bench::new().await;
    let attributes = (0..128).map(|number| pair(&format!("k{number}"), string("v"))).collect();
    let full = LogRecord { attributes, dropped_attributes_count: 7, flags: 1, ..log(1, "full") };
    let partial = export(&bench, &bench.admin(), request(vec![logs_of("shop", vec![full])])).await;
    assert_eq!(partial.unwrap(), None);
    assert_eq!(messages(&bench.stored().await), ["full"]);
}

/// OTLP over HTTP goes by the status alone: 200 would say that the logs were taken.
#[tokio::test]
async fn what_is_sent_nowhere_was_not_taken() {
    let bench = Bench::new().await;
    for path in ["/v1/logs/", "/v1/log", "/v1/traces", "/v1/metrics", "/otlp/v1/logs", "/v1/"] {
        let answer = send_to(&bench, path, "application/json").await;
        assert_eq!(
            (answer.status.as_u16(), answer.reason().as_str()),
            (404, "NOT_FOUND"),
            "{path}"
        );
        let answer = send_to(&bench, path, PROTOBUF).await;
        let status = tonic_types::pb::Status::decode(&answer.body[..]).unwrap();
        assert_eq!((answer.status.as_u16(), status.code), (404, Code::NotFound as i32), "{path}");
    }
    let answer = send_to(&bench, "/", PROTOBUF).await;
    assert_eq!((answer.status.as_u16(), answer.header("content-type")), (404, PROTOBUF));
    let answer = send_to(&bench, "/no.Service/Call", "application/grpc").await;
    assert_eq!((answer.status.as_u16(), answer.header("grpc-status")), (200, "12"));
}

#[tokio::test]
async fn bad_logs_are_counted_and_take_nothing_along() {
    let bench = Bench::new().await;
    let admin = bench.admin();
    let loud = LogRecord { severity_number: 99, ..log(3, "loud") };
    let sent = request(vec![
        logs_of("payments", vec![log(1, "good"), log(2, &"x".repeat(65_537)), loud]),
        badly_described(log(4, "nobody's")),
        logs_of("orders", vec![log(5, "good too")]),
    ]);
    for _ in 0..2 {
        let partial = export(&bench, &admin, sent.clone()).await.unwrap().unwrap();
        assert_eq!(partial.rejected_log_records, 3);
        assert!(partial.error_message.contains("the limit is 256"), "{partial:?}");
    }
    assert_eq!(messages(&bench.stored().await), ["good", "good too"]);
    let answer =
        post_with(&bench, &admin, &[("content-type", PROTOBUF)], sent.encode_to_vec()).await;
    assert_eq!(answer.partial_success().unwrap().rejected_log_records, 3);
    let request = with_token(&admin, v1::ListDeadLettersRequest::default());
    let letters = bench.administer().list_dead_letters(request).await.unwrap().into_inner();
    assert_eq!(letters.total, 2, "those of a resource that breaks no rule");
}

#[tokio::test]
async fn a_request_of_bad_logs_alone_is_answered_the_same_way() {
    let bench = Bench::new().await;
    let long = json!([{ "body": { "stringValue": "x".repeat(65_537) } }]);
    let logs = json!({ "resourceLogs": [{ "scopeLogs": [{ "logRecords": long }] }] });
    let answer = post(&bench, &[("content-type", JSON)], logs.to_string()).await;
    assert_eq!(answer.status, StatusCode::OK);
    let partial = &answer.json()["partialSuccess"];
    assert_eq!(partial["rejectedLogRecords"], "1");
    let text = partial["errorMessage"].as_str().unwrap();
    assert!(text.contains("the message is 65537 bytes, the limit is 65536"), "{text}");
    let nobody = request(vec![badly_described(log(1, "x"))]);
    let partial = export(&bench, &bench.admin(), nobody).await.unwrap().unwrap();
    assert_eq!(partial.rejected_log_records, 1);
    assert!(bench.stored().await.is_empty());
}

#[tokio::test]
async fn a_token_writes_its_own_service_only() {
    let bench = Bench::new().await;
    let token = bench.token("default", "payments", Role::Ingest);
    let mixed = request(vec![
        logs_of("payments", vec![log(1, "own")]),
        logs_of("orders", vec![log(2, "another's")]),
        logs_of("unknown_service:java", vec![log(3, "unnamed")]),
    ]);
    let partial = export(&bench, &token, mixed).await.unwrap().unwrap();
    assert_eq!(partial.rejected_log_records, 1);
    assert!(partial.error_message.contains("the token is for service payments"), "{partial:?}");
    let stored = bench.stored().await;
    assert_eq!(messages(&stored), ["own", "unnamed"]);
    assert!(stored.iter().all(|log| log.service == "payments"));

    let foreign = request(vec![logs_of("orders", vec![log(1, "x")])]);
    let status = export(&bench, &token, foreign.clone()).await.unwrap_err();
    assert_eq!(
        (status.code(), reason(&status)),
        (Code::PermissionDenied, "SERVICE_FOREIGN".into())
    );
    let bearer = format!("Bearer {token}");
    let headers = [("authorization", bearer.as_str()), ("content-type", PROTOBUF)];
    let answer = http(&bench, Method::POST, &headers, foreign.encode_to_vec()).await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
    let status = tonic_types::pb::Status::decode(&answer.body[..]).unwrap();
    assert_eq!(status.code, Code::PermissionDenied as i32);

    let unnamed =
        request(vec![ResourceLogs { resource: None, ..logs_of("", vec![log(4, "nobody's")]) }]);
    export(&bench, &bench.admin(), unnamed).await.unwrap();
    assert!(bench.stored().await.iter().any(|log| log.service == "unknown_service"));
}

#[tokio::test]
async fn everything_that_a_log_says_is_found() {
    let bench = Bench::new().await;
    let body = KeyValueList { values: vec![pair("order", string("A7")), pair("n", string("x"))] };
    let sent = LogRecord {
        severity_text: "INFO3".into(),
        body: Some(AnyValue { value: Some(Value::KvlistValue(body)) }),
        attributes: vec![pair("user.id", AnyValue { value: Some(Value::IntValue(42)) })],
        trace_id: vec![7; 16],
        event_name: "order.placed".into(),
        flags: 1,
        ..log(1, "")
    };
    export(&bench, &bench.admin(), request(vec![logs_of("shop", vec![sent])])).await.unwrap();
    for filter in [
        "user.id=42",
        "severity_text=INFO3",
        "otel.event.name=order.placed",
        "trace_flags=01",
        "trace:07070707070707070707070707070707",
        "level:info",
        "service:shop",
    ] {
        let request = v1::SearchLogsRequest { filter: filter.into(), ..Default::default() };
        let request = with_token(&bench.admin(), request);
        let found = bench.query().search_logs(request).await.unwrap().into_inner().logs;
        assert_eq!(found.len(), 1, "{filter}");
        assert_eq!(messages(&found), [r#"{"order":"A7","n":"x"}"#]);
    }
}

/// Each fault that will not pass: how it is sent, and what is answered.
#[tokio::test]
async fn a_fault_of_the_sender_has_its_status_and_no_time_to_wait() {
    let limits = Limits { otlp_request_bytes_max: 10_000, ..Limits::default() };
    let config = ServerConfig { limits, ..ServerConfig::default() };
    let bench = Bench::with(config, QueueLimits::default()).await;
    let (viewer, good) = (bench.token("default", "*", Role::Viewer), bench.admin());
    let long = "x".repeat(10_001);
    let [viewer, good] = [viewer, good].map(|token| format!("Bearer {token}"));
    let ours = |token| vec![("authorization", token), ("content-type", JSON)];
    let with = |header| [&ours(good.as_str())[..], &[header]].concat();
    let swelling = format!(r#"{{"resourceLogs":[{}{{}}]}}"#, "{},".repeat(3_000));
    let bomb = gzip(&vec![b' '; 1_000_000]);
    for (name, headers, body, status, reason) in [
        ("no token", vec![("content-type", JSON)], &b"{}"[..], 401, "TOKEN_MISSING"),
        ("no good token", ours("Bearer x"), b"{}", 401, "TOKEN_MALFORMED"),
        ("another role", ours(&viewer), b"{}", 403, "ROLE_INSUFFICIENT"),
        ("no JSON", ours(&good), b"{", 400, "MALFORMED"),
        ("too long", ours(&good), long.as_bytes(), 413, "BATCH_TOO_LARGE"),
        ("swells", ours(&good), swelling.as_bytes(), 413, "BATCH_TOO_LARGE"),
        ("bomb", with(("content-encoding", "gzip")), &bomb, 413, "BATCH_TOO_LARGE"),
        ("not gzip", with(("content-encoding", "gzip")), b"{}", 400, "MALFORMED"),
        ("brotli", with(("content-encoding", "br")), b"{}", 415, "ENCODING_UNSUPPORTED"),
    ] {
        let answer = http(&bench, Method::POST, &headers, body.to_vec()).await;
        assert_eq!((answer.status.as_u16(), answer.reason().as_str()), (status, reason), "{name}");
        assert_eq!(answer.header("content-type"), JSON, "{name}");
        assert_eq!(answer.header("retry-after"), "", "{name}");
    }
    let text = [("authorization", good.as_str()), ("content-type", "text/plain")];
    let answer = http(&bench, Method::POST, &text, "x").await;
    assert_eq!(
        (answer.status.as_u16(), answer.reason().as_str()),
        (415, "CONTENT_TYPE_UNSUPPORTED")
    );
    let answer = http(&bench, Method::GET, &ours(&good), "").await;
    assert_eq!((answer.status.as_u16(), answer.header("allow")), (405, "POST"));

    let large = payments(&[&long]);
    let [no_token, bad_token] = ["", "x"].map(str::to_owned);
    for (token, sent, code, expected) in [
        (no_token, payments(&["x"]), Code::Unauthenticated, "TOKEN_MALFORMED"),
        (bad_token, payments(&["x"]), Code::Unauthenticated, "TOKEN_MALFORMED"),
        (
            bench.token("default", "*", Role::Viewer),
            payments(&["x"]),
            Code::PermissionDenied,
            "ROLE_INSUFFICIENT",
        ),
        (bench.admin(), large, Code::ResourceExhausted, "BATCH_TOO_LARGE"),
    ] {
        let status = export(&bench, &token, sent).await.unwrap_err();
        assert_eq!((status.code(), reason(&status).as_str()), (code, expected), "{status}");
        assert!(status.get_details_retry_info().is_none(), "{status}");
    }
    assert!(bench.stored().await.is_empty());
}

fn check_transient(status: &Status, code: Code, expected: &str) {
    assert_eq!((status.code(), reason(status).as_str()), (code, expected), "{status}");
    let wait = status.get_details_retry_info().and_then(|info| info.retry_delay);
    assert!(wait.is_some_and(|wait| !wait.is_zero()), "{status}");
}

async fn check_transient_http(bench: &Bench, status: u16, expected: &str) {
    let answer = post(bench, &[("content-type", JSON)], in_json(&["x"])).await;
    assert_eq!((answer.status.as_u16(), answer.reason().as_str()), (status, expected));
    assert!(answer.header("retry-after").parse::<u64>().unwrap() >= 1);
    assert!(answer.json()["details"][1]["retryDelay"].as_str().unwrap().ends_with('s'));
    let body = payments(&["x"]).encode_to_vec();
    let answer = post(bench, &[("content-type", PROTOBUF)], body).await;
    assert_eq!((answer.status.as_u16(), answer.header("content-type")), (status, PROTOBUF));
    let status = tonic_types::pb::Status::decode(&answer.body[..]).unwrap();
    assert!(status.details.len() >= 2, "the reason and the time to wait: {status:?}");
}

#[tokio::test]
async fn a_used_up_rate_passes() {
    let rate = RateConfig { logs_per_second: 1, burst_seconds: 1, ..RateConfig::default() };
    let config = ServerConfig { rate, ..ServerConfig::default() };
    let bench = Bench::with(config, QueueLimits::default()).await;
    export(&bench, &bench.admin(), payments(&["one"])).await.unwrap();
    let status = export(&bench, &bench.admin(), payments(&["two", "three"])).await.unwrap_err();
    check_transient(&status, Code::ResourceExhausted, "RATE_LIMITED");
    check_transient_http(&bench, 429, "RATE_LIMITED").await;
    // Nothing of a request is taken while a part of it is refused.
    let both = request(vec![
        logs_of("orders", vec![log(1, "first")]),
        logs_of("payments", vec![log(2, "refused")]),
    ]);
    let status = export(&bench, &bench.admin(), both).await.unwrap_err();
    check_transient(&status, Code::ResourceExhausted, "RATE_LIMITED");
    assert_eq!(messages(&bench.stored().await), ["one"]);
}

/// What the token's tenant holds of a shared resource.
async fn held(bench: &Bench, token: &str, resource: &str) -> u64 {
    let request = with_token(token, v1::GetTenantRequest {});
    let tenant = bench.administer().get_tenant(request).await.unwrap().into_inner();
    tenant.shares.iter().find(|share| share.resource == resource).map_or(0, |share| share.held)
}

/// Waits until a batch of the tenant is in the queue.
pub(crate) async fn until_queued(bench: &Bench, token: &str) {
    while held(bench, token, "queue_batches").await == 0 {}
}

#[tokio::test]
async fn what_a_scope_says_of_each_log_is_charged_for_each() {
    let bench = Bench::new().await;
    bench.set_storing(false);
    let admin = bench.admin();
    let scope =
        InstrumentationScope { version: "x".repeat(16_000), ..InstrumentationScope::default() };
    let mut logs = logs_of("shop", (1..=500).map(|number| log(number, "x")).collect());
    logs.scope_logs[0].scope = Some(scope);
    let sent = request(vec![logs]);
    assert!(sent.encoded_len() < 100_000);
    let sending = export(&bench, &admin, sent);
    let looking = async {
        until_queued(&bench, &admin).await;
        let held = held(&bench, &admin, "in_flight_bytes").await;
        assert!(held > 500 * 16_000, "{held}");
        bench.set_storing(true);
    };
    let (sent, ()) = tokio::join!(sending, looking);
    assert_eq!(sent.unwrap(), None);
}

#[tokio::test]
async fn a_full_queue_passes() {
    let limits = QueueLimits { batches_max: 1, bytes_max: 1 << 20 };
    let bench = Bench::with(ServerConfig::default(), limits).await;
    bench.set_storing(false);
    let admin = bench.admin();
    let first = export(&bench, &admin, payments(&["one"]));
    let others = async {
        until_queued(&bench, &admin).await;
        let refused = export(&bench, &admin, payments(&["two"])).await.unwrap_err();
        check_transient(&refused, Code::ResourceExhausted, "TENANT_SHARE");
        check_transient_http(&bench, 429, "TENANT_SHARE").await;
        bench.set_storing(true);
    };
    let (first, ()) = tokio::join!(first, others);
    first.unwrap();
}

#[tokio::test]
async fn a_request_never_waits_for_itself() {
    let limits = QueueLimits { batches_max: 1, bytes_max: 1 << 20 };
    let bench = Bench::with(ServerConfig::default(), limits).await;
    let logs = (1..=20).map(|n| logs_of(&format!("service-{n}"), vec![log(n, &n.to_string())]));
    export(&bench, &bench.admin(), request(logs.collect())).await.unwrap();
    assert_eq!(bench.stored().await.len(), 20);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn bombs_are_refused_and_take_no_memory() {
    const EXTRA_BYTES_MAX: usize = 512 << 20;
    let bench = Bench::new().await;
    let token = bench.admin();
    let zeros = gzip_of_zeros(256);
    let before = memory_peak_bytes();
    let attacks = (0..24).map(|_| {
        let bearer = format!("Bearer {token}");
        let body = zeros.clone();
        let bench = &bench;
        async move {
            let headers = [
                ("authorization", bearer.as_str()),
                ("content-type", PROTOBUF),
                ("content-encoding", "gzip"),
            ];
            http(bench, Method::POST, &headers, body).await.status
        }
    });
    for status in join_all(attacks).await {
        let known = [StatusCode::PAYLOAD_TOO_LARGE, StatusCode::TOO_MANY_REQUESTS];
        assert!(known.contains(&status), "{status}");
    }
    let extra = memory_peak_bytes() - before;
    assert!(extra < EXTRA_BYTES_MAX, "{extra} bytes");
}

#[tokio::test]
async fn the_service_describes_itself_and_says_that_it_serves() {
    let bench = Bench::new().await;
    let mut client = HealthClient::new(bench.channel.clone());
    let service = "opentelemetry.proto.collector.logs.v1.LogsService".to_owned();
    let request = HealthCheckRequest { service: service.clone() };
    let mut watch = client.watch(request).await.unwrap().into_inner();
    while watch.message().await.unwrap().unwrap().status() != ServingStatus::Serving {}
    let mut client = ServerReflectionClient::new(bench.channel.clone());
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::FileContainingSymbol(service)),
    };
    let answers = client.server_reflection_info(tokio_stream::once(request)).await.unwrap();
    let answer = answers.into_inner().message().await.unwrap().unwrap().message_response.unwrap();
    assert!(matches!(answer, MessageResponse::FileDescriptorResponse(_)), "{answer:?}");
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let answers = client.server_reflection_info(tokio_stream::once(request)).await.unwrap();
    let answer = answers.into_inner().message().await.unwrap().unwrap().message_response.unwrap();
    let MessageResponse::ListServicesResponse(list) = answer else { panic!("{answer:?}") };
    let others = list.service.iter().filter(|service| service.name.starts_with("opentelemetry."));
    assert_eq!(others.count(), 1, "what is not taken is not listed");
}
