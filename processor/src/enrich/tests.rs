use logweir_core::timestamp::Timestamp;
use proptest::prelude::*;

use super::*;

const RECEIVED: Timestamp = Timestamp::from_unix_seconds(1_700_000_000);
const SENT: Timestamp = Timestamp::from_unix_seconds(1_699_999_990);

fn enriched(mut record: Record) -> (Record, Level) {
    let mut enricher = Enricher::new(&ProcessorConfig::default(), Limits::default());
    let resource = Resource::of(Service::new("a").unwrap());
    let shared = enricher.shared(&resource, RECEIVED, &[]);
    let level = enricher.enrich(&mut record, &shared);
    (record, level)
}

fn log(message: &str) -> Record {
    Record { message: message.into(), time: SENT, ..Record::default() }
}

fn string(text: &str) -> Value {
    Value::String(text.into())
}

#[test]
fn a_json_body_fills_what_the_sender_left_out() {
    let (record, level) = enriched(log(
        r#"{"level":"warn","msg":"slow","latency_ms":12,"http.status_code":503,"user":7,
            "trace_id":"4bf92f3577b34da6a3ce929d0e0e4736","logger":"db","o":{"a":1}}"#,
    ));
    assert_eq!((record.message.as_str(), level), ("slow", Level::Warn));
    assert_eq!((record.latency_ms, record.logger.as_str()), (Some(12.0), "db"));
    assert!(record.trace_id.is_some());
    let expected = [
        ("status", Value::Int(503)),
        ("user", Value::Int(7)),
        ("o", Value::Json(r#"{"a":1}"#.into())),
    ];
    let expected = expected.map(|(key, value)| Attribute::new(key, value));
    assert_eq!(record.attributes, expected);
}

#[test]
fn a_logfmt_body_does_the_same() {
    let (record, level) = enriched(log(r#"level=error msg="query failed" duration=1.5s rows=3"#));
    assert_eq!((record.message.as_str(), level), ("query failed", Level::Error));
    assert_eq!(record.latency_ms, Some(1_500.0));
    assert_eq!(record.attributes, [Attribute::new("rows", Value::Int(3))]);
}

#[test]
fn what_was_sent_is_kept() {
    let sent = Record {
        level: Some(Level::Debug),
        latency_ms: Some(1.0),
        trace_id: Some([1; 16]),
        logger: "mine".into(),
        ..log(
            r#"{"msg":"m","level":"error","latency_ms":9,"logger":"other","time":"2020-01-01T00:00:00Z"}"#,
        )
    };
    let (record, level) = enriched(sent.clone());
    assert_eq!(
        (level, record.latency_ms, record.trace_id),
        (Level::Debug, Some(1.0), Some([1; 16]))
    );
    assert_eq!((record.logger.as_str(), record.time), ("mine", SENT));
    assert_eq!(record.message, "m");
    assert_eq!(record.attribute("level"), Some(&string("error")));
    assert_eq!(record.attribute("time"), Some(&string("2020-01-01T00:00:00Z")));
}

#[test]
fn a_body_that_contradicts_the_sender_stays_whole() {
    let mut sent = log(r#"{"msg":"m","user":2}"#);
    sent.attributes.push(Attribute::new("user", Value::Int(1)));
    let (record, _) = enriched(sent.clone());
    assert_eq!((record.message, record.attributes), (sent.message, sent.attributes));
}

#[test]
fn a_body_over_a_limit_stays_whole() {
    let fields: Vec<String> = (0..200).map(|n| format!("\"k{n}\":{n}")).collect();
    let many = format!("{{\"msg\":\"m\",{}}}", fields.join(","));
    let long = format!("{{\"msg\":\"m\",\"k\":\"{}\"}}", "x".repeat(20_000));
    for message in [many, long] {
        let (record, _) = enriched(log(&message));
        assert_eq!((record.message, record.attributes), (message, vec![]));
    }
}

#[test]
fn the_time_of_a_body_counts_only_if_none_was_sent() {
    let body = r#"{"msg":"m","ts":1600000000.5}"#;
    let mut without = log(body);
    without.attributes.push(Attribute::new(body::ORIGINAL_TIME_ATTRIBUTE, Value::Int(0)));
    let (record, _) = enriched(without);
    assert_eq!(
        (record.time, record.attributes),
        (Timestamp::from_unix_nanos(1_600_000_000_500_000_000), vec![])
    );
    let mut impossible = log(body);
    impossible.attributes.push(Attribute::new(body::ORIGINAL_TIME_ATTRIBUTE, Value::Int(9)));
    let (record, _) = enriched(impossible);
    assert_eq!(record.time, SENT);
    assert_eq!(record.attribute("ts"), Some(&Value::Double(1_600_000_000.5)));
}

#[test]
fn text_says_what_it_can() {
    let (record, level) = enriched(log("[WARN] GET / took 1.5 s status=503"));
    assert_eq!((level, record.latency_ms), (Level::Warn, Some(1_500.0)));
    assert_eq!(record.attribute("status"), Some(&Value::Int(503)));
    let (record, level) = enriched(log("java.io.IOException: no route\n\tat a.B.c(B.java:1)"));
    assert_eq!(level, Level::Error);
    assert_eq!(record.attribute("exception.type"), Some(&string("java.io.IOException")));
    assert_eq!(record.attribute("exception.message"), Some(&string("no route")));
    assert_eq!(enriched(log("hello")).1, Level::Info);
    assert_eq!(enriched(Record { severity_number: 13, ..log("ERROR x") }).1, Level::Warn);
}

#[test]
fn resource_table_and_deploys_add_what_is_absent() {
    let mut config = ProcessorConfig::default();
    let info = ServiceInfo { region: "eu".into(), owner: "team".into(), version: "1".into() };
    config.services.insert("a".into(), info);
    let mut enricher = Enricher::new(&config, Limits::default());
    let mut resource = Resource::of(Service::new("a").unwrap());
    resource.version = "2".into();
    resource.attributes.push(Attribute::new("zone", string("z")));
    let marks = [(SENT, "3".to_owned())];
    let shared = enricher.shared(&resource, RECEIVED, &marks);
    let mut record = log("m");
    record.attributes.push(Attribute::new("zone", string("own")));
    enricher.enrich(&mut record, &shared);
    for (key, value) in [
        ("zone", "own"),
        ("service.version", "2"),
        ("service.region", "eu"),
        ("service.owner", "team"),
        ("deploy.version", "3"),
    ] {
        assert_eq!(record.attribute(key), Some(&string(value)), "{key}");
    }
}

#[test]
fn attributes_over_the_limit_are_left_out_and_counted() {
    let limits = Limits { attributes_max: 1, ..Limits::default() };
    let mut enricher = Enricher::new(&ProcessorConfig::default(), limits);
    let mut resource = Resource::of(Service::new("a").unwrap());
    resource.region = "eu".into();
    resource.host = "h".into();
    let mut record = log("m");
    let shared = enricher.shared(&resource, RECEIVED, &[]);
    enricher.enrich(&mut record, &shared);
    assert_eq!((record.attributes.len(), enricher.attributes_left_out), (1, 1));
}

fn any_body() -> impl Strategy<Value = String> {
    let key = prop_oneof![
        "[a-z]{1,4}",
        prop::sample::select(vec![
            "level",
            "msg",
            "message",
            "time",
            "ts",
            "status",
            "http.status_code",
            "latency_ms",
            "duration",
            "trace_id",
            "span_id",
            "traceparent",
            "logger",
            "error",
            "a",
            "b",
        ])
        .prop_map(str::to_owned),
    ];
    let value = prop_oneof![
        any::<i64>().prop_map(|n| n.to_string()),
        any::<f64>().prop_map(|n| serde_json::json!(n).to_string()),
        "[a-z0-9 ]{0,12}".prop_map(|text| format!("{text:?}")),
        Just("\"error\"".to_owned()),
        Just("{\"type\":\"E\",\"message\":\"m\"}".to_owned()),
        Just("null".to_owned()),
    ];
    prop::collection::vec((key, value), 0..8).prop_map(|pairs| {
        let fields: Vec<String> =
            pairs.iter().map(|(key, value)| format!("\"{key}\":{value}")).collect();
        format!("{{{}}}", fields.join(","))
    })
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(message in ".{0,200}") {
        enriched(log(&message));
    }

    #[test]
    fn no_text_of_telling_parts_makes_it_panic(
        parts in prop::collection::vec(prop::sample::select(vec![
            "trace", "_id", "=", ":", " ", "\"", "took", "latency_ms", "12", "1.5", "ms", "é", "\n",
            "ERROR", "[", "]", "panicked at ", "Exception", "Traceback (most recent call last):", "{", "}",
        ]), 0..20),
    ) {
        enriched(log(&parts.concat()));
    }

    #[test]
    fn the_senders_fields_are_never_overwritten(
        body in any_body(), level in 1..=6_u8, latency_ms in 0.0..1e6, user in any::<i64>(),
    ) {
        let sent = Record {
            level: Level::from_number(level),
            latency_ms: Some(latency_ms),
            trace_id: Some([3; 16]),
            span_id: Some([4; 8]),
            logger: "mine".into(),
            attributes: vec![Attribute::new("a", Value::Int(user)), Attribute::new("status", Value::Bool(true))],
            ..log(&body)
        };
        let (record, level) = enriched(sent.clone());
        prop_assert_eq!(Some(level), sent.level);
        prop_assert_eq!(record.latency_ms, sent.latency_ms);
        prop_assert_eq!((record.trace_id, record.span_id), (sent.trace_id, sent.span_id));
        prop_assert_eq!((&record.logger, record.time), (&sent.logger, sent.time));
        prop_assert_eq!(&record.attributes[..2], &sent.attributes[..]);
        let mut keys: Vec<&str> = record.attributes.iter().map(|a| a.key.as_str()).collect();
        keys.sort_unstable();
        prop_assert!(keys.windows(2).all(|pair| pair[0] != pair[1]));
    }
}
