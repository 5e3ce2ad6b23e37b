//! The filter language: parsed once, then evaluated against any [`Subject`].
//!
//! Terms are joined by blanks and must all hold; see `query.proto` for the language as users see
//! it. A filter is bounded in length, terms and nesting, so neither parsing nor evaluating one can
//! exhaust the stack; a text that breaks a rule is refused with the character at fault.

mod evaluate;
mod expression;
mod field;
mod glob;
mod parse;
mod phrase;
mod phrase_set;
mod prefilter;
#[cfg(test)]
mod tests;
mod value;
pub mod words;

pub use self::{
    expression::{Comparison, Detail, Expression, Phrase, Subject, Term, TextField},
    field::point_in_time,
    glob::Glob,
    parse::FilterError,
    phrase_set::{PhraseBits, PhraseSet},
    prefilter::Required,
    value::has_phrase,
};
use crate::timestamp::Timestamp;

/// A parsed filter.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Filter {
    /// What must hold. `And` of nothing matches everything.
    pub expression: Expression,
}

impl Filter {
    /// Reads a filter; relative times such as `-15m` end at `now`. An empty text matches
    /// everything.
    pub fn parse(text: &str, now: Timestamp) -> Result<Self, FilterError> {
        parse::parse(text, now).map(|expression| Self { expression })
    }

    /// Whether the filter holds for this subject.
    pub fn matches(&self, subject: &dyn Subject) -> bool {
        self.expression.matches(subject)
    }

    /// What every match must have, to skip data without looking into it.
    pub fn required(&self) -> Required<'_> {
        Required::of(&self.expression)
    }
}

/// A filter made ready to look at many logs: parsing is quick, and this takes up to a millisecond.
#[derive(Debug, Clone, Default)]
pub struct CompiledFilter {
    filter: Filter,
    phrases: Option<PhraseSet>,
}

impl CompiledFilter {
    /// The filter as it was.
    pub const fn filter(&self) -> &Filter {
        &self.filter
    }

    /// All its phrases, if they are so many that finding them together is worth it.
    pub const fn phrases(&self) -> Option<&PhraseSet> {
        self.phrases.as_ref()
    }
}

impl From<Filter> for CompiledFilter {
    fn from(filter: Filter) -> Self {
        Self { phrases: PhraseSet::of(&filter.expression), filter }
    }
}
