//! Masks what is clearly variable in a message, in one pass over its bytes.
//!
//! A *word* is a run of letters, digits and `. _ - @ + * $ % # ~`; everything else separates words
//! and stays. These become [`WILDCARD`]:
//!
//! - a word with a digit: numbers with sign and unit, hexadecimal, UUIDs, IP addresses, times,
//!   versions, and the segments of paths that hold an id;
//! - URLs, MAC and IPv6 addresses, e-mail addresses, hosts with a port;
//! - quoted text that is not a JSON key;
//! - what stands behind a `=`.
//!
//! Wildcards with nothing but separators between them are one, so that lists of any length have one
//! pattern. Blanks are one space. There is one kind of wildcard only: a typed one would split a
//! pattern whenever an id happens to hold digits alone.
//!
//! The output depends on the message alone and is part of stored ids: any change to it needs a new
//! [`MASK_VERSION`]. Bounded: only the first line, up to [`SIGNATURE_BYTES_MAX`], is read.

/// The version of these rules; part of every template's id.
pub const MASK_VERSION: u8 = 1;
/// What stands in a pattern for a variable part.
pub const WILDCARD: &str = "<*>";
/// How much of a message forms its pattern, bytes.
pub const SIGNATURE_BYTES_MAX: usize = 4 << 10;

const QUOTED_BYTES_MAX: usize = 512;

const WORD: u8 = 1;
const DIGIT: u8 = 2;
const AT: u8 = 4;
const DOT: u8 = 8;
const BLANK: u8 = 16;
/// May lie between two wildcards that are one.
const JOINER: u8 = 32;
/// Ends a value behind `=`.
const VALUE_END: u8 = 64;
const NOT_HEX: u8 = 128;

const CLASSES: [u8; 256] = classes();

const fn classes() -> [u8; 256] {
    let mut classes = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        classes[byte] = class(byte as u8);
        byte += 1;
    }
    classes
}

const fn class(byte: u8) -> u8 {
    match byte {
        b'0'..=b'9' => WORD | DIGIT,
        b'a'..=b'f' | b'A'..=b'F' => WORD,
        b'.' => WORD | DOT | NOT_HEX,
        b'@' => WORD | AT | NOT_HEX,
        b'g'..=b'z' | b'G'..=b'Z' | 128.. => WORD | NOT_HEX,
        b'_' | b'-' | b'+' | b'*' | b'$' | b'%' | b'#' | b'~' => WORD | NOT_HEX,
        b' ' | b'\t' | b'\r' => BLANK | JOINER | VALUE_END,
        b',' | b';' => JOINER | VALUE_END,
        b':' | b'/' | b'\\' | b'|' | b'"' | b'\'' => JOINER,
        b'&' | b')' | b']' | b'}' => VALUE_END,
        _ => 0,
    }
}

fn has(byte: u8, class: u8) -> bool {
    CLASSES[byte as usize] & class != 0
}

/// Writes the masked first line of `message` over `signature`; returns its number of words.
pub(crate) fn mask(message: &str, signature: &mut Vec<u8>) -> usize {
    signature.clear();
    let line = first_line(message);
    let mut pass = Pass { line, at: 0, copied: 0, wildcard_end: None, words: 0, signature };
    pass.run();
    pass.words
}

fn first_line(message: &str) -> &[u8] {
    let text = message.trim_start();
    let mut bound = text.len().min(SIGNATURE_BYTES_MAX);
    while !text.is_char_boundary(bound) {
        bound -= 1;
    }
    let text = &text.as_bytes()[..bound];
    let end = memchr::memchr(b'\n', text).unwrap_or(text.len());
    let blanks = text[..end].iter().rev().take_while(|&&byte| has(byte, BLANK)).count();
    &text[..end - blanks]
}

struct Pass<'a> {
    line: &'a [u8],
    /// Read up to here.
    at: usize,
    /// Written up to here.
    copied: usize,
    /// Length of the signature just behind a wildcard, while only joiners have followed it.
    wildcard_end: Option<usize>,
    words: usize,
    signature: &'a mut Vec<u8>,
}

impl Pass<'_> {
    fn run(&mut self) {
        while let Some(&byte) = self.line.get(self.at) {
            if has(byte, WORD) {
                self.word();
            } else {
                self.separator(byte);
            }
        }
        self.copy_up_to(self.line.len());
    }

    fn word(&mut self) {
        let (start, mut seen) = (self.at, 0);
        while let Some(&byte) = self.line.get(self.at) {
            let class = CLASSES[byte as usize];
            if class & WORD == 0 {
                break;
            }
            seen |= class;
            self.at += 1;
        }
        self.words += 1;
        if self.goes_on_as_address(start, seen)
            || seen & DIGIT != 0
            || is_mail(&self.line[start..self.at], seen)
        {
            self.wildcard(start);
        } else {
            self.wildcard_end = None;
        }
    }

    /// Whether a word is the start of an address, which is then taken in.
    fn goes_on_as_address(&mut self, start: usize, seen: u8) -> bool {
        let (word, rest) = (&self.line[start..self.at], &self.line[self.at..]);
        if rest.first() != Some(&b':') {
            return false;
        }
        if rest.starts_with(b"://") {
            self.at += rest.iter().take_while(|&&byte| !ends_url(byte)).count();
            return true;
        }
        if seen & NOT_HEX == 0 && word.len() <= 4 {
            let length = hardware_or_ip6_bytes(&self.line[start..]);
            self.at = self.at.max(start + length);
            return length > 0;
        }
        seen & DOT != 0 && rest.get(1).is_some_and(u8::is_ascii_digit)
    }

    fn separator(&mut self, byte: u8) {
        match byte {
            b'=' => return self.value(),
            b'"' | b'\'' => return self.quoted(byte),
            _ if has(byte, BLANK) => return self.blanks(byte),
            _ if !has(byte, JOINER) => self.wildcard_end = None,
            _ => {}
        }
        self.at += 1;
    }

    fn blanks(&mut self, first: u8) {
        let start = self.at;
        while self.line.get(self.at).is_some_and(|&byte| has(byte, BLANK)) {
            self.at += 1;
        }
        if self.at - start > 1 || first != b' ' {
            self.copy_up_to(start);
            self.signature.push(b' ');
            self.copied = self.at;
        }
    }

    /// `key=value`: the value is a wildcard, even an empty one.
    fn value(&mut self) {
        let operator = |byte: Option<&u8>| byte.is_some_and(|byte| b"=<>!:~".contains(byte));
        let is_operator = operator(self.line.get(self.at + 1))
            || self.at == 0
            || operator(self.line.get(self.at - 1));
        self.at += 1;
        self.wildcard_end = None;
        if is_operator || matches!(self.line.get(self.at), Some(b'"' | b'\'')) {
            return;
        }
        let start = self.at;
        while self.line.get(self.at).is_some_and(|&byte| !has(byte, VALUE_END)) {
            self.at += 1;
        }
        self.words += 1;
        self.wildcard(start);
    }

    fn quoted(&mut self, quote: u8) {
        self.at += 1;
        let text = &self.line[self.at..];
        let text = &text[..text.len().min(QUOTED_BYTES_MAX)];
        let within_word = self.at > 1 && has(self.line[self.at - 2], WORD);
        let Some(length) = memchr::memchr(quote, text).filter(|&length| length > 0) else { return };
        let next = self.line.get(self.at + length + 1);
        let apostrophe = quote == b'\'' && next.is_some_and(|&byte| has(byte, WORD));
        if within_word || apostrophe {
            return;
        }
        let start = self.at;
        self.at += length;
        self.words += 1;
        if next == Some(&b':') {
            self.wildcard_end = None;
        } else {
            self.wildcard(start);
        }
        self.at += 1;
    }

    /// What was read from `start` on is variable.
    fn wildcard(&mut self, start: usize) {
        // A full stop ends the sentence, not the number.
        while self.at > start + 1 && self.line[self.at - 1] == b'.' {
            self.at -= 1;
        }
        if let Some(end) = self.wildcard_end {
            self.signature.truncate(end);
        } else {
            self.copy_up_to(start);
            self.signature.extend_from_slice(WILDCARD.as_bytes());
            self.wildcard_end = Some(self.signature.len());
        }
        self.copied = self.at;
        // The full stops are read as they are.
        while self.line.get(self.at) == Some(&b'.') {
            self.at += 1;
        }
    }

    fn copy_up_to(&mut self, end: usize) {
        self.signature.extend_from_slice(&self.line[self.copied..end]);
        self.copied = end;
    }
}

fn is_mail(word: &[u8], seen: u8) -> bool {
    seen & AT != 0 && word.first() != Some(&b'@') && word.last() != Some(&b'@')
}

fn ends_url(byte: u8) -> bool {
    has(byte, BLANK) || b"\"'<>)]},;".contains(&byte)
}

/// The length of a MAC or IPv6 address at the start of `text`, or 0: groups of hexadecimal digits
/// with at least two colons, in pairs throughout or with a digit somewhere.
fn hardware_or_ip6_bytes(text: &[u8]) -> usize {
    let end = text.iter().take(45).take_while(|byte| byte.is_ascii_hexdigit() || **byte == b':');
    let length = end.count();
    let address = &text[..length];
    let colons = address.iter().filter(|&&byte| byte == b':').count();
    let pairs = length == 17 && colons == 5;
    let ends_inside_word = text.get(length).is_some_and(|&byte| has(byte, WORD));
    let is_address = colons >= 2 && (pairs || address.iter().any(u8::is_ascii_digit));
    if is_address && !ends_inside_word { length } else { 0 }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn masked(message: &str) -> String {
        let mut signature = Vec::new();
        mask(message, &mut signature);
        String::from_utf8(signature).unwrap()
    }

    #[test]
    fn what_varies_is_masked_and_what_does_not_stays() {
        for (message, pattern) in [
            ("user logged in", "user logged in"),
            ("took 12ms for 3 rows", "took <*> for <*> rows"),
            ("balance -12.50 after +3%", "balance <*> after <*>"),
            ("retry 3.", "retry <*>."),
            ("at 0x7fa82502bc00 in deadbeef01", "at <*> in <*>"),
            ("order 018f3c2a-7b1c-7def-8a90-1234567890ab paid", "order <*> paid"),
            ("from 10.0.0.1:50010 to [fe80::dead:beef]:80", "from <*> to [<*>]:<*>"),
            ("BSSID is be:ef:de:ad:ca:fe now", "BSSID is <*> now"),
            ("via ab:12::c0 done", "via <*> done"),
            ("open www.example.com:80 now", "open <*> now"),
            ("2017-07-07T05:39:27.000Z ready", "<*> ready"),
            ("2017-07-07 05:39:27,123 ready", "<*> ready"),
            ("GET /api/orders/4711/items", "GET /api/orders/<*>/items"),
            ("fetch https://a.b/c?d=e&f#g failed", "fetch <*> failed"),
            ("mail to a.b@example.com sent", "mail to <*> sent"),
            ("user=root uid=0 tty= rhost=h", "user=<*> uid=<*> tty=<*> rhost=<*>"),
            ("mode a == b", "mode a == b"),
            ("lock \"Some.Name\" released", "lock \"<*>\" released"),
            ("option 'fast' isn't known", "option '<*>' isn't known"),
            (r#"{"event":"paid","n":12}"#, r#"{"event":"<*>","n":<*>}"#),
            ("ids [1, 2, 3] and (4) (5)", "ids [<*>] and (<*>) (<*>)"),
            ("a   b\t\tc  ", "a b c"),
            ("\n  first\nsecond 2", "first"),
            ("größe 5 µs", "größe <*> µs"),
            ("", ""),
        ] {
            assert_eq!(masked(message), pattern, "{message:?}");
        }
    }

    #[test]
    fn words_are_counted() {
        let mut signature = Vec::new();
        for (message, words) in [("", 0), ("a b", 2), ("a=1, 2 \"x y\"", 4)] {
            assert_eq!(mask(message, &mut signature), words, "{message:?}");
        }
    }

    #[test]
    fn a_long_message_has_a_bounded_pattern() {
        let message = "word ".repeat(100_000);
        assert!(masked(&message).len() <= SIGNATURE_BYTES_MAX);
    }

    proptest! {
        #[test]
        fn any_text_has_a_pattern_no_longer_than_masks_can_make_it(message in ".{0,300}") {
            let mut signature = Vec::new();
            mask(&message, &mut signature);
            prop_assert!(signature.len() <= message.len() * WILDCARD.len() + WILDCARD.len());
            prop_assert!(std::str::from_utf8(&signature).is_ok());
        }

        #[test]
        fn any_number_gives_the_same_pattern(a: i64, b: f64, c: u32) {
            let message = format!("request {a} took {b} ms, code={c}");
            prop_assert_eq!(masked(&message), "request <*> took <*> ms, code=<*>");
        }

        #[test]
        fn text_of_the_characters_that_matter_never_panics(message in "[a-f0-9=:\"'./@ ,<>é\\[\\]]{0,60}") {
            let mut signature = Vec::new();
            mask(&message, &mut signature);
            prop_assert!(std::str::from_utf8(&signature).is_ok());
        }
    }
}
