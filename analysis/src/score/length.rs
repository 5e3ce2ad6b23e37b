//! How unusual the length of a message is for its pattern.
//!
//! A length is unusual if it lies well outside of all that were seen: the chance that the next of n
//! is the longest is 1/(n + 1), whatever the distribution (the rank argument of conformal
//! prediction: Vovk, Gammerman, Shafer, 2005), and beyond the longest seen it falls as a power of
//! the distance. A length within half as much again as the longest is never unusual.

const BEYOND_MIN: f64 = 1.5;
const TAIL_EXPONENT: i32 = 4;
/// Short messages vary by a few bytes without meaning anything.
const SLACK_BYTES: f64 = 16.0;

/// The lengths of a pattern's messages.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Lengths {
    longest: u32,
    count: u32,
}

impl Lengths {
    /// The chance of so long a message.
    pub(crate) fn tail(&self, length: usize) -> f64 {
        let (longest, length) = (f64::from(self.longest) + SLACK_BYTES, length as f64);
        if self.count == 0 || length < longest * BEYOND_MIN {
            return 1.0;
        }
        (longest / length).powi(TAIL_EXPONENT) / f64::from(self.count.saturating_add(1))
    }

    /// Messages seen.
    pub(crate) fn count(&self) -> u32 {
        self.count
    }

    /// Learns a length.
    pub(crate) fn learn(&mut self, length: usize) {
        self.longest = self.longest.max(u32::try_from(length).unwrap_or(u32::MAX));
        self.count = self.count.saturating_add(1);
    }

    /// Adds what another has learned.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.longest = self.longest.max(other.longest);
        self.count = self.count.saturating_add(other.count);
    }

    /// The longest seen.
    pub(crate) fn longest(&self) -> u32 {
        self.longest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_lies_far_outside_is_unusual() {
        let mut lengths = Lengths::default();
        assert_eq!(lengths.tail(1_000), 1.0);
        (0..500).for_each(|n| lengths.learn(100 + n % 20));
        assert_eq!(lengths.tail(119), 1.0);
        assert_eq!(lengths.tail(180), 1.0);
        assert!(lengths.tail(2_000) < 1e-6);
        lengths.learn(2_000);
        assert_eq!(lengths.tail(2_000), 1.0);
    }
}
