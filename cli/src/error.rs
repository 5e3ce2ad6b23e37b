//! What can go wrong in a command, and the exit code that says so.

use std::{error::Error as _, io, path::PathBuf, process::ExitCode};

use logweir_core::runtime::config::ConfigError;
use logweir_storage::StorageError;
use tonic::{Code, Status};
use tonic_types::StatusExt;

/// How a command ended. The numbers are documented in `logweir --help` and never change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Done.
    Done = 0,
    /// Failed.
    Failed = 1,
    /// Used wrongly.
    Usage = 2,
    /// The server cannot be reached, or cannot answer now.
    Unavailable = 3,
    /// The token is missing, or does not allow it.
    Refused = 4,
    /// Done in part: some logs were rejected, or what was asked for is not there.
    Partial = 5,
    /// Interrupted by the user: 128 and SIGINT's number, as shells report it.
    Interrupted = 130,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Used wrongly.
    #[error("{0}")]
    Usage(String),
    /// Cannot be reached.
    #[error("{0}")]
    Unavailable(String),
    /// No token, or one that does not allow what was asked for.
    #[error("{0}")]
    Refused(String),
    /// Not there.
    #[error("{0}")]
    Missing(String),
    /// Ended by the user, or because the other side of a channel failed first.
    #[error("interrupted")]
    Interrupted,
    /// The server answered with an error.
    #[error("{}", explain(.0))]
    Server(Status),
    /// The file system answered with an error.
    #[error("cannot {action} {}", path.display())]
    File {
        /// What was tried, as a verb: `read`, `create`.
        action: &'static str,
        /// The file or the directory.
        path: PathBuf,
        /// What the file system answered.
        source: io::Error,
    },
    /// Files or the notes about them cannot be read or written while they are sent.
    #[error(transparent)]
    Ship(logweir_ship::Error),
    /// An evaluation could not go on.
    #[error(transparent)]
    Evaluate(logweir_evaluate::Error),
}

impl From<logweir_evaluate::Error> for Error {
    fn from(error: logweir_evaluate::Error) -> Self {
        match error {
            logweir_evaluate::Error::Input(text) => Self::Usage(text),
            other => Self::Evaluate(other),
        }
    }
}

/// Not a source: its text says it all already.
impl From<Status> for Error {
    fn from(status: Status) -> Self {
        match status.source() {
            // Made on this side of a connection that ended, such as one that only looked like ours.
            Some(cause) if !matches!(status.code(), Code::Unavailable | Code::DeadlineExceeded) => {
                Self::Unavailable(format!(
                    "the connection to the server broke: {}; check whether LOGWEIR_ENDPOINT must \
                     begin with https://, and whether the server wants --tls-client-cert",
                    root_cause(cause)
                ))
            }
            _ => Self::Server(status),
        }
    }
}

/// The last of the causes.
pub fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

impl Error {
    /// The exit code.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Usage(_) => Exit::Usage,
            Self::Unavailable(_) => Exit::Unavailable,
            Self::Refused(_) => Exit::Refused,
            Self::Missing(_) => Exit::Partial,
            Self::Interrupted => Exit::Interrupted,
            Self::Server(status) => exit_of_code(status.code()),
            Self::File { .. } | Self::Ship(_) | Self::Evaluate(_) => Exit::Failed,
        }
    }
}

/// The exit code for any error of a command.
pub fn exit_of(error: &anyhow::Error) -> Exit {
    let of_cause = |cause: &(dyn std::error::Error + 'static)| {
        if let Some(error) = cause.downcast_ref::<Error>() {
            return Some(error.exit());
        }
        match cause.downcast_ref::<StorageError>() {
            Some(StorageError::NotFound(_)) => return Some(Exit::Partial),
            Some(StorageError::Unavailable(_)) => return Some(Exit::Unavailable),
            _ => {}
        }
        cause.is::<ConfigError>().then_some(Exit::Usage)
    };
    // The outermost cause that has a code: it says most about what the person did.
    error.chain().find_map(of_cause).unwrap_or(Exit::Failed)
}

/// Whether the reader of our output has gone away, which is no failure of ours.
pub fn is_broken_pipe(error: &anyhow::Error) -> bool {
    // `logweir export | head` closes the pipe after ten lines; Rust ignores SIGPIPE, so it comes as
    // an error of a write.
    let kind = |cause: &(dyn std::error::Error + 'static)| {
        cause.downcast_ref::<io::Error>().map(io::Error::kind)
    };
    error.chain().any(|cause| kind(cause) == Some(io::ErrorKind::BrokenPipe))
}

/// The exit code for a gRPC status code.
pub fn exit_of_code(code: Code) -> Exit {
    match code {
        // A limit that is exhausted fills again: a script may try later, as with the others.
        Code::Unavailable | Code::DeadlineExceeded | Code::ResourceExhausted => Exit::Unavailable,
        Code::Unauthenticated | Code::PermissionDenied => Exit::Refused,
        Code::InvalidArgument => Exit::Usage,
        Code::NotFound => Exit::Partial,
        _ => Exit::Failed,
    }
}

/// A status in a person's words: what is wrong and what to do.
pub fn explain(status: &Status) -> String {
    let details = status.get_error_details();
    let fields: Vec<_> = details
        .bad_request()
        .map(|bad| &bad.field_violations[..])
        .unwrap_or_default()
        .iter()
        .map(|violation| format!("{}: {}", violation.field, violation.description))
        .collect();
    let message = status.message();
    // The violations and not the message as well, which is the same in other words.
    let mut text = if fields.is_empty() { message.to_owned() } else { fields.join("; ") };
    if let Some(delay) = details.retry_info().and_then(|info| info.retry_delay) {
        text.push_str(&format!(" (try again in {:.1} s)", delay.as_secs_f64()));
    }
    match status.code() {
        Code::Unauthenticated => {
            format!("the server does not accept the token: {text}")
        }
        Code::PermissionDenied => format!("the token does not allow this: {text}"),
        Code::Unavailable => format!("the server cannot answer now: {text}"),
        Code::DeadlineExceeded => format!("the server did not answer in time: {text}"),
        Code::Unimplemented => format!("the server does not know this request: {text}"),
        Code::InvalidArgument
        | Code::NotFound
        | Code::ResourceExhausted
        | Code::FailedPrecondition => text,
        code => format!("the server failed ({code:?}): {text}"),
    }
}

#[cfg(test)]
mod tests {
    use tonic_types::ErrorDetails;

    use super::*;

    #[test]
    fn a_bad_request_names_its_fields() {
        let details = ErrorDetails::with_bad_request_violation("page_size", "at most 1,000");
        let status = Status::with_error_details(Code::InvalidArgument, "bad request", details);
        let error = Error::from(status);
        assert_eq!(error.to_string(), "page_size: at most 1,000");
        assert_eq!(error.exit(), Exit::Usage);
    }

    #[test]
    fn each_kind_has_its_exit_code() {
        let cases = [
            (Code::Unavailable, Exit::Unavailable),
            (Code::Unauthenticated, Exit::Refused),
            (Code::NotFound, Exit::Partial),
            (Code::Internal, Exit::Failed),
        ];
        for (code, exit) in cases {
            let error = anyhow::Error::from(Error::from(Status::new(code, "why")));
            assert_eq!(exit_of(&error.context("while asking")), exit, "{code:?}");
        }
    }

    #[test]
    fn a_closed_pipe_is_told_from_other_errors() {
        let error = anyhow::Error::from(io::Error::from(io::ErrorKind::BrokenPipe));
        assert!(is_broken_pipe(&error.context("printing")));
        assert!(!is_broken_pipe(&anyhow::anyhow!("other")));
    }
}
