//! The ratios of a service's logs that are watched, and a value for each of them.

use std::ops::{Add, Index, IndexMut};

use super::window::Sums;

/// A part of a service's logs that is watched, as a ratio of 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ratio {
    /// Errors, of all logs.
    Errors,
    /// Logs slower than nine in ten are expected to be, of those with a latency.
    Slow,
    /// Logs slower than 99 in a hundred are expected to be, of those with a latency.
    VerySlow,
    /// Anomalies that are no errors, of all logs.
    Anomalies,
}

/// How many logs make up a ratio.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Tally {
    /// Logs that count.
    pub(crate) hits: f64,
    /// Logs of which they are a part.
    pub(crate) total: f64,
}

impl Add for Tally {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { hits: self.hits + other.hits, total: self.total + other.total }
    }
}

/// A value for each ratio.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct PerRatio<T>(pub(crate) [T; Ratio::ALL.len()]);

impl<T> Index<Ratio> for PerRatio<T> {
    type Output = T;

    fn index(&self, ratio: Ratio) -> &T {
        &self.0[ratio as usize]
    }
}

impl<T> IndexMut<Ratio> for PerRatio<T> {
    fn index_mut(&mut self, ratio: Ratio) -> &mut T {
        &mut self.0[ratio as usize]
    }
}

impl Ratio {
    /// Every ratio, in the order of the declaration, by which [`PerRatio`] finds its values.
    pub(crate) const ALL: [Self; 4] = [Self::Errors, Self::Slow, Self::VerySlow, Self::Anomalies];

    /// What a window's logs say of it.
    pub(crate) fn of(self, sums: &Sums) -> Tally {
        let (hits, total) = match self {
            Self::Errors => (sums.errors, sums.total),
            // Of those with a latency: a service that times one log in a hundred would else never
            // be slow.
            Self::Slow => (sums.slow, sums.timed),
            Self::VerySlow => (sums.very_slow, sums.timed),
            // Errors are anomalies too, and have a ratio of their own.
            Self::Anomalies => (sums.non_error_anomalies, sums.total),
        };
        Tally { hits, total }
    }
}
