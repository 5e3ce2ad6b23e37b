//! `logweir export`: every match as NDJSON, streamed, oldest first.

use clap::Args;
use logweir_proto::v1;

use crate::{
    client::ServerArgs,
    command::query::search::Query,
    error::{Error, Exit},
    log_output,
    output::{Output, OutputArgs},
};

/// Arguments of `logweir export`.
#[derive(Debug, Args)]
pub struct ExportArgs {
    #[command(flatten)]
    query: Query,
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    output: OutputArgs,
}

impl ExportArgs {
    /// Runs it; `--json` is its only form. A stream that breaks off is an error, so that a part is never taken for the whole.
    pub async fn run(self) -> anyhow::Result<Exit> {
        let filter = self.query.checked_filter()?;
        let request = v1::ExportLogsRequest { filter, range: Some(self.query.time.range()?) };
        let mut client = self.server.query().await?;
        let mut output = Output::new(&OutputArgs { json: true, ..self.output });
        let mut parts = client.export_logs(request).await.map_err(Error::from)?.into_inner();
        while let Some(part) = parts.message().await.map_err(Error::from)? {
            for log in &part.logs {
                log_output::write_json(&mut output, log)?;
            }
        }
        output.flush()?;
        Ok(Exit::Done)
    }
}
