//! Gathers the fields of a structured log. Pure. What a role cannot use becomes an attribute under
//! its own name: nothing is lost.

use logweir_core::{
    record::{Attribute, Level, Value},
    timestamp::Timestamp,
};

use crate::{
    exception::exception,
    level,
    names::Role,
    parsed::{Context, Parsed},
    service, time,
    units::{checked_ms, duration_ms, hex_id, latency_unit, traceparent, unit_ms},
};

/// Rank of a message or service that was not found yet.
const NO_RANK: u8 = u8::MAX;
/// Rank of the command among the names of a service.
const COMMAND_RANK: u8 = 3;
/// Rank of a pod, of whose name the random end is no part of the service's.
const POD_RANK: u8 = 4;
/// Attributes among which a name is looked for: more than any log may have.
const ATTRIBUTES_SEARCHED_MAX: usize = 256;
const NANOS_PER_MS: f64 = 1e6;

/// What was gathered so far. What is known beforehand stays: a field that says the same has its
/// place, one that says something else becomes an attribute.
pub(crate) struct Fields<'a> {
    context: &'a Context,
    parsed: Parsed,
    message_rank: u8,
    message_key: String,
    service_rank: u8,
    /// A level by number whose meaning depends on the other fields.
    number: Option<i64>,
    is_gelf: bool,
}

impl<'a> Fields<'a> {
    /// No fields yet; `known` is what the log's sender said outside of its text.
    pub(crate) fn new(context: &'a Context, known: Parsed) -> Self {
        Self {
            context,
            parsed: known,
            message_rank: NO_RANK,
            message_key: String::new(),
            service_rank: NO_RANK,
            number: None,
            is_gelf: false,
        }
    }

    /// Adds a field. `name` is that of its role, which for a member of an object is the path.
    pub(crate) fn add(&mut self, name: &str, mut value: Value) {
        if !self.fill(Role::of(name), name, &mut value) {
            self.add_attribute(name, value);
        }
    }

    /// Adds an attribute of OTLP, among which the service's name stands.
    pub(crate) fn add_otlp_attribute(&mut self, key: &str, value: Value) {
        if !(key == "service.name" && self.fill_service(0, &value)) {
            self.add_attribute(key, value);
        }
    }

    /// Adds an attribute, whatever its name.
    pub(crate) fn add_attribute(&mut self, key: &str, value: Value) {
        self.parsed.record.attributes.push(Attribute::new(key, value));
    }

    /// Adds a time that a field gave in parts; whether it has its place.
    pub(crate) fn fill_time(&mut self, time: Option<Timestamp>) -> bool {
        let latest = self.context.latest;
        fill(&mut self.parsed.time, time.filter(|time| *time <= latest))
    }

    /// The time of a text or number.
    pub(crate) fn time_of(&self, value: &Value) -> Option<Timestamp> {
        match value {
            Value::String(text) => {
                time::whole(text, self.context).or_else(|| time::since_epoch(text))
            }
            // By way of its digits, which tell seconds from milliseconds, micro- and nanoseconds.
            Value::Int(number) => time::since_epoch(&number.to_string()),
            Value::Double(number) if *number < 1e18 => time::since_epoch(&format!("{number:.6}")),
            _ => None,
        }
    }

    /// The log, read; one without a message of its own is its own message.
    pub(crate) fn finish(mut self, whole: &str) -> Parsed {
        self.place_number();
        self.derive_exception();
        if self.message_rank == NO_RANK {
            whole.clone_into(&mut self.parsed.record.message);
        }
        self.parsed
    }

    fn fill(&mut self, role: Role, name: &str, value: &mut Value) -> bool {
        match role {
            Role::Time => self.fill_time(self.time_of(value)),
            // Elsewhere than in journald a command is not the service.
            Role::Service(COMMAND_RANK) if name != "_COMM" => false,
            Role::Service(rank) => self.fill_service(rank, value),
            Role::Level => self.fill_level(value),
            Role::LevelLetter => {
                let is_behind_time = self.parsed.time.is_some();
                is_behind_time && fill(&mut self.parsed.record.level, letter_of(value))
            }
            Role::SeverityNumber => self.fill_severity(value),
            Role::SyslogSeverity => {
                // Others count priorities otherwise: a job with priority 1 is no emergency.
                let number = number_of(value).filter(|_| name == "PRIORITY");
                let level = number.and_then(level::of_severity).or_else(|| word_of(value));
                fill(&mut self.parsed.record.level, level)
            }
            Role::Message(rank) => self.fill_message(rank, name, value),
            Role::Trace => fill(&mut self.parsed.record.trace_id, trace_of(value)),
            Role::Span => fill(&mut self.parsed.record.span_id, id_of(value)),
            Role::TraceParent => self.fill_trace_parent(value),
            Role::Logger => self.fill_logger(value),
            Role::Status => self.fill_status(value),
            Role::DurationNanos => {
                let nanos = number_of(value).map(|nanos| nanos as f64 / NANOS_PER_MS);
                fill(&mut self.parsed.record.latency_ms, nanos.and_then(checked_ms))
            }
            Role::ExceptionType => self.fill_attribute("exception.type", value),
            Role::ExceptionMessage => self.fill_attribute("exception.message", value),
            Role::ExceptionTrace => self.fill_attribute("exception.stacktrace", value),
            Role::Exception => self.fill_exception(value),
            Role::Attributes | Role::Group | Role::Other => self.fill_latency(name, value),
        }
    }

    fn fill_service(&mut self, rank: u8, value: &Value) -> bool {
        let Some(text) = text_of(value).filter(|_| rank < self.service_rank) else { return false };
        // What systemd calls the unit of a service is its name and `.service`.
        let text = text.strip_suffix(".service").unwrap_or(text);
        let text = if rank == POD_RANK { service::of_pod(text) } else { text };
        self.service_rank = rank;
        self.parsed.service = Some(text.to_owned());
        // A name that is only the next best stays to be searched for.
        rank == 0
    }

    fn fill_level(&mut self, value: &Value) -> bool {
        if let Some(number) = number_of(value) {
            // What another field says stays an attribute.
            return *self.number.get_or_insert(number) == number;
        }
        let level = word_of(value);
        self.parsed.notes.has_unknown_level |= level.is_none();
        fill(&mut self.parsed.record.level, level)
    }

    fn fill_severity(&mut self, value: &Value) -> bool {
        // OpenTelemetry has no others.
        let number = number_of(value).and_then(|number| u8::try_from(number).ok());
        let Some(number) = number.filter(|number| (1..=24).contains(number)) else { return false };
        let is_free = self.parsed.record.severity_number == 0;
        if is_free {
            self.parsed.record.severity_number = number;
        }
        is_free || self.parsed.record.severity_number == number
    }

    /// The message with the lowest rank; the one that it takes the place of becomes an attribute.
    fn fill_message(&mut self, rank: u8, name: &str, value: &mut Value) -> bool {
        self.is_gelf |= name == "short_message";
        let Value::String(text) = value else { return false };
        if text.is_empty() || rank >= self.message_rank {
            return false;
        }
        // Moved and not copied: it is most of the log.
        let before = std::mem::replace(&mut self.parsed.record.message, std::mem::take(text));
        let key = std::mem::replace(&mut self.message_key, name.to_owned());
        if self.message_rank != NO_RANK {
            self.add_attribute(&key, Value::String(before));
        }
        self.message_rank = rank;
        true
    }

    /// Its flags have no other place, so it stays an attribute as well.
    fn fill_trace_parent(&mut self, value: &Value) -> bool {
        if let Some((trace_id, span_id)) = text_of(value).and_then(traceparent)
            && self.parsed.record.trace_id.is_none()
            && self.parsed.record.span_id.is_none()
        {
            self.parsed.record.trace_id = Some(trace_id);
            self.parsed.record.span_id = Some(span_id);
        }
        false
    }

    fn fill_logger(&mut self, value: &Value) -> bool {
        let Some(text) = text_of(value) else { return false };
        let logger = &mut self.parsed.record.logger;
        if logger.is_empty() {
            text.clone_into(logger);
        }
        logger == text
    }

    /// A status has one name, whatever it was sent under.
    fn fill_status(&mut self, value: &Value) -> bool {
        let status = number_of(value).filter(|status| (100..600).contains(status));
        status.is_some_and(|status| self.fill_attribute("status", &Value::Int(status)))
    }

    /// An attribute with a name that has a meaning, unless it is there already.
    fn fill_attribute(&mut self, key: &str, value: &Value) -> bool {
        let attributes = &self.parsed.record.attributes;
        let is_known = attributes.len() > ATTRIBUTES_SEARCHED_MAX
            || attributes.iter().any(|attribute| attribute.key == key);
        if is_known || matches!(value, Value::Json(_)) {
            return false;
        }
        self.add_attribute(key, value.clone());
        true
    }

    /// A trace under the name of an error; a plain text, such as logrus' `error=boom`, is none.
    fn fill_exception(&mut self, value: &Value) -> bool {
        let is_trace = text_of(value).is_some_and(|text| text.contains('\n'));
        is_trace && self.fill_attribute("exception.stacktrace", value)
    }

    fn fill_latency(&mut self, name: &str, value: &Value) -> bool {
        // The server would reject the whole log for a latency that is none; so that becomes an
        // attribute.
        let latency = latency_unit(name).and_then(|unit| latency_ms(unit, value));
        fill(&mut self.parsed.record.latency_ms, latency)
    }

    /// A level by number: syslog's in GELF, else bunyan's, pino's or Monolog's.
    fn place_number(&mut self) {
        let Some(number) = self.number else { return };
        let level = if self.is_gelf { level::of_severity(number) } else { level::numbered(number) };
        if !fill(&mut self.parsed.record.level, level) {
            self.parsed.notes.has_unknown_level |= level.is_none();
            self.add_attribute("level", Value::Int(number));
        }
    }

    /// What a trace in a field says of the exception, where no field does.
    fn derive_exception(&mut self) {
        let record = &mut self.parsed.record;
        let Some(Value::String(trace)) = record.attribute("exception.stacktrace") else { return };
        let Some(found) = exception(trace) else { return };
        let parts = [("exception.type", found.kind), ("exception.message", found.message)];
        let missing = parts
            .into_iter()
            .filter(|(key, text)| !text.is_empty() && record.attribute(key).is_none());
        let missing: Vec<_> = missing
            .map(|(key, text)| Attribute::new(key, Value::String(text.to_owned())))
            .collect();
        record.attributes.extend(missing);
    }
}

/// Whether a value has its place: filled in, or there as the same.
fn fill<T: PartialEq>(place: &mut Option<T>, value: Option<T>) -> bool {
    let Some(value) = value else { return false };
    match place {
        Some(known) => *known == value,
        None => {
            *place = Some(value);
            true
        }
    }
}

fn text_of(value: &Value) -> Option<&str> {
    match value {
        Value::String(text) if !text.is_empty() => Some(text),
        _ => None,
    }
}

/// A level by word; `WARN+1` is Go's for one between two.
fn word_of(value: &Value) -> Option<Level> {
    let text = text_of(value)?.trim();
    level::named(text.split_once(['+', '-']).map_or(text, |(word, _)| word))
}

/// A number, also one that is written as text.
fn number_of(value: &Value) -> Option<i64> {
    match value {
        Value::Int(number) => Some(*number),
        Value::String(text) => text.parse().ok(),
        _ => None,
    }
}

/// `E`, or `D2` with the depth of MongoDB's debugging.
fn letter_of(value: &Value) -> Option<Level> {
    let text = text_of(value)?;
    let letter = text.trim_end_matches(|digit: char| digit.is_ascii_digit());
    (letter.len() == 1 && text.len() <= 2).then(|| level::named(letter))?
}

/// An id of another length, as some tracers have, stays an attribute that can be searched for.
fn id_of<const SIZE: usize>(value: &Value) -> Option<[u8; SIZE]> {
    text_of(value).and_then(hex_id)
}

/// Google Cloud writes `projects/NAME/traces/ID`.
fn trace_of(value: &Value) -> Option<[u8; 16]> {
    let text = text_of(value)?;
    hex_id(text.rsplit('/').next().unwrap_or(text))
}

/// A latency needs a unit, in its name or in its value: a bare number may be anything.
fn latency_ms(unit: &str, value: &Value) -> Option<f64> {
    match (value, unit_ms(unit)) {
        (Value::Int(number), Some(unit)) => checked_ms(*number as f64 * unit),
        (Value::Double(number), Some(unit)) => checked_ms(number * unit),
        (Value::String(text), Some(unit)) => {
            text.parse::<f64>().ok().and_then(|number| checked_ms(number * unit))
        }
        (Value::String(text), None) => duration_ms(text),
        _ => None,
    }
}
