//! The findings on one log, and their combination into one tail probability.
//!
//! Each test gives the chance of a log at least as unusual by its own measure, 1 where it does not
//! apply. The weighted harmonic mean of all (Wilson, "The harmonic mean p-value for combining
//! dependent tests", PNAS 2019) is the chance of the log as a whole: about the smallest divided by
//! its weight, smaller where several tests agree, and valid though the tests depend on each other.
//!
//! Another test takes part by a [`Cause`] of its own and a call of [`Evidence::add`].

/// What a test looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub(crate) enum Cause {
    /// A pattern never seen.
    Novelty,
    /// A pattern seldom seen.
    Rarity,
    /// A pattern more frequent than it should be.
    Burst,
    /// A level more frequent than it should be.
    Level,
    /// A slow log.
    Latency,
    /// A slow phase.
    Slowdown,
    /// A long message.
    Length,
    /// An attribute's value never seen.
    Value,
    /// An unusual combination of numbers.
    Forest,
}

/// How many causes there are.
pub(crate) const CAUSES: usize = 9;
/// No claim is made beyond one in a million.
pub(crate) const TAIL_MIN: f64 = 1e-6;

impl Cause {
    pub(crate) const ALL: [Self; CAUSES] = [
        Self::Novelty,
        Self::Rarity,
        Self::Burst,
        Self::Level,
        Self::Latency,
        Self::Slowdown,
        Self::Length,
        Self::Value,
        Self::Forest,
    ];
}

impl Cause {
    /// Its share of the budget of false alarms. A pattern never seen is what a person wants to hear
    /// of most; the others have equal shares.
    pub(crate) const fn weight(self) -> f64 {
        const NOVELTY: f64 = 0.25;
        match self {
            Self::Novelty => NOVELTY,
            _ => (1.0 - NOVELTY) / (CAUSES - 1) as f64,
        }
    }
}

/// The findings on one log.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Evidence {
    tails: [f32; CAUSES],
    inverse_sum: f64,
    /// A cause is at work since an earlier log.
    pub(crate) continues: bool,
}

impl Evidence {
    pub(crate) fn new() -> Self {
        Self { tails: [1.0; CAUSES], inverse_sum: 1.0, continues: false }
    }

    /// Adds a test's tail probability. Once per cause.
    pub(crate) fn add(&mut self, cause: Cause, tail: f64) {
        // A test may say less than `TAIL_MIN`, so that the leading one is still told from the
        // others where several are at the bound; zero would make the sum infinite.
        let tail = tail.clamp(TAIL_MIN * 1e-3, 1.0);
        self.tails[cause as usize] = tail as f32;
        // The sum begins at 1, as if every test had said 1; each that speaks replaces its part.
        self.inverse_sum += cause.weight() * (1.0 / tail - 1.0);
    }

    /// What a test found.
    pub(crate) fn tail(&self, cause: Cause) -> f64 {
        f64::from(self.tails[cause as usize])
    }

    /// The chance of a log like this.
    pub(crate) fn combined(&self) -> f64 {
        (1.0 / self.inverse_sum).clamp(TAIL_MIN, 1.0)
    }

    /// The test that counts most.
    pub(crate) fn leading(&self) -> Cause {
        let part = |cause: &Cause| self.tail(*cause) / cause.weight();
        let least = |a: &Cause, b: &Cause| part(a).total_cmp(&part(b));
        Cause::ALL.into_iter().min_by(least).unwrap_or(Cause::Novelty)
    }
}

/// How many alarms a service may raise, so that a budget of false alarms is kept whatever the tails
/// are worth.
///
/// Each cause has its own, so that one that is wrong about a service cannot silence the others. It
/// grows by the cause's share of the budget with each log; an alarm takes one, unless it belongs to
/// an episode that has begun before. So a fault of thousands of logs is one alarm to it.
#[derive(Debug, Clone)]
pub(crate) struct Budget {
    alarms: [f32; CAUSES],
    updated_at: [u64; CAUSES],
    contamination: f64,
}

/// Alarms that a cause may raise at once in a service.
const ALARMS_MAX: f32 = 128.0;

impl Budget {
    pub(crate) fn new(contamination: f64) -> Self {
        Self { alarms: [ALARMS_MAX; CAUSES], updated_at: [0; CAUSES], contamination }
    }

    /// Takes one alarm from the budget of a cause; whether one was left. The budget grows with the
    /// number of the log, so nothing need be counted between alarms.
    pub(crate) fn take(&mut self, cause: Cause, log_number: u64) -> bool {
        let growth = (self.contamination * cause.weight()) as f32;
        let cause = cause as usize;
        let logs = log_number.saturating_sub(self.updated_at[cause]);
        self.updated_at[cause] = log_number;
        self.alarms[cause] = (self.alarms[cause] + logs as f32 * growth).min(ALARMS_MAX);
        let is_left = self.alarms[cause] >= 1.0;
        if is_left {
            self.alarms[cause] -= 1.0;
        }
        is_left
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_strong_finding_counts_by_the_number_of_tests_and_agreement_helps() {
        assert_eq!(Evidence::new().combined(), 1.0);
        let mut evidence = Evidence::new();
        evidence.add(Cause::Latency, 1e-5);
        let alone = evidence.combined() * Cause::Latency.weight();
        assert!((alone / 1e-5 - 1.0).abs() < 0.01, "{alone}");
        assert_eq!(evidence.leading(), Cause::Latency);
        evidence.add(Cause::Length, 1e-5);
        let both = evidence.combined() * Cause::Latency.weight();
        assert!((both / 5e-6 - 1.0).abs() < 0.01, "{both}");
        let weights: f64 = Cause::ALL.iter().map(|cause| cause.weight()).sum();
        assert!((weights - 1.0).abs() < 1e-9);
    }

    #[test]
    fn a_cause_without_budget_leaves_the_others_theirs() {
        let mut budget = Budget::new(0.001);
        let taken = (0..1_000).filter(|n| budget.take(Cause::Latency, *n)).count();
        assert_eq!(taken, 128);
        assert!(budget.take(Cause::Novelty, 1_000));
        assert!(!budget.take(Cause::Latency, 1_001));
        assert!(budget.take(Cause::Latency, 100_000));
    }
}
