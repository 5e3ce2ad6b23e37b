//! Takes away what belongs to a terminal or a file system and is no part of the text. Pure.

use std::borrow::Cow;

/// Begins a terminal's control sequence (ECMA-48, 5.3).
const ESCAPE: char = '\u{1b}';

/// The text without colours and other control sequences, and without the NUL bytes that a file
/// begins with after it was truncated under its writer.
pub(crate) fn clean(text: &str) -> Cow<'_, str> {
    let kept = text.trim_start_matches(['\0', '\u{feff}']);
    // Asked of every line; most have none.
    match memchr::memchr(ESCAPE as u8, kept.as_bytes()) {
        Some(first) => Cow::Owned(without_sequences(kept, first)),
        None if kept.len() < text.len() => Cow::Owned(kept.to_owned()),
        None => Cow::Borrowed(text),
    }
}

fn without_sequences(text: &str, first: usize) -> String {
    let mut kept = text[..first].to_owned();
    let mut rest = &text[first..];
    while let Some(after) = rest.strip_prefix(ESCAPE) {
        rest = behind_sequence(after);
        let next = rest.find(ESCAPE).unwrap_or(rest.len());
        kept.push_str(&rest[..next]);
        rest = &rest[next..];
    }
    kept
}

/// What stands behind a sequence whose escape was taken off. One that does not end is none: all of it
/// stays text.
fn behind_sequence(text: &str) -> &str {
    // ECMA-48, 5.4: parameters and intermediate bytes, then one final byte.
    if let Some(parameters) = text.strip_prefix('[') {
        let end = parameters.find(|letter: char| !(' '..='?').contains(&letter));
        return end.map_or(text, |end| {
            let is_final = ('@'..='~').contains(&parameters[end..].chars().next().unwrap_or(' '));
            &parameters[end + usize::from(is_final)..]
        });
    }
    // A title or a link ends with BEL or with another escape and a backslash.
    if let Some(title) = text.strip_prefix(']') {
        let end = title.find(['\u{7}', ESCAPE]).map(|end| &title[end..]);
        let behind =
            end.and_then(|end| end.strip_prefix('\u{7}').or_else(|| end.strip_prefix("\u{1b}\\")));
        return behind.unwrap_or(text);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_links_and_holes_are_taken_away() {
        for (text, expected) in [
            ("plain", "plain"),
            ("\u{1b}[1;31mERROR\u{1b}[0m red", "ERROR red"),
            ("\u{1b}]8;;http://h\u{1b}\\link\u{1b}]8;;\u{7} end", "link end"),
            ("\0\0\0behind", "behind"),
            ("\u{1b}[38;5;9", "[38;5;9"),
            ("login of \u{1b}] from 10.0.0.9 failed", "login of ] from 10.0.0.9 failed"),
            ("of \u{1b}] from 10.0.0.9 \u{1b}[31mfailed", "of ] from 10.0.0.9 failed"),
            ("a\u{1b}", "a"),
            ("a\u{1b}[é", "aé"),
        ] {
            assert_eq!(clean(text), expected, "{text:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(text in "[\u{1b}\\[\\];0-9ma\\\\é\u{7}\0]{0,30}") {
            proptest::prop_assert!(!clean(&text).contains(ESCAPE));
        }
    }
}
