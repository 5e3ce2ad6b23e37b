//! `logweir evaluate incidents`: which incidents the built-in rules would have found, and when.

use std::path::PathBuf;

use clap::Args;
use logweir_evaluate::{
    Run,
    incidents::{Report, evaluate},
};

use crate::{
    error::Error,
    output::{Output, grouped, text},
};

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

impl IncidentsArgs {
    /// Runs it.
    pub(super) fn run(self, run: &Run<'_>, output: &mut Output) -> anyhow::Result<()> {
        let report = evaluate(run, &self.input, &self.output).map_err(Error::from)?;
        if output.json {
            output.object(&report)?;
        } else {
            show(output, &report)?;
        }
        Ok(())
    }
}

fn show(output: &mut Output, report: &Report) -> std::io::Result<()> {
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
    Ok(())
}
