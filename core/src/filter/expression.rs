//! What a filter is once it is parsed: a boolean combination of terms over the fields of a subject.

use std::borrow::Cow;

use super::Glob;
use crate::{
    identity::TemplateId,
    record::{Level, Value},
    timestamp::Timestamp,
};

/// A boolean combination of terms.
#[derive(Debug, Clone, PartialEq)]
pub enum Expression {
    /// All of these.
    And(Vec<Expression>),
    /// Any of these.
    Or(Vec<Expression>),
    /// Not this.
    Not(Box<Expression>),
    /// This term.
    Term(Term),
}

// An empty filter is one with nothing that must hold, and matches everything.
impl Default for Expression {
    fn default() -> Self {
        Self::And(Vec::new())
    }
}

/// One condition.
#[derive(Debug, Clone, PartialEq)]
pub enum Term {
    /// The message has these words next to each other.
    Words(Phrase),
    /// The message, another text of the log or the value of an attribute has these words next to
    /// each other.
    Anywhere(Phrase),
    /// A field equals a text exactly.
    Text(TextField, String),
    /// A field is there and like this.
    TextLike(TextField, Glob),
    /// The level compares with this one.
    Level(Comparison, Level),
    /// The latency in milliseconds compares; a log without one never matches.
    Latency(Comparison, f64),
    /// The anomaly score compares.
    Score(Comparison, f64),
    /// Event time compares.
    Time(Comparison, Timestamp),
    /// The message follows this pattern.
    Template(TemplateId),
    /// The trace id equals.
    Trace([u8; 16]),
    /// The span id equals.
    Span([u8; 8]),
    /// Judged an anomaly, or not.
    Anomaly(bool),
    /// This detail is there.
    Present(Detail),
    /// An attribute compares: as numbers if both are, else as text. One that is absent never
    /// matches. Its name may be a path into an attribute that is JSON, and of a list any member
    /// may compare.
    Attribute(String, Comparison, String),
    /// An attribute, or what lies at a path, is there and like this.
    AttributeLike(String, Glob),
}

/// A field that holds text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TextField {
    /// The service.
    Service,
    /// The instance.
    Instance,
    /// The environment.
    Environment,
    /// The logger.
    Logger,
}

impl TextField {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Service, Self::Instance, Self::Environment, Self::Logger];
}

/// What a log may be without.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detail {
    /// The latency.
    Latency,
    /// The trace id.
    Trace,
    /// The span id.
    Span,
}

/// How two values compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    /// Equal.
    Equal,
    /// Less.
    Less,
    /// Less or equal.
    LessOrEqual,
    /// Greater.
    Greater,
    /// Greater or equal.
    GreaterOrEqual,
}

/// Words next to each other in a text, in any case; see [`super::words`] for what a word is. What
/// stands between them does not matter.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Phrase {
    /// The words, folded to one case, at least one.
    pub words: Vec<String>,
    /// The first word may begin earlier (`*word`).
    pub open_start: bool,
    /// The last word may go on (`word*`).
    pub open_end: bool,
}

/// Something that a filter can be evaluated against. Fields are asked for only when needed.
pub trait Subject {
    /// Event time.
    fn time(&self) -> Timestamp;
    /// Level.
    fn level(&self) -> Level;
    /// One of the text fields.
    fn text(&self, field: TextField) -> Cow<'_, str>;
    /// The message.
    fn message(&self) -> Cow<'_, str>;
    /// The template.
    fn template_id(&self) -> TemplateId;
    /// Latency in milliseconds.
    fn latency_ms(&self) -> Option<f64>;
    /// Anomaly score.
    fn anomaly_score(&self) -> f32;
    /// Anomaly or not.
    fn is_anomaly(&self) -> bool;
    /// Trace id.
    fn trace_id(&self) -> Option<[u8; 16]>;
    /// Span id.
    fn span_id(&self) -> Option<[u8; 8]>;
    /// An attribute's value.
    fn attribute(&self, key: &str) -> Option<Cow<'_, Value>>;
    /// Whether something holds for the value of any attribute.
    fn has_value(&self, holds: &dyn Fn(&Value) -> bool) -> bool;
}
