//! How the level that a sender gave is written, beside the level that the log has.

/// The sender's level is the log's.
pub(super) const SENT_AS_IS: i64 = 0;
/// The sender gave none; added to it, the level that the sender gave.
pub(super) const SENT_OTHER: i64 = 1;
