//! Whether a filter holds for a log. A comparison with something absent does not hold, so its
//! negation does.

use std::{borrow::Cow, cmp::Ordering};

use super::{
    expression::{Comparison, Detail, Expression, Phrase, Subject, Term, TextField},
    value::{self, has_phrase},
};
use crate::{
    identity::TemplateId,
    record::{Level, StoredLog, Value},
    timestamp::Timestamp,
};

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
            Self::Anywhere(phrase) => is_anywhere(phrase, subject),
            Self::Text(field, text) => subject.text(*field) == text.as_str(),
            Self::TextLike(field, glob) => {
                let text = subject.text(*field);
                !text.is_empty() && glob.matches(&text)
            }
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
            Self::Present(Detail::Latency) => subject.latency_ms().is_some(),
            Self::Present(Detail::Trace) => subject.trace_id().is_some(),
            Self::Present(Detail::Span) => subject.span_id().is_some(),
            Self::Attribute(path, comparison, text) => {
                let holds = |found: &Value| comparison.accepts(value::compare(found, text));
                value::any_at(subject, path, &holds)
            }
            Self::AttributeLike(path, glob) => {
                value::any_at(subject, path, &|found| glob.matches(&found.to_string()))
            }
        }
    }
}

fn is_anywhere(phrase: &Phrase, subject: &dyn Subject) -> bool {
    phrase.matches(&subject.message())
        || TextField::ALL.into_iter().any(|field| phrase.matches(&subject.text(field)))
        || subject.has_value(&|value| has_phrase(value, phrase))
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

    fn has_value(&self, holds: &dyn Fn(&Value) -> bool) -> bool {
        self.scored.record.attributes.iter().any(|attribute| holds(&attribute.value))
    }
}
