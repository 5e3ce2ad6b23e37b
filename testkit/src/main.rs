//! `testkit share COMMAND…` runs a command with servers that its tests share; `testkit cluster
//! BINARY` runs Logweir as many processes; `testkit cross-tenant BINARY` tries whether one tenant learns
//! anything of another, and `testkit noisy BINARY` whether one can hurt another.

use std::{
    env,
    ffi::OsString,
    path::Path,
    process::{Command, ExitCode},
    time::Duration,
};

use testkit::noisy::{self, Case, Options};

const USAGE: &str = "usage: testkit share COMMAND [ARGUMENT…] | testkit cluster BINARY\n       \
    | testkit cross-tenant BINARY [--distributed] [--calls N] [--seed S]\n       \
    | testkit noisy BINARY [--distributed] [--seconds N] [--case NAME]…";
const SECONDS: u64 = 30;

fn main() -> ExitCode {
    let arguments: Vec<_> = env::args_os().skip(1).collect();
    match &arguments[..] {
        [verb, program, rest @ ..] if verb == "share" => {
            let status = testkit::shared_servers::run(Command::new(program).args(rest));
            let code = status.expect("the command can be started").code().unwrap_or(1);
            ExitCode::from(u8::try_from(code).unwrap_or(1))
        }
        [verb, binary] if verb == "cluster" => {
            testkit::wait(testkit::cluster::run(Path::new(binary))).expect("signals can be heeded");
            ExitCode::SUCCESS
        }
        [verb, binary, rest @ ..] if verb == "cross-tenant" => cross_tenant(binary, rest),
        [verb, binary, rest @ ..] if verb == "noisy" => match options(binary, rest) {
            Some(options) => try_cases(&options),
            None => usage(),
        },
        _ => usage(),
    }
}

fn usage() -> ExitCode {
    let cases = Case::ALL.map(|case| format!("  {case:<20} {}", case.describe()));
    eprintln!("{USAGE}\n\ncases of noisy, all unless some are named:\n{}", cases.join("\n"));
    ExitCode::from(2)
}

fn options(binary: &OsString, arguments: &[OsString]) -> Option<Options> {
    let length = Duration::from_secs(SECONDS);
    let mut options =
        Options { binary: binary.into(), distributed: false, length, cases: Vec::new() };
    let mut arguments = arguments.iter().map(|argument| argument.to_str());
    while let Some(argument) = arguments.next() {
        match argument? {
            "--distributed" => options.distributed = true,
            "--seconds" => options.length = Duration::from_secs(arguments.next()??.parse().ok()?),
            "--case" => options.cases.push(Case::of(arguments.next()??)?),
            _ => return None,
        }
    }
    if options.cases.is_empty() {
        options.cases = Case::ALL.into();
    }
    Some(options)
}

fn cross_tenant(binary: &OsString, arguments: &[OsString]) -> ExitCode {
    let arguments: Vec<_> = arguments.iter().map(|one| one.to_string_lossy().into()).collect();
    let Some(options) = testkit::cross_tenant::Options::parse(binary.into(), &arguments) else {
        return usage();
    };
    let report = testkit::wait(testkit::cross_tenant::run(options));
    println!("{report}");
    if report.findings.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Fails if a floor is missed, anything of the honest tenant's failed, or a case was no abuse.
fn try_cases(options: &Options) -> ExitCode {
    let report = noisy::run(options);
    let wrong = [report.failures(), report.missed_floors(), report.no_abuse()].concat();
    if wrong.is_empty() {
        println!("\nnobody was hurt");
        return ExitCode::SUCCESS;
    }
    println!("\n{} things are wrong:\n{}", wrong.len(), wrong.join("\n"));
    ExitCode::FAILURE
}
