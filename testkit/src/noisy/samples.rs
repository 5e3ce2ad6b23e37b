//! What tenant a measured in one phase.

use std::{collections::BTreeMap, fmt, time::Duration};

/// Failures of one operation that are told in words; the others are counted.
const WORDS_MAX: usize = 3;

/// What tenant a does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    /// Sends a batch, until it is acknowledged.
    Ingest,
    /// Searches for a part of a word.
    Search,
    /// Asks for counts.
    Stats,
    /// Connects anew and asks something small.
    Connect,
    /// Sees a log in a tail, from when it was sent.
    Tail,
    /// Sees an incident, from when its logs were sent.
    Alert,
}

impl Operation {
    /// In the order in which they are shown.
    pub const ALL: [Self; 6] =
        [Self::Ingest, Self::Search, Self::Stats, Self::Connect, Self::Tail, Self::Alert];
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Ingest => "ingest",
            Self::Search => "search",
            Self::Stats => "stats",
            Self::Connect => "connect",
            Self::Tail => "tail",
            Self::Alert => "alert",
        })
    }
}

/// How long each took, and what failed.
#[derive(Debug, Default)]
pub struct Samples(BTreeMap<Operation, Measured>);

/// Of one operation.
#[derive(Debug, Default, Clone)]
pub struct Measured {
    took: Vec<Duration>,
    /// How many failed.
    pub failures: usize,
    /// How the first of them did.
    pub words: Vec<String>,
}

impl Samples {
    pub(super) fn took(&mut self, operation: Operation, time: Duration) {
        self.0.entry(operation).or_default().took.push(time);
    }

    pub(super) fn failed(&mut self, operation: Operation, how: impl fmt::Display) {
        let measured = self.0.entry(operation).or_default();
        measured.failures += 1;
        if measured.words.len() < WORDS_MAX {
            measured.words.push(how.to_string());
        }
    }

    /// Of one operation.
    pub fn of(&self, operation: Operation) -> Measured {
        self.0.get(&operation).cloned().unwrap_or_default()
    }
}

impl Measured {
    /// How often it succeeded.
    pub fn successes(&self) -> usize {
        self.took.len()
    }

    /// The time within which so many hundredths of them were done; none if nothing was.
    pub fn percentile(&self, hundredths: usize) -> Option<Duration> {
        let mut sorted = self.took.clone();
        sorted.sort_unstable();
        let rank = (sorted.len() * hundredths).div_ceil(100);
        sorted.get(rank.checked_sub(1)?).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_nearest_rank() {
        let took = (1..=200).rev().map(Duration::from_millis).collect();
        let measured = Measured { took, ..Measured::default() };
        assert_eq!(measured.percentile(50), Some(Duration::from_millis(100)));
        assert_eq!(measured.percentile(99), Some(Duration::from_millis(198)));
        assert_eq!(Measured::default().percentile(99), None);
    }
}
