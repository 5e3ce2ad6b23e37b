//! `logweir evaluate templates`: which logs follow the same pattern.

use std::path::PathBuf;

use clap::Args;
use logweir_evaluate::{
    Run,
    templates::{Summary, evaluate},
};

use crate::{
    error::Error,
    output::{Output, count, text},
};

/// Arguments of `logweir evaluate templates`.
#[derive(Debug, Args)]
pub(super) struct TemplatesArgs {
    /// Where the files NAME.ndjson[.gz] lie, an object a line with `line_id` and `message`
    #[arg(long, value_name = "DIR")]
    input: PathBuf,
    /// Where NAME.csv is written for each, with `line_id,cluster_id,template`
    #[arg(long, value_name = "DIR")]
    output: PathBuf,
}

impl TemplatesArgs {
    /// Runs it.
    pub(super) fn run(self, run: &Run<'_>, output: &mut Output) -> anyhow::Result<()> {
        let summaries = evaluate(run, &self.input, &self.output).map_err(Error::from)?;
        if output.json {
            summaries.iter().try_for_each(|summary| output.object(summary))?;
            return Ok(());
        }
        let row = |summary: &Summary| {
            let (logs, templates) = (summary.logs as u64, summary.templates as u64);
            vec![text(&summary.name), count(logs), count(templates)]
        };
        output.table(&["set", "logs", "patterns"], summaries.iter().map(row).collect())?;
        output.line(&format!("{:.1} s", run.seconds()))?;
        Ok(())
    }
}
