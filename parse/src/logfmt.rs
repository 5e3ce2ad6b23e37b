//! Reads `key=value key="a \"quoted\" value" word` lines. Pure.

use logweir_core::record::Value;

use crate::{
    fields::Fields,
    lenient::{self, closing_quote},
    names::Role,
    parsed::{Context, Format, Parsed},
    time,
};

/// More fields than any limit of attributes makes sense for.
const FIELDS_MAX: usize = 1_024;

/// A line of pairs is logfmt only if one of them is its message or its level: `a=1 b=2` is text.
pub(crate) fn parse(text: &str, context: &Context, known: Parsed) -> Option<Parsed> {
    let text = text.trim();
    let pairs = telling_pairs(text)?;
    let mut fields = Fields::new(context, known);
    for (key, value) in pairs {
        fields.add(key, value);
    }
    let mut parsed = fields.finish(text);
    parsed.notes.format = Format::Logfmt;
    if let Some(stamp) = parsed.record.message.strip_prefix("audit(") {
        // Linux's audit writes its time and number as the message; the line says what happened.
        let seconds = stamp.split(':').next().unwrap_or_default();
        parsed.time = parsed.time.or_else(|| time::since_epoch(seconds));
        text.clone_into(&mut parsed.record.message);
    }
    Some(parsed)
}

/// Whether a text is a log of this form.
pub(crate) fn is_log(text: &str) -> bool {
    telling_pairs(text.trim()).is_some()
}

fn telling_pairs(text: &str) -> Option<Vec<(&str, Value)>> {
    if !starts_with_pair(text) {
        return None;
    }
    let is_telling = |key: &str| matches!(Role::of(key), Role::Message(_) | Role::Level);
    let pairs = pairs(text)?;
    let has_telling = pairs.iter().any(|(key, _)| is_telling(key));
    (pairs.len() >= 2 && has_telling).then_some(pairs)
}

/// Asked of every line of text: whether an equals sign stands behind the first word.
pub(crate) fn starts_with_pair(text: &str) -> bool {
    let key = text.bytes().take_while(|byte| is_key_byte(*byte)).count();
    key > 0 && text.as_bytes().get(key) == Some(&b'=')
}

/// The pairs of a line; none if any part of it is neither a pair nor a word between pairs.
fn pairs(line: &str) -> Option<Vec<(&str, Value)>> {
    let mut rest = line;
    let mut pairs: Vec<(&str, Value)> = Vec::new();
    let mut words = 0;
    while !rest.is_empty() {
        let length = rest.bytes().take_while(|byte| is_key_byte(*byte)).count();
        let (key, after) = rest.split_at(length);
        let (value, after) = match after.strip_prefix('=') {
            Some(after) => value(after)?,
            None => {
                words += 1;
                (Value::Bool(true), after)
            }
        };
        // `key="a"b`: what follows a closing quote without a blank is no pair, and so no logfmt.
        let trimmed = after.trim_start();
        let is_apart = after.is_empty() || trimmed.len() < after.len();
        if key.is_empty() || !is_apart || pairs.len() >= FIELDS_MAX {
            return None;
        }
        pairs.push((key, value));
        rest = trimmed;
    }
    // A word without a value is a switch, as in `error=timeout retrying n=3`; more words than pairs
    // are a sentence.
    (words * 2 < pairs.len().max(1)).then_some(pairs)
}

fn is_key_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-' | b'@' | b'/') || byte >= 0x80
}

fn value(text: &str) -> Option<(Value, &str)> {
    if text.starts_with('"') {
        let end = closing_quote(text, b'"')?;
        return Some((Value::String(lenient::unquoted(&text[..end])), &text[end..]));
    }
    if text.starts_with('\'')
        && let Some(end) = closing_quote(text, b'\'')
        && (text[end..].is_empty() || text[end..].starts_with([' ', '\t']))
    {
        return Some((Value::String(text[1..end - 1].to_owned()), &text[end..]));
    }
    let end = text.bytes().position(|byte| byte.is_ascii_whitespace()).unwrap_or(text.len());
    Some((word(&text[..end]), &text[end..]))
}

/// A number only if it reads back as it was written: `007`, `+1` and `1e3` stay text.
fn word(word: &str) -> Value {
    match word {
        "true" => return Value::Bool(true),
        "false" => return Value::Bool(false),
        _ if !word.starts_with(|first: char| first.is_ascii_digit() || first == '-') => {
            return Value::String(word.to_owned());
        }
        _ => {}
    }
    let digits = word.strip_prefix('-').unwrap_or(word);
    if let Ok(number) = word.parse::<i64>()
        && (!digits.starts_with('0') || word == "0")
    {
        return Value::Int(number);
    }
    if let Ok(number) = word.parse::<f64>()
        && number.to_string() == word
        && number.is_finite()
    {
        return Value::Double(number);
    }
    Value::String(word.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Value {
        Value::String(text.to_owned())
    }

    #[track_caller]
    fn check(line: &str, expected: Option<&[(&str, Value)]>) {
        assert_eq!(pairs(line).as_deref(), expected, "{line}");
    }

    #[test]
    fn pairs_are_read_or_the_line_is_not_logfmt() {
        check("a=1 b=two", Some(&[("a", Value::Int(1)), ("b", text("two"))]));
        check(r#"msg="say \"hi\"\n" x="#, Some(&[("msg", text("say \"hi\"\n")), ("x", text(""))]));
        check(
            "url=http://h/?q=1 n=1.5",
            Some(&[("url", text("http://h/?q=1")), ("n", Value::Double(1.5))]),
        );
        check("id=007 ok=true", Some(&[("id", text("007")), ("ok", Value::Bool(true))]));
        check("a='b c' d=e", Some(&[("a", text("b c")), ("d", text("e"))]));
        check(
            "a=b verbose c=d",
            Some(&[("a", text("b")), ("verbose", Value::Bool(true)), ("c", text("d"))]),
        );
        check("a=1 and words", None);
        check(r#"a="open"#, None);
        check(r#"a="b"c=d"#, None);
        check("=x", None);
        check("no pairs", None);
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(text in "[a-z=\"'\\\\ ä]{0,40}") {
            proptest::prop_assert!(pairs(&text).is_none_or(|pairs| pairs.len() <= text.len()));
        }
    }
}
