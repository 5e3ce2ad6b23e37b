//! Reads what is nearly JSON, as loggers write it: `NaN`, a comma too many, `\x22`, Python's single
//! quotes, or an object that was cut off. Pure. Asked only where a strict reader has failed.

use std::borrow::Cow;

/// Between signs (RFC 8259, 2). No other blanks: a receiver counts the members of a text before they are
/// read, and knows no more.
const BLANKS: [char; 4] = [' ', '\t', '\n', '\r'];

/// The members of an object, as far as it goes; none if it is something else.
pub(crate) fn members(text: &str) -> Option<Vec<(Cow<'_, str>, &str)>> {
    let mut rest = text.strip_prefix('{')?;
    let mut members = Vec::new();
    loop {
        rest = rest.trim_start_matches([' ', '\t', '\n', '\r', ',']);
        match rest.as_bytes().first() {
            Some(b'"' | b'\'') => {}
            Some(b'}') if rest.len() > 1 => return None,
            Some(b'}') | None => break,
            Some(_) => return None,
        }
        let length = string_bytes(rest);
        let behind_name = rest[length..].trim_start_matches(BLANKS);
        let Some(after) = behind_name.strip_prefix(':') else {
            // A name that was cut off says nothing.
            let is_cut = behind_name.is_empty();
            if is_cut { break } else { return None }
        };
        let value = after.trim_start();
        let bytes = value_bytes(value);
        members.push((Cow::Owned(unquoted(&rest[..length])), value[..bytes].trim_end()));
        rest = &value[bytes..];
    }
    (!members.is_empty()).then_some(members)
}

/// The text of a string whose quotes or escapes may be wrong; an escape that there is not stays.
pub(crate) fn unquoted(raw: &str) -> String {
    let inner = raw.strip_prefix(['"', '\'']).unwrap_or(raw);
    let is_closed = string_end(raw) == Some(raw.len());
    let inner = inner.strip_suffix(['"', '\'']).filter(|_| is_closed).unwrap_or(inner);
    let (mut text, mut rest) = (String::with_capacity(inner.len()), inner);
    while let Some(at) = memchr::memchr(b'\\', rest.as_bytes()) {
        text.push_str(&rest[..at]);
        let mut characters = rest[at + 1..].chars();
        text.push_str(&escape(&mut characters));
        rest = characters.as_str();
    }
    text.push_str(rest);
    text
}

/// What stands behind a backslash.
fn escape(characters: &mut std::str::Chars<'_>) -> String {
    let letter = characters.next();
    let digits = match letter {
        Some('x') => 2,
        Some('u') => 4,
        _ => 0,
    };
    let code: String = characters.as_str().chars().take(digits).collect();
    let named = u32::from_str_radix(&code, 16).ok().filter(|_| code.len() == digits);
    if let Some(named) = named.and_then(char::from_u32) {
        *characters = characters.as_str()[digits..].chars();
        return named.to_string();
    }
    match letter {
        Some('n') => "\n".to_owned(),
        Some('t') => "\t".to_owned(),
        Some('r') => "\r".to_owned(),
        Some('b') => "\u{8}".to_owned(),
        Some('f') => "\u{c}".to_owned(),
        Some(quoted @ ('"' | '\'' | '\\' | '/')) => quoted.to_string(),
        Some(other) => format!("\\{other}"),
        None => "\\".to_owned(),
    }
}

/// Bytes of a string from its quote through the other, or to the end.
fn string_bytes(text: &str) -> usize {
    string_end(text).unwrap_or(text.len())
}

/// Where a string ends, its quote included; none if it was cut off.
fn string_end(text: &str) -> Option<usize> {
    let quote = text.bytes().next().filter(|first| matches!(first, b'"' | b'\''))?;
    closing_quote(text, quote)
}

/// Where a text that begins with a quote ends, its other quote included.
pub(crate) fn closing_quote(text: &str, quote: u8) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut at = 1;
    loop {
        at += memchr::memchr2(quote, b'\\', bytes.get(at..)?)?;
        if bytes[at] == quote {
            return Some(at + 1);
        }
        at += 2;
    }
}

/// Bytes of a value: through its quote or bracket, or to the next comma or bracket.
fn value_bytes(text: &str) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    let bytes = text.as_bytes();
    while at < bytes.len() {
        match bytes[at] {
            b'"' => at += string_bytes(&text[at..]) - 1,
            // Further on it is an apostrophe.
            b'\'' if at == 0 || matches!(bytes[at - 1], b' ' | b':' | b',' | b'[' | b'{') => {
                at += string_bytes(&text[at..]) - 1;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' | b',' if depth == 0 => return at,
            b'}' | b']' => depth -= 1,
            _ => {}
        }
        at += 1;
    }
    at.min(text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Option<&[(&str, &str)]>) {
        let found = members(text);
        let found: Option<Vec<_>> =
            found.as_ref().map(|all| all.iter().map(|(key, raw)| (key.as_ref(), *raw)).collect());
        assert_eq!(found.as_deref(), expected, "{text}");
    }

    #[test]
    fn what_is_nearly_json_is_read() {
        check(r#"{"a":NaN,"b":1,}"#, Some(&[("a", "NaN"), ("b", "1")]));
        check(r#"{"a":{"b":[1,"}"]},"c":"x"#, Some(&[("a", r#"{"b":[1,"}"]}"#), ("c", "\"x")]));
        check(r#"{"a":"b","cut"#, Some(&[("a", "\"b\"")]));
        check(r#"{"a":-Infinity }"#, Some(&[("a", "-Infinity")]));
        check(r#"{'a': 'x "y"', 'b': "it's"}"#, Some(&[("a", r#"'x "y"'"#), ("b", r#""it's""#)]));
        check("{'a': ['}'], 'b': None}", Some(&[("a", "['}']"), ("b", "None")]));
        for text in ["{}", "{a:1}", r#"{"a" 1}"#, r#"{"a":1} more"#, "text", r#"{"a":1}}"#] {
            check(text, None);
        }
    }

    #[test]
    fn escapes_are_read_where_they_mean_something() {
        for (raw, expected) in [
            (r#""a\x22b""#, "a\"b"),
            (r#""a\u00e9""#, "aé"),
            (r#""open"#, "open"),
            (r#""odd \q \xzz""#, r"odd \q \xzz"),
            (r#""end\"#, "end\\"),
            (r"'it\'s'", "it's"),
            (r#"""#, ""),
            ("", ""),
        ] {
            assert_eq!(unquoted(raw), expected, "{raw}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(text in "[{}\\[\\]\"',:a\\\\xu0-9é ]{0,40}") {
            let _ = members(&text);
            let _ = unquoted(&text);
            let _ = members(&format!("{{{text}"));
        }
    }
}
