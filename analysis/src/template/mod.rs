//! Templates: which pattern a message follows.
//!
//! An id is a pure function of tenant, service, masked message and [`MASK_VERSION`], so that every
//! processor and every restart agrees without asking. A known pattern costs one pass over the
//! message, one hash and one look-up, and allocates nothing.
//!
//! Masking alone leaves several ids to what is one pattern to a person, such as `user bob left` and
//! `user eve left`. They are merged by the number of words that a place has taken (see [`merge`]):
//! an id is given an alias, and nothing that was stored changes. See [`catalogue`] for when.
//!
//! A service has a bounded number of patterns. Above it, a message with a new pattern falls into
//! the service's catch-all for its number of words: `<other: 12 words>`.

mod catalogue;
mod glob;
mod mask;
mod merge;
mod pattern;

use std::{
    collections::{HashMap, HashSet},
    hash::BuildHasherDefault,
};

use logweir_core::identity::{Service, TemplateId, Tenant};
use xxhash_rust::xxh3::{Xxh3, xxh3_64, xxh3_64_with_seed};

pub(crate) use self::{
    catalogue::{Catalogue, PatternHandle, PatternRequest, PatternState},
    mask::mask,
};
pub use self::{
    glob::parameters,
    mask::{MASK_VERSION, SIGNATURE_BYTES_MAX, WILDCARD},
};

/// Numbers of words above this share a catch-all.
const CATCH_ALL_WORDS_MAX: usize = 32;

/// What the ids of a service's templates are salted with.
pub(crate) fn service_seed(tenant: &Tenant, service: &Service) -> u64 {
    let mut hash = Xxh3::new();
    // With the length, or tenant `ab` with service `c` and tenant `a` with service `bc` would share
    // their ids.
    hash.update(&[MASK_VERSION, tenant.as_str().len() as u8]);
    hash.update(tenant.as_str().as_bytes());
    hash.update(service.as_str().as_bytes());
    hash.digest()
}

/// The id of a pattern in the service with this seed.
pub(crate) fn template_id(seed: u64, signature: &[u8]) -> TemplateId {
    TemplateId(xxh3_64_with_seed(signature, seed))
}

/// The id of a merged pattern in the service with this seed: never that of a signature, which may
/// read the same.
pub(crate) fn merger_id(seed: u64, pattern: &str) -> TemplateId {
    TemplateId(xxh3_64_with_seed(pattern.as_bytes(), !seed))
}

/// The pattern that stands for every one above the cap.
pub(crate) fn catch_all(words: usize) -> String {
    match words {
        1 => "<other: 1 word>".to_owned(),
        0..=CATCH_ALL_WORDS_MAX => format!("<other: {words} words>"),
        _ => format!("<other: over {CATCH_ALL_WORDS_MAX} words>"),
    }
}

/// Whether a pattern is a catch-all. No message has it: its number would be masked.
pub(crate) fn is_catch_all(pattern: &str) -> bool {
    pattern.starts_with("<other: ")
}

/// The key of a settled pattern.
pub(crate) fn pattern_hash(pattern: &str) -> u64 {
    xxh3_64(pattern.as_bytes())
}

/// A map whose keys are hashes already.
pub(crate) type HashedMap<V> = HashMap<u64, V, BuildHasherDefault<IdHasher>>;
/// A set of hashes.
pub(crate) type HashedSet = HashSet<u64, BuildHasherDefault<IdHasher>>;

/// Passes a hash through.
#[derive(Default)]
pub(crate) struct IdHasher(u64);

impl std::hash::Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(byte);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(tenant: &str, service: &str, message: &str) -> TemplateId {
        let seed = service_seed(&Tenant::new(tenant).unwrap(), &Service::new(service).unwrap());
        let mut signature = Vec::new();
        mask(message, &mut signature);
        template_id(seed, &signature)
    }

    #[test]
    fn ids_never_change() {
        let golden = id("default", "payments", "charge 12 took 3 ms");
        assert_eq!(golden.to_string(), "c09e637c29d04b36");
    }

    #[test]
    fn ids_differ_by_tenant_service_and_pattern_only() {
        let base = id("default", "payments", "charge 12 took 3 ms");
        assert_eq!(base, id("default", "payments", "charge 99 took 0.5 ms"));
        assert_ne!(base, id("other", "payments", "charge 12 took 3 ms"));
        assert_ne!(base, id("default", "orders", "charge 12 took 3 ms"));
        assert_ne!(base, id("default", "payments", "charge took 3 ms"));
        assert_ne!(id("a", "bc", "x"), id("ab", "c", "x"));
    }

    #[test]
    fn a_catch_all_names_its_number_of_words() {
        for (words, pattern) in [
            (0, "<other: 0 words>"),
            (1, "<other: 1 word>"),
            (12, "<other: 12 words>"),
            (33, "<other: over 32 words>"),
        ] {
            assert_eq!(catch_all(words), pattern);
        }
    }
}
