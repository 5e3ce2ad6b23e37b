//! What can go wrong, for the few calls that may fail, and why logs are given up.

use std::{fmt, io, path::PathBuf};

use logweir_proto::v1::Level;

/// A client, sender or guard that cannot be built. After `build` nothing fails any more: what goes
/// wrong is retried or counted. None of these is worth a retry unchanged.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// An address that is not one.
    #[error("endpoint {0:?} is not usable: give http(s)://HOST:PORT, several separated by commas")]
    Endpoint(String),
    /// A token with characters that a header cannot carry.
    #[error("the token holds characters that cannot be sent: paste it again, or issue a new one")]
    Token,
    /// A token file that cannot be read.
    #[error("cannot read the token file {0:?}: check its path and permissions")]
    TokenFile(PathBuf, #[source] io::Error),
    /// A certificate or key that cannot be used.
    #[error("TLS cannot be set up: {0}; check the files of the CA, the certificate and the key")]
    Tls(String),
    /// An address that begins with `https://`, and a library without TLS.
    #[error("endpoint {0:?} needs TLS: build logweir-sdk with its feature `tls`")]
    TlsLeftOut(String),
    /// A name that the server would refuse.
    #[error("service {0:?} is not valid: use 1 to 128 characters of A-Z a-z 0-9 . _ / -")]
    Service(String),
    /// A share of logs that is none.
    #[error("sample rate {1} of {name} is not valid: use 0 to 1", name = .0.as_str_name())]
    SampleRate(Level, f64),
    /// The operating system gave no thread or no runtime.
    #[error("cannot start the sending thread: check the limits on threads and open files")]
    Thread(#[source] io::Error),
    /// `init` came too late.
    #[cfg(feature = "tracing")]
    #[error("a global tracing subscriber is set already: add `logweir_sdk::layer` to it instead")]
    Subscriber,
    /// `log::init` came too late.
    #[cfg(feature = "log")]
    #[error("a global logger is set already: give it a `logweir_sdk::log::Logger` instead")]
    Logger,
}

/// Why logs were given up. The names are those of the wire contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DropReason {
    /// The queue in memory was full.
    QueueOverflow,
    /// The spool on disk was full.
    CacheOverflow,
    /// A single log that the server finds too large.
    TooLarge,
    /// The queue was full, or the server had refused the token for good.
    AuthFailed,
    /// Waited longer than allowed, or the server no longer takes it.
    Expired,
    /// The server refused it for good.
    SendError,
    /// Left out by the rate of its level.
    SampleRate,
    /// The program's own `before_send` wanted it so, or panicked.
    BeforeSend,
    /// Still unsent when `shutdown` ran out of time.
    ShutdownTimeout,
    /// A fault of this library or of the disk under its spool.
    InternalSdkError,
}

impl DropReason {
    /// Every reason, in the order of [`DropCounts`].
    pub const ALL: [Self; 10] = [
        Self::QueueOverflow,
        Self::CacheOverflow,
        Self::TooLarge,
        Self::AuthFailed,
        Self::Expired,
        Self::SendError,
        Self::SampleRate,
        Self::BeforeSend,
        Self::ShutdownTimeout,
        Self::InternalSdkError,
    ];

    /// The name on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::QueueOverflow => "queue_overflow",
            Self::CacheOverflow => "cache_overflow",
            Self::TooLarge => "too_large",
            Self::AuthFailed => "auth_failed",
            Self::Expired => "expired",
            Self::SendError => "send_error",
            Self::SampleRate => "sample_rate",
            Self::BeforeSend => "before_send",
            Self::ShutdownTimeout => "shutdown_timeout",
            Self::InternalSdkError => "internal_sdk_error",
        }
    }
}

impl fmt::Display for DropReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How many logs were given up, by reason. Prints the reasons that occurred by name.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct DropCounts([u64; DropReason::ALL.len()]);

impl DropCounts {
    /// The count of one reason.
    pub fn get(&self, reason: DropReason) -> u64 {
        self.0[reason as usize]
    }

    /// All reasons together.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// The reasons that occurred, with their counts.
    pub fn iter(&self) -> impl Iterator<Item = (DropReason, u64)> + '_ {
        DropReason::ALL.into_iter().zip(self.0).filter(|(_, count)| *count > 0)
    }

    pub(crate) fn add(&mut self, reason: DropReason, count: u64) {
        self.0[reason as usize] += count;
    }
}

impl fmt::Debug for DropCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = self.iter().map(|(reason, count)| (reason.as_str(), count));
        f.debug_map().entries(named).finish()
    }
}

impl fmt::Display for DropCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, (reason, count)) in self.iter().enumerate() {
            let separator = if position == 0 { "" } else { ", " };
            write!(f, "{separator}{reason} {count}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_kept_by_reason() {
        let mut counts = DropCounts::default();
        for (position, reason) in DropReason::ALL.into_iter().enumerate() {
            counts.add(reason, position as u64);
            assert_eq!(counts.get(reason), position as u64);
        }
        assert_eq!(counts.total(), 45);
        assert_eq!(counts.iter().count(), 9);
        assert!(counts.to_string().starts_with("cache_overflow 1, too_large 2"));
        assert!(format!("{counts:?}").starts_with("{\"cache_overflow\": 1, \"too_large\": 2"));
    }
}
