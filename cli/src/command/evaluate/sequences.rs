//! `logweir evaluate sequences`: which sessions are unlike those that were normal.

use std::path::PathBuf;

use clap::Args;
use logweir_evaluate::{Run, sequences::evaluate};

use crate::{
    error::Error,
    output::{Output, count},
};

/// Arguments of `logweir evaluate sequences`.
#[derive(Debug, Args)]
pub(super) struct SequencesArgs {
    /// Normal sessions, `seq_id,events` with spaces between events; the threshold follows from them
    #[arg(long, value_name = "FILE")]
    train: PathBuf,
    /// The sessions to judge, in the same form
    #[arg(long, value_name = "FILE")]
    test: PathBuf,
    /// Where `seq_id,score,anomaly` is written
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
}

impl SequencesArgs {
    /// Runs it.
    pub(super) fn run(self, run: &Run<'_>, output: &mut Output) -> anyhow::Result<()> {
        let summary = evaluate(run, &self.train, &self.test, &self.output).map_err(Error::from)?;
        if output.json {
            output.object(&summary)?;
            return Ok(());
        }
        let sessions = [summary.train_sessions, summary.test_sessions].map(|n| n as u64);
        let numbers = [sessions[0], sessions[1], summary.anomalies];
        let headers = ["trained on", "judged", "anomalies"];
        output.table(&headers, vec![numbers.map(count).into()])?;
        output.line(&format!("{:.1} s", summary.seconds))?;
        Ok(())
    }
}
