//! PgBouncer in transaction mode: what many an installation puts between processes and database.

use std::{net::TcpStream, process::Child};

use crate::{
    Postgres, blocking,
    instance::{Disk, Instance},
    port,
    postgres::{Address, USER},
};

/// A pool in front of a server; it ends when dropped.
pub struct PgBouncer {
    address: Address,
    database: String,
    pool: Pool,
}

impl PgBouncer {
    /// Hands a server connection to a client for one transaction at a time.
    pub async fn start(postgres: &Postgres) -> Self {
        let server = postgres.address().clone();
        let address = Address { port: port::free(), password: server.password.clone() };
        let listening = address.clone();
        let pool = blocking(move || Pool::start(&listening, server.port)).await;
        Self { address, database: postgres.database().to_owned(), pool }
    }

    /// Like the server's, through the pool.
    pub fn url(&self) -> String {
        self.address.url(&self.database)
    }

    /// The last lines that it wrote about itself.
    pub fn log(&self) -> String {
        self.pool.instance.log()
    }
}

struct Pool {
    instance: Instance,
    process: Child,
}

impl Pool {
    fn start(Address { port, password }: &Address, server: u16) -> Self {
        let instance = Instance::new("pgbouncer", Disk::Shared);
        instance.write("users", format!("\"{USER}\" \"{password}\"\n"));
        instance.write(
            "pgbouncer.ini",
            format!(
                "[databases]\n\
                * = host=127.0.0.1 port={server}\n\
                [pgbouncer]\n\
                listen_addr = 127.0.0.1\n\
                listen_port = {port}\n\
                unix_socket_dir =\n\
                auth_type = scram-sha-256\n\
                auth_file = users\n\
                pool_mode = transaction\n\
                max_client_conn = 200\n\
                default_pool_size = 8\n"
            ),
        );
        let mut command = instance.command("pgbouncer");
        let mut process = command.arg("pgbouncer.ini").spawn().expect("PgBouncer starts");
        instance.until("PgBouncer takes connections", || {
            let ended = process.try_wait().expect("it is a child of this process");
            assert!(ended.is_none(), "PgBouncer ended: {}", instance.log());
            TcpStream::connect(("127.0.0.1", *port)).is_ok()
        });
        Self { instance, process }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.instance.kill();
        self.process.wait().expect("it is a child of this process");
    }
}
