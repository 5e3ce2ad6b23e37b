//! Whether a pattern or a level has become more frequent than it should be.
//!
//! Frequency is the share of the service's last logs, not a number per second: a busy hour is no
//! burst, and a slow service is scored by the same rule as a fast one. The recent count fades with
//! the service's own logs ([`WINDOW_LOGS`]); it is compared with what the learned share lets expect
//! and with the highest recent count ever seen without alarm, by the Poisson tail (Chernoff's
//! bound), corrected for the many windows that are looked at.
//!
//! Of logs that are all alike nobody can say which ones are too many. So an excess counts only if
//! the usual explains less than half of the recent logs: then each of them is more likely part of
//! the excess than not (the local false discovery rate of Efron, 2004, at one half).

/// Logs of a service after which a log counts 1/e in the recent count.
pub(crate) const WINDOW_LOGS: f32 = 256.0;
/// Recent counts below this are never an excess.
const RECENT_MIN: f32 = 4.0;
/// How slowly peaks fade, beside weights.
const PEAK_FADING: f32 = 1.0 / 16.0;
/// Entries of the table of fading: after eight windows e⁻⁸ is left, which counts as nothing.
const FADE_STEPS: usize = 2_048;

/// How often something occurs in its service's last logs.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Share {
    recent: f32,
    /// The highest recent count that is known to be usual.
    peak: f32,
    /// A higher one, which is on trial until it has passed without an alarm.
    candidate: f32,
    /// The service's clock at the last count.
    at: u64,
}

impl Share {
    /// Counts a log.
    pub(crate) fn count(&mut self, clock: u64, decay_table: &DecayTable) {
        let faded = self.recent * decay_table.over(clock.wrapping_sub(self.at));
        self.at = clock;
        self.recent = faded + 1.0;
        // A burst grows from counts that do not alarm yet. Taken for usual at once, they would
        // raise the bar ahead of it; so a high count waits until it has halved without an alarm.
        if faded < self.candidate * 0.5 {
            self.peak = self.peak.max(self.candidate);
            self.candidate = 0.0;
        }
    }

    /// The recent count.
    pub(crate) fn recent(&self) -> f32 {
        self.recent
    }

    /// The chance of so high a recent count where `usual` is the share learned; 1 if the usual
    /// explains half of it.
    pub(crate) fn excess_tail(&self, usual: f64, window: f64) -> f64 {
        if self.recent < RECENT_MIN {
            return 1.0;
        }
        let expected = (usual * window).max(f64::from(self.peak));
        let recent = f64::from(self.recent);
        if recent < 2.0 * expected {
            return 1.0;
        }
        // Chernoff's bound of a Poisson tail, times the windows that overlap the one looked at.
        let evidence = recent * (recent / expected).ln() - (recent - expected);
        (f64::from(WINDOW_LOGS) * (-evidence).exp()).min(1.0)
    }

    /// This count was no alarm; if none follows while it lasts, it is usual.
    pub(crate) fn passed(&mut self) {
        self.candidate = self.candidate.max(self.recent);
    }

    /// This count was an alarm, so it is not what is usual.
    pub(crate) fn alarmed(&mut self) {
        self.candidate = 0.0;
    }

    /// What there is now is usual from now on.
    pub(crate) fn accept(&mut self) {
        self.peak = self.peak.max(self.recent);
        self.candidate = 0.0;
    }

    /// Adds what was counted of another that is now the same.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.recent += other.recent;
        self.peak += other.peak;
        self.candidate += other.candidate;
        self.at = self.at.max(other.at);
    }

    /// Peaks fade more slowly than weights: a weekly job is to be known next week.
    pub(crate) fn scale(&mut self, factor: f32) {
        self.peak *= factor.powf(PEAK_FADING);
    }

    /// The highest recent count that is usual.
    pub(crate) fn usual_most(&self, usual: f64, window: f64) -> f64 {
        (usual * window).max(f64::from(self.peak))
    }
}

/// How much a count fades over a number of logs, from a table.
#[derive(Debug, Clone)]
pub(crate) struct DecayTable(Box<[f32]>);

impl DecayTable {
    pub(crate) fn new() -> Self {
        Self((0..FADE_STEPS).map(|logs| (-(logs as f32) / WINDOW_LOGS).exp()).collect())
    }

    /// Over so many logs.
    pub(crate) fn over(&self, logs: u64) -> f32 {
        usize::try_from(logs).ok().and_then(|logs| self.0.get(logs)).copied().unwrap_or(0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(share: &mut Share, logs: std::ops::Range<u64>, step: u64, decay_table: &DecayTable) {
        for number in logs.step_by(usize::try_from(step).unwrap()) {
            share.count(number, decay_table);
            share.passed();
        }
    }

    #[test]
    fn the_recent_count_follows_the_share() {
        let (decay_table, mut share) = (DecayTable::new(), Share::default());
        counted(&mut share, 0..10_000, 10, &decay_table);
        assert!((share.recent() - 25.6).abs() < 1.5, "{}", share.recent());
        assert_eq!(share.excess_tail(0.1, 256.0), 1.0);
    }

    #[test]
    fn a_burst_of_what_was_rare_is_an_excess_within_a_few_logs() {
        let (decay_table, mut share) = (DecayTable::new(), Share::default());
        counted(&mut share, 0..10_000, 1_000, &decay_table);
        let first = (0..50).find(|n| {
            share.count(10_000 + n * 3, &decay_table);
            share.excess_tail(0.001, 256.0) < 1e-4
        });
        assert!(first.is_some_and(|n| (4..12).contains(&n)), "{first:?}");
    }

    #[test]
    fn a_peak_that_has_passed_is_usual() {
        let (decay_table, mut share) = (DecayTable::new(), Share::default());
        counted(&mut share, 0..60, 1, &decay_table);
        counted(&mut share, 2_000..2_001, 1, &decay_table);
        counted(&mut share, 2_001..2_061, 1, &decay_table);
        assert_eq!(share.excess_tail(0.001, 256.0), 1.0);
    }
}
