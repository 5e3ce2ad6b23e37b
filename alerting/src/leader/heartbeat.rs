//! A dead man's switch for ourselves: a call to an address outside while evaluation goes on. Who
//! owns the address misses it when it stays away, whatever the reason, and tells people.

use std::{path::Path, time::Duration};

use logweir_core::runtime::tasks::{Fate, Tasks};
use metrics::counter;
use tokio::time::Instant;
use tracing::warn;

use crate::channel::{HeartbeatUrl, Network};

/// When the address outside was last called, and how often it is.
pub(super) struct Heartbeat {
    ping: Option<HeartbeatUrl>,
    every: Duration,
    last: Option<Instant>,
}

impl Heartbeat {
    /// With the address in a file; none if there is no file. An error says what is wrong with it.
    pub(super) fn new(file: &Path, every: Duration, network: &Network) -> Result<Self, String> {
        let ping = if file.as_os_str().is_empty() {
            None
        } else {
            let place = || format!("alerting.heartbeat_url_file {}", file.display());
            let url = std::fs::read_to_string(file).map_err(|e| format!("{}: {e}", place()))?;
            Some(
                HeartbeatUrl::new(&url, network.clone())
                    .map_err(|e| format!("{}: {e}", place()))?,
            )
        };
        Ok(Self { ping, every, last: None })
    }

    /// An evaluation has succeeded: calls if it is time. Nobody waits for the answer.
    pub(super) fn evaluated(&mut self, tasks: &Tasks) {
        let Some(ping) = &self.ping else { return };
        if self.last.is_some_and(|last| last.elapsed() < self.every) {
            return;
        }
        // Before it is known whether the call gets through: one that hangs must not be joined by
        // more.
        self.last = Some(Instant::now());
        let ping = ping.clone();
        tasks.spawn("alerting heartbeat", Fate::MayEnd, async move {
            if let Err(error) = ping.call().await {
                counter!("logweir_alerting_heartbeats_failed_total").increment(1);
                warn!("the heartbeat to the outside failed: {error}");
            }
        });
    }
}
