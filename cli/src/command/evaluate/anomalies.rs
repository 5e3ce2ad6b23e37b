//! `logweir evaluate anomalies`: which logs are called anomalies, and, where the truth is known,
//! which of them are.

use std::path::PathBuf;

use clap::Args;
use logweir_core::timestamp::shown;
use logweir_evaluate::{
    Run,
    anomalies::{Example, Found, Options, Report, evaluate},
};

use crate::{
    error::Error,
    output::{Output, count, escape, grouped, number, text},
};

/// Characters of an example's message that are shown.
const MESSAGE_CHARACTERS_MAX: usize = 160;

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
    pub(super) fn run(self, run: &Run<'_>, output: &mut Output) -> anyhow::Result<()> {
        let Self { input, truth, output: table, examples } = self;
        let options = Options { input, truth, output: table, examples };
        let Report { summary, examples } = evaluate(run, &options).map_err(Error::from)?;
        if output.json {
            examples.iter().try_for_each(|example| output.object(example))?;
            output.object(&summary)?;
            return Ok(());
        }
        examples.iter().try_for_each(|example| output.line(&line(example)))?;
        if let Some(truth) = &summary.truth {
            show_found(output, truth)?;
        }
        let (logs, anomalies) = (grouped(summary.logs), grouped(summary.anomalies));
        output.line(&format!("{logs} logs, {anomalies} anomalies, {:.1} s", summary.seconds))?;
        Ok(())
    }
}

/// An anomaly for a person: the log, and below it why it is one.
fn line(example: &Example) -> String {
    let Example { service, level, anomaly_score, .. } = example;
    let time = shown(example.time_unix_nano);
    let message: String = example.message.chars().take(MESSAGE_CHARACTERS_MAX).collect();
    let reasons = example.anomaly_reasons.join("; ");
    let log = format!("{time} {level:<5} {service} {message}");
    let outcome = format!("  ! anomaly {anomaly_score:.3}: {reasons}");
    format!("{}\n{}", escape(&log), escape(&outcome))
}

fn show_found(output: &mut Output, truth: &Found) -> std::io::Result<()> {
    let rows = truth.kinds.iter().map(|kind| {
        let recall = number(Some(kind.recall), 4);
        vec![text(&kind.kind), count(kind.logs), count(kind.found), recall]
    });
    output.table(&["fault", "logs", "found", "recall"], rows.collect())?;
    let Found { precision, recall, f1, false_alarms_per_1000, .. } = truth;
    output.line(&format!("precision {precision:.4}, recall {recall:.4}, F1 {f1:.4}"))?;
    output.line(&format!("false alarms per 1,000 logs: {false_alarms_per_1000:.3}"))
}
