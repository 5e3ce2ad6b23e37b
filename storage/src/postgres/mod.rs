//! Storage in PostgreSQL: rows, because people query them with SQL; with TimescaleDB where it is
//! there, with partitions by day elsewhere.
//!
//! Any number of processes may have it open. Everything works through PgBouncer in transaction mode:
//! no state of a session, no statement by name that outlives its transaction, only locks that end with
//! one. A lost connection is `Unavailable`; the next call takes another one.
//!
//! Limits: [`PostgresConfig`]. A call waits 5 s at most for a connection to come free.

mod administer;
mod aggregate;
mod config;
mod dead_letters;
mod faults;
mod filter;
mod ports;
mod reports;
mod rows;
mod search;
mod statement;
mod texts;
mod values;
mod walk;

use std::sync::Arc;

use deadpool_postgres::{Object, Pool};
use logweir_core::runtime::clock::Clock;

pub use self::config::PostgresConfig;
use self::faults::Fault;
use crate::StorageError;

/// PostgreSQL as storage.
pub struct PostgresStorage {
    pool: Pool,
    clock: Clock,
    config: PostgresConfig,
    /// The database as a person knows it, without secrets.
    place: Arc<str>,
}

impl PostgresStorage {
    /// Connects and brings the schema to the version that this program knows; any number of
    /// processes may do so at once.
    pub async fn open(config: &PostgresConfig, clock: Clock) -> Result<Self, StorageError> {
        let (pool, place) = config.pool()?;
        let storage = Self { pool, clock, config: config.clone(), place };
        drop(storage.connection().await?);
        Ok(storage)
    }

    /// A connection of the pool's; it goes back when it is dropped.
    async fn connection(&self) -> Result<Object, StorageError> {
        self.pool.get().await.map_err(|error| self.told(Fault::from(error)))
    }

    /// What a fault is to a caller.
    fn told(&self, fault: Fault) -> StorageError {
        fault.into_storage_error(&self.place)
    }
}
