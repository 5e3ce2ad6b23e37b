//! Finding many phrases by one look at a text (Aho and Corasick 1975), whatever their number.

use std::{borrow::Cow, collections::HashMap};

use aho_corasick::{AhoCorasick, AhoCorasickKind};

use super::{
    expression::{Expression, Phrase, Term},
    value::any_text,
    words::folded,
};
use crate::record::Value;

/// Fewer are found as soon one after the other.
const PHRASES_MIN: usize = 5;
/// As many as there are bits, but for the highest, which is the reader's. A parsed filter has 100
/// terms at most.
const PHRASES_MAX: usize = 127;

/// Which phrases of a set there are: bit `n` for the one at position `n`. The highest is not used.
pub type PhraseBits = u128;

/// The different phrases of a filter.
#[derive(Debug, Clone)]
pub struct PhraseSet {
    phrases: Vec<Phrase>,
    positions: HashMap<Phrase, usize>,
    /// Finds the first word of each phrase, wherever it stands.
    first_words: AhoCorasick,
    is_ascii: bool,
    has_number: bool,
}

impl PhraseSet {
    /// The phrases of a filter; nothing if they are too few to be worth it.
    pub(super) fn of(expression: &Expression) -> Option<Self> {
        let mut phrases = Vec::new();
        collect(expression, &mut phrases);
        let mut positions = HashMap::new();
        phrases.retain(|phrase| {
            let next = positions.len();
            *positions.entry(phrase.clone()).or_insert(next) == next
        });
        if !(PHRASES_MIN..=PHRASES_MAX).contains(&phrases.len()) {
            return None;
        }
        // A table for each state (a DFA) would be somewhat faster, and ten times as large: there is
        // one for every search.
        let first_words = AhoCorasick::builder()
            .kind(Some(AhoCorasickKind::ContiguousNFA))
            .ascii_case_insensitive(true)
            .build(phrases.iter().flat_map(|phrase| phrase.words.first()))
            .ok()?;
        let is_ascii = phrases.iter().all(Phrase::is_ascii);
        let has_number = phrases.iter().any(Phrase::is_number);
        Some(Self { phrases, positions, first_words, is_ascii, has_number })
    }

    /// Whether one of them has digits alone, as whole numbers do.
    pub const fn has_number(&self) -> bool {
        self.has_number
    }

    /// The bit of a phrase.
    pub fn bit(&self, phrase: &Phrase) -> Option<PhraseBits> {
        self.positions.get(phrase).map(|position| 1 << position)
    }

    /// Those that a text has.
    pub fn in_text(&self, text: &str) -> PhraseBits {
        let text = match self.is_ascii || text.is_ascii() {
            true => Cow::Borrowed(text),
            false => Cow::Owned(folded(text)),
        };
        let mut found = 0;
        for hit in self.first_words.find_overlapping_iter(&*text) {
            let position = hit.pattern().as_usize();
            let bit = 1 << position;
            let begins = |(before, rest)| self.phrases[position].begins(before, rest);
            if found & bit == 0 && text.split_at_checked(hit.start()).is_some_and(begins) {
                found |= bit;
            }
        }
        found
    }

    /// Those that a value has, or one of the values within it.
    pub fn in_value(&self, value: &Value) -> PhraseBits {
        let mut found = 0;
        any_text(value, &mut |text| {
            found |= self.in_text(text);
            // On to the next.
            false
        });
        found
    }
}

fn collect(expression: &Expression, phrases: &mut Vec<Phrase>) {
    match expression {
        Expression::And(parts) | Expression::Or(parts) => {
            parts.iter().for_each(|part| collect(part, phrases));
        }
        Expression::Not(negated) => collect(negated, phrases),
        Expression::Term(Term::Words(phrase) | Term::Anywhere(phrase)) => {
            // The automaton must have one word for each.
            phrases.extend((!phrase.words.is_empty()).then(|| phrase.clone()));
        }
        Expression::Term(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn terms(phrases: &[Phrase]) -> Expression {
        let negated = |phrase: &Phrase| {
            Expression::Not(Box::new(Expression::Term(Term::Anywhere(phrase.clone()))))
        };
        let (first, others) = phrases.split_at(phrases.len() / 2);
        let first = first.iter().map(|phrase| Expression::Term(Term::Words(phrase.clone())));
        let others = Expression::Or(others.iter().map(negated).collect());
        Expression::And(first.chain([others]).collect())
    }

    #[test]
    fn few_phrases_are_no_set() {
        let phrases: Vec<Phrase> =
            ["a", "b", "c", "a b", "*c"].iter().filter_map(|text| Phrase::of(text)).collect();
        assert!(PhraseSet::of(&terms(&phrases)).is_some());
        assert!(PhraseSet::of(&terms(&phrases[..4])).is_none());
        let twice = [&phrases[..4], &phrases[..4]].concat();
        assert!(PhraseSet::of(&terms(&twice)).is_none());
    }

    proptest! {
        #[test]
        fn a_set_finds_what_each_phrase_alone_finds(
            texts in prop::collection::vec("[*]?[abA_éÉ错ſ1 -]{1,6}[*]?", 5..40),
            message in "[abA_éÉ错ſ1“. -]{0,20}",
        ) {
            let phrases: Vec<Phrase> = texts.iter().filter_map(|text| Phrase::of(text)).collect();
            let Some(set) = PhraseSet::of(&terms(&phrases)) else { return Ok(()) };
            let list = Value::Json(serde_json::json!([true, {"a": message.clone()}]).to_string());
            for phrase in &phrases {
                let bit = set.bit(phrase).unwrap();
                let expected = phrase.matches(&message);
                prop_assert_eq!(set.in_text(&message) & bit != 0, expected, "{:?}", phrase);
                prop_assert_eq!(set.in_value(&list) & bit != 0, expected, "{:?}", phrase);
                prop_assert_eq!(phrase.words.concat().parse::<u64>().is_ok(), phrase.is_number());
            }
        }
    }
}
