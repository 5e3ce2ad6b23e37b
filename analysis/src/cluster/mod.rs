//! Clusters: patterns that say nearly the same, so that a person sees a few groups instead of
//! thousands of lines.
//!
//! A pattern is a bag of words without its wildcards, weighted by TF-IDF and hashed into
//! [`DIMENSIONS`] numbers (Weinberger and others, "Feature hashing", ICML 2009); DBSCAN (Ester and
//! others, KDD 1996) groups what lies close together. Nothing is said beforehand about how many
//! groups there are, and a pattern that is like no other is a group of its own. Time grows with the
//! square of the patterns: [`PATTERNS_MAX`] take about a second.

use std::collections::{HashMap, HashSet};

use linfa::prelude::Transformer;
use linfa_clustering::Dbscan;
use ndarray::Array2;
use xxhash_rust::xxh3::xxh3_64;

use crate::template::WILDCARD;

/// Patterns that are grouped at a time; those after are groups of their own.
pub const PATTERNS_MAX: usize = 2_000;
/// Numbers that a pattern is hashed into; a pattern has some ten words, so few of them collide.
const DIMENSIONS: usize = 128;
/// Two patterns are neighbours from this cosine of the angle between them on: about three words in
/// four are the same.
const COSINE_MIN: f64 = 0.65;
/// Two patterns make a group.
const POINTS_MIN: usize = 2;

/// The number of its group for each pattern. Equal texts share a group.
pub fn cluster(patterns: &[&str]) -> Vec<usize> {
    let mut number_of: HashMap<&str, usize> = HashMap::new();
    let mut texts = Vec::new();
    let numbers: Vec<usize> = patterns
        .iter()
        .map(|&pattern| {
            *number_of.entry(pattern).or_insert_with(|| {
                texts.push(pattern);
                texts.len() - 1
            })
        })
        .collect();
    let groups = groups(&texts);
    numbers.into_iter().map(|number| groups[number]).collect()
}

/// The group of each of different texts.
fn groups(texts: &[&str]) -> Vec<usize> {
    let clustered = texts.len().min(PATTERNS_MAX);
    let vectors = vectors(&texts[..clustered]);
    // The distance of two vectors of length 1 follows from the angle between them.
    let distance = (2.0 * (1.0 - COSINE_MIN)).sqrt();
    let found = Dbscan::params(POINTS_MIN).tolerance(distance).transform(&vectors);
    let found = found.expect("both parameters are in their range");
    let mut next = found.iter().flatten().max().map_or(0, |last| last + 1);
    let mut alone = || {
        next += 1;
        next - 1
    };
    let above = texts.len() - clustered;
    let found = found.into_iter().chain(std::iter::repeat_n(None, above));
    found.map(|group| group.unwrap_or_else(&mut alone)).collect()
}

/// A row of length 1 for each text; one without words points in a direction of its own.
fn vectors(texts: &[&str]) -> Array2<f64> {
    let words: Vec<Vec<u64>> = texts.iter().map(|text| words(text)).collect();
    let mut texts_with: HashMap<u64, usize> = HashMap::new();
    for of_text in &words {
        let different: HashSet<u64> = of_text.iter().copied().collect();
        different.into_iter().for_each(|word| *texts_with.entry(word).or_default() += 1);
    }
    let mut vectors = Array2::<f64>::zeros((texts.len(), DIMENSIONS));
    for (mut row, (text, of_text)) in vectors.rows_mut().into_iter().zip(texts.iter().zip(&words)) {
        for word in of_text {
            let rarity = (1 + texts.len()) as f64 / (1 + texts_with[word]) as f64;
            // Feature hashing takes the sign from the hash too, so that words that share a number
            // cancel out on average instead of making their texts look alike.
            let sign = if word >> 63 == 0 { 1.0 } else { -1.0 };
            row[*word as usize % DIMENSIONS] += sign * (rarity.ln() + 1.0);
        }
        let length = row.dot(&row).sqrt();
        if length > 0.0 {
            row /= length;
        } else {
            row[xxh3_64(text.as_bytes()) as usize % DIMENSIONS] = 1.0;
        }
    }
    vectors
}

/// Hashes of the words, in any case, without wildcards and numbers.
fn words(text: &str) -> Vec<u64> {
    let separated = text.replace(WILDCARD, " ");
    let words = separated.split(|c: char| !c.is_alphanumeric());
    let words = words.filter(|word| word.chars().any(char::is_alphabetic));
    words.map(|word| xxh3_64(word.to_lowercase().as_bytes())).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_says_nearly_the_same_is_one_group() {
        let patterns = [
            "connection to database <*> refused after <*> ms",
            "connection to cache <*> refused after <*> ms",
            "user <*> has logged in again",
            "Connection to database <*> refused",
            "user <*> has logged out again",
            "disk <*> is full",
            "user <*> has logged in again",
        ];
        let groups = cluster(&patterns);
        assert!(groups[0] == groups[1] && groups[0] == groups[3], "{groups:?}");
        assert!(groups[2] == groups[6] && groups[2] == groups[4], "{groups:?}");
        assert!(groups[5] != groups[0] && groups[5] != groups[2], "{groups:?}");
    }

    #[test]
    fn what_lies_above_the_bound_is_alone() {
        let texts: Vec<String> = (0..PATTERNS_MAX + 2).map(|n| format!("the same {n}")).collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let groups = cluster(&texts);
        assert!(groups[..PATTERNS_MAX].iter().all(|group| *group == groups[0]));
        assert!(
            groups[PATTERNS_MAX] != groups[0] && groups[PATTERNS_MAX] != groups[PATTERNS_MAX + 1]
        );
        assert_eq!(cluster(&[]), [0; 0]);
    }

    proptest! {
        #[test]
        fn every_text_has_a_group_and_equal_ones_share_it(texts in prop::collection::vec(".{0,20}", 0..20)) {
            let twice: Vec<&str> = texts.iter().chain(&texts).map(String::as_str).collect();
            let groups = cluster(&twice);
            prop_assert_eq!(&groups[..texts.len()], &groups[texts.len()..]);
        }
    }
}
