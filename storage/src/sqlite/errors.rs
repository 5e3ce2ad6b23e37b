//! What can go wrong inside, before it is told to a caller: the one place that reads SQLite's
//! codes.

use rusqlite::ErrorCode;

use crate::{StorageError, block::BlockError};

/// An error on its way out.
#[derive(Debug)]
pub(super) enum Fault {
    /// The disk has no room.
    DiskFull,
    /// The values at hand cannot be stored, and why.
    Data(String),
    /// Anything else that SQLite reports.
    Sqlite(rusqlite::Error),
    /// An answer to the caller; the connection is fine.
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

    /// The cause if the values at hand are to blame, so that bisecting helps.
    pub(super) fn data_cause(&self) -> Option<String> {
        // Only what the values themselves cause. Were a lock or a full disk among them, bisection
        // would blame each log in turn and dead-letter a whole sound batch.
        use ErrorCode::{ConstraintViolation, TooBig, TypeMismatch};
        match self {
            Self::Data(cause) => Some(cause.clone()),
            Self::Sqlite(error) => {
                let code = error.sqlite_error_code();
                let is_data = matches!(code, Some(ConstraintViolation | TooBig | TypeMismatch));
                is_data.then(|| error.to_string())
            }
            Self::DiskFull | Self::Answer(_) => None,
        }
    }

    /// For the caller.
    pub(super) fn into_storage_error(self, directory: &std::path::Path) -> StorageError {
        match self {
            Self::DiskFull => StorageError::DiskFull { place: directory.display().to_string() },
            Self::Sqlite(error) => match error.sqlite_error_code() {
                Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                    StorageError::Corrupt(error.to_string())
                }
                Some(code) if passes(code) => StorageError::Unavailable(Box::new(error)),
                None if is_misread(&error) => StorageError::Corrupt(error.to_string()),
                // A missing table or a read-only file: waiting does not help, a person has to act.
                _ => StorageError::Broken(Box::new(error)),
            },
            Self::Data(cause) => StorageError::Broken(cause.into()),
            Self::Answer(error) => error,
        }
    }
}

/// Whether a value in a table is not what this program puts there.
const fn is_misread(error: &rusqlite::Error) -> bool {
    use rusqlite::Error::{FromSqlConversionFailure, IntegralValueOutOfRange, InvalidColumnType};
    matches!(
        error,
        FromSqlConversionFailure(..) | IntegralValueOutOfRange(..) | InvalidColumnType(..)
    )
}

/// Whether waiting may help.
const fn passes(code: ErrorCode) -> bool {
    use ErrorCode::{
        CannotOpen, DatabaseBusy, DatabaseLocked, FileLockingProtocolFailed, OperationAborted,
        OperationInterrupted, OutOfMemory, SchemaChanged, SystemIoFailure,
    };
    matches!(
        code,
        CannotOpen
            | DatabaseBusy
            | DatabaseLocked
            | FileLockingProtocolFailed
            | OperationAborted
            | OperationInterrupted
            | OutOfMemory
            | SchemaChanged
            | SystemIoFailure
    )
}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Self {
        if error.sqlite_error_code() == Some(ErrorCode::DiskFull) {
            Self::DiskFull
        } else {
            Self::Sqlite(error)
        }
    }
}

impl From<StorageError> for Fault {
    fn from(error: StorageError) -> Self {
        Self::Answer(error)
    }
}

impl From<BlockError> for Fault {
    fn from(error: BlockError) -> Self {
        Self::corrupt(error.to_string())
    }
}
