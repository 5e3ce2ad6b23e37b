use std::collections::HashSet;

use opentelemetry_proto::tonic::{
    common::v1::{AnyValue, ArrayValue, any_value::Value as Sent},
    logs::v1::{ResourceLogs, ScopeLogs},
};
use proptest::prelude::*;

use logweir_core::limits::SERVICE_BYTES_MAX;

use super::*;
use crate::{
    otlp::value::tests::{given, pair, string},
    receiver::{
        batches::{PART_BYTES_MAX, PARTS_MAX, RECORD_BYTES_MAX},
        service::unnamed,
    },
};

fn log(time_unix_nano: u64, text: &str) -> LogRecord {
    LogRecord { time_unix_nano, body: Some(string(text)), ..LogRecord::default() }
}

fn logs_of(
    resource: &[KeyValue],
    scope: InstrumentationScope,
    logs: Vec<LogRecord>,
) -> ResourceLogs {
    let scope_logs = ScopeLogs { scope: Some(scope), log_records: logs, ..ScopeLogs::default() };
    let resource = Resource { attributes: resource.to_vec(), ..Resource::default() };
    ResourceLogs {
        resource: Some(resource),
        scope_logs: vec![scope_logs],
        ..ResourceLogs::default()
    }
}

fn of_service(name: &str, logs: Vec<LogRecord>) -> ResourceLogs {
    logs_of(&[pair(SERVICE_NAME, string(name))], InstrumentationScope::default(), logs)
}

fn translated(resource_logs: Vec<ResourceLogs>) -> Translation {
    translate(Request { resource_logs }, "").unwrap()
}

/// What becomes of the one log of a request.
fn one(sent: LogRecord) -> v1::LogRecord {
    let mut translation = translated(vec![of_service("shop", vec![sent])]);
    translation.groups.remove(0).parts.remove(0).records.remove(0)
}

fn resource_of(attributes: &[KeyValue], unnamed: &str) -> v1::Resource {
    let sent = Resource { attributes: attributes.to_vec(), ..Resource::default() };
    resource(sent, unnamed)
}

fn said(attributes: &[v1::Attribute]) -> Vec<(&str, &Value)> {
    attributes.iter().map(|a| (a.key.as_str(), a.value.as_ref().unwrap())).collect()
}

fn text_value(text: &str) -> Value {
    Value::StringValue(text.into())
}

#[test]
fn every_field_of_a_log_has_its_place() {
    let scope = InstrumentationScope {
        name: "shop.orders".into(),
        version: "1.2".into(),
        attributes: vec![pair("team", string("a"))],
        dropped_attributes_count: 1,
    };
    let sent = LogRecord {
        time_unix_nano: 7,
        observed_time_unix_nano: 8,
        severity_number: 13,
        severity_text: "WARNING".into(),
        body: Some(string("slow")),
        attributes: vec![
            pair("n", given(Sent::IntValue(1))),
            pair("list", given(Sent::ArrayValue(ArrayValue { values: vec![string("x")] }))),
        ],
        dropped_attributes_count: 2,
        flags: 0xffff_ff01,
        trace_id: vec![1; 16],
        span_id: vec![2; 8],
        event_name: "order.slow".into(),
    };
    let mut translation = translated(vec![logs_of(&[], scope, vec![sent])]);
    let record = translation.groups.remove(0).parts.remove(0).records.remove(0);
    let expected = [
        ("otel.scope.team", text_value("a")),
        ("otel.scope.version", text_value("1.2")),
        ("otel.scope.dropped_attributes_count", Value::IntValue(1)),
        ("n", Value::IntValue(1)),
        ("list", Value::JsonValue(r#"["x"]"#.into())),
        ("severity_text", text_value("WARNING")),
        ("otel.event.name", text_value("order.slow")),
        ("otel.dropped_attributes_count", Value::IntValue(2)),
        ("trace_flags", text_value("01")),
    ];
    assert_eq!(said(&record.attributes), expected.each_ref().map(|(key, value)| (*key, value)));
    let rest = v1::LogRecord { attributes: Vec::new(), ..record };
    let expected = v1::LogRecord {
        time_unix_nano: 7,
        severity_number: 13,
        message: "slow".into(),
        trace_id: vec![1; 16],
        span_id: vec![2; 8],
        logger: "shop.orders".into(),
        ..v1::LogRecord::default()
    };
    assert_eq!(rest, expected);
}

#[test]
fn a_log_without_a_time_has_that_of_its_observation() {
    assert_eq!(
        one(LogRecord { observed_time_unix_nano: 8, ..LogRecord::default() }).time_unix_nano,
        8
    );
    assert_eq!(one(LogRecord::default()).time_unix_nano, 0);
}

#[test]
fn the_text_of_a_severity_is_kept_where_it_says_more_than_the_level() {
    for (number, text, level, kept) in [
        (9, "INFO", v1::Level::Unspecified, false),
        (9, "info", v1::Level::Unspecified, false),
        (10, "INFO2", v1::Level::Unspecified, true),
        (13, "WARNING", v1::Level::Unspecified, true),
        (13, "INFO", v1::Level::Unspecified, true),
        (0, "ERROR", v1::Level::Error, false),
        (0, "crit", v1::Level::Fatal, true),
        (0, "loud", v1::Level::Unspecified, true),
        (0, "", v1::Level::Unspecified, false),
        (25, "INFO", v1::Level::Unspecified, true),
    ] {
        let sent = LogRecord {
            severity_number: number,
            severity_text: text.into(),
            ..LogRecord::default()
        };
        let record = one(sent);
        assert_eq!((record.level(), record.severity_number), (level, number as u32), "{text}");
        let expected = if kept { vec![("severity_text", text_value(text))] } else { Vec::new() };
        let expected: Vec<_> = expected.iter().map(|(key, value)| (*key, value)).collect();
        assert_eq!(said(&record.attributes), expected);
    }
    let below = LogRecord { severity_number: -1, ..LogRecord::default() };
    assert_eq!(one(below).severity_number, u32::MAX);
}

#[test]
fn an_id_of_another_length_is_none_and_kept() {
    let sent = LogRecord { trace_id: vec![1; 3], span_id: vec![2; 9], ..LogRecord::default() };
    let record = one(sent);
    assert_eq!((record.trace_id.len(), record.span_id.len()), (0, 0));
    let expected = [
        ("logweir.invalid_trace_id", &text_value("010101")),
        ("logweir.invalid_span_id", &text_value("020202020202020202")),
    ];
    assert_eq!(said(&record.attributes), expected);
}

#[test]
fn a_resource_has_the_fields_that_ours_has_and_keeps_the_rest() {
    let sent = [
        pair(SERVICE_NAME, string("shop")),
        pair("service.instance.id", string("i-1")),
        pair("service.version", given(Sent::IntValue(7))),
        pair("deployment.environment.name", string("prod")),
        pair("deployment.environment", string("production")),
        pair("cloud.region", string("eu")),
        pair("host.name", string("h")),
        pair("process.pid", given(Sent::IntValue(42))),
        pair("empty", AnyValue::default()),
    ];
    let resource = resource_of(&sent, "");
    assert_eq!(
        [&resource.service, &resource.instance, &resource.version, &resource.environment],
        ["shop", "i-1", "7", "prod"]
    );
    assert_eq!([&resource.region, &resource.host], ["eu", "h"]);
    let keys: Vec<&str> = resource.attributes.iter().map(|a| a.key.as_str()).collect();
    assert_eq!(keys, ["deployment.environment", "process.pid", "empty"]);
    let old = resource_of(&[pair("deployment.environment", string("prod"))], "");
    assert_eq!((old.environment.as_str(), old.attributes.len()), ("prod", 0));
    let dropped = Resource { dropped_attributes_count: 3, ..Resource::default() };
    let dropped = super::resource(dropped, "").attributes;
    assert_eq!(said(&dropped), [("otel.resource.dropped_attributes_count", &Value::IntValue(3))]);
}

#[test]
fn a_service_that_was_given_no_name_is_the_tokens_or_unknown() {
    let named = |name: &str| [pair(SERVICE_NAME, string(name))];
    for (sent, unnamed, service, kept) in [
        (&[][..], "", "", None),
        (&[], UNKNOWN_SERVICE, UNKNOWN_SERVICE, None),
        (&named(""), "", "", None),
        (&named("unknown_service"), "", "", None),
        (&named("unknown_service:java"), "", "", Some("unknown_service:java")),
        (
            &named("unknown_service:java"),
            UNKNOWN_SERVICE,
            UNKNOWN_SERVICE,
            Some("unknown_service:java"),
        ),
        (&named("shop"), UNKNOWN_SERVICE, "shop", None),
    ] {
        let resource = resource_of(sent, unnamed);
        assert_eq!(resource.service, service);
        let expected = kept.map(text_value);
        let found = resource.attributes.first().and_then(|attribute| attribute.value.clone());
        assert_eq!(found, expected);
    }
    assert_eq!((unnamed(true), unnamed(false)), (UNKNOWN_SERVICE, ""));
}

#[test]
fn logs_of_one_resource_come_together() {
    let translation = translated(vec![
        of_service("a", vec![log(1, "1")]),
        of_service("b", vec![log(2, "2")]),
        of_service("a", vec![log(3, "3")]),
        of_service("c", vec![]),
    ]);
    let found: Vec<_> = translation
        .groups
        .iter()
        .map(|group| {
            let records = group.parts.iter().flat_map(|part| &part.records);
            let times: Vec<u64> = records.map(|record| record.time_unix_nano).collect();
            (group.resource.service.as_str(), times)
        })
        .collect();
    assert_eq!(found, [("a", vec![1, 3]), ("b", vec![2])]);
}

#[test]
fn any_text_names_a_service() {
    let long = "é".repeat(100);
    for (sent, service, kept) in [
        ("team/api-v1.2_x", "team/api-v1.2_x", None),
        ("Order Service", "Order_Service", Some("Order Service")),
        ("зал", "u0437u0430u043b", Some("зал")),
        (&long, &"u00e9".repeat(26)[..SERVICE_BYTES_MAX], Some(long.as_str())),
        ("unknown_service", "own", None),
        ("unknown_service:java", "own", Some("unknown_service:java")),
        ("unknown_service_router", "unknown_service_router", None),
    ] {
        let named =
            Resource { attributes: vec![pair(SERVICE_NAME, string(sent))], ..Default::default() };
        let found = resource(named, "own");
        assert_eq!(found.service, service);
        let value = found.attributes.into_iter().next().and_then(|attribute| attribute.value);
        assert_eq!(value, kept.map(text_value));
    }
}

#[test]
fn an_attribute_without_a_name_is_absent() {
    let attributes = vec![pair("", string("x")), pair("k", string("v"))];
    let found = resource(Resource { attributes, ..Default::default() }, "own");
    assert_eq!(found.attributes.len(), 1);
}

#[test]
fn a_resource_may_not_be_in_too_many_parts() {
    let large = [pair("k", string(&"x".repeat(1 << 20)))];
    let logs = |count| logs_of(&large, InstrumentationScope::default(), vec![log(1, ""); count]);
    let parts = |count| translate(Request { resource_logs: vec![logs(count)] }, "");
    assert!(parts(1_000).is_ok());
    assert_eq!(parts(10_000).unwrap_err().reason(), "BATCH_TOO_LARGE");
}

fn part_sizes(resource_logs: Vec<ResourceLogs>) -> Vec<usize> {
    let parts = translated(resource_logs).groups.into_iter().flat_map(|group| group.parts);
    parts.map(|part| part.records.len()).collect()
}

#[test]
fn a_part_has_a_number_of_logs_and_bytes_at_most() {
    assert_eq!(part_sizes(vec![of_service("a", vec![log(1, ""); 20_001])]), [10_000, 10_000, 1]);
    let long = "x".repeat(400_000);
    assert_eq!(part_sizes(vec![of_service("a", vec![log(1, &long); 5])]), [2, 2, 1]);
    // 4 MiB on each of 10,000 logs would be 40 GiB.
    let large = [pair("k", string(&"x".repeat(4 << 20)))];
    let logs = logs_of(&large, InstrumentationScope::default(), vec![log(1, ""); 20]);
    assert_eq!(part_sizes(vec![logs]), [7, 7, 6]);
}

#[test]
fn what_is_too_large_takes_nothing_else_along() {
    let huge = "x".repeat(RECORD_BYTES_MAX);
    let Translation { groups, rejected, .. } =
        translated(vec![of_service("a", vec![log(1, "1"), log(2, &huge), log(3, "3")])]);
    assert_eq!(groups[0].parts[0].records.len(), 2);
    assert_eq!(rejected.places, [1]);
    assert!(rejected.told[0].detail.contains("the limit is 4194304"), "{rejected:?}");

    let wide = InstrumentationScope { version: "x".repeat(100_000), ..Default::default() };
    let swollen = logs_of(&[], wide, vec![log(1, ""); 1_000]);
    let Translation { groups, rejected, .. } =
        translated(vec![swollen, of_service("a", vec![log(1, "1")])]);
    assert_eq!((groups.len(), groups[0].parts[0].records.len()), (1, 1));
    assert_eq!(rejected.places, Vec::from_iter(0..1_000));
}

#[test]
fn a_request_of_too_many_batches_is_refused() {
    let logs = |count: usize| Request {
        resource_logs: (0..count).map(|n| of_service(&n.to_string(), vec![log(1, "")])).collect(),
    };
    assert!(translate(logs(PARTS_MAX), "").is_ok());
    assert_eq!(translate(logs(PARTS_MAX + 1), "").unwrap_err().reason(), "BATCH_TOO_LARGE");
}

fn any_logs() -> impl Strategy<Value = Vec<ResourceLogs>> {
    let text = prop::sample::select(vec!["", "a", "b"]);
    let record = (0..3_u64, text, 0..300_000_usize)
        .prop_map(|(time, text, size)| log(time, &format!("{text}{}", "x".repeat(size))));
    let of_one = (prop::sample::select(vec!["a", "b"]), prop::collection::vec(record, 0..6));
    prop::collection::vec(of_one.prop_map(|(service, logs)| of_service(service, logs)), 0..6)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn nothing_is_lost_and_the_same_request_is_the_same_parts(sent in any_logs()) {
        let translation = translated(sent.clone());
        prop_assert_eq!(&translation, &translated(sent.clone()));
        let counted = |texts: Vec<(String, String)>| {
            let mut texts = texts;
            texts.sort();
            texts
        };
        let before = sent.iter().flat_map(|of_one| {
            let service = resource(of_one.resource.clone().unwrap(), "").service;
            let logs = of_one.scope_logs.iter().flat_map(|scope| &scope.log_records);
            logs.map(move |log| (service.clone(), text(log.body.clone().unwrap())))
        });
        let after = translation.groups.iter().flat_map(|group| {
            let service = group.resource.service.clone();
            let records = group.parts.iter().flat_map(|part| &part.records);
            records.map(move |record| (service.clone(), record.message.clone()))
        });
        prop_assert_eq!(counted(before.collect()), counted(after.collect()));
        let mut resources = HashSet::new();
        for group in &translation.groups {
            prop_assert!(resources.insert(group.resource.encode_to_vec()), "each resource once");
            for part in &group.parts {
                let bytes: usize = part.records.iter().map(Message::encoded_len).sum();
                prop_assert_eq!(bytes, part.bytes);
                prop_assert!(bytes <= PART_BYTES_MAX || part.records.len() == 1);
            }
        }
    }

    #[test]
    fn any_request_is_translated(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        if let Ok(request) = Request::decode(&bytes[..]) {
            prop_assert!(translate(request, "").is_ok());
        }
    }
}
