//! The section of the settings.

use logweir_parse::Tz;
use serde::{Deserialize, Serialize};

/// What is listened for, and what bounds it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SyslogConfig {
    /// Addresses for TCP, by commas; none by default.
    pub tcp_listen: String,
    /// Addresses for TLS, by commas; none by default. They have the certificate of the other ports.
    pub tls_listen: String,
    /// Addresses for UDP, by commas; none by default.
    pub udp_listen: String,
    /// A file that holds a token of role `ingest`: whose the logs are, and of which service.
    pub token_file: String,
    /// The zone of times that name none, such as `Europe/Berlin`.
    pub timezone: String,
    /// A message, bytes; what is beyond is cut off and marked.
    pub message_bytes_max: usize,
    /// Open connections of one address.
    pub address_connections_max: usize,
    /// A message must be whole within this from its first byte, seconds; and a connection must begin.
    pub read_timeout_seconds: u64,
    /// A connection may be silent between messages for this long, seconds.
    pub idle_timeout_seconds: u64,
}

impl Default for SyslogConfig {
    fn default() -> Self {
        Self {
            tcp_listen: String::new(),
            tls_listen: String::new(),
            udp_listen: String::new(),
            token_file: String::new(),
            timezone: "UTC".into(),
            // As long as a message of the contract.
            message_bytes_max: 64 << 10,
            address_connections_max: 64,
            read_timeout_seconds: 30,
            // Senders keep connections open while they have nothing to say, and see that one was ended
            // only when they write: each time a message may be lost.
            idle_timeout_seconds: 3_600,
        }
    }
}

impl SyslogConfig {
    /// Whether it listens anywhere.
    pub fn is_on(&self) -> bool {
        [&self.tcp_listen, &self.tls_listen, &self.udp_listen].iter().any(|list| !list.is_empty())
    }

    /// Whether the zone is one that is known.
    pub fn has_known_zone(&self) -> bool {
        self.timezone.parse::<Tz>().is_ok()
    }

    pub(super) fn zone(&self) -> Tz {
        // That it is known was checked when the settings were.
        self.timezone.parse().unwrap_or(Tz::UTC)
    }
}
