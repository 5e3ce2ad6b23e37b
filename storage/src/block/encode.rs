//! Making a block: one pass over the rows for the cheap columns and the messages, then a column at
//! a time.

use std::collections::{BTreeSet, HashMap};

use logweir_core::{
    identity::{BatchId, Service, TemplateId},
    record::Level,
};
use xxhash_rust::xxh3::xxh3_64;
use zstd::bulk::Compressor;

use super::{
    BlockError, Effort, EncodedBlock, MAGIC, ROWS_MAX, Row, Summary, TIME_SCALES, attributes,
    bloom::FilterWriter,
    bytes::{put_bytes, put_varint},
    categories::{self, Groups},
    integers, numbers,
    section::Section,
    texts::TextWriter,
};

const FRESH_LEVEL: i32 = 1;
const MERGED_LEVEL: i32 = 3;

/// Makes blocks, keeping its buffers from one to the next.
#[derive(Default)]
pub struct Encoder {
    fresh: Option<Compressor<'static>>,
    merged: Option<Compressor<'static>>,
    section: Section,
    filter: FilterWriter,
    scratch: Vec<i64>,
}

impl Encoder {
    /// An encoder.
    pub fn new() -> Self {
        Self::default()
    }

    /// Encodes rows in the order given; at least one. An error leaves nothing behind.
    pub fn encode(&mut self, rows: &[Row<'_>], effort: Effort) -> Result<EncodedBlock, BlockError> {
        check(rows)?;
        let mut body = MAGIC.to_vec();
        body.extend_from_slice(&[0; 8]);
        put_varint(&mut body, rows.len() as u64);
        self.filter.clear();
        let mut summary = summary_of(rows);
        let messages = self.split_messages(rows);
        let groups = Groups { of_rows: messages.ids(), count: messages.skeleton_count() };
        self.section.clear();
        summary.template_ids = self.write_keys(rows, &messages, &groups);
        self.end_section(effort, &mut body)?;
        messages.write_texts(&mut self.section, &mut self.scratch)?;
        self.end_section(effort, &mut body)?;
        self.write_details(rows, &groups);
        self.end_section(effort, &mut body)?;
        let all = rows.iter().map(|row| row.scored.record.attributes.as_slice());
        attributes::write(all, &groups, &mut self.section, &mut self.scratch)?;
        self.end_section(effort, &mut body)?;
        let start = MAGIC.len() + 8;
        let checksum = xxh3_64(&body[start..]);
        body[MAGIC.len()..start].copy_from_slice(&checksum.to_le_bytes());
        Ok(EncodedBlock { summary, word_filter: self.filter.finish(), body })
    }

    fn split_messages<'a>(&mut self, rows: &[Row<'a>]) -> TextWriter<'a> {
        let mut messages = TextWriter::new(rows.len());
        for row in rows {
            messages.push(&row.scored.record.message, |word| self.filter.add_word(word));
        }
        messages.fixed_words().for_each(|word| self.filter.add_word(word));
        messages
    }

    /// What every search looks at. The distinct templates, ascending.
    fn write_keys(
        &mut self,
        rows: &[Row<'_>],
        messages: &TextWriter<'_>,
        groups: &Groups<'_>,
    ) -> Vec<TemplateId> {
        let Self { section: out, scratch, filter, .. } = self;
        write_origins(rows, out);
        write_times(rows, out);
        messages.write_ids(out, scratch);
        let levels: Vec<u32> = rows.iter().map(|row| row.scored.level as u32).collect();
        categories::write(&levels, groups, out, scratch);
        let mut templates = Distinct::default();
        let ids: Vec<u32> = rows.iter().map(|row| templates.id(row.scored.template_id)).collect();
        put_varint(&mut out.symbols, templates.values.len() as u64);
        for template_id in &templates.values {
            out.bits.extend_from_slice(&template_id.0.to_le_bytes());
            filter.add_template(*template_id);
        }
        categories::write(&ids, groups, out, scratch);
        let anomalies: Vec<i64> = rows.iter().map(|row| row.scored.is_anomaly.into()).collect();
        integers::write(&anomalies, out);
        templates.values.sort_unstable();
        templates.values
    }

    /// What is seldom asked for.
    fn write_details(&mut self, rows: &[Row<'_>], groups: &Groups<'_>) {
        let Self { section: out, scratch, filter, .. } = self;
        let records = || rows.iter().map(|row| &row.scored.record);
        let sent: Vec<i64> =
            rows.iter().map(|r| sent_level(r.scored.record.level, r.scored.level)).collect();
        integers::write(&sent, out);
        let severities: Vec<u32> = records().map(|r| r.severity_number.into()).collect();
        categories::write(&severities, groups, out, scratch);
        let mut loggers = Distinct::default();
        let logger_ids: Vec<u32> = records().map(|r| loggers.id(r.logger.as_str())).collect();
        write_names(&loggers.values, out);
        categories::write(&logger_ids, groups, out, scratch);
        let has_latency: Vec<i64> = records().map(|r| r.latency_ms.is_some().into()).collect();
        integers::write(&has_latency, out);
        let latencies: Vec<f64> = records().filter_map(|record| record.latency_ms).collect();
        numbers::write_floats(&latencies, out, scratch);
        let scores: Vec<f32> = rows.iter().map(|row| row.scored.anomaly_score).collect();
        numbers::write_floats(&scores, out, scratch);
        numbers::write_ids(records().map(|r| r.trace_id), out, |id| filter.add_trace(id));
        numbers::write_ids(records().map(|r| r.span_id), out, |_| {});
        let reasons = || rows.iter().map(|row| &row.scored.anomaly_reasons);
        integers::write(&reasons().map(|r| r.len() as i64).collect::<Vec<_>>(), out);
        reasons().flatten().for_each(|reason| put_bytes(&mut out.text, reason.as_bytes()));
    }

    fn end_section(&mut self, effort: Effort, body: &mut Vec<u8>) -> Result<(), BlockError> {
        let (compressor, level) = match effort {
            Effort::Fresh => (&mut self.fresh, FRESH_LEVEL),
            Effort::Merged => (&mut self.merged, MERGED_LEVEL),
        };
        let compressor = match compressor {
            Some(compressor) => compressor,
            None => {
                let new = Compressor::new(level)
                    .map_err(|_| BlockError::TooLarge("no memory to compress it"))?;
                compressor.insert(new)
            }
        };
        self.section.write(compressor, body)?;
        self.section.clear();
        Ok(())
    }
}

fn check(rows: &[Row<'_>]) -> Result<(), BlockError> {
    if rows.is_empty() || rows.len() > ROWS_MAX {
        return Err(BlockError::TooLarge("a block holds 1 to 1,048,576 logs"));
    }
    for (row, found) in rows.iter().enumerate() {
        if let Some(latency_ms) = found.scored.record.latency_ms
            && !(latency_ms.is_finite() && latency_ms >= 0.0)
        {
            let detail = format!("latency_ms {latency_ms} is not finite and positive or zero");
            return Err(BlockError::Unstorable { row, detail });
        }
    }
    Ok(())
}

fn summary_of(rows: &[Row<'_>]) -> Summary {
    let times = || rows.iter().map(|row| row.scored.record.time_unix_nano);
    let mut services: Vec<Service> = Vec::new();
    for row in rows {
        if services.last() != Some(row.service) {
            services.push(row.service.clone());
        }
    }
    let services: BTreeSet<Service> = services.into_iter().collect();
    Summary {
        rows: rows.len() as u32,
        time_min_unix_nano: times().min().unwrap_or_default(),
        time_max_unix_nano: times().max().unwrap_or_default(),
        level_mask: rows.iter().fold(0, |mask, row| mask | 1 << row.scored.level as u8),
        has_anomaly: rows.iter().any(|row| row.scored.is_anomaly),
        services: services.into_iter().collect(),
        template_ids: Vec::new(),
    }
}

/// 0: the level is the sender's; 1: the sender gave none; else the sender's plus 1.
fn sent_level(sent: Option<Level>, level: Level) -> i64 {
    match sent {
        Some(sent) if sent == level => 0,
        None => 1,
        Some(sent) => sent as i64 + 1,
    }
}

/// Distinct values in order of first appearance.
struct Distinct<T> {
    values: Vec<T>,
    ids: HashMap<T, u32>,
    last: u32,
}

impl<T> Default for Distinct<T> {
    fn default() -> Self {
        Self { values: Vec::new(), ids: HashMap::new(), last: 0 }
    }
}

impl<T: Copy + Eq + std::hash::Hash> Distinct<T> {
    fn id(&mut self, value: T) -> u32 {
        if self.values.get(self.last as usize) != Some(&value) {
            let next = self.values.len() as u32;
            self.last = *self.ids.entry(value).or_insert(next);
            if self.last == next {
                self.values.push(value);
            }
        }
        self.last
    }
}

fn write_names(names: &[&str], out: &mut Section) {
    put_varint(&mut out.symbols, names.len() as u64);
    names.iter().for_each(|name| put_bytes(&mut out.text, name.as_bytes()));
}

/// What the logs of a batch have in common.
#[derive(Clone, Copy, PartialEq)]
struct Origin<'a> {
    batch_id: BatchId,
    received_unix_nano: i64,
    service: &'a Service,
    instance: &'a str,
    environment: &'a str,
}

/// Appends the origins, and the origin and index of each row.
fn write_origins(rows: &[Row<'_>], out: &mut Section) {
    let mut origins: Vec<(Origin<'_>, u32)> = Vec::new();
    let mut of_batch: HashMap<BatchId, usize> = HashMap::new();
    let (mut ids, mut skipped) = (Vec::new(), Vec::new());
    let mut current = 0;
    for row in rows {
        let &Row { batch_id, received_unix_nano, service, instance, environment, scored } = row;
        let origin = Origin { batch_id, received_unix_nano, service, instance, environment };
        let is = |at: usize| origins.get(at).is_some_and(|(known, _)| *known == origin);
        if !is(current) {
            let known = of_batch.get(&batch_id).copied().filter(|at| is(*at));
            current = known.unwrap_or(origins.len());
            if known.is_none() {
                origins.push((origin, 0));
                of_batch.insert(batch_id, current);
            }
        }
        let next = &mut origins[current].1;
        skipped.push(i64::from(scored.record.index) - i64::from(*next));
        *next = scored.record.index.wrapping_add(1);
        ids.push(current as i64);
    }
    write_origin_columns(&origins, out);
    integers::write(&ids, out);
    integers::write(&skipped, out);
}

fn write_origin_columns(origins: &[(Origin<'_>, u32)], out: &mut Section) {
    put_varint(&mut out.symbols, origins.len() as u64);
    let mut batch_ids = Distinct::default();
    let mut names = Distinct::default();
    let (mut received, mut ids) = (Vec::new(), [Vec::new(), Vec::new(), Vec::new(), Vec::new()]);
    for (origin, _) in origins {
        received.push(origin.received_unix_nano);
        ids[0].push(i64::from(batch_ids.id(origin.batch_id)));
        ids[1].push(i64::from(names.id(origin.service.as_str())));
        ids[2].push(i64::from(names.id(origin.instance)));
        ids[3].push(i64::from(names.id(origin.environment)));
    }
    put_varint(&mut out.symbols, batch_ids.values.len() as u64);
    batch_ids.values.iter().for_each(|id| out.bits.extend_from_slice(&id.0));
    write_names(&names.values, out);
    integers::write(&received, out);
    ids.iter().for_each(|column| integers::write(column, out));
}

/// Appends event times in the coarsest unit that all are whole numbers of.
fn write_times(rows: &[Row<'_>], out: &mut Section) {
    let mut unit = 0;
    for row in rows {
        while row.scored.record.time_unix_nano % TIME_SCALES[unit] != 0 {
            unit += 1;
        }
    }
    let scale = TIME_SCALES[unit];
    let times: Vec<i64> = rows.iter().map(|r| r.scored.record.time_unix_nano / scale).collect();
    out.symbols.push(unit as u8);
    integers::write(&times, out);
}
