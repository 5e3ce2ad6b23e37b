//! Whether an address can be reached, so that a person hears of it once when it cannot, soon after
//! the first log, and once when it is back.

use std::{
    io,
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// The start of HTTP/2: its preface, and settings that set nothing.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
/// A connection that breaks once is no news: the next attempt shows what it means.
const FAILURES_NOTIFIED: u32 = 2;

/// Connects and waits for a sign of life: a listener may be there whose program hangs.
pub(super) async fn handshake(address: &str) -> io::Result<()> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(PREFACE).await?;
    match stream.read(&mut [0]).await? {
        0 => Err(io::Error::other("it closes the connection")),
        _ => Ok(()),
    }
}

/// What is known of an address.
#[derive(Debug, Default)]
pub(super) struct Reachability {
    has_responded: bool,
    failures: u32,
    away_since: Option<Instant>,
    is_notified: bool,
}

impl Reachability {
    /// It cannot be reached, or broke off. True if that is to be told.
    pub(super) fn failed(&mut self, now: Instant) -> bool {
        self.failures = self.failures.saturating_add(1);
        // From the first failure on, also if it is told later.
        self.away_since.get_or_insert(now);
        self.failures >= FAILURES_NOTIFIED && self.notify()
    }

    /// It did not respond to the handshake. True if that is to be told.
    pub(super) fn not_responding(&mut self, now: Instant) -> bool {
        self.away_since.get_or_insert(now);
        !self.has_responded && self.notify()
    }

    /// It responded to the handshake.
    pub(super) fn handshake_done(&mut self) {
        self.has_responded = true;
    }

    /// It responded to an attempt. How long it was away, if that was told.
    pub(super) fn responded(&mut self, now: Instant) -> Option<Duration> {
        let since = self.away_since.filter(|_| self.is_notified);
        *self = Self { has_responded: true, ..Self::default() };
        since.map(|since| now.saturating_duration_since(since))
    }

    fn notify(&mut self) -> bool {
        !std::mem::replace(&mut self.is_notified, true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_is_told_once_and_its_end_with_its_length() {
        let (mut address, start) = (Reachability::default(), crate::platform::now());
        let later = start + Duration::from_secs(7);
        assert!(!address.failed(start), "it may just have broken off");
        assert_eq!([address.failed(later), address.failed(later)], [true, false]);
        assert_eq!(address.responded(later), Some(Duration::from_secs(7)));
        assert_eq!(address.responded(later), None);
        assert!(!address.failed(later) && address.responded(later).is_none());
    }

    #[test]
    fn silence_at_the_start_is_told_at_once() {
        let (mut address, start) = (Reachability::default(), crate::platform::now());
        assert_eq!([address.not_responding(start), address.failed(start)], [true, false]);
        assert_eq!(address.responded(start), Some(Duration::ZERO));
        assert!(!address.not_responding(start), "it is known to work");
        let mut address = Reachability::default();
        address.handshake_done();
        assert!(!address.not_responding(start));
    }
}
