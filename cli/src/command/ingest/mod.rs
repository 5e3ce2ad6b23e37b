//! What brings logs in: from files, or made up.

pub mod loadgen;
pub mod send;
