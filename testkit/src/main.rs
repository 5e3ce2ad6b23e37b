//! `testkit share COMMAND…` runs a command with servers that its tests share.

use std::{
    env,
    process::{Command, ExitCode},
};

fn main() -> ExitCode {
    let arguments: Vec<_> = env::args_os().skip(1).collect();
    match &arguments[..] {
        [verb, program, rest @ ..] if verb == "share" => {
            let status = testkit::share::run(Command::new(program).args(rest));
            let code = status.expect("the command can be started").code().unwrap_or(1);
            ExitCode::from(u8::try_from(code).unwrap_or(1))
        }
        _ => {
            eprintln!("usage: testkit share COMMAND [ARGUMENT…]");
            ExitCode::from(2)
        }
    }
}
