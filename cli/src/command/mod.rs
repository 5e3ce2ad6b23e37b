//! The subcommands, each in a file of its own in the room of what a person wants, and how a command
//! line becomes one of them.

use std::{ffi::OsString, process::ExitCode};

use clap::{CommandFactory, Parser, Subcommand};

use self::{
    admin::{completions, dead_letters, deploy, feedback, models, processes, tenant, token},
    alerts::{channels, incidents, policy, rules, silences},
    ingest::{loadgen, send},
    query::{clusters, export, findings, get, report, search, services, stats, tail, templates},
    run::{alerting, config, migrate, processor, server, standalone},
};
use crate::{
    error::{Exit, exit_of, is_broken_pipe},
    output::say,
};

pub mod admin;
pub mod alerts;
pub mod evaluate;
pub mod ingest;
pub mod query;
pub mod run;

const EXIT_CODES: &str = "\
Exit codes:
  0    done
  1    failed
  2    used wrongly: an argument, a filter, a file that is not there
  3    the server cannot be reached or cannot answer now; trying again may help
  4    refused: the token is missing, not accepted, or does not allow it
  5    done in part: logs were rejected or are missing, or what was asked for is not there
  130  interrupted

Environment:
  LOGWEIR_ENDPOINT    the server's address
  LOGWEIR_TOKEN       the token
  LOGWEIR_TOKEN_FILE  a file that holds the token
  NO_COLOR            if set: no colours";

/// Logweir: logs in, judged and kept, nothing lost in silence.
#[derive(Debug, Parser)]
#[command(name = "logweir", version, after_help = EXIT_CODES, propagate_version = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What `logweir` can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run everything in one process, until Ctrl-C
    Standalone(standalone::StandaloneArgs),
    /// Run a server of a distributed installation: from senders to RabbitMQ, from PostgreSQL to
    /// readers
    Server(server::ServerArgs),
    /// Run a processor of a distributed installation: from RabbitMQ to PostgreSQL
    Processor(processor::ProcessorArgs),
    /// Run alerting of a distributed installation: watch what is stored, tell people
    Alerting(alerting::AlertingArgs),
    /// Bring the database of a distributed installation to this program's schema
    Migrate(migrate::MigrateArgs),
    /// List the processes, and how far each is behind
    Processes(processes::ProcessesArgs),
    /// Show what a tenant uses of what all tenants share, and what it may use
    Tenant(tenant::TenantArgs),
    /// Issue, list or revoke tokens, on the server's machine
    Token(token::TokenArgs),
    /// Check the settings of a server
    Config(config::CheckConfigArgs),
    /// Send files or standard input, resumably
    Send(send::SendArgs),
    /// Find logs, newest first
    Search(search::SearchArgs),
    /// Write every matching log as NDJSON, oldest first
    Export(export::ExportArgs),
    /// Show logs as they are stored
    Tail(tail::TailArgs),
    /// Show one log, with those around it
    Get(get::GetArgs),
    /// Show logs, errors and latency of each service
    Stats(stats::StatsArgs),
    /// List the services that have sent logs
    Services(services::ServicesArgs),
    /// List the patterns that messages follow
    Templates(templates::TemplatesArgs),
    /// Show patterns, or anomalies, in groups that say nearly the same
    Clusters(clusters::ClustersArgs),
    /// Show what was noticed about more than one log: unusual traces, drift of models
    Findings(findings::FindingsArgs),
    /// Show what each sender emitted, what is stored and what is missing
    Report(report::ReportArgs),
    /// List, replay or discard what could not be stored
    DeadLetters(dead_letters::DeadLettersArgs),
    /// Mark or list versions going live
    Deploy(deploy::DeployArgs),
    /// Say that a log is an anomaly, or is none: its pattern is judged accordingly
    Feedback(feedback::FeedbackArgs),
    /// Show what is wrong and what is known about it; acknowledge, resolve or snooze it
    Incidents(incidents::IncidentsArgs),
    /// List or change what is watched
    Rules(rules::RulesArgs),
    /// List, change or test where people are told
    Channels(channels::ChannelsArgs),
    /// When nobody wants to know, what explains what, how often people are reminded
    Policy(policy::PolicyArgs),
    /// Keep incidents quiet for a while
    Silences(silences::SilencesArgs),
    /// Train, compare and promote what judges logs
    Models(models::ModelsArgs),
    /// Make up logs from a seed, with faults that are known beforehand
    Loadgen(loadgen::LoadgenArgs),
    /// Run the detection over labelled files, as a server does, for a scorer to judge
    Evaluate(evaluate::EvaluateArgs),
    /// Write the completions of a shell to standard output
    Completions(completions::CompletionsArgs),
}

impl Command {
    /// Runs it.
    pub async fn run(self) -> anyhow::Result<Exit> {
        match self {
            Self::Standalone(args) => args.run().await,
            Self::Server(args) => args.run().await,
            Self::Processor(args) => args.run().await,
            Self::Alerting(args) => args.run().await,
            Self::Migrate(args) => args.run().await,
            Self::Processes(args) => args.run().await,
            Self::Tenant(args) => args.run().await,
            Self::Token(args) => args.run().await,
            Self::Config(args) => args.run(),
            Self::Send(args) => args.run().await,
            Self::Search(args) => args.run().await,
            Self::Export(args) => args.run().await,
            Self::Tail(args) => args.run().await,
            Self::Get(args) => args.run().await,
            Self::Stats(args) => args.run().await,
            Self::Services(args) => args.run().await,
            Self::Templates(args) => args.run().await,
            Self::Clusters(args) => args.run().await,
            Self::Report(args) => args.run().await,
            Self::DeadLetters(args) => args.run().await,
            Self::Deploy(args) => args.run().await,
            Self::Findings(args) => args.run().await,
            Self::Feedback(args) => args.run().await,
            Self::Incidents(args) => args.run().await,
            Self::Rules(args) => args.run().await,
            Self::Channels(args) => args.run().await,
            Self::Policy(args) => args.run().await,
            Self::Silences(args) => args.run().await,
            Self::Models(args) => args.run().await,
            Self::Loadgen(args) => args.run().await,
            Self::Evaluate(args) => args.run(),
            Self::Completions(args) => args.run(Cli::command()),
        }
    }
}

/// Reads the command line and runs it.
pub fn main() -> ExitCode {
    let command = Cli::parse_from(negations_spelled_out(std::env::args_os())).command;
    // By hand instead of `#[tokio::main]`, for what follows `block_on` and for the exit code.
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            say(&format!("logweir: cannot start: {error}"));
            return Exit::Failed.into();
        }
    };
    // Empty unless the binary is a test build; see the fault steps of `core`.
    let _scenario = fail::FailScenario::setup();
    let result = runtime.block_on(command.run());
    // A thread that still reads standard input must not hold the process.
    runtime.shutdown_background();
    match result {
        Ok(exit) => exit.into(),
        Err(error) if is_broken_pipe(&error) => Exit::Done.into(),
        Err(error) => {
            say(&format!("logweir: {error:#}"));
            exit_of(&error).into()
        }
    }
}

/// Filters negate with a dash, as options begin: of the commands that take a filter, `-level:debug`
/// becomes `not level:debug` before options are looked for.
fn negations_spelled_out(args: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut args: Vec<_> = args.collect();
    let takes_filter = |arg: &OsString| FILTERING.iter().any(|name| arg == name);
    if args.get(1).is_some_and(takes_filter) {
        for arg in args.iter_mut().skip(2).take_while(|arg| **arg != *"--") {
            if let Some(term) = arg.to_str().and_then(negated_term) {
                *arg = format!("not {term}").into();
            }
        }
    }
    args
}

const FILTERING: [&str; 3] = ["search", "export", "tail"];

fn negated_term(arg: &str) -> Option<&str> {
    let term = arg.strip_prefix('-')?;
    // The short options of these commands: `-h`, `-V`, and `-n` with or without its number.
    let is_option = matches!(term, "h" | "V")
        || term.strip_prefix('n').is_some_and(|limit| limit.bytes().all(|b| b.is_ascii_digit()));
    let starts_term = |c: char| c.is_alphabetic() || matches!(c, '_' | '"' | '(' | '*');
    (term.starts_with(starts_term) && !is_option).then_some(term)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    /// The words of a command as a shell reads them, up to what ends it.
    fn words(command: &str) -> Vec<OsString> {
        let mut words = Vec::new();
        for (number, part) in command.split('\'').enumerate() {
            if number % 2 == 1 {
                words.push(part.into());
                continue;
            }
            let end = part.find(['#', '&', ')', '|']).unwrap_or(part.len());
            words.extend(part[..end].split_whitespace().map(OsString::from));
            if end < part.len() {
                break;
            }
        }
        words
    }

    #[test]
    fn the_commands_of_the_readme_exist() {
        let readme = include_str!("../../../README.md");
        let lines = readme.lines().filter(|line| line.starts_with("    "));
        let mut checked = 0;
        for line in lines.filter(|line| !line.contains("PATH=")) {
            if let Some(at) = line.find("logweir ") {
                let args = negations_spelled_out(words(&line[at..]).into_iter());
                Cli::try_parse_from(args).unwrap_or_else(|error| panic!("{line}: {error}"));
                checked += 1;
            } else if let Some(target) = line.trim().strip_prefix("make ") {
                let target = target.split_whitespace().next().unwrap();
                let makefile = include_str!("../../../Makefile");
                assert!(makefile.contains(&format!("\n{target}:")), "{line}");
                checked += 1;
            }
        }
        assert!(checked >= 14, "{checked}");
    }

    #[test]
    fn negations_and_options_go_in_any_order() {
        let line = "logweir search -level:debug --from -1h service:pay -(a -n5 -\"b\" --to -1m";
        let args = negations_spelled_out(line.split(' ').map(OsString::from));
        let Ok(Cli { command: Command::Search(args) }) = Cli::try_parse_from(args) else {
            panic!()
        };
        assert_eq!(args.query.filter(), "(not level:debug) service:pay not (a (not \"b\")");
        assert_eq!(args.query.time.from.as_deref(), Some("-1h"));
        assert_eq!((args.query.time.to.as_deref(), args.limit), (Some("-1m"), 5));
    }

    #[test]
    fn other_commands_keep_their_options() {
        let line = "logweir send -f x.log";
        let args = negations_spelled_out(line.split(' ').map(OsString::from));
        assert!(matches!(Cli::try_parse_from(args), Ok(Cli { command: Command::Send(_) })));
    }
}
