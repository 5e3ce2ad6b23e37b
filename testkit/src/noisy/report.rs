//! What came out, as a table, and whether it is good enough.

use std::time::Duration;

use super::{
    abuse::Case,
    samples::{Measured, Operation, Samples},
    tally::Tally,
};

/// The floor: under abuse nothing takes longer than this many times what it took in quiet, …
const RATIO_MAX: f64 = 2.0;
/// … and this on top, as what takes a millisecond may wait for a turn.
const SLACK: Duration = Duration::from_millis(50);
/// How much more the processes may have resident than in quiet: what tenants share. That is 160 MiB
/// of requests, 80 of queue, 160 of answers, 133,334 templates of 512 bytes and as much around each,
/// and what 5,461 connections have in windows, 64 KiB each since few are ever full.
const RESIDENT_MORE_MAX: u64 = (160 + 80 + 160 + 130 + 341) * MIB;
const MIB: u64 = 1 << 20;

/// All that was measured.
pub struct Report {
    /// What a measured while b was quiet.
    pub quiet: Samples,
    /// The most that the processes had resident in quiet, bytes.
    pub quiet_resident: u64,
    /// What is wrong with what a has stored, of the quiet phase and of the whole.
    pub mistakes: Vec<String>,
    /// Case after case.
    pub cases: Vec<CaseReport>,
}

/// What one case did.
pub struct CaseReport {
    /// Which.
    pub case: Case,
    /// What a measured meanwhile.
    pub samples: Samples,
    /// What is wrong with what a has stored of it.
    pub mistakes: Vec<String>,
    /// What b did.
    pub did: Tally,
    /// What the processes had resident, bytes.
    pub resident_before: u64,
    /// The most of it.
    pub resident_peak: u64,
    /// When b had left.
    pub resident_after: u64,
}

impl CaseReport {
    /// What of a's went wrong, in words.
    pub fn failures(&self) -> Vec<String> {
        failures(&self.samples, &self.mistakes, self.case.name())
    }

    /// Why this was no abuse, if it was none.
    pub fn was_not_one(&self) -> Option<String> {
        let proof = self.case.proof();
        let (case, count) = (self.case, self.did.count(proof.what));
        if count < proof.least {
            return Some(format!("{case}: only {count} {}, not {}", proof.what, proof.least));
        }
        let misfires = self.did.misfires();
        (misfires > 0).then(|| format!("{case}: {misfires} requests were refused for being none"))
    }
}

fn failures(samples: &Samples, mistakes: &[String], phase: &str) -> Vec<String> {
    let of_operation = Operation::ALL.into_iter().filter_map(|operation| {
        let Measured { failures, words, .. } = samples.of(operation);
        let words = words.join("; ");
        (failures > 0).then(|| format!("{phase}: {failures} of {operation} failed: {words}"))
    });
    of_operation.chain(mistakes.iter().map(|mistake| format!("{phase}: {mistake}"))).collect()
}

impl Report {
    pub(super) fn begin(quiet: Samples, mistakes: Vec<String>, quiet_resident: u64) -> Self {
        Self { quiet, quiet_resident, mistakes, cases: Vec::new() }
    }

    /// What of a's went wrong in any phase, in words.
    pub fn failures(&self) -> Vec<String> {
        let quiet = failures(&self.quiet, &self.mistakes, "quiet, or in the end");
        quiet.into_iter().chain(self.cases.iter().flat_map(CaseReport::failures)).collect()
    }

    /// Cases that were no abuse, and why.
    pub fn no_abuse(&self) -> Vec<String> {
        self.cases.iter().filter_map(CaseReport::was_not_one).collect()
    }

    /// What took too long, or too much memory.
    pub fn missed_floors(&self) -> Vec<String> {
        self.cases.iter().flat_map(|one| self.missed_by(one)).collect()
    }

    fn missed_by(&self, one: &CaseReport) -> Vec<String> {
        let case = one.case;
        let too_slow = Operation::ALL.into_iter().filter_map(|operation| {
            let quiet = self.quiet.of(operation).percentile(99)?;
            let abused = one.samples.of(operation).percentile(99)?;
            let most = quiet.mul_f64(RATIO_MAX) + SLACK;
            (abused > most).then(|| {
                format!("{case}: {operation} took {} ms, not {} ms", millis(abused), millis(most))
            })
        });
        let more = one.resident_peak.saturating_sub(self.quiet_resident);
        let too_large = (more > RESIDENT_MORE_MAX).then(|| {
            format!("{case}: {} MiB more, not {} MiB", more / MIB, RESIDENT_MORE_MAX / MIB)
        });
        too_slow.chain(too_large).collect()
    }

    pub(super) fn print_quiet(&self) {
        println!(
            "{:<20} {:<8} {:>5} {:>7} {:>7} {:>7} {:>7} {:>6} {:>6}",
            "case", "of a", "done", "q p50", "q p99", "p50", "p99", "ratio", "failed"
        );
        for operation in Operation::ALL {
            self.print_row("quiet", operation, &self.quiet.of(operation));
        }
        println!("  resident at most {} MiB", self.quiet_resident / MIB);
        print_lines(&failures(&self.quiet, &self.mistakes, "quiet"));
    }

    pub(super) fn print(&self, one: &CaseReport) {
        for operation in Operation::ALL {
            self.print_row(one.case.name(), operation, &one.samples.of(operation));
        }
        println!("  {}: {}", one.case.describe(), one.did);
        let [before, peak, after] =
            [one.resident_before, one.resident_peak, one.resident_after].map(|bytes| bytes / MIB);
        println!("  resident before {before} MiB, at most {peak} MiB, after {after} MiB");
        print_lines(&one.failures());
        print_lines(&self.missed_by(one));
        print_lines(&one.was_not_one().into_iter().collect::<Vec<_>>());
    }

    fn print_row(&self, phase: &str, operation: Operation, measured: &Measured) {
        let quiet = self.quiet.of(operation);
        let shown = |time: Option<Duration>| time.map_or("-".to_owned(), millis);
        let ratio = match (quiet.percentile(99), measured.percentile(99)) {
            (Some(quiet), Some(abused)) => format!("{:.1}", abused.div_duration_f64(quiet)),
            _ => "-".to_owned(),
        };
        println!(
            "{phase:<20} {operation:<8} {:>5} {:>7} {:>7} {:>7} {:>7} {ratio:>6} {:>6}",
            measured.successes(),
            shown(quiet.percentile(50)),
            shown(quiet.percentile(99)),
            shown(measured.percentile(50)),
            shown(measured.percentile(99)),
            measured.failures,
        );
    }
}

fn print_lines(lines: &[String]) {
    for line in lines {
        println!("  ! {line}");
    }
}

fn millis(time: Duration) -> String {
    let millis = time.as_secs_f64() * 1e3;
    if millis < 10.0 { format!("{millis:.1}") } else { format!("{millis:.0}") }
}
