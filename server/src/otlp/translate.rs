//! What becomes of each field of an OTLP request, and where it is cut into batches. Pure: a request
//! that is sent again is the same batches, whatever the settings are.
//!
//! The service and what else has a field of its own goes there; every other attribute is kept under its
//! own name, but for those without one, which OTLP takes as absent. What a log has beside its attributes
//! is kept as attributes, by the names that OpenTelemetry gives them outside of OTLP: `severity_text`
//! unless it only names the level, `otel.event.name`, `trace_flags`, `otel.dropped_attributes_count`, and
//! its scope as `otel.scope.version` and `otel.scope.…`; the scope's name is its logger. Schema URLs are
//! not kept, nor when a log was observed if it says when it happened.

use logweir_core::record::Level;
use logweir_proto::v1::{self, attribute::Value};
use opentelemetry_proto::tonic::{
    collector::logs::v1::ExportLogsServiceRequest as Request,
    common::v1::{InstrumentationScope, KeyValue},
    logs::v1::LogRecord,
    resource::v1::Resource,
};
use prost::Message;

use super::value::{attribute, text};
use crate::{
    receiver::{
        Batches, Translation,
        batches::ATTRIBUTE_BYTES,
        service::{UNKNOWN_SERVICE, service_name},
    },
    status::Refusal,
};

const SERVICE_NAME: &str = "service.name";
/// What is kept of an id that is none.
pub(super) const INVALID_TRACE_ID: &str = "logweir.invalid_trace_id";
pub(super) const INVALID_SPAN_ID: &str = "logweir.invalid_span_id";

/// Translates a request; logs without the name of a service belong to `unnamed`.
pub(super) fn translate(request: Request, unnamed: &str) -> Result<Translation, Refusal> {
    let (mut batches, mut next) = (Batches::default(), 0);
    for logs in request.resource_logs {
        let group = batches.group(resource(logs.resource.unwrap_or_default(), unnamed));
        for logs in logs.scope_logs {
            let scope = scope(logs.scope.unwrap_or_default());
            let places = next..next + logs.log_records.len() as u32;
            next = places.end;
            if !batches.takes_copies("scopes", scope.bytes, places.clone()) {
                continue;
            }
            for (place, log) in places.zip(logs.log_records) {
                batches.note_time(log.observed_time_unix_nano);
                batches.add(group, place, record(log, &scope));
            }
        }
    }
    batches.finish()
}

fn resource(sent: Resource, unnamed: &str) -> v1::Resource {
    let mut resource = v1::Resource::default();
    for KeyValue { key, value, key_strindex } in named(sent.attributes) {
        let field = match key.as_str() {
            SERVICE_NAME => &mut resource.service,
            "service.instance.id" => &mut resource.instance,
            "service.version" => &mut resource.version,
            "deployment.environment.name" => &mut resource.environment,
            "cloud.region" => &mut resource.region,
            "host.name" => &mut resource.host,
            _ => {
                let other = attribute(KeyValue { key, value, key_strindex });
                resource.attributes.push(other);
                continue;
            }
        };
        *field = value.map(text).unwrap_or_default();
    }
    take_old_environment(&mut resource);
    name_service(&mut resource, unnamed);
    add_dropped(&mut resource.attributes, "resource.", sent.dropped_attributes_count);
    resource
}

/// `deployment.environment` was renamed in version 1.27 of the semantic conventions.
fn take_old_environment(resource: &mut v1::Resource) {
    if !resource.environment.is_empty() {
        return;
    }
    let is_old = |attribute: &v1::Attribute| {
        attribute.key == "deployment.environment"
            && matches!(attribute.value, Some(Value::StringValue(_)))
    };
    if let Some(position) = resource.attributes.iter().position(is_old)
        && let Some(Value::StringValue(text)) = resource.attributes.remove(position).value
    {
        resource.environment = text;
    }
}

/// Names the service, and keeps the name that was sent as an attribute if it is another one.
fn name_service(resource: &mut v1::Resource, unnamed: &str) {
    let sent = std::mem::take(&mut resource.service);
    let process = sent.strip_prefix(UNKNOWN_SERVICE);
    let is_unnamed =
        sent.is_empty() || process.is_some_and(|name| name.is_empty() || name.starts_with(':'));
    resource.service = if is_unnamed { unnamed.to_owned() } else { service_name(&sent) };
    // Such as `unknown_service:java`, which still says something.
    if sent != resource.service && sent != UNKNOWN_SERVICE {
        add_text(&mut resource.attributes, SERVICE_NAME, sent);
    }
}

/// Those that have a name; without one they are to be taken as absent (`common.proto`).
fn named(attributes: Vec<KeyValue>) -> impl Iterator<Item = KeyValue> {
    attributes.into_iter().filter(|attribute| !attribute.key.is_empty())
}

/// What the logs of a scope get from it.
struct Scope {
    logger: String,
    attributes: Vec<v1::Attribute>,
    /// Of one copy.
    bytes: usize,
}

fn scope(sent: InstrumentationScope) -> Scope {
    let mut attributes: Vec<v1::Attribute> = named(sent.attributes).map(attribute).collect();
    for attribute in &mut attributes {
        attribute.key.insert_str(0, "otel.scope.");
    }
    add_text(&mut attributes, "otel.scope.version", sent.version);
    add_dropped(&mut attributes, "scope.", sent.dropped_attributes_count);
    let encoded: usize = attributes.iter().map(Message::encoded_len).sum();
    let bytes = sent.name.len() + encoded + attributes.len() * ATTRIBUTE_BYTES;
    Scope { logger: sent.name, attributes, bytes }
}

/// When a log happened as far as it says: the event's own time, else that of its observation; 0 for
/// neither.
fn time_unix_nano(log: &LogRecord) -> u64 {
    if log.time_unix_nano == 0 { log.observed_time_unix_nano } else { log.time_unix_nano }
}

fn record(sent: LogRecord, scope: &Scope) -> v1::LogRecord {
    let time_unix_nano = time_unix_nano(&sent);
    // Of attributes with one name the last one stays: what the log itself says comes after its scope's.
    let mut attributes = Vec::with_capacity(scope.attributes.len() + sent.attributes.len() + 1);
    attributes.extend_from_slice(&scope.attributes);
    attributes.extend(named(sent.attributes).map(attribute));
    let level = severity(sent.severity_number, sent.severity_text, &mut attributes);
    add_text(&mut attributes, "otel.event.name", sent.event_name);
    add_dropped(&mut attributes, "", sent.dropped_attributes_count);
    // The lower eight bits are W3C's trace flags, written as there; the others are reserved.
    let flags = sent.flags & 0xff;
    if flags != 0 {
        add_text(&mut attributes, "trace_flags", format!("{flags:02x}"));
    }
    let trace_id = id::<16>(sent.trace_id, INVALID_TRACE_ID, &mut attributes);
    let span_id = id::<8>(sent.span_id, INVALID_SPAN_ID, &mut attributes);
    v1::LogRecord {
        time_unix_nano,
        level: level.into(),
        // One below 0 becomes one that no severity has, and so is rejected like those above 24.
        severity_number: u32::try_from(sent.severity_number).unwrap_or(u32::MAX),
        message: sent.body.map(text).unwrap_or_default(),
        latency_ms: None,
        trace_id,
        span_id,
        logger: scope.logger.clone(),
        attributes,
    }
}

/// The level that the text names where there is no number. The text is kept if it says more than the
/// level's name.
fn severity(number: i32, text: String, attributes: &mut Vec<v1::Attribute>) -> v1::Level {
    let numbered = u8::try_from(number).ok().and_then(Level::from_severity_number);
    let named = if number == 0 { text.parse::<Level>().ok() } else { None };
    if !numbered.or(named).is_some_and(|level| level.as_str().eq_ignore_ascii_case(&text)) {
        add_text(attributes, "severity_text", text);
    }
    named.map_or(v1::Level::Unspecified, logweir_core::wire::level_to_wire)
}

/// A trace's or span's id. Of another length it is none, as OTLP says (`logs.proto`), and kept as an
/// attribute.
fn id<const N: usize>(sent: Vec<u8>, key: &str, attributes: &mut Vec<v1::Attribute>) -> Vec<u8> {
    if sent.is_empty() || sent.len() == N {
        return sent;
    }
    add_text(attributes, key, hex::encode(sent));
    Vec::new()
}

fn add_text(attributes: &mut Vec<v1::Attribute>, key: &str, text: String) {
    if !text.is_empty() {
        let value = Some(Value::StringValue(text));
        attributes.push(v1::Attribute { key: key.to_owned(), value });
    }
}

fn add_dropped(attributes: &mut Vec<v1::Attribute>, prefix: &str, count: u32) {
    if count > 0 {
        attributes.push(int(&format!("otel.{prefix}dropped_attributes_count"), count.into()));
    }
}

fn int(key: &str, number: i64) -> v1::Attribute {
    v1::Attribute { key: key.to_owned(), value: Some(Value::IntValue(number)) }
}

#[cfg(test)]
mod tests;
