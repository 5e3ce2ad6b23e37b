//! Reads syslog's headers. Pure.

use logweir_core::record::{Attribute, Level, Value};

use crate::{
    level,
    parsed::{Context, Format, Parsed},
    time::{self, Stamp},
};

/// Longest program in a header, bytes (RFC 5424, 6.2.5: 48; RFC 3164 leaves more room).
const PROGRAM_BYTES_MAX: usize = 64;
/// Parameters of structured data that are read: as many attributes as any log may have.
const DATA_MAX: usize = 256;
/// Digits of a second's fraction that rsyslog writes.
const RSYSLOG_FRACTION_DIGITS: usize = 6;

/// A header, and the message behind it.
pub(crate) struct Header<'a> {
    pub(crate) parsed: Parsed,
    pub(crate) message: &'a str,
}

/// Reads `<165>1 TIME HOST PROGRAM PROCESS ID DATA message` (RFC 5424), `<34>Jan  2 03:04:05 host
/// program[1]: message` (RFC 3164), or the second as files have it: without a priority, also with a
/// time of RFC 3339.
pub(crate) fn header<'a>(
    text: &'a str,
    stamp: Option<Stamp>,
    context: &Context,
) -> Option<Header<'a>> {
    let (level, rest) = match priority(text) {
        Some((level, rest)) => (Some(level), rest),
        None => (None, text),
    };
    let mut header = match level {
        Some(_) => version_1(rest, context)
            .or_else(|| traditional(rest, time::stamp(rest, context)))
            .unwrap_or_else(|| bare(rest)),
        None => traditional(text, stamp)?,
    };
    header.parsed.record.level = level;
    header.parsed.notes.format = Format::Syslog;
    Some(header)
}

/// `<34>`: the facility times eight and the severity (RFC 5424, 6.2.1).
fn priority(text: &str) -> Option<(Level, &str)> {
    let (digits, rest) = text.strip_prefix('<')?.split_once('>')?;
    let is_number = digits.len() <= 3 && digits.bytes().all(|byte| byte.is_ascii_digit());
    let priority: i64 = digits.parse().ok().filter(|priority| is_number && *priority <= 191)?;
    Some((level::of_severity(priority % 8)?, rest))
}

/// Whether two headers are of one process, so that what is behind them may be parts of one log. Of a
/// program that names no process each line is a log: `sudo`, for one, indents all of its lines.
pub(crate) fn is_of_process(header: &Parsed, other: &Parsed) -> bool {
    let is_same = |key: &str| header.record.attribute(key) == other.record.attribute(key);
    let is_known = header.service.is_none() || header.record.attribute("pid").is_some();
    is_known && header.service == other.service && is_same("host") && is_same("pid")
}

fn bare(message: &str) -> Header<'_> {
    Header { parsed: Parsed::default(), message }
}

/// RFC 5424, 6: what is not known is a dash.
fn version_1<'a>(text: &'a str, context: &Context) -> Option<Header<'a>> {
    let mut parts = text.strip_prefix("1 ")?.splitn(6, ' ');
    let mut next = || parts.next();
    let (time, host, program, process, id) = (next()?, next()?, next()?, next()?, next()?);
    let (data, message) = structured_data(next()?)?;
    let mut parsed = Parsed { time: time::whole(time, context), ..Parsed::default() };
    if parsed.time.is_none() && time != "-" {
        return None;
    }
    parsed.service = known(program).map(str::to_owned);
    for (key, text) in [("host", host), ("pid", process), ("message.id", id)] {
        if let Some(text) = known(text) {
            add(&mut parsed, key, text);
        }
    }
    for (key, text) in data.into_iter().take(DATA_MAX) {
        add(&mut parsed, &key, &text);
    }
    Some(Header { parsed, message: message.trim_start_matches('\u{feff}') })
}

fn known(text: &str) -> Option<&str> {
    (text != "-" && !text.is_empty()).then_some(text)
}

/// Names and values of structured data.
type Data = Vec<(String, String)>;

/// `[id key="value" …][…] message` or `- message` (RFC 5424, 6.3).
fn structured_data(text: &str) -> Option<(Data, &str)> {
    let mut data = Vec::new();
    if let Some(rest) = text.strip_prefix('-') {
        return Some((data, rest.strip_prefix(' ').unwrap_or(rest)));
    }
    let mut rest = text;
    while let Some(element) = rest.strip_prefix('[') {
        let id = element.find([' ', ']'])?;
        rest = &element[id..];
        while let Some(pair) = rest.strip_prefix(' ') {
            let (key, value) = pair.split_once("=\"")?;
            let end = end_of_value(value)?;
            data.push((key.to_owned(), unescaped(&value[..end])));
            rest = &value[end + 1..];
        }
        rest = rest.strip_prefix(']')?;
    }
    (!data.is_empty() || rest.len() < text.len())
        .then(|| (data, rest.strip_prefix(' ').unwrap_or(rest)))
}

fn end_of_value(text: &str) -> Option<usize> {
    let mut is_escaped = false;
    text.bytes().position(|byte| {
        let is_end = byte == b'"' && !is_escaped;
        is_escaped = byte == b'\\' && !is_escaped;
        is_end
    })
}

/// Only a quote, a backslash and a bracket are escaped (RFC 5424, 6.3.3).
fn unescaped(text: &str) -> String {
    text.replace("\\\"", "\"").replace("\\]", "]").replace("\\\\", "\\")
}

/// `Jan  2 03:04:05 host program[1]: message`.
fn traditional(text: &str, stamp: Option<Stamp>) -> Option<Header<'_>> {
    let is_named = text.as_bytes().first().is_some_and(u8::is_ascii_alphabetic);
    let is_numbered = text.as_bytes().get(10) == Some(&b'T');
    if !is_named && !is_numbered {
        return None;
    }
    let Stamp { time, end, .. } = stamp.filter(|stamp| !stamp.is_in_bracket)?;
    // Others begin with a time of RFC 3339, too: `TIME main worker: up` is no syslog. rsyslog writes
    // six digits and an offset.
    let is_certain = is_named || is_of_rsyslog(&text[..end]);
    let (origin, message) = origin(text[end..].strip_prefix(' ')?, is_certain)?;
    let mut parsed = Parsed { time: Some(time), ..Parsed::default() };
    parsed.service = Some(origin.program.to_owned());
    add(&mut parsed, "host", origin.host);
    if let Some(process) = origin.process {
        add(&mut parsed, "pid", process);
    }
    Some(Header { parsed, message })
}

fn is_of_rsyslog(stamp: &str) -> bool {
    let fraction = stamp.split_once('.').map_or("", |(_, fraction)| fraction);
    let digits = fraction.bytes().take_while(u8::is_ascii_digit).count();
    digits == RSYSLOG_FRACTION_DIGITS && fraction[digits..].starts_with(['+', '-'])
}

struct Origin<'a> {
    host: &'a str,
    program: &'a str,
    process: Option<&'a str>,
}

/// `host program[1]: message`; a program without a process only if it is certainly one.
fn origin(text: &str, is_certain: bool) -> Option<(Origin<'_>, &str)> {
    let (host, rest) = text.split_once(' ')?;
    let (tag, message) = rest.split_once(':')?;
    let (program, process) = match tag.strip_suffix(']') {
        Some(tag) => tag.split_once('[').map(|(program, process)| (program, Some(process)))?,
        None => (tag, None),
    };
    let is_process = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let is_word = |text: &str| !text.is_empty() && !text.contains(char::is_whitespace);
    let is_origin = is_word(host)
        && !host.starts_with(['[', '<', '('])
        && is_word(program)
        && program.len() <= PROGRAM_BYTES_MAX
        && process.map_or(is_certain, is_process)
        && (message.is_empty() || message.starts_with(' '));
    // What stands further in belongs to the message: so the lines of a trace are told from others.
    let message = message.strip_prefix(' ').unwrap_or(message);
    is_origin.then_some((Origin { host, program, process }, message))
}

fn add(parsed: &mut Parsed, key: &str, text: &str) {
    if parsed.record.attribute(key).is_none() {
        let value = Value::String(text.to_owned());
        parsed.record.attributes.push(Attribute::new(key, value));
    }
}
