//! Kills the real process again and again under load, and audits what is stored against what was
//! acknowledged. A short form by default; `make faults` runs the long one and prints its seed, and
//! `LOGWEIR_FAULT_SEED` repeats one.

#![allow(clippy::disallowed_methods, reason = "the clients of a test are supervised by the test")]

mod support;

use std::{
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use logweir_proto::v1::{Batch, IngestRequest, ingest_service_client::IngestServiceClient};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use support::{
    Process,
    oracle::{Form, Oracle, Sending, audit, form, request},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
};
use tonic::transport::Channel;

/// Steps of the write path at which the process is killed, in order.
const STEPS: [&str; 6] = [
    "ingest_before_publish",
    "write_after_ledger",
    "write_after_rows",
    "write_before_commit",
    "write_after_commit",
    "ingest_before_answer",
];
const WRITERS: usize = 10;
const QUITTERS: usize = 2;

struct Plan {
    seed: u64,
    logs: u64,
    random_kills: usize,
}

fn plan() -> Plan {
    let Form { seed, is_long } = form();
    if is_long {
        Plan { seed, logs: 1_000_000, random_kills: 20 }
    } else {
        Plan { seed, logs: 60_000, random_kills: 3 }
    }
}

/// What the clients share.
struct Clients {
    oracle: Oracle,
    /// Whether a server is there to be asked.
    is_up: watch::Sender<bool>,
    /// All of them send as one program.
    sending: Mutex<Sending>,
}

impl Clients {
    fn new() -> Self {
        Self {
            oracle: Oracle::default(),
            is_up: watch::Sender::new(true),
            sending: Mutex::new(Sending::new("accounted", [7; 16])),
        }
    }

    async fn server_is_up(&self) {
        let mut is_up = self.is_up.subscribe();
        is_up.wait_for(|is_up| *is_up).await.expect("it outlives the clients");
    }
}

type Ingest = IngestServiceClient<Channel>;

/// Sends one batch until it is acknowledged.
async fn insist(clients: &Clients, client: &mut Ingest, batch: &Batch, token: &str) {
    loop {
        clients.server_is_up().await;
        let sent = IngestRequest { batch: Some(batch.clone()) };
        match client.ingest(request(sent, token)).await {
            Ok(answer) => {
                assert_eq!(answer.get_ref().accepted as usize, batch.records.len());
                return;
            }
            Err(status) => {
                use tonic::Code::{
                    Cancelled, DeadlineExceeded, ResourceExhausted, Unavailable, Unknown,
                };
                let transient =
                    [Cancelled, DeadlineExceeded, ResourceExhausted, Unavailable, Unknown];
                assert!(transient.contains(&status.code()), "not retryable: {status:?}");
                tokio::task::yield_now().await;
            }
        }
    }
}

async fn write(
    clients: Arc<Clients>,
    plan: Arc<Plan>,
    writer: usize,
    mut client: Ingest,
    token: String,
) {
    let mut random = StdRng::seed_from_u64(plan.seed ^ (writer as u64 + 1));
    while clients.oracle.numbers() < plan.logs {
        let count = random.random_range(1..1_000);
        let (first, batch) =
            clients.sending.lock().expect("not poisoned").batch(&clients.oracle, count);
        insist(&clients, &mut client, &batch, &token).await;
        clients.oracle.note(first, count, true);
    }
}

/// Sends each batch once and gives it up when no answer comes.
async fn quit(
    clients: Arc<Clients>,
    plan: Arc<Plan>,
    writer: usize,
    mut client: Ingest,
    token: String,
) {
    let mut random = StdRng::seed_from_u64(plan.seed ^ (writer as u64 + 1_000));
    while !clients.oracle.has_ended() {
        clients.server_is_up().await;
        let count = random.random_range(1..300);
        let (first, batch) = clients.oracle.batch("quitter", count);
        let sent = IngestRequest { batch: Some(batch) };
        let answer = client.ingest(request(sent, &token)).await;
        clients.oracle.note(first, count, answer.is_ok());
    }
}

/// Kills the process by its own hand at each step, then from outside at random points of progress.
/// Returns how long each restart took until ready.
async fn kill_repeatedly(
    mut server: Process,
    data_dir: &Path,
    plan: &Plan,
    clients: &Clients,
) -> (Process, Vec<Duration>) {
    let mut random = StdRng::seed_from_u64(plan.seed);
    let listen = server.address().to_owned();
    let mut restarts = Vec::new();
    let mut restart = |env: &[(&str, &str)]| {
        let begun = Instant::now();
        let server = Process::standalone_with(data_dir, &listen, env);
        restarts.push(begun.elapsed());
        clients.is_up.send_replace(true);
        server
    };
    for step in STEPS {
        server.kill();
        clients.is_up.send_replace(false);
        let setting = format!("{step}={}*off->return", random.random_range(0..10));
        let mut dying = restart(&[("FAILPOINTS", &setting)]);
        let ended = tokio::task::spawn_blocking(move || dying.wait()).await.expect("it is awaited");
        clients.is_up.send_replace(false);
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&ended), Some(9), "{step}");
        server = restart(&[]);
    }
    let share = plan.logs / (plan.random_kills as u64 + 2);
    for _ in 0..plan.random_kills {
        let target = clients.oracle.numbers() + random.random_range(1..=share);
        clients.oracle.until(target.min(plan.logs)).await;
        server.kill();
        clients.is_up.send_replace(false);
        server = restart(&[]);
    }
    (server, restarts)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_kill_loses_doubles_or_halves_a_batch() {
    let plan = Arc::new(plan());
    let data_dir = tempfile::tempdir().expect("a temporary folder");
    let token = support::token(data_dir.path(), "*", "admin");
    let server = Process::standalone(data_dir.path());
    let channel = Channel::from_shared(server.endpoint.clone()).expect("a URL").connect_lazy();
    let client = IngestServiceClient::new(channel);
    let clients = Arc::new(Clients::new());

    let spawn = |writer| {
        tokio::spawn(write(clients.clone(), plan.clone(), writer, client.clone(), token.clone()))
    };
    let writers: Vec<_> = (0..WRITERS).map(spawn).collect();
    let spawn = |writer| {
        tokio::spawn(quit(clients.clone(), plan.clone(), writer, client.clone(), token.clone()))
    };
    let quitters: Vec<_> = (0..QUITTERS).map(spawn).collect();

    let (server, restarts) = kill_repeatedly(server, data_dir.path(), &plan, &clients).await;
    for writer in writers {
        writer.await.expect("every batch is acknowledged in the end");
    }
    clients.oracle.end();
    for quitter in quitters {
        quitter.await.expect("giving up is no failure");
    }

    let audit = audit(&server.endpoint, &token).await;
    let judgement = clients.oracle.judge(&audit);
    let slowest = restarts.iter().max().copied().unwrap_or_default();
    println!(
        "{} logs stored, {} batches abandoned, {} kills, slowest restart {slowest:?}",
        audit.times_stored.len(),
        judgement.abandoned,
        restarts.len(),
    );
    let found = (judgement.lost, judgement.doubled, judgement.halved);
    assert_eq!(found, (0, 0, 0), "lost, doubled, halved");
    assert_eq!(audit.counted, audit.times_stored.len() as u64, "counted once");
    let report = audit.reports.iter().find(|r| r.service == "accounted").expect("it is known");
    let account = report.account.as_ref().expect("it gave one");
    assert_eq!((report.missing, report.stored), (0, account.emitted), "{report:?}");
    assert!(report.missing_sequences.is_empty(), "{report:?}");
}

/// Passes bytes on, and cuts the connection instead of passing an answer on, one time in ten: what
/// was answered is stored, and its sender does not know.
async fn cut_answers(listener: TcpListener, server: String, seed: u64, cuts: Arc<AtomicU64>) {
    let mut random = StdRng::seed_from_u64(seed);
    while let Ok((client, _)) = listener.accept().await {
        let (server, cuts) = (server.clone(), Arc::clone(&cuts));
        let mut random = StdRng::seed_from_u64(random.random());
        tokio::spawn(async move {
            let Ok(server) = TcpStream::connect(server).await else { return };
            let (mut questions, mut from_client) = client.into_split();
            let (mut answers, mut to_server) = server.into_split();
            let forward = async { tokio::io::copy(&mut questions, &mut to_server).await.is_ok() };
            let back = async {
                let mut buffer = vec![0; 16 << 10];
                while let Ok(read @ 1..) = answers.read(&mut buffer).await {
                    if random.random_ratio(1, 10) {
                        cuts.fetch_add(1, Ordering::SeqCst);
                        return;
                    }
                    if from_client.write_all(&buffer[..read]).await.is_err() {
                        return;
                    }
                }
            };
            tokio::select! {
                _ = forward => {}
                () = back => {}
            }
        });
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_answers_double_nothing() {
    let plan = Arc::new(Plan { logs: 200_000, ..plan() });
    let data_dir = tempfile::tempdir().expect("a temporary folder");
    let token = support::token(data_dir.path(), "*", "admin");
    let server = Process::standalone(data_dir.path());
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let proxy = format!("http://{}", listener.local_addr().expect("it is bound"));
    let cuts = Arc::new(AtomicU64::new(0));
    let address = server.address().to_owned();
    let cutting = tokio::spawn(cut_answers(listener, address, plan.seed, Arc::clone(&cuts)));
    let channel = Channel::from_shared(proxy).expect("a URL").connect_lazy();
    let client = IngestServiceClient::new(channel);
    let clients = Arc::new(Clients::new());
    let spawn = |writer| {
        tokio::spawn(write(clients.clone(), plan.clone(), writer, client.clone(), token.clone()))
    };
    for writer in (0..WRITERS).map(spawn).collect::<Vec<_>>() {
        writer.await.expect("every batch is acknowledged in the end");
    }
    cutting.abort();
    let audit = audit(&server.endpoint, &token).await;
    let sent = clients.oracle.numbers();
    assert_eq!(audit.times_stored.len() as u64, sent, "each log is there");
    assert!(audit.times_stored.values().all(|&times| times == 1), "and there once");
    assert_eq!(audit.counted, sent, "and counted once");
    assert_eq!((audit.reports[0].missing, audit.reports[0].stored), (0, sent));
    let cuts = cuts.load(Ordering::SeqCst);
    assert!(cuts > 0, "no answer was lost, so nothing was tested");
    println!("{sent} logs, {cuts} answers lost");
}
