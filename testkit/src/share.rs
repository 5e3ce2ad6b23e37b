//! Servers that all tests of a run share.

use std::{
    env,
    process::{Command, ExitStatus},
    thread,
};

use crate::{instance::Options, postgres, rabbitmq};

const POSTGRES: &str = "LOGWEIR_TESTKIT_POSTGRES";
const RABBITMQ: &str = "LOGWEIR_TESTKIT_RABBITMQ";

/// Runs a command that finds servers to share in its environment. They end with it.
pub fn run(command: &mut Command) -> std::io::Result<ExitStatus> {
    let (server, node) = thread::scope(|scope| {
        let server = scope.spawn(|| postgres::Server::start(&Options::default()));
        let node = rabbitmq::Node::start(&Options::default());
        (server.join().expect("PostgreSQL starts"), node)
    });
    command.env(POSTGRES, server.address.to_text()).env(RABBITMQ, node.address.to_text()).status()
}

pub(crate) fn postgres() -> Option<postgres::Address> {
    postgres::Address::from_text(env::var_os(POSTGRES)?.to_str()?)
}

pub(crate) fn rabbitmq() -> Option<rabbitmq::Address> {
    rabbitmq::Address::from_text(env::var_os(RABBITMQ)?.to_str()?)
}
