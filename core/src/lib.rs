//! What flows through Logweir, and the small runtime that every process shares.
//!
//! Entry rule: only what two other crates use.

pub mod fairness;
pub mod filter;
pub mod identity;
pub mod job;
pub mod json;
pub mod latency;
pub mod limits;
pub mod record;
pub mod runtime;
pub mod timestamp;
pub mod wire;
