//! Whether a repeat of a request can be told from new logs with the same content. Pure.

use logweir_proto::v1;
use prost::Message;
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
    /// Of the first log.
    first: Option<Vec<u8>>,
    is_untimed: bool,
    is_fine: bool,
    differs: bool,
}

impl Evidence {
    /// Takes a log in.
    pub(crate) fn add(&mut self, log: &v1::LogRecord) {
        self.is_untimed |= log.time_unix_nano == 0;
        self.note_time(log.time_unix_nano);
        if self.is_untimed || self.is_fine || self.differs {
            return;
        }
        // As bytes, for a number that is none (NaN) equals nothing.
        let encoded = log.encode_to_vec();
        match &self.first {
            None => self.first = Some(encoded),
            Some(first) => self.differs = *first != encoded,
        }
    }

    /// Takes another time of a log in.
    pub(crate) fn note_time(&mut self, unix_nano: u64) {
        self.is_fine |= is_fine_time(unix_nano);
    }

    /// Whether a repeat can be told.
    pub(crate) const fn is_enough(&self) -> bool {
        !self.is_untimed && (self.is_fine || self.differs)
    }
}

/// What names a request by its content, and by what else decides which logs that is.
pub(crate) fn content_hash(read_as: &[&str], message: &[u8]) -> [u8; 16] {
    let mut hash = Sha256::new();
    for part in read_as {
        // With its length, so that no two of them run into one another or into the message.
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hash.update(message);
    let hash: [u8; 32] = hash.finalize().into();
    let mut half = [0; 16];
    half.copy_from_slice(&hash[..16]);
    half
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(time_unix_nano: u64, message: &str) -> v1::LogRecord {
        v1::LogRecord { time_unix_nano, message: message.into(), ..v1::LogRecord::default() }
    }

    fn is_enough(logs: &[v1::LogRecord]) -> bool {
        let mut evidence = Evidence::default();
        logs.iter().for_each(|log| evidence.add(log));
        evidence.is_enough()
    }

    #[test]
    fn only_what_can_be_no_other_log_is_a_repeat() {
        const SECOND: u64 = 1_700_000_000 * NANOS_PER_SECOND;
        for (logs, expected) in [
            (&[][..], false),
            (&[(0, "a")], false),
            (&[(SECOND, "a")], false),
            (&[(SECOND + 1, "a")], true),
            // Seconds where nanoseconds belong.
            (&[(1_700_000_001, "a")], false),
            (&[(SECOND, "a"), (SECOND, "a")], false),
            (&[(SECOND, "a"), (SECOND, "b")], true),
            (&[(SECOND, "a"), (SECOND, "a"), (SECOND, "b")], true),
            (&[(SECOND, "a"), (SECOND + NANOS_PER_SECOND, "a")], true),
            (&[(SECOND, "a"), (SECOND + 1, "a")], true),
            (&[(SECOND + 1, "a"), (0, "b")], false),
            (&[(0, "a"), (SECOND + 1, "b")], false),
            (&[(SECOND, "a"), (SECOND, "b"), (0, "c")], false),
        ] {
            let logs: Vec<_> = logs.iter().map(|(time, text)| log(*time, text)).collect();
            assert_eq!(is_enough(&logs), expected, "{logs:?}");
        }
        let nan = v1::LogRecord { latency_ms: Some(f64::NAN), ..log(SECOND, "a") };
        assert!(!is_enough(&[nan.clone(), nan]));
        let mut observed = Evidence::default();
        observed.note_time(SECOND + 1);
        observed.add(&log(SECOND, "a"));
        assert!(observed.is_enough());
    }

    #[test]
    fn another_byte_or_reading_is_another_request() {
        let request = content_hash(&["bulk", "a"], b"m");
        assert_eq!(request, content_hash(&["bulk", "a"], b"m"));
        for (read_as, message) in
            [(["bulk", "a"], "n"), (["bulk", "b"], "m"), (["bul", "ka"], "m"), (["bulk", ""], "am")]
        {
            assert_ne!(request, content_hash(&read_as, message.as_bytes()), "{read_as:?}");
        }
    }
}
