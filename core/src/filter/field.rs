//! The fields of the filter language: which there are, what values they take and how they compare.

use std::time::Duration;

use chrono::{NaiveDate, NaiveDateTime, NaiveTime};

use super::{
    Glob,
    expression::{Comparison, Detail, Expression, Phrase, Term, TextField},
};
use crate::{
    identity::TemplateId,
    record::Level,
    timestamp::{Timestamp, parse_duration},
};

/// How much of a value an error shows, characters.
const SHOWN_CHARACTERS_MAX: usize = 40;
const DAY: Duration = Duration::from_secs(86_400);

/// What stands between a field and its value.
#[derive(Debug, Clone, Copy)]
pub(super) struct Operator {
    pub(super) comparison: Comparison,
    pub(super) is_negated: bool,
    /// A `:`, which stands in many a text that is not meant for a filter.
    pub(super) is_colon: bool,
}

/// What a field is compared with.
#[derive(Debug)]
pub(super) struct Value {
    pub(super) text: String,
    pub(super) is_quoted: bool,
}

impl Value {
    /// With a `*` that stands for any part; in quotes it is itself.
    pub(super) fn glob(&self) -> Option<Glob> {
        Glob::of(&self.text).filter(|_| !self.is_quoted)
    }
}

/// A field that the language knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Field {
    Any,
    Message,
    Text(TextField),
    Level,
    Latency,
    Score,
    Time,
    Template,
    Trace,
    Span,
    Anomaly,
}

impl Field {
    /// The field with a name, in any case.
    pub(super) fn of(name: &str) -> Option<Self> {
        Some(match name.to_ascii_lowercase().as_str() {
            "any" => Self::Any,
            "message" => Self::Message,
            "service" => Self::Text(TextField::Service),
            "instance" => Self::Text(TextField::Instance),
            "environment" | "env" => Self::Text(TextField::Environment),
            "logger" => Self::Text(TextField::Logger),
            "level" => Self::Level,
            "latency" | "latency_ms" => Self::Latency,
            "score" | "anomaly_score" => Self::Score,
            "time" => Self::Time,
            "template" | "template_id" => Self::Template,
            "trace" | "trace_id" => Self::Trace,
            "span" | "span_id" => Self::Span,
            "anomaly" | "is_anomaly" => Self::Anomaly,
            _ => return None,
        })
    }

    const fn has_order(self) -> bool {
        matches!(self, Self::Level | Self::Latency | Self::Score | Self::Time)
    }

    /// The condition that this field, named so, compares with a value; else what is allowed.
    pub(super) fn compare(
        self,
        name: &str,
        comparison: Comparison,
        value: &Value,
        now: Timestamp,
    ) -> Result<Expression, String> {
        if comparison != Comparison::Equal && !self.has_order() {
            return Err(format!("{name} has no order: use {name}:value or {name}!=value"));
        }
        if let Some(glob) = value.glob() {
            return self.like(name, comparison, &value.text, glob);
        }
        let text = &value.text;
        Ok(Expression::Term(match self {
            Self::Any => Term::Anywhere(phrase(text)?),
            Self::Message => Term::Words(phrase(text)?),
            Self::Text(field) => Term::Text(field, text.clone()),
            Self::Level => Term::Level(comparison, level(text)?),
            Self::Latency => Term::Latency(comparison, latency_ms(text)?),
            Self::Score => Term::Score(comparison, score(text)?),
            Self::Time => return time(comparison, text, now),
            Self::Template => Term::Template(template(text)?),
            Self::Trace => Term::Trace(id(text, "trace id")?),
            Self::Span => Term::Span(id(text, "span id")?),
            Self::Anomaly => Term::Anomaly(truth(text)?),
        }))
    }

    fn like(
        self,
        name: &str,
        comparison: Comparison,
        text: &str,
        glob: Glob,
    ) -> Result<Expression, String> {
        if comparison != Comparison::Equal {
            return Err(UNORDERED_STAR.to_owned());
        }
        Ok(Expression::Term(match self {
            Self::Text(field) => Term::TextLike(field, glob),
            Self::Latency if glob.is_any() => Term::Present(Detail::Latency),
            Self::Trace if glob.is_any() => Term::Present(Detail::Trace),
            Self::Span if glob.is_any() => Term::Present(Detail::Span),
            // No log is without the others.
            _ if glob.is_any() => return Ok(Expression::default()),
            Self::Any => Term::Anywhere(phrase(text)?),
            Self::Message => Term::Words(phrase(text)?),
            _ => return Err(format!("{name} takes a * alone, which finds where it is there")),
        }))
    }
}

const UNORDERED_STAR: &str = "an order takes no *: use : or =, or quote the value";

/// The condition that an attribute compares with a value; else what is allowed.
// Senders choose the names of attributes, so that none is unknown.
pub(super) fn compare_attribute(
    name: &str,
    comparison: Comparison,
    value: &Value,
) -> Result<Expression, String> {
    let name = name.to_owned();
    Ok(Expression::Term(match (value.glob(), comparison) {
        (None, _) => Term::Attribute(name, comparison, value.text.clone()),
        (Some(glob), Comparison::Equal) => Term::AttributeLike(name, glob),
        (Some(_), _) => return Err(UNORDERED_STAR.to_owned()),
    }))
}

/// Where a star stands inside a word, where it has no meaning: `f*o` would be the phrase `f o`.
pub(super) fn star_inside(text: &str) -> Option<usize> {
    let inside = text.trim_start_matches('*').trim_end_matches('*');
    let skipped = text.chars().take_while(|c| *c == '*').count();
    inside.chars().position(|c| c == '*').map(|star| skipped + star)
}

/// What to do about a star inside a word.
pub(super) const STAR_INSIDE: &str = "* may stand at the beginning or the end of a word only";

fn phrase(text: &str) -> Result<Phrase, String> {
    Phrase::of(text).ok_or_else(|| "there is no word to search for".to_owned())
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
    let allowed = "2026-01-02T15:04:05Z, \"2026-01-02 15:04\", 2026-01-02, now, or a time before \
                   now such as -15m, -2h or -7d";
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
    let time = moment(value, now).ok_or_else(|| refuse(value, "time", allowed))?;
    Ok(term(comparison, time))
}

/// Times without a zone, which are UTC. A comma before the fraction is read as a point.
const WITHOUT_ZONE: [&str; 4] =
    ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M"];

fn moment(value: &str, now: Timestamp) -> Option<Timestamp> {
    if value == "now" {
        return Some(now);
    }
    let value = value.replace(',', ".");
    value.parse().ok().or_else(|| {
        let read = |form| NaiveDateTime::parse_from_str(&value, form).ok();
        let time = WITHOUT_ZONE.into_iter().find_map(read)?;
        time.and_utc().timestamp_nanos_opt().map(Timestamp::from_unix_nanos)
    })
}

/// Reads a moment in every form that the field `time` knows: of a day its beginning, and before 1970
/// its first.
pub fn point_in_time(text: &str, now: Timestamp) -> Option<Timestamp> {
    let time = ago(text).map(|ago| now - ago).or_else(|| midnight(text));
    // Zero would mean that no moment is given.
    Some(time.or_else(|| moment(text, now))?.max(Timestamp::EPOCH.next()))
}

fn ago(value: &str) -> Option<Duration> {
    parse_duration(value.strip_prefix('-')?).ok()
}

/// Whether this is a day, behind which a time of day may follow.
pub(super) fn is_day(value: &str) -> bool {
    midnight(value).is_some()
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
        let glob = |text| Glob::of(text).unwrap();
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
            ("größe>5", Term::Attribute("größe".into(), Greater, "5".into())),
            ("user=\"Ann*\"", Term::Attribute("user".into(), Equal, "Ann*".into())),
            ("user=Ann*", Term::AttributeLike("user".into(), glob("Ann*"))),
            ("user:*", Term::AttributeLike("user".into(), glob("*"))),
            ("Service:Sh*p", Term::TextLike(TextField::Service, glob("Sh*p"))),
            ("latency:*", Term::Present(Detail::Latency)),
            ("trace=*", Term::Present(Detail::Trace)),
            ("any:Miller*", Term::Anywhere(Phrase::of("miller*").unwrap())),
            ("\"a b\">\"\\\"\"", Term::Attribute("a b".into(), Greater, "\"".into())),
        ] {
            assert_eq!(one(text), Expression::Term(expected), "{text}");
        }
        assert!(matches!(one(&format!("trace:{trace}")), Expression::Term(Term::Trace(_))));
        assert_eq!(one("message:\"a b\""), one("\"a b\""));
        assert_eq!(one("user!=1"), one("not user=1"));
        assert_eq!(one("user!=*"), one("not user:*"));
        assert_eq!(one("level:*"), Expression::default());
        assert_eq!(one("message:refus*"), one("refus*"));
    }

    #[test]
    fn a_point_in_time_is_a_moment() {
        let hour = Duration::from_secs(3_600);
        for (text, expected) in [
            ("now", Some(NOW)),
            ("-1h", Some(NOW - hour)),
            ("2026-01-02", Some(NOW)),
            ("2026-01-02T01:00:00+01:00", Some(NOW)),
            ("2026-01-02 01:00", Some(NOW + hour)),
            ("1969-12-31", Some(Timestamp::EPOCH.next())),
            ("-999y", Some(Timestamp::EPOCH.next())),
            ("2026-01-02T01:00:00 01:00", None),
            ("", None),
            ("yesterday", None),
        ] {
            assert_eq!(point_in_time(text, NOW), expected, "{text}");
        }
    }

    #[test]
    fn times_are_absolute_relative_or_whole_days() {
        let time = |comparison, time| Expression::Term(Term::Time(comparison, time));
        let instant = time(Comparison::Less, NOW + Duration::from_millis(500));
        for text in [
            "time<2026-01-02T01:00:00.5+01:00",
            "time<2026-01-02T00:00:00.500",
            "time<\"2026-01-02 00:00:00,5\"",
            "time<2026-01-02 00:00:00.5",
        ] {
            assert_eq!(one(text), instant, "{text}");
        }
        assert_eq!(one("time<now"), one("time<\"2026-01-02 00:00\""));
        assert_eq!(one("time>-1h30m"), one("time>2026-01-01T22:30"));
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
            ("time>-999999999999999w", 5, "-15m"),
            ("time>\"2026-01-02 25:00\"", 5, "-15m"),
            ("latency>*", 8, "takes no *"),
            ("user>a*", 5, "takes no *"),
            ("level:err*", 6, "a * alone"),
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
