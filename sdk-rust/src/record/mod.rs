//! What a program hands over, cut to the limits of the contract.
//!
//! The server refuses a log that is over a limit. The library never does: it cuts text at a
//! character boundary, leaves out what cannot be kept, and says so in two attributes of the log,
//! `logweir.truncated` and `logweir.dropped_attributes`.

#[cfg(any(feature = "log", feature = "tracing"))]
pub(crate) mod fields;
pub(crate) mod redaction;
pub(crate) mod resource;
pub(crate) mod sampling;
pub(crate) mod trace;

use logweir_proto::v1::{Attribute, Level, LogRecord, attribute::Value as WireValue};
use prost::Message;

/// Longest message, bytes.
pub const MESSAGE_BYTES_MAX: usize = 64 << 10;
/// Most attributes of a log.
pub const ATTRIBUTES_MAX: usize = 128;
/// Longest name of an attribute, bytes.
pub const ATTRIBUTE_KEY_BYTES_MAX: usize = 256;
/// Longest value of an attribute, bytes.
pub const ATTRIBUTE_VALUE_BYTES_MAX: usize = 16 << 10;
/// Longest logger, instance, environment, version, region or host, bytes.
pub const NAME_BYTES_MAX: usize = 256;

const TRUNCATED: &str = "logweir.truncated";
const DROPPED_ATTRIBUTES: &str = "logweir.dropped_attributes";
/// The two flags themselves are attributes.
const FLAGS_MAX: usize = 2;
const SEVERITY_NUMBER_MAX: u32 = 24;

/// A log.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Record(pub(crate) LogRecord);

impl Record {
    /// A log that happens now.
    pub fn new(level: Level, message: impl Into<String>) -> Self {
        Self(LogRecord { level: level.into(), message: message.into(), ..LogRecord::default() })
    }

    /// Sets when it happened, nanoseconds since 1970-01-01 UTC. Without it: when it is emitted.
    pub fn time_unix_nano(mut self, time: u64) -> Self {
        self.0.time_unix_nano = time;
        self
    }

    /// Adds a named value. A name given twice keeps its last value.
    pub fn attribute(mut self, key: impl Into<String>, value: impl Into<Value>) -> Self {
        self.0.attributes.push(attribute(key.into(), value.into()));
        self
    }

    /// Sets how long the logged operation took, milliseconds.
    pub fn latency_ms(mut self, latency_ms: f64) -> Self {
        self.0.latency_ms = Some(latency_ms);
        self
    }

    /// Sets the W3C trace and span ids.
    pub fn trace(mut self, trace_id: [u8; 16], span_id: [u8; 8]) -> Self {
        self.0.trace_id = trace_id.to_vec();
        self.0.span_id = span_id.to_vec();
        self
    }

    /// Sets the logger, module or target that wrote it.
    pub fn logger(mut self, logger: impl Into<String>) -> Self {
        self.0.logger = logger.into();
        self
    }

    /// Sets OpenTelemetry's severity, 1 to 24.
    pub fn severity_number(mut self, severity_number: u32) -> Self {
        self.0.severity_number = severity_number;
        self
    }
}

impl From<LogRecord> for Record {
    fn from(record: LogRecord) -> Self {
        Self(record)
    }
}

/// The value of an attribute.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Text.
    Text(String),
    /// A whole number.
    Int(i64),
    /// A number.
    Double(f64),
    /// True or false.
    Bool(bool),
    /// A nested value as JSON text.
    Json(String),
}

impl From<Value> for WireValue {
    fn from(value: Value) -> Self {
        match value {
            Value::Text(text) => Self::StringValue(text),
            Value::Int(number) => Self::IntValue(number),
            Value::Double(number) => Self::DoubleValue(number),
            Value::Bool(flag) => Self::BoolValue(flag),
            Value::Json(text) => Self::JsonValue(text),
        }
    }
}

macro_rules! value_from {
    ($($from:ty => $variant:ident),*) => {$(
        impl From<$from> for Value {
            fn from(value: $from) -> Self {
                Self::$variant(value.into())
            }
        }
    )*};
}

value_from!(String => Text, &str => Text, i64 => Int, i32 => Int, u32 => Int, f64 => Double,
    f32 => Double, bool => Bool);

impl From<u64> for Value {
    /// A number that does not fit the wire's whole numbers stays exact as text.
    fn from(number: u64) -> Self {
        i64::try_from(number).map_or_else(|_| Self::Text(number.to_string()), Self::Int)
    }
}

pub(crate) fn attribute(key: String, value: Value) -> Attribute {
    Attribute { key, value: Some(value.into()) }
}

/// How many levels there are, UNSPECIFIED left out.
pub(crate) const LEVELS: usize = 6;

/// The place of a level among all, lowest first; one that is not given counts as INFO.
pub(crate) fn level_index(level: i32) -> usize {
    match Level::try_from(level) {
        Ok(Level::Unspecified) | Err(_) => Level::Info as usize - 1,
        Ok(level) => level as usize - 1,
    }
}

/// Cuts a log to the limits and flags what was cut.
pub(crate) fn fit(record: &mut LogRecord) {
    let mut truncated = cut(&mut record.message, MESSAGE_BYTES_MAX);
    truncated |= cut(&mut record.logger, NAME_BYTES_MAX);
    truncated |= fit_fields(record);
    for attribute in &mut record.attributes {
        truncated |= fit_attribute(attribute);
    }
    let before = record.attributes.len();
    let nameless = record.attributes.iter().any(|attribute| attribute.key.is_empty());
    if nameless {
        record.attributes.retain(|attribute| !attribute.key.is_empty());
    }
    // Most logs end here, unchanged.
    if !truncated && !nameless && before <= ATTRIBUTES_MAX {
        return;
    }
    // The count of what was left out needs a place only if something is.
    let flags = if nameless || before >= ATTRIBUTES_MAX { FLAGS_MAX } else { 1 };
    // Room for the flags, which are attributes themselves.
    record.attributes.truncate(ATTRIBUTES_MAX - flags);
    let dropped = before - record.attributes.len();
    record.attributes.push(attribute(TRUNCATED.into(), true.into()));
    if dropped > 0 {
        record.attributes.push(attribute(DROPPED_ATTRIBUTES.into(), (dropped as u64).into()));
    }
}

/// Clears what the server would refuse the log for. True if there was such a thing.
fn fit_fields(record: &mut LogRecord) -> bool {
    let mut changed = false;
    // The server refuses these, and with one log the others of its batch would wait for a repair.
    if record.latency_ms.is_some_and(|latency| !latency.is_finite() || latency < 0.0) {
        record.latency_ms = None;
        changed = true;
    }
    for (id, size) in [(&mut record.trace_id, 16), (&mut record.span_id, 8)] {
        if !id.is_empty() && id.len() != size {
            *id = Vec::new();
            changed = true;
        }
    }
    if record.severity_number > SEVERITY_NUMBER_MAX {
        record.severity_number = 0;
        changed = true;
    }
    if Level::try_from(record.level).is_err() {
        record.level = Level::Unspecified.into();
        changed = true;
    }
    changed
}

fn fit_attribute(attribute: &mut Attribute) -> bool {
    let key_cut = cut(&mut attribute.key, ATTRIBUTE_KEY_BYTES_MAX);
    let value_cut = match &mut attribute.value {
        Some(WireValue::StringValue(text)) => cut(text, ATTRIBUTE_VALUE_BYTES_MAX),
        Some(WireValue::JsonValue(text)) if text.len() > ATTRIBUTE_VALUE_BYTES_MAX => {
            // A part of a JSON text is no JSON text.
            let mut text = std::mem::take(text);
            let was_cut = cut(&mut text, ATTRIBUTE_VALUE_BYTES_MAX);
            attribute.value = Some(WireValue::StringValue(text));
            was_cut
        }
        _ => false,
    };
    key_cut || value_cut
}

/// Cuts a text to a number of bytes, at a character boundary. True if it was longer.
pub(crate) fn cut(text: &mut String, bytes_max: usize) -> bool {
    if text.len() <= bytes_max {
        return false;
    }
    let boundary = (0..=bytes_max).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    text.truncate(boundary);
    // The queue counts capacity: an enormous message must not keep its memory.
    text.shrink_to_fit();
    true
}

/// What a log takes in memory and on the wire, bytes.
pub(crate) fn sizes(record: &LogRecord) -> (usize, usize) {
    let encoded = record.encoded_len();
    let slack = record.message.capacity() - record.message.len();
    let attributes = record.attributes.capacity() * size_of::<Attribute>();
    (size_of::<LogRecord>() + encoded + slack + attributes, encoded)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn find<'a>(record: &'a LogRecord, key: &str) -> Option<&'a WireValue> {
        record.attributes.iter().find(|attribute| attribute.key == key)?.value.as_ref()
    }

    #[test]
    fn a_log_within_the_limits_is_left_alone() {
        let record = Record::new(Level::Info, "m".repeat(MESSAGE_BYTES_MAX))
            .attribute("k".repeat(256), "v".repeat(ATTRIBUTE_VALUE_BYTES_MAX))
            .trace([1; 16], [2; 8]);
        let mut fitted = record.0.clone();
        fit(&mut fitted);
        assert_eq!(fitted, record.0);
    }

    #[test]
    fn text_is_cut_between_characters_and_flagged() {
        let mut record = Record::new(Level::Info, "ä".repeat(40_000)).0;
        fit(&mut record);
        assert_eq!(record.message.len(), MESSAGE_BYTES_MAX);
        assert_eq!(find(&record, TRUNCATED), Some(&WireValue::BoolValue(true)));
        assert_eq!(find(&record, DROPPED_ATTRIBUTES), None);
    }

    #[test]
    fn surplus_and_nameless_attributes_are_left_out_and_counted() {
        let mut record = Record::new(Level::Info, "x").attribute("", 1_i64);
        for number in 0..200_i64 {
            record = record.attribute(format!("k{number}"), number);
        }
        fit(&mut record.0);
        assert_eq!(record.0.attributes.len(), ATTRIBUTES_MAX);
        assert_eq!(find(&record.0, DROPPED_ATTRIBUTES), Some(&WireValue::IntValue(75)));
    }

    #[test]
    fn what_the_server_would_refuse_is_cleared() {
        let mut record = LogRecord {
            level: 77,
            severity_number: 25,
            latency_ms: Some(f64::NAN),
            trace_id: vec![1; 15],
            span_id: vec![1; 9],
            ..LogRecord::default()
        };
        fit(&mut record);
        let expected = LogRecord {
            attributes: vec![attribute(TRUNCATED.into(), Value::Bool(true))],
            ..LogRecord::default()
        };
        assert_eq!(record, expected);
    }

    #[test]
    fn json_that_had_to_be_cut_becomes_text() {
        let mut record =
            Record::new(Level::Info, "x").attribute("j", Value::Json("[".repeat(20_000)));
        fit(&mut record.0);
        let Some(WireValue::StringValue(text)) = find(&record.0, "j") else { panic!("no text") };
        assert_eq!(text.len(), ATTRIBUTE_VALUE_BYTES_MAX);
    }

    proptest! {
        #[test]
        fn any_log_fits_afterwards_and_fitting_twice_changes_nothing(
            message in "\\PC{0,400}",
            repeats in 1_usize..200,
            attributes in proptest::collection::vec((".{0,300}", ".{0,50}", 1_usize..400), 0..140),
        ) {
            let mut record = Record::new(Level::Warn, message.repeat(repeats));
            for (key, value, repeats) in attributes {
                record = record.attribute(key, value.repeat(repeats));
            }
            fit(&mut record.0);
            prop_assert!(record.0.message.len() <= MESSAGE_BYTES_MAX);
            prop_assert!(record.0.attributes.len() <= ATTRIBUTES_MAX);
            for attribute in &record.0.attributes {
                prop_assert!((1..=ATTRIBUTE_KEY_BYTES_MAX).contains(&attribute.key.len()));
            }
            let once = record.0.clone();
            fit(&mut record.0);
            prop_assert_eq!(once, record.0);
        }
    }
}
