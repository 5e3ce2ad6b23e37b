//! `logweir get`: one log by its id.

use clap::Args;
use logweir_core::identity::LogId;
use logweir_proto::v1;

use crate::{
    client::ServerArgs,
    error::{Error, Exit},
    log_output,
    output::{Output, OutputArgs, Tone, say_cut},
};

/// Arguments of `logweir get`.
#[derive(Debug, Args)]
pub struct GetArgs {
    /// The log's id, as `search --json` shows it
    id: String,
    /// How many logs of the same service before and after it
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(0..=100))]
    neighbours: u32,
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    output: OutputArgs,
}

impl GetArgs {
    /// Runs it. With `--json`, the log alone, or with `--neighbours`, all of them in order of time.
    pub async fn run(self) -> anyhow::Result<Exit> {
        let id: LogId = self.id.parse().map_err(|error| Error::Usage(format!("{error}")))?;
        let request = v1::GetLogRequest { id: id.to_string(), neighbours: self.neighbours };
        let mut client = self.server.query().await?;
        let found = client.get_log(request).await.map_err(Error::from)?.into_inner();
        let Some(log) = found.log else {
            return Err(Error::Missing(format!("there is no log {id}")).into());
        };
        let mut output = Output::new(&self.output);
        for entry in &found.before {
            log_output::write(&mut output, entry)?;
        }
        let has_neighbours = !found.before.is_empty() || !found.after.is_empty();
        if has_neighbours && !output.json {
            output.line(&output.paint("→ this log", Tone::Warning))?;
        }
        log_output::write(&mut output, &log)?;
        if !output.json {
            let text = format!("  id {}  template {}", log.id, log.template_id);
            output.line(&output.paint(&crate::output::escape(&text), Tone::Dim))?;
        }
        for entry in &found.after {
            log_output::write(&mut output, entry)?;
        }
        output.flush()?;
        if found.truncated {
            say_cut("ask for fewer --neighbours");
        }
        Ok(Exit::Done)
    }
}
