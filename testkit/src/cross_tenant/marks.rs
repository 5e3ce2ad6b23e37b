//! What must not be seen: words and ids of the other tenant, and whether they are in an answer.
//!
//! Two kinds of words. *Sealed* ones are never sent by anybody else, so that one in an answer is a
//! leak whatever was asked; each thing that a tenant has carries one. *Open* ones, and all ids, may
//! be sent to try what they open; from then on they prove nothing, for an answer may repeat them.

use std::cell::Cell;

use aho_corasick::AhoCorasick;
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};

use super::call::Answer;

/// Begin the words; they are in no other text.
pub(super) const SEALED: &str = "zq";
pub(super) const OPEN: &str = "yq";
/// Letters alone: a number in a message is masked in its pattern.
const WORD_LETTERS: usize = 14;
/// Hexadecimal digits from which on a text is an id and no number that others may have too.
const ID_DIGITS_MIN: usize = 12;
/// From how many digits on an id is written as bytes somewhere: that of a span has eight bytes. Sent as
/// bytes where an id of another length belongs, it is kept and shown as digits.
const BYTES_DIGITS_MIN: usize = 16;

/// Random words of one tenant.
pub(super) struct Words(pub(super) StdRng);

impl Words {
    pub(super) fn new(seed: u64) -> Self {
        Self(StdRng::seed_from_u64(seed))
    }

    pub(super) fn sealed(&mut self) -> String {
        self.word(SEALED)
    }

    pub(super) fn open(&mut self) -> String {
        self.word(OPEN)
    }

    fn word(&mut self, begin: &str) -> String {
        let letters = (0..WORD_LETTERS).map(|_| char::from(self.0.random_range(b'a'..=b'z')));
        letters.fold(begin.to_owned(), |word, letter| word + &letter.to_string())
    }
}

/// The words and ids of a tenant.
pub(super) struct Marks {
    texts: Vec<String>,
    /// Marks within each, itself included: an id may be made of another.
    within: Vec<Vec<usize>>,
    /// Which mark each pattern of the automaton is a form of.
    forms: Vec<usize>,
    automaton: AhoCorasick,
    sent: Vec<Cell<bool>>,
}

impl Marks {
    pub(super) fn new(mut texts: Vec<String>) -> Self {
        texts.sort_unstable();
        texts.dedup();
        let (mut patterns, mut forms) = (Vec::new(), Vec::new());
        for (mark, text) in texts.iter().enumerate() {
            let digits = text.replace('-', "");
            let bytes = hex::decode(&digits).ok().filter(|_| digits.len() >= BYTES_DIGITS_MIN);
            for form in [Some(text.clone().into_bytes()), bytes].into_iter().flatten() {
                patterns.push(form);
                forms.push(mark);
            }
        }
        let automaton = AhoCorasick::builder().ascii_case_insensitive(true).build(&patterns);
        let automaton = automaton.expect("they are few enough");
        let sent = vec![Cell::new(false); texts.len()];
        let mut marks = Self { texts, within: Vec::new(), forms, automaton, sent };
        marks.within = marks.texts.iter().map(|text| marks.marks_in(text.as_bytes())).collect();
        marks
    }

    pub(super) const fn count(&self) -> usize {
        self.texts.len()
    }

    /// Notes what somebody else sends. That a word is sealed is up to who makes the messages.
    pub(super) fn note_sent(&self, message: &[u8]) {
        for mark in self.marks_in(message) {
            let text = &self.texts[mark];
            assert!(!text.contains(SEALED), "the harness itself gives {text} away");
            self.sent[mark].set(true);
        }
    }

    /// Marks in an answer that nobody else has sent.
    pub(super) fn leaked(&self, answer: &Answer) -> Vec<&str> {
        answer.parts().flat_map(|part| self.leaked_in(part)).collect()
    }

    pub(super) fn leaked_in(&self, bytes: &[u8]) -> Vec<&str> {
        let is_excused = |mark: &usize| self.within[*mark].iter().any(|one| self.sent[*one].get());
        let found = self.marks_in(bytes).into_iter().filter(|mark| !is_excused(mark));
        found.map(|mark| &self.texts[mark][..]).collect()
    }

    fn marks_in(&self, bytes: &[u8]) -> Vec<usize> {
        let found = self.automaton.find_overlapping_iter(bytes);
        let mut marks: Vec<usize> = found.map(|found| self.forms[found.pattern()]).collect();
        marks.sort_unstable();
        marks.dedup();
        marks
    }
}

/// Whether a text is an id, or holds a word of ours, and so belongs to one tenant alone.
pub(super) fn is_mark(text: &str) -> bool {
    let is_digit = |byte: u8| byte.is_ascii_hexdigit() || byte == b'-';
    let digits = text.bytes().filter(|byte| *byte != b'-').count();
    digits >= ID_DIGITS_MIN && text.bytes().all(is_digit)
}

/// Whether a text may be sent by others.
pub(super) fn is_open(text: &str) -> bool {
    !text.contains(SEALED)
}

/// Words of ours in a text.
pub(super) fn words_in(text: &str) -> Vec<String> {
    let words = text.split(|letter: char| !letter.is_ascii_lowercase());
    let is_ours = |word: &&str| {
        word.len() == SEALED.len() + WORD_LETTERS
            && (word.starts_with(SEALED) || word.starts_with(OPEN))
    };
    words.filter(is_ours).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BATCH: &str = "00112233445566778899aabbccddeeff";

    #[test]
    fn what_was_sent_proves_nothing_and_what_is_sealed_does() {
        let mut words = Words::new(7);
        let (sealed, open) = (words.sealed(), words.open());
        let log = format!("0123{BATCH}00");
        let marks = Marks::new(vec![sealed.clone(), open.clone(), BATCH.into(), log.clone()]);
        let said = format!("{sealed} {} {log}", open.to_uppercase());
        assert_eq!(marks.leaked_in(said.as_bytes()).len(), 4);
        marks.note_sent(open.as_bytes());
        marks.note_sent(&hex::decode(BATCH).unwrap());
        assert_eq!(marks.leaked_in(said.as_bytes()), [&sealed[..]]);
        assert_eq!(words_in(&said), [sealed]);
    }

    #[test]
    fn ids_are_told_from_numbers_and_names() {
        assert!(is_mark(BATCH) && is_mark("0123456789ab-cdef"));
        assert!(!is_mark("1700000000") && !is_mark("service silent") && !is_mark("------------"));
    }
}
