//! What a file's content looked like as far as it was read, by which it is known again wherever it
//! went. Pure.

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

/// As many first bytes are kept of a file.
pub const HEAD_BYTES: usize = 1_024;
/// As many bytes before the place that was read last: what two files with one long header differ in.
const LAST_BYTES: usize = 1_024;

/// Hashes of two parts of a file's content, after decompression.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Fingerprint {
    /// How many first bytes were hashed: up to [`HEAD_BYTES`], growing with what is read.
    pub head_bytes: u64,
    /// The hash of those bytes.
    pub head_hash: u64,
    /// Where the bytes end that were read last.
    #[serde(default)]
    pub last_end: u64,
    /// How many bytes before that place were hashed; 0 in notes of earlier versions.
    #[serde(default)]
    pub last_bytes: u64,
    /// The hash of those bytes.
    #[serde(default)]
    pub last_hash: u64,
}

/// The parts themselves, while a file is read.
#[derive(Debug, Clone, Default)]
pub(super) struct Trace {
    head: Vec<u8>,
    last: Vec<u8>,
    end: u64,
}

impl Trace {
    /// Of a file that was read to `end`: up to so many first bytes, and those before that place.
    pub(super) fn new(head: &[u8], last: Vec<u8>, end: u64) -> Self {
        let read = usize::try_from(end).unwrap_or(usize::MAX);
        Self { head: head[..head.len().min(read)].to_vec(), last, end }
    }

    /// From where to where the bytes lie that a trace at `end` needs.
    pub(super) fn last_part(end: u64) -> (u64, usize) {
        let bytes = LAST_BYTES.min(usize::try_from(end).unwrap_or(LAST_BYTES));
        (end - bytes as u64, bytes)
    }

    /// Takes what was read next.
    pub(super) fn extend(&mut self, bytes: &[u8]) {
        let room = HEAD_BYTES - self.head.len();
        self.head.extend_from_slice(&bytes[..bytes.len().min(room)]);
        self.last.extend_from_slice(&bytes[bytes.len().saturating_sub(LAST_BYTES)..]);
        self.last.drain(..self.last.len().saturating_sub(LAST_BYTES));
        self.end += bytes.len() as u64;
    }

    /// The bytes before the place that was read last.
    pub(super) fn last(&self) -> &[u8] {
        &self.last
    }

    /// The hashes of it.
    pub(super) fn fingerprint(&self) -> Fingerprint {
        Fingerprint {
            head_bytes: self.head.len() as u64,
            head_hash: xxh3_64(&self.head),
            last_end: self.end,
            last_bytes: self.last.len() as u64,
            last_hash: xxh3_64(&self.last),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn it_does_not_matter_in_which_pieces_a_file_is_read(
            bytes in proptest::collection::vec(0_u8.., 0..5_000),
            cuts in proptest::collection::vec(0_usize..5_000, 0..8),
        ) {
            let (mut whole, mut pieces) = (Trace::default(), Trace::default());
            whole.extend(&bytes);
            let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
            cuts.sort_unstable();
            let mut start = 0;
            for cut in cuts.into_iter().chain([bytes.len()]) {
                pieces.extend(&bytes[start..cut]);
                start = cut;
            }
            proptest::prop_assert_eq!(whole.fingerprint(), pieces.fingerprint());
            let (from, count) = Trace::last_part(bytes.len() as u64);
            let last = bytes[from as usize..][..count].to_vec();
            let opened = Trace::new(&bytes[..bytes.len().min(HEAD_BYTES)], last, bytes.len() as u64);
            proptest::prop_assert_eq!(opened.fingerprint(), whole.fingerprint());
        }
    }
}
