//! Cuts bytes into lines and reads them as text. Holds one line at a time, bounded: what goes beyond
//! is cut off and flagged, never a reason to stop.

use std::io::{self, BufRead};

use encoding_rs::{UTF_16BE, UTF_16LE, WINDOWS_1252};
pub use logweir_parse::join::{JOINED_BYTES_MAX, Joiner, Line};

/// Longest line kept, bytes. Longer than a message may be, because a structured line carries
/// attributes too.
pub const LINE_BYTES_MAX: usize = 1 << 20;

/// How the characters of a stream are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Encoding {
    /// A byte or more each: UTF-8, or Latin-1 where that cannot be.
    Bytes,
    /// Two bytes each, the lower first, as Windows writes them.
    Utf16Le,
    /// Two bytes each, the higher first.
    Utf16Be,
}

impl Encoding {
    /// By the mark at the beginning of a file, or by the zeros of ASCII letters further on.
    fn of(bytes: &[u8]) -> Self {
        match bytes {
            [0xff, 0xfe, ..] => Self::Utf16Le,
            [0xfe, 0xff, ..] => Self::Utf16Be,
            [a, 0, b, 0, c, 0, ..] if [a, b, c].iter().all(|byte| **byte != 0) => Self::Utf16Le,
            [0, a, 0, b, 0, c, ..] if [a, b, c].iter().all(|byte| **byte != 0) => Self::Utf16Be,
            _ => Self::Bytes,
        }
    }
}

/// Cuts a stream into lines and knows how far it got. A line that has no end yet is kept until the
/// stream goes on.
pub struct LineReader {
    line: Vec<u8>,
    truncated: bool,
    offset: u64,
    /// Where the line begins.
    start: u64,
    /// Known from the first bytes on.
    encoding: Option<Encoding>,
    /// The last byte of the line, which may be beyond those that are kept.
    last: u8,
}

impl LineReader {
    /// Starts at a position of its stream.
    pub fn new(offset: u64) -> Self {
        let line = Vec::new();
        Self { line, truncated: false, offset, start: offset, encoding: None, last: 0 }
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
            let encoding = *self.encoding.get_or_insert_with(|| Encoding::of(available));
            let is_odd = (self.offset - self.start) % 2 == 1;
            let end = line_end(available, encoding, is_odd.then_some(self.last));
            let used = end.map_or(available.len(), |end| end + 1);
            self.last = available[used - 1];
            // Beyond the bound a line is read on and not kept: its end must be found, or the rest
            // of it would be taken for lines of their own.
            let room = LINE_BYTES_MAX - self.line.len();
            // The line's end is no part of it; of two bytes the first was taken for one already.
            let kept = if encoding == Encoding::Bytes { end.unwrap_or(used) } else { used };
            let content = &available[..kept];
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
        let bytes = std::mem::take(&mut self.line);
        let truncated = std::mem::take(&mut self.truncated);
        let start = std::mem::replace(&mut self.start, self.offset);
        let encoding = self.encoding.unwrap_or(Encoding::Bytes);
        Line { start, end: self.offset, ..text_of(bytes, encoding, truncated) }
    }
}

/// Where the next line ends: at its last byte. `before` is the first byte of a character whose
/// second one comes first.
fn line_end(bytes: &[u8], encoding: Encoding, before: Option<u8>) -> Option<usize> {
    let wanted = match encoding {
        Encoding::Bytes => return memchr::memchr(b'\n', bytes),
        Encoding::Utf16Le => [b'\n', 0],
        Encoding::Utf16Be => [0, b'\n'],
    };
    if let Some(before) = before
        && [before, bytes[0]] == wanted
    {
        return Some(0);
    }
    let skipped = usize::from(before.is_some());
    let characters = bytes[skipped..].chunks_exact(2);
    let found = characters.into_iter().position(|character| character == wanted)?;
    Some(skipped + found * 2 + 1)
}

fn text_of(bytes: Vec<u8>, encoding: Encoding, truncated: bool) -> Line {
    let mut line = match encoding {
        Encoding::Bytes => text_of_bytes(bytes, truncated),
        Encoding::Utf16Le => text_of_utf16(UTF_16LE, &bytes),
        Encoding::Utf16Be => text_of_utf16(UTF_16BE, &bytes),
    };
    // Windows writes a byte order mark before the first line; no JSON object begins with one.
    if line.text.starts_with('\u{feff}') {
        line.text.drain(..'\u{feff}'.len_utf8());
    }
    line.text.truncate(line.text.trim_end_matches(['\n', '\r']).len());
    Line { truncated, ..line }
}

fn text_of_utf16(encoding: &'static encoding_rs::Encoding, bytes: &[u8]) -> Line {
    let (text, invalid_utf8) = encoding.decode_without_bom_handling(bytes);
    Line { text: text.into_owned(), invalid_utf8, ..Line::default() }
}

fn text_of_bytes(bytes: Vec<u8>, truncated: bool) -> Line {
    let error = match String::from_utf8(bytes) {
        Ok(text) => return Line { text, ..Line::default() },
        Err(error) => error,
    };
    if is_latin1(error.as_bytes()) {
        let (text, _) = WINDOWS_1252.decode_without_bom_handling(error.as_bytes());
        return Line { text: text.into_owned(), is_latin1: true, ..Line::default() };
    }
    let text = String::from_utf8_lossy(error.as_bytes()).into_owned();
    // A cut may have fallen into a character; that is no fault of the file.
    let is_cut = truncated && error.utf8_error().error_len().is_none();
    Line { text, invalid_utf8: !is_cut, ..Line::default() }
}

/// Whether bytes that are no UTF-8 are likely text of western Europe: a few among others, each of
/// them a character there, and no character of UTF-8 with them.
fn is_latin1(bytes: &[u8]) -> bool {
    let odd = bytes.iter().filter(|byte| !byte.is_ascii());
    let (count, are_characters) = odd.fold((0, true), |(count, are_characters), byte| {
        (count + 1, are_characters && !matches!(byte, 0x81 | 0x8d | 0x8f | 0x90 | 0x9d | 0xff))
    });
    let mixed = bytes.utf8_chunks().any(|chunk| !chunk.valid().is_ascii());
    are_characters && !mixed && count * 4 <= bytes.len()
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
    fn other_encodings_are_decoded() {
        let wide =
            |text: &str| -> Vec<u8> { text.encode_utf16().flat_map(u16::to_le_bytes).collect() };
        let found = lines(&wide("\u{feff}Grüße\r\n\u{10a}\nlast"));
        assert_eq!(texts(&found), ["Grüße", "\u{10a}", "last"]);
        assert_eq!(found[0].end, 16);
        // Gone on with in the middle of a file, with characters that are cut by the buffer.
        let mut reader = LineReader::new(16);
        let bytes = wide("next one\nhalf");
        let texts_of =
            |mut chunk: &[u8]| reader.next_line(&mut chunk).unwrap().map(|line| line.text);
        let found: Vec<_> = bytes.chunks(7).filter_map(texts_of).collect();
        assert_eq!(found, ["next one"]);
        let found = lines(b"f\xfcr M\xfcller\nfor M\xc3\xbcller\n\xfc\xfd\n");
        assert_eq!(texts(&found), ["für Müller", "for Müller", "\u{fffd}\u{fffd}"]);
        assert_eq!(
            found.iter().map(|line| line.is_latin1).collect::<Vec<_>>(),
            [true, false, false]
        );
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
