//! What the suite is given: a storage that can be opened again and again, and the time.

use logweir_core::timestamp::Timestamp;
use std::sync::Arc;

use async_trait::async_trait;

use crate::Storage;

/// What the clock given to a storage under test has to say: 2023-11-14 22:13:20 UTC. An
/// implementation takes the time from there alone, never from its database, but for the age of
/// heartbeats.
pub const NOW: Timestamp = Timestamp::from_unix_seconds(1_700_000_000);

/// A storage under test. It keeps ledger entries for 48 hours and deletes no logs.
#[async_trait]
pub trait StorageUnderTest: Send + Sync {
    /// Opens it: empty at first, and with what it held after everything opened before was dropped.
    async fn open(&self) -> Arc<dyn Storage>;
}
