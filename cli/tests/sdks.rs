//! The client libraries of all languages against the real binary: the server is killed and answers
//! are lost while they send, senders are killed and another language sends what their spool has.
//! Sizes and seed as in `faults.rs`; `make sdks` prepares what is run here.

#![allow(clippy::disallowed_methods, reason = "a test is told by its environment what to do")]

mod support;

use std::{
    collections::{BTreeSet, HashMap},
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
};

use logweir_proto::v1::{
    DeliveryReportRequest, ExportLogsRequest, ProducerReport,
    query_service_client::QueryServiceClient,
};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde_json::{Map, Value};
use support::{
    Process,
    oracle::{Form, form},
};
use testkit::{Faults, Proxy};
use tonic::{Request, metadata::MetadataValue};

/// Event time of log 0; that of the others is so many nanoseconds later.
const TIME: u64 = 1_700_000_000_000_000_000;
/// Logs that may wait before a program waits, too: fewer than a queue takes.
const WAITING_MAX: u64 = 10_000;
/// More than any queue takes: the program never waits.
const NEVER_WAITS: u32 = u32::MAX;
/// How many answers in a hundred are lost on the way.
const ANSWERS_LOST: f64 = 0.05;
/// Server settings under which every batch of the spool must be split.
const SMALL_BATCHES: [(&str, &str); 1] = [("LOGWEIR_SERVER__LIMITS__BATCH_RECORDS_MAX", "20")];

/// A language, and how its library's test programs are run.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Language {
    Rust,
    Python,
    JavaScript,
}

use Language::{JavaScript, Python, Rust};

impl Language {
    /// One of the programs `emit`, `spool` and `adopt`.
    fn program(self, name: &str) -> Command {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let (runner, argument) = match self {
            Rust => (build_folder().join("examples/sender"), name.into()),
            Python => {
                let script = root.join(format!("sdk-python/tests/programs/{name}.py"));
                (target_folder().join("sdks/python/bin/python"), script)
            }
            JavaScript => {
                let script = root.join(format!("sdk-js/test/programs/{name}.mjs"));
                ("node".into(), script)
            }
        };
        let is_there = |path: &Path| path.exists() || !path.is_absolute();
        assert!(is_there(&runner), "{} is missing: run `make sdks`", runner.display());
        let mut command = Command::new(runner);
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.arg(argument);
        command
    }

    /// The service that the programs write.
    fn service(self) -> &'static str {
        match self {
            Rust => "rust",
            Python => "python",
            JavaScript => "javascript",
        }
    }
}

/// Where this test was built, `…/debug`.
fn build_folder() -> PathBuf {
    let own = std::env::current_exe().expect("it is this one");
    own.ancestors().nth(2).expect("it lies in deps").to_owned()
}

fn target_folder() -> PathBuf {
    build_folder().parent().expect("it has a parent").to_owned()
}

/// What is stored.
struct Audit {
    times_stored: HashMap<u64, u32>,
    producers: Vec<ProducerReport>,
}

impl Audit {
    fn of(server: &Process, token: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(Self::read(server, token))
    }

    async fn read(server: &Process, token: &str) -> Self {
        let client = QueryServiceClient::connect(server.endpoint.clone()).await;
        let mut client = client.expect("it is up");
        let export = client.export_logs(request(ExportLogsRequest::default(), token)).await;
        let mut stream = export.expect("export starts").into_inner();
        let mut times_stored = HashMap::new();
        while let Some(part) = stream.message().await.expect("export goes on") {
            for log in part.logs {
                let record = log.record.expect("every log has its record");
                let number = record.time_unix_nano - TIME;
                assert_eq!(record.message, format!("log {number} of the sdk test"));
                *times_stored.entry(number).or_insert(0) += 1;
            }
        }
        let report = client.delivery_report(request(DeliveryReportRequest::default(), token));
        let producers = report.await.expect("the report is there").into_inner().producers;
        Self { times_stored, producers }
    }

    fn doubled(&self) -> usize {
        self.times_stored.values().filter(|times| **times > 1).count()
    }

    /// How many numbers below this are not stored.
    fn lost_below(&self, end: u64) -> u64 {
        (0..end).filter(|number| !self.times_stored.contains_key(number)).count() as u64
    }

    /// What the producers said that they dropped.
    fn dropped(&self) -> u64 {
        let accounts = self.producers.iter().filter_map(|producer| producer.account.as_ref());
        accounts.flat_map(|account| &account.dropped).map(|dropped| dropped.count).sum()
    }

    /// Every log is in the account of one producer, and none is missing.
    fn assert_accounts_balance(&self) {
        let stored: u64 = self.producers.iter().map(|producer| producer.stored).sum();
        assert_eq!(stored, self.times_stored.len() as u64, "each in the account of a producer");
        for report in &self.producers {
            assert_eq!((report.missing, &report.missing_sequences[..]), (0, &[][..]), "{report:?}");
        }
    }
}

fn request<T>(message: T, token: &str) -> Request<T> {
    let mut request = Request::new(message);
    let value = MetadataValue::try_from(format!("Bearer {token}")).expect("a token is ASCII");
    request.metadata_mut().insert("authorization", value);
    request
}

/// A name of JavaScript as the other languages write it.
fn snake_case(name: &str) -> String {
    let letter = |letter: char| match letter.is_ascii_uppercase() {
        true => format!("_{}", letter.to_ascii_lowercase()),
        false => letter.to_string(),
    };
    name.chars().map(letter).collect()
}

/// A program at work.
struct Program {
    child: Child,
    output: BufReader<ChildStdout>,
}

impl Program {
    fn start(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().expect("the program starts");
        let output = BufReader::new(child.stdout.take().expect("stdout is piped"));
        Self { child, output }
    }

    fn await_line(&mut self, expected: &str) {
        let mut line = String::new();
        self.output.read_line(&mut line).expect("it prints UTF-8");
        assert_eq!(line.trim_end(), expected);
    }

    /// The counts that it prints as its last line, once it has ended.
    fn counts(mut self) -> Map<String, Value> {
        let line = self.output.lines().map_while(Result::ok).last();
        let status = self.child.wait().expect("it ends");
        assert!(status.success(), "{status}");
        let printed: Map<String, Value> =
            serde_json::from_str(&line.expect("it prints its counts")).expect("JSON");
        printed.into_iter().map(|(name, count)| (snake_case(&name), count)).collect()
    }
}

fn count(counts: &Map<String, Value>, name: &str) -> u64 {
    counts[name].as_u64().unwrap_or_else(|| panic!("no {name} in {counts:?}"))
}

fn dropped(counts: &Map<String, Value>) -> u64 {
    let by_reason = counts["dropped"].as_object().expect("drops are counted by reason");
    by_reason.values().map(|count| count.as_u64().expect("a count")).sum()
}

/// Kills the server once it has stored about so many logs since its start.
fn kill_after(server: Process, logs: u64, listen: &str, data_dir: &Path) -> Process {
    while server.metric("logweir_storage_logs_total") < logs as f64 {
        std::thread::yield_now();
    }
    server.kill();
    Process::standalone_with(data_dir, listen, &[])
}

/// Lets a program send numbered logs while the server dies and answers are lost.
fn send_through_faults(language: Language) {
    let Form { seed, is_long } = form();
    let mut random = StdRng::seed_from_u64(seed);
    let (logs, kills) = if is_long { (1_000_000_u64, 10_u64) } else { (40_000, 2) };
    let data_dir = tempfile::tempdir().expect("a folder");
    let token = support::token(data_dir.path(), "*", "admin");
    let mut server = Process::standalone(data_dir.path());
    let listen = server.address().to_owned();
    let proxy = Proxy::start(listen.clone(), random.random());
    proxy.set(Faults { cut_answer: ANSWERS_LOST, ..Faults::default() });

    let mut program = Program::start(
        language
            .program("emit")
            .args(["0", &logs.to_string(), &WAITING_MAX.to_string()])
            .env("LOGWEIR_ENDPOINT", format!("http://{}", proxy.address()))
            .env("LOGWEIR_TOKEN", &token),
    );
    for _ in 0..kills {
        // All shares together are less than all logs, so that every kill comes.
        let share = random.random_range(1..=logs / (kills + 2));
        server = kill_after(server, share, &listen, data_dir.path());
    }
    program.await_line("emitted");
    let counts = program.counts();

    let audit = Audit::of(&server, &token);
    let (lost, dropped) = (audit.lost_below(logs), dropped(&counts));
    println!("{language:?}: {logs} logs, {kills} kills, {} answers cut: {counts:?}", proxy.cuts());
    assert_eq!((audit.doubled(), count(&counts, "emitted")), (0, logs), "doubled, emitted");
    let settled = count(&counts, "sent") + count(&counts, "rejected") + dropped;
    assert_eq!(settled, logs, "each is sent, rejected or dropped");
    // A log whose answer never came may be stored although it counts as dropped.
    assert!(lost <= dropped, "{lost} lost, {dropped} counted");
    audit.assert_accounts_balance();
}

/// No server is there while a program logs what an hour at a thousand logs a second would bring;
/// then there is one. What did not fit is counted, by the program and by the server alike.
fn log_to_nobody(language: Language) {
    let logs = if form().is_long { 3_600_000_u64 } else { 60_000 };
    let data_dir = tempfile::tempdir().expect("a folder");
    let token = support::token(data_dir.path(), "*", "admin");
    let server = Process::standalone(data_dir.path());
    let listen = server.address().to_owned();
    server.kill();

    let mut program = Program::start(
        language
            .program("emit")
            .args(["0", &logs.to_string(), &NEVER_WAITS.to_string()])
            .env("LOGWEIR_ENDPOINT", format!("http://{listen}"))
            .env("LOGWEIR_TOKEN", &token),
    );
    program.await_line("emitted");
    let server = Process::standalone_with(data_dir.path(), &listen, &[]);
    let counts = program.counts();

    let audit = Audit::of(&server, &token);
    println!("{language:?}: {logs} logs to nobody: {counts:?}");
    let (sent, dropped) = (count(&counts, "sent"), dropped(&counts));
    assert_eq!((sent + dropped, audit.doubled()), (logs, 0), "each sent or dropped, none doubled");
    assert!(sent > 0 && dropped > 0, "{sent} sent, {dropped} dropped");
    assert_eq!((logs - audit.lost_below(logs), audit.dropped()), (sent, dropped), "as it says");
    audit.assert_accounts_balance();
}

#[test]
fn rust_counts_what_nobody_took() {
    log_to_nobody(Rust);
}

#[test]
fn python_counts_what_nobody_took() {
    log_to_nobody(Python);
}

#[test]
fn javascript_counts_what_nobody_took() {
    log_to_nobody(JavaScript);
}

#[test]
fn rust_loses_nothing_while_the_server_dies() {
    send_through_faults(Rust);
}

#[test]
fn python_loses_nothing_while_the_server_dies() {
    send_through_faults(Python);
}

#[test]
fn javascript_loses_nothing_while_the_server_dies() {
    send_through_faults(JavaScript);
}

/// Fills a spool while no server answers, and kills the program. All logs below the number returned
/// are in it.
fn fill_spool(writer: Language, spool: &Path, says: usize) -> u64 {
    let mut program = writer
        .program("spool")
        .arg("0")
        // The discard port of this machine, where nobody listens.
        .env("LOGWEIR_ENDPOINT", "http://127.0.0.1:9")
        .env("LOGWEIR_TOKEN", "none")
        .env("LOGWEIR_SPOOL_DIR", spool)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("the program starts");
    let lines = BufReader::new(program.stdout.take().expect("stdout is piped")).lines();
    let mut safe = lines.map_while(Result::ok).filter_map(|line| {
        line.strip_prefix("safe ").map(|number| number.parse::<u64>().expect("a number"))
    });
    let said = safe.by_ref().take(says).last().expect("it gets there");
    program.kill().expect("it runs");
    // What it said before it died holds as well.
    let said = safe.last().unwrap_or(said);
    program.wait().expect("it ends");
    said
}

/// Has another language send what a spool holds; how many logs it sent.
fn adopt(adopter: Language, server: &Process, token: &str, spool: &Path) -> u64 {
    let program = Program::start(
        adopter
            .program("adopt")
            .env("LOGWEIR_ENDPOINT", &server.endpoint)
            .env("LOGWEIR_TOKEN", token)
            .env("LOGWEIR_SPOOL_DIR", spool),
    );
    let counts = program.counts();
    let own = [count(&counts, "sent"), count(&counts, "adopted_dropped"), dropped(&counts)];
    assert_eq!(own, [0, 0, 0], "all of it is the dead's: {counts:?}");
    assert_eq!(fs::read_dir(spool).expect("it is there").count(), 0, "nothing stays behind");
    count(&counts, "adopted_sent")
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("it can be made");
    for entry in fs::read_dir(from).expect("it is there") {
        let (path, target) = entry.map(|e| (e.path(), to.join(e.file_name()))).expect("an entry");
        if path.is_dir() {
            copy_folder(&path, &target);
        } else {
            fs::copy(&path, &target).expect("it can be copied");
        }
    }
}

/// A spool of one language is sent by each of the others, to one server: what the first of them
/// sent is not stored again from the others, because each sends under the same ids.
fn adopt_by_all(writer: Language, env: &[(&str, &str)]) {
    let Form { seed, is_long } = form();
    let mut random = StdRng::seed_from_u64(seed);
    let folder = tempfile::tempdir().expect("a folder");
    let (data_dir, original) = (folder.path().join("data"), folder.path().join("spool"));
    fs::create_dir_all(&original).expect("it can be made");
    let says = random.random_range(5..=if is_long { 400 } else { 40 });
    let safe = fill_spool(writer, &original, says);
    let token = support::token(&data_dir, "*", "admin");
    let server = Process::standalone_with(&data_dir, "127.0.0.1:0", env);

    let mut adopters = [Rust, Python, JavaScript];
    let first = random.random_range(0..adopters.len());
    adopters.swap(0, first);
    for adopter in adopters {
        let spool = folder.path().join(adopter.service());
        copy_folder(&original, &spool);
        let sent = adopt(adopter, &server, &token, &spool);
        let audit = Audit::of(&server, &token);
        println!("{adopter:?} sent {sent} logs of {writer:?}, {safe} of them safe");
        assert!(sent >= safe, "{adopter:?} sent {sent} of {safe}");
        assert_eq!((audit.lost_below(safe), audit.doubled()), (0, 0), "lost, doubled");
        assert_eq!(sent, audit.times_stored.len() as u64, "{adopter:?} sends what the others do");
        let services: BTreeSet<&str> =
            audit.producers.iter().map(|producer| producer.service.as_str()).collect();
        assert_eq!(services, BTreeSet::from([writer.service()]), "as the dead said");
        audit.assert_accounts_balance();
    }
}

#[test]
fn a_spool_of_rust_is_sent_by_any_language() {
    adopt_by_all(Rust, &[]);
    adopt_by_all(Rust, &SMALL_BATCHES);
}

#[test]
fn a_spool_of_python_is_sent_by_any_language() {
    adopt_by_all(Python, &[]);
    adopt_by_all(Python, &SMALL_BATCHES);
}

#[test]
fn a_spool_of_javascript_is_sent_by_any_language() {
    adopt_by_all(JavaScript, &[]);
    adopt_by_all(JavaScript, &SMALL_BATCHES);
}
