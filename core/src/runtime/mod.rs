//! The small runtime that every process shares.

pub mod clock;
pub mod config;
pub mod fault;
pub mod identity;
pub mod retry;
pub mod tasks;
pub mod telemetry;
