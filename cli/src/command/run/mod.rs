//! What serves: each process of an installation, its settings and its database.

pub mod alerting;
pub mod config;
pub mod migrate;
pub mod processor;
pub mod server;
pub mod standalone;
