//! A sample of a service's logs in numbers, for training.
//!
//! Vitter's algorithm R (1985) over the first [`MEMORY_LOGS`] logs; from then on each log has the
//! same chance to replace another, so that the sample forgets exponentially (Aggarwal, "On biased
//! reservoir sampling in the presence of stream evolution", VLDB 2006). 28 KiB when full. The same
//! stream gives the same sample.

use std::sync::Arc;

use super::{
    features::Features,
    forest::{ForestModel, ForestParameters, Random},
};

const ROWS_MAX: usize = 1_024;
const MEMORY_LOGS: u64 = 200_000;
/// Logs of a service before it gets a forest of its own.
const TRAINING_LOGS: u64 = 4_096;

/// A sample, and the forest grown from it.
#[derive(Debug, Clone)]
pub(crate) struct Reservoir {
    rows: Vec<Features>,
    random: Random,
    seed: u64,
    /// The next log to take; drawing it ahead costs nothing on the logs between.
    next: u64,
    train_at: u64,
    forest: Option<Arc<ForestModel>>,
}

impl Reservoir {
    pub(crate) fn new(seed: u64) -> Self {
        let train_at = TRAINING_LOGS;
        Self { rows: Vec::new(), random: Random(seed), seed, next: 1, train_at, forest: None }
    }

    /// Whether to offer this log.
    pub(crate) fn wants(&self, log_number: u64) -> bool {
        log_number >= self.next
    }

    /// Takes in a log that it wanted.
    pub(crate) fn take(&mut self, row: Features, log_number: u64) {
        if self.rows.len() < ROWS_MAX {
            self.rows.push(row);
            self.next = log_number + 1;
            return;
        }
        let at = self.random.below(ROWS_MAX as u64) as usize;
        self.rows[at] = row;
        // The gap until the next is geometric.
        let chance = ROWS_MAX as f64 / log_number.min(MEMORY_LOGS) as f64;
        let uniform = (self.random.bits() >> 11) as f64 / (1_u64 << 53) as f64;
        let gap = ((1.0 - uniform).ln() / (1.0 - chance).clamp(1e-9, 1.0 - 1e-9).ln()).min(1e9);
        self.next = log_number + 1 + gap as u64;
    }

    /// The forest of this sample, grown anew as the sample does: after every doubling of the logs,
    /// at last after each turn-over of the sample.
    pub(crate) fn forest(&mut self, log_number: u64) -> Option<&Arc<ForestModel>> {
        if log_number >= self.train_at {
            self.train_at = log_number + log_number.min(MEMORY_LOGS);
            let parameters = ForestParameters { seed: self.seed, ..ForestParameters::default() };
            self.forest = ForestModel::train(&self.rows, &parameters).ok().map(Arc::new);
        }
        self.forest.as_ref()
    }

    /// The forest as it is.
    pub(crate) fn grown(&self) -> Option<&Arc<ForestModel>> {
        self.forest.as_ref()
    }

    /// The sample.
    pub(crate) fn rows(&self) -> &[Features] {
        &self.rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sample_is_bounded_even_and_forgets() {
        let mut reservoir = Reservoir::new(1);
        let row = |log: u64| [log as f32, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0];
        for log in 1..=100_000 {
            if reservoir.wants(log) {
                reservoir.take(row(log), log);
            }
        }
        let mean = |reservoir: &Reservoir| {
            reservoir.rows().iter().map(|row| f64::from(row[0])).sum::<f64>() / ROWS_MAX as f64
        };
        assert_eq!(reservoir.rows().len(), ROWS_MAX);
        assert!((40_000.0..60_000.0).contains(&mean(&reservoir)), "{}", mean(&reservoir));
        for log in 100_001..=2_000_000 {
            if reservoir.wants(log) {
                reservoir.take(row(log), log);
            }
        }
        assert!(mean(&reservoir) > 1_700_000.0, "{}", mean(&reservoir));
    }
}
