//! Which parts of a message a pattern's wildcards stand for.

use std::ops::Range;

use super::{mask, mask::WILDCARD, mask::text_read};

/// The parts of a message that its pattern's wildcards stand for, in order. A pattern that merges
/// others may have lost what tells its wildcards apart; then these are the parts that masking alone
/// finds.
pub fn parameters<'a>(pattern: &str, message: &'a str) -> Vec<&'a str> {
    let captured = captures(pattern, message).or_else(|| {
        let mut signature = Vec::new();
        mask(message, &mut signature);
        captures(&String::from_utf8_lossy(&signature), message)
    });
    let parts = captured.unwrap_or_default().into_iter();
    parts.map(|range| text_read(message)[range].trim()).collect()
}

/// Where in the text that is read of a message its pattern's wildcards lie, if it follows it.
pub(crate) fn captures(pattern: &str, message: &str) -> Option<Vec<Range<usize>>> {
    let text = text_read(message);
    let mut literals = pattern.split(WILDCARD);
    let mut at = literal_at(literals.next()?, text, 0)?;
    let mut literals = literals.peekable();
    let mut found = Vec::new();
    while let Some(literal) = literals.next() {
        let is_last = literals.peek().is_none();
        let (start, end) = if is_last && literal.is_empty() {
            (text.len(), text.len())
        } else {
            let fits = |end: usize| !is_last || end == text.len();
            let starts = (at..=text.len()).filter(|&start| text.is_char_boundary(start));
            let ends = starts.map(|start| (start, literal_at(literal, text, start)));
            let mut ends = ends.filter_map(|(start, end)| Some((start, end?)));
            ends.find(|&(_, end)| fits(end))?
        };
        found.push(at..start);
        at = end;
    }
    (at == text.len()).then_some(found)
}

/// The end of a literal that begins here; one blank stands for several.
fn literal_at(literal: &str, text: &str, start: usize) -> Option<usize> {
    let text = text.as_bytes();
    let mut at = start;
    let mut last = 0;
    for &byte in literal.as_bytes() {
        let repeats = byte == b' ' && last == b' ';
        last = byte;
        if repeats {
            continue;
        }
        if byte == b' ' {
            let blanks = text[at..].iter().take_while(|byte| byte.is_ascii_whitespace()).count();
            if blanks == 0 {
                return None;
            }
            at += blanks;
        } else if text.get(at) == Some(&byte) {
            at += 1;
        } else {
            return None;
        }
    }
    Some(at)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn wildcards_stand_for_parts_of_the_message() {
        for (pattern, message, parts) in [
            ("took <*> ms", "took 12 ms", vec!["12"]),
            ("user <*> from <*>", "user bob  from 10.0.0.1:22", vec!["bob", "10.0.0.1:22"]),
            ("<*> b", "a b b", vec!["a b"]),
            ("uid=<*> tty=<*> x", "uid=0 tty= x", vec!["0", ""]),
            ("done", "done", vec![]),
            // The size said twice is no part of the merged pattern.
            ("sent <*> bytes", "sent 2048 bytes (2 KB)", vec!["2048", "2"]),
            ("other <*>", "took 12 ms\nmore", vec!["12"]),
        ] {
            assert_eq!(parameters(pattern, message), parts, "{pattern:?} {message:?}");
        }
    }

    proptest! {
        #[test]
        fn a_message_follows_its_own_signature(message in "[a-z0-9=:\"'./ ,<>{}é\\[\\]\n]{0,60}") {
            let mut signature = Vec::new();
            mask(&message, &mut signature);
            let signature = String::from_utf8(signature).unwrap();
            prop_assume!(!message.contains(WILDCARD));
            prop_assert!(captures(&signature, &message).is_some(), "{signature:?}");
        }
    }
}
