//! Which patterns are one, by cardinality.
//!
//! A *hole* is a pattern without one of its words. Once [`WORDS_MIN`] different words have filled a
//! hole, or one beside a wildcard, that place is variable: a message's constant part is written by
//! a programmer and takes few values, its variable part takes many. (Drain and its kin merge what
//! is similar, and so confuse `connected` with `disconnected`.) At least [`TELLING_WORDS_MIN`]
//! words that say something must remain, or all short messages would be one.
//!
//! This is done in rounds, because a pattern that got a wildcard may fill the hole of another. All
//! patterns of a round are compared by the same counts, so that the outcome is a pure function of
//! the
//! *set* of signatures: whoever knows the same ones finds the same patterns, in whatever order they
//! came. What a round found variable is kept as [`MergeRules`], by which a signature that comes
//! later finds its pattern at once.

use std::collections::HashMap;

use super::{
    HashedMap, HashedSet,
    pattern::{self, Kind, Token, collapse, normalised, text, tokens},
};

// Three, five or six words moved the mean grouping accuracy over ten LogHub samples by no more than
// .01 (docs/detection.md).
/// Different words by which a place is variable.
const WORDS_MIN: usize = 4;
/// Words with a letter that must remain beside the places that vary.
const TELLING_WORDS_MIN: usize = 2;
/// Rounds until nothing changes; in practice two or three.
const ROUNDS_MAX: usize = 6;
/// Words of a pattern whose places are looked at.
const PLACES_MAX: usize = 64;

/// What was found variable: holes, by round.
#[derive(Debug, Default)]
pub(crate) struct MergeRules {
    rounds: Vec<HashedSet>,
}

impl MergeRules {
    /// Finds the rules, and the pattern of each signature.
    pub(crate) fn merge_patterns<'a>(
        signatures: impl Iterator<Item = &'a str>,
    ) -> (Self, Vec<String>) {
        let mut found: Vec<String> = signatures.map(normalised).collect();
        let mut rounds = Vec::new();
        while rounds.len() < ROUNDS_MAX {
            // All are counted before any is changed, or the outcome would depend on their order.
            let variable = variable_holes(&found);
            if variable.is_empty() {
                break;
            }
            let mut changed = false;
            for pattern in &mut found {
                if let Some(general) = generalised(pattern, &variable) {
                    changed |= general != *pattern;
                    *pattern = general;
                }
            }
            rounds.push(variable);
            if !changed {
                break;
            }
        }
        (Self { rounds }, found)
    }

    /// The pattern of a signature.
    pub(crate) fn pattern(&self, signature: &str) -> String {
        let apply = |pattern: String, variable| generalised(&pattern, variable).unwrap_or(pattern);
        self.rounds.iter().fold(normalised(signature), apply)
    }
}

/// What filled a hole.
#[derive(Default)]
struct HoleWords {
    words: [u64; WORDS_MIN],
    count: usize,
    is_wild: bool,
}

impl HoleWords {
    fn add(&mut self, token: &Token<'_>) {
        if token.kind == Kind::Wild {
            self.is_wild = true;
        } else if self.count < WORDS_MIN {
            let word = token.hash();
            if !self.words[..self.count].contains(&word) {
                self.words[self.count] = word;
                self.count += 1;
            }
        }
    }

    fn is_variable(&self) -> bool {
        self.count >= WORDS_MIN || (self.is_wild && self.count > 0)
    }
}

fn variable_holes(patterns: &[String]) -> HashedSet {
    let mut fillings: HashedMap<HoleWords> = HashMap::default();
    for pattern in patterns {
        let tokens = tokens(pattern);
        for (at, hole) in holes(&tokens) {
            fillings.entry(hole).or_default().add(&tokens[at]);
        }
    }
    let variable = fillings.into_iter().filter(|(_, filling)| filling.is_variable());
    variable.map(|(hole, _)| hole).collect()
}

/// The pattern with a wildcard in each of its places that is variable, if there is one.
fn generalised(pattern: &str, variable: &HashedSet) -> Option<String> {
    let mut tokens = tokens(pattern);
    let found = holes(&tokens).into_iter().filter(|(_, hole)| variable.contains(hole));
    let places: Vec<usize> = found.map(|(at, _)| at).collect();
    if places.is_empty() {
        return None;
    }
    for at in places {
        tokens[at] = pattern::WILD;
    }
    collapse(&mut tokens);
    Some(text(&tokens))
}

/// The places of a pattern that may be variable, each with a hash of all that is around it.
fn holes(tokens: &[Token<'_>]) -> Vec<(usize, u64)> {
    let is_place = |token: &Token<'_>| matches!(token.kind, Kind::Word | Kind::Wild);
    let telling = tokens.iter().filter(|token| token.is_telling()).count();
    if telling < TELLING_WORDS_MIN {
        return Vec::new();
    }
    // Hashes of all that follows each place, and below of all that precedes it: a hole for each of
    // n places in n steps instead of n times n.
    let mut behind = vec![0; tokens.len() + 1];
    for (at, token) in tokens.iter().enumerate().rev() {
        behind[at] = mixed(behind[at + 1], token.hash());
    }
    let mut before = 1;
    let mut holes = Vec::with_capacity(tokens.len() / 2 + 1);
    for (at, token) in tokens.iter().enumerate() {
        let remain = telling - usize::from(token.is_telling());
        if is_place(token) && remain >= TELLING_WORDS_MIN {
            holes.push((at, mixed(before, behind[at + 1])));
            if holes.len() == PLACES_MAX {
                break;
            }
        }
        before = mixed(before, token.hash());
    }
    holes
}

/// Depends on the order of its arguments.
fn mixed(a: u64, b: u64) -> u64 {
    let product = u128::from(a ^ 0x9e37_79b9_7f4a_7c15)
        * u128::from(b.rotate_left(32) ^ 0xd6e8_feb8_6659_fd93);
    (product as u64) ^ ((product >> 64) as u64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn found(signatures: &[&str]) -> Vec<String> {
        MergeRules::merge_patterns(signatures.iter().copied()).1
    }

    #[test]
    fn a_place_with_many_words_is_variable_and_one_with_few_is_not() {
        let users = ["user ann has left", "user bob has left", "user cid has left"];
        assert_eq!(found(&users), users);
        let users = [users[0], users[1], users[2], "user dan has left"];
        assert_eq!(found(&users), ["user <*> has left"; 4]);
        let beside_a_wildcard = ["user <*> has left", "user ann has left"];
        assert_eq!(found(&beside_a_wildcard), ["user <*> has left"; 2]);
    }

    #[test]
    fn short_messages_keep_their_words() {
        let jobs = [
            "boot (command <*>)",
            "wait (command <*>)",
            "halt (command <*>)",
            "init (command <*>)",
        ];
        assert_eq!(found(&jobs), jobs);
    }

    #[test]
    fn lists_of_any_length_are_one() {
        let lists = [
            "loaded modules a b",
            "loaded modules c b",
            "loaded modules d b",
            "loaded modules e b",
            "loaded modules <*> f",
            "loaded modules <*> <*> g",
            "loaded modules <*>, <*> h",
        ];
        assert_eq!(found(&lists), ["loaded modules <*>"; 7]);
    }

    #[test]
    fn rules_find_the_pattern_of_what_comes_later() {
        let signatures =
            ["user a has left", "user b has left", "user c has left", "user d has left"];
        let (rules, _) = MergeRules::merge_patterns(signatures.into_iter());
        assert_eq!(rules.pattern("user zoe has left"), "user <*> has left");
        assert_eq!(rules.pattern("user zoe has come"), "user zoe has come");
    }

    proptest! {
        #[test]
        fn the_order_does_not_matter(
            (signatures, shuffled) in prop::collection::hash_set("[a-c]( [a-e]| <\\*>){1,4}", 0..60)
                .prop_map(|set| set.into_iter().collect::<Vec<_>>())
                .prop_flat_map(|all| (Just(all.clone()), Just(all).prop_shuffle()))
        ) {
            let patterns = |order: &[String]| -> HashMap<String, String> {
                let (_, found) = MergeRules::merge_patterns(order.iter().map(String::as_str));
                order.iter().cloned().zip(found).collect()
            };
            prop_assert_eq!(patterns(&signatures), patterns(&shuffled));
        }

        #[test]
        fn rules_find_what_settling_found(
            signatures in prop::collection::vec("[a-c]( [a-e]| <\\*>){1,4}", 0..60)
        ) {
            let (rules, found) = MergeRules::merge_patterns(signatures.iter().map(String::as_str));
            for (signature, found) in signatures.iter().zip(found) {
                prop_assert_eq!(rules.pattern(signature), found);
            }
        }
    }
}
