//! What every match of a filter must have. Conservative: a log that lacks one of these cannot
//! match; one that has them all still may not.

use super::expression::{Comparison, Expression, Term, TextField};
use crate::{identity::TemplateId, record::Level, timestamp::Timestamp};

/// Conditions that every match fulfils, by which storage skips what it need not read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Required<'a> {
    /// Whole words of the message, in lower case.
    pub words: Vec<&'a str>,
    /// The service.
    pub service: Option<&'a str>,
    /// Levels that may match: bit `1 << level as u8` for each.
    pub level_mask: u8,
    /// The template.
    pub template: Option<TemplateId>,
    /// Judged an anomaly, or not.
    pub anomaly: Option<bool>,
    /// The trace id.
    pub trace: Option<[u8; 16]>,
    /// Event time: from inclusive, to exclusive; `Timestamp::MAX` is without end.
    pub time: (Timestamp, Timestamp),
}

impl Required<'_> {
    /// Every level.
    pub const ALL_LEVELS: u8 = 0b0111_1110;
}

impl<'a> Required<'a> {
    pub(super) fn of(expression: &'a Expression) -> Self {
        let mut required = Self {
            words: Vec::new(),
            service: None,
            level_mask: possible_levels(expression, true),
            template: None,
            anomaly: None,
            trace: None,
            time: (Timestamp::MIN, Timestamp::MAX),
        };
        required.add(expression);
        required
    }

    fn add(&mut self, expression: &'a Expression) {
        match expression {
            Expression::And(all) => all.iter().for_each(|one| self.add(one)),
            Expression::Term(term) => self.add_term(term),
            // Of a negation hardly anything follows for a match: that it lacks a word does not say
            // which it has. An anomaly is one or none, so there the other follows.
            Expression::Not(negated) => {
                if let Expression::Term(Term::Anomaly(unwanted)) = **negated {
                    self.anomaly = Some(!unwanted);
                }
            }
            // A match of one alternative need not have what another asks for.
            Expression::Or(_) => {}
        }
    }

    fn add_term(&mut self, term: &'a Term) {
        match term {
            Term::Words(phrase) => self.words.extend(phrase.closed_words()),
            Term::Text(TextField::Service, service) => self.service = Some(service),
            Term::Template(template_id) => self.template = Some(*template_id),
            Term::Anomaly(expected) => self.anomaly = Some(*expected),
            Term::Trace(trace_id) => self.trace = Some(*trace_id),
            Term::Time(comparison, time) => self.narrow(*comparison, *time),
            Term::Anywhere(_)
            | Term::Text(..)
            | Term::TextLike(..)
            | Term::Present(_)
            | Term::AttributeLike(..)
            | Term::Level(..)
            | Term::Latency(..)
            | Term::Score(..)
            | Term::Span(_)
            | Term::Attribute(..) => {}
        }
    }

    fn narrow(&mut self, comparison: Comparison, time: Timestamp) {
        let after = time.next();
        let (from, to) = match comparison {
            Comparison::Equal => (time, after),
            Comparison::Less => (Timestamp::MIN, time),
            Comparison::LessOrEqual => (Timestamp::MIN, after),
            Comparison::Greater => (after, Timestamp::MAX),
            Comparison::GreaterOrEqual => (time, Timestamp::MAX),
        };
        self.time = (self.time.0.max(from), self.time.1.min(to));
    }
}

/// The levels with which the expression may come out as `wanted`.
// Levels alone are followed through alternatives and negations (De Morgan), because there are only
// six: sets of them can be united and cut, which "the service, if there is one" cannot.
fn possible_levels(expression: &Expression, wanted: bool) -> u8 {
    let each = |parts: &[Expression]| -> Vec<u8> {
        parts.iter().map(|part| possible_levels(part, wanted)).collect()
    };
    let all = |masks: Vec<u8>| masks.into_iter().fold(Required::ALL_LEVELS, |a, b| a & b);
    let any = |masks: Vec<u8>| masks.into_iter().fold(0, |a, b| a | b);
    match expression {
        Expression::And(parts) if wanted => all(each(parts)),
        Expression::And(parts) => any(each(parts)),
        Expression::Or(parts) if wanted => any(each(parts)),
        Expression::Or(parts) => all(each(parts)),
        Expression::Not(negated) => possible_levels(negated, !wanted),
        Expression::Term(Term::Level(comparison, bound)) => Level::ALL
            .into_iter()
            .filter(|level| comparison.accepts(Some(level.cmp(bound))) == wanted)
            .fold(0, |mask, level| mask | 1 << level as u8),
        Expression::Term(_) => Required::ALL_LEVELS,
    }
}
