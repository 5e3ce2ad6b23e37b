//! `logweir evaluate anomalies`: which logs are called anomalies, and, where the truth is known,
//! which of them are.
//!
//! Logs take the way that they take in a processor: enriched, matched to their pattern, scored. They
//! are judged in the order of the files; each counts as received at its own time, so that old files
//! are judged as they would have been then.

mod tally;
mod truth;

use std::{
    fs::File,
    io::BufRead,
    path::{Path, PathBuf},
};

use clap::Args;
use logweir_core::{
    identity::{BatchId, Service, Tenant},
    limits::Limits,
    record::{Batch, Record, Resource, ScoredRecord, Value},
    wire::record_from_wire,
};
use logweir_processor::Scorer;

use self::{
    tally::{Example, Examples, Tally},
    truth::Truth,
};
use super::{Run, create, file_error};
use crate::{
    error::Exit,
    output::{count, grouped, number, text},
    source::{
        parse::{Parsed, parse},
        record::service_name,
    },
};

/// Logs of a batch, as a busy client sends them.
const BATCH_LOGS_MAX: usize = 1_000;
/// The service of logs that name none.
const FALLBACK_SERVICE: &str = "evaluated";

/// Arguments of `logweir evaluate anomalies`.
#[derive(Debug, Args)]
pub(super) struct AnomaliesArgs {
    /// Logs, an object a line, such as `logweir loadgen --dry-run` prints; compressed or not
    #[arg(long, value_name = "FILE", required = true, num_args = 1..)]
    input: Vec<PathBuf>,
    /// What `logweir loadgen --truth` wrote, or a table with `seq_id,label,kind` whose seq_id is a
    /// log's `line_id` or else its line number
    #[arg(long, value_name = "FILE")]
    truth: Option<PathBuf>,
    /// Write `seq_id,score,anomaly,reasons` of every log to this file
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Show so many of the anomalies, evenly chosen
    #[arg(long, default_value_t = 0, value_name = "COUNT")]
    examples: usize,
}

impl AnomaliesArgs {
    /// Runs it.
    pub(super) fn run(self, mut run: Run) -> anyhow::Result<Exit> {
        run.expect(self.input.iter().map(PathBuf::as_path));
        let truth = self.truth.as_deref().map(|path| Truth::read(&run, path)).transpose()?;
        let header = ["seq_id", "score", "anomaly", "reasons"];
        let table = self.output.as_deref().map(|path| create(path, &header)).transpose()?;
        let mut judging = Judging {
            scorer: Scorer::offline(&run.config, Limits::default()),
            waiting: Waiting::default(),
            tally: Tally::default(),
            examples: Examples::new(self.examples),
            truth,
            table,
        };
        let mut line_number = 0;
        for path in &self.input {
            judging.file(&run, path, &mut line_number)?;
        }
        if let Some(table) = &mut judging.table {
            table.flush()?;
        }
        let seconds = run.seconds();
        report(&mut run, &judging, seconds)?;
        run.output.flush()?;
        Ok(Exit::Done)
    }
}

/// Logs in a row of one service, not yet judged.
#[derive(Default)]
struct Waiting {
    service: String,
    records: Vec<Record>,
    /// Of each record.
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
    fn file(&mut self, run: &Run, path: &Path, line_number: &mut u64) -> anyhow::Result<()> {
        for line in run.open(path)?.lines() {
            let line = line.map_err(|source| file_error("read", path, source))?;
            *line_number += 1;
            let Parsed { time_unix_nano, service, record } = parse(&line, 0);
            let service = service.as_deref().map_or(FALLBACK_SERVICE.into(), service_name);
            if self.waiting.records.len() >= BATCH_LOGS_MAX || *service != self.waiting.service {
                self.judge()?;
                run.tick();
                self.waiting.service = service.into_owned();
            }
            let index = u32::try_from(self.waiting.records.len()).unwrap_or(u32::MAX);
            let (mut record, _) = record_from_wire(index, record);
            record.time_unix_nano = time_unix_nano.unwrap_or(1);
            self.waiting.ids.push(take_id(&mut record).unwrap_or(line_number.to_string()));
            self.waiting.records.push(record);
        }
        self.judge()
    }

    fn judge(&mut self) -> anyhow::Result<()> {
        let records = std::mem::take(&mut self.waiting.records);
        let Some(received_unix_nano) = records.iter().map(|r| r.time_unix_nano).max() else {
            return Ok(());
        };
        let logs = records.len();
        let batch = Batch {
            tenant: Tenant::default(),
            batch_id: BatchId([0; 16]),
            checksum: 0,
            received_unix_nano,
            producer: None,
            resource: Resource::of(Service::new(&self.waiting.service)?),
            records,
            rejected: Vec::new(),
        };
        let (scored, _) = self.scorer.score(vec![batch]);
        for scored in scored {
            self.tally.failed += (logs - scored.records.len()) as u64;
            for record in &scored.records {
                self.count(record)?;
            }
        }
        self.waiting.ids.clear();
        Ok(())
    }

    fn count(&mut self, scored: &ScoredRecord) -> anyhow::Result<()> {
        let service = &self.waiting.service;
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

/// A labelled log's own number, which is no part of the log.
fn take_id(record: &mut Record) -> Option<String> {
    let at = record.attributes.iter().position(|attribute| attribute.key == "line_id")?;
    match record.attributes.remove(at).value {
        Value::String(id) => Some(id),
        other => Some(other.to_string()),
    }
}

fn report(run: &mut Run, judging: &Judging, seconds: f64) -> anyhow::Result<()> {
    let summary = judging.tally.summary(judging.truth.is_some(), seconds);
    let output = &mut run.output;
    if output.json {
        for example in judging.examples.chosen() {
            output.object(example)?;
        }
        output.object(&summary)?;
        return Ok(());
    }
    for example in judging.examples.chosen() {
        output.line(&example.line())?;
    }
    if let Some(truth) = &summary.truth {
        let rows = truth.kinds.iter().map(|kind| {
            let found = number(Some(kind.recall), 4);
            vec![text(&kind.kind), count(kind.logs), count(kind.found), found]
        });
        output.table(&["fault", "logs", "found", "recall"], rows.collect())?;
        output.line(&format!(
            "precision {:.4}, recall {:.4}, F1 {:.4}",
            truth.precision, truth.recall, truth.f1
        ))?;
        let false_alarms = truth.false_alarms_per_1000;
        output.line(&format!("false alarms per 1,000 logs: {false_alarms:.3}"))?;
    }
    let (logs, anomalies) = (grouped(summary.logs), grouped(summary.anomalies));
    output.line(&format!("{logs} logs, {anomalies} anomalies, {seconds:.1} s"))?;
    Ok(())
}

#[cfg(test)]
mod tests;
