//! `logweir evaluate series`: which rows of a number in time are unusual.

use std::path::PathBuf;

use clap::Args;
use logweir_evaluate::{
    Run,
    series::{Summary, evaluate},
};

use crate::{
    error::Error,
    output::{Output, count, text},
};

/// Arguments of `logweir evaluate series`.
#[derive(Debug, Args)]
pub(super) struct SeriesArgs {
    /// Where the files NAME.csv[.gz] lie, with `timestamp,value`
    #[arg(long, value_name = "DIR")]
    input: PathBuf,
    /// Where NAME.csv is written for each, with `timestamp,score,alert,reason`
    #[arg(long, value_name = "DIR")]
    output: PathBuf,
}

impl SeriesArgs {
    /// Runs it.
    pub(super) fn run(self, run: &Run<'_>, output: &mut Output) -> anyhow::Result<()> {
        let summaries = evaluate(run, &self.input, &self.output).map_err(Error::from)?;
        if output.json {
            summaries.iter().try_for_each(|summary| output.object(summary))?;
            return Ok(());
        }
        let row = |summary: &Summary| {
            let (rows, alerts) = (summary.rows as u64, summary.alerts as u64);
            vec![text(&summary.name), count(rows), count(alerts)]
        };
        output.table(&["series", "rows", "alerts"], summaries.iter().map(row).collect())?;
        output.line(&format!("{:.1} s", run.seconds()))?;
        Ok(())
    }
}
