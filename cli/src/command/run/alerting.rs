//! `logweir alerting`: watches what is stored and tells people. Any number of them may run: one
//! leads, the others stand by.

use clap::Args;

use crate::{config::ConfigArgs, error::Exit, output::announce, wiring::Process};

/// Arguments of `logweir alerting`.
#[derive(Debug, Args)]
pub struct AlertingArgs {
    #[command(flatten)]
    settings: ConfigArgs,
    /// The address of /healthz, /readyz and /metrics, plain HTTP; port 0 takes a free one
    #[arg(long, value_name = "ADDR", env = "LOGWEIR_LISTEN", default_value = "127.0.0.1:4320")]
    listen: String,
}

impl AlertingArgs {
    /// Runs it until SIGINT or SIGTERM.
    pub async fn run(self) -> anyhow::Result<Exit> {
        let settings = self.settings.load(&[
            ("listen", Some(&self.listen)),
            // Nothing that is secret is told there.
            ("tls_cert", Some("")),
            ("tls_key", Some("")),
            ("tls_client_ca", Some("")),
        ])?;
        let partitions = settings.rabbitmq.partitions;
        let process = Process::begin("alerting", settings, partitions)?;
        let bound = process.bind().await?;
        let Some(storage) = process.unless_stopped(process.open_database()).await? else {
            return process.stop().await;
        };
        process.start_alerting(&storage, storage.clone())?;
        announce(&format!("ready on {}", bound.endpoint));
        process.serve_status(bound, storage, true).await;
        process.stop().await
    }
}
