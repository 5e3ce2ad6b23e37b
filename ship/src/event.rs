//! What a person should hear while a shipment is under way.

use std::{io, path::PathBuf};

/// Something that happened on the way and does not end it.
#[derive(Debug)]
pub enum Event {
    /// An earlier run left this many logs noted but not acknowledged; they are sent first.
    Resumed {
        /// How many logs wait to be sent again.
        logs: usize,
    },
    /// The server has not answered for [`SILENCE_MAX`](crate::pipeline::SILENCE_MAX); said once
    /// until it answers.
    Unanswered,
    /// A followed file became shorter than what was read of it: it is read from its beginning.
    Truncated(PathBuf),
    /// A file that was compressed while following: its lines were read before.
    PassedOver(PathBuf),
    /// A file cannot be read, or not to its end; the others go on.
    Unreadable(PathBuf, io::Error),
}
