//! Who and which: tenants, services, batches, producers and the ids that people see.

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_128_with_seed;

use crate::{limits::SERVICE_BYTES_MAX, timestamp::Timestamp};

/// A name that is not what its kind allows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind} {value:?} is not valid: {rule}")]
pub struct IdentityError {
    kind: &'static str,
    value: String,
    rule: &'static str,
}

/// What a tenant or a service may be called, in words.
// Characters that need no escaping in a URL, a shell or a metric's label, and no U+0000,
// which PostgreSQL cannot hold.
const NAME_RULE: &str = "use 1 to 128 characters of A-Z a-z 0-9 . _ / -";

fn checked_name(kind: &'static str, value: &str) -> Result<Arc<str>, IdentityError> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._/-".contains(&byte);
    if (1..=SERVICE_BYTES_MAX).contains(&value.len()) && value.bytes().all(allowed) {
        return Ok(value.into());
    }
    // Cut, for it comes from outside and goes into an error that is sent and logged.
    let value = value.chars().take(SERVICE_BYTES_MAX).collect();
    Err(IdentityError { kind, value, rule: NAME_RULE })
}

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident, $kind:literal) => {
        $(#[$doc])*
        // Shared and not copied: every log of a batch carries its service through the pipeline.
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks the name: 1 to 128 characters of `A-Z a-z 0-9 . _ / -`.
            pub fn new(value: &str) -> Result<Self, IdentityError> {
                checked_name($kind, value).map(Self)
            }

            /// The name.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }
    };
}

name_type! {
    /// Whom everything belongs to. Comes from a verified token and from nowhere else.
    Tenant, "tenant"
}
name_type! {
    /// The program that writes logs.
    Service, "service"
}

impl Default for Tenant {
    fn default() -> Self {
        Self("default".into())
    }
}

/// Which service a token may write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServiceScope {
    /// Every service; written `*`.
    Any,
    /// This one.
    One(Service),
}

impl FromStr for ServiceScope {
    type Err = IdentityError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "*" { Ok(Self::Any) } else { Service::new(text).map(Self::One) }
    }
}

impl fmt::Display for ServiceScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::One(service) => service.fmt(f),
        }
    }
}

/// What a token may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Write logs of its service.
    Ingest,
    /// Read.
    Viewer,
    /// Read, write and administer.
    Admin,
}

impl Role {
    /// The name used in tokens, tables and flags.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ingest => "ingest",
            Self::Viewer => "viewer",
            Self::Admin => "admin",
        }
    }
}

impl FromStr for Role {
    type Err = IdentityError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        [Self::Ingest, Self::Viewer, Self::Admin]
            .into_iter()
            .find(|role| role.as_str() == text)
            .ok_or_else(|| IdentityError {
                kind: "role",
                value: text.into(),
                rule: "use ingest, viewer or admin",
            })
    }
}

macro_rules! bytes_type {
    ($(#[$doc:meta])* $name:ident, $size:literal, $kind:literal, $rule:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub [u8; $size]);

        impl TryFrom<&[u8]> for $name {
            type Error = IdentityError;

            fn try_from(bytes: &[u8]) -> Result<Self, Self::Error> {
                bytes.try_into().map(Self).map_err(|_| IdentityError {
                    kind: $kind,
                    value: format!("{} bytes", bytes.len()),
                    rule: $rule,
                })
            }
        }

        impl FromStr for $name {
            type Err = IdentityError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                let mut bytes = [0; $size];
                hex::decode_to_slice(text, &mut bytes).map_err(|_| IdentityError {
                    kind: $kind,
                    value: text.chars().take(80).collect(),
                    rule: $rule,
                })?;
                Ok(Self(bytes))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&hex::encode(self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    };
}

bytes_type! {
    /// Identifies a batch within its tenant; minted once by the sender.
    BatchId, 16, "batch_id", "use 16 bytes (32 hexadecimal digits)"
}
bytes_type! {
    /// Identifies one start of a sending program.
    ProducerId, 16, "producer_id", "use 16 bytes (32 hexadecimal digits)"
}

/// 2025: no batch of this program is older.
const UUID_V7_BEGAN_UNIX_MS: u64 = 1_735_689_600_000;

impl BatchId {
    /// The id of a replay of a dead letter: always the same, so that it is stored once.
    pub fn of_replay(tenant: &Tenant, dead_letter_id: u64) -> Self {
        // Somebody who presses the button twice, or a process that dies between publishing and
        // noting it, replays the same batch again, which the ledger knows.
        let hash = xxh3_128_with_seed(tenant.as_str().as_bytes(), dead_letter_id);
        Self(hash.to_be_bytes())
    }

    /// The id of a part of a request that has none of its own: the same whenever the same token sends
    /// it again. `request` is a hash of its content, or random where content does not tell a repeat.
    pub fn of_part(tenant: &Tenant, token_id: &str, request: [u8; 16], part: u32) -> Self {
        let sender = [tenant.as_str().as_bytes(), &[0], token_id.as_bytes(), &[0]].concat();
        let hash = xxh3_128_with_seed(&[&sender[..], &request].concat(), part.into());
        // Marked as a UUIDv8 (RFC 9562, 5.8): left as it is, one in 64 would say, like a UUIDv7, that
        // it was minted at some time, and be refused as too old.
        let id = uuid::Builder::from_custom_bytes(hash.to_be_bytes()).into_uuid();
        Self(id.into_bytes())
    }

    /// When a UUIDv7 was minted, in milliseconds since 1970; none for other ids. One random id in
    /// 64 looks like a UUIDv7, so that a time before there were any says that it is none.
    pub fn minted_unix_ms(self) -> Option<u64> {
        let id = uuid::Uuid::from_bytes(self.0);
        let (seconds, nanos) = id.get_timestamp()?.to_unix();
        let minted_unix_ms = seconds * 1_000 + u64::from(nanos / 1_000_000);
        (id.get_version_num() == 7 && minted_unix_ms >= UUID_V7_BEGAN_UNIX_MS)
            .then_some(minted_unix_ms)
    }
}

/// The public id of a log. It encodes where the log is, so that finding it needs no index.
/// Ordered by time, then batch, then index; so are pages of a search.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogId {
    /// Event time.
    pub time: Timestamp,
    /// The batch it came in.
    pub batch_id: BatchId,
    /// Its position in the batch.
    pub index: u32,
}

impl LogId {
    /// The least of a time: a log is before it if and only if it is of an earlier time.
    pub const fn first_of(time: Timestamp) -> Self {
        Self { time, batch_id: BatchId([0; 16]), index: 0 }
    }

    /// The greatest of a time: a log is after it if and only if it is of a later time.
    pub const fn last_of(time: Timestamp) -> Self {
        Self { time, batch_id: BatchId([u8::MAX; 16]), index: u32::MAX }
    }
}

impl fmt::Display for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Of fixed width and highest digits first, so that ids as text sort like logs by time.
        write!(f, "{:016x}{}{:08x}", self.time.as_unix_nanos(), self.batch_id, self.index)
    }
}

impl FromStr for LogId {
    type Err = IdentityError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut bytes = [0_u8; 28];
        hex::decode_to_slice(text, &mut bytes).map_err(|_| IdentityError {
            kind: "log id",
            value: text.chars().take(80).collect(),
            rule: "use the 56 hexadecimal digits that a search shows",
        })?;
        let (mut time, mut batch, mut index) = ([0; 8], [0; 16], [0; 4]);
        time.copy_from_slice(&bytes[..8]);
        batch.copy_from_slice(&bytes[8..24]);
        index.copy_from_slice(&bytes[24..]);
        Ok(Self {
            time: Timestamp::from_unix_nanos(i64::from_be_bytes(time)),
            batch_id: BatchId(batch),
            index: u32::from_be_bytes(index),
        })
    }
}

/// Identifies a pattern: a pure hash of tenant, service, masked signature and mask version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TemplateId(pub u64);

impl fmt::Display for TemplateId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl FromStr for TemplateId {
    type Err = IdentityError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        u64::from_str_radix(text, 16).map(Self).map_err(|_| IdentityError {
            kind: "template id",
            value: text.chars().take(80).collect(),
            rule: "use up to 16 hexadecimal digits",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_keep_to_their_alphabet_and_length() {
        for good in ["a", "payments", "team/api-v1.2_x", &"x".repeat(128)] {
            assert_eq!(Service::new(good).unwrap().as_str(), good);
        }
        for bad in ["", "a b", "pay$", "ä", &"x".repeat(129)] {
            assert!(Service::new(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_log_id_reads_back_and_sorts_by_time() {
        let id = |time| LogId {
            time: Timestamp::from_unix_nanos(time),
            batch_id: BatchId([7; 16]),
            index: 9,
        };
        let text = id(1_700_000_000_000_000_000).to_string();
        assert_eq!(text.len(), 56);
        assert_eq!(text.parse::<LogId>().unwrap(), id(1_700_000_000_000_000_000));
        assert!(id(1) < id(2) && id(1).to_string() < id(2).to_string());
        assert!("xyz".parse::<LogId>().is_err());
    }

    #[test]
    fn a_replay_has_one_id_per_dead_letter_and_tenant() {
        let (a, b) = (Tenant::new("a").unwrap(), Tenant::new("b").unwrap());
        assert_eq!(BatchId::of_replay(&a, 1), BatchId::of_replay(&a, 1));
        assert_ne!(BatchId::of_replay(&a, 1), BatchId::of_replay(&a, 2));
        assert_ne!(BatchId::of_replay(&a, 1), BatchId::of_replay(&b, 1));
    }

    #[test]
    fn a_part_has_one_id_per_sender_and_request_and_never_an_age() {
        let (a, b) = (Tenant::new("a").unwrap(), Tenant::new("b").unwrap());
        let id = BatchId::of_part(&a, "t", [1; 16], 0);
        assert_eq!(BatchId::of_part(&a, "t", [1; 16], 0), id);
        for other in [
            BatchId::of_part(&b, "t", [1; 16], 0),
            BatchId::of_part(&a, "u", [1; 16], 0),
            BatchId::of_part(&a, "t", [2; 16], 0),
            BatchId::of_part(&a, "t", [1; 16], 1),
        ] {
            assert_ne!(other, id);
        }
        let aged = |part| BatchId::of_part(&a, "t", [1; 16], part).minted_unix_ms().is_some();
        assert!(!(0..1_000).any(aged));
    }

    #[test]
    fn only_a_uuid_v7_tells_its_age() {
        let now = uuid::Uuid::now_v7();
        assert!(BatchId(now.into_bytes()).minted_unix_ms().unwrap() > 1_600_000_000_000);
        assert_eq!(BatchId([1; 16]).minted_unix_ms(), None);
        // Random bytes that happen to have a UUIDv7's version and variant.
        let mut random = [0x01; 16];
        (random[6], random[8]) = (0x7a, 0x9b);
        assert_eq!(BatchId(random).minted_unix_ms(), None);
    }
}
