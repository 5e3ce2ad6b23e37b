//! Which logs are called anomalies, and, where the truth is known,
//! which of them are.
//!
//! Logs take the way that they take in a processor: enriched, matched to their pattern, scored.
//! They are judged in the order of the files; each counts as received at its own time, so that old
//! files are judged as they would have been then.

mod tally;
mod truth;

use std::{
    fs::File,
    io::BufRead,
    path::{Path, PathBuf},
};

use logweir_core::{
    identity::{BatchId, Service, Tenant},
    limits::Limits,
    record::{Batch, Record, Resource, ScoredRecord, Value},
    timestamp::Timestamp,
};
use logweir_parse::{Context, Parsed, parse};
use logweir_processor::Scorer;
use logweir_ship::record::service_name;

pub use self::tally::{Example, Found, FoundKind, Summary};
use self::{
    tally::{Examples, Tally},
    truth::Truth,
};
use crate::{
    error::Error,
    run::{Run, create, file_error},
};

/// Logs of a batch, as a busy client sends them.
const BATCH_LOGS_MAX: usize = 1_000;
/// The service of logs that name none. They are all judged as one service's.
const FALLBACK_SERVICE: &str = "evaluated";

/// What is judged, and what becomes of it.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Logs, an object a line; compressed or not.
    pub input: Vec<PathBuf>,
    /// What `loadgen` wrote about its faults, or a table with `seq_id,label,kind`.
    pub truth: Option<PathBuf>,
    /// Where `seq_id,score,anomaly,reasons` of every log is written.
    pub output: Option<PathBuf>,
    /// How many anomalies are kept as examples.
    pub examples: usize,
}

/// How many anomalies there were, how many of them truly are, and some to look at.
#[derive(Debug)]
pub struct Report {
    /// The counts.
    pub summary: Summary,
    /// As many anomalies as asked for, evenly chosen.
    pub examples: Vec<Example>,
}

/// Judges every log of the input.
pub fn evaluate(run: &Run<'_>, options: &Options) -> Result<Report, Error> {
    run.expect(options.input.iter().map(PathBuf::as_path));
    let truth = options.truth.as_deref().map(|path| Truth::read(run, path)).transpose()?;
    // What can fail at once fails before hours of judging: a truth that is not there, an output
    // that cannot be written.
    let header = ["seq_id", "score", "anomaly", "reasons"];
    let table = options.output.as_deref().map(|path| create(path, &header)).transpose()?;
    let mut judging = Judging {
        scorer: Scorer::offline(&run.config, Limits::default()),
        waiting: Waiting::default(),
        tally: Tally::default(),
        examples: Examples::new(options.examples),
        truth,
        table,
    };
    let mut line_number = 0;
    for path in &options.input {
        judging.file(run, path, &mut line_number)?;
    }
    if let Some((path, table)) = options.output.as_deref().zip(judging.table.as_mut()) {
        table.flush().map_err(|source| file_error("write", path, source))?;
    }
    run.finish();
    let summary = judging.tally.summary(judging.truth.is_some(), run.seconds());
    Ok(Report { summary, examples: judging.examples.into_chosen() })
}

/// Logs in a row of one service, not yet judged.
#[derive(Default)]
struct Waiting {
    service: String,
    records: Vec<Record>,
    /// Of each record the number that the truth and the output name it by.
    ids: Vec<String>,
}

struct Judging {
    scorer: Scorer,
    waiting: Waiting,
    tally: Tally,
    examples: Examples,
    truth: Option<Truth>,
    table: Option<csv::Writer<File>>,
}

impl Judging {
    fn file(&mut self, run: &Run<'_>, path: &Path, line_number: &mut u64) -> Result<(), Error> {
        for line in run.open(path)?.lines() {
            let line = line.map_err(|source| file_error("read", path, source))?;
            *line_number += 1;
            let Parsed { time, service, mut record, .. } =
                parse(&line, &Context::at(Timestamp::EPOCH));
            let service = service.as_deref().map_or(FALLBACK_SERVICE.into(), service_name);
            // A batch has one service. Where lines of several alternate, batches are small, and the
            // order of the lines is kept: a judgement depends on what came before.
            if self.waiting.records.len() >= BATCH_LOGS_MAX || *service != self.waiting.service {
                self.judge()?;
                run.tick();
                self.waiting.service = service.into_owned();
            }
            let index = u32::try_from(self.waiting.records.len()).unwrap_or(u32::MAX);
            record.index = index;
            record.time = time.unwrap_or(Timestamp::from_unix_nanos(1));
            self.waiting.ids.push(take_id(&mut record).unwrap_or(line_number.to_string()));
            self.waiting.records.push(record);
        }
        self.judge()
    }

    fn judge(&mut self) -> Result<(), Error> {
        let records = std::mem::take(&mut self.waiting.records);
        let Some(received_at) = records.iter().map(|r| r.time).max() else {
            return Ok(());
        };
        let logs = records.len();
        // Nothing is stored, and so no batch needs an id or a checksum by which it is known again.
        let batch = Batch {
            tenant: Tenant::default(),
            batch_id: BatchId([0; 16]),
            checksum: 0,
            received_at,
            producer: None,
            resource: Resource::of(Service::new(&self.waiting.service)?),
            records,
            rejected: Vec::new(),
        };
        let (scored, _) = self.scorer.score(vec![batch]);
        for scored in scored {
            // A log on which the scorer panicked is not among the scored ones.
            self.tally.failed += (logs - scored.records.len()) as u64;
            for record in &scored.records {
                self.count(record)?;
            }
        }
        self.waiting.ids.clear();
        Ok(())
    }

    fn count(&mut self, scored: &ScoredRecord) -> Result<(), Error> {
        let service = &self.waiting.service;
        // By the index that the record had in its batch, as those that failed leave gaps.
        let id = self.waiting.ids.get(scored.record.index as usize).map_or("", String::as_str);
        let kind = self.truth.as_ref().and_then(|truth| truth.kind(service, scored, id));
        self.tally.add(kind, scored.is_anomaly);
        if scored.is_anomaly {
            self.examples.offer(|| Example::new(service, scored, kind));
        }
        if let Some(table) = &mut self.table {
            let (score, anomaly) = (scored.anomaly_score, u8::from(scored.is_anomaly));
            let reasons = scored.anomaly_reasons.join("; ");
            table.write_record([id, &score.to_string(), &anomaly.to_string(), &reasons])?;
        }
        Ok(())
    }
}

/// A labelled log's own number, which is no part of the log. It is taken out before the judgement:
/// a value that is new in every log would be judged too.
fn take_id(record: &mut Record) -> Option<String> {
    let at = record.attributes.iter().position(|attribute| attribute.key == "line_id")?;
    match record.attributes.remove(at).value {
        Value::String(id) => Some(id),
        other => Some(other.to_string()),
    }
}

#[cfg(test)]
mod tests;
