//! What brings logs in: from files, or made up.

pub mod loadgen;
mod preview;
pub mod send;
