//! Made-up logs: what a [`Generator`] makes from a seed, with faults that are known beforehand, so
//! that a detector can be judged by them; span by span of event time ([`span`]); and sent as fast
//! as asked for ([`send`]). Only [`send`] and [`truth::write`] do any I/O.

pub mod fault;
pub mod generator;
mod quantiles;
pub mod random;
pub mod send;
pub mod span;
pub mod template;
pub mod truth;

pub use self::generator::{Config, Generator};
