//! `testkit share COMMAND…` runs a command with servers that its tests share; `testkit cluster
//! BINARY` runs Logweir as many processes.

use std::{
    env,
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
        _ => {
            eprintln!("usage: testkit share COMMAND [ARGUMENT…] | testkit cluster BINARY");
            ExitCode::from(2)
        }
    }
}
