//! A filter as SQL. The condition holds for every log that matches, and for some that do not: who
//! reads evaluates [`Filter::matches`] again on each row, so that answers are those of every other
//! storage. Nothing of a filter becomes text of a statement.
//!
//! For each expression there are two conditions: one that holds wherever the expression does, and
//! one that holds wherever it does not; a negation swaps them. Where a column holds a text only
//! nearly (U+0000 cannot be in one), or the language knows more of a value than SQL (`user_id=42`
//! is a number if it can be), the condition is as narrow as it can be made at a low price.

use logweir_core::{
    filter::{Comparison, Detail, Expression, Filter, Glob, Phrase, Term, TextField},
    identity::Service,
    timestamp::Timestamp,
};

use crate::postgres::{
    statement::{Piece, Value},
    values::Timestamptz,
};

/// Whole numbers of so many digits are written without an exponent however they are held.
// An f64 holds 15 decimal digits exactly, and from 1e16 on is written with an exponent.
const PLAIN_DIGITS_MAX: usize = 15;
/// A decimal that rounds to a whole number, but does not show it, has as many nines.
const ROUNDS_UP: &str = "9999999999";
/// As long as the texts that the language reads as numbers: longer ones are compared as text.
const NUMBER_CHARACTERS_MAX: usize = 38;

/// What SQL can say of a log.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Condition {
    Always,
    Never,
    If(Vec<Piece>),
}

impl Condition {
    /// Holds for every log for which the filter does.
    pub(crate) fn of(filter: &Filter) -> Self {
        condition(&filter.expression, true)
    }

    /// As pieces of a statement.
    pub(crate) fn into_pieces(self) -> Vec<Piece> {
        match self {
            Self::Always => vec!["TRUE".into()],
            Self::Never => vec!["FALSE".into()],
            Self::If(pieces) => pieces,
        }
    }

    fn all(parts: impl IntoIterator<Item = Self>) -> Self {
        Self::join(parts, " AND ", Self::Always, Self::Never)
    }

    fn any(parts: impl IntoIterator<Item = Self>) -> Self {
        Self::join(parts, " OR ", Self::Never, Self::Always)
    }

    /// Parts that are `neutral` change nothing, one that is `decisive` decides.
    fn join(
        parts: impl IntoIterator<Item = Self>,
        operator: &'static str,
        neutral: Self,
        decisive: Self,
    ) -> Self {
        let mut pieces: Vec<Piece> = Vec::new();
        for part in parts {
            if part == decisive {
                return decisive;
            }
            if let Self::If(part) = part {
                pieces.push(if pieces.is_empty() { "(" } else { operator }.into());
                pieces.extend(part);
            }
        }
        if pieces.is_empty() {
            return neutral;
        }
        pieces.push(")".into());
        Self::If(pieces)
    }

    fn not(self) -> Self {
        match self {
            Self::Always => Self::Never,
            Self::Never => Self::Always,
            // An absent value compares as NULL, and its negation holds.
            Self::If(pieces) => Self::If(
                ["(".into()].into_iter().chain(pieces).chain([") IS NOT TRUE".into()]).collect(),
            ),
        }
    }

    fn holds<const N: usize>(pieces: [Piece; N]) -> Self {
        Self::If(Vec::from(pieces))
    }
}

/// Whether a filter is said by its condition in full, so that hardly a row is read in vain.
pub(crate) fn is_exact(filter: &Filter) -> bool {
    fn check(expression: &Expression) -> bool {
        match expression {
            Expression::And(parts) | Expression::Or(parts) => parts.iter().all(check),
            Expression::Not(negated) => check(negated),
            Expression::Term(term) => !is_loose(term),
        }
    }
    check(&filter.expression)
}

/// Whether its condition lets logs pass that do not match.
const fn is_loose(term: &Term) -> bool {
    matches!(
        term,
        Term::Words(_) | Term::Anywhere(_) | Term::Attribute(..) | Term::AttributeLike(..)
    )
}

/// Holds wherever the expression comes out as `wanted`.
fn condition(expression: &Expression, wanted: bool) -> Condition {
    let each = |parts: &[Expression]| -> Vec<Condition> {
        parts.iter().map(|part| condition(part, wanted)).collect()
    };
    match expression {
        Expression::And(parts) if wanted => Condition::all(each(parts)),
        Expression::And(parts) => Condition::any(each(parts)),
        Expression::Or(parts) if wanted => Condition::any(each(parts)),
        Expression::Or(parts) => Condition::all(each(parts)),
        Expression::Not(negated) => condition(negated, !wanted),
        Expression::Term(term) => of_term(term, wanted),
    }
}

fn of_term(term: &Term, wanted: bool) -> Condition {
    match term {
        // Their conditions let too much pass. Negated they would keep out logs that do match, and
        // those would be missing from the answer; so a negation is left wholly to the reader.
        _ if is_loose(term) && !wanted => Condition::Always,
        Term::Words(phrase) => words(MESSAGE, &phrase.words),
        Term::Anywhere(phrase) => anywhere(phrase),
        Term::Attribute(path, comparison, text) => attribute(path, *comparison, text),
        Term::AttributeLike(path, _) => attribute_at(path, Condition::Always),
        Term::Text(TextField::Service, name) => exactly(service(name), wanted),
        Term::Text(field, text) => nearly(text_field(*field, text), wanted),
        Term::TextLike(TextField::Service, glob) => exactly(like("service", glob), wanted),
        Term::TextLike(field, glob) => nearly(like(column(*field), glob), wanted),
        Term::Present(detail) => exactly(present(*detail), wanted),
        Term::Time(comparison, time) => of_time(*comparison, *time, wanted),
        Term::Level(comparison, level) => {
            compare("level", *comparison, Value::Small(*level as i16), wanted)
        }
        Term::Latency(comparison, latency_ms) => {
            compare("latency_ms", *comparison, Value::Double(*latency_ms), wanted)
        }
        Term::Score(comparison, score) => {
            compare("anomaly_score", *comparison, Value::Real(*score as f32), wanted)
        }
        Term::Template(id) => equals("template_id = ", Value::Long(id.0 as i64), wanted),
        Term::Trace(id) => equals("trace_id = ", Value::Bytes(id.to_vec()), wanted),
        Term::Span(id) => equals("span_id = ", Value::Bytes(id.to_vec()), wanted),
        Term::Anomaly(expected) => {
            Condition::holds([
                if *expected == wanted { "is_anomaly" } else { "NOT is_anomaly" }.into()
            ])
        }
    }
}

/// Of a condition that holds if and only if the term does.
fn exactly(condition: Condition, wanted: bool) -> Condition {
    if wanted { condition } else { condition.not() }
}

/// Of a condition that does, but in rows that hold their texts in a coding of their own.
fn nearly(condition: Condition, wanted: bool) -> Condition {
    Condition::any([Condition::holds(["exact IS NOT NULL".into()]), exactly(condition, wanted)])
}

fn equals(column: &'static str, value: Value, wanted: bool) -> Condition {
    exactly(Condition::holds([column.into(), value.into()]), wanted)
}

fn compare(column: &'static str, comparison: Comparison, bound: Value, wanted: bool) -> Condition {
    let condition = Condition::holds([column.into(), symbol(comparison).into(), bound.into()]);
    exactly(condition, wanted)
}

const fn symbol(comparison: Comparison) -> &'static str {
    match comparison {
        Comparison::Equal => " = ",
        Comparison::Less => " < ",
        Comparison::LessOrEqual => " <= ",
        Comparison::Greater => " > ",
        Comparison::GreaterOrEqual => " >= ",
    }
}

/// To the microsecond that the column holds.
fn of_time(comparison: Comparison, time: Timestamp, wanted: bool) -> Condition {
    use Comparison::{Equal, Greater, GreaterOrEqual, Less, LessOrEqual};
    let (time, _) = Timestamptz::of(time);
    // Wherever the column is equal the nanoseconds decide, which are not looked at: hence "or
    // equal" in both directions.
    let symbol = match (comparison, wanted) {
        (Equal, true) => "time = ",
        (Equal, false) => return Condition::Always,
        (Less | LessOrEqual, true) | (Greater | GreaterOrEqual, false) => "time <= ",
        (Greater | GreaterOrEqual, true) | (Less | LessOrEqual, false) => "time >= ",
    };
    Condition::holds([symbol.into(), Value::Time(time).into()])
}

/// No service has another name.
fn service(name: &str) -> Condition {
    match Service::new(name) {
        Ok(_) => Condition::holds(["service = ".into(), Value::Text(name.to_owned()).into()]),
        Err(_) => Condition::Never,
    }
}

fn text_field(field: TextField, text: &str) -> Condition {
    match can_be_bound(text) {
        true => {
            let text = Value::Text(text.to_owned());
            Condition::holds([column(field).into(), " = ".into(), text.into()])
        }
        false => Condition::Never,
    }
}

const fn column(field: TextField) -> &'static str {
    match field {
        TextField::Service => "service",
        TextField::Instance => "instance",
        TextField::Environment => "environment",
        TextField::Logger => "logger",
    }
}

/// A text that is there and like this.
fn like(column: &'static str, glob: &Glob) -> Condition {
    let pattern = glob.pieces().map(|piece| escaped_in(piece, |c| "\\%_".contains(c)));
    let pattern = pattern.collect::<Vec<_>>().join("%");
    match can_be_bound(&pattern) {
        true => Condition::holds([
            "(".into(),
            column.into(),
            " <> '' AND ".into(),
            column.into(),
            " LIKE ".into(),
            Value::Text(pattern).into(),
            ")".into(),
        ]),
        false => Condition::Never,
    }
}

fn present(detail: Detail) -> Condition {
    Condition::holds([match detail {
        Detail::Latency => "latency_ms IS NOT NULL",
        Detail::Trace => "trace_id IS NOT NULL",
        Detail::Span => "span_id IS NOT NULL",
    }
    .into()])
}

fn can_be_bound(text: &str) -> bool {
    !text.contains('\0')
}

// A text with the letters of ASCII in lower case: under the collation "C" no others have a case.
const MESSAGE: &str = "lower(message COLLATE \"C\")";
const EVERYTHING: &str = "lower(concat_ws(' ', message, service, instance, environment, logger, \
                          attributes::text) COLLATE \"C\")";

/// The words occur, the longest first for it is the rarest; that they stand together, and alone, is
/// left to the reader.
fn words(text: &'static str, words: &[String]) -> Condition {
    let mut words: Vec<&String> = words.iter().collect();
    words.sort_by_key(|word| std::cmp::Reverse(word.len()));
    words.dedup();
    Condition::all(words.into_iter().map(|word| match word.is_ascii() {
        // `position` of a lowered text and not ILIKE: measured, ILIKE takes four times as long.
        true => {
            let word = Value::Text(word.clone());
            Condition::holds([
                "position(".into(),
                word.into(),
                " in ".into(),
                text.into(),
                ") > 0".into(),
            ])
        }
        false => {
            Condition::holds([text.into(), " LIKE ".into(), Value::Text(in_any_case(word)).into()])
        }
    }))
}

/// A pattern of LIKE for a text with this word: any character where a letter has a case that the
/// database does not know.
fn in_any_case(word: &str) -> String {
    let is_cased = |c: char| !c.to_uppercase().eq([c]) || !c.to_lowercase().eq([c]);
    let word = escaped_in(word, |c| c == '_');
    let word: String =
        word.chars().map(|c| if !c.is_ascii() && is_cased(c) { '_' } else { c }).collect();
    format!("%{word}%")
}

/// Digits are left out, for a number may be written in another way; and JSON may write letters as
/// `\u`.
fn anywhere(phrase: &Phrase) -> Condition {
    let is_number = |word: &str| word.bytes().all(|byte| byte.is_ascii_digit());
    let named: Vec<String> = phrase.words.iter().filter(|word| !is_number(word)).cloned().collect();
    let condition = Condition::any([words(EVERYTHING, &named), in_attributes("\\u".into())]);
    nearly(condition, true)
}

fn contains(before: &'static str, text: String, after: &'static str) -> Condition {
    Condition::holds([before.into(), Value::Text(text).into(), after.into()])
}

fn in_attributes(text: String) -> Condition {
    contains("position(", text, " in attributes::text) > 0")
}

fn attribute(path: &str, comparison: Comparison, text: &str) -> Condition {
    attribute_at(
        path,
        match comparison {
            Comparison::Equal => equal_value(&named(path), text),
            _ => Condition::Always,
        },
    )
}

/// The name occurs, and where that can be told, so does the value; or the path leads into JSON.
fn attribute_at(path: &str, value: Condition) -> Condition {
    let named = named(path);
    let list = in_attributes(format!("{named}["));
    let whole = Condition::all([in_attributes(named), Condition::any([value, list])]);
    nearly(Condition::any([whole, within(path)]), true)
}

/// `o.x` is a field of an attribute `o`, or else something within one whose name begins with `o.`.
fn within(path: &str) -> Condition {
    let Some((first, _)) = path.split_once('.') else { return Condition::Never };
    let named = named(first);
    let longer = format!("{}.", named.strip_suffix("\":").unwrap_or(&named));
    Condition::any([format!("{named}{{"), format!("{named}["), longer].map(in_attributes))
}

/// A name as it stands before its value.
fn named(name: &str) -> String {
    format!("{}:", json(name))
}

fn equal_value(named: &str, text: &str) -> Condition {
    // Not with a leading zero: 007 equals an attribute 7, in whose text its digits do not occur.
    let is_plain_number = text.len() <= PLAIN_DIGITS_MAX
        && !text.starts_with('0')
        && text.bytes().all(|byte| byte.is_ascii_digit());
    if is_plain_number && !text.is_empty() {
        // 42, 42.0, "42", "+042.0" and what else is the same number.
        let number = format!("{}\"?[+]?0*{text}[^0-9]", escaped(named));
        let shown = [in_attributes(text.to_owned()), contains("attributes::text ~ ", number, "")];
        return Condition::any([Condition::all(shown), in_attributes(ROUNDS_UP.into())]);
    }
    let may_be_number = text.len() > NUMBER_CHARACTERS_MAX
        || text.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c));
    let may_be_truth = ["true", "false"].iter().any(|name| text.eq_ignore_ascii_case(name));
    if may_be_number || may_be_truth {
        return Condition::Always;
    }
    let as_text = in_attributes(format!("{named}{}", json(text)));
    let may_be_json = text.starts_with(['{', '[', 'n']);
    let as_json = match may_be_json {
        true if can_be_bound(text) => in_attributes(format!("{named}{text}")),
        _ => Condition::Never,
    };
    Condition::any([as_text, as_json])
}

/// As a regular expression that means the text itself.
fn escaped(text: &str) -> String {
    escaped_in(text, |c| c.is_ascii() && !c.is_ascii_alphanumeric())
}

fn escaped_in(text: &str, is_special: impl Fn(char) -> bool) -> String {
    let mut escaped = String::with_capacity(text.len() * 2);
    for character in text.chars() {
        if is_special(character) {
            escaped.push('\\');
        }
        escaped.push(character);
    }
    escaped
}

/// As it stands in the column: in quotes, with what JSON cannot hold escaped.
fn json(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use logweir_core::filter::words::folded;

    use super::*;

    #[test]
    fn a_pattern_fits_all_cases_of_a_word() {
        assert_eq!(in_any_case("m\u{fc}ller_1"), "%m_ller\\_1%");
        assert_eq!(in_any_case("错"), "%错%");
        for c in '\u{80}'..=char::MAX {
            let folded = folded(c.encode_utf8(&mut [0; 4]));
            assert!(folded.starts_with(c) || in_any_case(&folded) == "%_%", "{c:?} {folded}");
        }
    }
}
