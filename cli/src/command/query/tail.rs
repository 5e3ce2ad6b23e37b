//! `logweir tail`: logs as they are stored, until interrupted, over restarts of the server. What a
//! slow reader misses is said, and where the connection was away.

use std::time::Duration;

use clap::Args;
use logweir_core::runtime::{clock::now, retry::Backoff};
use logweir_proto::v1;
use serde::Serialize;

use crate::{
    client::ServerArgs,
    command::query::search::joined,
    error::{Error, Exit},
    log_output,
    output::{Output, OutputArgs, Tone, grouped, say},
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

/// In a JSON tail, the place where logs may be missing as there was no connection.
#[derive(Serialize)]
struct Disconnected {
    disconnected: String,
    reconnected: String,
}

type Parts = tonic::Streaming<v1::TailLogsResponse>;

/// Between tries to connect again: soon enough for a person who watches, and no burden for a server
/// that many watch.
const RECONNECT: Backoff =
    Backoff { first: Duration::from_millis(250), max: Duration::from_secs(2) };

impl TailArgs {
    /// Runs it.
    pub async fn run(self) -> anyhow::Result<Exit> {
        let filter = joined(&self.filter.terms);
        crate::client::check_filter(&filter)?;
        let mut output = Output::new(&self.output);
        tokio::select! {
            failed = self.follow(&filter, &mut output) => failed,
            interrupted = tokio::signal::ctrl_c() => {
                interrupted?;
                Ok(Exit::Done)
            }
        }
    }

    /// Shows what comes, over as many connections as it takes. Ends with an error alone: one at the
    /// beginning, or one that no other connection would mend.
    async fn follow(&self, filter: &str, output: &mut Output) -> anyhow::Result<Exit> {
        let mut parts = self.open(filter).await?;
        loop {
            let why = show(&mut parts, output).await?;
            let disconnected = now().to_rfc3339();
            say(&format!("the tail broke off, connecting again: {why}"));
            parts = self.open_again(filter).await?;
            Disconnected { disconnected, reconnected: now().to_rfc3339() }.write(output)?;
        }
    }

    async fn open(&self, filter: &str) -> Result<Parts, Error> {
        let request = v1::TailLogsRequest { filter: filter.to_owned() };
        let mut client = self.server.query().await?;
        Ok(client.tail_logs(request).await.map_err(Error::from)?.into_inner())
    }

    async fn open_again(&self, filter: &str) -> Result<Parts, Error> {
        let mut failures = 0;
        loop {
            match self.open(filter).await {
                Err(error) if error.exit() == Exit::Unavailable => {
                    failures += 1;
                    tokio::time::sleep(RECONNECT.delay(failures, rand::random())).await;
                }
                opened => return opened,
            }
        }
    }
}

/// Shows what comes over one connection, until it breaks off; says why it did.
async fn show(parts: &mut Parts, output: &mut Output) -> anyhow::Result<Error> {
    loop {
        match parts.message().await.map_err(Error::from) {
            Ok(Some(part)) => write_part(output, &part)?,
            // A tail has no end of its own: the server stops.
            Ok(None) => return Ok(Error::Unavailable("the server ended it".to_owned())),
            Err(error) if error.exit() == Exit::Unavailable => return Ok(error),
            Err(error) => return Err(error.into()),
        }
    }
}

impl Disconnected {
    /// Says where logs may be missing: what is stored meanwhile is not sent to the next tail.
    fn write(&self, output: &mut Output) -> std::io::Result<()> {
        let Self { disconnected, reconnected } = self;
        say(&format!(
            "connected again; what was stored meanwhile is not shown: \
             `logweir export --from {disconnected} --to {reconnected}` has the logs of that time"
        ));
        if output.json {
            output.object(self)?;
        } else {
            let text = "— logs may be missing here: there was no connection —";
            output.line(&output.paint(text, Tone::Warning))?;
        }
        output.flush()
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
