//! The fields of the filter language: which there are, what values they take and how they compare.

use std::time::Duration;

use chrono::{NaiveDate, NaiveTime};

use super::expression::{Comparison, Expression, Phrase, Term, TextField};
use crate::{identity::TemplateId, record::Level, timestamp::Timestamp};

/// How much of a value an error shows, characters.
const SHOWN_CHARACTERS_MAX: usize = 40;
const DAY: Duration = Duration::from_secs(86_400);

/// What stands between a field and its value.
#[derive(Debug, Clone, Copy)]
pub(super) struct Operator {
    pub(super) comparison: Comparison,
    pub(super) is_negated: bool,
}

/// The condition that `name operator value` stands for, before a `!=` negates it; else what is
/// allowed. A name in quotes is always an attribute's.
pub(super) fn parse(
    name: &str,
    is_quoted: bool,
    operator: Operator,
    value: &str,
    now: Timestamp,
) -> Result<Expression, String> {
    let comparison = operator.comparison;
    let lower = name.to_ascii_lowercase();
    let field = if is_quoted { "" } else { lower.as_str() };
    let term = match field {
        "level" => Term::Level(comparison, level(value)?),
        "latency" | "latency_ms" => Term::Latency(comparison, latency_ms(value)?),
        "score" | "anomaly_score" => Term::Score(comparison, score(value)?),
        "time" => return time(comparison, value, now),
        "message" | "service" | "instance" | "environment" | "env" | "logger" | "template"
        | "template_id" | "trace" | "trace_id" | "span" | "span_id" | "anomaly" | "is_anomaly"
            if comparison != Comparison::Equal =>
        {
            return Err(format!("{field} has no order: use {field}:value or {field}!=value"));
        }
        "message" => Term::Words(Phrase::of(value).ok_or("there is no word to search for")?),
        "service" => Term::Text(TextField::Service, value.to_owned()),
        "instance" => Term::Text(TextField::Instance, value.to_owned()),
        "environment" | "env" => Term::Text(TextField::Environment, value.to_owned()),
        "logger" => Term::Text(TextField::Logger, value.to_owned()),
        "template" | "template_id" => Term::Template(template(value)?),
        "trace" | "trace_id" => Term::Trace(id(value, "trace id")?),
        "span" | "span_id" => Term::Span(id(value, "span id")?),
        "anomaly" | "is_anomaly" => Term::Anomaly(truth(value)?),
        // Any other name is an attribute's: senders choose them, so that none is unknown.
        _ => Term::Attribute(name.to_owned(), comparison, value.to_owned()),
    };
    Ok(Expression::Term(term))
}

fn refuse(value: &str, what: &str, allowed: &str) -> String {
    let shown: String = value.chars().take(SHOWN_CHARACTERS_MAX).collect();
    format!("{shown:?} is not a {what}: use {allowed}")
}

fn level(value: &str) -> Result<Level, String> {
    let allowed = "trace, debug, info, warn, error or fatal";
    value.parse().map_err(|()| refuse(value, "level", allowed))
}

fn number(value: &str) -> Option<f64> {
    // Rust reads `nan` and `inf` too. Nothing compares with the first: it would match nothing.
    value.parse().ok().filter(|number: &f64| number.is_finite())
}

fn latency_ms(value: &str) -> Result<f64, String> {
    // `s` after those that end in it, or `20ms` would be 20m seconds; none last, as it always fits.
    let units = [("ms", 1.0), ("us", 1e-3), ("µs", 1e-3), ("s", 1e3), ("", 1.0)];
    units
        .into_iter()
        .find_map(|(unit, factor)| Some((value.strip_suffix(unit)?, factor)))
        .and_then(|(digits, factor)| Some(number(digits)? * factor))
        .filter(|latency_ms| latency_ms.is_finite())
        .ok_or_else(|| refuse(value, "latency", "milliseconds, or a number with ms, s or us"))
}

fn score(value: &str) -> Result<f64, String> {
    number(value).ok_or_else(|| refuse(value, "score", "a number such as 0.99"))
}

fn template(value: &str) -> Result<TemplateId, String> {
    // Parsing a number would let a sign pass.
    let is_hex = value.bytes().all(|byte| byte.is_ascii_hexdigit());
    value
        .parse()
        .ok()
        .filter(|_| is_hex)
        .ok_or_else(|| refuse(value, "template id", "up to 16 hexadecimal digits"))
}

fn id<const N: usize>(value: &str, what: &str) -> Result<[u8; N], String> {
    let mut id = [0; N];
    match hex::decode_to_slice(value, &mut id) {
        Ok(()) => Ok(id),
        Err(_) => Err(refuse(value, what, &format!("{} hexadecimal digits", 2 * N))),
    }
}

fn truth(value: &str) -> Result<bool, String> {
    let lower = value.to_ascii_lowercase();
    lower.parse().map_err(|_| refuse(value, "truth value", "true or false"))
}

/// A date stands for all times of its day, UTC.
fn time(comparison: Comparison, value: &str, now: Timestamp) -> Result<Expression, String> {
    let allowed = "2026-01-02T15:04:05Z, 2026-01-02, or a time before now such as -15m, -2h or -7d";
    let term = |comparison, time| Expression::Term(Term::Time(comparison, time));
    if let Some(ago) = ago(value) {
        // Exactly 15 minutes ago is a single nanosecond, in which there is no log.
        if comparison == Comparison::Equal {
            return Err("a time before now has an order only: use time>=-15m or the like".into());
        }
        let time = now.checked_sub(ago);
        return time
            .map(|time| term(comparison, time))
            .ok_or_else(|| refuse(value, "time", allowed));
    }
    if let Some(day) = midnight(value) {
        let next_day = day + DAY;
        return Ok(match comparison {
            Comparison::Equal => Expression::And(vec![
                term(Comparison::GreaterOrEqual, day),
                term(Comparison::Less, next_day),
            ]),
            Comparison::Less => term(Comparison::Less, day),
            Comparison::LessOrEqual => term(Comparison::Less, next_day),
            Comparison::Greater => term(Comparison::GreaterOrEqual, next_day),
            Comparison::GreaterOrEqual => term(Comparison::GreaterOrEqual, day),
        });
    }
    let time = value.parse().map_err(|_| refuse(value, "time", allowed))?;
    Ok(term(comparison, time))
}

fn ago(value: &str) -> Option<Duration> {
    let value = value.strip_prefix('-')?;
    let (digits, unit) = value.split_at_checked(value.len().checked_sub(1)?)?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        "w" => 7 * 86_400,
        _ => return None,
    };
    let count: u32 = digits.parse().ok()?;
    Some(Duration::from_secs(seconds) * count)
}

fn midnight(value: &str) -> Option<Timestamp> {
    let date = NaiveDate::parse_from_str(value, "%Y-%m-%d").ok()?;
    let nanos = date.and_time(NaiveTime::MIN).and_utc().timestamp_nanos_opt()?;
    Some(Timestamp::from_unix_nanos(nanos))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filter::Filter;

    const NOW: Timestamp = Timestamp::from_unix_seconds(1_767_312_000);

    fn one(text: &str) -> Expression {
        Filter::parse(text, NOW).unwrap_or_else(|e| panic!("{}", e.pointed(text))).expression
    }

    #[test]
    fn fields_are_read_by_all_their_names() {
        use Comparison::{Equal, Greater, GreaterOrEqual};
        let trace = "0123456789abcdef0123456789ABCDEF";
        let service = Term::Text(TextField::Service, "pay$".into());
        for (text, expected) in [
            ("level>=WARNING", Term::Level(GreaterOrEqual, Level::Warn)),
            ("LEVEL:error", Term::Level(Equal, Level::Error)),
            ("latency>1.5s", Term::Latency(Greater, 1_500.0)),
            ("latency_ms>250us", Term::Latency(Greater, 0.25)),
            ("latency=20ms", Term::Latency(Equal, 20.0)),
            ("latency=20", Term::Latency(Equal, 20.0)),
            ("score>=0.9", Term::Score(GreaterOrEqual, 0.9)),
            ("template:ff", Term::Template(TemplateId(255))),
            ("span:0000000000000001", Term::Span([0, 0, 0, 0, 0, 0, 0, 1])),
            ("is_anomaly=TRUE", Term::Anomaly(true)),
            ("env:prod", Term::Text(TextField::Environment, "prod".into())),
            ("service:pay$", service.clone()),
            ("service=\"pay$\"", service),
            ("user_id=42", Term::Attribute("user_id".into(), Equal, "42".into())),
            ("\"level\":x", Term::Attribute("level".into(), Equal, "x".into())),
            ("\"a b\">\"\\\"\"", Term::Attribute("a b".into(), Greater, "\"".into())),
        ] {
            assert_eq!(one(text), Expression::Term(expected), "{text}");
        }
        assert!(matches!(one(&format!("trace:{trace}")), Expression::Term(Term::Trace(_))));
        assert_eq!(one("message:\"a b\""), one("\"a b\""));
        assert_eq!(one("user!=1"), one("not user=1"));
    }

    #[test]
    fn times_are_absolute_relative_or_whole_days() {
        let time = |comparison, time| Expression::Term(Term::Time(comparison, time));
        let instant = time(Comparison::Less, NOW + Duration::from_millis(500));
        assert_eq!(one("time<2026-01-02T01:00:00.5+01:00"), instant);
        let quarter = time(Comparison::GreaterOrEqual, NOW - Duration::from_secs(900));
        assert_eq!(one("time>=-15m"), quarter);
        assert_eq!(one("time>2026-01-01"), time(Comparison::GreaterOrEqual, NOW));
        assert_eq!(one("time<=2026-01-01"), time(Comparison::Less, NOW));
        assert_eq!(one("time:2026-01-02"), one("(time>=2026-01-02 time<2026-01-03)"));
    }

    #[test]
    fn a_bad_value_is_refused_at_its_place_with_what_is_allowed() {
        for (text, position, part) in [
            ("a level:loud", 8, "trace, debug"),
            ("latency>fast", 8, "milliseconds"),
            ("latency>infs", 8, "milliseconds"),
            ("score>nan", 6, "0.99"),
            ("time>yesterday", 5, "-15m"),
            ("time:-15m", 5, "time>=-15m"),
            ("time>9999-01-01", 5, "-15m"),
            ("time>-99999999w", 5, "-15m"),
            ("template:xyz", 9, "16 hexadecimal"),
            ("template:+1", 9, "16 hexadecimal"),
            ("trace:00", 6, "32 hexadecimal"),
            ("span:é", 5, "16 hexadecimal"),
            ("anomaly:maybe", 8, "true or false"),
            ("service>a", 8, "service:value"),
            ("message:!", 8, "no word"),
        ] {
            let error = Filter::parse(text, NOW).unwrap_err();
            assert_eq!(error.position, position, "{text}: {error}");
            assert!(error.to_string().contains(part), "{text}: {error}");
        }
    }
}
