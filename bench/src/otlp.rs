//! The same logs as OTLP says them.

use logweir_proto::v1;
use opentelemetry_proto::tonic::{
    collector::logs::v1::ExportLogsServiceRequest,
    common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value::Value},
    logs::v1::{LogRecord, ResourceLogs, ScopeLogs},
    resource::v1::Resource,
};

/// A batch as a request: its logs under one scope.
pub(crate) fn request(batch: v1::Batch) -> ExportLogsServiceRequest {
    let resource = batch.resource.unwrap_or_default();
    let attributes = vec![
        text_pair("service.name", resource.service),
        text_pair("service.instance.id", resource.instance),
    ];
    let name = batch.records.first().map(|record| record.logger.clone()).unwrap_or_default();
    let scope = InstrumentationScope { name, ..InstrumentationScope::default() };
    let logs = ScopeLogs {
        scope: Some(scope),
        log_records: batch.records.into_iter().map(log).collect(),
        ..ScopeLogs::default()
    };
    let logs = ResourceLogs {
        resource: Some(Resource { attributes, ..Resource::default() }),
        scope_logs: vec![logs],
        ..ResourceLogs::default()
    };
    ExportLogsServiceRequest { resource_logs: vec![logs] }
}

fn log(record: v1::LogRecord) -> LogRecord {
    // The lowest of the level's four severities.
    let severity_number = (record.level * 4 - 3).max(0);
    LogRecord {
        time_unix_nano: record.time_unix_nano,
        observed_time_unix_nano: record.time_unix_nano,
        severity_text: record.level().as_str_name().trim_start_matches("LEVEL_").to_owned(),
        severity_number,
        body: Some(text(record.message)),
        attributes: record.attributes.into_iter().map(attribute).collect(),
        trace_id: record.trace_id,
        span_id: record.span_id,
        ..LogRecord::default()
    }
}

fn attribute(sent: v1::Attribute) -> KeyValue {
    use v1::attribute::Value as Ours;
    let value = sent.value.map(|value| match value {
        Ours::StringValue(text) | Ours::JsonValue(text) => Value::StringValue(text),
        Ours::IntValue(number) => Value::IntValue(number),
        Ours::DoubleValue(number) => Value::DoubleValue(number),
        Ours::BoolValue(truth) => Value::BoolValue(truth),
    });
    KeyValue { key: sent.key, value: Some(AnyValue { value }), ..KeyValue::default() }
}

fn text(text: String) -> AnyValue {
    AnyValue { value: Some(Value::StringValue(text)) }
}

fn text_pair(key: &str, value: String) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(text(value)), ..KeyValue::default() }
}
