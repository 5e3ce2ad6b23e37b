//! Reads `key=value key="a \"quoted\" value"` lines. Pure.

/// The pairs of a line, or nothing if any part of it is not one.
pub(crate) fn pairs(line: &str) -> Option<Vec<(&str, String)>> {
    let mut rest = line.trim();
    let mut pairs = Vec::new();
    while !rest.is_empty() {
        let (key, after) = rest.split_once('=')?;
        if key.is_empty() || !key.bytes().all(is_key_byte) {
            return None;
        }
        let (value, after) = match after.strip_prefix('"') {
            Some(quoted) => unquoted(quoted)?,
            None => {
                let end = after.find(char::is_whitespace).unwrap_or(after.len());
                (after[..end].to_owned(), &after[end..])
            }
        };
        pairs.push((key, value));
        let trimmed = after.trim_start();
        // `key="a"b`: what follows a closing quote without a blank is no pair, and so no logfmt.
        if trimmed.len() == after.len() && !after.is_empty() {
            return None;
        }
        rest = trimmed;
    }
    Some(pairs)
}

fn is_key_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-' | b'@' | b'/') || byte >= 0x80
}

fn unquoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => value.push(match characters.next()?.1 {
                'n' => '\n',
                't' => '\t',
                'r' => '\r',
                other => other,
            }),
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str, expected: Option<&[(&str, &str)]>) {
        let found = pairs(line);
        let found: Option<Vec<_>> =
            found.as_ref().map(|p| p.iter().map(|(key, value)| (*key, value.as_str())).collect());
        assert_eq!(found.as_deref(), expected, "{line}");
    }

    #[test]
    fn pairs_are_read_or_the_line_is_not_logfmt() {
        check("a=1 b=two", Some(&[("a", "1"), ("b", "two")]));
        check(r#"msg="say \"hi\"\n" x="#, Some(&[("msg", "say \"hi\"\n"), ("x", "")]));
        check("url=http://h/?q=1", Some(&[("url", "http://h/?q=1")]));
        check("a=1 and words", None);
        check(r#"a="open"#, None);
        check(r#"a="b"c=d"#, None);
        check("=x", None);
        check("no pairs", None);
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(text in "[a-z=\"\\\\ ä]{0,40}") {
            proptest::prop_assert!(pairs(&text).is_none_or(|pairs| pairs.len() <= text.len()));
        }
    }
}
