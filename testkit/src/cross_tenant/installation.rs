//! The product as it is run: one process, or many over a broker and a database.

use std::{
    fs,
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command},
};

use super::web;
use crate::{
    Postgres, RabbitMq, blocking,
    cluster::words_of,
    instance::{Disk, Instance},
    port,
};

/// The name of the file of keys in the folder.
const KEYS: &str = "token_keys";

/// Running processes; they end when this is dropped.
pub(super) struct Installation {
    binary: PathBuf,
    members: Vec<Child>,
    /// Where rpcs are served.
    pub(super) servers: Vec<String>,
    /// Where pages are served: every process.
    pub(super) addresses: Vec<String>,
    instance: Instance,
    stores: Option<(Postgres, RabbitMq)>,
}

impl Installation {
    pub(super) async fn start(binary: &Path, is_distributed: bool) -> Self {
        let stores = if is_distributed {
            Some(tokio::join!(Postgres::start(), RabbitMq::start()))
        } else {
            None
        };
        let binary = binary.to_owned();
        let mut installation = blocking(|| Self::over(binary, stores)).await;
        installation.until_ready().await;
        installation
    }

    fn over(binary: PathBuf, stores: Option<(Postgres, RabbitMq)>) -> Self {
        let instance = Instance::new("cross-tenant", Disk::Shared);
        let (members, servers, addresses) = Default::default();
        let mut started = Self { binary, members, servers, addresses, instance, stores };
        if started.stores.is_none() {
            started.serve("standalone");
            return started;
        }
        started.instance.run(&mut started.command(&["migrate"]));
        // Two of each where that matters: what one server is told, the other must know.
        for kind in ["server", "server", "processor", "processor", "alerting"] {
            started.serve(kind);
        }
        started
    }

    fn serve(&mut self, kind: &str) {
        let address = format!("127.0.0.1:{}", port::free());
        let mut command = self.command(&[kind, "--listen", &address]);
        self.members.push(command.spawn().expect("the binary can be started"));
        let awaited = format!("{kind} listens");
        self.instance.until(&awaited, || TcpStream::connect(&address).is_ok());
        if ["standalone", "server"].contains(&kind) {
            self.servers.push(address.clone());
        }
        self.addresses.push(address);
    }

    async fn until_ready(&mut self) {
        for address in &self.addresses {
            while !web::get(address, "/readyz").await.starts_with(b"HTTP/1.1 200") {
                tokio::task::yield_now().await;
            }
        }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let folder = self.instance.folder();
        let mut command = self.instance.own_command(&self.binary);
        command.args(arguments).env("LOGWEIR_DATA_DIR", folder.join("data"));
        command.env("LOGWEIR_TOKEN_KEY_FILE", folder.join(KEYS));
        // Trainings are many here, and each would wait for the next look of a processor.
        command.env("LOGWEIR_PROCESSOR__JOBS_PAUSE_MS", "50");
        // Alerting lets what comes after a start settle for a minute; here nothing was down before.
        command.env("LOGWEIR_ALERTING__START_PAUSE_SECONDS", "0");
        if let Some((postgres, rabbitmq)) = &self.stores {
            command.env("LOGWEIR_DATABASE_URL", postgres.url());
            command.env("LOGWEIR_AMQP_URL", rabbitmq.url());
        }
        command
    }

    /// A token for every service, as whoever runs the installation issues it.
    pub(super) fn issue(&self, tenant: &str, role: &str) -> String {
        let issue = ["token", "issue", "--service", "*", "--tenant", tenant, "--role", role];
        words_of(&self.instance, &mut self.command(&issue))
    }

    /// The key that signs tokens: its name and its secret.
    pub(super) fn token_key(&self) -> (String, Vec<u8>) {
        let text = fs::read_to_string(self.instance.folder().join(KEYS)).expect("there are keys");
        let (name, secret) = text.trim().split_once(' ').expect("a line is `kid secret`");
        (name.to_owned(), hex::decode(secret).expect("hexadecimal digits"))
    }

    /// What the processes said last, for whoever looks for a cause.
    pub(super) fn log(&self) -> String {
        self.instance.log()
    }

    /// Those that have ended by themselves.
    pub(super) fn ended(&mut self) -> usize {
        let has_ended = |child: &mut Child| child.try_wait().is_ok_and(|status| status.is_some());
        self.members.iter_mut().filter_map(|child| has_ended(child).then_some(())).count()
    }
}
