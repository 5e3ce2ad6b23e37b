//! Takes lines from the reader and hands groups to the sender: makes records, gathers them, and
//! notes each group before handing it over. Runs on the reader's thread; blocks while the sender is
//! behind.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use logweir_core::runtime::clock::Clock;
use logweir_parse::{Context, Format};
use logweir_proto::v1::{self, attribute::Value};
use tokio::sync::mpsc;

use crate::{
    deliver::{
        batch::{BatchLimits, Batcher, Ids},
        counts::Counts,
    },
    error::Error,
    journal::{Group, Journal, State},
    read::lines::Line,
    record::{Changes, Rules, Source, ready},
};

/// Most services of one run: each has a producer in every state that is noted.
pub const SERVICES_MAX: usize = 4_096;
/// The service of logs beyond [`SERVICES_MAX`].
const OVERFLOW_SERVICE: &str = "other";
/// Most examples of a renamed service.
const EXAMPLES_MAX: usize = 5;

/// What had to be changed, over all records.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// Records read.
    pub records: u64,
    /// Records with another service than their line says.
    pub renamed: u64,
    /// Some of the names that were changed.
    pub renamed_examples: BTreeSet<String>,
    /// Records that were cut to the limits of the contract.
    pub truncated: u64,
    /// Records with bytes that are no UTF-8.
    pub invalid_utf8: u64,
    /// Records that were read as Latin-1.
    pub latin1: u64,
    /// Records with the time of their sending.
    pub untimed: u64,
    /// Records with the time of the one before.
    pub inherited_time: u64,
    /// Records that were joined from several lines.
    pub joined: u64,
    /// Records whose level says nothing that is known.
    pub unknown_level: u64,
    /// Records whose time names a zone that is not known.
    pub unknown_zone: u64,
    /// Records by what they were recognised as.
    pub formats: BTreeMap<Format, u64>,
}

/// The reader's end of a sending.
pub struct Feed {
    /// Where the run stands, pending records included.
    pub state: State,
    /// What had to be changed so far.
    pub tally: Tally,
    rules: Rules,
    clock: Clock,
    batcher: Batcher,
    journal: Option<Arc<Journal>>,
    counts: Arc<Counts>,
    groups: mpsc::Sender<Group>,
    stop: Arc<AtomicBool>,
    services: HashSet<String>,
    is_changed: bool,
}

/// What a feed is made of.
pub struct FeedParts {
    /// Where the run stands.
    pub state: State,
    /// How lines become records.
    pub rules: Rules,
    /// Bounds of batches and groups.
    pub limits: BatchLimits,
    /// The time.
    pub clock: Clock,
    /// Where groups are noted; none where streams are read and nothing can be written.
    pub journal: Option<Arc<Journal>>,
    /// What the sender counts.
    pub counts: Arc<Counts>,
    /// Where groups go.
    pub groups: mpsc::Sender<Group>,
    /// Set when the user asks to stop.
    pub stop: Arc<AtomicBool>,
}

impl Feed {
    /// A feed without pending records.
    pub fn new(parts: FeedParts) -> Self {
        Self {
            services: parts.state.producers.0.keys().cloned().collect(),
            state: parts.state,
            tally: Tally::default(),
            rules: parts.rules,
            clock: parts.clock,
            batcher: Batcher::new(parts.limits),
            journal: parts.journal,
            counts: parts.counts,
            groups: parts.groups,
            stop: parts.stop,
            is_changed: false,
        }
    }

    /// Whether the user asked to stop.
    pub fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// What a line that is read now does not say of itself.
    pub fn context(&self) -> Context {
        Context { zone: self.rules.zone, ..Context::at((self.clock)()) }
    }

    /// Takes a log that ends at `line.end` of its source.
    pub fn add(
        &mut self,
        line: &Line,
        source: &mut Source,
        context: &Context,
    ) -> Result<(), Error> {
        let mut ready = ready(line, source, &self.rules, context);
        if !ready.changes.untimed {
            source.last_time = Some(ready.time());
        }
        if !self.services.contains(&ready.service) {
            if self.services.len() < SERVICES_MAX {
                self.services.insert(ready.service.clone());
            } else {
                move_to_overflow(&mut ready.record, &mut ready.service);
                ready.changes.renamed = true;
            }
        }
        self.count(&ready.changes, &ready.record);
        self.batcher.add(&ready.service, &ready.record);
        // Together with the record: a state must never be ahead of the batches that it is noted
        // with, or a kill would lose what lies between.
        if let Some(file) = source.file {
            self.state.files[file].offset = line.end;
            self.state.files[file].read_unix_nanos = context.now.as_unix_nanos();
        }
        self.is_changed = true;
        if self.batcher.is_full() && !line.has_more { self.flush() } else { Ok(()) }
    }

    /// Notes that a file was read to its end.
    pub fn complete_file(&mut self, file: usize, bytes: u64) {
        self.state.files[file].complete_at_bytes = Some(bytes);
        self.state.files[file].read_unix_nanos = (self.clock)().as_unix_nanos();
        self.is_changed = true;
    }

    /// Notes and hands over everything that is pending.
    pub fn flush(&mut self) -> Result<(), Error> {
        if !std::mem::take(&mut self.is_changed) {
            return Ok(());
        }
        self.counts.settle(&mut self.state.producers);
        self.state.group += 1;
        let now = (self.clock)();
        let mut batches = Vec::new();
        for (service, records) in self.batcher.take() {
            batches.push(self.state.producers.batch(service, &records, Ids::mint(), now));
        }
        // Noted before it is handed over: what the server may have got under these ids must be
        // found again under the same ones.
        let group = Group { state: self.state.clone(), batches };
        if let Some(journal) = &self.journal {
            journal.note(&group)?;
        }
        // Blocks while the sender is behind: so a slow server slows the reading down, and nothing
        // piles up in between.
        self.groups.blocking_send(group).map_err(|_| Error::Interrupted)
    }

    fn count(&mut self, changes: &Changes, record: &v1::LogRecord) {
        let tally = &mut self.tally;
        tally.records += 1;
        tally.renamed += u64::from(changes.renamed);
        tally.truncated += u64::from(changes.truncated);
        tally.invalid_utf8 += u64::from(changes.invalid_utf8);
        tally.latin1 += u64::from(changes.latin1);
        tally.untimed += u64::from(changes.untimed);
        tally.inherited_time += u64::from(changes.inherited_time);
        tally.joined += u64::from(changes.joined);
        tally.unknown_level += u64::from(changes.notes.has_unknown_level);
        tally.unknown_zone += u64::from(changes.notes.has_unknown_zone);
        *tally.formats.entry(changes.notes.format).or_default() += 1;
        if changes.renamed && tally.renamed_examples.len() < EXAMPLES_MAX {
            let original = record.attributes.iter().rfind(|a| a.key == "service.original");
            if let Some(Value::StringValue(name)) = original.and_then(|a| a.value.as_ref()) {
                tally.renamed_examples.insert(name.clone());
            }
        }
    }
}

fn move_to_overflow(record: &mut v1::LogRecord, service: &mut String) {
    let original = std::mem::replace(service, OVERFLOW_SERVICE.to_owned());
    if !record.attributes.iter().any(|attribute| attribute.key == "service.original") {
        let value = Some(Value::StringValue(original));
        record.attributes.push(v1::Attribute { key: "service.original".to_owned(), value });
    }
}
