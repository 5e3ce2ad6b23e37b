//! TimescaleDB as WebAssembly, for tests of its own SQL.
//!
//! One process is one database with one session below all its connections, so it can neither be
//! shared nor show what concurrency does: see `timescaledb/server.mjs`.

use std::{
    path::Path,
    process::{Child, Command},
};

use crate::{
    blocking,
    instance::{Disk, Instance},
    port,
};

/// A database of its own for a test, with the extension in it; it ends when dropped.
pub struct TimescaleDb {
    port: u16,
    _server: Server,
}

impl TimescaleDb {
    /// Takes a second, and half a gigabyte of memory.
    pub async fn start() -> Self {
        let port = port::free();
        Self { port, _server: blocking(move || Server::start(port)).await }
    }

    /// Such as `postgres://postgres@127.0.0.1:20123/test`; its user may do everything.
    pub fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/test", self.port)
    }
}

struct Server {
    instance: Instance,
    process: Child,
}

impl Server {
    fn start(port: u16) -> Self {
        let instance = Instance::new("timescaledb", Disk::Shared);
        let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("timescaledb");
        let packages = sources.join("node_modules");
        assert!(packages.exists(), "no {}: run deploy/setup.sh test", packages.display());
        // The packages may lie where only this user can read, and the server is no danger to root.
        let mut command = instance.own_command("node");
        command.arg(sources.join("server.mjs")).arg(port.to_string()).arg(packages.join(".image"));
        let mut process = command.spawn().expect("node runs");
        instance.until("TimescaleDB takes connections", || {
            let ended = process.try_wait().expect("it is a child of this process");
            assert!(ended.is_none(), "TimescaleDB ended: {}", instance.log());
            is_ready(port)
        });
        Self { instance, process }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.instance.kill();
        self.process.wait().expect("it is a child of this process");
    }
}

fn is_ready(port: u16) -> bool {
    let mut command = Command::new("pg_isready");
    command.args(["--quiet", "--host=127.0.0.1"]).arg(format!("--port={port}"));
    command.status().expect("pg_isready runs").success()
}
