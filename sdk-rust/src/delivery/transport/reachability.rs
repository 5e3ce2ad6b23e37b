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
const GREETING: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
/// A connection that breaks once is no news: the next attempt shows what it means.
const FAILURES_SAID: u32 = 2;

/// Connects and waits for a sign of life: a listener may be there whose program hangs.
pub(super) async fn greet(address: &str) -> io::Result<()> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(GREETING).await?;
    match stream.read(&mut [0]).await? {
        0 => Err(io::Error::other("it closes the connection")),
        _ => Ok(()),
    }
}

/// What is known of an address.
#[derive(Debug, Default)]
pub(super) struct Contact {
    has_answered: bool,
    failures: u32,
    away_since: Option<Instant>,
    is_said: bool,
}

impl Contact {
    /// It cannot be reached, or broke off. True if that is to be said.
    pub(super) fn failed(&mut self, now: Instant) -> bool {
        self.failures = self.failures.saturating_add(1);
        self.away_since.get_or_insert(now);
        self.failures >= FAILURES_SAID && self.say()
    }

    /// It did not answer the greeting. True if that is to be said.
    pub(super) fn unanswered(&mut self, now: Instant) -> bool {
        self.away_since.get_or_insert(now);
        !self.has_answered && self.say()
    }

    /// It answered the greeting.
    pub(super) fn greeted(&mut self) {
        self.has_answered = true;
    }

    /// It answered an attempt. How long it was away, if that was said.
    pub(super) fn answered(&mut self, now: Instant) -> Option<Duration> {
        let since = self.away_since.filter(|_| self.is_said);
        *self = Self { has_answered: true, ..Self::default() };
        since.map(|since| now.saturating_duration_since(since))
    }

    fn say(&mut self) -> bool {
        !std::mem::replace(&mut self.is_said, true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_is_said_once_and_its_end_with_its_length() {
        let (mut contact, start) = (Contact::default(), crate::platform::now());
        let later = start + Duration::from_secs(7);
        assert!(!contact.failed(start), "it may just have broken off");
        assert_eq!([contact.failed(later), contact.failed(later)], [true, false]);
        assert_eq!(contact.answered(later), Some(Duration::from_secs(7)));
        assert_eq!(contact.answered(later), None);
        assert!(!contact.failed(later) && contact.answered(later).is_none());
    }

    #[test]
    fn silence_at_the_start_is_said_at_once() {
        let (mut contact, start) = (Contact::default(), crate::platform::now());
        assert_eq!([contact.unanswered(start), contact.failed(start)], [true, false]);
        assert_eq!(contact.answered(start), Some(Duration::ZERO));
        assert!(!contact.unanswered(start), "it is known to work");
        let mut greeted = Contact::default();
        greeted.greeted();
        assert!(!greeted.unanswered(start));
    }
}
