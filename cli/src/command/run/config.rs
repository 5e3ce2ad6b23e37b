//! `logweir config`: what the settings come to.

use std::io::{self, Write};

use clap::{Args, Subcommand};

use crate::{config::ConfigArgs, error::Exit};

/// Arguments of `logweir config`.
#[derive(Debug, Args)]
pub struct CheckConfigArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Print the effective settings as TOML, or every mistake in them
    Check(ConfigArgs),
}

impl CheckConfigArgs {
    /// Runs it. Secrets are masked, or in files that the settings name.
    pub fn run(self) -> anyhow::Result<Exit> {
        let Action::Check(settings) = self.action;
        io::stdout().write_all(toml::to_string(&settings.load(&[])?)?.as_bytes())?;
        Ok(Exit::Done)
    }
}
