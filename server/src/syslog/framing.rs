//! Finds the messages in a stream (RFC 6587): by their length in front, `LENGTH <PRI>…`, or by the line
//! end behind, whichever a message has. Pure, and bounded: of a message that is too long the rest is
//! passed over.

/// Digits of a length: 99,999,999 bytes.
const LENGTH_DIGITS_MAX: usize = 8;

/// A message, without its frame.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Message {
    pub(super) bytes: Vec<u8>,
    /// Whether its end was cut off.
    pub(super) is_truncated: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Digits may be a length, or a line begins with them.
    Length,
    /// A length and a blank: a message follows if it begins with `<`.
    AfterLength(usize),
    /// So many bytes of the message are to come.
    Counted(usize),
    Line,
}

/// Finds messages in bytes as they come.
#[derive(Debug)]
pub(super) struct Framing {
    bytes_max: usize,
    state: State,
    message: Message,
}

impl Framing {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self { bytes_max, state: State::Length, message: Message::default() }
    }

    /// Whether a message has begun and is not whole.
    pub(super) fn is_within(&self) -> bool {
        self.state != State::Length || !self.message.bytes.is_empty()
    }

    /// At most so many messages are whole with these bytes: each has a line end behind it, or a `<` after
    /// its length, which may have come before.
    pub(super) fn messages_max(bytes: &[u8]) -> usize {
        1 + bytes.iter().filter(|byte| matches!(byte, b'\n' | b'\0' | b'<')).count()
    }

    /// Of the message that has begun.
    pub(super) fn held_bytes(&self) -> usize {
        self.message.bytes.len()
    }

    /// Takes bytes until there are so many messages, and appends those that are whole with them; how many
    /// bytes it took.
    pub(super) fn push(
        &mut self,
        all: &[u8],
        messages: &mut Vec<Message>,
        messages_max: usize,
    ) -> usize {
        let mut bytes = all;
        while let Some(&first) = bytes.first()
            && messages.len() < messages_max
        {
            match self.state {
                State::Length => self.begin(first, &mut bytes, messages),
                State::AfterLength(length) if first == b'<' => {
                    self.message.bytes.clear();
                    self.state = State::Counted(length);
                }
                State::AfterLength(_) => self.state = State::Line,
                State::Counted(left) => {
                    let (now, rest) = bytes.split_at(left.min(bytes.len()));
                    bytes = rest;
                    self.take(now);
                    self.state = State::Counted(left - now.len());
                    if left == now.len() {
                        self.end(messages);
                    }
                }
                State::Line => {
                    let end = memchr::memchr2(b'\n', b'\0', bytes);
                    self.take(&bytes[..end.unwrap_or(bytes.len())]);
                    bytes = &bytes[end.map_or(bytes.len(), |end| end + 1)..];
                    if end.is_some() {
                        self.end(messages);
                    }
                }
            }
        }
        all.len() - bytes.len()
    }

    /// The stream has ended: what has begun is a message, cut off if more of it was announced.
    pub(super) fn finish(mut self, messages: &mut Vec<Message>) {
        self.message.is_truncated |= matches!(self.state, State::Counted(_));
        self.end(messages);
    }

    fn begin(&mut self, first: u8, bytes: &mut &[u8], messages: &mut Vec<Message>) {
        let digits = self.message.bytes.len();
        match first {
            b'0'..=b'9' if digits < LENGTH_DIGITS_MAX && (digits > 0 || first != b'0') => {
                self.message.bytes.push(first);
            }
            b' ' if digits > 0 => {
                let text = std::str::from_utf8(&self.message.bytes).unwrap_or_default();
                self.state = State::AfterLength(text.parse().unwrap_or(0));
                self.message.bytes.push(first);
            }
            // What stands between messages: line ends behind those with a length, which some send too.
            b'\n' | b'\r' | b'\0' if digits == 0 => {}
            b'\n' | b'\0' => self.end(messages),
            _ => {
                self.state = State::Line;
                return;
            }
        }
        *bytes = &bytes[1..];
    }

    fn take(&mut self, bytes: &[u8]) {
        let room = self.bytes_max.saturating_sub(self.message.bytes.len());
        self.message.is_truncated |= bytes.len() > room;
        self.message.bytes.extend_from_slice(&bytes[..room.min(bytes.len())]);
    }

    fn end(&mut self, messages: &mut Vec<Message>) {
        let mut message = std::mem::take(&mut self.message);
        self.state = State::Length;
        while message.bytes.last().is_some_and(|last| matches!(last, b'\n' | b'\r' | b'\0')) {
            message.bytes.pop();
        }
        if !message.bytes.is_empty() {
            messages.push(message);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BYTES_MAX: usize = 20;

    fn found(parts: &[&[u8]]) -> Vec<(String, bool)> {
        let (mut framing, mut messages) = (Framing::new(BYTES_MAX), Vec::new());
        for part in parts {
            let mut rest = *part;
            while !rest.is_empty() {
                let (before, most) = (messages.len(), Framing::messages_max(rest));
                let taken = framing.push(rest, &mut messages, before + 2);
                let found = messages.len() - before;
                assert!(found <= most.min(2), "{found} of {most}");
                rest = &rest[taken..];
            }
        }
        framing.finish(&mut messages);
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        messages.into_iter().map(|m| (text(m.bytes), m.is_truncated)).collect()
    }

    #[test]
    fn each_message_has_the_frame_that_it_comes_in() {
        for (stream, expected) in [
            ("<1>a\n<2>b\r\n<3>c", &["<1>a", "<2>b", "<3>c"][..]),
            ("4 <1>a6 <2>b\nc5 <3>de", &["<1>a", "<2>b\nc", "<3>de"]),
            ("4 <1>a\n4 <2>b\n<3>c\n", &["<1>a", "<2>b", "<3>c"]),
            ("<1>a\0<2>b\0", &["<1>a", "<2>b"]),
            // No lengths: lines that begin with numbers.
            ("12 apples\n2026-01-02 x\n7\n0 <1>a\n", &["12 apples", "2026-01-02 x", "7", "0 <1>a"]),
            ("123456789 <1>\n", &["123456789 <1>"]),
            ("\n\n\r\n", &[]),
        ] {
            let expected: Vec<_> = expected.iter().map(|text| (text.to_string(), false)).collect();
            assert_eq!(found(&[stream.as_bytes()]), expected, "{stream:?}");
        }
    }

    #[test]
    fn what_is_too_long_or_ends_early_is_cut_and_marked() {
        let long = format!("<1>{}\n40 <2>{}<3>c\n9 <4>", "x".repeat(40), "y".repeat(37));
        let expected = [
            (format!("<1>{}", "x".repeat(17)), true),
            (format!("<2>{}", "y".repeat(17)), true),
            ("<3>c".into(), false),
            ("<4>".into(), true),
        ];
        assert_eq!(found(&[long.as_bytes()]), expected);
    }

    proptest! {
        #[test]
        fn where_a_stream_is_cut_changes_nothing(stream in "[0-9 <>a\n\0]{0,60}", cut in 0..60_usize) {
            let (first, second) = stream.as_bytes().split_at(cut.min(stream.len()));
            prop_assert_eq!(found(&[first, second]), found(&[stream.as_bytes()]));
            prop_assert!(found(&[first]).iter().all(|(text, _)| text.len() <= BYTES_MAX));
        }
    }
}
