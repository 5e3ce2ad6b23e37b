//! A log on its way: as received, and as understood.

use std::{collections::HashMap, fmt, str::FromStr, sync::Arc};

use xxhash_rust::xxh3::Xxh3;

use crate::{
    identity::{BatchId, LogId, ProducerId, Service, TemplateId, Tenant},
    timestamp::Timestamp,
};

/// How serious a log is. Ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(u8)]
pub enum Level {
    /// Finest detail.
    Trace = 1,
    /// For the developer.
    Debug = 2,
    /// Normal operation.
    #[default]
    Info = 3,
    /// Unexpected, but handled.
    Warn = 4,
    /// An operation failed.
    Error = 5,
    /// The process cannot go on.
    Fatal = 6,
}

impl Level {
    /// `informational`, the longest of its names, bytes.
    pub const NAME_BYTES_MAX: usize = 13;
    /// Every level, lowest first.
    pub const ALL: [Self; 6] =
        [Self::Trace, Self::Debug, Self::Info, Self::Warn, Self::Error, Self::Fatal];

    /// The name in capitals.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Trace => "TRACE",
            Self::Debug => "DEBUG",
            Self::Info => "INFO",
            Self::Warn => "WARN",
            Self::Error => "ERROR",
            Self::Fatal => "FATAL",
        }
    }

    /// The level with this number, 1 to 6.
    pub const fn from_number(number: u8) -> Option<Self> {
        if number >= 1 && number <= 6 { Some(Self::ALL[number as usize - 1]) } else { None }
    }

    /// OpenTelemetry's severity 1–24 in groups of four (Logs Data Model, "Mapping of
    /// SeverityNumber").
    pub const fn from_severity_number(severity: u8) -> Option<Self> {
        if severity >= 1 && severity <= 24 {
            Self::from_number((severity - 1) / 4 + 1)
        } else {
            None
        }
    }

    /// Whether it counts as an error in every rate.
    pub const fn is_error(self) -> bool {
        matches!(self, Self::Error | Self::Fatal)
    }
}

impl FromStr for Level {
    type Err = ();

    /// Reads the usual spellings in any case, such as `warning`, `err`, `crit`, `notice`.
    fn from_str(text: &str) -> Result<Self, ()> {
        let mut lower = [0; Self::NAME_BYTES_MAX];
        let lower = lower.get_mut(..text.len()).ok_or(())?;
        lower.copy_from_slice(text.as_bytes());
        lower.make_ascii_lowercase();
        // Of syslog, log4j, Python, Go, java.util.logging, .NET and Node's loggers, with the short
        // forms of zerolog, logrus and Serilog. `alert` and `emerg` are above critical in syslog,
        // and `notice` is below its warning.
        match &*lower {
            b"trace" | b"trce" | b"trc" | b"vrb" | b"finest" | b"silly" | b"verbose" => {
                Ok(Self::Trace)
            }
            b"debug" | b"dbg" | b"dbug" | b"debu" | b"fine" => Ok(Self::Debug),
            b"info" | b"success" | b"inf" | b"information" | b"informational" | b"notice" => {
                Ok(Self::Info)
            }
            b"warn" | b"warning" | b"wrn" => Ok(Self::Warn),
            b"error" | b"err" | b"erro" | b"eror" | b"fail" | b"severe" | b"failure" => {
                Ok(Self::Error)
            }
            b"fatal" | b"critical" | b"crit" | b"alert" | b"emerg" | b"emergency" | b"fata"
            | b"ftl" | b"pani" | b"panic" => Ok(Self::Fatal),
            _ => Err(()),
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The value of an attribute.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Text.
    String(String),
    /// A whole number.
    Int(i64),
    /// A number.
    Double(f64),
    /// True or false.
    Bool(bool),
    /// A nested value or null, as JSON text.
    Json(String),
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::String(text) | Self::Json(text) => f.write_str(text),
            Self::Int(number) => number.fmt(f),
            Self::Double(number) => number.fmt(f),
            Self::Bool(truth) => truth.fmt(f),
        }
    }
}

/// A named value.
#[derive(Debug, Clone, PartialEq)]
pub struct Attribute {
    /// The name.
    pub key: String,
    /// The value.
    pub value: Value,
}

impl Attribute {
    /// A named value.
    pub fn new(key: impl Into<String>, value: Value) -> Self {
        Self { key: key.into(), value }
    }

    /// About how much memory it holds, bytes.
    pub fn heap_bytes(&self) -> usize {
        let value = match &self.value {
            Value::String(text) | Value::Json(text) => text.len(),
            Value::Int(_) | Value::Double(_) | Value::Bool(_) => 0,
        };
        size_of::<Self>() + self.key.len() + value
    }
}

/// A log. Fields that the sender left out are empty until the processor derives them.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Record {
    /// Its position in the batch as sent.
    pub index: u32,
    /// Event time.
    pub time: Timestamp,
    /// How serious; none if the sender gave none.
    pub level: Option<Level>,
    /// OpenTelemetry's severity as sent; 0 for none.
    pub severity_number: u8,
    /// The text.
    pub message: String,
    /// Duration of the logged operation, milliseconds, finite and not negative.
    pub latency_ms: Option<f64>,
    /// W3C trace id.
    pub trace_id: Option<[u8; 16]>,
    /// W3C span id.
    pub span_id: Option<[u8; 8]>,
    /// Logger, module or target.
    pub logger: String,
    /// Further named values, each name once.
    pub attributes: Vec<Attribute>,
}

impl Record {
    /// The value of an attribute.
    pub fn attribute(&self, key: &str) -> Option<&Value> {
        // A walk: logs have few attributes, and a map for each would cost more than it saves.
        self.attributes.iter().find(|attribute| attribute.key == key).map(|found| &found.value)
    }

    /// About how much memory it holds, bytes.
    pub fn heap_bytes(&self) -> usize {
        let attributes: usize = self.attributes.iter().map(Attribute::heap_bytes).sum();
        size_of::<Self>() + self.message.len() + self.logger.len() + attributes
    }
}

/// What all logs of a batch have in common.
#[derive(Debug, Clone, PartialEq)]
pub struct Resource {
    /// The service, verified against the token.
    pub service: Service,
    /// Its instance.
    pub instance: String,
    /// Deployment environment.
    pub environment: String,
    /// Version of the service.
    pub version: String,
    /// Region.
    pub region: String,
    /// Host.
    pub host: String,
    /// Further named values.
    pub attributes: Vec<Attribute>,
}

impl Resource {
    /// About how much memory it holds, bytes.
    pub fn heap_bytes(&self) -> usize {
        let attributes: usize = self.attributes.iter().map(Attribute::heap_bytes).sum();
        let Self { instance, environment, version, region, host, .. } = self;
        let fields = [instance, environment, version, region, host].map(String::len);
        fields.iter().sum::<usize>() + attributes
    }

    /// A service about which nothing else is known.
    pub fn of(service: Service) -> Self {
        Self {
            service,
            instance: String::new(),
            environment: String::new(),
            version: String::new(),
            region: String::new(),
            host: String::new(),
            attributes: Vec::new(),
        }
    }
}

/// What a producer had when it built a batch; see `Account` in `ingest.proto`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Account {
    /// Logs handed to the library.
    pub emitted: u64,
    /// Logs given up, by reason.
    pub dropped: Vec<(String, u64)>,
    /// Logs seen rejected.
    pub rejected: u64,
    /// Logs in memory in no batch so far.
    pub queued: u64,
    /// Logs of lower sequences in the spool.
    pub spooled: u64,
}

impl Account {
    /// Logs given up for any reason.
    pub fn dropped_total(&self) -> u64 {
        self.dropped.iter().fold(0, |sum, (_, count)| sum.saturating_add(*count))
    }
}

/// Which program sent a batch, and its account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Producer {
    /// One start of the program.
    pub producer_id: ProducerId,
    /// The number of the batch, from 1.
    pub sequence: u64,
    /// Its account as of that number.
    pub account: Account,
    /// Client library and version, such as `logweir-rust/0.1.0`.
    pub sdk: String,
}

/// A log that cannot be stored as it is, and why.
#[derive(Debug, Clone, PartialEq)]
pub struct RejectedRecord {
    /// The log.
    pub record: Record,
    /// A stable name of the rule it broke.
    pub reason: String,
    /// The rule, the limit and the value, for a person.
    pub detail: String,
}

/// A batch as the server admits it to the queue.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    /// From the verified token.
    pub tenant: Tenant,
    /// Minted by the sender.
    pub batch_id: BatchId,
    /// [`content_checksum`] of what the sender sent.
    pub checksum: u64,
    /// When the server received it.
    pub received_at: Timestamp,
    /// Who sent it, if it said.
    pub producer: Option<Producer>,
    /// What its logs have in common.
    pub resource: Resource,
    /// The logs that passed validation.
    pub records: Vec<Record>,
    /// The logs that did not; they go to the dead letters in the same transaction.
    pub rejected: Vec<RejectedRecord>,
}

impl Batch {
    /// About how much memory it holds, bytes, once each log has the resource's values for its own.
    pub fn heap_bytes(&self) -> usize {
        // The processor gives every log the resource's attributes. A resource of 16 KiB on 10,000
        // logs is 160 MiB then, in a request of a few hundred kilobytes.
        let copies = self.resource.heap_bytes() * (1 + self.records.len());
        let good: usize = self.records.iter().map(Record::heap_bytes).sum();
        let bad: usize = self.rejected.iter().map(|r| r.record.heap_bytes() + r.detail.len()).sum();
        size_of::<Self>() + copies + good + bad
    }

    /// The batch with all its logs rejected as `quarantined`: none is looked at any more, and each
    /// becomes a dead letter as it was sent.
    pub fn quarantined(mut self, detail: &str) -> Self {
        let reject = |record| RejectedRecord {
            record,
            reason: "quarantined".to_owned(),
            detail: detail.to_owned(),
        };
        self.rejected.extend(std::mem::take(&mut self.records).into_iter().map(reject));
        self
    }
}

/// A checksum of a batch's content as sent, before anything is filled in or rejected: XXH3-64 over
/// its resource and records, each field with its length. A retry has the same; the account, which
/// does not describe the logs, is left out.
pub fn content_checksum(resource: &Resource, records: &[Record]) -> u64 {
    // Lengths are hashed too, or `ab` + `c` and `a` + `bc` would be one content. Stored beside
    // every batch and compared for 48 hours: a change makes conflicts of all repeats under way.
    let mut hash = Xxh3::new();
    let text = |hash: &mut Xxh3, text: &str| {
        hash.update(&(text.len() as u32).to_le_bytes());
        hash.update(text.as_bytes());
    };
    for field in [
        resource.service.as_str(),
        &resource.instance,
        &resource.environment,
        &resource.version,
        &resource.region,
        &resource.host,
    ] {
        text(&mut hash, field);
    }
    let attributes = |hash: &mut Xxh3, attributes: &[Attribute]| {
        hash.update(&(attributes.len() as u32).to_le_bytes());
        for Attribute { key, value } in attributes {
            text(hash, key);
            let (kind, number) = match value {
                Value::String(_) => (0, 0),
                Value::Json(_) => (1, 0),
                Value::Int(value) => (2, *value as u64),
                Value::Double(value) => (3, value.to_bits()),
                Value::Bool(value) => (4, u64::from(*value)),
            };
            let mut fixed = [kind; 9];
            fixed[1..].copy_from_slice(&number.to_le_bytes());
            hash.update(&fixed);
            if let Value::String(value) | Value::Json(value) = value {
                text(hash, value);
            }
        }
    };
    attributes(&mut hash, &resource.attributes);
    for record in records {
        let mut fixed = [0; 42];
        fixed[..8].copy_from_slice(&record.time.as_unix_nanos().to_le_bytes());
        fixed[8] = record.level.map_or(0, |level| level as u8);
        fixed[9] = record.severity_number;
        // All bits set is a "not a number" that no latency can be, for it must be finite.
        let latency = record.latency_ms.map_or(u64::MAX, f64::to_bits);
        fixed[10..18].copy_from_slice(&latency.to_le_bytes());
        fixed[18..34].copy_from_slice(&record.trace_id.unwrap_or_default());
        fixed[34..].copy_from_slice(&record.span_id.unwrap_or_default());
        hash.update(&fixed);
        text(&mut hash, &record.message);
        text(&mut hash, &record.logger);
        attributes(&mut hash, &record.attributes);
    }
    hash.digest()
}

/// A log after the processor: complete, templated and scored.
#[derive(Debug, Clone, PartialEq)]
pub struct ScoredRecord {
    /// The log, with what was derived filled in.
    pub record: Record,
    /// How serious: the sender's word, else derived.
    pub level: Level,
    /// The pattern that its message follows.
    pub template_id: TemplateId,
    /// Tail probability turned round: 0 is usual, 1 was never seen.
    pub anomaly_score: f32,
    /// Whether the score passed the threshold.
    pub is_anomaly: bool,
    /// Why, in a person's words; empty unless it is an anomaly.
    pub anomaly_reasons: Vec<String>,
}

/// A pattern of messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    /// Its id.
    pub template_id: TemplateId,
    /// Its tenant.
    pub tenant: Tenant,
    /// Its service.
    pub service: Service,
    /// The message with its variable parts masked.
    pub pattern: String,
    /// The merged pattern that it belongs to, by which it is shown; none if it stands for itself.
    pub merged_into: Option<TemplateId>,
    /// It was found by merging others, not by masking a message.
    pub is_merger: bool,
}

/// A batch after the processor, ready to be written.
#[derive(Debug, Clone)]
pub struct ScoredBatch {
    /// From the verified token.
    pub tenant: Tenant,
    /// Minted by the sender.
    pub batch_id: BatchId,
    /// [`content_checksum`] of what the sender sent.
    pub checksum: u64,
    /// When the server received it.
    pub received_at: Timestamp,
    /// Who sent it.
    pub producer: Option<Producer>,
    /// What its logs have in common.
    pub resource: Resource,
    /// The logs to store.
    pub records: Vec<ScoredRecord>,
    /// The logs to put among the dead letters.
    pub rejected: Vec<RejectedRecord>,
    /// The pattern of every `template_id` in `records`, which is never a merged one's id unless
    /// there was no room for another.
    pub templates: HashMap<TemplateId, Arc<Template>>,
}

impl ScoredBatch {
    /// Its logs as a reader is to see them once they are stored: with the ids of merged patterns.
    pub fn stored_logs(&self) -> Vec<StoredLog> {
        // As a search would show it later: a tail that named the pattern before its merger would
        // lead to a filter that finds other logs.
        let shown = |id: TemplateId| self.templates.get(&id)?.merged_into;
        let stored = |scored: &ScoredRecord| StoredLog {
            id: LogId {
                time: scored.record.time,
                batch_id: self.batch_id,
                index: scored.record.index,
            },
            received_at: self.received_at,
            service: self.resource.service.clone(),
            instance: self.resource.instance.clone(),
            environment: self.resource.environment.clone(),
            scored: ScoredRecord {
                template_id: shown(scored.template_id).unwrap_or(scored.template_id),
                ..scored.clone()
            },
        };
        self.records.iter().map(stored).collect()
    }
}

/// A stored log, as a reader sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredLog {
    /// Where it is.
    pub id: LogId,
    /// When the server received it.
    pub received_at: Timestamp,
    /// Its service.
    pub service: Service,
    /// Its instance.
    pub instance: String,
    /// Its environment.
    pub environment: String,
    /// The log and its score.
    pub scored: ScoredRecord,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn severity_numbers_fall_into_levels_by_fours() {
        for (severity, level) in [
            (1, Level::Trace),
            (4, Level::Trace),
            (9, Level::Info),
            (17, Level::Error),
            (24, Level::Fatal),
        ] {
            assert_eq!(Level::from_severity_number(severity), Some(level));
        }
        assert_eq!(Level::from_severity_number(0), None);
        assert_eq!(Level::from_severity_number(25), None);
    }

    #[test]
    fn levels_are_read_in_the_usual_spellings() {
        for (text, level) in [
            ("WARNING", Level::Warn),
            ("err", Level::Error),
            ("erro", Level::Error),
            ("eror", Level::Error),
            ("fail", Level::Error),
            ("Notice", Level::Info),
            ("CRITICAL", Level::Fatal),
        ] {
            assert_eq!(text.parse(), Ok(level));
        }
        assert!("loud".parse::<Level>().is_err());
    }

    #[test]
    fn a_batch_weighs_what_its_logs_get_from_the_resource() {
        let mut resource = Resource::of(Service::new("a").unwrap());
        resource.attributes = vec![Attribute::new("k", Value::String("x".repeat(16_384)))];
        let batch = Batch {
            tenant: Tenant::default(),
            batch_id: BatchId([1; 16]),
            checksum: 0,
            received_at: Timestamp::EPOCH,
            producer: None,
            resource,
            records: vec![Record::default(); 1_000],
            rejected: Vec::new(),
        };
        assert!(batch.heap_bytes() > 1_000 * 16_384);
    }

    #[test]
    fn the_checksum_sees_every_field_and_its_borders() {
        let resource = Resource::of(Service::new("a").unwrap());
        let base = Record { message: "ab".into(), logger: "c".into(), ..Record::default() };
        let variants = [
            base.clone(),
            Record { message: "a".into(), logger: "bc".into(), ..base.clone() },
            Record { level: Some(Level::Info), ..base.clone() },
            Record { latency_ms: Some(0.0), ..base.clone() },
            Record { time: Timestamp::from_unix_nanos(1), ..base.clone() },
            Record { trace_id: Some([1; 16]), ..base.clone() },
            Record { span_id: Some([1; 8]), ..base.clone() },
            Record { attributes: vec![Attribute::new("k", Value::Int(1))], ..base.clone() },
            Record { attributes: vec![Attribute::new("k", Value::Bool(true))], ..base },
        ];
        let sums: std::collections::HashSet<u64> =
            variants.iter().map(|r| content_checksum(&resource, std::slice::from_ref(r))).collect();
        assert_eq!(sums.len(), variants.len());
    }
}
