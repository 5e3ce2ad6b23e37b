//! Reads a line of text: a time and a level at its start, in either order, with what loggers write
//! between and behind them; the rest is the message. Pure.

use logweir_core::{
    record::{Attribute, Level, Value},
    timestamp::Timestamp,
};

use crate::{
    heads::{self, NAME_BYTES_MAX, is_logger},
    json, level, logfmt,
    parsed::{Context, Format, Parsed},
    time::{self, Stamp},
    units::hex_id,
};

/// Words of a head that may stand before a time.
const TOKENS_MAX: usize = 4;
/// Second words of a name behind which a log's own time stands.
const NOW_WORDS: [&str; 7] =
    ["began", "begins", "completed", "ended", "finished", "started", "stopped"];

/// Reads a text; what is not recognised is message. `stamp` is the time that it begins with; another
/// one may have been taken off before.
pub(crate) fn parse(
    text: &str,
    stamp: Option<Stamp>,
    is_behind_stamp: bool,
    context: &Context,
) -> Parsed {
    let mut parsed = Parsed::default();
    if let Some(rest) = heads::take(text, context, &mut parsed) {
        return with_message(parsed, rest, text);
    }
    let mut head = Head { rest: text, parsed, has_stamp: false };
    head.take_time(stamp);
    head.take_level();
    if !head.has_stamp {
        head.take_time(time::stamp(head.rest, context));
    }
    head.has_stamp |= is_behind_stamp;
    if head.has_stamp {
        if let Some(parsed) = head.structured(context) {
            return parsed;
        }
        head.take_logger_and_level();
        head.take_spring();
    } else if head.parsed.time.is_none() {
        // Access logs begin with the client; their time stays in the message, which has no other.
        head.parsed.time = time::access_log(text, context);
        if head.parsed.time.is_some() {
            head.parsed.notes.format = Format::AccessLog;
        }
        head.parsed.time = head.parsed.time.or_else(|| time_behind_tokens(text, context));
    }
    let (rest, mut parsed) = (head.rest, head.parsed);
    parsed.record.level = parsed.record.level.or_else(|| level_within(rest, head.has_stamp));
    with_message(parsed, rest, text)
}

/// A level that stands further on in the first line, or begins the second, as
/// `java.util.logging` writes it.
fn level_within(rest: &str, has_stamp: bool) -> Option<Level> {
    let first = rest.lines().next()?;
    level::marked_behind(first, has_stamp).or_else(|| level::of_words_within(first)).or_else(|| {
        let second = rest.lines().nth(1)?;
        second.split_once(": ").and_then(|_| level::leading(second)).map(|(level, _)| level)
    })
}

/// A line that is nothing but a time and a level is its own message.
fn with_message(mut parsed: Parsed, rest: &str, text: &str) -> Parsed {
    let message = if rest.trim_start().is_empty() { text } else { rest };
    message.clone_into(&mut parsed.record.message);
    parsed
}

/// A time behind a few words of a head, such as `E, `, `[main]`, `ERROR`, `#` or a number.
pub(crate) fn time_behind_tokens(text: &str, context: &Context) -> Option<Timestamp> {
    if let Some(time) = time_behind_name(text, context) {
        return Some(time);
    }
    let mut rest = text;
    for _ in 0..TOKENS_MAX {
        let (token, behind) = head_token(rest)?;
        rest = behind;
        if token.is_empty() {
            return None;
        }
        if let Some(stamp) = time::stamp(rest, context) {
            return Some(stamp.time);
        }
    }
    None
}

/// `update-alternatives 2026-01-02 03:04:05: text`, `Start-Date: 2026-01-02  03:04:05`, `Log started:
/// 2026-01-02  03:04:05`. Only a time with its year first: another number behind a word is an amount.
fn time_behind_name(text: &str, context: &Context) -> Option<Timestamp> {
    let rest = behind_name(text)?.trim_start_matches(' ');
    let has_year = matches!(rest.as_bytes().get(4), Some(b'-' | b'/'));
    has_year.then(|| time::leading(rest, context))?.map(|(time, _)| time)
}

fn behind_name(text: &str) -> Option<&str> {
    if let Some((words, rest)) = text.split_once(": ")
        && tells_of_now(words)
    {
        return Some(rest);
    }
    let (name, rest) = text.split_once(' ')?;
    is_logger(name.trim_end_matches(':'), true).then_some(rest)
}

// `Certificate expires: 2027-01-01 00:00:00` and `Build time: …` tell of another time than their own.
/// Whether two words, such as `Log started`, say that the time behind them is that of the line.
fn tells_of_now(words: &str) -> bool {
    let is_short = words.len() <= NAME_BYTES_MAX;
    is_short && words.split_once(' ').is_some_and(|(_, last)| NOW_WORDS.contains(&last))
}

/// A word that stands before a time in some heads, and what is behind it.
fn head_token(text: &str) -> Option<(&str, &str)> {
    if let Some(inner) = text.strip_prefix('[') {
        let (name, rest) = inner.split_once(']')?;
        return (name.len() <= NAME_BYTES_MAX).then(|| (name, rest.trim_start()));
    }
    let (word, rest) = text.split_once([' ', '\t'])?;
    let bare = word.trim_end_matches([',', ':']);
    let is_number = bare.bytes().all(|byte| byte.is_ascii_digit());
    let is_level =
        bare.bytes().all(|byte| byte.is_ascii_uppercase()) && level::named(bare).is_some();
    let is_mark = matches!(word, "-" | "#" | "*");
    (is_level || is_mark || (is_number && !bare.is_empty())).then(|| (word, rest.trim_start()))
}

/// The beginning of a line while it is taken apart.
struct Head<'a> {
    rest: &'a str,
    parsed: Parsed,
    has_stamp: bool,
}

impl<'a> Head<'a> {
    fn take_time(&mut self, stamp: Option<Stamp>) {
        let Some(stamp) = stamp else { return };
        self.has_stamp = true;
        self.parsed.time = Some(stamp.time);
        if stamp.is_in_bracket {
            self.take_bracket(stamp.end);
        } else {
            self.rest = behind_separator(&self.rest[stamp.end..]);
        }
    }

    /// `[TIME LEVEL logger] text`: the time ends at a place within the bracket. One with something
    /// else in it stays in the message.
    fn take_bracket(&mut self, used: usize) {
        let taken = || {
            let (inner, rest) = self.rest[used..].split_once([']', '>', ')', '}'])?;
            let inner = inner.trim_start_matches([',', ':', '|', ' ', '\t']);
            let word = inner.bytes().take_while(u8::is_ascii_alphabetic).count();
            let level = level::named(&inner[..word]).filter(|_| word > 2)?;
            let name = inner[word..].trim_start_matches([' ', '/', ':', '|', '-']).trim_end();
            (name.is_empty() || is_logger(name, true)).then_some((level, name, rest))
        };
        if let Some((level, name, rest)) = taken() {
            self.parsed.record.level = self.parsed.record.level.or(Some(level));
            name.clone_into(&mut self.parsed.record.logger);
            self.rest = behind_separator(rest);
        }
    }

    fn take_level(&mut self) {
        if let Some(level) = level::of_first_words(self.rest) {
            self.parsed.record.level = self.parsed.record.level.or(Some(level));
        } else if let Some((level, rest)) = level::leading(self.rest) {
            self.parsed.record.level = self.parsed.record.level.or(Some(level));
            self.rest = behind_separator(rest);
        } else if self.has_unknown_zone() {
            self.parsed.notes.has_unknown_zone = true;
        }
    }

    /// `XYZ ERROR`, where a zone would stand, with letters that name none.
    fn has_unknown_zone(&self) -> bool {
        let letters = self.rest.bytes().take_while(u8::is_ascii_uppercase).count();
        let behind = self.rest[letters..].trim_start();
        self.has_stamp && (3..=4).contains(&letters) && level::leading(behind).is_some()
    }

    /// JSON or logfmt behind the stamp.
    fn structured(&self, context: &Context) -> Option<Parsed> {
        let rest = self.rest.trim();
        match rest.as_bytes().first()? {
            b'{' => json::parse(rest, context, self.parsed.clone()),
            _ => logfmt::parse(rest, context, self.parsed.clone()),
        }
    }

    /// `shop.cart - ERROR - text`, `shop::cart ERROR text`, `[main] ERROR text` keeps its thread.
    fn take_logger_and_level(&mut self) {
        if self.parsed.record.level.is_some() {
            return;
        }
        let Some((logger, rest)) = self.rest.split_once(' ') else { return };
        if let Some((channel, level)) = monolog(logger) {
            self.parsed.record.level = Some(level);
            channel.clone_into(&mut self.parsed.record.logger);
            self.rest = rest.trim_start();
            return;
        }
        let is_parted = rest.starts_with("- ") || rest.starts_with("| ");
        if !is_logger(logger, is_parted) {
            return;
        }
        if let Some((level, rest)) = level::leading(behind_separator(rest)) {
            self.parsed.record.level = Some(level);
            logger.clone_into(&mut self.parsed.record.logger);
            self.rest = behind_separator(rest);
        }
    }

    /// `4711 --- [app] [thread] logger : text`, as Spring Boot writes it behind the level.
    fn take_spring(&mut self) {
        let taken = || {
            let digits = self.rest.bytes().take_while(u8::is_ascii_digit).count();
            let (process, rest) = self.rest.split_at(digits);
            let rest = rest.strip_prefix(" --- ").filter(|_| digits > 0)?;
            let (mut names, mut rest) = (Vec::new(), rest);
            while let Some(name) = rest.strip_prefix('[') {
                let (name, behind) = name.split_once(']')?;
                names.push(name.trim());
                rest = behind.trim_start();
            }
            let (logger, message) = rest.split_once(" : ").or_else(|| rest.split_once(": "))?;
            let logger = logger.trim();
            is_logger(logger, true).then_some((process, names, logger, message))
        };
        let Some((process, names, logger, message)) = taken() else { return };
        let parsed = &mut self.parsed;
        let mut add = |key: &str, value: Value| {
            parsed.record.attributes.push(Attribute::new(key, value));
        };
        add("pid", process.parse().map_or_else(|_| Value::String(process.to_owned()), Value::Int));
        let (traces, mut names): (Vec<_>, Vec<_>) =
            names.into_iter().partition(|name| trace_and_span(name).is_some());
        // The thread stands last, the application before it.
        for (key, name) in
            ["thread", "application"].into_iter().zip(std::iter::from_fn(|| names.pop()))
        {
            add(key, Value::String(name.to_owned()));
        }
        if let Some((trace_id, span_id)) = traces.first().and_then(|name| trace_and_span(name)) {
            parsed.record.trace_id = parsed.record.trace_id.or(Some(trace_id));
            parsed.record.span_id = parsed.record.span_id.or(Some(span_id));
        }
        logger.clone_into(&mut parsed.record.logger);
        self.rest = message.trim_start();
    }
}

/// `TRACE-SPAN` in hexadecimal, as Micrometer writes them.
fn trace_and_span(name: &str) -> Option<([u8; 16], [u8; 8])> {
    let (trace, span) = name.split_once('-')?;
    Some((hex_id(trace)?, hex_id(span)?))
}

/// `shop.ERROR:`, as Monolog writes channel and level.
fn monolog(word: &str) -> Option<(&str, Level)> {
    let (channel, level) = word.strip_suffix(':')?.rsplit_once('.')?;
    let is_shouted = level.len() > 2 && level.bytes().all(|byte| byte.is_ascii_uppercase());
    Some((channel, level::named(level).filter(|_| is_shouted && is_logger(channel, true))?))
}

/// Takes blanks off, and a dash, bar or colon that stands between two parts of a head.
fn behind_separator(text: &str) -> &str {
    let text = text.trim_start_matches([' ', '\t', ':']);
    for separator in ["- ", "| "] {
        if let Some(rest) = text.strip_prefix(separator) {
            return rest.trim_start_matches([' ', '\t']);
        }
    }
    // `TIME|LEVEL|text` and `TIME,LEVEL,text`: a bar without blanks.
    text.strip_prefix('|').unwrap_or(text)
}
