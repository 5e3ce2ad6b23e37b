//! The JSON API, against its own document: every path, every answer, and what is wrong with a question.

use std::{collections::BTreeSet, time::Duration};

use logweir_core::identity::{Role, Tenant};
use logweir_incident::{
    example, incident::Incident, notification::NotificationKind, tracking::TrackedIncident,
};
use logweir_proto::v1::{self, attribute::Value as Attribute};
use logweir_queue::QueueLimits;
use logweir_server::ServerConfig;
use logweir_storage::{AlertChanges, KeepAlerts};
use serde_json::{Value, json};

use crate::harness::{Answer, Bench, batch, messages, with_token};

/// The document that a server serves.
pub(crate) struct Document(pub(crate) Value);

impl Document {
    pub(crate) async fn of(bench: &Bench) -> Self {
        let answer = bench.ask("GET", "/api/openapi.json", &[]).await;
        assert_eq!(answer.header("content-type"), Some("application/json"));
        Self(answer.json())
    }

    /// What can be read, by its path.
    fn operations(&self) -> Vec<(&str, &Value)> {
        let paths = self.0["paths"].as_object().unwrap().iter();
        let reading = paths.map(|(path, item)| (path.as_str(), &item["get"]));
        reading.filter(|(_, operation)| !operation.is_null()).collect()
    }

    /// The methods of a path, as `Allow` lists them.
    fn methods(&self, path: &str) -> BTreeSet<String> {
        let methods = self.0["paths"][path].as_object().unwrap().keys();
        let mut methods: BTreeSet<_> = methods.map(|method| method.to_uppercase()).collect();
        // Whatever answers GET answers HEAD (RFC 9110, 9.3.2).
        if methods.contains("GET") {
            methods.insert("HEAD".to_owned());
        }
        methods
    }

    fn resolved<'a>(&'a self, value: &'a Value) -> &'a Value {
        match value["$ref"].as_str() {
            Some(reference) => self.0.pointer(reference.trim_start_matches('#')).unwrap(),
            None => value,
        }
    }

    /// That a value is what a schema says, and has nothing that the schema does not name.
    pub(crate) fn check(&self, schema: &Value, value: &Value, what: &str) {
        let mut whole = schema.clone();
        whole["components"] = self.0["components"].clone();
        close(&mut whole);
        let validator = jsonschema::options()
            .with_draft(jsonschema::Draft::Draft202012)
            .should_validate_formats(true)
            .build(&whole)
            .unwrap();
        let wrong: Vec<String> = validator
            .iter_errors(value)
            .map(|error| format!("{}: {error}", error.instance_path()))
            .collect();
        assert!(wrong.is_empty(), "{what}: {wrong:?} in {value}");
    }

    /// That an answer is one of those that a path may give.
    fn check_answer(&self, path: &str, answer: &Answer) {
        self.check_answer_to("get", path, answer);
    }

    fn check_answer_to(&self, method: &str, path: &str, answer: &Answer) {
        let responses = &self.0["paths"][path][method]["responses"];
        let response = self.resolved(&responses[answer.status.to_string()]);
        let what = format!("{path} answers {}", answer.status);
        assert!(response.is_object(), "{what}, which is not documented: {answer:?}");
        let media_type = answer.header("content-type").unwrap();
        let schema = &response["content"][media_type]["schema"];
        assert!(schema.is_object(), "{what} in {media_type}");
        self.check(schema, &answer.json(), &what);
    }
}

/// Lets no object have what its schema does not name: that would be missing in the document.
fn close(schema: &mut Value) {
    match schema {
        Value::Object(members) => {
            members.values_mut().for_each(close);
            let names =
                members.get("properties").is_some_and(|properties| properties["type"].is_null());
            if names && members.contains_key("type") {
                members.entry("additionalProperties").or_insert(json!(false));
            }
        }
        Value::Array(members) => members.iter_mut().for_each(close),
        _ => {}
    }
}

fn bearer(token: &str) -> [(&'static str, String); 1] {
    [("authorization", format!("Bearer {token}"))]
}

async fn get(bench: &Bench, token: &str, path: &str) -> Answer {
    let [(name, value)] = bearer(token);
    bench.ask("GET", path, &[(name, &value)]).await
}

fn incident(id: &str) -> Incident {
    let mut incident = example::notification(NotificationKind::Opened).incident;
    incident.id = id.to_owned();
    incident
}

/// A server with something of everything that can be read.
async fn furnished() -> Bench {
    let bench = Bench::new().await;
    let attribute = |key: &str, value| v1::Attribute { key: key.to_owned(), value: Some(value) };
    let mut full = batch(1, &["first", "second", "third"]);
    full.records[0] = v1::LogRecord {
        latency_ms: Some(12.5),
        severity_number: 17,
        level: v1::Level::Error.into(),
        trace_id: vec![1; 16],
        span_id: vec![2; 8],
        logger: "shop.cart".into(),
        attributes: vec![
            attribute("order", Attribute::IntValue(-7)),
            attribute("ratio", Attribute::DoubleValue(f64::NAN)),
            attribute("lines", Attribute::JsonValue(r#"[{"sku":"A7"}]"#.into())),
            attribute("paid", Attribute::BoolValue(true)),
        ],
        ..full.records[0].clone()
    };
    let resource = full.resource.as_mut().unwrap();
    (resource.instance, resource.environment) = ("a-1".into(), "production".into());
    bench.send(full).await.unwrap();
    let incident = TrackedIncident { incident: incident("aaaa01"), tracking: Default::default() };
    let changes = AlertChanges { incidents: vec![incident], ..AlertChanges::default() };
    let leading = bench.storage.lead("test", Duration::from_secs(10)).await.unwrap().unwrap();
    let committed = bench.storage.commit_alerts(leading, &Tenant::default(), changes).await;
    assert!(committed.unwrap().is_some());
    bench
}

/// Where the list of an answer is.
fn list_of(answer: &Value) -> Option<&Vec<Value>> {
    answer.as_object()?.values().find_map(Value::as_array)
}

#[tokio::test]
async fn every_answer_is_as_the_document_says() {
    let bench = furnished().await;
    let (document, viewer) =
        (Document::of(&bench).await, bench.token("default", "*", Role::Viewer));
    for (path, operation) in document.operations() {
        let refused = bench.ask("DELETE", path, &[]).await;
        assert_eq!(refused.status, 405, "{path}: {refused:?}");
        let allowed = refused.header("allow").unwrap().split(',').map(str::to_owned);
        assert_eq!(allowed.collect::<BTreeSet<_>>(), document.methods(path), "{path}");
        document.check_answer(path, &refused);
        if path.starts_with("/ws/") {
            continue;
        }
        let answer = get(&bench, &viewer, path).await;
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        document.check_answer(path, &answer);
        assert_eq!(answer.header("cache-control"), Some("no-store"), "{path}");
        if operation["security"].is_null() {
            let list = list_of(&answer.json()).map(Vec::len);
            assert!(list.is_some_and(|count| count > 0), "{path} shows nothing: {answer:?}");
        }
    }
}

#[tokio::test]
async fn who_may_not_is_told_so_as_documented() {
    let bench = furnished().await;
    let (document, expired) = (Document::of(&bench).await, bench.expired_token());
    let ingest = bench.token("default", "*", Role::Ingest);
    let other = bench.token("other", "*", Role::Viewer);
    let paths = document.operations().into_iter();
    for (path, _) in paths.filter(|(_, operation)| operation["security"].is_null()) {
        let missing = bench.ask("GET", path, &[]).await;
        assert_eq!((missing.status, missing.header("www-authenticate")), (401, Some("Bearer")));
        assert_eq!(missing.json()["reason"], "TOKEN_MISSING", "{path}");
        let refusals =
            [missing, get(&bench, &expired, path).await, get(&bench, &ingest, path).await];
        assert_eq!(refusals.each_ref().map(|answer| answer.status), [401, 401, 403], "{path}");
        refusals.iter().for_each(|answer| document.check_answer(path, answer));
        if path.starts_with("/ws/") {
            continue;
        }
        let key = bench.ask("GET", path, &[("X-API-Key", &other)]).await;
        assert_eq!(key.status, 200, "{path}: {key:?}");
        assert_eq!(list_of(&key.json()).map(Vec::len), Some(0), "{path}: {key:?}");
        let [(name, value)] = bearer(&other);
        let twice = bench.ask("GET", path, &[("x-api-key", &other), (name, &value)]).await;
        assert_eq!(twice.json()["reason"], "TOKEN_TWICE", "{path}");
    }
}

/// Values that a parameter may not have, by its schema and, where that cannot say it, its name.
fn wrong_values(parameter: &Value) -> Vec<String> {
    let schema = &parameter["schema"];
    let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
    match (parameter["name"].as_str().unwrap(), schema["type"].as_str().unwrap_or_default()) {
        ("filter", _) => texts(&["level%3E%3Dnonsense", "%28a", "%ff"]),
        ("level", _) => texts(&["loud", ""]),
        ("from" | "to", _) => texts(&["yesterday", "", "2026-13-01"]),
        (_, "integer") => {
            let above = schema["maximum"].as_u64().unwrap() + 10;
            texts(&["0", "-1", "x", "", "1.5", &above.to_string()])
        }
        (_, "boolean") => texts(&["maybe", "", "1"]),
        (_, "string") => texts(&["%C3%A4", "a%20b"]),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn what_is_wrong_with_a_question_is_named() {
    let bench = Bench::new().await;
    let (document, viewer) =
        (Document::of(&bench).await, bench.token("default", "*", Role::Viewer));
    let refused = async |path: &str, query: &str, field: &str| {
        let answer = get(&bench, &viewer, &format!("{path}?{query}")).await;
        assert_eq!(answer.status, 400, "{path}?{query}: {answer:?}");
        document.check_answer(path, &answer);
        assert_eq!(answer.json()["errors"][0]["field"], field, "{path}?{query}: {answer:?}");
    };
    let paths = document.operations().into_iter();
    for (path, operation) in paths.filter(|(_, operation)| operation["security"].is_null()) {
        refused(path, "nonsense=1", "nonsense").await;
        for parameter in operation["parameters"].as_array().unwrap() {
            let parameter = document.resolved(parameter);
            let name = parameter["name"].as_str().unwrap();
            refused(path, &format!("{name}=a&{name}=b"), name).await;
            for wrong in wrong_values(parameter) {
                refused(path, &format!("{name}={wrong}"), name).await;
            }
        }
    }
    refused("/api/logs", "from=2026-01-02&to=2026-01-01", "from").await;
    refused("/api/aggregate", "from=-1d&bucket_seconds=15", "bucket_seconds").await;
}

#[tokio::test]
async fn pages_and_figures_are_those_of_grpc() {
    let bench = furnished().await;
    let admin = bench.admin();
    let mut seen = Vec::new();
    let mut token = String::new();
    loop {
        let path = format!("/api/logs?filter=-fourth&limit=2&from=-1h&page_token={token}");
        let page = get(&bench, &admin, &path).await.json();
        seen.extend(page["logs"].as_array().unwrap().iter().map(|log| log["id"].clone()));
        match page["next_page_token"].as_str() {
            Some(next) => token = next.to_owned(),
            None => break,
        }
    }
    let stored = bench.stored().await;
    let ids: Vec<&str> = stored.iter().map(|log| log.id.as_str()).collect();
    assert_eq!((messages(&stored).len(), seen), (3, ids.iter().map(|id| json!(id)).collect()));
    let asked = with_token(&admin, v1::ServiceStatsRequest::default());
    let stat = &bench.query().service_stats(asked).await.unwrap().into_inner().stats[0];
    let answer = get(&bench, &admin, "/stats?window_minutes=5&service=payments").await.json();
    assert_eq!(answer["stats"][0]["error_rate"], json!(stat.error_rate));
    assert_eq!(answer["stats"][0]["total"], json!(stat.total));
    let answer = get(&bench, &admin, "/api/aggregate?from=-1h&group_by=level").await.json();
    let groups: Vec<&Value> =
        answer["series"].as_array().unwrap().iter().map(|series| &series["group"]).collect();
    assert_eq!(groups, ["INFO", "ERROR"]);
}

#[tokio::test]
async fn a_filter_is_narrowed_by_service_and_level() {
    let bench = furnished().await;
    let admin = bench.admin();
    for (query, count) in [
        ("", 3),
        ("filter=first+or+second", 2),
        ("filter=first+or+second&level=error", 1),
        ("filter=first+or+second&level=error&service=shop", 0),
        ("service=payments&level=info", 2),
        ("filter=order%3D-7&to=now", 1),
    ] {
        let answer = get(&bench, &admin, &format!("/logs?{query}")).await.json();
        assert_eq!(answer["logs"].as_array().unwrap().len(), count, "{query}: {answer}");
    }
}

#[tokio::test]
async fn no_log_is_more_than_text() {
    const HOSTILE: &str =
        "\u{1b}]52;c;x\u{7} \u{202e}evil\u{9b}2J </script> \"quoted\"\r\n{\"a\":1}";
    let bench = Bench::new().await;
    bench.send(batch(1, &[HOSTILE])).await.unwrap();
    let answer = get(&bench, &bench.admin(), "/api/logs").await;
    assert_eq!(answer.json()["logs"][0]["message"], HOSTILE);
    assert!(!answer.body.chars().any(|c| c.is_control() || c == '\u{202e}'), "{}", answer.body);
    assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
}

#[tokio::test]
async fn a_page_of_a_named_origin_may_read() {
    const PAGE: &str = "https://shop.example";
    let config = ServerConfig { cors_origins: PAGE.parse().unwrap(), ..ServerConfig::default() };
    let bench = Bench::with(config, QueueLimits::default()).await;
    let asks = [
        ("origin", PAGE),
        ("access-control-request-method", "GET"),
        ("access-control-request-headers", "x-api-key"),
    ];
    let preflight = bench.ask("OPTIONS", "/api/logs", &asks).await;
    let allows =
        |name: &str, what: &str| preflight.header(name).is_some_and(|all| all.contains(what));
    assert!(allows("access-control-allow-methods", "GET"), "{preflight:?}");
    assert!(allows("access-control-allow-headers", "x-api-key"), "{preflight:?}");
    let key = bench.admin();
    let answer = bench.ask("GET", "/api/logs", &[("origin", PAGE), ("x-api-key", &key)]).await;
    assert_eq!((answer.status, answer.header("access-control-allow-origin")), (200, Some(PAGE)));
}

#[tokio::test]
async fn what_is_served_nowhere_is_a_problem_too() {
    let bench = Bench::new().await;
    let document = Document::of(&bench).await;
    let answer = bench.ask("GET", "/api/nothing", &[]).await;
    assert_eq!(
        (answer.status, answer.header("content-type")),
        (404, Some("application/problem+json"))
    );
    document.check(&json!({"$ref": "#/components/schemas/Problem"}), &answer.json(), "404");
    let otlp = bench.ask("POST", "/v1/traces", &[("content-length", "0")]).await;
    assert_eq!((otlp.status, otlp.header("content-type")), (404, Some("application/json")));
    assert_eq!(bench.ask("HEAD", "/health", &[]).await.status, 200);
}

#[tokio::test]
async fn sending_is_answered_as_documented() {
    let bench = Bench::new().await;
    let document = Document::of(&bench).await;
    let token = bench.admin();
    let [(name, value)] = bearer(&token);
    let long = "x".repeat(300);
    for (status, headers, body) in [
        (202, vec![(name, value.as_str())], r#"{"service":"shop","message":"m"}"#),
        (202, vec![(name, &value)], r#"[{"service":"shop","message":"m"},7]"#),
        (400, vec![(name, &value)], "7"),
        (400, vec![(name, &value)], "[{"),
        (400, vec![(name, &value), ("idempotency-key", &long)], "{}"),
        (
            202,
            vec![(name, &value), ("idempotency-key", "a")],
            r#"{"service":"shop","message":"1"}"#,
        ),
        (
            422,
            vec![(name, &value), ("idempotency-key", "a")],
            r#"{"service":"shop","message":"2"}"#,
        ),
        (415, vec![(name, &value), ("content-encoding", "br")], "{}"),
        (401, Vec::new(), "{}"),
    ] {
        for path in ["/api/logs", "/logs"] {
            let answer = bench.ask_with("POST", path, &headers, body).await;
            assert_eq!(answer.status, status, "{body} {answer:?}");
            document.check_answer_to("post", path, &answer);
        }
    }
}
