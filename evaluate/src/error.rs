//! What can go wrong in an evaluation.

use std::{io, path::PathBuf};

use logweir_core::identity::IdentityError;

/// Why an evaluation could not go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file does not hold what it should. The text says where and what.
    #[error("{0}")]
    Input(String),
    /// The file system answered with an error.
    #[error("cannot {action} {}", path.display())]
    File {
        /// What was tried, as a verb: `read`, `write`.
        action: &'static str,
        /// The file or the directory.
        path: PathBuf,
        /// What the file system answered.
        source: io::Error,
    },
    /// A table cannot be read or written.
    #[error(transparent)]
    Table(#[from] csv::Error),
    /// A report cannot be written.
    #[error(transparent)]
    Report(#[from] serde_json::Error),
    /// A service that no server would take.
    #[error(transparent)]
    Service(#[from] IdentityError),
}
