//! What can go wrong between a file and its acknowledgement.

use std::{
    io,
    path::{Path, PathBuf},
};

use tonic::Status;

/// Why a shipment ended before its end.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The inputs cannot be used as they were named. The text says which and why.
    #[error("{0}")]
    Inputs(String),
    /// Files are to be sent, and there is no directory to note how far.
    #[error("no directory is known where to note what is sent")]
    NoJournal,
    /// Another process ships with the same notes.
    #[error("another process uses the journal {}", .0.display())]
    JournalInUse(PathBuf),
    /// Another process reads the same files, and notes it in the same place.
    #[error("another process sends {} already", .0.display())]
    AlreadySending(PathBuf),
    /// The notes of an earlier run cannot be read.
    #[error("the journal {} is damaged ({detail}): move it away to start over", path.display())]
    Journal {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        detail: String,
    },
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
    /// The server refuses every batch of this sender, or of this service, until something is
    /// changed.
    #[error("the server refuses logs of service {service:?}: {}", status.message())]
    Refused {
        /// The service of the batch that was refused.
        service: String,
        /// The server's words.
        status: Status,
    },
    /// No server answered within the patience. Empty if none was reached at all.
    #[error("no server answered in time: {0}")]
    OutOfTime(String),
    /// Ended by the user, or because the other side of a channel failed first.
    #[error("interrupted")]
    Interrupted,
}

pub(crate) fn file_error(action: &'static str, path: &Path, source: io::Error) -> Error {
    Error::File { action, path: path.to_owned(), source }
}
