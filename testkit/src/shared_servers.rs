//! The servers that all tests of a run share: started once for all of them.

use std::{
    process::{Command, ExitStatus},
    thread,
};

use crate::{
    instance::Options,
    postgres, rabbitmq,
    shared_address::{POSTGRES, RABBITMQ},
};

/// Runs a command that finds servers to share in its environment. They end with it.
pub fn run(command: &mut Command) -> std::io::Result<ExitStatus> {
    // Side by side: PostgreSQL is there long before the broker is.
    let (server, node) = thread::scope(|scope| {
        let server = scope.spawn(|| postgres::Server::start(&Options::default()));
        let node = rabbitmq::Node::start(&Options::default());
        (server.join().expect("PostgreSQL starts"), node)
    });
    command.env(POSTGRES, server.address.to_text()).env(RABBITMQ, node.address.to_text()).status()
}
