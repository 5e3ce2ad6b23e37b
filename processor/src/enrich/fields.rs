//! Finds the place of every field of a structured body: a field of the log that the sender left
//! out, or an attribute.

use logweir_core::{
    limits::{FUTURE_MAX, Limits, RESOURCE_FIELD_BYTES_MAX},
    record::{Attribute, Level, Record, Value},
    timestamp::Timestamp,
};

use super::{
    body::Fields,
    units::{checked_ms, duration_ms, epoch_nanos, hex_id, rfc3339_nanos, traceparent, unit_ms},
};

/// Where the server keeps a time that it replaced; a 0 there means that the sender gave none.
pub(super) const ORIGINAL_TIME_ATTRIBUTE: &str = "logweir.original_time_unix_nano";

/// Names under which loggers write the message; the first that is there and is text counts.
const MESSAGE_KEYS: [&str; 6] = ["message", "msg", "body", "log", "event", "text"];

/// A body while it is read.
struct Draft<'a> {
    record: &'a Record,
    received_at: Timestamp,
    limits: &'a Limits,
    has_status: bool,
    found: Found,
}

/// What a body says.
#[derive(Default)]
struct Found {
    message: Option<String>,
    level: Option<Level>,
    time: Option<Timestamp>,
    latency_ms: Option<f64>,
    trace_id: Option<[u8; 16]>,
    span_id: Option<[u8; 8]>,
    logger: Option<String>,
    attributes: Vec<Attribute>,
}

/// Moves the fields of a body to their places in the log; leaves the log alone if one has none.
pub(super) fn adopt(record: &mut Record, fields: Fields, received_at: Timestamp, limits: &Limits) {
    let mut draft = Draft {
        received_at,
        limits,
        has_status: record.attribute("status").is_some()
            || fields.iter().any(|(key, _)| key == "status"),
        found: Found::default(),
        record,
    };
    let is_text = |key: &str| {
        let found = fields.iter().find(|(name, _)| name == key);
        found.is_some_and(|(_, value)| matches!(value, Value::String(text) if !text.is_empty()))
    };
    let message_key = MESSAGE_KEYS.into_iter().find(|key| is_text(key));
    for (key, value) in fields {
        match value {
            Value::String(text) if Some(key.as_str()) == message_key => {
                draft.found.message = Some(text);
            }
            value => {
                // Nothing was changed yet: a log of which half was moved would show neither what
                // was sent nor what it means.
                if draft.place(key, value).is_none() {
                    return;
                }
            }
        }
    }
    let found = draft.found;
    found.apply(record);
}

impl Draft<'_> {
    /// None if the field has no place.
    fn place(&mut self, key: String, value: Value) -> Option<()> {
        let placed = match key.as_str() {
            "level" | "lvl" | "severity" | "loglevel" | "log.level" | "severity_text" => {
                self.level(&value)
            }
            "time" | "ts" | "timestamp" | "@timestamp" => self.time(&value),
            "trace_id" | "traceId" | "trace.id" | "traceid" => self.trace_id(&value),
            "span_id" | "spanId" | "span.id" | "spanid" => self.span_id(&value),
            "traceparent" => self.traceparent(&value),
            "logger" | "logger_name" | "target" => self.logger(&value),
            _ => self.latency(&key, &value),
        };
        if placed {
            return Some(());
        }
        let key = status_key(key, &value, &mut self.has_status);
        self.attribute(key, value)
    }

    fn level(&mut self, value: &Value) -> bool {
        let level = match value {
            Value::String(text) => text.parse().ok(),
            // Bunyan and pino count in tens.
            Value::Int(number @ (10 | 20 | 30 | 40 | 50 | 60)) => {
                Level::from_number(*number as u8 / 10)
            }
            _ => None,
        };
        let sent = self.record.level.or(Level::from_severity_number(self.record.severity_number));
        fill(&mut self.found.level, sent, level)
    }

    fn time(&mut self, value: &Value) -> bool {
        let time = match value {
            Value::String(text) => rfc3339_nanos(text),
            // Nanoseconds stay whole numbers: as a double they would lose the last hundreds.
            Value::Int(number) if *number >= 100_000_000_000_000_000 => Some(*number),
            Value::Int(number) => epoch_nanos(*number as f64),
            Value::Double(number) => epoch_nanos(*number),
            _ => None,
        };
        let latest = self.received_at + FUTURE_MAX;
        let time = time.map(Timestamp::from_unix_nanos);
        let possible = time.filter(|time| (Timestamp::EPOCH.next()..=latest).contains(time));
        // The server has put the time of receipt where the sender gave none; that is no reason to
        // refuse the time that stands in the body.
        let none_sent = self.record.attribute(ORIGINAL_TIME_ATTRIBUTE) == Some(&Value::Int(0));
        let sent = (!none_sent).then_some(self.record.time);
        fill(&mut self.found.time, sent, possible)
    }

    fn trace_id(&mut self, value: &Value) -> bool {
        let Value::String(text) = value else { return false };
        fill(&mut self.found.trace_id, self.record.trace_id, hex_id(text))
    }

    fn span_id(&mut self, value: &Value) -> bool {
        let Value::String(text) = value else { return false };
        fill(&mut self.found.span_id, self.record.span_id, hex_id(text))
    }

    /// Its flags have no other place, so it stays an attribute as well.
    fn traceparent(&mut self, value: &Value) -> bool {
        if let Value::String(text) = value
            && let Some((trace_id, span_id)) = traceparent(text)
            && self.record.trace_id.is_none()
            && self.record.span_id.is_none()
            && self.found.trace_id.is_none()
            && self.found.span_id.is_none()
        {
            (self.found.trace_id, self.found.span_id) = (Some(trace_id), Some(span_id));
        }
        false
    }

    fn logger(&mut self, value: &Value) -> bool {
        let Value::String(text) = value else { return false };
        let fits = !text.is_empty() && text.len() <= RESOURCE_FIELD_BYTES_MAX;
        let sent = (!self.record.logger.is_empty()).then(|| self.record.logger.clone());
        fill(&mut self.found.logger, sent, fits.then(|| text.clone()))
    }

    fn latency(&mut self, key: &str, value: &Value) -> bool {
        is_latency(key).is_some_and(|unit| {
            fill(&mut self.found.latency_ms, self.record.latency_ms, latency_ms(unit, value))
        })
    }

    fn attribute(&mut self, key: String, value: Value) -> Option<()> {
        if let Some(sent) = self.record.attribute(&key) {
            return (*sent == value).then_some(());
        }
        let limits = self.limits;
        let bytes = match &value {
            Value::String(text) | Value::Json(text) => text.len(),
            _ => 0,
        };
        let fits = !key.is_empty()
            && key.len() <= limits.attribute_key_bytes_max
            && bytes <= limits.attribute_value_bytes_max
            && self.record.attributes.len() + self.found.attributes.len() < limits.attributes_max
            && self.found.attributes.iter().all(|known| known.key != key);
        fits.then(|| self.found.attributes.push(Attribute { key, value }))
    }
}

impl Found {
    fn apply(self, record: &mut Record) {
        if let Some(message) = self.message {
            record.message = message;
        }
        if let Some(time) = self.time {
            record.time = time;
            record.attributes.retain(|attribute| attribute.key != ORIGINAL_TIME_ATTRIBUTE);
        }
        if let Some(logger) = self.logger {
            record.logger = logger;
        }
        record.level = record.level.or(self.level);
        record.latency_ms = record.latency_ms.or(self.latency_ms);
        record.trace_id = record.trace_id.or(self.trace_id);
        record.span_id = record.span_id.or(self.span_id);
        record.attributes.extend(self.attributes);
    }
}

/// Fills a field that the sender left out. Whether the value has its place: filled in, or sent as
/// the same.
fn fill<T: PartialEq>(place: &mut Option<T>, sent: Option<T>, value: Option<T>) -> bool {
    let Some(value) = value else { return false };
    match (sent, &place) {
        (Some(sent), _) => sent == value,
        (None, Some(known)) => *known == value,
        (None, None) => {
            *place = Some(value);
            true
        }
    }
}

/// `http.status_code` and its like are called `status`, unless something else is.
fn status_key(key: String, value: &Value, has_status: &mut bool) -> String {
    let is_status = matches!(
        key.as_str(),
        "http.status_code" | "http.response.status_code" | "status_code" | "statusCode"
    );
    if is_status && matches!(value, Value::Int(_)) && !*has_status {
        *has_status = true;
        return "status".to_owned();
    }
    key
}

/// The unit in the name of a latency, if the name is one; empty if the name has no unit.
pub(super) fn is_latency(key: &str) -> Option<&str> {
    let stems = ["latency", "duration", "elapsed", "took", "response_time"];
    let rest = stems.into_iter().find_map(|stem| key.strip_prefix(stem))?;
    match rest.strip_prefix('_') {
        Some(unit) => unit_ms(unit).map(|_| unit),
        None => rest.is_empty().then_some(""),
    }
}

/// A latency needs a unit, in its name or in its value: a bare number may be anything.
fn latency_ms(unit: &str, value: &Value) -> Option<f64> {
    match (value, unit_ms(unit)) {
        (Value::Int(number), Some(unit)) => checked_ms(*number as f64 * unit),
        (Value::Double(number), Some(unit)) => checked_ms(number * unit),
        (Value::String(text), None) => duration_ms(text),
        _ => None,
    }
}
