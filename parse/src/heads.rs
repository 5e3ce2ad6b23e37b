//! Heads that only one program writes before its messages, and names of loggers in heads. Pure.

use logweir_core::record::{Attribute, Level, Value};

use crate::{
    level,
    parsed::{Context, Format, Parsed},
    time,
    units::duration_ms,
};

/// What WebLogic writes before each log in its files.
pub(crate) const WEBLOGIC_MARK: &str = "####<";
/// Longest name of a logger or thread in a head, bytes.
pub(crate) const NAME_BYTES_MAX: usize = 128;
/// Parts of a head of WebLogic at most: its files have twelve.
const WEBLOGIC_PARTS_MAX: usize = 16;

/// Takes such a head off; `parsed` gets what it says. None if there is none.
pub(crate) fn take<'a>(text: &'a str, context: &Context, parsed: &mut Parsed) -> Option<&'a str> {
    match text.as_bytes().first()? {
        b'I' | b'W' | b'E' | b'F' => klog(text, context, parsed),
        b'0'..=b'9' => redis(text, context, parsed),
        b'[' => nest(text, context, parsed).or_else(|| gin(text, context, parsed)),
        b'#' | b'<' => weblogic(text, context, parsed),
        _ => None,
    }
}

/// `[Nest] 17  - 01/02/2026, 3:04:05 AM     LOG [Orders] text`, as NestJS writes it.
fn nest<'a>(text: &'a str, context: &Context, parsed: &mut Parsed) -> Option<&'a str> {
    let rest = text.strip_prefix("[Nest] ")?.trim_start();
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    let process = rest[..digits].parse().ok()?;
    let stamp = rest[digits..].trim_start().strip_prefix("- ")?.trim_start();
    let (time, used) = time::leading(stamp, context)?;
    let rest = stamp[used..].trim_start();
    let word = rest.bytes().take_while(u8::is_ascii_uppercase).count();
    parsed.record.level = match &rest[..word] {
        "LOG" => Some(Level::Info),
        word => level::named(word),
    };
    parsed.time = Some(time);
    parsed.record.attributes.push(Attribute::new("pid", Value::Int(process)));
    let rest = if parsed.record.level.is_some() { rest[word..].trim_start() } else { rest };
    let named = rest.strip_prefix('[').and_then(|rest| rest.split_once("] "));
    let Some((logger, message)) = named.filter(|(logger, _)| is_logger(logger, true)) else {
        return Some(rest);
    };
    logger.clone_into(&mut parsed.record.logger);
    Some(message)
}

/// `[GIN] 2026/01/02 - 03:04:05 | 500 |  1.2ms |  10.0.0.7 | GET  "/cart"`: its status and latency.
fn gin<'a>(text: &'a str, context: &Context, parsed: &mut Parsed) -> Option<&'a str> {
    let stamp = text.strip_prefix("[GIN] ")?;
    let (time, used) = time::leading(stamp, context)?;
    let message = stamp[used..].trim_start().strip_prefix('|')?.trim_start();
    let mut parts = message.split('|').map(str::trim);
    let status = parts.next().and_then(|part| part.parse().ok());
    let status = status.filter(|status| (100..600).contains(status)).map(Value::Int)?;
    parsed.time = Some(time);
    parsed.record.latency_ms = parts.next().and_then(duration_ms);
    parsed.record.attributes.push(Attribute::new("status", status));
    parsed.notes.format = Format::AccessLog;
    Some(message)
}

/// `####<Jan 2, 2026 3:04:05 AM CET> <Error> <HTTP> <host> <…> <BEA-1> <text>`, in WebLogic's files;
/// on its console with fewer parts and without the mark.
fn weblogic<'a>(text: &'a str, context: &Context, parsed: &mut Parsed) -> Option<&'a str> {
    let stamp = text.strip_prefix(WEBLOGIC_MARK).or_else(|| text.strip_prefix('<'))?;
    let (time, used) = time::leading(stamp, context)?;
    let mut rest = stamp[used..].strip_prefix("> <")?;
    let mut parts = Vec::new();
    while let Some((part, behind)) =
        rest.split_once("> <").filter(|_| parts.len() < WEBLOGIC_PARTS_MAX)
    {
        parts.push(part);
        rest = behind;
    }
    parsed.record.level = Some(level::named(parts.first()?)?);
    parsed.time = Some(time);
    if let Some(subsystem) = parts.get(1) {
        (*subsystem).clone_into(&mut parsed.record.logger);
    }
    for (key, part) in
        ["host", "server", "thread"].into_iter().zip(parts.get(2..).unwrap_or_default())
    {
        // The console leaves these out, and the message's number follows at once.
        if parts.len() > 5 && !part.is_empty() {
            parsed.record.attributes.push(Attribute::new(key, Value::String((*part).to_owned())));
        }
    }
    if let Some(number) = parts.iter().skip(2).find(|part| part.starts_with("BEA-")) {
        let number = Value::String((*number).to_owned());
        parsed.record.attributes.push(Attribute::new("message.id", number));
    }
    Some(rest.trim_end().strip_suffix('>').unwrap_or(rest).trim_end())
}

/// `E0102 03:04:05.678901    5813 stats.go:83] text` (Kubernetes' klog and glog).
fn klog<'a>(text: &'a str, context: &Context, parsed: &mut Parsed) -> Option<&'a str> {
    let level = level::named(text.get(..1)?)?;
    let (time, used) = time::month_day_clock(&text[1..], context)?;
    let (origin, message) = text[1 + used..].split_once("] ")?;
    let (thread, place) = origin.trim().split_once(' ')?;
    let thread = thread.parse().ok()?;
    parsed.time = Some(time);
    parsed.record.level = Some(level);
    parsed.record.attributes.push(Attribute::new("thread", Value::Int(thread)));
    let place = Value::String(place.trim().to_owned());
    parsed.record.attributes.push(Attribute::new("code.location", place));
    parsed.notes.format = Format::Klog;
    Some(message)
}

/// `123:M 02 Jan 2026 03:04:05.678 # text`: process, role, time and a mark for the level (Redis,
/// `serverLogRaw`).
fn redis<'a>(text: &'a str, context: &Context, parsed: &mut Parsed) -> Option<&'a str> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let rest = text[digits..].strip_prefix(':').filter(|_| digits > 0)?;
    let (role, rest) = rest.split_once(' ')?;
    let is_role = role.len() == 1 && role.bytes().all(|byte| byte.is_ascii_uppercase());
    let (time, used) = time::leading(rest, context).filter(|_| is_role)?;
    let rest = rest[used..].strip_prefix(' ')?;
    let level = match rest.split_once(' ')?.0 {
        "." | "-" => Level::Debug,
        "*" => Level::Info,
        "#" => Level::Warn,
        _ => return None,
    };
    parsed.time = Some(time);
    parsed.record.level = Some(level);
    let process = text[..digits].parse().map(Value::Int);
    if let Ok(process) = process {
        parsed.record.attributes.push(Attribute::new("pid", process));
    }
    Some(&rest[2..])
}

/// A word that names a logger: with a dot or a colon in it, or parted from the level by a dash.
pub(crate) fn is_logger(word: &str, is_parted: bool) -> bool {
    let allowed = |byte: u8| {
        byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b':' | b'-' | b'/' | b'$')
    };
    let is_name = word.bytes().all(allowed) && word.bytes().any(|byte| byte.is_ascii_alphabetic());
    let is_path = word.contains('.') || word.contains("::");
    is_name && word.len() <= NAME_BYTES_MAX && (is_path || is_parted) && !word.ends_with(':')
}
