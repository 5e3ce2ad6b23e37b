//! What is unusual about a service right now, with nothing configured. Pure.
//!
//! [`window`] sums up the last hour in buckets, `baseline` knows what is expected at this time, and
//! `history` keeps both for one service, with the `weekly_peak` of each `ratio` of its logs. Four
//! detectors compare them, each in the file of its name: `error_rate` and `latency` by whether a
//! ratio is an `exceedance`, `volume` by how much is logged, [`new_pattern`] by what was never
//! logged before. What one of them finds is a [`detection`]; how far something lies from what is
//! expected is told in standard deviations, by `statistics`.

pub(crate) mod ratio;
pub(crate) mod statistics;
mod weekly_peak;
pub mod window;

pub(crate) mod baseline;
pub(crate) mod history;

mod error_rate;
mod exceedance;
mod latency;
pub mod new_pattern;
mod volume;

pub mod detection;
