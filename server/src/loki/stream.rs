//! A stream, whichever form it came in.

/// Entries with the same labels.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Stream {
    pub(super) labels: Vec<(String, String)>,
    pub(super) entries: Vec<Entry>,
}

/// A line.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Entry {
    pub(super) time_unix_nano: u64,
    pub(super) line: String,
    pub(super) metadata: Vec<(String, String)>,
}
