//! Which share of the logs of a level is kept. Pure: the draw is an argument.

use logweir_proto::v1::Level;

use super::{LEVELS, level_index};
use crate::{error::ConfigError, platform};

/// The share of logs that is kept, by level.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct SampleRates([f64; LEVELS]);

impl Default for SampleRates {
    fn default() -> Self {
        Self([1.0; LEVELS])
    }
}

impl SampleRates {
    pub(crate) fn set(&mut self, level: Level, rate: f64) -> Result<(), ConfigError> {
        if !(0.0..=1.0).contains(&rate) {
            return Err(ConfigError::SampleRate(level, rate));
        }
        self.0[level_index(level.into())] = rate;
        Ok(())
    }

    /// Whether a log is kept, by a draw from 0 up to 1, made only if it matters.
    pub(crate) fn keeps(&self, level: i32, draw: impl FnOnce() -> f64) -> bool {
        let rate = self.0[level_index(level)];
        rate >= 1.0 || draw() < rate
    }
}

/// Between the states of two draws (SplitMix64, by Steele, Lea and Flood, 2014).
pub(crate) const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// The share, from 0 up to 1, that follows from a state.
pub(crate) fn share(state: u64) -> f64 {
    // The multipliers and shifts are those of the paper.
    let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    platform::share_of(mixed ^ (mixed >> 31))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_are_spread_evenly() {
        let states = (0..10_000_u64).map(|number| number.wrapping_mul(STEP));
        let below = states.filter(|state| share(*state) < 0.25).count();
        assert!((2_300..2_700).contains(&below), "{below}");
    }

    #[test]
    fn a_rate_is_a_share() {
        for wrong in [-0.1, 1.1, f64::NAN] {
            assert!(SampleRates::default().set(Level::Info, wrong).is_err(), "{wrong}");
        }
    }
}
