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
//! With `tracing`, one line does it: `let _guard = logweir_sdk::init("payments")?;`
//!
//! **Promises.** After `build` nothing fails, blocks or grows without bound. Every batch keeps its id
//! over retries and restarts, so that the server stores it once. Every log that is lost is counted by
//! its reason, here and on the server. With a spool ([`ClientBuilder::spool_dir`]) a batch is on disk
//! before it is sent, and outlives `kill -9`; what waits for its batch, up to a second, does not.
//!
//! **Threads.** Everything but [`Client::emit`] happens on one thread of the library's own, with its
//! own runtime: the program needs none.
//!
//! A program that keeps ids and sequences itself uses [`Sender`] instead of [`Client`].

mod batch;
mod client;
mod config;
mod error;
mod layer;
mod queue;
mod record;
mod retry;
mod rim;
mod spool;
mod transport;
mod worker;

use std::time::Duration;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::{EnvFilter, prelude::*};

pub use batch::EncodedBatch;
pub use client::{Client, FlushReport, Stats};
pub use config::{ClientBuilder, Rejection};
pub use error::{BuildError, DropCounts, DropReason};
pub use layer::{LogweirLayer, layer};
pub use logweir_proto::v1::{self, Level};
pub use queue::DropPolicy;
pub use record::{
    ATTRIBUTE_KEY_BYTES_MAX, ATTRIBUTE_VALUE_BYTES_MAX, ATTRIBUTES_MAX, MESSAGE_BYTES_MAX,
    NAME_BYTES_MAX, Record, Value,
};
pub use retry::RetryPolicy;
pub use spool::{SpoolOptions, SpoolSync};
pub use transport::{Compression, SendOptions, SendOutcome, Sender, TlsOptions, Token};

/// How long a guard, or a panic, waits for the last logs.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Sends what `tracing` logs, from now until the guard goes: INFO and above, or what `RUST_LOG` says.
/// Address and token come from the environment. A panic flushes too.
pub fn init(service: &str) -> Result<Guard, BuildError> {
    let client = Client::builder().service(service).build()?;
    let filter =
        EnvFilter::builder().with_default_directive(LevelFilter::INFO.into()).from_env_lossy();
    tracing_subscriber::registry()
        .with(layer(client.clone()).with_filter(filter))
        .try_init()
        .map_err(|_| BuildError::Subscriber)?;
    let (for_panics, before) = (client.clone(), std::panic::take_hook());
    std::panic::set_hook(Box::new(move |panic| {
        before(panic);
        for_panics.flush(LAST_WORDS);
    }));
    Ok(Guard { client })
}

/// Keeps [`init`]'s client going; flushes for up to 1 s when it goes.
#[derive(Debug)]
#[must_use = "the logs stop when the guard goes"]
pub struct Guard {
    client: Client,
}

impl Guard {
    /// The client, to flush or to read its counts.
    pub fn client(&self) -> &Client {
        &self.client
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.client.shutdown(LAST_WORDS);
    }
}
