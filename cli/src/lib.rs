//! The one binary of Logweir: a file per subcommand in `command`, and what they share. It reads
//! arguments, wires parts and prints; it owns no logic of the path.

pub mod client;
pub mod command;
pub mod config;
pub mod demo;
pub mod error;
pub mod log_output;
pub mod output;
pub mod secret_url;
pub mod time_argument;
pub mod wiring;
