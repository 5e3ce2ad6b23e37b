//! `logweir migrate`: brings the database to this program's schema.

use clap::Args;
use logweir_core::runtime::{clock::system_clock, telemetry};

use crate::{
    config::ConfigArgs,
    error::{Error, Exit},
    output::say,
    wiring::open_database,
};

/// Arguments of `logweir migrate`.
#[derive(Debug, Args)]
#[command(
    after_help = "Every process does the same when it starts, and any number of them may at \
    once. By itself it is for a database whose schema is changed before the processes are exchanged."
)]
pub struct MigrateArgs {
    #[command(flatten)]
    settings: ConfigArgs,
}

impl MigrateArgs {
    /// Runs it.
    pub async fn run(self) -> anyhow::Result<Exit> {
        let settings = self.settings.load(&[])?;
        telemetry::start_logging(&settings.log).map_err(Error::Usage)?;
        drop(open_database(&settings, &system_clock()).await?);
        say(&format!("{} has the schema of this program", settings.database_url.masked()));
        Ok(Exit::Done)
    }
}
