//! `logweir tail`: logs as they are stored, until interrupted. What a slow reader misses is said.

use clap::Args;
use logweir_proto::v1;
use serde::Serialize;

use crate::{
    client::ServerArgs,
    command::query::search::joined,
    error::{Error, Exit},
    log_output,
    output::{Output, OutputArgs, Tone, grouped},
};

/// Arguments of `logweir tail`.
#[derive(Debug, Args)]
pub struct TailArgs {
    #[command(flatten)]
    filter: TailFilter,
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, Args)]
struct TailFilter {
    /// What to show; none shows all (the language is that of `logweir search`)
    #[arg(value_name = "FILTER")]
    terms: Vec<String>,
}

/// In a JSON tail, the place where logs are missing.
#[derive(Serialize)]
struct Missed {
    skipped: u64,
    gap: u64,
}

impl TailArgs {
    /// Runs it.
    pub async fn run(self) -> anyhow::Result<Exit> {
        let filter = joined(&self.filter.terms);
        crate::client::check_filter(&filter)?;
        let mut client = self.server.query().await?;
        let mut output = Output::new(&self.output);
        let request = v1::TailLogsRequest { filter };
        let mut parts = client.tail_logs(request).await.map_err(Error::from)?.into_inner();
        loop {
            tokio::select! {
                part = parts.message() => match part.map_err(Error::from)? {
                    Some(part) => write_part(&mut output, &part)?,
                    // A tail has no end of its own; a script that watches by it must notice.
                    None => return Err(Error::Unavailable("the server ended the tail".into()).into()),
                },
                interrupted = tokio::signal::ctrl_c() => {
                    interrupted?;
                    return Ok(Exit::Done);
                }
            }
        }
    }
}

fn write_part(output: &mut Output, part: &v1::TailLogsResponse) -> std::io::Result<()> {
    let v1::TailLogsResponse { logs, skipped, gap } = part;
    // Before the logs that came after what is missing, so that the place is right.
    if skipped + gap > 0 && output.json {
        output.object(&Missed { skipped: *skipped, gap: *gap })?;
    } else {
        for (count, what) in [(skipped, "skipped"), (gap, "lost on the way here")] {
            if *count > 0 {
                let text = format!("— {} {what} —", grouped(*count));
                output.line(&output.paint(&text, Tone::Warning))?;
            }
        }
    }
    for log in logs {
        log_output::write(output, log)?;
    }
    output.flush()
}
