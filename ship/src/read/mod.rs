//! From files to lines: finds files and tells them apart, cuts and joins lines, and drives a
//! [`Feed`](crate::feed::Feed) with them.

pub mod files;
pub mod fingerprint;
mod follow;
mod identity;
pub mod lines;
pub mod list;
pub mod reader;
mod stream;
mod tail;
#[cfg(test)]
mod tests;
mod text;
