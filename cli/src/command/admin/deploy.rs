//! `logweir deploy`: versions going live, so that what breaks can be traced to one.

use clap::{Args, Subcommand};
use logweir_core::runtime::clock::now_unix_nano;
use logweir_core::timestamp::{rfc3339, shown};
use logweir_proto::v1;
use serde::Serialize;

use crate::{
    client::ServerArgs,
    error::{Error, Exit},
    output::{Output, OutputArgs, Tone, say, text},
    time_argument::parse_time,
};

/// Arguments of `logweir deploy`.
#[derive(Debug, Args)]
pub struct DeployArgs {
    #[command(subcommand)]
    action: Action,
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Record that a version of a service went live
    Mark {
        /// The service
        service: String,
        /// The version (SERVICE VERSION, as in `payments 2.4.1`)
        #[arg(value_name = "VERSION")]
        release: String,
        /// When: now, -5m, 2026-01-02T03:04:05Z
        #[arg(long, default_value = "now", allow_hyphen_values = true)]
        time: String,
        /// A remark
        #[arg(long, default_value = "")]
        note: String,
    },
    /// List the marks, newest first
    List {
        /// Only this service
        #[arg(long, default_value = "")]
        service: String,
        /// At most so many
        #[arg(long, short = 'n', default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1_000))]
        limit: u32,
    },
}

#[derive(Serialize)]
struct Deploy<'a> {
    time: String,
    service: &'a str,
    version: &'a str,
    note: &'a str,
}

impl DeployArgs {
    /// Runs it.
    pub async fn run(self) -> anyhow::Result<Exit> {
        let mut output = Output::new(&self.output);
        let deploys = match self.action {
            Action::Mark { service, release, time, note } => {
                let now = now_unix_nano();
                let time_unix_nano = parse_time(&time, now).map_err(Error::Usage)?;
                let deploy = v1::Deploy { service, version: release, time_unix_nano, note };
                let request = v1::MarkDeployRequest { deploy: Some(deploy) };
                let mut client = self.server.admin().await?;
                let answer = client.mark_deploy(request).await.map_err(Error::from)?;
                answer.into_inner().deploy.into_iter().collect()
            }
            Action::List { service, limit } => {
                let request = v1::ListDeploysRequest { service, limit };
                let mut client = self.server.admin().await?;
                let answer = client.list_deploys(request).await.map_err(Error::from)?;
                answer.into_inner().deploys
            }
        };
        write(&mut output, &deploys)?;
        output.flush()?;
        Ok(Exit::Done)
    }
}

fn write(output: &mut Output, deploys: &[v1::Deploy]) -> std::io::Result<()> {
    if output.json {
        return deploys.iter().try_for_each(|deploy| {
            output.object(&Deploy {
                time: rfc3339(deploy.time_unix_nano),
                service: &deploy.service,
                version: &deploy.version,
                note: &deploy.note,
            })
        });
    }
    if deploys.is_empty() {
        say("no deploy is marked");
        return Ok(());
    }
    let row = |deploy: &v1::Deploy| {
        vec![
            text(&shown(deploy.time_unix_nano)).tone(Tone::Dim),
            text(&deploy.service).tone(Tone::Name),
            text(&deploy.version),
            text(&deploy.note),
        ]
    };
    output.table(&["time", "service", "version", "note"], deploys.iter().map(row).collect())
}
