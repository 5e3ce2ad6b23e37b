//! Reading a block: columns are decompressed and decoded when first needed.

use std::cell::OnceCell;

use logweir_core::{
    identity::{BatchId, LogId, Service, TemplateId},
    record::{Level, Record, ScoredRecord, StoredLog},
    timestamp::Timestamp,
};
use xxhash_rust::xxh3::xxh3_64;

use super::{
    BlockError, MAGIC, ROWS_MAX, TIME_SCALES,
    attributes::Attributes,
    bytes::Reader,
    categories::{self, Groups},
    integers,
    levels::{SENT_AS_IS, SENT_OTHER},
    numbers,
    section::{PackedSection, SectionReader},
    texts::Texts,
    words::read_ids,
};

/// An encoded block, opened; columns are decompressed when first needed.
pub struct Block<'a> {
    bytes: usize,
    rows: usize,
    packed: [PackedSection<'a>; 4],
    keys: OnceCell<Keys>,
    messages: OnceCell<Texts>,
    details: OnceCell<Details>,
    attributes: OnceCell<Attributes>,
}

/// What every search looks at.
pub(super) struct Keys {
    pub(super) origins: Vec<Origin>,
    pub(super) origin_of_rows: Vec<u32>,
    pub(super) indices: Vec<u32>,
    pub(super) times: Vec<i64>,
    /// The skeleton of each message.
    pub(super) skeletons: Vec<u32>,
    pub(super) skeleton_count: usize,
    pub(super) levels: Vec<Level>,
    pub(super) templates: Vec<TemplateId>,
    pub(super) template_of_rows: Vec<u32>,
    pub(super) anomalies: Vec<bool>,
}

/// What the logs of a batch have in common.
pub(super) struct Origin {
    pub(super) batch_id: BatchId,
    pub(super) received_unix_nano: i64,
    pub(super) service: Service,
    pub(super) instance: String,
    pub(super) environment: String,
}

impl Origin {
    /// All its texts.
    pub(super) fn texts(&self) -> [&str; 3] {
        [self.service.as_str(), &self.instance, &self.environment]
    }
}

/// What is seldom asked for.
pub(super) struct Details {
    pub(super) sent_levels: Vec<i64>,
    pub(super) severities: Vec<u32>,
    pub(super) loggers: Vec<String>,
    pub(super) logger_of_rows: Vec<u32>,
    pub(super) latencies: Vec<Option<f64>>,
    pub(super) scores: Vec<f32>,
    pub(super) trace_ids: Vec<Option<[u8; 16]>>,
    pub(super) span_ids: Vec<Option<[u8; 8]>>,
    /// Where each row's reasons begin, and after the last row their number.
    pub(super) reason_starts: Vec<u32>,
    pub(super) reasons: Vec<String>,
}

impl<'a> Block<'a> {
    /// Checks magic, version and checksum.
    pub fn open(body: &'a [u8]) -> Result<Self, BlockError> {
        let mut reader = Reader::new(body);
        if reader.take(MAGIC.len())? != MAGIC {
            return Err(BlockError::Corrupt("it is not a block of a known version"));
        }
        // Before anything is decompressed: SQLite has no checksum of its pages, so that this is the
        // only thing that tells a bit flipped on the disk from a log that says something else.
        let checksum = u64::from_le_bytes(reader.array()?);
        if checksum != xxh3_64(&body[MAGIC.len() + 8..]) {
            return Err(BlockError::Corrupt("its checksum is wrong"));
        }
        let rows = usize::try_from(reader.varint()?).unwrap_or(usize::MAX);
        if !(1..=ROWS_MAX).contains(&rows) {
            return Err(BlockError::Corrupt("it cannot have as many rows as it says"));
        }
        let mut take = || PackedSection::take(&mut reader);
        let packed = [take()?, take()?, take()?, take()?];
        reader.finish()?;
        Ok(Self {
            bytes: body.len(),
            rows,
            packed,
            keys: OnceCell::new(),
            messages: OnceCell::new(),
            details: OnceCell::new(),
            attributes: OnceCell::new(),
        })
    }

    /// How many logs it holds, at least 1.
    pub const fn row_count(&self) -> usize {
        self.rows
    }

    /// How many bytes it has, as it is stored.
    pub const fn byte_count(&self) -> u64 {
        self.bytes as u64
    }

    /// How many bytes each section takes: where the space goes.
    pub fn section_bytes(&self) -> [(&'static str, usize); 4] {
        let [keys, messages, details, attributes] = &self.packed;
        [
            ("keys", keys.packed_bytes()),
            ("messages", messages.packed_bytes()),
            ("details", details.packed_bytes()),
            ("attributes", attributes.packed_bytes()),
        ]
    }

    /// The id of a row, which must be one of the block's.
    pub fn id(&self, row: u32) -> Result<LogId, BlockError> {
        Ok(self.keys()?.id(row as usize))
    }

    /// The row with this id.
    pub fn find(&self, id: LogId) -> Result<Option<u32>, BlockError> {
        let keys = self.keys()?;
        // Time alone rules out nearly all; whole ids would need the batch of every row.
        let found = (0..self.rows)
            .find(|row| keys.times[*row] == id.time.as_unix_nanos() && keys.id(*row) == id);
        Ok(found.map(|row| row as u32))
    }

    /// A row, which must be one of the block's. The first costs as much as a look at all.
    pub fn log(&self, row: u32) -> Result<StoredLog, BlockError> {
        let row = row as usize;
        let keys = self.keys()?;
        let details = self.details()?;
        let origin = &keys.origins[keys.origin_of_rows[row] as usize];
        let level = keys.levels[row];
        let record = Record {
            index: keys.indices[row],
            time: Timestamp::from_unix_nanos(keys.times[row]),
            level: details.sent_level(row, level),
            severity_number: details.severities[row] as u8,
            message: self.messages()?.get(row)?,
            latency_ms: details.latencies[row],
            trace_id: details.trace_ids[row],
            span_id: details.span_ids[row],
            logger: details.loggers[details.logger_of_rows[row] as usize].clone(),
            attributes: self.attributes()?.all(row)?,
        };
        Ok(StoredLog {
            id: keys.id(row),
            received_at: Timestamp::from_unix_nanos(origin.received_unix_nano),
            service: origin.service.clone(),
            instance: origin.instance.clone(),
            environment: origin.environment.clone(),
            scored: ScoredRecord {
                record,
                level,
                template_id: keys.template_id(row),
                anomaly_score: details.scores[row],
                is_anomaly: keys.anomalies[row],
                anomaly_reasons: details.reasons_of(row).to_vec(),
            },
        })
    }

    /// All rows in order.
    pub fn logs(&self) -> Result<Vec<StoredLog>, BlockError> {
        (0..self.rows as u32).map(|row| self.log(row)).collect()
    }

    pub(super) fn keys(&self) -> Result<&Keys, BlockError> {
        get_or_read(&self.keys, &self.packed[0], |from| Keys::read(self.rows, from))
    }

    pub(super) fn messages(&self) -> Result<&Texts, BlockError> {
        let ids = &self.keys()?.skeletons;
        get_or_read(&self.messages, &self.packed[1], |from| Texts::read(ids.clone(), from))
    }

    pub(super) fn details(&self) -> Result<&Details, BlockError> {
        let groups = self.keys()?.groups();
        get_or_read(&self.details, &self.packed[2], |from| Details::read(&groups, from))
    }

    pub(super) fn attributes(&self) -> Result<&Attributes, BlockError> {
        let groups = self.keys()?.groups();
        get_or_read(&self.attributes, &self.packed[3], |from| Attributes::read(&groups, from))
    }
}

fn get_or_read<'c, T>(
    cell: &'c OnceCell<T>,
    packed: &PackedSection<'_>,
    read: impl FnOnce(&mut SectionReader<'_>) -> Result<T, BlockError>,
) -> Result<&'c T, BlockError> {
    // `get_or_init` would do it in one, but reading may fail, and a cell cannot hold a failure.
    if let Some(read) = cell.get() {
        return Ok(read);
    }
    let streams = packed.expand()?;
    let mut reader = streams.reader();
    let columns = read(&mut reader)?;
    // Bytes left over mean that a column was read as another: there are values, but the wrong ones.
    reader.finish()?;
    Ok(cell.get_or_init(|| columns))
}

impl Keys {
    fn read(rows: usize, from: &mut SectionReader<'_>) -> Result<Self, BlockError> {
        let origins = read_origins(rows, from)?;
        let origin_of_rows = to_ids(read_ids(rows, origins.len(), from)?);
        let indices = read_indices(&origin_of_rows, origins.len(), from)?;
        let scale = *TIME_SCALES
            .get(usize::from(from.symbols.byte()?))
            .ok_or(BlockError::Corrupt("times have an unknown unit"))?;
        let mut times = integers::read(rows, from)?;
        for time in &mut times {
            *time = time.checked_mul(scale).ok_or(BlockError::Corrupt("a time is too large"))?;
        }
        // Among the keys and not with the messages: level, template and much else are coded by
        // skeleton, and a search by level should not have to decompress messages.
        let skeletons = to_ids(read_ids(rows, rows, from)?);
        let skeleton_count = skeletons.iter().max().map_or(0, |most| *most as usize + 1);
        let groups = Groups { of_rows: &skeletons, count: skeleton_count };
        let levels = categories::read(Level::ALL.len() + 1, &groups, from)?;
        let level = |number: u32| Level::from_number(number as u8);
        let levels: Option<Vec<Level>> = levels.into_iter().map(level).collect();
        let levels = levels.ok_or(BlockError::Corrupt("a level is not known"))?;
        let mut templates = Vec::new();
        for _ in 0..from.symbols.varint()?.min(rows as u64) {
            templates.push(TemplateId(u64::from_le_bytes(from.bits.array()?)));
        }
        let template_of_rows = categories::read(templates.len(), &groups, from)?;
        let anomalies = integers::read(rows, from)?.into_iter().map(|flag| flag != 0).collect();
        Ok(Self {
            origins,
            origin_of_rows,
            indices,
            times,
            skeletons,
            skeleton_count,
            levels,
            templates,
            template_of_rows,
            anomalies,
        })
    }

    pub(super) fn groups(&self) -> Groups<'_> {
        Groups { of_rows: &self.skeletons, count: self.skeleton_count }
    }

    pub(super) fn id(&self, row: usize) -> LogId {
        LogId {
            time: Timestamp::from_unix_nanos(self.times[row]),
            batch_id: self.origins[self.origin_of_rows[row] as usize].batch_id,
            index: self.indices[row],
        }
    }

    pub(super) fn template_id(&self, row: usize) -> TemplateId {
        self.templates[self.template_of_rows[row] as usize]
    }
}

fn to_ids(values: Vec<i64>) -> Vec<u32> {
    values.into_iter().map(|value| value as u32).collect()
}

fn read_origins(rows: usize, from: &mut SectionReader<'_>) -> Result<Vec<Origin>, BlockError> {
    let count = usize::try_from(from.symbols.varint()?).unwrap_or(usize::MAX).min(rows);
    let mut batch_ids = Vec::new();
    for _ in 0..from.symbols.varint()?.min(count as u64) {
        batch_ids.push(BatchId(from.bits.array()?));
    }
    let names = read_names(from)?;
    let received = integers::read(count, from)?;
    let batches = read_ids(count, batch_ids.len(), from)?;
    let services = read_ids(count, names.len(), from)?;
    let instances = read_ids(count, names.len(), from)?;
    let environments = read_ids(count, names.len(), from)?;
    // Neighbours are mostly of one service, whose name is shared and not checked and copied again.
    let mut origins: Vec<Origin> = Vec::with_capacity(count);
    for at in 0..count {
        let name = &names[services[at] as usize];
        let service = match origins.last() {
            Some(last) if last.service.as_str() == name => last.service.clone(),
            _ => Service::new(name).map_err(|_| BlockError::Corrupt("a service has a bad name"))?,
        };
        origins.push(Origin {
            batch_id: batch_ids[batches[at] as usize],
            received_unix_nano: received[at],
            service,
            instance: names[instances[at] as usize].clone(),
            environment: names[environments[at] as usize].clone(),
        });
    }
    Ok(origins)
}

fn read_names(from: &mut SectionReader<'_>) -> Result<Vec<String>, BlockError> {
    let count = from.symbols.varint()?;
    let mut names = Vec::new();
    for _ in 0..count {
        names.push(from.text.text()?.to_owned());
    }
    Ok(names)
}

/// Each index as its distance from the one after the last of the same origin.
fn read_indices(
    origin_of_rows: &[u32],
    origins: usize,
    from: &mut SectionReader<'_>,
) -> Result<Vec<u32>, BlockError> {
    let mut next = vec![0_u32; origins];
    let skipped = integers::read(origin_of_rows.len(), from)?;
    let index = |(origin, skipped): (&u32, i64)| {
        let next = &mut next[*origin as usize];
        // Wrapping, since a damaged distance may be any number; the conversion finds it out.
        let index = u32::try_from(i64::from(*next).wrapping_add(skipped));
        let index = index.map_err(|_| BlockError::Corrupt("an index is out of range"))?;
        *next = index.wrapping_add(1);
        Ok(index)
    };
    origin_of_rows.iter().zip(skipped).map(index).collect()
}

impl Details {
    fn read(groups: &Groups<'_>, from: &mut SectionReader<'_>) -> Result<Self, BlockError> {
        let rows = groups.of_rows.len();
        let sent_levels = integers::read(rows, from)?;
        if sent_levels.iter().any(|code| !(SENT_AS_IS..=SENT_OTHER + 6).contains(code)) {
            return Err(BlockError::Corrupt("a level is not known"));
        }
        let severities = categories::read(256, groups, from)?;
        let loggers = read_names(from)?;
        let logger_of_rows = categories::read(loggers.len(), groups, from)?;
        let has_latency = integers::read(rows, from)?;
        let present = has_latency.iter().filter(|has| **has != 0).count();
        let mut found = numbers::read_floats(present, from)?.into_iter();
        let latencies =
            has_latency.into_iter().map(|has| if has == 0 { None } else { found.next() });
        let latencies = latencies.collect();
        let scores = numbers::read_floats(rows, from)?;
        let trace_ids = numbers::read_ids(rows, from)?;
        let span_ids = numbers::read_ids(rows, from)?;
        let (mut reason_starts, mut reasons) = (vec![0], Vec::new());
        for count in integers::read(rows, from)? {
            for _ in 0..count {
                reasons.push(from.text.text()?.to_owned());
            }
            reason_starts.push(reasons.len() as u32);
        }
        Ok(Self {
            sent_levels,
            severities,
            loggers,
            logger_of_rows,
            latencies,
            scores,
            trace_ids,
            span_ids,
            reason_starts,
            reasons,
        })
    }

    pub(super) fn sent_level(&self, row: usize, level: Level) -> Option<Level> {
        match self.sent_levels[row] {
            SENT_AS_IS => Some(level),
            code => Level::from_number((code - SENT_OTHER) as u8),
        }
    }

    pub(super) fn reasons_of(&self, row: usize) -> &[String] {
        &self.reasons[self.reason_starts[row] as usize..self.reason_starts[row + 1] as usize]
    }
}
