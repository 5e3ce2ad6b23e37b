//! Joins the lines of one log: stack traces, statements of several lines, JSON spread over lines,
//! and the parts into which container runtimes cut long lines. Pure, and bounded: a log that has
//! grown to [`JOINED_BYTES_MAX`] takes no more; the next line then starts a log of its own, so that
//! nothing is lost.

use std::{borrow::Cow, collections::VecDeque, time::Duration};

use logweir_core::timestamp::Timestamp;

use crate::{
    clean,
    envelope::{self, Envelope},
    exception::{PYTHON_TRACE, RUST_PANIC, is_kind},
    heads, json, level, logfmt,
    parsed::{Context, Parsed},
    plain, syslog,
    time::{self, Stamp},
};

/// Longest log that lines are joined to, bytes: the longest message of the contract.
pub const JOINED_BYTES_MAX: usize = 64 << 10;
/// Longest JSON that lines are joined to, bytes: an array holds many logs.
const JSON_BYTES_MAX: usize = 1 << 20;
/// An array that has grown to this, bytes, gives the elements that are complete.
const ARRAY_PART_BYTES: usize = JSON_BYTES_MAX / 2;
/// What stands before an object in a stream of server-sent events; the object begins at its end.
const EVENT_MARK: &str = "data: {";
/// Lines without a last part that are kept, one of each stream.
const PARTIALS_MAX: usize = 16;
/// Logs that wait for one before them that is not complete.
const WAITING_MAX: usize = 256;
/// Logs that may go on, one of each source: a file may hold the lines of many containers or processes.
const HELD_MAX: usize = 16;
/// Most time between the lines of one log that have headers.
const HEADER_GAP_MAX: Duration = Duration::from_secs(1);
/// Most logs of one line that each get what stands before the line, such as a header of syslog: it is
/// copied for each.
const COPIED_HEADERS_MAX: usize = 1_000;
/// How long a log waits for more while other sources go on.
const HOLD_MAX: Duration = Duration::from_millis(500);

/// One line or several joined ones, without line ends.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Line {
    /// The text, out of its envelope.
    pub text: String,
    /// The time that it begins with; none if it has none or was not looked at.
    pub stamp: Option<Stamp>,
    /// Where it begins in its (decompressed) file.
    pub start: u64,
    /// Where it ends there, line end included.
    pub end: u64,
    /// Bytes were cut off for their number.
    pub truncated: bool,
    /// Bytes that are no text were replaced by U+FFFD.
    pub invalid_utf8: bool,
    /// It was no UTF-8 and read as Latin-1.
    pub is_latin1: bool,
    /// It was joined from several lines.
    pub is_joined: bool,
    /// The log after it begins before this one ends: what is noted of one must be noted of both.
    pub has_more: bool,
    /// What a container runtime put around it.
    pub envelope: Option<Box<Envelope>>,
    /// What a header of syslog or the stamp of `docker logs -t` before it said.
    pub header: Option<Box<Parsed>>,
}

impl Line {
    fn append(&mut self, separator: &str, line: &Self) {
        self.text.push_str(separator);
        self.text.push_str(&line.text);
        self.end = line.end;
        self.truncated |= line.truncated;
        self.invalid_utf8 |= line.invalid_utf8;
        self.is_latin1 |= line.is_latin1;
    }

    /// Whether another line may go on where this one ended. One without a header may belong to any
    /// before it.
    fn is_of_source(&self, other: &Self) -> bool {
        let is_of_runtime = match (&self.envelope, &other.envelope) {
            (Some(envelope), Some(other)) => envelope.is_of_source(other),
            (None, None) => true,
            _ => false,
        };
        is_of_runtime
            && match (&self.header, &other.header) {
                (Some(header), Some(other)) => syslog::is_of_process(header, other),
                (_, None) => true,
                (None, Some(_)) => false,
            }
    }

    /// Takes the header off; whether it had one.
    fn open_header(&mut self, context: &Context) -> bool {
        if let Some(header) = syslog::header(&self.text, self.stamp, context) {
            let message = header.message.to_owned();
            self.header = Some(Box::new(header.parsed));
            self.text = message;
        } else if let Some(stamp) = self.stamp
            && let Some(begin) = time::of_docker(&self.text, stamp)
        {
            self.header = Some(Box::new(Parsed { time: Some(stamp.time), ..Parsed::default() }));
            self.text.drain(..begin);
        } else {
            return false;
        }
        self.stamp = None;
        true
    }
}

/// What may follow a line and belong to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expects {
    /// What is clearly a part of something before it.
    Continuation,
    /// Every line that does not begin as logs of its source do: with a time.
    AnythingUnstamped,
    /// One more line, whatever it is: the exception behind Python's frames, or Rust's message.
    OneMore,
    /// Frames of Go, which are not indented.
    GoFrames,
    /// The rest of a JSON value.
    Json,
    /// Nothing: the line stands for itself.
    Nothing,
}

struct Held {
    line: Line,
    expects: Expects,
    /// What a line is that follows when that was had: see [`Expects::OneMore`].
    afterwards: Expects,
    /// Brackets of JSON that are open.
    brackets: Brackets,
    /// Blank lines since, which belong to it if it goes on.
    blank_lines: usize,
    /// When its last line came.
    changed_at: Timestamp,
    /// The time in the header of its last line.
    header_time: Option<Timestamp>,
    /// Whether its elements may be taken out while it grows.
    may_be_parted: bool,
}

/// Takes lines and gives logs; one log of each source waits for more lines.
#[derive(Default)]
pub struct Joiner {
    /// The one that got the last line stands last.
    held: Vec<Held>,
    partials: Vec<Line>,
    /// In the order of their beginnings.
    ready: VecDeque<Line>,
    /// How many of them are being told together.
    told: usize,
    /// Where the last of these ends that was told.
    told_end: u64,
}

impl Joiner {
    /// Takes a line. Blank lines are no logs.
    pub fn push(&mut self, mut line: Line, context: &Context) {
        if let Cow::Owned(cleaned) = clean::clean(&line.text) {
            line.text = cleaned;
        }
        if line.text.starts_with(EVENT_MARK) {
            line.text.drain(..EVENT_MARK.len() - 1);
        }
        if let Some((envelope, text)) = envelope::open(&line.text, context) {
            line.text = clean::clean(&text).into_owned();
            line.envelope = Some(Box::new(envelope));
        }
        if let Some(line) = self.whole(line) {
            self.join(line, context);
        }
        if self.ready.len() >= WAITING_MAX && self.group() == 0 {
            // The last part may never come: what there is of the line is a log.
            for partial in std::mem::take(&mut self.partials) {
                self.put(partial);
            }
            // Nor may the log that keeps the others waiting.
            let starts = self.held.iter().enumerate();
            if let Some((first, _)) = starts.min_by_key(|(_, held)| held.line.start) {
                let held = self.held.remove(first);
                self.complete(held.line);
            }
        }
    }

    /// The next log that is complete.
    pub fn next_log(&mut self) -> Option<Line> {
        if self.told == 0 {
            self.told = self.group();
        }
        self.told = self.told.checked_sub(1)?;
        let mut log = self.ready.pop_front()?;
        log.has_more = self.told > 0;
        // All of its group are told with the last one.
        self.told_end = self.told_end.max(log.end);
        if !log.has_more {
            log.end = std::mem::take(&mut self.told_end);
        }
        Some(log)
    }

    /// How many logs can be told next: those that lie between the parts of one another are told
    /// together, see [`Line::has_more`]; none while one of them is not complete.
    fn group(&self) -> usize {
        let held = self.held.iter().map(|held| held.line.start);
        let limit = self.partials.iter().map(|line| line.start).chain(held).min();
        let mut end = 0;
        for (at, log) in self.ready.iter().enumerate() {
            end = end.max(log.end);
            if limit.is_some_and(|limit| limit < end) {
                return 0;
            }
            if self.ready.get(at + 1).is_none_or(|next| next.start >= end) {
                return at + 1;
            }
        }
        0
    }

    /// Completes the logs that still wait for more lines.
    pub fn finish(&mut self) {
        for held in std::mem::take(&mut self.held) {
            self.complete(held.line);
        }
        for partial in std::mem::take(&mut self.partials) {
            self.put(partial);
        }
    }

    fn put(&mut self, line: Line) {
        let later = self.ready.iter().rev().take_while(|ready| ready.start > line.start).count();
        self.ready.insert(self.ready.len() - later, line);
    }

    /// Joins the parts of a line that its runtime has cut; none while there are more to come.
    fn whole(&mut self, mut line: Line) -> Option<Line> {
        let is_partial = line.envelope.as_ref().is_some_and(|envelope| envelope.is_partial);
        let known = self.partials.iter().position(|partial| partial.is_of_source(&line));
        if let Some(known) = known {
            let mut first = self.partials.remove(known);
            // Each part has its share of one line; the first part's time is the line's.
            first.append("", &line);
            line = first;
        }
        let has_room = line.text.len() < JOINED_BYTES_MAX && self.partials.len() < PARTIALS_MAX;
        if is_partial && has_room {
            self.partials.push(line);
            return None;
        }
        Some(line)
    }

    fn join(&mut self, mut line: Line, context: &Context) {
        let mut has_stamp = begins_with_time(&mut line, context);
        if (has_stamp || line.text.starts_with('<')) && line.open_header(context) {
            has_stamp = begins_with_time(&mut line, context);
        }
        let of_source = self.held.iter().rposition(|held| held.line.is_of_source(&line));
        let of_source = of_source.map(|at| self.held.remove(at));
        if line.text.trim_start().is_empty() {
            // It counts as read with the log before it, or the next run would begin with it again.
            if let Some(mut held) = of_source {
                held.line.end = line.end;
                held.blank_lines += 1;
                self.held.push(held);
            }
            return;
        }
        match of_source {
            Some(mut held) if held.is_continued_by(&line, has_stamp, context) => {
                held.take(&line, context);
                let elements = held.take_elements();
                elements.into_iter().flatten().for_each(|element| self.put(element));
                match held.expects {
                    Expects::Nothing => self.complete(held.line),
                    _ => self.held.push(held),
                }
            }
            of_source => {
                if let Some(mut held) = of_source {
                    // JSON that is cut is said to be so.
                    held.line.truncated |=
                        held.expects == Expects::Json && !held.has_room_for(&line);
                    self.complete(held.line);
                }
                match expects_behind(&line, has_stamp) {
                    Expects::Nothing => self.complete(line),
                    expects => self.held.push(Held::new(line, expects, context)),
                }
            }
        }
        if self.held.len() > HELD_MAX {
            let held = self.held.remove(0);
            self.complete(held.line);
        }
    }

    /// Completes what would keep the logs of other sources waiting: what got no line for a while
    /// although others did.
    pub fn complete_old(&mut self, context: &Context) {
        let is_old = |held: &Held| context.now.since(held.changed_at) > HOLD_MAX;
        while self.held.first().is_some_and(is_old) {
            let held = self.held.remove(0);
            self.complete(held.line);
        }
    }

    fn complete(&mut self, line: Line) {
        match several_of(&line) {
            Some(elements) => elements.into_iter().for_each(|element| self.put(element)),
            None => self.put(line),
        }
    }
}

impl Held {
    fn new(line: Line, expects: Expects, context: &Context) -> Self {
        let mut brackets = Brackets::default();
        if expects == Expects::Json {
            brackets.count(&line.text);
        }
        let mut held = Self {
            header_time: line.header.as_ref().and_then(|header| header.time),
            line,
            expects,
            afterwards: expects,
            brackets,
            blank_lines: 0,
            changed_at: context.now,
            may_be_parted: true,
        };
        held.expect_by(None);
        held
    }

    fn is_continued_by(&self, line: &Line, has_stamp: bool, context: &Context) -> bool {
        let text = line.text.as_str();
        let is_indented = |text: &str| text.starts_with([' ', '\t']);
        // Where all are indented, an indented line with a time begins a log.
        let is_table = self.expects == Expects::AnythingUnstamped
            && is_indented(text)
            && !is_indented(&self.line.text);
        let has_stamp = has_stamp && !is_table;
        self.has_room_for(line)
            && self.is_written_at_once_with(line)
            && match self.expects_of(line) {
                Expects::Nothing => false,
                Expects::Json => {
                    text.starts_with([' ', '\t', '}', ']', '"'])
                        || (self.line.text.starts_with('[') && text.starts_with(['{', ',']))
                }
                Expects::OneMore => !has_stamp,
                Expects::GoFrames => is_continuation(text) || is_go_frame(text),
                Expects::Continuation => !has_stamp && is_continuation(text),
                Expects::AnythingUnstamped => {
                    !has_stamp
                        && (is_continuation(text) || !begins_log(text, &self.line.text, context))
                }
            }
    }

    /// Each line of a log of several has a header of its own; those of one process that are apart in
    /// time are logs of their own, whatever they begin with.
    fn is_written_at_once_with(&self, line: &Line) -> bool {
        let time = line.header.as_ref().and_then(|header| header.time);
        match (self.header_time, time) {
            (Some(before), Some(time)) => {
                time.nanos_since(before).unsigned_abs() <= HEADER_GAP_MAX.as_nanos() as u64
            }
            _ => true,
        }
    }

    fn has_room_for(&self, line: &Line) -> bool {
        let bytes_max =
            if self.expects == Expects::Json { JSON_BYTES_MAX } else { JOINED_BYTES_MAX };
        self.line.text.len() + self.blank_lines + 1 + line.text.len() <= bytes_max
    }

    /// The elements so far of an array that has grown long; none while one of them is open.
    fn take_elements(&mut self) -> Option<Vec<Line>> {
        let is_array = self.expects == Expects::Json && self.line.text.starts_with('[');
        let is_long = self.line.text.len() >= ARRAY_PART_BYTES;
        if !(is_array && is_long && self.may_be_parted && self.brackets.depth == 1) {
            return None;
        }
        let text = self.line.text.trim_end().trim_end_matches(',');
        let part = Line { text: format!("{text}]"), ..self.line.clone() };
        let elements = several_of(&part);
        // Asked once: with each further line all of it would be read again.
        self.may_be_parted = elements.is_some();
        let elements = elements?;
        "[".clone_into(&mut self.line.text);
        self.line.start = self.line.end;
        Some(elements)
    }

    /// Where lines have headers, one without belongs to the one before it as if that had a time.
    fn expects_of(&self, line: &Line) -> Expects {
        let has_lost_header = self.line.header.is_some() && line.header.is_none();
        match self.expects {
            Expects::Continuation if has_lost_header => Expects::AnythingUnstamped,
            expects => expects,
        }
    }

    fn take(&mut self, line: &Line, context: &Context) {
        self.changed_at = context.now;
        self.header_time = line.header.as_ref().and_then(|header| header.time);
        let separator = "\n".repeat(self.blank_lines + 1);
        self.blank_lines = 0;
        self.line.append(&separator, line);
        self.line.is_joined = true;
        if self.expects == Expects::Json {
            self.brackets.count(&line.text);
            if self.brackets.depth == 0 {
                self.expects = Expects::Nothing;
            }
            return;
        }
        self.expect_by(Some(&line.text));
    }

    /// What the last line says about the next one.
    fn expect_by(&mut self, last: Option<&str>) {
        let text = last.unwrap_or(&self.line.text);
        if matches!(self.expects, Expects::Json | Expects::Nothing) {
            return;
        }
        let is_frame = text.starts_with([' ', '\t']);
        if text.ends_with(PYTHON_TRACE) || (text.ends_with(':') && text.contains(RUST_PANIC)) {
            self.expects = Expects::OneMore;
        } else if text.starts_with("goroutine ") {
            self.expects = Expects::GoFrames;
        } else if self.expects == Expects::OneMore && !is_frame {
            self.expects = self.afterwards;
        }
    }
}

/// What may follow a line that begins a log.
fn expects_behind(line: &Line, has_stamp: bool) -> Expects {
    let text = line.text.trim_end();
    match text.as_bytes().first() {
        Some(b'[') if text.starts_with("[{") && text.ends_with("}]") => Expects::Nothing,
        Some(b'{') if text.ends_with(['}', ',']) && text.len() > 1 && !text.ends_with("{,") => {
            Expects::Nothing
        }
        Some(b'{' | b'[') if text.len() == 1 || text.ends_with(['{', '[', ',']) => Expects::Json,
        _ if has_stamp => Expects::AnythingUnstamped,
        _ => Expects::Continuation,
    }
}

/// Whether a line begins with a time, perhaps behind a level. Its time is kept with it: looking for
/// it is what reading a line of text costs most.
fn begins_with_time(line: &mut Line, context: &Context) -> bool {
    let text = line.text.as_str();
    if text.starts_with(heads::WEBLOGIC_MARK) {
        return true;
    }
    // Behind blanks only a whole date, or many an indented table would begin with a time.
    let inner = text.trim_start_matches([' ', '\t']);
    let is_indented = inner.len() < text.len();
    let may_have_time = match is_indented {
        true => matches!(inner.as_bytes().get(4), Some(b'-' | b'/')),
        false => inner.starts_with(|first: char| {
            first.is_ascii_alphanumeric() || matches!(first, '[' | '<' | '(')
        }),
    };
    if !may_have_time || logfmt::starts_with_pair(text) {
        return false;
    }
    line.stamp = time::stamp(text, context);
    line.stamp.is_some() || (!is_indented && has_time_further_on(text, context))
}

/// Whether a time stands behind a level, a process or a few words of a head.
fn has_time_further_on(text: &str, context: &Context) -> bool {
    let is_klog = |text: &str| {
        text.get(1..).is_some_and(|rest| time::month_day_clock(rest, context).is_some())
    };
    is_klog(text)
        || level::leading(text).is_some_and(|(_, rest)| time::leading(rest, context).is_some())
        || behind_process(text)
            .is_some_and(|rest| time::stamp(rest, context).is_some() || is_klog(rest))
        || plain::time_behind_tokens(text, context).is_some()
}

/// What stands behind `123:M ` or `<34>`.
fn behind_process(text: &str) -> Option<&str> {
    let digits = text.trim_start_matches('<');
    let rest = digits.trim_start_matches(|letter: char| letter.is_ascii_digit());
    if rest.len() == digits.len() {
        return None;
    }
    match rest.strip_prefix('>') {
        Some(rest) => Some(rest.strip_prefix("1 ").unwrap_or(rest)),
        None => rest.strip_prefix(':')?.split_once(' ').map(|(_, rest)| rest),
    }
}

/// Whether a line without a time begins a log, in a source whose lines begin with one: with a level,
/// or as an object. `java.util.logging` writes its level on the second line.
fn begins_log(text: &str, before: &str, context: &Context) -> bool {
    if text.starts_with("{\"") || logfmt::is_log(text) || time::access_log(text, context).is_some()
    {
        return true;
    }
    let is_second_line = !before.contains('\n') && level::marked(before).is_none();
    // `Error: no money` is what a trace of Node begins with; a level is written in capitals.
    let is_name = text.starts_with(|c: char| c.is_ascii_uppercase())
        && text[1..].starts_with(|c: char| c.is_ascii_lowercase());
    level::leading(text).is_some() && !is_second_line && !is_name
}

/// Whether a line is clearly a part of something before it.
fn is_continuation(text: &str) -> bool {
    const STARTS: [&str; 15] = [
        "Caused by:",
        "Suppressed:",
        "Traceback (most recent call last):",
        "During handling of the above exception",
        "The above exception was the direct cause",
        "goroutine ",
        "[signal ",
        "exit status ",
        "created by ",
        "stack backtrace:",
        "note: run with `RUST_BACKTRACE",
        "Stack trace:",
        "--- End of ",
        "---> ",
        // A tab, as rsyslog writes it.
        "#011",
    ];
    (text.starts_with([' ', '\t']) && !text.trim_start().starts_with("{\""))
        || STARTS.iter().any(|start| text.starts_with(start))
        || matches!(text.trim_end(), "}" | "})" | "};")
        || is_php_frame(text)
        || is_exception(text)
}

/// `#0 /app/cart.php(12): add()`.
fn is_php_frame(text: &str) -> bool {
    let Some(rest) = text.strip_prefix('#') else { return false };
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    digits > 0 && rest[digits..].starts_with(' ')
}

/// `main.work(0xc000010)`.
fn is_go_frame(text: &str) -> bool {
    text.trim_end().ends_with(')') && !text.contains(": ")
}

/// `java.lang.IllegalStateException: no connection left`.
fn is_exception(line: &str) -> bool {
    let name = line.split([':', ' ']).next().unwrap_or_default();
    let is_class = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '$');
    (is_kind(name) || name.ends_with("Throwable"))
        && name.contains('.')
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.chars().all(is_class)
}

/// The logs of a text that holds several, such as a JSON array; they lie in one stretch of the file.
fn several_of(line: &Line) -> Option<Vec<Line>> {
    let text = line.text.trim();
    let texts = match text.as_bytes().first()? {
        b'[' => json::elements(text)?.into_iter().map(Cow::Borrowed).collect(),
        b'{' => json::several(text)?,
        _ => return None,
    };
    if texts.len() > COPIED_HEADERS_MAX && (line.header.is_some() || line.envelope.is_some()) {
        return None;
    }
    // Without its text, which is that of all.
    let frame = Line {
        text: String::new(),
        envelope: line.envelope.clone(),
        header: line.header.clone(),
        ..*line
    };
    let of = |text: Cow<'_, str>| Line { text: text.into_owned(), ..frame.clone() };
    (!texts.is_empty()).then(|| texts.into_iter().map(of).collect())
}

/// Counts the brackets of JSON that are open.
#[derive(Debug, Default)]
struct Brackets {
    depth: usize,
    is_in_string: bool,
}

impl Brackets {
    fn count(&mut self, text: &str) {
        let mut is_escaped = false;
        for byte in text.bytes() {
            match byte {
                _ if is_escaped => is_escaped = false,
                b'\\' if self.is_in_string => is_escaped = true,
                b'"' => self.is_in_string = !self.is_in_string,
                b'{' | b'[' if !self.is_in_string => self.depth += 1,
                b'}' | b']' if !self.is_in_string => self.depth = self.depth.saturating_sub(1),
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use logweir_core::timestamp::Timestamp;

    use super::*;

    const CONTEXT: Context = Context::at(Timestamp::from_unix_seconds(1_767_323_045));

    fn joined(text: &str) -> Vec<Line> {
        let (mut joiner, mut logs, mut start) = (Joiner::default(), Vec::new(), 0);
        for text in text.lines() {
            let end = start + text.len() as u64 + 1;
            joiner.push(Line { text: text.to_owned(), start, end, ..Line::default() }, &CONTEXT);
            logs.extend(std::iter::from_fn(|| joiner.next_log()));
            start = end;
        }
        joiner.finish();
        logs.extend(std::iter::from_fn(|| joiner.next_log()));
        logs
    }

    #[track_caller]
    fn check(text: &str, expected: &[&str]) {
        let logs = joined(text);
        let texts: Vec<_> = logs.iter().map(|line| line.text.as_str()).collect();
        assert_eq!(texts, expected);
        assert_eq!(logs.last().map(|line| line.end), Some(text.len() as u64));
    }

    #[test]
    fn a_trace_without_stamps_is_one_log() {
        let java = "Boom: x\na.b.CError: y\n\tat a.b\nCaused by: z\n\tat e\n";
        check(&format!("{java}next\n"), &[java.trim_end(), "next"]);
        let python = "Traceback (most recent call last):\n  File \"a\"\n    x()\nKeyError: 'x'\n";
        check(&format!("{python}next\n"), &[python.trim_end(), "next"]);
        let go = "panic: no map\n\ngoroutine 1 [running]:\nmain.a()\n\t/a.go:1\nexit status 2\n";
        check(&format!("{go}next\n"), &[go.trim_end(), "next"]);
        let rust = "thread 'main' panicked at a.rs:1:2:\nno map\nstack backtrace:\n   0: a\n";
        check(&format!("{rust}next\n"), &[rust.trim_end(), "next"]);
        let php = "Uncaught E: x\nStack trace:\n#0 a.php(1): b()\n  thrown in a.php\n";
        check(&format!("{php}next\n"), &[php.trim_end(), "next"]);
    }

    #[test]
    fn where_lines_begin_with_a_time_others_belong_to_the_one_before() {
        let first = "2026-01-02 03:04:05 ERROR statement:\nSELECT 1\n\nFROM a\n";
        let text = format!("{first}2026-01-02 03:04:06 INFO next\nWARN of its own\n");
        check(&text, &[first.trim_end(), "2026-01-02 03:04:06 INFO next", "WARN of its own"]);
        let chained = "2026-01-02 03:04:05 ERROR failed\nTraceback (most recent call last):\n  a\n\
                       E: x\n\nDuring handling of the above exception, another one:\n\n\
                       Traceback (most recent call last):\n  b\nF: y\n";
        check(chained, &[chained.trim_end()]);
        let others =
            ["level=info msg=\"a b\" n=1", "::1 - - [02/Jan/2026:03:04:05 +0000] \"GET /\" 200"];
        for other in others {
            check(
                &format!("2026-01-02 03:04:06 INFO one\n{other}\n"),
                &["2026-01-02 03:04:06 INFO one", other],
            );
        }
        let second = "Jan 2, 2026 3:04:05 AM a.B run\nSEVERE: gone\n";
        check(second, &[second.trim_end()]);
    }

    #[test]
    fn json_may_have_many_lines_and_logs_may_share_one() {
        let object = "{\n  \"a\": {\n    \"b\": \"}\"\n  }\n}\n";
        check(&format!("{object}{object}"), &[object.trim_end(), object.trim_end()]);
        check("[{\"a\":1},{\"a\":2}]\n", &["{\"a\":1}", "{\"a\":2}"]);
        check("{\"a\":\"}{\"}{\"a\":2}\n", &["{\"a\":\"}{\"}", "{\"a\":2}"]);
        check("{\"a\":\"}{\"}\n", &["{\"a\":\"}{\"}"]);
        check("{\"a\":1}{broken\n", &["{\"a\":1}{broken"]);
        check("data: {\"a\":1}\n\ndata: [DONE]\n", &["{\"a\":1}", "data: [DONE]"]);
        check("{\"Records\":[{\"a\":1},{\"a\":2}]}\n", &["{\"a\":1}", "{\"a\":2}"]);
        let records = r#"{"resourceLogs":[{"resource":{"r":1},"scopeLogs":[{"logRecords":[{"a":1},{"a":2}]}]},{"scopeLogs":[]}]}"#;
        let first = r#"{"a":1,"resource":{"r":1}}"#;
        check(&format!("{records}\n"), &[first, r#"{"a":2,"resource":{"r":1}}"#]);
        check("[\n  {\"a\":1},\n  {\"a\":2}\n]\n", &["{\"a\":1}", "{\"a\":2}"]);
        check("{\"a\":1}\n x\n", &["{\"a\":1}", " x"]);
        check("{\"a\":\"cut\n{\"a\":2}\n", &["{\"a\":\"cut", "{\"a\":2}"]);
        let logs = joined("[{\"a\":1},{\"a\":2}]\n");
        assert_eq!(logs.iter().map(|line| line.has_more).collect::<Vec<_>>(), [true, false]);
    }

    #[test]
    fn parts_of_a_line_come_together() {
        let cri = "2026-01-02T03:04:05.1Z stdout P one \n2026-01-02T03:04:05.2Z stderr F other\n\
                   2026-01-02T03:04:05.3Z stdout F line\n2026-01-02T03:04:05.4Z stdout F \tat a\n";
        let logs = joined(cri);
        let texts: Vec<_> = logs.iter().map(|line| line.text.as_str()).collect();
        assert_eq!(texts, ["one line\n\tat a", "other"]);
        // A kill between the two must not lose the first part.
        assert!(logs[0].has_more || logs[0].end <= logs[1].start);
        check(
            "{\"log\":\"one \",\"stream\":\"stdout\",\"time\":\"2026-01-02T03:04:05Z\"}\n\
               {\"log\":\"line\\n\",\"stream\":\"stdout\",\"time\":\"2026-01-02T03:04:05Z\"}\n",
            &["one line"],
        );
        check("web-1  | INFO a\ndb-1   | INFO b\n", &["INFO a", "INFO b"]);
        check("INFO | a\n", &["INFO | a"]);
    }

    #[test]
    fn traces_of_several_sources_are_told_apart() {
        let lines = [
            "web-1  | 2026-01-02 03:04:05 ERROR failed",
            "db-1   | a.b.CError: y",
            "web-1  | a.DError: x",
            "db-1   | \tat a.b",
            "web-1  | \tat c.d",
            "db-1   | next",
        ];
        let web = "2026-01-02 03:04:05 ERROR failed\na.DError: x\n\tat c.d";
        check(&format!("{}\n", lines.join("\n")), &[web, "a.b.CError: y\n\tat a.b", "next"]);
        let header = |pid: u8, text: &str| format!("Jan  2 03:04:05 gw app[{pid}]: {text}\n");
        let syslog = [
            header(1, "Traceback (most recent call last):"),
            header(2, "up"),
            header(1, "  File \"a\""),
            header(1, "KeyError: 'x'"),
            header(1, "next"),
        ];
        let trace = "Traceback (most recent call last):\n  File \"a\"\nKeyError: 'x'";
        check(&syslog.concat(), &[trace, "up", "next"]);
        // Two commands within a second, and one an hour after the last.
        let apart = "Jan  2 03:04:05 gw sudo: closed\nJan  2 03:04:05 gw sudo:   eve : COMMAND=ls\n\
                     Jan  2 03:04:05 gw app[1]: up\nJan  2 04:04:05 gw app[1]: a.b.CError: x\n";
        check(apart, &["closed", "  eve : COMMAND=ls", "up", "a.b.CError: x"]);
        let docker = |text: &str| format!("2026-01-02T03:04:05.123456789Z {text}\n");
        let stamped = [docker("a.b.CError: y"), docker("\tat a.b"), docker("INFO next")];
        check(&stamped.concat(), &["a.b.CError: y\n\tat a.b", "INFO next"]);
        let pods = "[pod/a-1/x] panic: no map\n[pod/b-1/x] up\n[pod/a-1/x] \tat e\n";
        check(pods, &["panic: no map\n\tat e", "up"]);
    }

    #[test]
    fn a_silent_source_keeps_the_others_waiting_only_for_a_while() {
        let (mut joiner, mut context) = (Joiner::default(), CONTEXT);
        let line = |text: &str, start| Line {
            text: text.to_owned(),
            start,
            end: start + 1,
            ..Line::default()
        };
        joiner.push(line("web-1  | 2026-01-02 03:04:05 silent", 0), &context);
        joiner.push(line("db-1   | {\"a\":1}", 1), &context);
        assert_eq!(joiner.next_log(), None);
        context.now += HOLD_MAX * 2;
        joiner.push(line("db-1   | {\"a\":2}", 2), &context);
        joiner.complete_old(&context);
        let logs: Vec<_> = std::iter::from_fn(|| joiner.next_log()).collect();
        assert_eq!(logs.iter().map(|log| log.end).collect::<Vec<_>>(), [1, 2, 3]);
    }

    #[test]
    fn an_indented_time_begins_a_log_where_all_are_indented() {
        let first = "==> agent starts";
        let text =
            format!("{first}\n    2026-01-02 03:04:05 [INFO] a\n    2026-01-02 03:04:06 b\n");
        check(&text, &[first, "    2026-01-02 03:04:05 [INFO] a", "    2026-01-02 03:04:06 b"]);
        let table = "2026-01-02 03:04:05 rows:\n  2026-01-01 00:00:00 | 7\n";
        check(table, &[table.trim_end()]);
    }

    #[test]
    fn a_long_array_gives_its_elements_and_what_is_cut_is_flagged() {
        let element = format!("{{\n\"a\":\"{}\"\n}},\n", "x".repeat(JSON_BYTES_MAX / 8));
        let logs = joined(&format!("[\n{}{{\"a\":1}}\n]\n", element.repeat(20)));
        assert_eq!(logs.len(), 21);
        assert!(logs.iter().all(|log| log.text.starts_with('{') && !log.truncated));
        let many = "{\"a\":1},\n".repeat(ARRAY_PART_BYTES / 4);
        let logs = joined(&format!("[\n{many}{{\"a\":1}}\n]\n"));
        assert_eq!(logs.len(), ARRAY_PART_BYTES / 4 + 1);
        let open =
            format!("{{\n\"a\":[\n{}", format!("  \"{}\",\n", "x".repeat(1 << 18)).repeat(5));
        assert!(joined(&open)[0].truncated);
    }

    #[test]
    fn a_line_that_would_swell_stays_one_log() {
        let resource = format!("\"resource\":{{\"a\":\"{}\"}}", "x".repeat(1 << 19));
        let records = |count| vec!["{\"body\":1}"; count].join(",");
        let export = |count| {
            let scopes = format!("[{{\"logRecords\":[{}]}}]", records(count));
            format!("{{\"resourceLogs\":[{{{resource},\"scopeLogs\":{scopes}}}]}}\n")
        };
        assert_eq!([3, 60].map(|count| joined(&export(count)).len()), [3, 1]);
        let behind_header = |count| format!("Jan  2 03:04:05 gw app[1]: [{}]\n", records(count));
        let logs = [3, COPIED_HEADERS_MAX + 1].map(|count| joined(&behind_header(count)).len());
        assert_eq!(logs, [3, 1]);
    }

    #[test]
    fn a_log_without_end_starts_new_ones() {
        let mut text = "start\n".to_owned();
        for _ in 0..3 {
            text.push(' ');
            text.push_str(&"x".repeat(JOINED_BYTES_MAX / 2));
            text.push('\n');
        }
        let logs = joined(&text);
        assert!(logs.iter().all(|line| line.text.len() <= JOINED_BYTES_MAX));
        let kept = |line: &Line| line.text.bytes().filter(|byte| *byte == b'x').count();
        assert_eq!(logs.iter().map(kept).sum::<usize>(), JOINED_BYTES_MAX / 2 * 3);
    }

    proptest::proptest! {
        #[test]
        fn no_word_is_lost(lines in proptest::collection::vec("[ \t]?(ERROR |panic: |\\{|\\[|\\}|goroutine |2026-01-02 03:04:05 |2026-01-02T03:04:05Z stdout [PF] |web-1 \\| |db-1 \\| |2026-01-02T03:04:05\\.123456\\+01:00 gw app\\[[12]\\]: |2026-01-02T03:04:05\\.123456789Z )?[a-z]{0,6}", 0..30)) {
            let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
            let words = |text: &str| {
                let mut words: Vec<_> =
                    text.split(|letter: char| !letter.is_ascii_lowercase()).map(str::to_owned).collect();
                words.retain(|word| !matches!(word.as_str(), "" | "stdout" | "web" | "db" | "gw" | "app"));
                words.concat().len()
            };
            let found = joined(&text);
            let kept: usize = found.iter().map(|line| words(&line.text)).sum();
            proptest::prop_assert_eq!(kept, words(&text));
            proptest::prop_assert!(found.windows(2).all(|pair| pair[0].end <= pair[1].end || pair[0].has_more));
            // Whoever is killed behind a log goes on at its end: nothing before that may be missing,
            // and nothing behind it be told already.
            for (at, log) in found.iter().enumerate().filter(|(_, log)| !log.has_more) {
                let told: usize = found[..=at].iter().map(|line| words(&line.text)).sum();
                proptest::prop_assert_eq!(told, words(&text[..log.end as usize]));
            }
        }
    }
}
