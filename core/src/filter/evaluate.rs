//! Whether a filter holds for a log. A comparison with something absent does not hold, so its
//! negation does.

use std::{borrow::Cow, cmp::Ordering};

use super::expression::{Comparison, Expression, Subject, Term, TextField};
use crate::{
    identity::TemplateId,
    record::{Level, StoredLog, Value},
    timestamp::Timestamp,
};

/// Longer digits are names, not amounts; up to here they compare exactly.
// 38 digits always fit the 128 bits below. Ids of 19 digits would lose their last ones as
// floating-point numbers, and different ids would be equal.
const NUMBER_CHARACTERS_MAX: usize = 38;

impl Expression {
    pub(super) fn matches(&self, subject: &dyn Subject) -> bool {
        match self {
            Self::And(all) => all.iter().all(|one| one.matches(subject)),
            Self::Or(any) => any.iter().any(|one| one.matches(subject)),
            Self::Not(negated) => !negated.matches(subject),
            Self::Term(term) => term.matches(subject),
        }
    }
}

impl Term {
    fn matches(&self, subject: &dyn Subject) -> bool {
        match self {
            Self::Words(phrase) => phrase.matches(&subject.message()),
            Self::Text(field, text) => subject.text(*field) == text.as_str(),
            Self::Level(comparison, level) => comparison.holds(&subject.level(), level),
            Self::Latency(comparison, latency_ms) => {
                subject.latency_ms().is_some_and(|found| comparison.holds(&found, latency_ms))
            }
            // In the precision that is stored, or `score=0.9` would never hold.
            Self::Score(comparison, score) => {
                comparison.holds(&subject.anomaly_score(), &(*score as f32))
            }
            Self::Time(comparison, time) => comparison.holds(&subject.time(), time),
            Self::Template(template_id) => subject.template_id() == *template_id,
            Self::Trace(trace_id) => subject.trace_id() == Some(*trace_id),
            Self::Span(span_id) => subject.span_id() == Some(*span_id),
            Self::Anomaly(expected) => subject.is_anomaly() == *expected,
            Self::Attribute(key, comparison, text) => subject
                .attribute(key)
                .is_some_and(|found| comparison.accepts(compare_value(&found, text))),
        }
    }
}

impl Comparison {
    fn holds<T: PartialOrd>(self, found: &T, bound: &T) -> bool {
        self.accepts(found.partial_cmp(bound))
    }

    /// Nothing holds between values without an order, such as NaN and a number.
    pub(super) const fn accepts(self, ordering: Option<Ordering>) -> bool {
        let Some(ordering) = ordering else {
            return false;
        };
        match self {
            Self::Equal => ordering.is_eq(),
            Self::Less => ordering.is_lt(),
            Self::LessOrEqual => ordering.is_le(),
            Self::Greater => ordering.is_gt(),
            Self::GreaterOrEqual => ordering.is_ge(),
        }
    }
}

/// A number as a text or a value says it.
#[derive(Clone, Copy)]
enum Number {
    Whole(i128),
    Broken(f64),
}

impl Number {
    fn of(text: &str) -> Option<Self> {
        if text.len() > NUMBER_CHARACTERS_MAX {
            return None;
        }
        let broken = || text.parse().ok().filter(|number: &f64| number.is_finite());
        text.parse().map(Self::Whole).ok().or_else(|| broken().map(Self::Broken))
    }

    fn compare(self, other: Self) -> Option<Ordering> {
        let broken = |number| match number {
            Self::Whole(number) => number as f64,
            Self::Broken(number) => number,
        };
        match (self, other) {
            (Self::Whole(left), Self::Whole(right)) => Some(left.cmp(&right)),
            (left, right) => broken(left).partial_cmp(&broken(right)),
        }
    }
}

/// As numbers if both are, else as text.
fn compare_value(found: &Value, text: &str) -> Option<Ordering> {
    let number = match found {
        Value::Int(number) => Some(Number::Whole((*number).into())),
        Value::Double(number) => Some(Number::Broken(*number)),
        // `0e1` and `0e2` are more often parts of hashes than zeros.
        Value::String(text) if !text.contains(['e', 'E']) => Number::of(text),
        Value::String(_) | Value::Json(_) | Value::Bool(_) => None,
    };
    if let Some((number, bound)) = number.zip(Number::of(text)) {
        return number.compare(bound);
    }
    Some(match found {
        Value::String(found) | Value::Json(found) => found.as_str().cmp(text),
        // Python writes True, and means the same.
        Value::Bool(found) => found.to_string().as_str().cmp(&text.to_ascii_lowercase()),
        Value::Int(_) | Value::Double(_) => found.to_string().as_str().cmp(text),
    })
}

impl Subject for StoredLog {
    fn time(&self) -> Timestamp {
        self.scored.record.time
    }

    fn level(&self) -> Level {
        self.scored.level
    }

    fn text(&self, field: TextField) -> Cow<'_, str> {
        Cow::Borrowed(match field {
            TextField::Service => self.service.as_str(),
            TextField::Instance => &self.instance,
            TextField::Environment => &self.environment,
            TextField::Logger => &self.scored.record.logger,
        })
    }

    fn message(&self) -> Cow<'_, str> {
        Cow::Borrowed(&self.scored.record.message)
    }

    fn template_id(&self) -> TemplateId {
        self.scored.template_id
    }

    fn latency_ms(&self) -> Option<f64> {
        self.scored.record.latency_ms
    }

    fn anomaly_score(&self) -> f32 {
        self.scored.anomaly_score
    }

    fn is_anomaly(&self) -> bool {
        self.scored.is_anomaly
    }

    fn trace_id(&self) -> Option<[u8; 16]> {
        self.scored.record.trace_id
    }

    fn span_id(&self) -> Option<[u8; 8]> {
        self.scored.record.span_id
    }

    fn attribute(&self, key: &str) -> Option<Cow<'_, Value>> {
        self.scored.record.attribute(key).map(Cow::Borrowed)
    }
}
