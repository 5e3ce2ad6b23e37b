//! From files to lines: finds files and tells them apart, cuts and joins lines, and drives a
//! [`Feed`](crate::feed::Feed) with them.

pub mod files;
pub mod lines;
pub mod reader;
mod tail;
