//! What reads: searches, counts over time, and lists of what is known.

pub(crate) mod aggregate;
pub(crate) mod readers;
pub(crate) mod reports;
pub(crate) mod rows;
pub(crate) mod search;
mod threads;
