//! A stream, whichever form it came in.

/// Entries with the same labels.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Stream {
    pub(super) labels: Vec<(String, String)>,
    /// What cannot be a log says why.
    pub(super) entries: Vec<Result<Entry, String>>,
}

/// A line.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Entry {
    pub(super) time_unix_nano: u64,
    pub(super) line: String,
    pub(super) metadata: Vec<(String, String)>,
    /// Whether bytes that are no UTF-8 became U+FFFD in it.
    pub(super) has_invalid_utf8: bool,
}
