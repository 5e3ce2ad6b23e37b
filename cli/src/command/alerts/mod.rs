//! What broke, who is told, and how.

pub mod channels;
pub mod incidents;
pub mod policy;
pub mod rules;
pub mod silences;
