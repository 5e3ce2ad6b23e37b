//! What shows stored logs, and what was understood of them.

pub mod clusters;
pub mod export;
pub mod findings;
pub mod get;
mod hint;
pub mod report;
pub mod search;
pub mod services;
pub mod stats;
pub mod tail;
pub mod templates;
