//! Cuts bytes into lines and joins the lines that belong to one log. Holds one line and one log at
//! a time, each bounded: what goes beyond is cut off and flagged, never a reason to stop.

use std::io::{self, BufRead};

/// Longest line kept, bytes. Longer than a message may be, because a structured line carries
/// attributes too.
pub const LINE_BYTES_MAX: usize = 1 << 20;
/// Longest log that lines are joined to, bytes: the longest message of the contract.
pub const JOINED_BYTES_MAX: usize = 64 << 10;

/// One line or several joined ones, without line ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// The text.
    pub text: String,
    /// Where it ends in its (decompressed) file, line end included.
    pub end: u64,
    /// Bytes beyond [`LINE_BYTES_MAX`] were cut off.
    pub truncated: bool,
    /// Bytes that are no UTF-8 were replaced by U+FFFD.
    pub invalid_utf8: bool,
}

/// Cuts a stream into lines and knows how far it got. A line that has no end yet is kept until the
/// stream goes on.
pub struct LineReader {
    line: Vec<u8>,
    truncated: bool,
    offset: u64,
}

impl LineReader {
    /// Starts at a position of its stream.
    pub fn new(offset: u64) -> Self {
        Self { line: Vec::new(), truncated: false, offset }
    }

    /// Bytes read so far, from the beginning of the stream.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The next line that has an end; none if the stream has no more at the moment.
    pub fn next_line(&mut self, reader: &mut impl BufRead) -> io::Result<Option<Line>> {
        loop {
            let available = match reader.fill_buf() {
                Ok(available) => available,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            if available.is_empty() {
                return Ok(None);
            }
            let end = available.iter().position(|byte| *byte == b'\n');
            let used = end.map_or(available.len(), |end| end + 1);
            // Beyond the bound a line is read on and not kept: its end must be found, or the rest
            // of it would be taken for lines of their own.
            let room = LINE_BYTES_MAX - self.line.len();
            let content = &available[..end.unwrap_or(used)];
            self.truncated |= content.len() > room;
            self.line.extend_from_slice(&content[..content.len().min(room)]);
            reader.consume(used);
            self.offset += used as u64;
            if end.is_some() {
                return Ok(Some(self.take()));
            }
        }
    }

    /// The rest of a stream that does not end in a line end.
    pub fn last_line(&mut self) -> Option<Line> {
        (!self.line.is_empty()).then(|| self.take())
    }

    fn take(&mut self) -> Line {
        let mut bytes = std::mem::take(&mut self.line);
        if bytes.last() == Some(&b'\r') {
            bytes.pop();
        }
        let (text, invalid_utf8) = match String::from_utf8(bytes) {
            Ok(text) => (text, false),
            Err(error) => {
                let text = String::from_utf8_lossy(error.as_bytes()).into_owned();
                // A cut may have fallen into a character; that is no fault of the file.
                let cut = self.truncated && error.utf8_error().error_len().is_none();
                (text, !cut)
            }
        };
        // Windows writes a byte order mark before the first line; no JSON object begins with one.
        let text = text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text);
        Line {
            text,
            end: self.offset,
            truncated: std::mem::take(&mut self.truncated),
            invalid_utf8,
        }
    }
}

/// Joins stack traces: a line that begins with a blank, with `Caused by:` or with the full name of
/// an exception's class belongs to the line of text before it. A log that has grown to
/// [`JOINED_BYTES_MAX`] takes no more; the next line then starts a log of its own, so that nothing
/// is lost.
#[derive(Default)]
pub struct Joiner {
    held: Option<Line>,
}

impl Joiner {
    /// Takes a line; returns the log before it if that is now complete. Blank lines are no logs.
    pub fn push(&mut self, line: Line) -> Option<Line> {
        if line.text.trim().is_empty() {
            // It counts as read with the log before it, or the next run would begin with it again.
            if let Some(held) = &mut self.held {
                held.end = line.end;
            }
            return None;
        }
        match &mut self.held {
            Some(held) if continues(&held.text, &line.text) => {
                held.text.push('\n');
                held.text.push_str(&line.text);
                held.end = line.end;
                held.truncated |= line.truncated;
                held.invalid_utf8 |= line.invalid_utf8;
                None
            }
            _ => self.held.replace(line),
        }
    }

    /// The log that still waited for more lines.
    pub fn finish(&mut self) -> Option<Line> {
        self.held.take()
    }
}

fn continues(before: &str, line: &str) -> bool {
    let indented = line.starts_with([' ', '\t']);
    (indented || line.starts_with("Caused by:") || is_exception(line))
        && !is_structured(before)
        && before.len() + 1 + line.len() <= JOINED_BYTES_MAX
}

/// Whether a line stands for itself, so that a line after it never continues it.
fn is_structured(line: &str) -> bool {
    line.starts_with('{') && line.trim_end().ends_with('}')
}

/// `java.lang.IllegalStateException: no connection left`.
fn is_exception(line: &str) -> bool {
    let name = line.split([':', ' ']).next().unwrap_or_default();
    let is_class = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '$');
    ["Exception", "Error", "Throwable"].iter().any(|kind| name.ends_with(kind))
        && name.contains('.')
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.chars().all(is_class)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(bytes: &[u8]) -> Vec<Line> {
        let (mut source, mut reader) = (bytes, LineReader::new(0));
        let mut lines = Vec::new();
        while let Some(line) = reader.next_line(&mut source).unwrap() {
            lines.push(line);
        }
        lines.extend(reader.last_line());
        lines
    }

    fn joined(bytes: &[u8]) -> Vec<Line> {
        let mut joiner = Joiner::default();
        let mut logs: Vec<_> = lines(bytes).into_iter().filter_map(|l| joiner.push(l)).collect();
        logs.extend(joiner.finish());
        logs
    }

    fn texts(lines: &[Line]) -> Vec<&str> {
        lines.iter().map(|line| line.text.as_str()).collect()
    }

    #[test]
    fn lines_are_cut_at_either_line_end() {
        let found = lines(b"\xef\xbb\xbfa\r\nb\n\nlast");
        assert_eq!(texts(&found), ["a", "b", "", "last"]);
        assert_eq!(found.iter().map(|line| line.end).collect::<Vec<_>>(), [6, 8, 9, 13]);
    }

    #[test]
    fn an_unfinished_line_waits_for_its_rest() {
        let mut reader = LineReader::new(10);
        assert_eq!(reader.next_line(&mut &b"half"[..]).unwrap(), None);
        let line = reader.next_line(&mut &b" done\n"[..]).unwrap().unwrap();
        assert_eq!((line.text.as_str(), line.end), ("half done", 20));
    }

    #[test]
    fn bad_bytes_and_overlong_lines_are_flagged() {
        let found = lines(b"ok\xffbad\nfine\n");
        assert_eq!(texts(&found), ["ok\u{fffd}bad", "fine"]);
        assert_eq!((found[0].invalid_utf8, found[1].invalid_utf8), (true, false));
        let mut long = vec![b'x'; LINE_BYTES_MAX + 5];
        long.extend_from_slice(b"\nnext\n");
        let found = lines(&long);
        assert_eq!((found[0].text.len(), found[0].truncated), (LINE_BYTES_MAX, true));
        assert_eq!((found[1].text.as_str(), found[1].truncated), ("next", false));
        assert_eq!(found[1].end, long.len() as u64);
    }

    #[test]
    fn a_stack_trace_is_one_log() {
        let found =
            joined(b"Boom: x\na.b.CError\n\tat a.b\n\tat c.d\nCaused by: y\n\tat e\nnext\n\n{\"a\":1}\n x\n");
        let trace = "Boom: x\na.b.CError\n\tat a.b\n\tat c.d\nCaused by: y\n\tat e";
        assert_eq!(texts(&found), [trace, "next", "{\"a\":1}", " x"]);
        assert_eq!(found[1].end, 60);
    }

    #[test]
    fn a_trace_without_end_starts_new_logs() {
        let mut bytes = b"start\n".to_vec();
        for _ in 0..3 {
            bytes.push(b' ');
            bytes.extend(vec![b'x'; JOINED_BYTES_MAX / 2]);
            bytes.push(b'\n');
        }
        let found = joined(&bytes);
        assert!(found.iter().all(|line| line.text.len() <= JOINED_BYTES_MAX));
        let kept: usize =
            found.iter().flat_map(|line| line.text.bytes()).filter(|b| *b == b'x').count();
        assert_eq!(kept, JOINED_BYTES_MAX / 2 * 3);
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_become_lines_that_reach_the_end(bytes: Vec<u8>) {
            let found = lines(&bytes);
            let count = bytes.split(|byte| *byte == b'\n').count();
            proptest::prop_assert!(found.len() == count || found.len() + 1 == count);
            if let Some(last) = found.last() {
                proptest::prop_assert_eq!(last.end, bytes.len() as u64);
            }
        }
    }
}
