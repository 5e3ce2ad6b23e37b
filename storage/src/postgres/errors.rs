//! What can go wrong inside, before it is told to a caller: the one place that reads SQLSTATEs.

use std::{error::Error, io};

use deadpool_postgres::PoolError;
use tokio_postgres::error::{DbError, SqlState};
use tokio_rustls::rustls;

use crate::StorageError;

/// An error on its way out.
#[derive(Debug)]
pub(super) enum Fault {
    /// The values at hand cannot be stored, and why.
    Data(String),
    /// Anything that PostgreSQL, or the way to it, reports.
    Postgres(tokio_postgres::Error),
    /// No connection was to be had.
    Pool(String),
    /// An answer to the caller.
    Answer(StorageError),
}

impl Fault {
    /// Something stored that cannot be read back.
    pub(super) fn corrupt(what: impl Into<String>) -> Self {
        Self::Answer(StorageError::Corrupt(what.into()))
    }

    /// Values that cannot be stored.
    pub(super) fn data(cause: &str) -> Self {
        Self::Data(cause.to_owned())
    }

    /// Another transaction came in between; the next attempt finds it done.
    pub(super) fn passing(cause: &str) -> Self {
        Self::Answer(StorageError::Unavailable(cause.into()))
    }

    /// The cause if the values at hand are to blame, so that bisecting helps.
    pub(super) fn data_cause(&self) -> Option<String> {
        match self {
            Self::Data(cause) => Some(cause.clone()),
            Self::Postgres(error) => {
                let error = error.as_db_error()?;
                (kind(error) == Kind::Data).then(|| error.message().to_owned())
            }
            Self::Pool(_) | Self::Answer(_) => None,
        }
    }

    /// Whether a log fell on a day that has no partition.
    pub(super) fn lacks_partition(&self) -> bool {
        matches!(self, Self::Postgres(error) if error.as_db_error().is_some_and(lacks_partition))
    }

    /// For the caller; `place` names the database.
    pub(super) fn into_storage_error(self, place: &str) -> StorageError {
        match self {
            Self::Postgres(error) => match error.as_db_error().map(kind) {
                Some(Kind::DiskFull) => StorageError::DiskFull { place: place.to_owned() },
                Some(Kind::Unusable) => {
                    StorageError::Unusable { place: place.to_owned(), source: Box::new(error) }
                }
                Some(Kind::Corrupt) => StorageError::Corrupt(error.to_string()),
                None if is_distrust(&error) => {
                    StorageError::Unusable { place: place.to_owned(), source: Box::new(error) }
                }
                // What is not from the server is from the connection to it.
                Some(Kind::Passing) | None => StorageError::Unavailable(Box::new(error)),
                Some(Kind::Data | Kind::Other) => StorageError::Broken(Box::new(error)),
            },
            Self::Pool(cause) => StorageError::Unavailable(cause.into()),
            Self::Data(cause) => StorageError::Broken(cause.into()),
            Self::Answer(error) => error,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// The values are to blame.
    Data,
    /// The server's disk has no room.
    DiskFull,
    /// Waiting may help.
    Passing,
    /// The database, or the right to it, is not there.
    Unusable,
    /// What is stored is damaged.
    Corrupt,
    Other,
}

fn kind(error: &DbError) -> Kind {
    let code = error.code();
    if lacks_partition(error) {
        return Kind::Passing;
    }
    if *code == SqlState::DISK_FULL {
        return Kind::DiskFull;
    }
    if [SqlState::DATA_CORRUPTED, SqlState::INDEX_CORRUPTED].contains(code) {
        return Kind::Corrupt;
    }
    match code.code().get(..2) {
        // Data exceptions, constraints, limits of the program such as the depth of JSON.
        Some("22" | "23" | "54") => Kind::Data,
        // Connection, insufficient resources, intervention of an operator, I/O.
        Some("08" | "53" | "57" | "58") => Kind::Passing,
        // Serialization and deadlock; a standby; a failed transaction; locks.
        Some("40" | "25" | "55") => Kind::Passing,
        // Authorization, no such database or schema, no right.
        Some("28" | "3D" | "3F") => Kind::Unusable,
        _ if *code == SqlState::INSUFFICIENT_PRIVILEGE => Kind::Unusable,
        _ => Kind::Other,
    }
}

/// Whether the server's certificate, or it ours, is not to be trusted.
fn is_distrust(error: &tokio_postgres::Error) -> bool {
    let cause = error.source().and_then(|cause| cause.downcast_ref::<io::Error>());
    cause.and_then(io::Error::get_ref).is_some_and(|inner| inner.is::<rustls::Error>())
}

/// Reported as the violation of a constraint that has no name.
fn lacks_partition(error: &DbError) -> bool {
    *error.code() == SqlState::CHECK_VIOLATION && error.constraint().is_none()
}

impl From<tokio_postgres::Error> for Fault {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Postgres(error)
    }
}

impl From<PoolError> for Fault {
    fn from(error: PoolError) -> Self {
        match error {
            PoolError::Backend(error) => Self::Postgres(error),
            other => Self::Pool(other.to_string()),
        }
    }
}

impl From<StorageError> for Fault {
    fn from(error: StorageError) -> Self {
        Self::Answer(error)
    }
}
