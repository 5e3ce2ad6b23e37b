//! The distributed setting: any number of servers and processors of the real binary, over a real
//! RabbitMQ and a real PostgreSQL.

use std::{
    collections::BTreeSet,
    fs,
    path::PathBuf,
    process::{Command, Output},
    time::{Duration, Instant},
};

use serde_json::Value;
use testkit::{Postgres, Proxy, RabbitMq};

use super::{Process, logweir, succeeded};

/// How long anything may take that comes by itself.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Disks of [`Cluster::on_disks`]: what is empty takes 60 MB, and the broker keeps 50 MB free.
const DATABASE_BYTES: u64 = 400 << 20;
const BROKER_BYTES: u64 = 400 << 20;

/// Database, broker and what the processes share; removed when dropped.
pub(crate) struct Cluster {
    pub(crate) postgres: Postgres,
    pub(crate) rabbitmq: RabbitMq,
    /// Further nodes of the broker.
    pub(crate) peers: Vec<RabbitMq>,
    pub(crate) folder: tempfile::TempDir,
}

impl Cluster {
    /// Over servers that other tests may use at the same time.
    pub(crate) async fn shared() -> Self {
        let (postgres, rabbitmq) = tokio::join!(Postgres::start(), RabbitMq::start());
        Self::over(postgres, rabbitmq)
    }

    /// Over servers of its own, which may be killed.
    pub(crate) async fn private() -> Self {
        let (postgres, rabbitmq) = tokio::join!(Postgres::private(), RabbitMq::private());
        Self::over(postgres, rabbitmq)
    }

    /// Over servers of its own on disks of their own, which can be filled. Needs
    /// [`testkit::may_mount`].
    pub(crate) async fn on_disks() -> Self {
        let postgres =
            Postgres::on_disk(DATABASE_BYTES, "max_wal_size = 64MB\nmin_wal_size = 32MB");
        let (postgres, rabbitmq) = tokio::join!(postgres, RabbitMq::on_disk(BROKER_BYTES, ""));
        Self::over(postgres, rabbitmq)
    }

    /// Over a database of its own and a broker of three nodes, the first of which is connected to.
    pub(crate) async fn with_peers() -> Self {
        let (postgres, nodes) = tokio::join!(Postgres::private(), RabbitMq::cluster());
        let [first, second, third] = nodes;
        Self { peers: vec![second, third], ..Self::over(postgres, first) }
    }

    fn over(postgres: Postgres, rabbitmq: RabbitMq) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let cluster = Self { postgres, rabbitmq, peers: Vec::new(), folder };
        cluster.tell(&cluster.postgres.url(), &cluster.rabbitmq.url());
        cluster
    }

    /// Tells the processes where database and broker are.
    fn tell(&self, database_url: &str, amqp_url: &str) {
        fs::write(self.path("database_url"), database_url).expect("there is room");
        fs::write(self.path("amqp_url"), amqp_url).expect("there is room");
    }

    /// Has the processes that start from now on reach database and broker by proxies.
    pub(crate) fn is_reached_by(&self, database: &Proxy, broker: &Proxy) {
        self.tell(&database.url(&self.postgres.url()), &broker.url(&self.rabbitmq.url()));
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The node of the broker that leads a partition's queue.
    pub(crate) async fn leader(&self, partition: u16) -> &RabbitMq {
        let vhost = self.rabbitmq.vhost();
        let leader = format!(
            "{{ok, Q}} = rabbit_amqqueue:lookup(rabbit_misc:r(<<\"{vhost}\">>, queue, \
             <<\"logweir.batches.{partition}\">>)), {{_, N}} = amqqueue:get_pid(Q), N"
        );
        let leader = self.rabbitmq.evaluate(&leader).await;
        let mut nodes = std::iter::once(&self.rabbitmq).chain(&self.peers);
        nodes.find(|node| leader.trim_matches('\'') == node.name()).expect("it is one of them")
    }

    /// A command that finds database, broker and keys in its environment.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = logweir();
        command.args(args);
        command.env("LOGWEIR_DATABASE_URL_FILE", self.path("database_url"));
        command.env("LOGWEIR_AMQP_URL_FILE", self.path("amqp_url"));
        command.env("LOGWEIR_TOKEN_KEY_FILE", self.path("token_keys"));
        command.env("LOGWEIR_DATA_DIR", self.path("data"));
        command
    }

    /// Starts a server or a processor on a free port and waits until it says that it is ready.
    pub(crate) fn start(&self, kind: &str) -> Process {
        self.start_with(kind, "127.0.0.1:0", &[])
    }

    /// The same on an address, with further environment variables.
    pub(crate) fn start_with(&self, kind: &str, listen: &str, env: &[(&str, &str)]) -> Process {
        let mut command = self.command(&[kind, "--listen", listen]);
        Process::start(command.envs(env.iter().copied()))
    }

    /// A new token of a role for a service.
    pub(crate) fn token(&self, service: &str, role: &str) -> String {
        let args = ["token", "issue", "--service", service, "--role", role];
        let output = self.command(&args).output().expect("the binary runs");
        succeeded(&output).trim().to_owned()
    }
}

/// Who asks, where.
pub(crate) struct Client<'a> {
    /// Such as `http://127.0.0.1:40123`; several with commas between.
    pub(crate) endpoint: &'a str,
    pub(crate) token: &'a str,
}

impl Client<'_> {
    pub(crate) fn output(&self, args: &[&str]) -> Output {
        self.command(args).output().expect("the binary runs")
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = logweir();
        command.args(args);
        command.env("LOGWEIR_ENDPOINT", self.endpoint).env("LOGWEIR_TOKEN", self.token);
        command
    }

    /// The standard output of a command that succeeds.
    pub(crate) fn run(&self, args: &[&str]) -> String {
        succeeded(&self.output(args))
    }

    /// The objects that a command prints, however it ends.
    pub(crate) fn objects(&self, args: &[&str]) -> Vec<Value> {
        let output = self.output(&[args, &["--json"]].concat());
        let text = String::from_utf8(output.stdout).expect("it prints UTF-8");
        text.lines().map(|line| serde_json::from_str(line).expect("NDJSON")).collect()
    }

    /// Logs counted over all services.
    pub(crate) fn total(&self) -> u64 {
        self.objects(&["services"]).iter().map(|one| one["total"].as_u64().expect("a number")).sum()
    }

    /// Asks until so many logs are counted.
    pub(crate) fn until_total(&self, total: u64) {
        until(&format!("{total} logs are stored"), || self.total() >= total);
        assert_eq!(self.total(), total);
    }

    /// The living processors, each with the partitions that it reads.
    pub(crate) fn processors(&self) -> Vec<(String, BTreeSet<u64>)> {
        let processes = self.objects(&["processes"]);
        let living =
            processes.iter().filter(|one| one["kind"] == "processor" && one["alive"] == true);
        let partitions = |one: &Value| {
            let list = one["partitions"].as_array().expect("a list");
            list.iter().map(|partition| partition.as_u64().expect("a number")).collect()
        };
        living.map(|one| (one["process_id"].to_string(), partitions(one))).collect()
    }

    /// Asks until so many processors share all partitions, none of them more than its share.
    pub(crate) fn until_shared_by(&self, processors: usize) {
        until(&format!("{processors} processors share the partitions"), || {
            let found = self.processors();
            let mut owned: Vec<u64> = found.iter().flat_map(|(_, owned)| owned).copied().collect();
            owned.sort_unstable();
            let fair =
                |(_, owned): &(_, BTreeSet<u64>)| owned.len() <= 4_usize.div_ceil(processors);
            found.len() == processors && owned == [0, 1, 2, 3] && found.iter().all(fair)
        });
    }
}

/// Asks again until it is so.
pub(crate) fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        std::thread::yield_now();
    }
}
