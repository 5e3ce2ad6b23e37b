//! The ratios of a service's logs that are watched, and a value for each of them.

use std::ops::{Index, IndexMut};

use super::window::Sums;

/// Shares of logs that are watched.
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
    pub(crate) const ALL: [Self; 4] = [Self::Errors, Self::Slow, Self::VerySlow, Self::Anomalies];

    /// Logs that count, and logs of which they are a ratio.
    pub(crate) fn of(self, sums: &Sums) -> (f64, f64) {
        match self {
            Self::Errors => (sums.errors, sums.total),
            Self::Slow => (sums.slow, sums.timed),
            Self::VerySlow => (sums.very_slow, sums.timed),
            Self::Anomalies => (sums.non_error_anomalies, sums.total),
        }
    }
}
