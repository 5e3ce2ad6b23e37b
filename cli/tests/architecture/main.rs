//! What may name what: crates, and the modules within each; and that ARCHITECTURE.md names what is
//! there.

mod crates;
mod documented;
mod modules;
mod reader;
