//! Which incidents the built-in rules would have found, and when.
//!
//! Logs take the way that they take in a processor, then through the engine of `alerting` on a
//! clock that follows their times: evaluated every two seconds, known two seconds after they
//! happened. Lines may be out of order by up to two minutes.

use std::{
    cmp::{self, Reverse},
    collections::BinaryHeap,
    fs::File,
    io::{BufRead, BufWriter, Write},
    path::{Path, PathBuf},
    time::Duration,
};

use logweir_core::{record::Record, timestamp::Timestamp, wire::record_from_wire};
use logweir_incident::incident::{Evidence, Incident, ProbableCause};
use logweir_ship::parse::{fields::Parsed, parse, record::service_name};
use serde::Serialize;

use crate::{
    error::Error,
    replay::{Played, Playing},
    run::{Run, file_error},
};

/// How far lines may be out of order.
const DISORDER: Duration = Duration::from_secs(2 * 60);
/// Logs that wait for earlier ones at most, which bounds the memory: at 20,000 logs a second of
/// event time two minutes would be more.
const WAITING_MAX: usize = 2_000_000;
/// Lines between two looks at the progress.
const TICK_LINES: u64 = 10_000;
/// The service of logs that name none.
const FALLBACK_SERVICE: &str = "evaluated";

/// A log that waits for its turn: by time, then by line.
struct Waiting {
    time: Timestamp,
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
    fn partial_cmp(&self, other: &Self) -> Option<cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Waiting {
    fn cmp(&self, other: &Self) -> cmp::Ordering {
        // A heap keeps no order among equals: logs of one moment stay in that of their lines.
        (self.time, self.line).cmp(&(other.time, other.line))
    }
}

/// Logs of files, on their way into the play.
struct Intake {
    playing: Playing,
    waiting: BinaryHeap<Reverse<Waiting>>,
    newest: Timestamp,
    logs: u64,
    without_time: u64,
}

/// What the rules made of the logs, as it is written to the output.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Logs played.
    pub logs: u64,
    /// Lines that say no time and were left out.
    pub lines_without_time: u64,
    /// Logs that came later than a log of a later time.
    pub logs_out_of_order: u64,
    /// The first log's time, RFC 3339.
    pub from: Option<String>,
    /// The last log's time, RFC 3339.
    pub to: Option<String>,
    /// How long it took.
    pub seconds: f64,
    /// Every incident that fired, by when it did.
    pub incidents: Vec<Found>,
}

/// An incident, with times that people and programs read (RFC 3339).
#[derive(Debug, Serialize)]
pub struct Found {
    /// Its id.
    pub id: String,
    /// The service that it is about.
    pub service: String,
    /// The rule that found it.
    pub rule: String,
    /// The kind of the rule.
    pub kind: String,
    /// How bad it is.
    pub severity: String,
    /// Its state at the end.
    pub state: String,
    /// When it began, by the logs.
    pub started: String,
    /// When it was first noticed.
    pub pending: String,
    /// When it fired.
    pub firing: Option<String>,
    /// When it was over; none if it still fires.
    pub resolved: Option<String>,
    /// Whether a person was told of it: what another incident explains is not told.
    pub notified: bool,
    /// Incidents of one group are told together.
    pub group: String,
    /// What happened, in a sentence.
    pub summary: String,
    /// What shows it.
    pub evidence: Evidence,
    /// What may have caused it, the likeliest first.
    pub probable_causes: Vec<ProbableCause>,
    /// What happened to it.
    pub timeline: Vec<Entry>,
}

/// An event in the life of an incident.
#[derive(Debug, Serialize)]
pub struct Entry {
    /// When, RFC 3339.
    pub at: String,
    /// What, in a word.
    pub event: String,
    /// What, in a sentence.
    pub text: String,
}

/// Plays logs, an object a line, and writes the incidents to a file, as JSON.
pub fn evaluate(run: &Run<'_>, input: &[PathBuf], output: &Path) -> Result<Report, Error> {
    run.expect(input.iter().map(PathBuf::as_path));
    let mut intake = Intake {
        playing: Playing::new(&run.config),
        waiting: BinaryHeap::new(),
        newest: Timestamp::MIN,
        logs: 0,
        without_time: 0,
    };
    let mut first = None;
    for path in input {
        intake.file(run, path, &mut first)?;
    }
    run.finish();
    let report = intake.finish(first, run.seconds())?;
    write(output, &report)?;
    Ok(report)
}

impl Intake {
    fn file(
        &mut self,
        run: &Run<'_>,
        path: &Path,
        first: &mut Option<Timestamp>,
    ) -> Result<(), Error> {
        for line in run.open(path)?.lines() {
            let line = line.map_err(|source| file_error("read", path, source))?;
            self.logs += 1;
            if self.logs.is_multiple_of(TICK_LINES) {
                run.tick();
            }
            let Parsed { time, service, record } = parse(&line, Timestamp::EPOCH);
            let Some(time) = time else {
                self.without_time += 1;
                continue;
            };
            *first = Some(first.map_or(time, |first| first.min(time)));
            let service = service.as_deref().map_or(FALLBACK_SERVICE.into(), service_name);
            let (mut record, _) = record_from_wire(0, record);
            record.time = time;
            let service = service.into_owned();
            self.newest = self.newest.max(time);
            self.waiting.push(Reverse(Waiting { time, line: self.logs, service, record }));
            self.release(self.newest - DISORDER)?;
        }
        Ok(())
    }

    /// Plays what is older than a moment, or more than may wait.
    fn release(&mut self, until: Timestamp) -> Result<(), Error> {
        while let Some(Reverse(next)) = self.waiting.peek() {
            if next.time > until && self.waiting.len() <= WAITING_MAX {
                break;
            }
            // Earlier logs may still come when too many wait; those are counted as out of order.
            let Some(Reverse(log)) = self.waiting.pop() else { break };
            self.playing.log(&log.service, log.record)?;
        }
        Ok(())
    }

    fn finish(mut self, first: Option<Timestamp>, seconds: f64) -> Result<Report, Error> {
        self.release(Timestamp::MAX)?;
        let newest = first.map(|_| self.newest);
        let Played { incidents, told, late } = self.playing.finish(newest)?;
        Ok(Report {
            logs: self.logs - self.without_time,
            lines_without_time: self.without_time,
            logs_out_of_order: late,
            from: first.map(Timestamp::to_rfc3339),
            to: newest.map(Timestamp::to_rfc3339),
            seconds,
            incidents: incidents.into_iter().map(|i| found(told.contains_key(&i.id), i)).collect(),
        })
    }
}

fn found(notified: bool, incident: Incident) -> Found {
    let entries = incident.timeline.iter().map(|entry| Entry {
        at: entry.at.to_rfc3339(),
        event: format!("{:?}", entry.event).to_lowercase(),
        text: entry.text.clone(),
    });
    Found {
        service: incident.service,
        rule: incident.rule,
        kind: incident.kind,
        severity: incident.severity.to_string(),
        state: incident.state.to_string(),
        started: incident.evidence.started_at.to_rfc3339(),
        pending: incident.pending_at.to_rfc3339(),
        firing: incident.firing_at.map(Timestamp::to_rfc3339),
        resolved: incident.resolved_at.map(Timestamp::to_rfc3339),
        notified,
        group: incident.group,
        summary: incident.evidence.summary.clone(),
        probable_causes: incident.evidence.probable_causes.clone(),
        timeline: entries.collect(),
        evidence: incident.evidence,
        id: incident.id,
    }
}

fn write(path: &Path, report: &Report) -> Result<(), Error> {
    let failed = |source| file_error("write", path, source);
    let mut file = BufWriter::new(File::create(path).map_err(failed)?);
    serde_json::to_writer_pretty(&mut file, report)?;
    // Flushed by hand: a full disk that shows only when the buffer is dropped would pass unnoticed.
    file.write_all(b"\n").and_then(|()| file.flush()).map_err(failed)?;
    Ok(())
}
