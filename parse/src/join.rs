//! Joins the lines of one log: stack traces, statements of several lines, JSON spread over lines,
//! and the parts into which container runtimes cut long lines. Pure, and bounded: a log that has
//! grown to [`JOINED_BYTES_MAX`] takes no more; the next line then starts a log of its own, so that
//! nothing is lost.

use std::{borrow::Cow, collections::VecDeque};

use crate::{
    clean,
    envelope::{self, Envelope},
    exception::{PYTHON_TRACE, RUST_PANIC, is_kind},
    json, level, logfmt,
    parsed::Context,
    plain,
    time::{self, Stamp},
};

/// Longest log that lines are joined to, bytes: the longest message of the contract.
pub const JOINED_BYTES_MAX: usize = 64 << 10;
/// Longest JSON that lines are joined to, bytes: an array holds many logs.
const JSON_BYTES_MAX: usize = 1 << 20;
/// Lines without a last part that are kept, one of each stream.
const PARTIALS_MAX: usize = 16;
/// Logs that wait for a line whose last part has not come.
const WAITING_MAX: usize = 256;

/// One line or several joined ones, without line ends.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
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

    fn is_of_source(&self, other: &Self) -> bool {
        match (&self.envelope, &other.envelope) {
            (Some(envelope), Some(other)) => envelope.is_of_source(other),
            (None, None) => true,
            _ => false,
        }
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
}

/// Takes lines and gives logs; one log waits for more lines at a time.
#[derive(Default)]
pub struct Joiner {
    held: Option<Held>,
    partials: Vec<Line>,
    ready: VecDeque<Line>,
}

impl Joiner {
    /// Takes a line. Blank lines are no logs.
    pub fn push(&mut self, mut line: Line, context: &Context) {
        if let Cow::Owned(cleaned) = clean::clean(&line.text) {
            line.text = cleaned;
        }
        if let Some((envelope, text)) = envelope::open(&line.text, context) {
            line.text = clean::clean(&text).into_owned();
            line.envelope = Some(Box::new(envelope));
        }
        if let Some(line) = self.whole(line) {
            self.join(line, context);
        }
        if self.ready.len() >= WAITING_MAX {
            // The last part may never come: what there is of the line is a log.
            self.ready.extend(self.partials.drain(..));
        }
    }

    /// The next log that is complete.
    pub fn next_log(&mut self) -> Option<Line> {
        // Logs that lie between the parts of another are told together with it: see
        // [`Line::has_more`].
        let pending = self.held.as_ref().map(|held| held.line.start);
        let limit = self.partials.iter().map(|line| line.start).chain(pending).min();
        let is_apart = limit.is_none_or(|limit| self.ready.iter().all(|line| line.end <= limit));
        if !is_apart {
            return None;
        }
        let mut log = self.ready.pop_front()?;
        log.has_more = !self.ready.is_empty();
        Some(log)
    }

    /// Completes the logs that still wait for more lines.
    pub fn finish(&mut self) {
        for partial in std::mem::take(&mut self.partials) {
            self.complete();
            self.held = Some(Held::new(partial, Expects::Nothing));
        }
        self.complete();
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
        if line.text.trim_start().is_empty() {
            // It counts as read with the log before it, or the next run would begin with it again.
            if let Some(held) = &mut self.held {
                held.line.end = line.end;
                held.blank_lines += 1;
            }
            return;
        }
        let has_stamp = begins_with_time(&mut line, context);
        let held = self.held.as_ref();
        let continues = held.is_some_and(|held| held.is_continued_by(&line, has_stamp, context));
        if let Some(held) = self.held.as_mut().filter(|_| continues) {
            held.take(&line);
            if held.expects == Expects::Nothing {
                self.complete();
            }
            return;
        }
        self.complete();
        if let Some(elements) = array_of(&line) {
            self.ready.extend(elements);
            return;
        }
        match expects_behind(&line, has_stamp) {
            Expects::Nothing => self.ready.push_back(line),
            expects => self.held = Some(Held::new(line, expects)),
        }
    }

    fn complete(&mut self) {
        let Some(held) = self.held.take() else { return };
        match array_of(&held.line) {
            Some(elements) => self.ready.extend(elements),
            None => self.ready.push_back(held.line),
        }
    }
}

impl Held {
    fn new(line: Line, expects: Expects) -> Self {
        let mut brackets = Brackets::default();
        if expects == Expects::Json {
            brackets.count(&line.text);
        }
        let mut held = Self { line, expects, afterwards: expects, brackets, blank_lines: 0 };
        held.expect_by(None);
        held
    }

    fn is_continued_by(&self, line: &Line, has_stamp: bool, context: &Context) -> bool {
        let text = line.text.as_str();
        let bytes_max =
            if self.expects == Expects::Json { JSON_BYTES_MAX } else { JOINED_BYTES_MAX };
        self.line.text.len() + self.blank_lines + 1 + text.len() <= bytes_max
            && self.line.is_of_source(line)
            && match self.expects {
                Expects::Nothing => false,
                Expects::Json => {
                    text.starts_with([' ', '\t', '}', ']', '"'])
                        || (self.line.text.starts_with('[') && text.starts_with(['{', ',']))
                }
                Expects::OneMore => !has_stamp,
                Expects::GoFrames => is_continuation(text) || is_go_frame(text),
                Expects::Continuation => is_continuation(text),
                Expects::AnythingUnstamped => {
                    !has_stamp
                        && (is_continuation(text) || !begins_log(text, &self.line.text, context))
                }
            }
    }

    fn take(&mut self, line: &Line) {
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
    let may_have_time = text.starts_with(|first: char| {
        first.is_ascii_alphanumeric() || matches!(first, '[' | '<' | '(')
    });
    if !may_have_time || logfmt::starts_with_pair(text) {
        return false;
    }
    line.stamp = time::stamp(text, context);
    line.stamp.is_some() || has_time_further_on(text, context)
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
    const STARTS: [&str; 14] = [
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

/// The objects of a JSON array, each a log; they lie in one stretch of the file.
fn array_of(line: &Line) -> Option<Vec<Line>> {
    let text = line.text.trim_start();
    if !text.starts_with('[') {
        return None;
    }
    let objects = json::elements(text)?;
    // Without its text, which is that of all.
    let frame = Line { text: String::new(), envelope: line.envelope.clone(), ..*line };
    let of = |text: &&str| Line { text: (*text).to_owned(), ..frame.clone() };
    (!objects.is_empty()).then(|| objects.iter().map(of).collect())
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
        assert_eq!(texts, ["other", "one line\n\tat a"]);
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
        fn no_word_is_lost(lines in proptest::collection::vec("[ \t]?(ERROR |panic: |\\{|\\[|\\}|goroutine |2026-01-02 03:04:05 |2026-01-02T03:04:05Z stdout [PF] |web-1 \\| )?[a-z]{0,6}", 0..30)) {
            let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
            let words = |text: &str| {
                let mut words: Vec<_> =
                    text.split(|letter: char| !letter.is_ascii_lowercase()).map(str::to_owned).collect();
                words.retain(|word| !matches!(word.as_str(), "" | "stdout" | "web"));
                words.concat().len()
            };
            let found = joined(&text);
            let kept: usize = found.iter().map(|line| words(&line.text)).sum();
            proptest::prop_assert_eq!(kept, words(&text));
            proptest::prop_assert!(found.windows(2).all(|pair| pair[0].end <= pair[1].end || pair[0].has_more));
        }
    }
}
