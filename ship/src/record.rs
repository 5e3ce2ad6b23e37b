//! Holds a read line to the limits of the contract. Pure. Whatever is changed is flagged by an
//! attribute and counted, so that a reader of the log can tell.

use std::borrow::Cow;

use logweir_core::{
    limits::{Limits, RESOURCE_FIELD_BYTES_MAX, SERVICE_BYTES_MAX},
    timestamp::Timestamp,
};
use logweir_proto::v1::{self, attribute::Value};

use logweir_core::wire::record_to_wire;
use logweir_parse::{
    Context, Format, Notes, Tz,
    join::Line,
    parse_line,
    service::{self, PathPattern},
};

/// Attributes that this file may add.
const FLAGS_MAX: usize = 6;

/// Endings of files that say nothing worth keeping of a log.
const USUAL_ENDINGS: [&str; 6] = [".log", ".txt", ".json", ".ndjson", ".jsonl", ".log.gz"];

/// How lines become records.
#[derive(Debug, Clone)]
pub struct Rules {
    /// The service of every line, whatever the line says.
    pub service: Option<String>,
    /// Where in a file's path its service stands.
    pub service_from: Option<PathPattern>,
    /// The limits of the contract.
    pub limits: Limits,
    /// The zone of times that name none.
    pub zone: Tz,
}

/// Where lines come from.
#[derive(Debug, Clone)]
pub struct Source {
    /// The number of its file, if it is one.
    pub file: Option<usize>,
    /// The time of the last line that had one.
    pub last_time: Option<Timestamp>,
    path: String,
    /// The service that the path names.
    service: String,
}

impl Source {
    /// A source of which nothing was read yet. The name of its path is the service of lines that
    /// name none.
    pub fn new(path: String, file: Option<usize>) -> Self {
        let service = service::of_path(&path).to_owned();
        Self { file, last_time: None, path, service }
    }

    /// The name of its file.
    fn file_name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or_default()
    }
}

/// A record ready for a batch.
#[derive(Debug, Clone, PartialEq)]
pub struct Ready {
    /// Its service, a valid name.
    pub service: String,
    /// The record.
    pub record: v1::LogRecord,
    /// What had to be changed.
    pub changes: Changes,
}

impl Ready {
    /// Its time.
    pub fn time(&self) -> Timestamp {
        // It was made of one.
        Timestamp::from_unix_nanos(self.record.time_unix_nano as i64)
    }
}

/// What had to be changed in a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Changes {
    /// Its service's name is not what the line says.
    pub renamed: bool,
    /// Parts of it were cut off.
    pub truncated: bool,
    /// Bytes that are no UTF-8 were replaced.
    pub invalid_utf8: bool,
    /// Its bytes were read as Latin-1.
    pub latin1: bool,
    /// It has the time of its sending.
    pub untimed: bool,
    /// It has the time of the line before it.
    pub inherited_time: bool,
    /// It was joined from several lines.
    pub joined: bool,
    /// How its text was read.
    pub notes: Notes,
}

/// Makes a record of a line.
pub fn ready(line: &Line, source: &Source, rules: &Rules, context: &Context) -> Ready {
    let parsed = parse_line(line, context);
    // Never the present where the file says better: the lines of an old file would seem to be new.
    let time = parsed.time.or(source.last_time);
    let mut record = record_to_wire(parsed.record);
    record.time_unix_nano = time.unwrap_or(context.now).as_unix_nanos().unsigned_abs();
    // `|` and not `||`: the record must be cut also where the line was already.
    let truncated = truncate(&mut record, &rules.limits) | line.truncated;
    let named = parsed.service.as_deref();
    let of_path = rules.service_from.as_ref().and_then(|pattern| pattern.service(&source.path));
    let wanted = rules.service.as_deref().or(of_path).or(named).unwrap_or(&source.service);
    let service = service_name(wanted);
    let original = named.filter(|named| *named != service).or_else(|| {
        // A name derived from a file or flag is not the line's: only a changed one is worth
        // keeping.
        (service != wanted).then_some(wanted)
    });
    if let Some(original) = original {
        let (kept, _) = cut(original, rules.limits.attribute_value_bytes_max);
        add_text(&mut record, "service.original", kept);
    }
    if truncated {
        add_flag(&mut record, "logweir.truncated");
    }
    if line.invalid_utf8 {
        add_flag(&mut record, "logweir.invalid_utf8");
    }
    if line.is_latin1 {
        add_text(&mut record, "logweir.charset", "windows-1252");
    }
    if parsed.notes.format == Format::DamagedJson {
        add_flag(&mut record, "logweir.damaged_json");
    }
    let file_name = source.file_name();
    if !is_plain_name(file_name, &source.service) {
        let (kept, _) = cut(file_name, rules.limits.attribute_value_bytes_max);
        add_text(&mut record, "log.file.name", kept);
    }
    let renamed = original.is_some();
    let changes = Changes {
        renamed,
        truncated,
        invalid_utf8: line.invalid_utf8,
        latin1: line.is_latin1,
        untimed: time.is_none(),
        inherited_time: parsed.time.is_none() && time.is_some(),
        joined: line.is_joined,
        notes: parsed.notes,
    };
    Ready { service: service.into_owned(), record, changes }
}

/// Whether a file is called as its service is, but for the usual ending.
fn is_plain_name(file_name: &str, service: &str) -> bool {
    let ending = file_name.strip_prefix(service);
    ending.is_some_and(|ending| ending.is_empty() || USUAL_ENDINGS.contains(&ending))
}

/// The nearest valid name: other characters become `_`, and it ends at the limit.
pub fn service_name(wanted: &str) -> Cow<'_, str> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '/' | '-');
    if (1..=SERVICE_BYTES_MAX).contains(&wanted.len()) && wanted.chars().all(allowed) {
        return Cow::Borrowed(wanted);
    }
    let name: String =
        wanted.chars().map(|c| if allowed(c) { c } else { '_' }).take(SERVICE_BYTES_MAX).collect();
    if name.is_empty() { Cow::Borrowed("unknown") } else { Cow::Owned(name) }
}

fn truncate(record: &mut v1::LogRecord, limits: &Limits) -> bool {
    let mut truncated = shorten(&mut record.message, limits.message_bytes_max);
    truncated |= shorten(&mut record.logger, RESOURCE_FIELD_BYTES_MAX);
    // Room is kept for the flags: one that said "truncated" and did not fit would have the server
    // reject the log that it is to explain.
    let attributes_max = limits.attributes_max - FLAGS_MAX;
    truncated |= record.attributes.len() > attributes_max;
    record.attributes.truncate(attributes_max);
    for attribute in &mut record.attributes {
        truncated |= shorten(&mut attribute.key, limits.attribute_key_bytes_max);
        if attribute.key.is_empty() {
            // The contract has no nameless attributes.
            attribute.key.push('_');
        }
        truncated |= shorten_value(&mut attribute.value, limits.attribute_value_bytes_max);
    }
    truncated
}

/// A nested value that is cut is no JSON any more, and becomes text.
fn shorten_value(value: &mut Option<Value>, bytes_max: usize) -> bool {
    match value {
        Some(Value::StringValue(text)) => shorten(text, bytes_max),
        Some(Value::JsonValue(text)) if text.len() > bytes_max => {
            let (kept, _) = cut(text, bytes_max);
            *value = Some(Value::StringValue(kept.to_owned()));
            true
        }
        _ => false,
    }
}

fn shorten(text: &mut String, bytes_max: usize) -> bool {
    let (kept, is_cut) = cut(text, bytes_max);
    let kept = kept.len();
    text.truncate(kept);
    is_cut
}

fn cut(text: &str, bytes_max: usize) -> (&str, bool) {
    let mut end = bytes_max.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    (&text[..end], end < text.len())
}

fn add_text(record: &mut v1::LogRecord, key: &str, text: &str) {
    let value = Some(Value::StringValue(text.to_owned()));
    record.attributes.push(v1::Attribute { key: key.to_owned(), value });
}

fn add_flag(record: &mut v1::LogRecord, key: &str) {
    let value = Some(Value::BoolValue(true));
    record.attributes.push(v1::Attribute { key: key.to_owned(), value });
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_unix_seconds(1_767_323_045);

    fn rules(service: Option<&str>) -> Rules {
        Rules {
            service: service.map(str::to_owned),
            service_from: None,
            limits: Limits::default(),
            zone: Tz::UTC,
        }
    }

    const CONTEXT: Context = Context::at(NOW);

    /// Of a file of this name, with no line before.
    fn of(path: &str) -> Source {
        Source::new(path.to_owned(), None)
    }

    fn line(text: &str) -> Line {
        Line { text: text.to_owned(), ..Line::default() }
    }

    fn attribute<'a>(ready: &'a Ready, key: &str) -> Option<&'a Value> {
        ready.record.attributes.iter().find(|a| a.key == key).and_then(|a| a.value.as_ref())
    }

    #[test]
    fn the_service_comes_from_flag_line_or_file_in_that_order() {
        let named = r#"{"service":"pay","msg":"m"}"#;
        let cases = [
            (named, None, "pay", None),
            (named, Some("all"), "all", Some("pay")),
            ("text", Some("all"), "all", None),
            ("text", None, "stem", None),
            (
                r#"{"service":"dfs.DataNode$X","msg":"m"}"#,
                None,
                "dfs.DataNode_X",
                Some("dfs.DataNode$X"),
            ),
        ];
        for (text, flag, service, original) in cases {
            let ready = ready(&line(text), &of("stem.log"), &rules(flag), &CONTEXT);
            assert_eq!(ready.service, service, "{text}");
            let expected = original.map(|o| Value::StringValue(o.to_owned()));
            assert_eq!(attribute(&ready, "service.original"), expected.as_ref(), "{text}");
            assert_eq!(ready.changes.renamed, original.is_some(), "{text}");
        }
    }

    #[test]
    fn a_line_without_a_time_gets_that_of_its_sending() {
        let ready = ready(&line("text"), &of("s"), &rules(None), &CONTEXT);
        assert_eq!(
            (ready.record.time_unix_nano, ready.changes.untimed),
            (NOW.as_unix_nanos().unsigned_abs(), true)
        );
    }

    #[test]
    fn a_line_without_a_time_gets_that_of_the_line_before() {
        let source = Source { last_time: Some(Timestamp::EPOCH.next()), ..of("s") };
        let ready = ready(&line("text"), &source, &rules(None), &CONTEXT);
        assert_eq!((ready.record.time_unix_nano, ready.changes.inherited_time), (1, true));
    }

    #[test]
    fn what_was_cut_off_a_files_name_is_kept() {
        let found = ready(&line("text"), &of("/a/shop-2026-01-02.log"), &rules(None), &CONTEXT);
        let name = Value::StringValue("shop-2026-01-02.log".to_owned());
        assert_eq!(
            (found.service.as_str(), attribute(&found, "log.file.name")),
            ("shop", Some(&name))
        );
        let pattern = PathPattern::new("/a/{service}/*").unwrap();
        let rules = Rules { service_from: Some(pattern), ..rules(None) };
        assert_eq!(ready(&line("text"), &of("/a/till/x.log"), &rules, &CONTEXT).service, "till");
    }

    #[test]
    fn what_is_too_long_is_cut_and_flagged() {
        let text = format!("ä{}", "ä".repeat(40_000));
        let cut = ready(&line(&text), &of("s"), &rules(None), &CONTEXT);
        assert_eq!(cut.record.message.len(), 64 << 10);
        assert_eq!(attribute(&cut, "logweir.truncated"), Some(&Value::BoolValue(true)));
        let members: Vec<_> = (0..200).map(|n| format!("\"k{n}\":{n}")).collect();
        let many = format!("{{\"msg\":\"m\",{}}}", members.join(","));
        let many = ready(&line(&many), &of("s"), &rules(None), &CONTEXT);
        assert_eq!(many.record.attributes.len(), 128 - FLAGS_MAX + 1);
        assert!(many.changes.truncated);
        let deep = format!("{{\"msg\":\"m\",\"o\":[\"{}\"]}}", "x".repeat(20_000));
        let deep = ready(&line(&deep), &of("s"), &rules(None), &CONTEXT);
        assert!(
            matches!(attribute(&deep, "o"), Some(Value::StringValue(t)) if t.len() == 16 << 10)
        );
    }

    #[test]
    fn names_are_made_valid() {
        for (wanted, expected) in [("a b", "a_b"), ("", "unknown"), ("ok", "ok"), ("ä", "_")] {
            assert_eq!(service_name(wanted), expected);
        }
        assert_eq!(service_name(&"x".repeat(500)).len(), SERVICE_BYTES_MAX);
    }
}
