//! What reads: searches, counts over time, and lists of what is known.

pub(crate) mod aggregate;
pub(crate) mod filter;
pub(crate) mod reports;
pub(crate) mod rows;
pub(crate) mod search;
pub(crate) mod search_range;
