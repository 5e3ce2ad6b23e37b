//! The one binary of Logweir: a file per subcommand in `command`, and what they share. It reads
//! arguments, wires parts and prints; it owns no logic of the path.

pub mod client;
pub mod command;
pub mod demo;
pub mod entry;
pub mod error;
pub mod moment;
pub mod output;
pub mod secret;
pub mod settings;
pub mod wiring;
