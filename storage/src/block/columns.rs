//! The columns of a block to be. Every log is looked at once and adds to each; it comes as a row,
//! or from a block that was read, whose messages and attributes need not be put together again.

use std::{collections::HashMap, hash::Hash};

use logweir_core::{
    identity::{BatchId, Service, TemplateId},
    record::Level,
};

use super::{
    BlockError, Row, ServicePart, Summary, TIME_SCALES,
    attributes::{AttributeWriter, Attributes, KnownAttributes},
    bloom::FilterWriter,
    bytes::{put_bytes, put_varint},
    categories::CategoryWriter,
    integers,
    levels::{SENT_AS_IS, SENT_OTHER},
    numbers,
    open::{Block, Details, Keys},
    section::Section,
    texts::{KnownSkeletons, TextWriter, Texts},
};

/// A log without its message and attributes.
struct Head<'a> {
    origin: Origin<'a>,
    index: u32,
    time_unix_nano: i64,
    level: Level,
    sent_level: Option<Level>,
    severity_number: u8,
    template_id: TemplateId,
    is_anomaly: bool,
    anomaly_score: f32,
    anomaly_reasons: &'a [String],
    latency_ms: Option<f64>,
    trace_id: Option<[u8; 16]>,
    span_id: Option<[u8; 8]>,
    logger: &'a str,
}

impl<'a> Head<'a> {
    const fn of_row(row: &Row<'a>) -> Self {
        let &Row { batch_id, received_unix_nano, service, instance, environment, scored } = row;
        let record = &scored.record;
        Self {
            origin: Origin { batch_id, received_unix_nano, service, instance, environment },
            index: record.index,
            time_unix_nano: record.time.as_unix_nanos(),
            level: scored.level,
            sent_level: record.level,
            severity_number: record.severity_number,
            template_id: scored.template_id,
            is_anomaly: scored.is_anomaly,
            anomaly_score: scored.anomaly_score,
            anomaly_reasons: scored.anomaly_reasons.as_slice(),
            latency_ms: record.latency_ms,
            trace_id: record.trace_id,
            span_id: record.span_id,
            logger: record.logger.as_str(),
        }
    }

    fn of_source(source: &Source<'a>, row: usize) -> Self {
        let Source { keys, details, .. } = source;
        let origin = &keys.origins[keys.origin_of_rows[row] as usize];
        Self {
            origin: Origin {
                batch_id: origin.batch_id,
                received_unix_nano: origin.received_unix_nano,
                service: &origin.service,
                instance: &origin.instance,
                environment: &origin.environment,
            },
            index: keys.indices[row],
            time_unix_nano: keys.times[row],
            level: keys.levels[row],
            sent_level: details.sent_level(row, keys.levels[row]),
            severity_number: details.severities[row] as u8,
            template_id: keys.template_id(row),
            is_anomaly: keys.anomalies[row],
            anomaly_score: details.scores[row],
            anomaly_reasons: details.reasons_of(row),
            latency_ms: details.latencies[row],
            trace_id: details.trace_ids[row],
            span_id: details.span_ids[row],
            logger: &details.loggers[details.logger_of_rows[row] as usize],
        }
    }
}

/// A block that rows are taken from.
pub(super) struct Source<'a> {
    keys: &'a Keys,
    messages: &'a Texts,
    details: &'a Details,
    attributes: &'a Attributes,
    known_skeletons: KnownSkeletons,
    known_attributes: KnownAttributes,
}

impl<'a> Source<'a> {
    pub(super) fn of(block: &'a Block<'_>) -> Result<Self, BlockError> {
        Ok(Self {
            keys: block.keys()?,
            messages: block.messages()?,
            details: block.details()?,
            attributes: block.attributes()?,
            known_skeletons: KnownSkeletons::default(),
            known_attributes: KnownAttributes::default(),
        })
    }
}

/// Distinct values in order of first appearance.
struct Distinct<T> {
    values: Vec<T>,
    ids: HashMap<T, u32>,
}

impl<T> Default for Distinct<T> {
    fn default() -> Self {
        Self { values: Vec::new(), ids: HashMap::new() }
    }
}

impl<T: Copy + Eq + Hash> Distinct<T> {
    /// The number of a value that is likely to have the number `likely`.
    fn id(&mut self, value: T, likely: Option<u32>) -> u32 {
        // The guess is right for nearly every log, and a comparison costs less than a hash.
        if let Some(id) = likely
            && self.values[id as usize] == value
        {
            return id;
        }
        *self.ids.entry(value).or_insert_with(|| {
            self.values.push(value);
            self.values.len() as u32 - 1
        })
    }
}

/// The columns being filled.
#[derive(Default)]
pub(super) struct Columns<'a> {
    origins: Origins<'a>,
    times: Vec<i64>,
    levels: CategoryWriter,
    templates: Distinct<TemplateId>,
    template_of_rows: CategoryWriter,
    anomalies: Vec<i64>,
    messages: TextWriter<'a>,
    sent_levels: Vec<i64>,
    severities: CategoryWriter,
    loggers: Distinct<&'a str>,
    logger_of_rows: CategoryWriter,
    has_latency: Vec<i64>,
    latencies: Vec<f64>,
    scores: Vec<f32>,
    trace_ids: Vec<Option<[u8; 16]>>,
    span_ids: Vec<Option<[u8; 8]>>,
    reason_counts: Vec<i64>,
    reasons: Vec<&'a str>,
    attributes: AttributeWriter<'a>,
    parts: Vec<ServicePart>,
    logger_bytes: usize,
}

impl<'a> Columns<'a> {
    /// For this many logs.
    pub(super) fn for_rows(count: usize) -> Self {
        Self {
            messages: TextWriter::for_texts(count),
            times: Vec::with_capacity(count),
            anomalies: Vec::with_capacity(count),
            sent_levels: Vec::with_capacity(count),
            has_latency: Vec::with_capacity(count),
            latencies: Vec::with_capacity(count),
            scores: Vec::with_capacity(count),
            trace_ids: Vec::with_capacity(count),
            span_ids: Vec::with_capacity(count),
            reason_counts: Vec::with_capacity(count),
            ..Self::default()
        }
    }

    /// Adds a log; an error says why it cannot be stored.
    pub(super) fn push_row(
        &mut self,
        row: &Row<'a>,
        filter: &mut FilterWriter,
    ) -> Result<(), String> {
        let record = &row.scored.record;
        if let Some(latency_ms) = record.latency_ms
            && !(latency_ms.is_finite() && latency_ms >= 0.0)
        {
            return Err(format!("latency_ms {latency_ms} must be finite and not negative"));
        }
        // The message first: its skeleton is the group by which everything else is coded.
        let group = self.messages.push(&record.message, |word| filter.add_word(word));
        self.attributes.push(group, &record.attributes);
        self.push_head(group, &Head::of_row(row));
        Ok(())
    }

    /// Adds a row of another block.
    pub(super) fn push_read(
        &mut self,
        source: &mut Source<'a>,
        row: usize,
        filter: &mut FilterWriter,
    ) {
        let Source { messages, attributes, known_skeletons, known_attributes, .. } = source;
        let on_word = |word: super::words::Word<'_>| filter.add_word(word);
        let group = self.messages.push_split(messages, row, known_skeletons, on_word);
        self.attributes.push_read(group, attributes, row, known_attributes);
        self.push_head(group, &Head::of_source(source, row));
    }

    /// `group` is the skeleton of the message, from which much follows.
    fn push_head(&mut self, group: u32, head: &Head<'a>) {
        let is_next = self.origins.push(head.origin, head.index);
        self.note_part(head, is_next);
        self.times.push(head.time_unix_nano);
        self.levels.push(group, head.level as u32);
        let template = self.templates.id(head.template_id, self.template_of_rows.likely(group));
        self.template_of_rows.push(group, template);
        self.anomalies.push(head.is_anomaly.into());
        self.sent_levels.push(match head.sent_level {
            Some(sent) if sent == head.level => SENT_AS_IS,
            sent => SENT_OTHER + sent.map_or(0, |sent| sent as i64),
        });
        self.severities.push(group, head.severity_number.into());
        let logger = self.loggers.id(head.logger, self.logger_of_rows.likely(group));
        self.logger_of_rows.push(group, logger);
        self.logger_bytes += head.logger.len();
        // The column has the latencies that there are: a stand-in for "none" would widen it.
        self.has_latency.push(head.latency_ms.is_some().into());
        self.latencies.extend(head.latency_ms);
        self.scores.push(head.anomaly_score);
        self.trace_ids.push(head.trace_id);
        self.span_ids.push(head.span_id);
        self.reason_counts.push(head.anomaly_reasons.len() as i64);
        self.reasons.extend(head.anomaly_reasons.iter().map(String::as_str));
    }

    /// `is_next`: the log before it was of the same origin, and so of the same service.
    fn note_part(&mut self, head: &Head<'_>, is_next: bool) {
        let time = head.time_unix_nano;
        let service = head.origin.service;
        if !is_next && self.parts.last().is_none_or(|part| part.service != *service) {
            // Kept last while its logs come in; seldom again after others.
            let known = self.parts.iter().position(|part| part.service == *service);
            let part = known.map(|at| self.parts.remove(at));
            self.parts.push(part.unwrap_or_else(|| ServicePart {
                service: service.clone(),
                rows: 0,
                time_min_unix_nano: time,
                time_max_unix_nano: time,
                level_mask: 0,
                has_anomaly: false,
            }));
        }
        if let Some(part) = self.parts.last_mut() {
            part.rows += 1;
            part.time_min_unix_nano = part.time_min_unix_nano.min(time);
            part.time_max_unix_nano = part.time_max_unix_nano.max(time);
            part.level_mask |= 1 << head.level as u8;
            part.has_anomaly |= head.is_anomaly;
        }
    }

    /// Adds to the filter what is not added word by word.
    pub(super) fn fill_filter(&self, filter: &mut FilterWriter) {
        self.messages.fixed_words().for_each(|word| filter.add_word(word));
        self.templates.values.iter().for_each(|id| filter.add_template(*id));
    }

    pub(super) fn summary(&self) -> Summary {
        let mut parts = self.parts.clone();
        parts.sort_unstable_by(|a, b| a.service.cmp(&b.service));
        let mut template_ids = self.templates.values.clone();
        template_ids.sort_unstable();
        let times = || self.times.iter().copied();
        let text = self.messages.text_bytes() + self.attributes.text_bytes() + self.logger_bytes;
        Summary {
            rows: self.times.len() as u32,
            time_min_unix_nano: times().min().unwrap_or_default(),
            time_max_unix_nano: times().max().unwrap_or_default(),
            level_mask: parts.iter().fold(0, |mask, part| mask | part.level_mask),
            has_anomaly: parts.iter().any(|part| part.has_anomaly),
            parts,
            template_ids,
            text_bytes: text as u64,
        }
    }

    /// Appends what every search looks at.
    pub(super) fn write_keys(&self, out: &mut Section) {
        self.origins.write(out);
        write_times(&self.times, out);
        self.messages.write_ids(out);
        self.levels.write(out);
        put_varint(&mut out.symbols, self.templates.values.len() as u64);
        for template_id in &self.templates.values {
            out.bits.extend_from_slice(&template_id.0.to_le_bytes());
        }
        self.template_of_rows.write(out);
        integers::write(&self.anomalies, out);
    }

    /// Appends the messages.
    pub(super) fn write_messages(&self, out: &mut Section) -> Result<(), BlockError> {
        self.messages.write_texts(out)
    }

    /// Appends what is seldom asked for.
    pub(super) fn write_details(&self, out: &mut Section, filter: &mut FilterWriter) {
        integers::write(&self.sent_levels, out);
        self.severities.write(out);
        write_names(&self.loggers.values, out);
        self.logger_of_rows.write(out);
        integers::write(&self.has_latency, out);
        numbers::write_floats(&self.latencies, out);
        numbers::write_floats(&self.scores, out);
        numbers::write_ids(&self.trace_ids, out, |id| filter.add_trace(id));
        numbers::write_ids(&self.span_ids, out, |_| {});
        integers::write(&self.reason_counts, out);
        self.reasons.iter().for_each(|reason| put_bytes(&mut out.text, reason.as_bytes()));
    }

    /// Appends the attributes.
    pub(super) fn write_attributes(&self, out: &mut Section) -> Result<(), BlockError> {
        self.attributes.write(out)
    }
}

/// What the logs of a batch have in common.
#[derive(Clone, Copy)]
struct Origin<'a> {
    batch_id: BatchId,
    received_unix_nano: i64,
    service: &'a Service,
    instance: &'a str,
    environment: &'a str,
}

impl Origin<'_> {
    fn is(&self, other: &Self) -> bool {
        self.batch_id == other.batch_id
            && self.received_unix_nano == other.received_unix_nano
            && is_text(self.service.as_str(), other.service.as_str())
            && is_text(self.instance, other.instance)
            && is_text(self.environment, other.environment)
    }
}

/// Logs of a batch share their texts: where they lie is compared first.
fn is_text(one: &str, other: &str) -> bool {
    std::ptr::eq(one, other) || one == other
}

/// The origins, and the origin and index of each log.
#[derive(Default)]
struct Origins<'a> {
    /// Each with the index that is likely next.
    known: Vec<(Origin<'a>, u32)>,
    of_batch: HashMap<BatchId, usize>,
    current: usize,
    ids: Vec<i64>,
    skipped: Vec<i64>,
}

impl<'a> Origins<'a> {
    /// Whether the log before it was of the same origin.
    fn push(&mut self, origin: Origin<'a>, index: u32) -> bool {
        let is = |at: usize| self.known.get(at).is_some_and(|(known, _)| known.is(&origin));
        let is_next = is(self.current);
        if !is_next {
            // Of merged logs a batch may be met again after others. Should one id have come with
            // two resources, the newer takes the place; the older costs an entry more later on.
            let found = self.of_batch.get(&origin.batch_id).copied().filter(|at| is(*at));
            self.current = found.unwrap_or_else(|| {
                self.of_batch.insert(origin.batch_id, self.known.len());
                self.known.push((origin, 0));
                self.known.len() - 1
            });
        }
        let next = &mut self.known[self.current].1;
        // Logs of a batch mostly follow each other, so these are zeros, which cost nothing.
        self.skipped.push(i64::from(index) - i64::from(*next));
        *next = index.wrapping_add(1);
        self.ids.push(self.current as i64);
        is_next
    }

    fn write(&self, out: &mut Section) {
        let mut batch_ids = Distinct::default();
        let mut names = Distinct::default();
        let (mut received, mut ids) = (Vec::new(), [const { Vec::new() }; 4]);
        for (origin, _) in &self.known {
            received.push(origin.received_unix_nano);
            ids[0].push(i64::from(batch_ids.id(origin.batch_id, None)));
            ids[1].push(i64::from(names.id(origin.service.as_str(), None)));
            ids[2].push(i64::from(names.id(origin.instance, None)));
            ids[3].push(i64::from(names.id(origin.environment, None)));
        }
        put_varint(&mut out.symbols, self.known.len() as u64);
        put_varint(&mut out.symbols, batch_ids.values.len() as u64);
        batch_ids.values.iter().for_each(|id| out.bits.extend_from_slice(&id.0));
        write_names(&names.values, out);
        integers::write(&received, out);
        ids.iter().for_each(|column| integers::write(column, out));
        integers::write(&self.ids, out);
        integers::write(&self.skipped, out);
    }
}

fn write_names(names: &[&str], out: &mut Section) {
    put_varint(&mut out.symbols, names.len() as u64);
    names.iter().for_each(|name| put_bytes(&mut out.text, name.as_bytes()));
}

/// Appends event times in the coarsest unit that all are whole numbers of.
fn write_times(times: &[i64], out: &mut Section) {
    // Never out of bounds: the last unit is 1, of which every time is a whole number. Never back to
    // a coarser one either, since each unit divides those before it.
    let mut unit = 0;
    for time in times {
        while time % TIME_SCALES[unit] != 0 {
            unit += 1;
        }
    }
    let scale = TIME_SCALES[unit];
    out.symbols.push(unit as u8);
    if scale == 1 {
        integers::write(times, out);
    } else {
        integers::write(&times.iter().map(|time| time / scale).collect::<Vec<_>>(), out);
    }
}
