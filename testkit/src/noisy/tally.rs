//! What an abuse did, so that one that did nothing is seen.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tonic::{Code, Status};

use super::client::{code_name, reason};

/// Outcomes that say that a request was not even one: with any of them the abuse is not what it
/// claims to be.
const MISFIRES: [&str; 14] = [
    "Unauthenticated",
    "PermissionDenied",
    "Unimplemented",
    "InvalidArgument",
    "NotFound",
    "INVALID_FIELD",
    "MALFORMED",
    "NOT_FOUND",
    "SERVICE_FOREIGN",
    "BATCH_TOO_LARGE",
    "EXPIRED",
    "TOKEN_MISSING",
    "TOKEN_INVALID",
    "FAILED_PRECONDITION",
];

/// Counts by name, shared by all who take part in an abuse.
#[derive(Clone, Default)]
pub struct Tally(Arc<Mutex<BTreeMap<String, u64>>>);

impl Tally {
    pub(super) fn add(&self, what: &str, count: u64) {
        let mut counts = self.counts();
        match counts.get_mut(what) {
            Some(known) => *known += count,
            None => drop(counts.insert(what.to_owned(), count)),
        }
    }

    /// Counts a request that was answered, one way or the other.
    pub(super) fn note<T>(&self, answer: &Result<T, Status>) {
        self.add("requests", 1);
        match answer {
            Ok(_) => self.add("OK", 1),
            Err(status) => self.add(&reason(status), 1),
        }
    }

    /// Counts the end of a request of a kind by its gRPC status.
    pub(super) fn note_code(&self, kind: &str, code: u32) {
        let name = match Code::from_i32(code.cast_signed()) {
            Code::Ok => "OK".to_owned(),
            code => code_name(code),
        };
        self.add(&format!("{kind} {name}"), 1);
    }

    /// How often something happened.
    pub fn count(&self, what: &str) -> u64 {
        self.counts().get(what).copied().unwrap_or(0)
    }

    /// How many requests were refused for being none.
    pub fn misfires(&self) -> u64 {
        let counts = self.counts();
        let is_misfire = |what: &str| {
            // Behind the kind of request, if that was noted.
            let outcome = what.rsplit_once(' ').map_or(what, |(_, outcome)| outcome);
            MISFIRES.contains(&outcome)
        };
        counts.iter().filter(|(what, _)| is_misfire(what)).map(|(_, count)| count).sum()
    }

    fn counts(&self) -> MutexGuard<'_, BTreeMap<String, u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = self.counts();
        let counts: Vec<String> =
            counts.iter().map(|(what, count)| format!("{what} {count}")).collect();
        f.write_str(&counts.join(", "))
    }
}
