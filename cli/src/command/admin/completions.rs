//! `logweir completions`: for bash, zsh, fish, PowerShell and elvish.

use std::io::{self, Write};

use clap::{Args, Command};
use clap_complete::Shell;

use crate::error::Exit;

/// Arguments of `logweir completions`.
#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// For which shell
    shell: Shell,
}

impl CompletionsArgs {
    /// Runs it, for the whole command line.
    pub fn run(self, mut command_line: Command) -> anyhow::Result<Exit> {
        // Into memory first: clap panics when its writer fails, as a pipe without a reader does.
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut command_line, "logweir", &mut script);
        io::stdout().write_all(&script)?;
        Ok(Exit::Done)
    }
}
