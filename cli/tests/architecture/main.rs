//! What may name what: crates, and the modules within each; that ARCHITECTURE.md names what is there;
//! and that no metric names a tenant.

mod crates;
mod documented;
mod metrics;
mod modules;
mod reader;
