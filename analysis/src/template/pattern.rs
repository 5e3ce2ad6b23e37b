//! A pattern as its words and separators, and its settled form.
//!
//! Masking is fast and sees one byte after the other. The settled form is made once per signature
//! and takes out what differs without meaning: units (`5 KB`, `3 MB`), a size said twice (`12789
//! bytes (12.4 KB)`), names of days, months and zones in times, bounds (`<1`), wildcards with
//! nothing between them but separators, and repetitions of one part (`<*> ok, <*> ok, <*> ok`).

use xxhash_rust::xxh3::xxh3_64;

use super::mask::{WILDCARD, is_word_byte};

/// The longest part whose repetition is found, words and separators.
const REPETITION_TOKENS_MAX: usize = 12;

const UNITS: [&str; 22] = [
    "B", "kB", "KB", "MB", "GB", "TB", "PB", "KiB", "MiB", "GiB", "TiB", "PiB", "ns", "us", "µs",
    "ms", "s", "sec", "secs", "msec", "msecs", "usec",
];
const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const ZONES: [&str; 14] = [
    "UTC", "GMT", "AM", "PM", "CET", "CEST", "EST", "EDT", "CST", "CDT", "MST", "MDT", "PST", "PDT",
];

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A word that stays.
    Word,
    /// A wildcard.
    Wild,
    /// May lie between two wildcards that are one.
    Joiner,
    /// Any other separator.
    Separator,
}

/// A piece of a pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Token<'a> {
    pub(crate) text: &'a str,
    pub(crate) kind: Kind,
}

pub(crate) const WILD: Token<'static> = Token { text: WILDCARD, kind: Kind::Wild };

impl Token<'_> {
    pub(crate) fn hash(&self) -> u64 {
        xxh3_64(self.text.as_bytes())
    }

    /// Whether it is a word with a letter: one that says something.
    pub(crate) fn is_telling(&self) -> bool {
        self.kind == Kind::Word
            && self.text.bytes().any(|byte| byte.is_ascii_alphabetic() || byte > 127)
    }

    fn is_one_of(&self, words: &[&str]) -> bool {
        self.kind == Kind::Word && words.contains(&self.text)
    }
}

/// The tokens of a pattern, which they make up without gaps.
pub(crate) fn tokens(pattern: &str) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    let mut rest = pattern;
    while let Some(first) = rest.bytes().next() {
        let (length, kind) = if rest.starts_with(WILDCARD) {
            (WILDCARD.len(), Kind::Wild)
        } else if is_word_byte(first) {
            let length = rest.bytes().take_while(|&byte| is_word_byte(byte)).count();
            let is_joiner = rest[..length].bytes().all(|byte| matches!(byte, b'.' | b'-'));
            (length, if is_joiner { Kind::Joiner } else { Kind::Word })
        } else {
            let is_joiner =
                matches!(first, b' ' | b',' | b';' | b':' | b'/' | b'\\' | b'|' | b'"' | b'\'');
            (1, if is_joiner { Kind::Joiner } else { Kind::Separator })
        };
        let (text, after) = rest.split_at(length);
        tokens.push(Token { text, kind });
        rest = after;
    }
    tokens
}

/// The text of tokens.
pub(crate) fn text(tokens: &[Token<'_>]) -> String {
    tokens.iter().map(|token| token.text).collect()
}

/// The settled form of a signature.
pub(crate) fn normalised(signature: &str) -> String {
    let mut tokens = tokens(signature);
    // Names of days become wildcards first, and units go before wildcards are joined: `5 KB, 3 MB`
    // has a word between its two numbers until then.
    mask_times(&mut tokens);
    drop_bounds_and_units(&mut tokens);
    collapse(&mut tokens);
    text(&tokens)
}

/// Makes runs of wildcards one, and of repetitions one.
pub(crate) fn collapse(tokens: &mut Vec<Token<'_>>) {
    join_wildcards(tokens);
    // Only parts with a wildcard count as repeated, and two are needed for that.
    if tokens.iter().filter(|token| token.kind == Kind::Wild).count() > 1 {
        (1..=REPETITION_TOKENS_MAX).for_each(|length| drop_repetitions(tokens, length));
    }
}

/// Names of days, months and zones next to a wildcard.
fn mask_times(tokens: &mut [Token<'_>]) {
    let is = |token: Option<&Token<'_>>, text: &str| token.is_some_and(|token| token.text == text);
    // From behind, so that a day sees that the month after it is a wildcard by now. A name alone is
    // left: "May" and "Sat" are words too.
    for at in (0..tokens.len()).rev() {
        let (before, token, after) = (&tokens[..at], tokens[at], &tokens[at + 1..]);
        let after =
            if is(after.first(), ",") && token.is_one_of(&DAYS) { &after[1..] } else { after };
        let leads_on = after.first().is_some_and(|next| matches!(next.text, " " | "-" | "/"))
            && after.get(1).is_some_and(|next| next.kind == Kind::Wild);
        let follows = is(before.last(), " ")
            && before.len() > 1
            && before[before.len() - 2].kind == Kind::Wild;
        if (token.is_one_of(&DAYS) || token.is_one_of(&MONTHS)) && leads_on
            || token.is_one_of(&ZONES) && follows && leads_on
        {
            tokens[at] = WILD;
        }
    }
}

fn drop_bounds_and_units(tokens: &mut Vec<Token<'_>>) {
    let mut kept: Vec<Token<'_>> = Vec::with_capacity(tokens.len());
    let mut rest = &tokens[..];
    while let Some((&token, after)) = rest.split_first() {
        rest = after;
        let begins = kept.last().is_none_or(|last| last.text == " ");
        let bound = ["<", ">"].contains(&token.text) && begins;
        if bound && after.first().is_some_and(|next| next.kind == Kind::Wild) {
            continue;
        }
        if bound && after.len() > 1 && after[0].text == "=" && after[1].kind == Kind::Wild {
            rest = &after[1..];
            continue;
        }
        kept.push(token);
        if token.kind == Kind::Wild
            && let [Token { text: " ", .. }, unit, ..] = after
            && unit.is_one_of(&UNITS)
        {
            rest = &after[2..];
        }
        if token.text == "bytes"
            && let [blank, open, size, after @ ..] = after
            && (blank.text, open.text, size.kind) == (" ", "(", Kind::Wild)
        {
            rest = end_of_remark(after).unwrap_or(rest);
        }
    }
    *tokens = kept;
}

/// What follows the size in brackets, of which a unit may be left.
fn end_of_remark<'a, 'b>(after: &'a [Token<'b>]) -> Option<&'a [Token<'b>]> {
    match after {
        [close, rest @ ..] if close.text == ")" => Some(rest),
        [blank, unit, close, rest @ ..]
            if (blank.text, close.text) == (" ", ")") && unit.is_one_of(&UNITS) =>
        {
            Some(rest)
        }
        _ => None,
    }
}

fn join_wildcards(tokens: &mut Vec<Token<'_>>) {
    let mut kept: Vec<Token<'_>> = Vec::with_capacity(tokens.len());
    // Where the last wildcard ends, while only joiners have followed it.
    let mut wild_end = None;
    for &token in tokens.iter() {
        match (token.kind, wild_end) {
            (Kind::Wild, Some(end)) => kept.truncate(end),
            (Kind::Wild, None) => {
                kept.push(token);
                wild_end = Some(kept.len());
            }
            (Kind::Joiner, _) => kept.push(token),
            _ => {
                kept.push(token);
                wild_end = None;
            }
        }
    }
    *tokens = kept;
}

/// Of parts of a length that hold a wildcard and follow upon themselves, all but the first.
fn drop_repetitions(tokens: &mut Vec<Token<'_>>, length: usize) {
    let mut kept: Vec<Token<'_>> = Vec::with_capacity(tokens.len());
    let mut at = 0;
    while at < tokens.len() {
        let part = tokens.get(at..at + length);
        let repeats = part.is_some_and(|part| {
            kept.ends_with(part) && part.iter().any(|token| token.kind == Kind::Wild)
        });
        if repeats {
            at += length;
        } else {
            kept.push(tokens[at]);
            at += 1;
        }
    }
    *tokens = kept;
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_differs_without_meaning_is_taken_out() {
        for (signature, form) in [
            ("took <*> ms", "took <*>"),
            ("took <*> minutes", "took <*> minutes"),
            ("<*> bytes (<*> KB) sent", "<*> bytes sent"),
            ("<*> bytes (total) sent", "<*> bytes (total) sent"),
            ("lifetime <<*> sec", "lifetime <*>"),
            ("load >=<*> now", "load <*> now"),
            ("at Fri Jul <*> PDT <*>", "at <*>"),
            ("May I", "May I"),
            ("nodes <*> <ok> <*> <ok> <*> <ok>", "nodes <*> <ok>"),
            ("hosts [<*> (a), <*> (a), <*> (a)]", "hosts [<*> (a), <*> (a)]"),
            ("<*> - <*>: <*>", "<*>"),
            ("a a a", "a a a"),
            ("", ""),
        ] {
            assert_eq!(normalised(signature), form, "{signature:?}");
        }
    }

    proptest! {
        #[test]
        fn tokens_make_up_the_pattern(pattern in "(<\\*>|[a-z]{1,3}|[ .,:(<]|é){0,30}") {
            prop_assert_eq!(text(&tokens(&pattern)), pattern);
        }
    }
}
