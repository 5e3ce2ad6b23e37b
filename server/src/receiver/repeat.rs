//! Whether a repeat of a request can be told from new logs with the same content. Pure.

use sha2::{Digest, Sha256};

const NANOS_PER_SECOND: u64 = 1_000_000_000;
const YEAR_2000_UNIX_NANO: u64 = 946_684_800 * NANOS_PER_SECOND;

/// Whether a time is finer than a second. One before 2000 is likely in another unit.
const fn is_fine_time(unix_nano: u64) -> bool {
    unix_nano >= YEAR_2000_UNIX_NANO && !unix_nano.is_multiple_of(NANOS_PER_SECOND)
}

/// Whether the same bytes again can only be the same logs again, found log by log. Each log must have a
/// time; and one of them must be finer than a second, or two logs must differ: a program that says one
/// thing twice a second, with times in whole seconds, means two logs.
#[derive(Default)]
pub(crate) struct Evidence {
    first: Option<Vec<u8>>,
    other: Vec<u8>,
    is_untimed: bool,
    is_fine: bool,
    differs: bool,
}

impl Evidence {
    /// Takes a log in: when it happened, in all the times that it names and 0 for none, and its content,
    /// which `write` appends.
    pub(crate) fn add(&mut self, times_unix_nano: &[u64], write: impl FnOnce(&mut Vec<u8>)) {
        self.is_untimed |= times_unix_nano.iter().all(|time| *time == 0);
        self.is_fine |= times_unix_nano.iter().any(|time| is_fine_time(*time));
        if self.is_untimed || self.is_fine || self.differs {
            return;
        }
        // As bytes, for a number that is none (NaN) equals nothing.
        self.other.clear();
        write(&mut self.other);
        match &self.first {
            None => self.first = Some(std::mem::take(&mut self.other)),
            Some(first) => self.differs = *first != self.other,
        }
    }

    /// Whether a repeat can be told.
    pub(crate) const fn is_enough(&self) -> bool {
        !self.is_untimed && (self.is_fine || self.differs)
    }
}

/// What names a request by its content.
pub(crate) fn content_hash(message: &[u8]) -> [u8; 16] {
    let hash: [u8; 32] = Sha256::digest(message).into();
    let mut half = [0; 16];
    half.copy_from_slice(&hash[..16]);
    half
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_can_be_no_other_log_is_a_repeat() {
        const SECOND: u64 = 1_700_000_000 * NANOS_PER_SECOND;
        for (logs, expected) in [
            (&[][..], false),
            (&[([0, 0], "a")], false),
            (&[([SECOND, 0], "a")], false),
            (&[([0, SECOND], "a")], false),
            (&[([SECOND + 1, 0], "a")], true),
            (&[([0, SECOND + 1], "a")], true),
            (&[([SECOND, SECOND + 1], "a")], true),
            // Seconds where nanoseconds belong.
            (&[([1_700_000_001, 0], "a")], false),
            (&[([SECOND, 0], "a"), ([SECOND, 0], "a")], false),
            (&[([SECOND, 0], "a"), ([SECOND, 0], "b")], true),
            (&[([SECOND, 0], "a"), ([SECOND, 0], "a"), ([SECOND, 0], "b")], true),
            (&[([SECOND, 0], "a"), ([SECOND + 1, 0], "a")], true),
            (&[([SECOND + 1, 0], "a"), ([0, 0], "b")], false),
            (&[([0, 0], "a"), ([SECOND + 1, 0], "b")], false),
            (&[([SECOND, 0], "a"), ([SECOND, 0], "b"), ([0, 0], "c")], false),
        ] {
            let mut evidence = Evidence::default();
            for (times, content) in logs {
                evidence.add(times, |out| out.extend_from_slice(content.as_bytes()));
            }
            assert_eq!(evidence.is_enough(), expected, "{logs:?}");
        }
    }

    #[test]
    fn another_byte_is_another_request() {
        assert_eq!(content_hash(b"a"), content_hash(b"a"));
        assert_ne!(content_hash(b"a"), content_hash(b"b"));
    }
}
