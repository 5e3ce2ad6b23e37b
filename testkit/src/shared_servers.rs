//! The servers that all tests of a run share: started once, found by each test in its environment.

use std::{
    env,
    process::{Command, ExitStatus},
    thread,
};

use crate::{instance::Options, postgres, rabbitmq};

/// Holds the address of the shared PostgreSQL.
pub(crate) const POSTGRES: &str = "LOGWEIR_TESTKIT_POSTGRES";
/// Holds the address of the shared RabbitMQ.
pub(crate) const RABBITMQ: &str = "LOGWEIR_TESTKIT_RABBITMQ";

/// The address of a shared server; none if this run shares none.
pub(crate) fn address(variable: &str) -> Option<String> {
    env::var_os(variable)?.into_string().ok()
}

/// Runs a command that finds servers to share in its environment. They end with it.
pub fn run(command: &mut Command) -> std::io::Result<ExitStatus> {
    let (server, node) = thread::scope(|scope| {
        let server = scope.spawn(|| postgres::Server::start(&Options::default()));
        let node = rabbitmq::Node::start(&Options::default());
        (server.join().expect("PostgreSQL starts"), node)
    });
    command.env(POSTGRES, server.address.to_text()).env(RABBITMQ, node.address.to_text()).status()
}
