//! Which process this is, as others see it.

use std::time::Duration;

use crate::timestamp::Timestamp;

use rustix::system::uname;

use super::clock::Clock;

/// How often a process says that it lives.
pub const BEAT_EVERY: Duration = Duration::from_secs(2);
/// After so long without a word a process is taken for dead: two words may be lost.
pub const DEAD_AFTER: Duration = Duration::from_secs(6);

/// One start of a process. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessIdentity {
    /// Never used by another, such as `processor-9f86d081884c7d65`.
    pub process_id: String,
    /// `server`, `processor`, `standalone` or `alerting`.
    pub kind: &'static str,
    /// The machine's name.
    pub host: String,
    /// When it started.
    pub started_at: Timestamp,
}

impl ProcessIdentity {
    /// A new one, of this machine.
    pub fn new(kind: &'static str, clock: &Clock) -> Self {
        // Random and not the host or the pid: in containers those are the same after a restart, and
        // the dead start's heartbeats and partitions would be taken for those of the new one.
        let process_id = format!("{kind}-{}", hex::encode(rand::random::<[u8; 8]>()));
        let host = uname().nodename().to_string_lossy().into_owned();
        Self { process_id, kind, host, started_at: clock() }
    }

    /// The version of the program.
    pub const fn version(&self) -> &'static str {
        env!("CARGO_PKG_VERSION")
    }
}
