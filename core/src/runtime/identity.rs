//! Which process this is, as others see it.

use std::time::Duration;

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
    /// When it started, nanoseconds since 1970-01-01 UTC.
    pub started_unix_nano: i64,
}

impl ProcessIdentity {
    /// A new one, of this machine.
    pub fn new(kind: &'static str, clock: &Clock) -> Self {
        let process_id = format!("{kind}-{}", hex::encode(rand::random::<[u8; 8]>()));
        let host = uname().nodename().to_string_lossy().into_owned();
        Self { process_id, kind, host, started_unix_nano: clock() }
    }

    /// The version of the program.
    pub const fn version(&self) -> &'static str {
        env!("CARGO_PKG_VERSION")
    }
}
