//! What is abused: a standalone, or the distributed setting with one server, so that both tenants
//! meet in it, two processors and one for alerting.

use std::{
    io::{BufRead as _, BufReader, Read as _},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
};

use crate::{
    Postgres, RabbitMq,
    instance::{Disk, Instance},
};

/// Logweir with its two tenants; ends when dropped.
pub(super) struct Target {
    /// Such as `http://127.0.0.1:40123`.
    pub(super) endpoint: String,
    /// Of role admin, of the tenant that must not be hurt.
    pub(super) token_a: String,
    /// The same of the one that hurts.
    pub(super) token_b: String,
    processes: Vec<Process>,
    instance: Instance,
    _servers: Option<(Postgres, RabbitMq)>,
}

struct Process {
    child: Child,
    endpoint: String,
    /// Open, or what it prints would end it.
    stdout: BufReader<ChildStdout>,
}

impl Target {
    pub(super) async fn standalone(binary: &Path) -> Self {
        let binary = binary.to_owned();
        crate::blocking(move || {
            let setting = Setting { binary, instance: new_instance(), urls: None };
            setting.start(&["standalone"], None)
        })
        .await
    }

    pub(super) async fn distributed(binary: &Path) -> Self {
        let binary = binary.to_owned();
        let (postgres, rabbitmq) = tokio::join!(Postgres::start(), RabbitMq::start());
        crate::blocking(move || {
            let urls = Some((postgres.url(), rabbitmq.url()));
            let setting = Setting { binary, instance: new_instance(), urls };
            setting.instance.run(&mut setting.command(&["migrate"]));
            let kinds = ["server", "processor", "processor", "alerting"];
            setting.start(&kinds, Some((postgres, rabbitmq)))
        })
        .await
    }

    pub(super) fn process_ids(&self) -> Vec<u32> {
        self.processes.iter().map(|process| process.child.id()).collect()
    }

    /// Which of the processes have ended, though nobody asked them to, and what was said last.
    pub(super) fn ended(&mut self) -> Option<String> {
        let ended = self
            .processes
            .iter_mut()
            .find_map(|process| process.child.try_wait().expect("it is a child of this process"))?;
        Some(format!("a process ended: {ended}\n{}", self.instance.log()))
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        for process in &mut self.processes {
            // Already ended is as good.
            drop(process.child.kill());
            drop(process.child.wait());
        }
    }
}

fn new_instance() -> Instance {
    Instance::new("noisy", Disk::Shared)
}

struct Setting {
    binary: PathBuf,
    instance: Instance,
    /// Of database and broker, in the distributed setting.
    urls: Option<(String, String)>,
}

impl Setting {
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.instance.own_command(&self.binary);
        command.args(arguments).env("LOGWEIR_DATA_DIR", self.instance.folder().join("data"));
        // Alerts are measured from the first second on.
        command.env("LOGWEIR_ALERTING__START_PAUSE_SECONDS", "0");
        if let Some((database, broker)) = &self.urls {
            command.env("LOGWEIR_DATABASE_URL", database).env("LOGWEIR_AMQP_URL", broker);
        }
        command
    }

    fn start(self, kinds: &[&str], servers: Option<(Postgres, RabbitMq)>) -> Target {
        let processes: Vec<Process> = kinds.iter().map(|kind| self.process(kind)).collect();
        let [token_a, token_b] = ["a", "b"].map(|tenant| self.token(tenant));
        let endpoint = processes[0].endpoint.clone();
        let instance = self.instance;
        Target { endpoint, token_a, token_b, processes, instance, _servers: servers }
    }

    /// Starts one on a free port and waits until it says that it is ready.
    fn process(&self, kind: &str) -> Process {
        let mut command = self.command(&[kind, "--listen", "127.0.0.1:0"]);
        let mut child = command.stdout(Stdio::piped()).spawn().expect("the binary can be started");
        let stdout = BufReader::new(child.stdout.take().expect("stdout is piped"));
        let mut process = Process { child, endpoint: String::new(), stdout };
        let mut line = String::new();
        while process.endpoint.is_empty() {
            line.clear();
            let read = process.stdout.read_line(&mut line).expect("what it says can be read");
            assert!(read > 0, "{kind} ended before it was ready\n{}", self.instance.log());
            let endpoint = line.trim().strip_prefix("ready on ");
            process.endpoint = endpoint.unwrap_or_default().to_owned();
        }
        process
    }

    fn token(&self, tenant: &str) -> String {
        let issue = ["token", "issue", "--tenant", tenant, "--service", "*", "--role", "admin"];
        let mut command = self.command(&issue);
        let mut child = command.stdout(Stdio::piped()).spawn().expect("the binary can be started");
        let mut token = String::new();
        let mut stdout = child.stdout.take().expect("stdout is piped");
        stdout.read_to_string(&mut token).expect("a token is text");
        let status = child.wait().expect("it is a child of this process");
        assert!(status.success(), "{command:?}: {status}\n{}", self.instance.log());
        token.trim().to_owned()
    }
}
