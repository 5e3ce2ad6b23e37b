//! Whether latencies have moved to another level, and which logs belong to it.
//!
//! One slow log is common; a run of slow ones is not. Page's cumulative sum (CUSUM, 1954) adds up,
//! log by log, how much better a slower level explains the latency than the usual one: under the
//! usual, `-ln` of a latency's tail probability has mean 1; the alternative has mean
//! [`SLOWER_MEAN`]. A log's part is bounded, so that no single one decides.
//!
//! Which logs then belong to the new level is told by the tail probabilities since the sum last
//! left zero, which is when the change most likely was. Under the usual they are uniform; their
//! histogram says how many are left that are usual (Storey, 2002) and, for each octave of tails,
//! the share of usual logs in it (local false discovery rate: Efron, 2004).

const SLOWER_MEAN: f32 = 3.0;
/// No single log adds more.
const STEP_MAX: f32 = 4.0;
/// From here on the level has changed; under the usual once in e^this logs, corrected for the many
/// starting points.
const CHANGED: f32 = 13.0;
/// So much more than what is usual, where runs of slow logs are.
const MORE: f32 = 6.0;
/// The sum goes no further above the limit, so that the end of a phase is noticed soon.
const ABOVE_MAX: f32 = 5.0;
const USUAL_MAX: f32 = 60.0;
/// Phases that have come and gone before their like is usual.
const PHASES_MAX: u32 = 4;
const STARTING_POINTS: f64 = 64.0;
const OCTAVES: usize = 12;
/// Above, the histogram is halved, so that it follows what changes.
const COUNTS_MAX: u32 = 512;

/// Follows the tail probabilities of latencies.
#[derive(Debug, Clone, Default)]
pub(crate) struct Shift {
    sum: f32,
    /// The highest sum that is known to be usual: latencies that depend on each other have runs.
    usual: f32,
    /// Logs that are still to tell what is usual.
    learning: u32,
    /// Times that the level has changed and changed back.
    phases: u32,
    total: u32,
    octaves: [u32; OCTAVES],
}

impl Shift {
    /// One that learns from so many logs what runs are usual.
    pub(crate) fn new(learning: u32) -> Self {
        Self { learning, ..Self::default() }
    }

    /// Takes in the tail probability of a latency under the usual.
    pub(crate) fn observe(&mut self, tail: f64) {
        let surprise = -(tail as f32).max(1e-9).ln();
        // The logarithm of the likelihood ratio of two exponential distributions, with means
        // `SLOWER_MEAN` and 1.
        let step = surprise * (1.0 - 1.0 / SLOWER_MEAN) - SLOWER_MEAN.ln();
        self.sum += step.min(STEP_MAX);
        if self.learning > 0 {
            self.learning -= 1;
            self.usual = self.usual.max(self.sum).min(USUAL_MAX);
        }
        self.sum = self.sum.min(self.limit() + ABOVE_MAX);
        if self.sum <= 0.0 {
            return self.restart();
        }
        if self.total >= COUNTS_MAX {
            self.octaves.iter_mut().for_each(|count| *count /= 2);
            self.total = self.octaves.iter().sum();
        }
        self.octaves[octave(tail)] += 1;
        self.total += 1;
    }

    fn limit(&self) -> f32 {
        CHANGED.max(self.usual + MORE)
    }

    fn restart(&mut self) {
        (self.sum, self.total, self.octaves) = (0.0, 0, [0; OCTAVES]);
    }

    /// The level has changed back, or is usual from now on.
    pub(crate) fn end_phase(&mut self) {
        self.phases += 1;
        if self.phases >= PHASES_MAX {
            self.phases = 0;
            self.usual = self.limit().min(USUAL_MAX);
        }
        self.restart();
    }

    /// Whether there is a new level.
    pub(crate) fn has_changed(&self) -> bool {
        self.sum >= self.limit()
    }

    /// The evidence for a new level, in nats.
    pub(crate) fn evidence(&self) -> f32 {
        self.sum
    }

    /// The chance of so much evidence under the usual.
    pub(crate) fn tail(&self) -> f64 {
        (STARTING_POINTS * f64::from(-self.sum).exp()).min(1.0)
    }

    /// Whether a log with this tail probability is more likely part of the new level than not.
    pub(crate) fn explains(&self, tail: f64) -> bool {
        let total = f64::from(self.total.max(1));
        // Slow logs have small tails, so those above one half are all usual; under the usual they
        // are half of all, which gives the share of usual logs (Storey's estimate with λ = 0.5).
        let usual = ((f64::from(self.octaves[0]) + 1.0) / (0.5 * total)).min(1.0);
        let octave = octave(tail);
        let mass = |from: usize| usual * total * 0.5_f64.powi(i32::try_from(from).unwrap_or(0));
        let beyond: u32 = self.octaves[octave..].iter().sum();
        let within = if octave + 1 == OCTAVES { mass(octave) } else { mass(octave + 1) };
        octave > 0
            && mass(octave) <= 0.3 * f64::from(beyond)
            && within <= 0.5 * f64::from(self.octaves[octave].max(1))
    }
}

/// Octave 0 has the tails above one half, octave 1 those above a quarter, and so on.
fn octave(tail: f64) -> usize {
    let exponent = ((tail.to_bits() >> 52) & 0x7ff) as i64 - 1023;
    usize::try_from(-exponent - 1).unwrap_or(0).min(OCTAVES - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Evenly spread tails of so many logs.
    fn usual(logs: u32) -> impl Iterator<Item = f64> {
        (0..logs).map(|n| (f64::from(n * 7_919 % 1_000) + 0.5) / 1_000.0)
    }

    #[test]
    fn usual_tails_change_nothing() {
        let mut shift = Shift::default();
        for tail in usual(100_000) {
            shift.observe(tail);
            assert!(!shift.has_changed());
        }
    }

    #[test]
    fn a_run_of_slow_logs_is_a_new_level_and_one_is_not() {
        let mut shift = Shift::default();
        usual(1_000).for_each(|tail| shift.observe(tail));
        shift.observe(1e-9);
        assert!(!shift.has_changed());
        let logs = (0..60).position(|_| {
            shift.observe(0.01);
            shift.has_changed()
        });
        assert!(logs.is_some_and(|logs| (3..20).contains(&logs)), "{logs:?}");
        assert!(shift.tail() < 1e-3 && shift.explains(0.01) && !shift.explains(0.9));
        let back = usual(100).position(|tail| {
            shift.observe(tail);
            !shift.has_changed()
        });
        assert!(back.is_some_and(|logs| logs < 60), "{back:?}");
    }

    #[test]
    fn in_a_mixture_only_what_is_far_out_belongs_to_the_new_level() {
        let mut shift = Shift::default();
        usual(1_000).for_each(|tail| shift.observe(tail));
        for (n, tail) in usual(400).enumerate() {
            shift.observe(if n % 3 == 0 { 0.002 } else { tail });
        }
        assert!(shift.explains(0.002) && !shift.explains(0.4));
    }

    #[test]
    fn where_runs_of_slow_logs_are_usual_they_change_nothing() {
        let mut shift = Shift::new(300);
        let saw = |n: u32| 1.0 - f64::from(n % 100) / 100.5;
        for n in 0..20_000 {
            shift.observe(saw(n));
            assert!(n < 300 || !shift.has_changed(), "{n}");
        }
        let changed = (0..100).any(|n| {
            shift.observe(saw(n) * 0.01);
            shift.has_changed()
        });
        assert!(changed);
    }

    #[test]
    fn octaves_are_those_of_the_tail() {
        for (tail, expected) in [(1.0, 0), (0.6, 0), (0.4, 1), (0.2, 2), (1e-9, 11), (0.0, 11)] {
            assert_eq!(octave(tail), expected, "{tail}");
        }
    }
}
