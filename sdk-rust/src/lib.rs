//! The Rust client library of Logweir.
//!
//! ```no_run
//! use logweir_sdk::{Client, Level, Record};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let client = Client::builder().endpoint("http://127.0.0.1:4317").service("payments").build()?;
//! client.emit(Record::new(Level::Warn, "card declined").attribute("user_id", 42).latency_ms(8.5));
//! let report = client.flush(std::time::Duration::from_secs(5));
//! assert!(report.is_complete());
//! # Ok(())
//! # }
//! ```
//!
//! With `tracing`, one line does it: `let _guard = logweir_sdk::init("payments")?;`. With the `log`
//! crate and this one's feature `log`: `let _guard = logweir_sdk::log::init("payments")?;`.
//!
//! **Promises.** After `build` nothing fails, blocks or grows without bound. Every batch keeps its id
//! over retries and restarts, so that the server stores it once. Every log that is lost is counted
//! by its reason, here and on the server. With a spool ([`ClientBuilder::spool_dir`]) a batch is on
//! disk before it is sent, and outlives `kill -9`; what waits for its batch, up to a second, does
//! not.
//!
//! **Threads.** Everything but [`Client::emit`] happens on one thread of the library's own, with its
//! own runtime: the program needs none.
//!
//! A program that keeps ids and sequences itself uses [`Sender`] instead of [`Client`].

mod client;
mod config;
mod delivery;
mod error;
mod hex;
#[cfg(any(feature = "log", feature = "tracing"))]
mod integrations;
mod lock;
mod platform;
mod record;
mod report;
#[cfg(test)]
mod vectors;

pub use client::Client;
pub use config::{ClientBuilder, Rejection};
pub use delivery::{
    batch::{EncodedBatch, EncodedRecords},
    queue::DropPolicy,
    retry::RetryPolicy,
    spool::{SpoolOptions, SpoolSync},
    transport::{Compression, SendOptions, SendOutcome, Sender, TlsOptions, Token},
};
pub use error::{ConfigError, DropCounts, DropReason};
#[cfg(any(feature = "log", feature = "tracing"))]
pub use integrations::Guard;
#[cfg(feature = "log")]
pub use integrations::log;
#[cfg(feature = "tracing")]
pub use integrations::{LogweirLayer, init, layer};
pub use logweir_proto::v1::{self, Level};
pub use record::{
    ATTRIBUTE_KEY_BYTES_MAX, ATTRIBUTE_VALUE_BYTES_MAX, ATTRIBUTES_MAX, MESSAGE_BYTES_MAX,
    NAME_BYTES_MAX, Record, Value, trace::TraceContext,
};
pub use report::{FlushReport, Stats};
