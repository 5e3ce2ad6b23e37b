//! `testkit share COMMAND…` runs a command with servers that its tests share; `testkit cluster
//! BINARY` runs Logweir as many processes; `testkit cross-tenant BINARY` proves that no tenant learns
//! anything of another.

use std::{
    env,
    ffi::{OsStr, OsString},
    path::Path,
    process::{Command, ExitCode},
};

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
        _ => {
            eprintln!(
                "usage: testkit share COMMAND [ARGUMENT…] | testkit cluster BINARY | testkit \
                 cross-tenant BINARY [--distributed] [--calls N] [--seed S]"
            );
            ExitCode::from(2)
        }
    }
}

fn cross_tenant(binary: &OsStr, arguments: &[OsString]) -> ExitCode {
    let arguments: Vec<_> = arguments.iter().map(|one| one.to_string_lossy().into()).collect();
    let Some(options) = testkit::cross_tenant::Options::parse(binary.into(), &arguments) else {
        eprintln!("usage: testkit cross-tenant BINARY [--distributed] [--calls N] [--seed S]");
        return ExitCode::from(2);
    };
    let report = testkit::wait(testkit::cross_tenant::run(options));
    println!("{report}");
    if report.findings.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
