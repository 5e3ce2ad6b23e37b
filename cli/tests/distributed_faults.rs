//! Kills servers, processors, the broker and the database again and again under load, loses answers,
//! blocks the broker and sends logs that the processors choke on; then audits what is stored against
//! what was acknowledged. A short form by default; `make faults` runs the long one. Each prints its
//! seed, and `LOGWEIR_FAULT_SEED` repeats its faults.

#![allow(clippy::disallowed_methods, reason = "the clients of a test are supervised by the test")]

mod support;

use std::{
    collections::BTreeSet,
    os::unix::process::ExitStatusExt as _,
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use logweir_proto::v1::{
    DeadLetter, IngestRequest, ListDeadLettersRequest, ReplayDeadLettersRequest,
    admin_service_client::AdminServiceClient, ingest_service_client::IngestServiceClient,
};
use logweir_sdk::{EncodedBatch, RetryPolicy, SendOptions, SendOutcome, Sender, Token};
use rand::{RngExt, SeedableRng, rngs::StdRng, seq::SliceRandom};
use support::{
    Process,
    cluster::{Client, Cluster, PATIENCE},
    oracle::{Audit, Form, Oracle, Sending, audit, form, number_of, request},
};
use testkit::{Faults, Proxy};
use tokio::{sync::watch, time::interval};
use tonic_types::StatusExt as _;

/// Programs that send each batch until it is acknowledged, and such that give up soon.
const WRITERS: usize = 8;
const QUITTERS: usize = 2;
/// One batch in so many holds a log that the processors choke on.
const POISON_EVERY: u32 = 50;
/// What every processor is told: to choke on some logs, and to linger now and then between the logs
/// and their commit, so that a database is killed there.
const PROCESSOR: &str = "process_record=return;write_before_commit=3%sleep(200)";
/// Steps at which processes kill themselves.
const PROCESSOR_STEPS: [&str; 4] =
    ["write_after_ledger", "write_after_rows", "write_before_commit", "write_after_commit"];
const SERVER_STEPS: [&str; 2] = ["ingest_before_publish", "ingest_before_answer"];

/// What is done to the cluster, while logs flow.
#[derive(Debug, Clone, Copy)]
enum Fault {
    KillProcessor,
    KillServer,
    KillBoth,
    ProcessorDiesAt(&'static str),
    ServerDiesAt(&'static str),
    KillBroker,
    KillDatabase,
    BlockBroker,
    LoseAnswers,
    RestartInOrder,
}

struct Plan {
    seed: u64,
    /// Logs between two faults.
    share: u64,
    faults: Vec<Fault>,
}

fn plan() -> Plan {
    use Fault::{
        BlockBroker, KillBoth, KillBroker, KillDatabase, KillProcessor, KillServer, LoseAnswers,
        ProcessorDiesAt, RestartInOrder, ServerDiesAt,
    };
    let Form { seed, is_long } = form();
    let mut random = StdRng::seed_from_u64(seed);
    let times = |short: usize, long: usize| if is_long { long } else { short };
    let mut faults = Vec::new();
    for (fault, count) in [
        (KillProcessor, times(2, 14)),
        (KillServer, times(1, 14)),
        (KillBoth, times(1, 6)),
        (KillBroker, times(1, 10)),
        (KillDatabase, times(2, 10)),
        (BlockBroker, times(1, 4)),
        (LoseAnswers, times(1, 6)),
        (RestartInOrder, times(1, 10)),
    ] {
        faults.extend(vec![fault; count]);
    }
    let at_a_step = |steps: &[&'static str], fault: fn(&'static str) -> Fault| -> Vec<Fault> {
        steps.iter().map(|step| fault(step)).collect()
    };
    faults.extend(at_a_step(&PROCESSOR_STEPS, ProcessorDiesAt));
    faults.extend(at_a_step(&SERVER_STEPS, ServerDiesAt));
    faults.shuffle(&mut random);
    Plan { seed, share: times(3_000, 25_000) as u64, faults }
}

/// What the clients share.
struct Clients {
    oracle: Oracle,
    sender: Sender,
    /// Up to which number logs are sent for now.
    allowed: watch::Sender<u64>,
}

impl Clients {
    /// Waits until so many more logs are under way.
    async fn send(&self, logs: u64) {
        let target = self.oracle.numbers() + logs;
        self.allowed.send_modify(|allowed| *allowed = (*allowed).max(target));
        self.oracle.until(target).await;
    }

    /// Waits until more may be sent; whether it may.
    async fn may_send(&self) -> bool {
        let mut allowed = self.allowed.subscribe();
        let more = allowed.wait_for(|allowed| *allowed > self.oracle.numbers());
        drop(more.await.expect("it outlives the clients"));
        !self.oracle.has_ended()
    }

    async fn write(self: Arc<Self>, writer: usize, seed: u64) {
        let mut random = StdRng::seed_from_u64(seed ^ (writer as u64 + 1));
        let mut sending = Sending::new(&format!("service-{writer}"), [writer as u8 + 1; 16]);
        while self.may_send().await {
            let count = random.random_range(1..200);
            let (first, mut batch) = sending.batch(&self.oracle, count);
            if random.random_ratio(1, POISON_EVERY) {
                self.oracle.poison(first, &mut batch, random.random_range(0..count as usize));
            }
            match self.sender.send(&EncodedBatch::new(batch, 0), None).await {
                SendOutcome::Accepted { accepted, .. } => assert_eq!(u64::from(accepted), count),
                refused => panic!("not to be refused for good: {refused:?}"),
            }
            self.oracle.note(first, count, true);
        }
    }

    async fn quit(self: Arc<Self>, writer: usize, seed: u64) {
        let mut random = StdRng::seed_from_u64(seed ^ (writer as u64 + 1_000));
        while self.may_send().await {
            let count = random.random_range(1..200);
            let (first, batch) = self.oracle.batch("quitter", count);
            let deadline = Instant::now() + Duration::from_millis(random.random_range(0..30));
            let outcome = self.sender.send(&EncodedBatch::new(batch, 0), Some(deadline)).await;
            let accepted = matches!(outcome, SendOutcome::Accepted { .. });
            self.oracle.note(first, count, accepted);
        }
    }
}

/// The cluster that faults befall.
struct World {
    cluster: Cluster,
    servers: Vec<Process>,
    /// Before each server, where clients connect.
    proxies: Vec<Proxy>,
    processors: Vec<Process>,
    token: String,
    random: StdRng,
}

impl World {
    async fn start(seed: u64) -> Self {
        let cluster = Cluster::private().await;
        let servers: Vec<_> = (0..2).map(|_| cluster.start("server")).collect();
        let proxy = |server: &Process| Proxy::start(server.address(), seed);
        let proxies = servers.iter().map(proxy).collect();
        let processor = |_| cluster.start_with("processor", "127.0.0.1:0", &chokes());
        let processors = (0..2).map(processor).collect();
        let token = cluster.token("*", "admin");
        let random = StdRng::seed_from_u64(seed ^ 0xfa17);
        let world = Self { cluster, servers, proxies, processors, token, random };
        world.until_settled().await;
        world
    }

    /// Waits until both processors share the partitions.
    async fn until_settled(&self) {
        let (endpoint, token) = (self.servers[0].endpoint.clone(), self.token.clone());
        blocking(move || Client { endpoint: &endpoint, token: &token }.until_shared_by(2)).await;
    }

    fn sender(&self) -> Sender {
        let endpoints: Vec<String> =
            self.proxies.iter().map(|proxy| format!("http://{}", proxy.address())).collect();
        let (first, max) = (Duration::from_millis(20), Duration::from_millis(500));
        let retry =
            RetryPolicy { first, max, internal_retries: u32::MAX, ..RetryPolicy::default() };
        let options = SendOptions { retry, ..SendOptions::default() };
        let token = Token::Text(self.token.clone());
        Sender::connect(&endpoints.join(","), token, options).expect("the settings are good")
    }

    async fn suffer(&mut self, fault: Fault, clients: &Clients, share: u64) {
        match fault {
            Fault::KillProcessor => {
                let at = self.random.random_range(0..2);
                self.exchange(Kind::Processor, at, |old| old.kill()).await;
            }
            Fault::KillServer => {
                let at = self.random.random_range(0..2);
                self.exchange(Kind::Server, at, |old| old.kill()).await;
            }
            Fault::KillBoth => {
                for kind in [Kind::Processor, Kind::Server] {
                    self.exchange(kind, 0, |old| old.kill()).await;
                    self.exchange(kind, 1, |old| old.kill()).await;
                }
            }
            Fault::ProcessorDiesAt(step) => self.die_at(Kind::Processor, step, clients).await,
            Fault::ServerDiesAt(step) => self.die_at(Kind::Server, step, clients).await,
            Fault::KillBroker => {
                self.cluster.rabbitmq.kill().await;
                self.cluster.rabbitmq.restart().await;
            }
            Fault::KillDatabase => {
                self.cluster.postgres.kill().await;
                // The queue takes logs meanwhile.
                clients.send(share / 4).await;
                self.cluster.postgres.restart().await;
            }
            Fault::BlockBroker => {
                self.cluster.rabbitmq.block().await;
                self.assert_refused_at_once(&clients.oracle).await;
                self.cluster.rabbitmq.unblock().await;
            }
            Fault::LoseAnswers => {
                let faults = Faults { cut_answer: 0.1, ..Faults::default() };
                self.proxies.iter().for_each(|proxy| proxy.set(faults));
                clients.send(share / 2).await;
                self.proxies.iter().for_each(|proxy| proxy.set(Faults::default()));
            }
            Fault::RestartInOrder => {
                for kind in [Kind::Server, Kind::Processor] {
                    let at = self.random.random_range(0..2);
                    self.exchange(kind, at, |old| {
                        assert_eq!(old.stop().code(), Some(0), "SIGTERM ends it in order");
                    })
                    .await;
                }
            }
        }
    }

    /// Ends a process and starts another in its place.
    async fn exchange(
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

    async fn start_again(&self, kind: Kind, listen: &str, points: String) -> Process {
        let mut command = self.cluster.command(&[kind.name(), "--listen", listen]);
        command.env("FAILPOINTS", points);
        blocking(move || Process::start(&mut command)).await
    }

    /// Has a process kill itself at a step, and starts another in its place.
    async fn die_at(&mut self, kind: Kind, step: &'static str, clients: &Clients) {
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
                    clients.allowed.send_replace(clients.oracle.numbers() + 500);
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

    /// While the broker takes nothing, servers say so within a second, and when to come again.
    async fn assert_refused_at_once(&self, oracle: &Oracle) {
        let begun = Instant::now();
        for server in &self.servers {
            let mut client =
                IngestServiceClient::connect(server.endpoint.clone()).await.expect("it is up");
            let (first, batch) = oracle.batch("refused", 1);
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

    /// Asks until everything that is owed is stored and the queue is empty.
    async fn until_quiet(&self, oracle: &Oracle) -> Audit {
        let begun = Instant::now();
        loop {
            let waiting = self.waiting().await;
            let audit = audit(&self.servers[0].endpoint, &self.token).await;
            let verdict = oracle.judge(&audit);
            if waiting == 0 && verdict.lost == 0 || begun.elapsed() > 3 * PATIENCE {
                println!("quiet after {:?}, {waiting} batches wait", begun.elapsed());
                return audit;
            }
        }
    }

    /// Batches in the broker, fetched or not.
    async fn waiting(&self) -> u64 {
        let vhost = self.cluster.rabbitmq.vhost();
        let sum = format!(
            "lists:sum([proplists:get_value(messages, rabbit_amqqueue:info(Q, [messages])) \
             || Q <- rabbit_amqqueue:list(<<\"{vhost}\">>)])"
        );
        let sum = self.cluster.rabbitmq.evaluate(&sum).await;
        sum.trim().parse().unwrap_or_else(|_| panic!("no number of messages: {sum}"))
    }

    /// Every dead letter.
    async fn dead_letters(&self) -> Vec<DeadLetter> {
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

    async fn replay_all(&self) -> (u64, u64) {
        let endpoint = self.servers[0].endpoint.clone();
        let mut client = AdminServiceClient::connect(endpoint).await.expect("it is up");
        let mut replay = request(ReplayDeadLettersRequest::default(), &self.token);
        replay.set_timeout(PATIENCE);
        let answer = client.replay_dead_letters(replay).await.expect("it is answered").into_inner();
        (answer.replayed + answer.waiting, answer.rejected)
    }
}

#[derive(Debug, Clone, Copy)]
enum Kind {
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
    fn points(self) -> String {
        match self {
            Self::Server => String::new(),
            Self::Processor => PROCESSOR.to_owned(),
        }
    }
}

fn chokes() -> [(&'static str, &'static str); 1] {
    [("FAILPOINTS", PROCESSOR)]
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

/// The numbers of the dead letters, each of which must be there for its own fault alone.
fn choked_on(letters: &[DeadLetter]) -> BTreeSet<u64> {
    let number = |letter: &DeadLetter| {
        assert_eq!(letter.reason, "processing_failed", "a good log among them: {letter:?}");
        number_of(&letter.preview)
    };
    let numbers: BTreeSet<u64> = letters.iter().map(number).collect();
    assert_eq!(numbers.len(), letters.len(), "each is put aside once");
    numbers
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_fault_of_any_process_loses_doubles_or_halves_a_batch() {
    let plan = plan();
    let mut world = World::start(plan.seed).await;
    let clients = Arc::new(Clients {
        oracle: Oracle::default(),
        sender: world.sender(),
        allowed: watch::Sender::new(plan.share),
    });
    let writers = (0..WRITERS).map(|n| tokio::spawn(clients.clone().write(n, plan.seed)));
    let quitters = (0..QUITTERS).map(|n| tokio::spawn(clients.clone().quit(n, plan.seed)));
    let running: Vec<_> = writers.chain(quitters).collect();

    let begun = Instant::now();
    for (number, &fault) in plan.faults.iter().enumerate() {
        let sent = clients.oracle.numbers();
        clients.send(world.random.random_range(1..=plan.share / 2)).await;
        // So that the fault comes while logs flow.
        clients.allowed.send_replace(clients.oracle.numbers() + plan.share / 2);
        println!("{:>6.1?} {number:>3}: {fault:?} at {sent}", begun.elapsed());
        world.suffer(fault, &clients, plan.share).await;
    }
    clients.oracle.end();
    clients.allowed.send_replace(u64::MAX);
    for client in running {
        client.await.expect("every batch is acknowledged in the end");
    }

    let found = world.until_quiet(&clients.oracle).await;
    let verdict = clients.oracle.judge(&found);
    let letters = choked_on(&world.dead_letters().await);
    println!(
        "{} logs stored, {} batches abandoned, {} logs choked on, {} faults, {} answers cut",
        found.times_stored.len(),
        verdict.abandoned,
        letters.len(),
        plan.faults.len(),
        world.proxies.iter().map(Proxy::cuts).sum::<u64>(),
    );
    println!("counted {}, more than once: {:?}", found.counted, found.repeated);
    let counts = (verdict.lost, verdict.doubled, verdict.halved);
    assert_eq!(counts, (0, 0, 0), "lost, doubled, halved");
    assert_eq!(found.counted, found.times_stored.len() as u64, "counted once");
    assert!(verdict.poisoned.is_subset(&letters), "every poisoned log is put aside");
    assert!(letters.is_subset(&verdict.perhaps_poisoned), "and no good one");
    for report in found.reports.iter().filter(|report| report.sequence > 0) {
        let emitted = report.account.as_ref().expect("it gave one").emitted;
        let arrived = report.stored + report.rejected;
        assert_eq!((report.missing, arrived), (0, emitted), "{report:?}");
        assert!(report.missing_sequences.is_empty(), "{report:?}");
    }

    // Once the processors are mended, what they choked on is stored, and once however often it is
    // sent in again.
    for at in 0..2 {
        let old = world.processors.remove(at);
        let listen = old.address().to_owned();
        blocking(move || assert_eq!(old.stop().code(), Some(0))).await;
        let new = world.start_again(Kind::Processor, &listen, String::new()).await;
        world.processors.insert(at, new);
    }
    assert_eq!(world.replay_all().await, (letters.len() as u64, 0));
    assert_eq!(world.replay_all().await, (0, 0));
    let mended = world.until_quiet(&clients.oracle).await;
    let stored: BTreeSet<u64> = mended.times_stored.keys().copied().collect();
    assert!(letters.is_subset(&stored), "they are stored now");
    assert_eq!(stored.len(), found.times_stored.len() + letters.len(), "and nothing else");
    assert!(mended.times_stored.values().all(|times| *times == 1), "and once");
    assert_eq!(mended.counted, stored.len() as u64);
}
