//! Maps whose keys are hashes already, and how keys are joined.

use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
};

/// A map whose keys are hashes already.
pub(super) type IdMap<V> = HashMap<u64, V, BuildHasherDefault<IdHasher>>;

/// A map whose keys are two of them.
pub(super) type PairMap<V> = HashMap<(u64, u64), V, BuildHasherDefault<IdHasher>>;

/// Spreads keys that may be small numbers.
#[derive(Debug, Clone, Default)]
pub(super) struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|&byte| self.0 = mix(self.0, u64::from(byte)));
    }

    fn write_u64(&mut self, key: u64) {
        self.0 = mix(self.0, key);
    }
}

/// One key of two, in which their order counts.
pub(super) fn mix(first: u64, second: u64) -> u64 {
    let product = u128::from(first.rotate_left(29) ^ second ^ 0x9e37_79b9_7f4a_7c15)
        * u128::from(0xd6e8_feb8_6659_fd93_u64);
    (product as u64) ^ ((product >> 64) as u64)
}
