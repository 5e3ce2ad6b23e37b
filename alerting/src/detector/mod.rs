//! What is unusual about a service right now, with nothing configured. Pure.
//!
//! [`window`] sums up the last hour in buckets, [`baseline`] knows what is expected at this time, and
//! [`history`] keeps both for one service. Three detectors compare them: [`share`] errors, latencies and
//! anomalies, [`volume`] how much is logged, [`new_pattern`] what was never logged before. What one of
//! them finds is a [`detection`]; how far something lies from what is expected is told in standard
//! deviations, by [`statistics`].

pub(crate) mod baseline;
mod ceiling;
pub mod detection;
pub(crate) mod history;
pub mod new_pattern;
pub(crate) mod share;
pub(crate) mod statistics;
mod volume;
pub mod window;
