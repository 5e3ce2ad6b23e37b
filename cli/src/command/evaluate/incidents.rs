//! `logweir evaluate incidents`: which incidents the built-in rules would have found, and when.
//!
//! Logs take the way that they take in a processor, then through the engine of `alerting` on a clock
//! that follows their times: evaluated every two seconds, known two seconds after they happened.
//! Lines may be out of order by up to two minutes.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    fs::File,
    io::{BufRead, BufWriter, Write},
    path::{Path, PathBuf},
};

use clap::Args;
use logweir_alerting::{
    built_in,
    engine::Engine,
    incident::{Evidence, Incident, ProbableCause},
    keeper::Keeper,
    notice::{Notice, NoticeKind},
    play::{PlayedLog, Player},
};
use logweir_core::{
    identity::{BatchId, Service, Tenant},
    limits::Limits,
    record::{Batch, Record, Resource},
    wire::record_from_wire,
};
use logweir_processor::Scorer;
use logweir_storage::latency_bucket;
use serde::Serialize;

use super::{Run, file_error};
use crate::{
    error::Exit,
    moment::rfc3339,
    output::{grouped, text},
    source::{
        parse::{Parsed, parse},
        record::service_name,
    },
};

/// How far lines may be out of order.
const DISORDER_NANOS: i64 = 120_000_000_000;
/// Logs that wait for earlier ones at most.
const WAITING_MAX: usize = 2_000_000;
/// Logs of a batch, as a busy client sends them.
const BATCH_LOGS_MAX: usize = 1_000;
/// Lines between two looks at the progress.
const TICK_LINES: u64 = 10_000;
/// The service of logs that name none.
const FALLBACK_SERVICE: &str = "evaluated";

/// Arguments of `logweir evaluate incidents`.
#[derive(Debug, Args)]
pub(super) struct IncidentsArgs {
    /// Logs, an object a line, with `time`, `service`, `level`, `message`, `latency_ms`; compressed
    /// or not
    #[arg(long, value_name = "FILE", required = true, num_args = 1..)]
    input: Vec<PathBuf>,
    /// Write the incidents to this file, as JSON
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
}

/// A log that waits for its turn: by time, then by line.
struct Waiting {
    time_unix_nano: i64,
    line: u64,
    service: String,
    record: Record,
}

impl PartialEq for Waiting {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Waiting {}

impl PartialOrd for Waiting {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Waiting {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.time_unix_nano, self.line).cmp(&(other.time_unix_nano, other.line))
    }
}

struct Playing {
    scorer: Scorer,
    player: Player,
    waiting: BinaryHeap<Reverse<Waiting>>,
    newest_unix_nano: i64,
    /// Logs in a row of one service.
    batch: Vec<Waiting>,
    logs: u64,
    without_time: u64,
    late: u64,
    played_unix_nano: i64,
}

#[derive(Serialize)]
struct Report {
    logs: u64,
    lines_without_time: u64,
    logs_out_of_order: u64,
    from: Option<String>,
    to: Option<String>,
    seconds: f64,
    incidents: Vec<Found>,
}

/// An incident, with times that people and programs read.
#[derive(Serialize)]
struct Found {
    id: String,
    service: String,
    rule: String,
    kind: String,
    severity: String,
    state: String,
    started: String,
    pending: String,
    firing: Option<String>,
    resolved: Option<String>,
    /// Whether a person was told of it: what another incident explains is not told.
    notified: bool,
    group: String,
    summary: String,
    evidence: Evidence,
    probable_causes: Vec<ProbableCause>,
    timeline: Vec<Entry>,
}

#[derive(Serialize)]
struct Entry {
    at: String,
    event: String,
    text: String,
}

impl IncidentsArgs {
    /// Runs it.
    pub(super) fn run(self, mut run: Run) -> anyhow::Result<Exit> {
        run.expect(self.input.iter().map(PathBuf::as_path));
        let engine = Engine::new(Tenant::default().as_str(), built_in::rules(), Keeper::default());
        let mut playing = Playing {
            scorer: Scorer::offline(&run.config, Limits::default()),
            player: Player::new(engine),
            waiting: BinaryHeap::new(),
            newest_unix_nano: i64::MIN,
            batch: Vec::new(),
            logs: 0,
            without_time: 0,
            late: 0,
            played_unix_nano: i64::MIN,
        };
        let mut first_unix_nano = None;
        for path in &self.input {
            playing.file(&run, path, &mut first_unix_nano)?;
        }
        let report = playing.finish(first_unix_nano, run.seconds())?;
        write(&self.output, &report)?;
        show(&mut run, &report)?;
        Ok(Exit::Done)
    }
}

impl Playing {
    fn file(&mut self, run: &Run, path: &Path, first: &mut Option<i64>) -> anyhow::Result<()> {
        for line in run.open(path)?.lines() {
            let line = line.map_err(|source| file_error("read", path, source))?;
            self.logs += 1;
            if self.logs % TICK_LINES == 0 {
                run.tick();
            }
            let Parsed { time_unix_nano, service, record } = parse(&line, 0);
            let Some(time_unix_nano) = time_unix_nano else {
                self.without_time += 1;
                continue;
            };
            *first = Some(first.map_or(time_unix_nano, |first| first.min(time_unix_nano)));
            let service = service.as_deref().map_or(FALLBACK_SERVICE.into(), service_name);
            let (mut record, _) = record_from_wire(0, record);
            record.time_unix_nano = time_unix_nano;
            let service = service.into_owned();
            self.newest_unix_nano = self.newest_unix_nano.max(time_unix_nano);
            self.waiting.push(Reverse(Waiting {
                time_unix_nano,
                line: self.logs,
                service,
                record,
            }));
            self.release(self.newest_unix_nano.saturating_sub(DISORDER_NANOS))?;
        }
        Ok(())
    }

    /// Plays what is older than a moment, or more than may wait.
    fn release(&mut self, until_unix_nano: i64) -> anyhow::Result<()> {
        while let Some(Reverse(next)) = self.waiting.peek() {
            if next.time_unix_nano > until_unix_nano && self.waiting.len() <= WAITING_MAX {
                break;
            }
            let Some(Reverse(log)) = self.waiting.pop() else { break };
            let is_other = self.batch.last().is_some_and(|last| last.service != log.service);
            if is_other || self.batch.len() >= BATCH_LOGS_MAX {
                self.play()?;
            }
            self.batch.push(log);
        }
        Ok(())
    }

    fn play(&mut self) -> anyhow::Result<()> {
        let waiting = std::mem::take(&mut self.batch);
        let Some(last) = waiting.last() else { return Ok(()) };
        let service = last.service.clone();
        let received_unix_nano = last.time_unix_nano;
        let records = waiting.into_iter().zip(0..).map(|(log, index)| {
            let mut record = log.record;
            record.index = index;
            record
        });
        let batch = Batch {
            tenant: Tenant::default(),
            batch_id: BatchId([0; 16]),
            checksum: 0,
            received_unix_nano,
            producer: None,
            resource: Resource::of(Service::new(&service)?),
            records: records.collect(),
            rejected: Vec::new(),
        };
        let (scored, _) = self.scorer.score(vec![batch]);
        for batch in &scored {
            for log in &batch.records {
                let time_unix_nano = log.record.time_unix_nano;
                self.late += u64::from(time_unix_nano < self.played_unix_nano);
                self.played_unix_nano = self.played_unix_nano.max(time_unix_nano);
                let pattern = batch.templates.get(&log.template_id);
                let trace_id = log.record.trace_id.map(hex::encode).unwrap_or_default();
                self.player.log(&PlayedLog {
                    time_unix_nano,
                    service: &service,
                    level: log.level,
                    message: &log.record.message,
                    latency_ms: log.record.latency_ms,
                    latency_bucket: log.record.latency_ms.map(latency_bucket),
                    template_id: log.template_id.0,
                    pattern: pattern.map_or("", |template| &template.pattern),
                    is_anomaly: log.is_anomaly,
                    trace_id: &trace_id,
                    instance: "",
                });
            }
        }
        Ok(())
    }

    fn finish(mut self, first: Option<i64>, seconds: f64) -> anyhow::Result<Report> {
        self.release(i64::MAX)?;
        self.play()?;
        let newest = first.map(|_| self.newest_unix_nano);
        if let Some(newest) = newest {
            self.player.pass(newest);
        }
        let (incidents, notices) = self.player.finish();
        let told = opened(&notices);
        let incidents = incidents.into_iter();
        Ok(Report {
            logs: self.logs - self.without_time,
            lines_without_time: self.without_time,
            logs_out_of_order: self.late,
            from: first.map(rfc3339),
            to: newest.map(rfc3339),
            seconds,
            incidents: incidents.map(|i| found(told.contains_key(&i.id), i)).collect(),
        })
    }
}

/// When each incident was first told.
fn opened(notices: &[Notice]) -> BTreeMap<String, i64> {
    let opened = notices.iter().filter(|notice| notice.kind == NoticeKind::Opened);
    opened.map(|notice| (notice.incident.id.clone(), notice.at_unix_nano)).collect()
}

fn found(notified: bool, incident: Incident) -> Found {
    let entries = incident.timeline.iter().map(|entry| Entry {
        at: rfc3339(entry.at_unix_nano),
        event: format!("{:?}", entry.event).to_lowercase(),
        text: entry.text.clone(),
    });
    Found {
        service: incident.service,
        rule: incident.rule,
        kind: incident.kind,
        severity: incident.severity.to_string(),
        state: incident.state.to_string(),
        started: rfc3339(incident.evidence.started_unix_nano),
        pending: rfc3339(incident.pending_unix_nano),
        firing: incident.firing_unix_nano.map(rfc3339),
        resolved: incident.resolved_unix_nano.map(rfc3339),
        notified,
        group: incident.group,
        summary: incident.evidence.summary.clone(),
        probable_causes: incident.evidence.probable_causes.clone(),
        timeline: entries.collect(),
        evidence: incident.evidence,
        id: incident.id,
    }
}

fn write(path: &Path, report: &Report) -> anyhow::Result<()> {
    let failed = |source| file_error("write", path, source);
    let mut file = BufWriter::new(File::create(path).map_err(failed)?);
    serde_json::to_writer_pretty(&mut file, report)?;
    file.write_all(b"\n").and_then(|()| file.flush()).map_err(failed)?;
    Ok(())
}

fn show(run: &mut Run, report: &Report) -> anyhow::Result<()> {
    let output = &mut run.output;
    if output.json {
        output.object(report)?;
        output.flush()?;
        return Ok(());
    }
    let rows = report.incidents.iter().map(|incident| {
        let told = if incident.notified { "yes" } else { "no" };
        vec![
            text(incident.firing.as_deref().unwrap_or_default()),
            text(incident.resolved.as_deref().unwrap_or("still fires")),
            text(&incident.service),
            text(&incident.rule),
            text(&incident.severity),
            text(told),
            text(&incident.summary),
        ]
    });
    let header = ["firing", "resolved", "service", "rule", "severity", "told", "summary"];
    output.table(&header, rows.collect())?;
    let incidents = grouped(report.incidents.len() as u64);
    let (logs, seconds) = (grouped(report.logs), report.seconds);
    output.line(&format!("{logs} logs, {incidents} incidents, {seconds:.1} s"))?;
    if report.lines_without_time > 0 {
        let lines = grouped(report.lines_without_time);
        output.line(&format!("{lines} lines say no time and were left out"))?;
    }
    output.flush()?;
    Ok(())
}
