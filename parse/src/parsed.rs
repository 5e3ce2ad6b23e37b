//! What reading is given besides a text, and what comes of it. Pure.

use chrono_tz::Tz;
use logweir_core::{record::Record, timestamp::Timestamp};

/// What a text does not say about itself.
#[derive(Debug, Clone, Copy)]
pub struct Context {
    /// The present: a time without a year is the latest such moment.
    pub now: Timestamp,
    /// The latest time that is taken for one; a later one stays an attribute.
    pub latest: Timestamp,
    /// The zone of times that name none.
    pub zone: Tz,
}

impl Context {
    /// Times of any year, in UTC where they name no zone.
    pub const fn at(now: Timestamp) -> Self {
        Self { now, latest: Timestamp::MAX, zone: Tz::UTC }
    }
}

/// What a text was recognised as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Format {
    /// A JSON object.
    Json,
    /// Nearly a JSON object: read as far as it goes.
    DamagedJson,
    /// Pairs of keys and values.
    Logfmt,
    /// Syslog.
    Syslog,
    /// Kubernetes' own logs.
    Klog,
    /// An access log of a web server.
    AccessLog,
    /// Text, perhaps with a time and a level.
    #[default]
    Text,
}

impl Format {
    /// The name that people see.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::DamagedJson => "damaged json",
            Self::Logfmt => "logfmt",
            Self::Syslog => "syslog",
            Self::Klog => "klog",
            Self::AccessLog => "access log",
            Self::Text => "text",
        }
    }
}

/// What a person should know of how a text was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Notes {
    /// What it was recognised as.
    pub format: Format,
    /// A field of the level says nothing that is one.
    pub has_unknown_level: bool,
    /// Letters where a zone would stand name none.
    pub has_unknown_zone: bool,
}

/// A text, read.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Parsed {
    /// When it happened; none if the text does not say.
    pub time: Option<Timestamp>,
    /// The service that the text names.
    pub service: Option<String>,
    /// Everything else. Its time is not set.
    pub record: Record,
    /// How it was read.
    pub notes: Notes,
}
