//! What may name what: crates, and the modules within each.

mod crates;
mod modules;
mod reader;
