//! A cluster that faults befall: its processes, and the networks between them.

use std::{
    os::unix::process::ExitStatusExt as _,
    pin::pin,
    time::{Duration, Instant},
};

use logweir_proto::v1::{
    DeadLetter, IngestRequest, ListDeadLettersRequest, ReplayDeadLettersRequest,
    admin_service_client::AdminServiceClient, ingest_service_client::IngestServiceClient,
};
use logweir_sdk::{RetryPolicy, SendOptions, Sender, Token};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use tokio::time::{interval, timeout};
use tonic_types::StatusExt as _;

use super::{
    Process,
    clients::Clients,
    cluster::{Client, Cluster, PATIENCE},
    network::Network,
    oracle::{Audit, Oracle, audit, request},
};

/// What every processor is told: to choke on some logs, and to linger now and then between the logs
/// and their commit, so that a database is killed there.
const PROCESSOR: &str = "process_record=return;write_before_commit=3%sleep(200)";

/// Two servers and two processors.
pub(crate) struct World {
    pub(crate) cluster: Cluster,
    pub(crate) network: Network,
    pub(crate) servers: Vec<Process>,
    pub(crate) processors: Vec<Process>,
    pub(crate) random: StdRng,
    token: String,
    /// Settings of all processes.
    settings: Settings,
}

/// Environment variables and their values.
pub(crate) type Settings = &'static [(&'static str, &'static str)];

impl World {
    /// Starts it over database and broker, which may have been started in any way.
    pub(crate) async fn start(cluster: Cluster, settings: Settings, seed: u64) -> Self {
        let mut network = Network::before(&cluster, seed);
        cluster.is_reached_by(&network.database, &network.broker);
        let start = |kind: Kind| {
            let mut command = cluster.command(&[kind.name(), "--listen", "127.0.0.1:0"]);
            command.env("FAILPOINTS", kind.points()).envs(settings.iter().copied());
            Process::start(&mut command)
        };
        let servers: Vec<_> = (0..2).map(|_| start(Kind::Server)).collect();
        let processors = (0..2).map(|_| start(Kind::Processor)).collect();
        network.add_servers(&servers, seed);
        let token = cluster.token("*", "admin");
        let random = StdRng::seed_from_u64(seed ^ 0xfa17);
        let world = Self { cluster, network, servers, processors, random, token, settings };
        world.until_settled().await;
        world
    }

    /// Waits until both processors share the partitions.
    async fn until_settled(&self) {
        let (endpoint, token) = (self.servers[0].endpoint.clone(), self.token.clone());
        blocking(move || Client { endpoint: &endpoint, token: &token }.until_shared_by(2)).await;
    }

    pub(crate) fn sender(&self) -> Sender {
        let endpoints: Vec<String> = self
            .network
            .clients
            .iter()
            .map(|proxy| format!("http://{}", proxy.address()))
            .collect();
        let (first, max) = (Duration::from_millis(20), Duration::from_millis(500));
        let retry =
            RetryPolicy { first, max, internal_retries: u32::MAX, ..RetryPolicy::default() };
        let options = SendOptions { retry, ..SendOptions::default() };
        let token = Token::Text(self.token.clone());
        Sender::connect(&endpoints.join(","), token, options).expect("the settings are good")
    }

    /// Ends a process and starts another in its place.
    pub(crate) async fn exchange(
        &mut self,
        kind: Kind,
        at: usize,
        end: impl FnOnce(Process) + Send + 'static,
    ) {
        let processes = match kind {
            Kind::Server => &mut self.servers,
            Kind::Processor => &mut self.processors,
        };
        let old = processes.remove(at);
        let listen = old.address().to_owned();
        blocking(move || end(old)).await;
        let new = self.start_again(kind, &listen, kind.points()).await;
        match kind {
            Kind::Server => self.servers.insert(at, new),
            Kind::Processor => self.processors.insert(at, new),
        }
    }

    pub(crate) async fn start_again(&self, kind: Kind, listen: &str, points: String) -> Process {
        let mut command = self.cluster.command(&[kind.name(), "--listen", listen]);
        command.env("FAILPOINTS", points).envs(self.settings.iter().copied());
        blocking(move || Process::start(&mut command)).await
    }

    /// Has a process kill itself at a step, and starts another in its place.
    pub(crate) async fn die_at(&mut self, kind: Kind, step: &'static str, clients: &Clients) {
        let at = self.random.random_range(0..2);
        let after = self.random.random_range(0..5);
        let points = format!("{};{step}={after}*off->return", kind.points());
        let processes = match kind {
            Kind::Server => &mut self.servers,
            Kind::Processor => &mut self.processors,
        };
        let old = processes.remove(at);
        let listen = old.address().to_owned();
        blocking(move || old.kill()).await;
        // Somebody has to take the step.
        let mut dying = self.start_again(kind, &listen, points).await;
        let mut ended = pin!(blocking(move || dying.wait()));
        let mut flow = interval(Duration::from_millis(100));
        let ended = loop {
            tokio::select! {
                ended = &mut ended => break ended,
                _ = flow.tick() => {
                    clients.allow(500);
                }
            }
        };
        assert_eq!(ended.signal(), Some(9), "{step}");
        let new = self.start_again(kind, &listen, kind.points()).await;
        match kind {
            Kind::Server => self.servers.insert(at, new),
            Kind::Processor => self.processors.insert(at, new),
        }
    }

    /// While the broker takes nothing of a service, servers say so within a second, and when to
    /// come again.
    pub(crate) async fn assert_refused_at_once(&self, service: &str, oracle: &Oracle) {
        let begun = Instant::now();
        for server in &self.servers {
            let mut client =
                IngestServiceClient::connect(server.endpoint.clone()).await.expect("it is up");
            let (first, batch) = oracle.batch(service, 1);
            // One that came before the server heard of the alarm may have been taken.
            let mut was_taken = false;
            let status = loop {
                let sent = IngestRequest { batch: Some(batch.clone()) };
                match client.ingest(request(sent, &self.token)).await {
                    Ok(_) => was_taken = true,
                    Err(status) => break status,
                }
                assert!(begun.elapsed() < PATIENCE, "it takes batches all the same");
            };
            assert_eq!(status.code(), tonic::Code::Unavailable, "{status}");
            assert!(status.get_details_retry_info().is_some(), "{status}");
            let asked = Instant::now();
            let sent = IngestRequest { batch: Some(batch) };
            client.ingest(request(sent, &self.token)).await.expect_err("it is blocked still");
            assert!(asked.elapsed() < Duration::from_secs(1), "it took {:?}", asked.elapsed());
            oracle.note(first, 1, was_taken);
        }
    }

    /// Sends until a processor could not write.
    pub(crate) async fn until_a_write_fails(&self, clients: &Clients) {
        let failures = || {
            let told = |one: &Process| one.metric("logweir_processor_write_failures_total");
            self.processors.iter().map(told).sum::<f64>()
        };
        let (begun, before) = (Instant::now(), failures());
        while failures() <= before {
            assert!(begun.elapsed() < PATIENCE, "everything is written all the same");
            clients.send(1_000).await;
        }
    }

    /// Asks until everything that is owed is stored and the queue is empty.
    pub(crate) async fn until_quiet(&self, oracle: &Oracle) -> Audit {
        let begun = Instant::now();
        loop {
            let waiting = self.waiting().await;
            let audit = audit(&self.servers[0].endpoint, &self.token).await;
            let judgement = oracle.judge(&audit);
            if waiting == Some(0) && judgement.lost == 0 || begun.elapsed() > 3 * PATIENCE {
                println!("quiet after {:?}, {waiting:?} batches wait", begun.elapsed());
                return audit;
            }
        }
    }

    /// Logs get through the whole path again within a time.
    pub(crate) async fn assert_flows_within(&self, limit: Duration, clients: &Clients, logs: u64) {
        let begun = Instant::now();
        let flow = async {
            clients.send(logs).await;
            clients.answered().await;
            while self.waiting().await != Some(0) {}
        };
        if timeout(limit, flow).await.is_err() {
            panic!("stuck after {limit:?}: {:?} batches wait", self.waiting().await);
        }
        println!("        flows after {:.1?}", begun.elapsed());
    }

    /// Batches in the broker, fetched or not, as the leader of each queue counts them; none while a
    /// node that led one is dead and no other leads yet. The queues of the live feed come and go,
    /// and hold none.
    pub(crate) async fn waiting(&self) -> Option<u64> {
        let vhost = self.cluster.rabbitmq.vhost();
        let sum = format!(
            "try lists:sum([proplists:get_value(messages, \
             erpc:call(element(2, amqqueue:get_pid(Q)), rabbit_amqqueue, info, [Q, [messages]])) \
             || Q <- rabbit_amqqueue:list(<<\"{vhost}\">>), amqqueue:is_durable(Q)]) \
             catch error:{{erpc, noconnection}} -> no_leader end"
        );
        let sum = self.cluster.rabbitmq.evaluate(&sum).await;
        match sum.trim() {
            "no_leader" => None,
            sum => Some(sum.parse().unwrap_or_else(|_| panic!("no number of messages: {sum}"))),
        }
    }

    /// Every dead letter.
    pub(crate) async fn dead_letters(&self) -> Vec<DeadLetter> {
        let endpoint = self.servers[0].endpoint.clone();
        let mut client = AdminServiceClient::connect(endpoint).await.expect("it is up");
        let mut found: Vec<DeadLetter> = Vec::new();
        loop {
            let before = found.last().map_or(0, |letter| letter.dead_letter_id);
            let page = ListDeadLettersRequest { limit: 1_000, before_dead_letter_id: before };
            let page = client.list_dead_letters(request(page, &self.token)).await;
            let page = page.expect("they are listed").into_inner().dead_letters;
            if page.is_empty() {
                return found;
            }
            found.extend(page);
        }
    }

    pub(crate) async fn replay_all(&self) -> (u64, u64) {
        let endpoint = self.servers[0].endpoint.clone();
        let mut client = AdminServiceClient::connect(endpoint).await.expect("it is up");
        let mut replay = request(ReplayDeadLettersRequest::default(), &self.token);
        replay.set_timeout(PATIENCE);
        let answer = client.replay_dead_letters(replay).await.expect("it is answered").into_inner();
        (answer.replayed + answer.waiting, answer.rejected)
    }
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    Server,
    Processor,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Processor => "processor",
        }
    }

    /// Its fail points.
    pub(crate) fn points(self) -> String {
        match self {
            Self::Server => String::new(),
            Self::Processor => PROCESSOR.to_owned(),
        }
    }
}

pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}
