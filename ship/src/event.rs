//! What a person should hear while a shipment is under way.

use std::{io, path::PathBuf};

use crate::error::Error;

/// Something that happened on the way and does not end it.
#[derive(Debug)]
pub enum Event {
    /// An earlier run left this many logs noted but not acknowledged; they are sent first.
    Resumed {
        /// How many logs wait to be sent again.
        logs: u64,
    },
    /// The server has not answered for [`SILENCE_MAX`](crate::pipeline::SILENCE_MAX); said once
    /// until it answers.
    Unanswered,
    /// A file no longer holds what was read of it: it is read from its beginning. What was added
    /// after the last look and before the truncation is in a copy of it, or lost.
    Truncated(PathBuf),
    /// A file holds what was read of another one: only what comes after that is sent.
    SameContent {
        /// The file.
        path: PathBuf,
        /// Where that was read.
        original: PathBuf,
    },
    /// A file or folder to follow is not there; said once.
    Waiting(PathBuf),
    /// So many files are not read, because there are more than can be kept track of.
    LeftOut {
        /// How many more than before.
        files: u64,
    },
    /// Nothing can be noted, so that what is not acknowledged when it ends is lost.
    NotNoted(Error),
    /// A file cannot be read, or not to its end; the others go on.
    Unreadable(PathBuf, io::Error),
}
