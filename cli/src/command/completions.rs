//! `logweir completions`: for bash, zsh, fish, PowerShell and elvish.

use std::io::{self, Write};

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::{command::Cli, error::Exit};

/// Arguments of `logweir completions`.
#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// For which shell
    shell: Shell,
}

impl CompletionsArgs {
    /// Runs it.
    pub fn run(self) -> anyhow::Result<Exit> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "logweir", &mut script);
        io::stdout().write_all(&script)?;
        Ok(Exit::Done)
    }
}
