//! The one reader of log text: what files, streams and the doors of a server hand over as text is
//! understood here, and nowhere else. Pure: the same text and context give the same result.
//!
//! From the outside in: [`join`] takes lines out of the envelopes of container runtimes and joins
//! those of one log; [`parse`] reads a log: a header of syslog, a JSON object (`json`, `lenient`),
//! pairs of keys and values (`logfmt`) or text (`plain`). `names` is the one table of field names,
//! [`level`] of level words, [`time`] of forms of time. [`text`] and [`exception`] find in a message
//! what no field says. Nothing is lost: what is not understood stays in the message or becomes an
//! attribute, and what was guessed is noted.

mod clean;
pub mod envelope;
pub mod exception;
mod fields;
pub mod join;
mod json;
mod lenient;
pub mod level;
mod logfmt;
mod names;
mod plain;
pub mod service;
mod syslog;
pub mod text;
pub mod time;
mod units;

use logweir_core::{record::Record, timestamp::Timestamp};

use self::envelope::Envelope;
pub use self::time::Tz;

/// What a text does not say about itself.
#[derive(Debug, Clone, Copy)]
pub struct Context {
    /// The present: a time without a year is the latest such moment.
    pub now: Timestamp,
    /// The latest time that is taken for one; a later one stays an attribute.
    pub latest: Timestamp,
    /// The zone of times that name none.
    pub zone: Tz,
}

impl Context {
    /// Times of any year, in UTC where they name no zone.
    pub const fn at(now: Timestamp) -> Self {
        Self { now, latest: Timestamp::MAX, zone: Tz::UTC }
    }
}

/// What a text was recognised as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Format {
    /// A JSON object.
    Json,
    /// Nearly a JSON object: read as far as it goes.
    DamagedJson,
    /// Pairs of keys and values.
    Logfmt,
    /// Syslog.
    Syslog,
    /// Kubernetes' own logs.
    Klog,
    /// An access log of a web server.
    AccessLog,
    /// Text, perhaps with a time and a level.
    #[default]
    Text,
}

impl Format {
    /// The name that people see.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::DamagedJson => "damaged json",
            Self::Logfmt => "logfmt",
            Self::Syslog => "syslog",
            Self::Klog => "klog",
            Self::AccessLog => "access log",
            Self::Text => "text",
        }
    }
}

/// What a person should know of how a text was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Notes {
    /// What it was recognised as.
    pub format: Format,
    /// A field of the level says nothing that is one.
    pub has_unknown_level: bool,
    /// Letters where a zone would stand name none.
    pub has_unknown_zone: bool,
}

/// A text, read.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Parsed {
    /// When it happened; none if the text does not say.
    pub time: Option<Timestamp>,
    /// The service that the text names.
    pub service: Option<String>,
    /// Everything else. Its time is not set.
    pub record: Record,
    /// How it was read.
    pub notes: Notes,
}

/// Reads the text of one log, which may have several lines.
pub fn parse(text: &str, context: &Context) -> Parsed {
    let text = clean::clean(text);
    let trimmed = text.trim();
    if let Some(parsed) = structured(trimmed, context, Parsed::default()) {
        return parsed;
    }
    match syslog::header(&text, context) {
        Some(header) => within(header.parsed, header.message, context),
        None => plain::parse(&text, context, Parsed::default()),
    }
}

/// Reads a log that came in the envelope of a container runtime. The text's own time counts, and
/// the envelope's where it has none.
pub fn parse_in_envelope(text: &str, envelope: &Envelope, context: &Context) -> Parsed {
    let mut parsed = parse(text, context);
    parsed.time = parsed.time.or(envelope.time);
    parsed.service = parsed.service.or_else(|| envelope.service().map(str::to_owned));
    let parts = [("stream", &envelope.stream), ("container", &envelope.container)];
    for (key, part) in parts.into_iter().filter(|(_, part)| !part.is_empty()) {
        if parsed.record.attribute(key).is_none() {
            let value = logweir_core::record::Value::String(part.clone());
            parsed.record.attributes.push(logweir_core::record::Attribute::new(key, value));
        }
    }
    parsed
}

/// Reads a text that is a JSON object or logfmt as a whole. `known` is what its sender said apart
/// from the text: that stays, and what the text says otherwise becomes an attribute.
pub fn structured(text: &str, context: &Context, known: Parsed) -> Option<Parsed> {
    match text.as_bytes().first()? {
        b'{' => json::parse(text, context, known),
        _ => logfmt::parse(text, context, known),
    }
}

/// What stands behind a header, read as a text of its own; the header's where that says nothing.
fn within(outer: Parsed, message: &str, context: &Context) -> Parsed {
    let inner = structured(message.trim(), context, Parsed::default())
        .unwrap_or_else(|| plain::parse(message, context, Parsed::default()));
    let mut record = inner.record;
    let attributes = outer.record.attributes.into_iter();
    let missing: Vec<_> =
        attributes.filter(|attribute| record.attribute(&attribute.key).is_none()).collect();
    record.attributes.extend(missing);
    record.level = record.level.or(outer.record.level);
    Parsed {
        time: inner.time.or(outer.time),
        service: inner.service.or(outer.service),
        record,
        notes: Notes { format: outer.notes.format, ..inner.notes },
    }
}
