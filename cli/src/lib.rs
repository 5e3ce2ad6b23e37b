//! The one binary of Logweir: a file per subcommand in `command`, and what they share. It wires parts
//! and owns no logic of the path. A library too, so that benchmarks use the same load generator.

pub mod client;
pub mod command;
pub mod delivery;
pub mod demo;
pub mod entry;
pub mod error;
pub mod loadgen;
pub mod moment;
pub mod output;
pub mod secret;
pub mod settings;
pub mod source;
pub mod wiring;
