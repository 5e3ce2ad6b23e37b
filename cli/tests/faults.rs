//! Kills the real process again and again under load, and audits what is stored against what was
//! acknowledged. A short form by default; `make faults` runs the long one and prints its seed, and
//! `LOGWEIR_FAULT_SEED` repeats one.

#![allow(clippy::disallowed_methods, reason = "the clients of a test are supervised by the test")]

mod support;

use std::{
    collections::HashMap,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use logweir_proto::v1::{
    Account, Batch, DeliveryReportRequest, ExportLogsRequest, IngestRequest, Level,
    ListServicesRequest, LogRecord, Producer, ProducerReport, Resource,
    ingest_service_client::IngestServiceClient, query_service_client::QueryServiceClient,
};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use support::Process;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
};
use tonic::{Request, metadata::MetadataValue, transport::Channel};

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
    let long = std::env::var("LOGWEIR_FAULTS").is_ok_and(|form| form == "long");
    let seed = std::env::var("LOGWEIR_FAULT_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(rand::random);
    println!("LOGWEIR_FAULT_SEED={seed}");
    if long {
        Plan { seed, logs: 1_000_000, random_kills: 20 }
    } else {
        Plan { seed, logs: 60_000, random_kills: 3 }
    }
}

/// What the clients know: the oracle. An OK is an obligation.
struct Oracle {
    /// How many numbers were handed out; the killer waits for more.
    next_number: watch::Sender<u64>,
    /// Whether a server is there to be asked.
    is_up: watch::Sender<bool>,
    /// Batches of the accounted producer: sequences and numbers handed out together.
    sequence: Mutex<(u64, u64)>,
    /// First number and size of each acknowledged batch.
    acknowledged: Mutex<Vec<(u64, u64)>>,
    /// The same for batches given up without an answer.
    abandoned: Mutex<Vec<(u64, u64)>>,
    done: AtomicBool,
}

impl Default for Oracle {
    fn default() -> Self {
        Self {
            next_number: watch::Sender::new(0),
            is_up: watch::Sender::new(true),
            sequence: Mutex::default(),
            acknowledged: Mutex::default(),
            abandoned: Mutex::default(),
            done: AtomicBool::new(false),
        }
    }
}

type Ingest = IngestServiceClient<Channel>;

fn request<T>(message: T, token: &str) -> Request<T> {
    let mut request = Request::new(message);
    let value = MetadataValue::try_from(format!("Bearer {token}")).expect("a token is ASCII");
    request.metadata_mut().insert("authorization", value);
    request.set_timeout(Duration::from_secs(10));
    request
}

fn records(first: u64, count: u64) -> Vec<LogRecord> {
    (first..first + count)
        .map(|number| LogRecord {
            time_unix_nano: 1_700_000_000_000_000_000 + number * 1_000,
            level: if number % 50 == 0 { Level::Error } else { Level::Info }.into(),
            message: format!("event {number} of the fault test took {} ms", number % 97),
            latency_ms: Some((number % 97) as f64),
            ..LogRecord::default()
        })
        .collect()
}

impl Oracle {
    fn numbers(&self) -> u64 {
        *self.next_number.borrow()
    }

    async fn server_is_up(&self) {
        let mut is_up = self.is_up.subscribe();
        is_up.wait_for(|is_up| *is_up).await.expect("the oracle outlives its clients");
    }

    fn unaccounted(&self, service: &str, count: u64) -> (u64, Batch) {
        let mut first = 0;
        self.next_number.send_modify(|next| {
            first = *next;
            *next += count;
        });
        let batch = Batch {
            batch_id: uuid::Uuid::now_v7().into_bytes().to_vec(),
            producer: None,
            resource: Some(Resource { service: service.into(), ..Resource::default() }),
            records: records(first, count),
        };
        (first, batch)
    }

    /// A batch of the accounted producer: its sequence and its account are one consistent cut.
    fn accounted(&self, count: u64) -> (u64, Batch) {
        let mut cut = self.sequence.lock().expect("not poisoned");
        let (first, mut batch) = self.unaccounted("accounted", count);
        cut.0 += 1;
        cut.1 += count;
        let account = Account { emitted: cut.1, ..Account::default() };
        batch.producer = Some(Producer {
            producer_id: vec![7; 16],
            sequence: cut.0,
            account: Some(account),
            ..Producer::default()
        });
        (first, batch)
    }
}

/// Sends one batch until it is acknowledged.
async fn insist(oracle: &Oracle, client: &mut Ingest, batch: &Batch, token: &str) {
    loop {
        oracle.server_is_up().await;
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
    oracle: Arc<Oracle>,
    plan: Arc<Plan>,
    writer: usize,
    mut client: Ingest,
    token: String,
) {
    let mut random = StdRng::seed_from_u64(plan.seed ^ (writer as u64 + 1));
    while oracle.numbers() < plan.logs {
        let count = random.random_range(1..1_000);
        let (first, batch) = oracle.accounted(count);
        insist(&oracle, &mut client, &batch, &token).await;
        oracle.acknowledged.lock().expect("not poisoned").push((first, count));
    }
}

/// Sends each batch once and gives it up when no answer comes.
async fn quit(
    oracle: Arc<Oracle>,
    plan: Arc<Plan>,
    writer: usize,
    mut client: Ingest,
    token: String,
) {
    let mut random = StdRng::seed_from_u64(plan.seed ^ (writer as u64 + 1_000));
    while !oracle.done.load(Ordering::SeqCst) {
        oracle.server_is_up().await;
        let count = random.random_range(1..300);
        let (first, batch) = oracle.unaccounted("quitter", count);
        let sent = IngestRequest { batch: Some(batch) };
        let list = match client.ingest(request(sent, &token)).await {
            Ok(_) => &oracle.acknowledged,
            Err(_) => &oracle.abandoned,
        };
        list.lock().expect("not poisoned").push((first, count));
    }
}

/// Kills the process by its own hand at each step, then from outside at random points of progress.
/// Returns how long each restart took until ready.
async fn kill_repeatedly(
    mut server: Process,
    data_dir: &Path,
    plan: &Plan,
    oracle: &Oracle,
) -> (Process, Vec<Duration>) {
    let mut progress = oracle.next_number.subscribe();
    let mut random = StdRng::seed_from_u64(plan.seed);
    let listen = server.address().to_owned();
    let mut restarts = Vec::new();
    let mut restart = |env: &[(&str, &str)]| {
        let begun = Instant::now();
        let server = Process::standalone_with(data_dir, &listen, env);
        restarts.push(begun.elapsed());
        oracle.is_up.send_replace(true);
        server
    };
    for step in STEPS {
        server.kill();
        oracle.is_up.send_replace(false);
        let setting = format!("{step}={}*off->return", random.random_range(0..10));
        let mut dying = restart(&[("FAILPOINTS", &setting)]);
        let ended = tokio::task::spawn_blocking(move || dying.wait()).await.expect("it is awaited");
        oracle.is_up.send_replace(false);
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&ended), Some(9), "{step}");
        server = restart(&[]);
    }
    let share = plan.logs / (plan.random_kills as u64 + 2);
    for _ in 0..plan.random_kills {
        let target = *progress.borrow() + random.random_range(1..=share);
        progress
            .wait_for(|numbers| *numbers >= target.min(plan.logs))
            .await
            .expect("writers go on");
        server.kill();
        oracle.is_up.send_replace(false);
        server = restart(&[]);
    }
    (server, restarts)
}

struct Audit {
    times_stored: HashMap<u64, u32>,
    reports: Vec<ProducerReport>,
    /// What the counters say: a log stored twice has one id, and an export shows an id once.
    counted: u64,
}

async fn audit(server: &Process, token: &str) -> Audit {
    let mut client = QueryServiceClient::connect(server.endpoint.clone()).await.expect("it is up");
    let mut export = Request::new(ExportLogsRequest::default());
    *export.metadata_mut() = request((), token).metadata().clone();
    let mut stream = client.export_logs(export).await.expect("export starts").into_inner();
    let mut times_stored = HashMap::new();
    while let Some(part) = stream.message().await.expect("export goes on") {
        for log in part.logs {
            let record = log.record.expect("every log has its record");
            let number = (record.time_unix_nano - 1_700_000_000_000_000_000) / 1_000;
            let expected = format!("event {number} of the fault test took {} ms", number % 97);
            assert_eq!(record.message, expected, "a log is stored as it was sent");
            *times_stored.entry(number).or_insert(0) += 1;
        }
    }
    let report = client.delivery_report(request(DeliveryReportRequest::default(), token)).await;
    let services = client.list_services(request(ListServicesRequest {}, token)).await;
    let services = services.expect("the services are there").into_inner().services;
    Audit {
        times_stored,
        reports: report.expect("the report is there").into_inner().producers,
        counted: services.iter().map(|service| service.total).sum(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_kill_loses_doubles_or_halves_a_batch() {
    let plan = Arc::new(plan());
    let data_dir = tempfile::tempdir().expect("a temporary folder");
    let token = support::token(data_dir.path(), "*", "admin");
    let server = Process::standalone(data_dir.path());
    let channel = Channel::from_shared(server.endpoint.clone()).expect("a URL").connect_lazy();
    let client = IngestServiceClient::new(channel);
    let oracle = Arc::new(Oracle::default());

    let spawn = |writer| {
        tokio::spawn(write(oracle.clone(), plan.clone(), writer, client.clone(), token.clone()))
    };
    let writers: Vec<_> = (0..WRITERS).map(spawn).collect();
    let spawn = |writer| {
        tokio::spawn(quit(oracle.clone(), plan.clone(), writer, client.clone(), token.clone()))
    };
    let quitters: Vec<_> = (0..QUITTERS).map(spawn).collect();

    let (server, restarts) = kill_repeatedly(server, data_dir.path(), &plan, &oracle).await;
    for writer in writers {
        writer.await.expect("every batch is acknowledged in the end");
    }
    oracle.done.store(true, Ordering::SeqCst);
    for quitter in quitters {
        quitter.await.expect("giving up is no failure");
    }

    let audit = audit(&server, &token).await;
    let acknowledged = oracle.acknowledged.lock().expect("not poisoned");
    let abandoned = oracle.abandoned.lock().expect("not poisoned");
    let times = |number: u64| audit.times_stored.get(&number).copied().unwrap_or(0);
    let obliged = acknowledged.iter().flat_map(|&(first, count)| first..first + count);
    let lost = obliged.filter(|&number| times(number) == 0).count();
    let doubled = audit.times_stored.values().filter(|&&times| times > 1).count();
    let halved = abandoned
        .iter()
        .filter(|&&(first, count)| {
            let stored = (first..first + count).filter(|&number| times(number) > 0).count() as u64;
            stored != 0 && stored != count
        })
        .count();
    let slowest = restarts.iter().max().copied().unwrap_or_default();
    println!(
        "{} logs stored, {} batches abandoned, {} kills, slowest restart {slowest:?}",
        audit.times_stored.len(),
        abandoned.len(),
        restarts.len(),
    );
    assert_eq!((lost, doubled, halved), (0, 0, 0), "lost, doubled, halved");
    assert_eq!(audit.counted, audit.times_stored.len() as u64, "counted once");
    let report = audit.reports.iter().find(|r| r.service == "accounted").expect("it is known");
    let account = report.account.as_ref().expect("it gave one");
    assert_eq!((report.missing, report.stored), (0, account.emitted), "{report:?}");
    assert!(report.missing_sequences.is_empty(), "{report:?}");
}

/// Passes bytes on, and cuts the connection instead of passing an answer on, one time in ten: what was
/// answered is stored, and its sender does not know.
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
    let oracle = Arc::new(Oracle::default());
    let spawn = |writer| {
        tokio::spawn(write(oracle.clone(), plan.clone(), writer, client.clone(), token.clone()))
    };
    for writer in (0..WRITERS).map(spawn).collect::<Vec<_>>() {
        writer.await.expect("every batch is acknowledged in the end");
    }
    cutting.abort();
    let audit = audit(&server, &token).await;
    let sent = oracle.numbers();
    assert_eq!(audit.times_stored.len() as u64, sent, "each log is there");
    assert!(audit.times_stored.values().all(|&times| times == 1), "and there once");
    assert_eq!(audit.counted, sent, "and counted once");
    assert_eq!((audit.reports[0].missing, audit.reports[0].stored), (0, sent));
    let cuts = cuts.load(Ordering::SeqCst);
    assert!(cuts > 0, "no answer was lost, so nothing was tested");
    println!("{sent} logs, {cuts} answers lost");
}
