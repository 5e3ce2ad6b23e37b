//! A private PostgreSQL, or a database of the one that the whole run shares.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
};

use rustix::process::{Pid, Signal, kill_process};
use uuid::Uuid;

use crate::{
    blocking,
    certificates::{self, AUTHORITY, CERTIFICATE, KEY},
    instance::{Disk, Instance, Options},
    port,
    shared_address::{POSTGRES, address},
};

/// Further lines of `postgresql.conf` for every server, such as `shared_preload_libraries =
/// 'timescaledb'` where that is installed: the storage finds it and uses it, and so every test
/// does.
const SETTINGS_VARIABLE: &str = "LOGWEIR_TEST_POSTGRES_SETTINGS";
pub(crate) const USER: &str = "logweir";

/// A crash of the server loses nothing without `fsync`; only one of the machine would.
const SETTINGS: &str = "
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
fsync = off
max_connections = 200
max_locks_per_transaction = 256
max_wal_size = 256MB
log_line_prefix = '%m [%p] %d '
";

/// A database of its own for a test, empty; it is removed when dropped.
pub struct Postgres {
    server: Arc<Server>,
    database: String,
}

impl Postgres {
    /// A database of the shared server, or of a private one when none is shared.
    pub async fn start() -> Self {
        match address(POSTGRES).and_then(|text| Address::from_text(&text)) {
            Some(address) => blocking(|| Self::create_in(Server::attach(address))).await,
            None => Self::private().await,
        }
    }

    /// A server of its own, which may be killed.
    pub async fn private() -> Self {
        Self::private_with("").await
    }

    /// A server of its own with further lines of `postgresql.conf`.
    pub async fn private_with(settings: &str) -> Self {
        Self::start_with(Options { settings: settings.into(), ..Options::default() }).await
    }

    /// A server of its own whose URL asks for TLS; [`Self::ca_file`] certifies it.
    pub async fn private_tls() -> Self {
        Self::start_with(Options { is_tls: true, ..Options::default() }).await
    }

    /// A server of its own on a disk of its own, which can be filled. Needs [`crate::may_mount`];
    /// an empty server takes 60 MB.
    pub async fn on_disk(bytes: u64, settings: &str) -> Self {
        let disk = Disk::Own { bytes };
        Self::start_with(Options { settings: settings.into(), disk, ..Options::default() }).await
    }

    async fn start_with(options: Options) -> Self {
        blocking(move || Self::create_in(Server::start(&options))).await
    }

    fn create_in(server: Server) -> Self {
        let database = format!("test_{}", Uuid::new_v4().simple());
        server.sql(&format!("create database {database}"));
        Self { server: Arc::new(server), database }
    }

    /// Such as `postgres://logweir:SECRET@127.0.0.1:20123/test_1`; its user may do everything.
    pub fn url(&self) -> String {
        let url = self.server.address.url(&self.database);
        let is_tls = self.server.private.as_ref().is_some_and(|private| private.is_tls);
        if is_tls { url + "?sslmode=require" } else { url }
    }

    /// The authority of a server that was started by [`Self::private_tls`], PEM.
    pub fn ca_file(&self) -> PathBuf {
        self.server.private().instance.folder().join(AUTHORITY)
    }

    /// Where it listens, on the loopback address.
    pub fn port(&self) -> u16 {
        self.server.address.port
    }

    /// SIGKILL for every process of a private server.
    pub async fn kill(&self) {
        self.with(Private::kill).await;
    }

    /// Ends a private server in order, without waiting for its clients.
    pub async fn stop(&self) {
        self.with(Private::stop).await;
    }

    /// Starts a private server again on the same port, ending it in order if it runs.
    pub async fn restart(&self) {
        self.with(|private| {
            private.stop();
            private.run();
        })
        .await;
    }

    /// Starts a private server again if it has ended by itself, as a service manager does; whether
    /// it had.
    pub async fn restart_if_ended(&self) -> bool {
        let server = self.server.clone();
        blocking(move || server.private().run_if_ended()).await
    }

    /// Stops the clocks of a private server: connections stay open and nothing answers.
    pub async fn pause(&self) {
        self.with(|private| drop(private.instance.signal(Signal::STOP))).await;
    }

    /// Lets a paused server go on.
    pub async fn resume(&self) {
        self.with(|private| drop(private.instance.signal(Signal::CONT))).await;
    }

    /// Leaves no room on the disk of a server that was started by [`Self::on_disk`].
    pub async fn fill_disk(&self) {
        self.with(|private| private.instance.fill_disk(0)).await;
    }

    /// Gives the room back that [`Self::fill_disk`] took.
    pub async fn free_disk(&self) {
        self.with(|private| private.instance.free_disk()).await;
    }

    /// The last lines that a private server wrote about itself.
    pub fn log(&self) -> String {
        self.server.private().instance.log()
    }

    /// The name of the database.
    pub fn database(&self) -> &str {
        &self.database
    }

    pub(crate) fn address(&self) -> &Address {
        &self.server.address
    }

    async fn with(&self, work: impl FnOnce(&Private) + Send + 'static) {
        let server = self.server.clone();
        blocking(move || work(server.private())).await;
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // A private server goes as a whole. `force`, as the test's own connections may still be
        // open.
        if self.server.private.is_none() {
            self.server.sql(&format!("drop database {} with (force)", self.database));
        }
    }
}

/// How to reach a server.
#[derive(Clone)]
pub(crate) struct Address {
    pub(crate) port: u16,
    pub(crate) password: String,
}

impl Address {
    pub(crate) fn url(&self, database: &str) -> String {
        let Self { port, password } = self;
        format!("postgres://{USER}:{password}@127.0.0.1:{port}/{database}")
    }

    /// For the environment variable of a shared server.
    pub(crate) fn to_text(&self) -> String {
        format!("{} {}", self.port, self.password)
    }

    pub(crate) fn from_text(text: &str) -> Option<Self> {
        let (port, password) = text.split_once(' ')?;
        Some(Self { port: port.parse().ok()?, password: password.to_owned() })
    }
}

pub(crate) struct Server {
    pub(crate) address: Address,
    /// None where another process started it.
    private: Option<Private>,
}

impl Server {
    fn attach(address: Address) -> Self {
        Self { address, private: None }
    }

    pub(crate) fn start(options: &Options) -> Self {
        let address = Address { port: port::free(), password: Uuid::new_v4().simple().to_string() };
        let private = Private::new(&address, options);
        private.run();
        Self { address, private: Some(private) }
    }

    fn private(&self) -> &Private {
        self.private
            .as_ref()
            .expect("only a private server can be tampered with: Postgres::private")
    }

    /// Runs a statement in the maintenance database.
    fn sql(&self, statement: &str) {
        let mut command = Command::new("psql");
        command.args(["--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", "--command", statement]);
        command.arg(self.address.url("postgres")).stdin(Stdio::null());
        let output = command.output().expect("psql runs");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{statement}: {stderr}");
    }
}

struct Private {
    instance: Instance,
    programs: PathBuf,
    port: u16,
    is_tls: bool,
    postmaster: Mutex<Option<Child>>,
}

impl Private {
    fn new(address: &Address, options: &Options) -> Self {
        let instance = Instance::new("postgres", options.disk);
        let programs = programs();
        instance.write("password", &address.password);
        // By a file: an argument could be read by everybody on the machine.
        let mut command = instance.command(programs.join("initdb"));
        command.args(["--no-sync", "--encoding=UTF8", "--locale=C.UTF-8", "--pgdata=data"]);
        command.arg("--auth=scram-sha-256").arg(format!("--username={USER}"));
        command.arg("--pwfile=password");
        instance.run(&mut command);
        let port = address.port;
        let general = env::var_os(SETTINGS_VARIABLE).unwrap_or_default();
        let general = general.to_string_lossy();
        // The last of several lines for one setting counts: a test's stand behind the usual ones,
        // and those of the whole run behind all.
        let mut settings = format!("{SETTINGS}port = {port}\n{}\n{general}\n", options.settings);
        if options.is_tls {
            certificates::write(&instance);
            settings += &format!(
                "ssl = on\nssl_cert_file = '../{CERTIFICATE}'\nssl_key_file = '../{KEY}'\n"
            );
        }
        instance.write("data/postgresql.conf", settings);
        let is_tls = options.is_tls;
        Self { instance, programs, port, is_tls, postmaster: Mutex::new(None) }
    }

    fn run(&self) {
        let mut command = self.instance.command(self.programs.join("postgres"));
        let mut child = command.arg("-D").arg("data").spawn().expect("PostgreSQL starts");
        self.instance.until("PostgreSQL takes connections", || {
            let ended = child.try_wait().expect("it is a child of this process");
            assert!(ended.is_none(), "PostgreSQL ended: {}", self.instance.log());
            self.is_ready()
        });
        *self.postmaster.lock().expect("no holder panics") = Some(child);
    }

    fn run_if_ended(&self) -> bool {
        let ended =
            self.postmaster.lock().expect("no holder panics").as_mut().is_none_or(|child| {
                child.try_wait().expect("it is a child of this process").is_some()
            });
        if ended {
            self.run();
        }
        ended
    }

    fn is_ready(&self) -> bool {
        // A connection alone says little: after a crash it is taken and refused until the recovery
        // has ended.
        let mut command = self.instance.command(self.programs.join("pg_isready"));
        command.args(["--quiet", "--host=127.0.0.1"]).arg(format!("--port={}", self.port));
        command.status().expect("pg_isready runs").success()
    }

    fn kill(&self) {
        self.instance.kill();
        self.reap();
    }

    fn stop(&self) {
        if let Some(postmaster) = &*self.postmaster.lock().expect("no holder panics") {
            // What SIGINT asks for is called a fast shutdown. A killed server is gone already, and
            // a paused one has to hear it.
            self.instance.signal(Signal::CONT);
            kill_process(Pid::from_child(postmaster), Signal::INT).ok();
        }
        self.reap();
    }

    fn reap(&self) {
        if let Some(mut postmaster) = self.postmaster.lock().expect("no holder panics").take() {
            postmaster.wait().expect("it is a child of this process");
        }
    }
}

impl Drop for Private {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Where the newest server's programs are: distributions keep them out of the path.
fn programs() -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    // By number: as text 9 would be newer than 17.
    let newest = versions
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
        .filter(|version| folder_of(*version).join("postgres").exists())
        .max();
    let newest = newest.expect("no PostgreSQL in /usr/lib/postgresql: run deploy/setup.sh test");
    folder_of(newest)
}

fn folder_of(version: u32) -> PathBuf {
    Path::new("/usr/lib/postgresql").join(version.to_string()).join("bin")
}
