//! The one reader of log text: what files, streams and the receivers of a server hand over as text is
//! understood here, and nowhere else. Pure: the same text and context give the same result.
//!
//! From the outside in: [`join`] takes lines out of the envelopes of container runtimes and joins
//! those of one log; [`parse`] reads a log: a header of syslog, a JSON object (`json`, `lenient`),
//! pairs of keys and values (`logfmt`) or text (`plain`, `heads`). `names` is the one table of field
//! names, [`level`] of level words, [`time`] of forms of time. [`text`] and [`exception`] find in a
//! message what no field says. Nothing is lost: what is not understood stays in the message or
//! becomes an attribute, and what was guessed is noted.

mod clean;
pub mod envelope;
pub mod exception;
mod fields;
mod heads;
pub mod join;
mod json;
mod lenient;
pub mod level;
mod logfmt;
mod names;
mod parsed;
mod plain;
pub mod service;
mod syslog;
pub mod text;
pub mod time;
mod units;

use logweir_core::record::{Attribute, Value};

use self::{
    envelope::Envelope,
    join::{Joiner, Line},
};
pub use self::{
    parsed::{Context, Format, Notes, Parsed},
    time::Tz,
};

/// Reads the text of one log, which may have several lines.
pub fn parse(text: &str, context: &Context) -> Parsed {
    read(&clean::clean(text), context)
}

/// Reads a log that [`join`] has completed. The text's own time counts, and that of its envelope
/// where it has none.
pub fn parse_line(line: &Line, context: &Context) -> Parsed {
    let parsed = match (&line.header, line.stamp) {
        (Some(header), _) => within(Parsed::clone(header), &line.text, context),
        // A header would have been found with the time.
        (None, Some(stamp)) => plain::parse(&line.text, Some(stamp), false, context),
        (None, None) => read(&line.text, context),
    };
    match &line.envelope {
        Some(envelope) => within_envelope(parsed, envelope),
        None => parsed,
    }
}

/// Reads a record that came by itself, as the same line in a file is read: what surrounds it is taken
/// off, and one that holds several logs gives all of them.
pub fn parse_record(text: &str, context: &Context) -> Vec<Parsed> {
    let mut joiner = Joiner::default();
    joiner.push(Line { text: text.to_owned(), ..Line::default() }, context);
    joiner.finish();
    std::iter::from_fn(|| joiner.next_log()).map(|line| parse_line(&line, context)).collect()
}

/// Reads a text without colours.
fn read(text: &str, context: &Context) -> Parsed {
    if let Some(parsed) = structured(text.trim(), context, Parsed::default()) {
        return parsed;
    }
    let stamp = time::stamp(text, context);
    match syslog::header(text, stamp, context) {
        Some(header) => within(header.parsed, header.message, context),
        None => plain::parse(text, stamp, false, context),
    }
}

fn within_envelope(mut parsed: Parsed, envelope: &Envelope) -> Parsed {
    parsed.time = parsed.time.or(envelope.time);
    parsed.service = parsed.service.or_else(|| envelope.service().map(str::to_owned));
    let parts =
        [("stream", &envelope.stream), ("container", &envelope.container), ("pod", &envelope.pod)];
    for (key, part) in parts.into_iter().filter(|(_, part)| !part.is_empty()) {
        if parsed.record.attribute(key).is_none() {
            parsed.record.attributes.push(Attribute::new(key, Value::String(part.clone())));
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
    let message = message.trim_start_matches(' ');
    let is_text = outer.notes.format == Format::Text;
    let inner = structured(message.trim(), context, Parsed::default())
        .unwrap_or_else(|| plain::parse(message, time::stamp(message, context), is_text, context));
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
        notes: Notes {
            format: if is_text { inner.notes.format } else { outer.notes.format },
            ..inner.notes
        },
    }
}
