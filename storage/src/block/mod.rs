//! Logs as a compressed column block: pure, without I/O.
//!
//! A block holds logs of one tenant, in the order given; sorted by service and then by arrival they
//! compress best. It is written once and never changed. Everything comes back exactly as it was,
//! floating-point numbers to the bit.
use logweir_core::{
    filter::Filter,
    identity::{BatchId, LogId, Service, TemplateId},
    record::{ScoredRecord, StoredLog},
};

use crate::query::TimeRange;

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
    /// The log and its verdict.
    pub scored: &'a ScoredRecord,
}

impl<'a> From<&'a StoredLog> for Row<'a> {
    fn from(log: &'a StoredLog) -> Self {
        Self {
            batch_id: log.id.batch_id,
            received_unix_nano: log.received_unix_nano,
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
    /// The services, ascending.
    pub services: Vec<Service>,
    /// The templates, ascending.
    pub template_ids: Vec<TemplateId>,
}

/// Makes blocks, keeping its buffers from one to the next.
#[derive(Default)]
pub struct Encoder {}

impl Encoder {
    /// An encoder.
    pub fn new() -> Self {
        Self::default()
    }

    /// Encodes rows in the order given; at least one.
    pub fn encode(&mut self, rows: &[Row<'_>], effort: Effort) -> Result<EncodedBlock, BlockError> {
        drop((rows, effort));
        Err(BlockError::TooLarge("not there yet"))
    }
}

/// Which rows of a block are of interest, besides what a filter says.
#[derive(Debug, Clone, Copy)]
pub struct Window {
    /// Event time.
    pub range: TimeRange,
    /// Only ids greater than this.
    pub after: Option<LogId>,
    /// Only ids less than this.
    pub before: Option<LogId>,
}

impl Window {
    /// Every row.
    pub const ALL: Self = Self { range: TimeRange::ALL, after: None, before: None };
}

/// An encoded block, opened; columns are decompressed when first needed.
pub struct Block<'a> {
    body: &'a [u8],
}

impl<'a> Block<'a> {
    /// Checks magic, version and checksum.
    pub fn open(body: &'a [u8]) -> Result<Self, BlockError> {
        Ok(Self { body })
    }

    /// How many logs it holds, at least 1.
    pub fn row_count(&self) -> usize {
        self.body.len()
    }

    /// The rows in the window that match, ascending by row (not by time).
    pub fn matching(&self, filter: &Filter, window: &Window) -> Result<Vec<u32>, BlockError> {
        drop((filter, window));
        Err(BlockError::Corrupt("not there yet"))
    }

    /// The id of a row.
    pub fn id(&self, row: u32) -> Result<LogId, BlockError> {
        drop(row);
        Err(BlockError::Corrupt("not there yet"))
    }

    /// The row with this id.
    pub fn find(&self, id: LogId) -> Result<Option<u32>, BlockError> {
        drop(id);
        Err(BlockError::Corrupt("not there yet"))
    }

    /// A row.
    pub fn log(&self, row: u32) -> Result<StoredLog, BlockError> {
        drop(row);
        Err(BlockError::Corrupt("not there yet"))
    }

    /// All rows in order.
    pub fn logs(&self) -> Result<Vec<StoredLog>, BlockError> {
        Err(BlockError::Corrupt("not there yet"))
    }
}

/// Whether a block with this word filter may hold a match; `true` if in doubt.
pub fn may_match(word_filter: &[u8], filter: &Filter) -> bool {
    drop((word_filter, filter));
    true
}
