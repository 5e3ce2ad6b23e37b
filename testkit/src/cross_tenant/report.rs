//! What was called, and what was found.

use std::{collections::BTreeMap, fmt, time::Duration};

use super::{call::Answer, contract::Method};

/// Findings that are kept: one cause has many.
const FINDINGS_MAX: usize = 50;
const ENDS_MAX: usize = 8;
const FINDING_CHARACTERS_MAX: usize = 1_500;

/// Calls of one rpc.
#[derive(Default)]
struct Tally {
    calls: u64,
    /// Served for a caller about its own.
    served: u64,
    took: Duration,
    codes: BTreeMap<String, u64>,
}

/// The outcome of a run.
#[derive(Default)]
pub struct Report {
    /// What repeats the run.
    pub seed: u64,
    /// What went wrong, each with what was asked; empty if nothing did.
    pub findings: Vec<String>,
    /// Words and ids that were looked for.
    pub marks: usize,
    tallies: BTreeMap<String, Tally>,
    /// What the client said of connections that ended below a call.
    ends: Vec<String>,
}

impl Report {
    pub(super) fn new(seed: u64) -> Self {
        Self { seed, ..Self::default() }
    }

    pub(super) fn find(&mut self, finding: String) {
        if self.findings.len() < FINDINGS_MAX {
            let finding: String = finding.chars().take(FINDING_CHARACTERS_MAX).collect();
            eprintln!("FOUND: {finding}");
            self.findings.push(finding);
        }
    }

    pub(super) fn count(&mut self, method: &Method, answer: &Answer, is_valid: bool) {
        let tally = self.tallies.entry(method.path.clone()).or_default();
        tally.calls += 1;
        tally.took += answer.took;
        tally.served += u64::from(is_valid && answer.succeeded(method.is_stream()));
        let code = match answer.code {
            None => "deadline".to_owned(),
            Some(code) if answer.is_said => format!("{code:?}"),
            Some(_) => {
                if self.ends.len() < ENDS_MAX {
                    self.ends.push(answer.text.clone());
                }
                "connection ended".to_owned()
            }
        };
        *tally.codes.entry(code).or_default() += 1;
    }

    /// Counts a call of a path of plain HTTP.
    pub(super) fn count_page(&mut self, path: &str, status: u16, is_served: bool, took: Duration) {
        let tally = self.tallies.entry(path.to_owned()).or_default();
        tally.calls += 1;
        tally.took += took;
        tally.served += u64::from(is_served);
        *tally.codes.entry(status.to_string()).or_default() += 1;
    }

    /// Calls in all.
    pub fn calls(&self) -> u64 {
        self.tallies.values().map(|tally| tally.calls).sum()
    }

    pub(super) fn mean(&self, path: &str) -> Duration {
        let tally = self.tallies.get(path);
        tally.map_or(Duration::ZERO, |tally| tally.took / tally.calls.max(1) as u32)
    }

    pub(super) fn served(&self, path: &str) -> u64 {
        self.tallies.get(path).map_or(0, |tally| tally.served)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (path, tally) in &self.tallies {
            let Tally { calls, served, took, codes } = tally;
            let mean = took.as_secs_f64() * 1e3 / (*calls).max(1) as f64;
            writeln!(f, "{path}: {calls} calls, {served} served, {mean:.1} ms, {codes:?}")?;
        }
        if !self.ends.is_empty() {
            writeln!(f, "connections ended: {:?}", self.ends)?;
        }
        writeln!(f, "{} calls, {} words and ids looked for", self.calls(), self.marks)?;
        for finding in &self.findings {
            writeln!(f, "FOUND: {finding}")?;
        }
        write!(f, "seed {}: {} findings", self.seed, self.findings.len())
    }
}
