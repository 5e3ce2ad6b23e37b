//! Masks what is clearly variable in a message, in one pass over its bytes.
//!
//! A *word* is a run of letters, digits and `. _ - @ + * $ % # ~`; everything else separates words
//! and stays, and so do two or more dots in a row. These become [`WILDCARD`]:
//!
//! - a word with a digit: numbers with sign and unit, hexadecimal, UUIDs, IP addresses, times,
//!   versions; but not a name that merely ends in one digit, such as `ssh2` or `en0`;
//! - URLs, paths from their root, MAC and IPv6 addresses, e-mail addresses, hosts with a port;
//! - quoted text, unless it is one plain word or a request line (`"GET /x HTTP/1.1"`);
//! - what stands behind a `=`, with the brackets in it;
//! - in a JSON object, every value but those of keys that say what happened (`msg`, `event`,
//!   `level`, ...), whose words are read like any others.
//!
//! Wildcards with nothing but separators between them are one, so that lists of any length have one
//! pattern. Blanks are one space. There is one kind of wildcard only: a typed one would split a
//! pattern whenever an id happens to hold digits alone.
//!
//! Of a message of several lines the first is read; of a Python traceback, whose first line says
//! nothing, the last; a JSON object is read over all its lines.
//!
//! The output depends on the message alone and is part of stored ids: any change to it needs a new
//! [`MASK_VERSION`]. Bounded: no more than [`SIGNATURE_BYTES_MAX`] are read.

/// The version of these rules; part of every template's id.
pub const MASK_VERSION: u8 = 2;
/// What stands in a pattern for a variable part.
pub const WILDCARD: &str = "<*>";
/// How much of a message forms its pattern, bytes.
pub const SIGNATURE_BYTES_MAX: usize = 2 << 10;

const QUOTED_BYTES_MAX: usize = 512;
const TRACEBACK: &str = "Traceback (most recent call last)";
/// Lines from its end in which the exception is looked for.
const TRACEBACK_LINES_MAX: usize = 16;
const METHODS: [&[u8]; 7] =
    [b"GET ", b"POST ", b"PUT ", b"DELETE ", b"HEAD ", b"PATCH ", b"OPTIONS "];
/// Keys of JSON objects whose values say what happened rather than to whom.
const TELLING_KEYS: [&[u8]; 14] = [
    b"msg",
    b"message",
    b"event",
    b"error",
    b"err",
    b"exception",
    b"text",
    b"level",
    b"severity",
    b"lvl",
    b"logger",
    b"action",
    b"type",
    b"name",
];

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
        b' ' | b'\t' | b'\r' | b'\n' => BLANK | JOINER | VALUE_END,
        b',' | b';' => JOINER | VALUE_END,
        b':' | b'/' | b'\\' | b'|' | b'"' | b'\'' => JOINER,
        b'&' | b')' | b']' | b'}' => VALUE_END,
        _ => 0,
    }
}

fn has(byte: u8, class: u8) -> bool {
    CLASSES[byte as usize] & class != 0
}

/// Whether a byte belongs to words.
pub(crate) fn is_word_byte(byte: u8) -> bool {
    has(byte, WORD)
}

/// Writes the masked message over `signature`; returns its number of words.
pub(crate) fn mask(message: &str, signature: &mut Vec<u8>) -> usize {
    signature.clear();
    let line = text_read(message).as_bytes();
    Pass::run(line, is_json(line), signature)
}

/// What is read of a message: its first line; all lines of a JSON object; the exception of a Python
/// traceback, which is its last line.
pub(crate) fn text_read(message: &str) -> &str {
    let text = message.trim_start();
    let mut bound = text.len().min(SIGNATURE_BYTES_MAX);
    while !text.is_char_boundary(bound) {
        bound -= 1;
    }
    let bounded = whole_words(text, bound);
    let end = memchr::memchr(b'\n', bounded.as_bytes()).unwrap_or(bounded.len());
    if end == bounded.len() || is_json(bounded.as_bytes()) {
        return bounded.trim_end();
    }
    let first = bounded[..end].trim_end();
    if first.starts_with(TRACEBACK) { exception(text).unwrap_or(first) } else { first }
}

/// What lies before a bound, without the word that the bound cuts.
fn whole_words(text: &str, bound: usize) -> &str {
    let bounded = &text[..bound];
    let is_cut = bound < text.len() && !text[bound..].starts_with(char::is_whitespace);
    let blank = bounded.rfind([' ', '\n']).filter(|_| is_cut);
    blank.map_or(bounded, |blank| &bounded[..blank])
}

/// The last line that is not indented.
fn exception(traceback: &str) -> Option<&str> {
    let lines = traceback.trim_end().rsplit('\n').take(TRACEBACK_LINES_MAX);
    let line = lines.map(str::trim_end).find(|line| {
        line.len() <= SIGNATURE_BYTES_MAX && !line.is_empty() && !line.starts_with([' ', '\t'])
    })?;
    (!line.starts_with(TRACEBACK)).then_some(line)
}

/// Whether it looks like an object.
fn is_json(text: &[u8]) -> bool {
    let members = text.strip_prefix(b"{").map(<[u8]>::trim_ascii_start);
    members.is_some_and(|members| matches!(members.first(), Some(b'"' | b'}')))
}

struct Pass<'a> {
    line: &'a [u8],
    is_json: bool,
    /// Read up to here.
    at: usize,
    /// Written up to here.
    copied: usize,
    /// Length of the signature just behind a wildcard, while only joiners have followed it.
    wildcard_end: Option<usize>,
    words: usize,
    signature: &'a mut Vec<u8>,
}

impl<'a> Pass<'a> {
    fn run(line: &'a [u8], is_json: bool, signature: &'a mut Vec<u8>) -> usize {
        let mut pass =
            Self { line, is_json, at: 0, copied: 0, wildcard_end: None, words: 0, signature };
        while let Some(&byte) = line.get(pass.at) {
            if has(byte, WORD) {
                pass.word();
            } else {
                pass.separator(byte);
            }
        }
        pass.copy_up_to(line.len());
        pass.words
    }

    fn word(&mut self) {
        let (start, mut seen) = (self.at, 0);
        let mut digits = 0;
        while let Some(&byte) = self.line.get(self.at) {
            let class = CLASSES[byte as usize];
            let is_leader = class & DOT != 0 && self.line.get(self.at + 1) == Some(&b'.');
            if class & WORD == 0 || is_leader {
                break;
            }
            seen |= class;
            digits += usize::from(class & DIGIT != 0);
            self.at += 1;
        }
        if self.at == start {
            return self.dots();
        }
        self.words += 1;
        if self.goes_on_as_address(start, seen)
            || (digits > 0 && !(digits == 1 && is_name(&self.line[start..self.at])))
            || is_mail(&self.line[start..self.at], seen)
        {
            self.wildcard(start);
        } else {
            self.wildcard_end = None;
        }
    }

    /// Leaders, as in `enabled......1`.
    fn dots(&mut self) {
        self.at += self.line[self.at..].iter().take_while(|&&byte| byte == b'.').count();
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
        if rest.starts_with(b":\\") && word.len() == 1 {
            self.at += 1 + path_bytes(&rest[1..]);
            return true;
        }
        if seen & NOT_HEX == 0 && word.len() <= 4 {
            let length = hardware_or_ip6_bytes(&self.line[start..]);
            self.at = self.at.max(start + length);
            return length > 0;
        }
        if seen & DOT != 0 && rest.get(1).is_some_and(u8::is_ascii_digit) {
            self.at += 1 + rest[1..].iter().take_while(|byte| byte.is_ascii_digit()).count();
            return true;
        }
        false
    }

    fn separator(&mut self, byte: u8) {
        match byte {
            b'=' => return self.value(),
            b'"' | b'\'' => return self.quoted(byte),
            b'/' => return self.slash(),
            _ if has(byte, BLANK) => return self.blanks(byte),
            _ if !has(byte, JOINER) => self.wildcard_end = None,
            _ => {}
        }
        self.at += 1;
        if byte == b':' && self.is_json {
            self.json_literal();
        }
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

    /// A path from its root, if this slash begins one.
    fn slash(&mut self) {
        let before = self.at.checked_sub(1).map(|at| self.line[at]);
        let begins = before.is_none_or(|byte| !has(byte, WORD) && !b"/>)]".contains(&byte));
        let next = self.line.get(self.at + 1);
        if begins && next.is_some_and(|&byte| has(byte, WORD)) {
            let start = self.at;
            self.at += path_bytes(&self.line[start..]);
            self.words += 1;
            self.wildcard(start);
        } else {
            self.at += 1;
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
        let (start, mut open) = (self.at, 0_usize);
        while let Some(&byte) = self.line.get(self.at) {
            match byte {
                b'(' | b'[' | b'{' => open += 1,
                b')' | b']' | b'}' if open > 0 => open -= 1,
                b',' | b';' | b'&' if open > 0 => {}
                _ if has(byte, VALUE_END) => break,
                _ => {}
            }
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
        let text = &text[..length];
        if next == Some(&b':') {
            return self.key(text);
        }
        let is_word = text.iter().all(u8::is_ascii_alphabetic);
        if (is_word && !self.is_json) || METHODS.iter().any(|method| text.starts_with(method)) {
            return;
        }
        self.quoted_value(length);
    }

    fn quoted_value(&mut self, length: usize) {
        let start = self.at;
        self.at += length;
        self.words += 1;
        self.wildcard(start);
        self.at = (start + length + 1).min(self.line.len());
    }

    /// A key of JSON, which stays whatever it is, and its value if that is text.
    fn key(&mut self, key: &[u8]) {
        self.at += key.len() + 2;
        self.words += 1;
        self.wildcard_end = None;
        if !self.is_json {
            return;
        }
        let rest = &self.line[self.at..];
        let blanks = rest.iter().take_while(|&&byte| has(byte, BLANK)).count();
        let Some(text) = rest[blanks..].strip_prefix(b"\"") else { return self.json_literal() };
        self.at += blanks + 1;
        if TELLING_KEYS.contains(&key) {
            return;
        }
        let length = string_bytes(text);
        if length > 0 {
            self.quoted_value(length);
        }
    }

    /// `true`, `false` or `null` behind the colon of a key.
    fn json_literal(&mut self) {
        let rest = &self.line[self.at..];
        let blanks = rest.iter().take_while(|&&byte| has(byte, BLANK)).count();
        let literals: [&[u8]; 3] = [b"true", b"false", b"null"];
        let rest = &rest[blanks..];
        if let Some(literal) = literals.into_iter().find(|literal| rest.starts_with(literal)) {
            let start = self.at + blanks;
            self.at = start + literal.len();
            self.words += 1;
            self.wildcard(start);
        }
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
        self.dots();
    }

    fn copy_up_to(&mut self, end: usize) {
        self.signature.extend_from_slice(&self.line[self.copied..end]);
        self.copied = end;
    }
}

/// A name that ends in one digit: `ssh2`, `IPv6`, `en0`.
fn is_name(word: &[u8]) -> bool {
    let Some((last, name)) = word.split_last() else { return false };
    let is_letter = |byte: &u8| byte.is_ascii_alphabetic() || *byte == b'_';
    name.len() >= 2 && last.is_ascii_digit() && name.iter().all(is_letter)
}

fn is_mail(word: &[u8], seen: u8) -> bool {
    seen & AT != 0 && word.first() != Some(&b'@') && word.last() != Some(&b'@')
}

fn ends_url(byte: u8) -> bool {
    has(byte, BLANK) || b"\"'<>)]},;".contains(&byte)
}

/// The length of the path that `text` begins with.
fn path_bytes(text: &[u8]) -> usize {
    text.iter()
        .take_while(|&&byte| !has(byte, BLANK) && !b":,;\"'()[]{}<>=|".contains(&byte))
        .count()
}

/// The length of a JSON text up to its closing quote.
fn string_bytes(text: &[u8]) -> usize {
    let mut at = 0;
    while let Some(&byte) = text.get(at) {
        match byte {
            b'"' => return at,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    text.len()
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
            ("GET /api/orders/4711/items", "GET <*>"),
            ("read/write of /etc/hosts: ok", "read/write of <*>: ok"),
            (r"open C:\Windows\win.ini failed", "open <*> failed"),
            ("on en0 by ssh2 over IPv6", "on en0 by ssh2 over IPv6"),
            ("enabled......1", "enabled......<*>"),
            ("ws=WorkSource{1,2}, uid=3", "ws=<*>, uid=<*>"),
            ("\"GET /v2/x HTTP/1.1\" status: 200", "\"GET <*> HTTP/<*>\" status: <*>"),
            ("entered 'Active' state", "entered 'Active' state"),
            ("fetch https://a.b/c?d=e&f#g failed", "fetch <*> failed"),
            ("mail to a.b@example.com sent", "mail to <*> sent"),
            ("user=root uid=0 tty= rhost=h", "user=<*> uid=<*> tty=<*> rhost=<*>"),
            ("mode a == b", "mode a == b"),
            ("lock \"Some.Name\" released", "lock \"<*>\" released"),
            ("option 'very fast' isn't known", "option '<*>' isn't known"),
            (r#"{"event":"paid","n":12}"#, r#"{"event":"paid","n":<*>}"#),
            (
                r#"{"msg":"user 7 left","user":"bob\" x","ok":true}"#,
                r#"{"msg":"user <*> left","user":"<*>","ok":<*>}"#,
            ),
            ("{\n  \"a\": null,\n  \"b\": [\"x\", \"y\"]\n}", "{ \"a\": <*>, \"b\": [\"<*>\"] }"),
            (
                "Traceback (most recent call last):\n  File \"a.py\", line 3\nValueError: bad 7\n",
                "ValueError: bad <*>",
            ),
            ("java.io.IOException: gone\n\tat a.b(C.java:1)", "java.io.IOException: gone"),
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
