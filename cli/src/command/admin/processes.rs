//! `logweir processes`: who runs, which partitions of the queue each reads, how far it is behind.

use clap::Args;
use logweir_proto::v1;
use serde::Serialize;

use crate::response_times::{rfc3339, shown};
use crate::{
    client::ServerArgs,
    error::{Error, Exit},
    output::{Output, OutputArgs, Tone, Value, number, say, text},
};

/// Arguments of `logweir processes`.
#[derive(Debug, Args)]
#[command(
    after_help = "Exits with 5 if nobody reads a partition of the queue: its logs wait until a \
    processor takes it over, which takes up to 10 seconds. Where processes run and how busy they are \
    is told to the tenant `default` only."
)]
pub struct ProcessesArgs {
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Serialize)]
struct Process<'a> {
    process_id: &'a str,
    kind: &'a str,
    host: Option<&'a str>,
    version: &'a str,
    started: String,
    alive: bool,
    silent_ms: u64,
    partitions: &'a [u32],
    committed: Option<String>,
    lag_ms: Option<u64>,
    load: Option<f64>,
}

impl ProcessesArgs {
    /// Runs it.
    pub async fn run(self) -> anyhow::Result<Exit> {
        let mut client = self.server.admin().await?;
        let answer = client.list_processes(v1::ListProcessesRequest::default()).await;
        let v1::ListProcessesResponse { processes, unowned_partitions } =
            answer.map_err(Error::from)?.into_inner();
        let mut output = Output::new(&self.output);
        if output.json {
            for process in &processes {
                output.object(&json(process))?;
            }
        } else {
            let header = [
                "process",
                "kind",
                "host",
                "version",
                "started",
                "state",
                "partitions",
                "lag s",
                "load %",
            ];
            output.table(&header, processes.iter().map(row).collect())?;
        }
        // The table first, then the exit code that a watchdog goes by.
        output.flush()?;
        if unowned_partitions.is_empty() {
            return Ok(Exit::Done);
        }
        say(&format!("no processor reads partition {}", joined(&unowned_partitions)));
        Ok(Exit::Partial)
    }
}

fn joined(numbers: &[u32]) -> String {
    numbers.iter().map(u32::to_string).collect::<Vec<_>>().join(",")
}

fn json(process: &v1::Process) -> Process<'_> {
    Process {
        process_id: &process.process_id,
        kind: &process.kind,
        host: is_told(process).then_some(process.host.as_str()),
        version: &process.version,
        started: rfc3339(process.started_unix_nano),
        alive: process.alive,
        silent_ms: process.silent_ms,
        partitions: &process.partitions,
        committed: process.committed_unix_nano.map(rfc3339),
        lag_ms: process.lag_ms,
        load: is_told(process).then_some(process.load),
    }
}

/// Whether the tenant is told where a process runs and how busy it is: the one of whoever runs the
/// installation is.
fn is_told(process: &v1::Process) -> bool {
    !process.host.is_empty()
}

fn row(process: &v1::Process) -> Vec<Value> {
    let state = if process.alive {
        text("lives").tone(Tone::Good)
    } else {
        text(&format!("silent for {} s", process.silent_ms / 1_000)).tone(Tone::Bad)
    };
    vec![
        text(&process.process_id).tone(Tone::Name),
        text(&process.kind),
        text(if is_told(process) { &process.host } else { "-" }),
        text(&process.version),
        text(&shown(process.started_unix_nano)).tone(Tone::Dim),
        state,
        text(&joined(&process.partitions)),
        number(process.lag_ms.map(|ms| ms as f64 / 1_000.0), 1),
        number(is_told(process).then_some(process.load * 100.0), 0),
    ]
}
