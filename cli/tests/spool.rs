//! Kills a sending program again and again, its spool on, and the server too; then audits what is
//! stored against what the program had in its spool. Sizes and seed as in `faults.rs`.

#![allow(clippy::disallowed_methods, reason = "a test is told by its environment what to do")]

mod support;

use std::{
    collections::HashMap,
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use logweir_proto::v1::{
    DeliveryReportRequest, ExportLogsRequest, ListServicesRequest, ProducerReport,
    query_service_client::QueryServiceClient,
};
use logweir_sdk::{Client, ClientBuilder, Level, Record, RetryPolicy, SpoolOptions};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use support::{
    Process,
    oracle::{Form, form},
};
use tonic::{Request, metadata::MetadataValue};

const PATIENCE: Duration = Duration::from_secs(120);
/// Numbers of a run's logs start at a multiple of this.
const RUN: u64 = 1_000_000;
const TIME: u64 = 1_700_000_000_000_000_000;
const SERVICE: &str = "spooled";

const SPOOL: &str = "LOGWEIR_TEST_SPOOL";
const FIRST: &str = "LOGWEIR_TEST_FIRST";
const IN_FLIGHT: &str = "LOGWEIR_TEST_IN_FLIGHT";

fn client(endpoint: &str, token: &str, spool: &Path) -> ClientBuilder {
    let moment = Duration::from_millis(10);
    let retry = RetryPolicy { first: moment, max: moment, ..RetryPolicy::default() };
    Client::builder()
        .endpoint(endpoint)
        .token(token)
        .service(SERVICE)
        .retry(retry)
        .batch_records(200)
        .spool(SpoolOptions::new(spool))
        .on_notice(|_| {})
}

/// What is killed: it emits for ever, and says what its spool has. Does nothing unless the test
/// below starts it in a process of its own.
#[test]
fn program_that_emits_until_it_is_killed() {
    let setting = |name| std::env::var(name).ok();
    let Some(spool) = setting(SPOOL) else {
        assert_eq!(setting(FIRST), None, "both are set, or none");
        return;
    };
    let setting = |name| setting(name).expect("the test below sets it");
    let builder = client(&setting("LOGWEIR_ENDPOINT"), &setting("LOGWEIR_TOKEN"), spool.as_ref());
    let in_flight = setting(IN_FLIGHT).parse().expect("a number");
    let client = builder.in_flight(in_flight).build().expect("the settings are good");
    let first: u64 = setting(FIRST).parse().expect("a number");
    for start in (first..).step_by(50) {
        for number in start..start + 50 {
            let record = Record::new(Level::Info, format!("log {number} of the spool test"));
            client.emit(record.time_unix_nano(TIME + number));
        }
        // What is not answered at once must be in the spool.
        let report = client.flush(Duration::ZERO);
        assert_eq!(report.dropped.total(), 0, "there is room for all");
        if report.pending == 0 {
            println!("safe {}", start + 50);
        }
    }
}

/// Runs the program until it has said so many times that logs are safe, and kills it. Returns the
/// first number that is not known to be safe.
fn run_and_kill(mut program: Child, says: usize) -> u64 {
    let lines = BufReader::new(program.stdout.take().expect("stdout is piped")).lines();
    let mut safe = lines.map_while(Result::ok).filter_map(|line| {
        // The test harness may begin the line.
        line.split_once("safe ").map(|(_, number)| number.parse().expect("a number"))
    });
    let said = safe.by_ref().take(says).last().expect("it gets there");
    program.kill().expect("it runs");
    // What it said before it died holds as well.
    let said = safe.last().unwrap_or(said);
    program.wait().expect("it ends");
    said
}

struct Audit {
    times_stored: HashMap<u64, u32>,
    producers: Vec<ProducerReport>,
    /// What the counters say.
    counted: u64,
}

fn request<T>(message: T, token: &str) -> Request<T> {
    let mut request = Request::new(message);
    let value = MetadataValue::try_from(format!("Bearer {token}")).expect("a token is ASCII");
    request.metadata_mut().insert("authorization", value);
    request
}

async fn audit(server: &Process, token: &str) -> Audit {
    let mut client = QueryServiceClient::connect(server.endpoint.clone()).await.expect("it is up");
    let export = client.export_logs(request(ExportLogsRequest::default(), token)).await;
    let mut stream = export.expect("export starts").into_inner();
    let mut times_stored = HashMap::new();
    while let Some(part) = stream.message().await.expect("export goes on") {
        for log in part.logs {
            let record = log.record.expect("every log has its record");
            let number = record.time_unix_nano - TIME;
            assert_eq!(record.message, format!("log {number} of the spool test"));
            *times_stored.entry(number).or_insert(0) += 1;
        }
    }
    let report = client.delivery_report(request(DeliveryReportRequest::default(), token)).await;
    let services = client.list_services(request(ListServicesRequest {}, token)).await;
    let services = services.expect("the services are there").into_inner().services;
    Audit {
        times_stored,
        producers: report.expect("the report is there").into_inner().producers,
        counted: services.iter().map(|service| service.total).sum(),
    }
}

/// Takes over what the killed programs left, until all of it is answered.
fn send_the_rest(server: &Process, token: &str, spool: &Path) {
    let client = client(&server.endpoint, token, spool).in_flight(32).build();
    let client = client.expect("the settings are good");
    let deadline = Instant::now() + PATIENCE;
    // The flush is answered once the spool is open.
    while client.flush(PATIENCE).spooled > 0 || client.stats().adopted_waiting > 0 {
        assert!(Instant::now() < deadline, "it is not sent: {:?}", client.stats());
        std::thread::yield_now();
    }
    let report = client.shutdown(PATIENCE);
    assert_eq!((report.sent, client.stats().adopted_dropped), (0, 0), "all of it is the dead's");
    let left = std::fs::read_dir(spool).expect("it is there").count();
    assert_eq!(left, 0, "nothing stays behind");
}

/// Kills the program so many times, and the server in between, which has these settings.
fn kill_and_audit(env: &[(&str, &str)]) {
    let Form { seed, is_long } = form();
    let mut random = StdRng::seed_from_u64(seed);
    let (data_dir, spool) = (tempfile::tempdir(), tempfile::tempdir());
    let (data_dir, spool) = (data_dir.expect("a folder"), spool.expect("a folder"));
    let token = support::token(data_dir.path(), "*", "admin");
    let mut server = Process::standalone_with(data_dir.path(), "127.0.0.1:0", env);
    let listen = server.address().to_owned();

    let mut safe = Vec::new();
    for run in 0..if is_long { 60 } else { 8 } {
        let program = Command::new(std::env::current_exe().expect("it is this one"))
            .args(["--exact", "program_that_emits_until_it_is_killed", "--nocapture"])
            .env(SPOOL, spool.path())
            .env(FIRST, (run * RUN).to_string())
            .env(IN_FLIGHT, random.random_range(1..=8).to_string())
            .env("LOGWEIR_ENDPOINT", format!("http://{listen}"))
            .env("LOGWEIR_TOKEN", &token)
            .stdout(Stdio::piped())
            .spawn()
            .expect("this test starts again");
        let kills_server = random.random_ratio(1, 3);
        let says = random.random_range(1..=100);
        let killed = std::thread::spawn(move || run_and_kill(program, says));
        if kills_server {
            server.kill();
            server = Process::standalone_with(data_dir.path(), &listen, env);
        }
        safe.push(killed.join().expect("it does not fail"));
    }
    send_the_rest(&server, &token, spool.path());

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let audit = runtime.expect("a runtime").block_on(audit(&server, &token));
    let obliged = (0..).zip(&safe).flat_map(|(run, end)| run * RUN..*end);
    let lost = obliged.filter(|number| !audit.times_stored.contains_key(number)).count();
    let doubled = audit.times_stored.values().filter(|times| **times > 1).count();
    println!("{} logs, {} producers", audit.times_stored.len(), audit.producers.len());
    assert_eq!((lost, doubled), (0, 0), "lost, doubled");
    assert_eq!(audit.counted, audit.times_stored.len() as u64, "counted once");
    let stored: u64 = audit.producers.iter().map(|producer| producer.stored).sum();
    assert_eq!(stored, audit.counted, "each in the account of a producer");
    for report in &audit.producers {
        assert_eq!((report.missing, &report.missing_sequences[..]), (0, &[][..]), "{report:?}");
    }
}

#[test]
fn no_kill_loses_or_doubles_what_the_spool_has() {
    kill_and_audit(&[]);
}

#[test]
fn nor_when_each_batch_must_be_split() {
    kill_and_audit(&[("LOGWEIR_SERVER__LIMITS__BATCH_RECORDS_MAX", "20")]);
}
