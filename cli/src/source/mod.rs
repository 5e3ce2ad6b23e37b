//! From bytes in files to log records.
//!
//! In the order in which a byte meets them: `input` finds files and tells them apart, `line` cuts and
//! joins lines, `parse` recognises what a line is (`json`, `logfmt`, `plain`), `record` holds the
//! result to the limits of the contract. `reader` drives them; only it and `input` touch the disk.

pub mod input;
pub mod json;
pub mod level;
pub mod line;
pub mod logfmt;
pub mod parse;
pub mod plain;
pub mod reader;
pub mod record;
pub mod time;
