//! What a structured line's fields mean, and how they fill a record. Pure.

use logweir_core::timestamp::Timestamp;
use logweir_proto::v1::{self, attribute::Value};

use crate::parse::{level, time};

/// A line, read.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Parsed {
    /// When it happened; none if the line does not say.
    pub time: Option<Timestamp>,
    /// The service that the line names.
    pub service: Option<String>,
    /// Everything else. Its time is not set.
    pub record: v1::LogRecord,
}

/// What a field of a structured line means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Its event time.
    Time,
    /// Its service.
    Service,
    /// Its level.
    Level,
    /// OpenTelemetry's severity number.
    Severity,
    /// Its message.
    Message,
    /// Its latency in milliseconds.
    Latency,
    /// Its trace id.
    Trace,
    /// Its span id.
    Span,
    /// Its logger.
    Logger,
    /// An object of further attributes.
    Attributes,
    /// None of these: an attribute.
    Other,
}

impl Role {
    /// The role of a field by its name.
    pub fn of(key: &str) -> Self {
        match key {
            "time" | "ts" | "timestamp" | "@timestamp" | "datetime" => Self::Time,
            "service" | "service.name" | "service_name" => Self::Service,
            "level" | "lvl" | "severity" | "loglevel" | "levelname" | "log.level" => Self::Level,
            "severity_number" => Self::Severity,
            "message" | "msg" | "log" | "event" => Self::Message,
            "latency_ms" => Self::Latency,
            "trace_id" | "traceId" => Self::Trace,
            "span_id" | "spanId" => Self::Span,
            "logger" | "logger_name" | "target" => Self::Logger,
            "attributes" => Self::Attributes,
            _ => Self::Other,
        }
    }
}

/// Gathers the fields of a structured line. The first field of a role fills it; whatever a role
/// cannot use becomes an attribute under its own name.
pub struct Fields {
    now: Timestamp,
    parsed: Parsed,
    has_message: bool,
}

impl Fields {
    /// No fields yet.
    pub fn new(now: Timestamp) -> Self {
        Self { now, parsed: Parsed::default(), has_message: false }
    }

    /// Adds a field.
    pub fn add(&mut self, key: &str, value: Value) {
        if !self.fill(Role::of(key), &value) {
            self.add_attribute(key, Some(value));
        }
    }

    /// Adds an attribute, whatever its name.
    pub fn add_attribute(&mut self, key: &str, value: Option<Value>) {
        self.parsed.record.attributes.push(v1::Attribute { key: key.to_owned(), value });
    }

    /// The line, read. One without a message of its own is its own message.
    pub fn finish(mut self, line: &str) -> Parsed {
        if !self.has_message {
            line.clone_into(&mut self.parsed.record.message);
        }
        self.parsed
    }

    fn fill(&mut self, role: Role, value: &Value) -> bool {
        let parsed = &mut self.parsed;
        match role {
            Role::Time => fill_option(&mut parsed.time, || time_of(value, self.now)),
            Role::Service => fill_option(&mut parsed.service, || text_of(value)),
            Role::Level => fill_default(&mut parsed.record.level, || level_of(value)),
            Role::Severity => fill_default(&mut parsed.record.severity_number, || match value {
                // OpenTelemetry has no others.
                Value::IntValue(number @ 1..=24) => u32::try_from(*number).ok(),
                _ => None,
            }),
            Role::Message if !self.has_message => match value {
                Value::StringValue(text) => {
                    text.clone_into(&mut parsed.record.message);
                    self.has_message = true;
                    true
                }
                _ => false,
            },
            Role::Latency => fill_option(&mut parsed.record.latency_ms, || latency_of(value)),
            Role::Trace => fill_default(&mut parsed.record.trace_id, || hex_of(value, 16)),
            Role::Span => fill_default(&mut parsed.record.span_id, || hex_of(value, 8)),
            Role::Logger => fill_default(&mut parsed.record.logger, || text_of(value)),
            Role::Message | Role::Attributes | Role::Other => false,
        }
    }
}

fn fill_option<T>(slot: &mut Option<T>, value: impl FnOnce() -> Option<T>) -> bool {
    if slot.is_some() {
        return false;
    }
    *slot = value();
    slot.is_some()
}

fn fill_default<T: Default + PartialEq>(slot: &mut T, value: impl FnOnce() -> Option<T>) -> bool {
    if *slot != T::default() {
        return false;
    }
    value().is_some_and(|value| {
        *slot = value;
        true
    })
}

fn time_of(value: &Value, now: Timestamp) -> Option<Timestamp> {
    match value {
        Value::StringValue(text) => time::whole(text, now).or_else(|| time::since_epoch(text)),
        // By way of its digits, which tell seconds from milliseconds, microseconds and nanoseconds.
        Value::IntValue(number) => time::since_epoch(&number.to_string()),
        Value::DoubleValue(number) if *number < 1e18 => time::since_epoch(&format!("{number:.6}")),
        _ => None,
    }
}

fn level_of(value: &Value) -> Option<i32> {
    let level = match value {
        Value::StringValue(text) => {
            level::named(text.trim()).or_else(|| level::numbered(text.parse().ok()?))
        }
        Value::IntValue(number) => level::numbered(*number),
        _ => None,
    };
    level.map(i32::from)
}

fn latency_of(value: &Value) -> Option<f64> {
    let latency = match value {
        Value::DoubleValue(number) => *number,
        Value::IntValue(number) => *number as f64,
        Value::StringValue(text) => text.parse().ok()?,
        _ => return None,
    };
    // The server would reject the whole log for a latency that is none; so it becomes an attribute.
    (latency.is_finite() && latency >= 0.0).then_some(latency)
}

fn text_of(value: &Value) -> Option<String> {
    match value {
        Value::StringValue(text) if !text.is_empty() => Some(text.clone()),
        _ => None,
    }
}

fn hex_of(value: &Value, bytes: usize) -> Option<Vec<u8>> {
    // An id of another length, as some tracers have, stays an attribute that can be searched for.
    let Value::StringValue(text) = value else { return None };
    hex::decode(text).ok().filter(|id| id.len() == bytes)
}
