//! Logs as a compressed column block: pure, without I/O.
//!
//! A block holds logs of one tenant, in the order given; sorted by service and then by arrival they
//! compress best. It is written once and never changed. Everything comes back exactly as it was,
//! floating-point numbers to the bit.
//!
//! # Form
//!
//! A magic with the version, a checksum of all that follows, the number of rows, and four sections
//! of columns: what every search looks at (origin, time, level, template, skeleton of the message),
//! the messages, the details, the attributes. A section is decompressed as a whole when one of its
//! columns is first needed. Messages are split into skeletons and variable words (see `texts`),
//! numbers coded as what they are (see `integers`); Zstandard does the rest.
//!
//! # Failure
//!
//! Bytes that are no block, or were damaged, give [`BlockError::Corrupt`], never a panic. A row
//! that cannot be stored gives [`BlockError::Unstorable`] with its position; nothing is stored
//! then.

mod attributes;
mod bloom;
mod bytes;
mod categories;
mod columns;
mod encode;
mod integers;
mod levels;
mod numbers;
mod open;
mod phrases;
mod scan;
mod section;
mod texts;
mod words;

#[cfg(test)]
mod tests;

use logweir_core::{
    identity::{BatchId, Service, TemplateId},
    record::{ScoredRecord, StoredLog},
};

pub use self::{bloom::may_match, encode::Encoder, open::Block, scan::Window};

/// What a block begins with; the last byte is the version of the form.
const MAGIC: &[u8] = b"LWB\x01";
/// Most logs in a block.
// Far above what is ever written (a merge has 80 Ki): it bounds what a damaged count may allocate.
const ROWS_MAX: usize = 1 << 20;
/// Units of event time, nanoseconds, coarsest first.
// Many loggers write milliseconds. Kept as nanoseconds each would carry twenty bits that say
// nothing, and no coding of integers sees that they all are multiples of a million.
const TIME_SCALES: [i64; 4] = [1_000_000_000, 1_000_000, 1_000, 1];

/// One log on its way into a block; its index and time are in the record.
#[derive(Debug, Clone, Copy)]
pub struct Row<'a> {
    /// The batch it came in.
    pub batch_id: BatchId,
    /// When the server received it.
    pub received_unix_nano: i64,
    /// Its service.
    pub service: &'a Service,
    /// Its instance.
    pub instance: &'a str,
    /// Its environment.
    pub environment: &'a str,
    /// The log and its score.
    pub scored: &'a ScoredRecord,
}

impl<'a> From<&'a StoredLog> for Row<'a> {
    fn from(log: &'a StoredLog) -> Self {
        Self {
            batch_id: log.id.batch_id,
            received_unix_nano: log.received_at.as_unix_nanos(),
            service: &log.service,
            instance: &log.instance,
            environment: &log.environment,
            scored: &log.scored,
        }
    }
}

/// How hard to try to make a block small.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effort {
    /// In the writer's transaction: fast.
    Fresh,
    /// In a background merge, once per log: smaller.
    Merged,
}

/// Why a block could not be made or read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BlockError {
    /// This row cannot be stored, and never will be.
    #[error("row {row} cannot be stored: {detail}")]
    Unstorable {
        /// Its position among the rows given.
        row: usize,
        /// The field and the rule it breaks.
        detail: String,
    },
    /// The rows together are more than a block can hold; fewer will do.
    #[error("too much for one block: {0}; split the rows")]
    TooLarge(&'static str),
    /// The bytes are not a block that this program wrote, or were damaged since.
    #[error("the block is damaged: {0}")]
    Corrupt(&'static str),
}

/// A block as made by [`Encoder::encode`].
#[derive(Debug, Clone, PartialEq)]
pub struct EncodedBlock {
    /// For pruning without opening it.
    pub summary: Summary,
    /// Filter over its words, templates and traces; see [`may_match`].
    pub word_filter: Vec<u8>,
    /// The block; see [`Block::open`].
    pub body: Vec<u8>,
}

/// What is in a block.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Summary {
    /// Logs.
    pub rows: u32,
    /// Earliest event time.
    pub time_min_unix_nano: i64,
    /// Latest event time.
    pub time_max_unix_nano: i64,
    /// Bit `level as u8` is set for each level that occurs.
    pub level_mask: u8,
    /// Whether any log was judged an anomaly.
    pub has_anomaly: bool,
    /// What it holds of each service, by name.
    pub parts: Vec<ServicePart>,
    /// The templates, ascending.
    pub template_ids: Vec<TemplateId>,
    /// Bytes of messages, loggers and attributes before compression, about.
    pub text_bytes: u64,
}

/// What a block holds of one service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServicePart {
    /// The service.
    pub service: Service,
    /// Its logs.
    pub rows: u32,
    /// Earliest event time.
    pub time_min_unix_nano: i64,
    /// Latest event time.
    pub time_max_unix_nano: i64,
    /// Bit `level as u8` is set for each level that occurs.
    pub level_mask: u8,
    /// Whether any log was judged an anomaly.
    pub has_anomaly: bool,
}
