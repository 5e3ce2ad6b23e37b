//! `logweir config`: what the settings come to.

use std::io::{self, Write};

use clap::{Args, Subcommand};

use crate::{error::Exit, settings::SettingsArgs};

/// Arguments of `logweir config`.
#[derive(Debug, Args)]
pub struct ConfigArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Print the effective settings as TOML, or every mistake in them
    Check(SettingsArgs),
}

impl ConfigArgs {
    /// Runs it. Secrets are masked, or in files that the settings name.
    pub fn run(self) -> anyhow::Result<Exit> {
        let Action::Check(settings) = self.action;
        io::stdout().write_all(toml::to_string(&settings.load(&[])?)?.as_bytes())?;
        Ok(Exit::Done)
    }
}
