//! A folder is followed while its log is rotated in every way, and the shipper is killed now and
//! then: each line is stored once, and whole. Sizes and seed as in `faults.rs`; in the long form
//! there is a rotation every second for ten minutes, and a kill every twenty seconds.
//!
//! No rotation loses a line by itself: nothing is written between a copy and the truncation after
//! it, and what is deleted was stored before.

mod support;

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
    process::{Child, Stdio},
    time::{Duration, Instant},
};

use flate2::{Compression, write::GzEncoder};
use logweir_proto::v1::{
    ExportLogsRequest, ListServicesRequest, query_service_client::QueryServiceClient,
};
use rand::{RngExt, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use support::{
    Process, logweir,
    oracle::{Form, form, request},
};
use tempfile::TempDir;
use tonic::transport::Channel;

const SERVICE: &str = "rotated";
/// Lines that are not stored by then are lost.
const PATIENCE: Duration = Duration::from_secs(60);
/// Rotated files that are kept.
const ROTATED_MAX: usize = 8;

struct Plan {
    seed: u64,
    rotations: usize,
    /// Between two rotations at least.
    pace: Duration,
    /// Rotations between two kills.
    rotations_per_kill: usize,
}

fn plan() -> Plan {
    let Form { seed, is_long } = form();
    if is_long {
        Plan { seed, rotations: 600, pace: Duration::from_secs(1), rotations_per_kill: 20 }
    } else {
        Plan { seed, rotations: 30, pace: Duration::ZERO, rotations_per_kill: 5 }
    }
}

/// The message of a line: of a length that depends on its number, and with an end to be seen whole.
fn message(number: u64) -> String {
    format!("line {number} {} end of {number}", "x".repeat((number % 211) as usize))
}

/// The program that writes the log, and what rotates it.
struct Log {
    folder: PathBuf,
    file: File,
    /// Lines written so far.
    lines: u64,
    rotations: usize,
    random: StdRng,
}

#[derive(Debug, Clone, Copy)]
enum Rotation {
    Rename,
    CopyTruncate,
    Compress,
    /// And the inode goes to the next file.
    Delete,
}

impl Log {
    fn new(folder: &Path, seed: u64) -> Self {
        let (folder, random) = (folder.to_owned(), StdRng::seed_from_u64(seed));
        let file = Self::open(&folder);
        Self { folder, file, lines: 0, rotations: 0, random }
    }

    fn open(folder: &Path) -> File {
        let path = folder.join("app.log");
        OpenOptions::new().append(true).create(true).open(path).expect("it can be opened")
    }

    /// Writes some lines, in pieces that end anywhere.
    fn write(&mut self) {
        let count = self.random.random_range(1..60);
        let line = |number| format!("2026-11-28T03:04:05Z INFO {}\n", message(number));
        let text: String = (self.lines..self.lines + count).map(line).collect();
        let (first, second) = text.split_at(self.random.random_range(0..text.len()));
        for piece in [first, second] {
            self.file.write_all(piece.as_bytes()).expect("there is room");
        }
        self.lines += count;
    }

    fn rotated(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(&self.folder).expect("it is there").flatten();
        entries.map(|entry| entry.path()).filter(|path| !path.ends_with("app.log")).collect()
    }

    fn next_name(&mut self) -> PathBuf {
        self.rotations += 1;
        self.folder.join(format!("app.log.{}", self.rotations))
    }

    fn rotate(&mut self, rotation: Rotation) {
        let current = self.folder.join("app.log");
        match rotation {
            Rotation::Rename => {
                fs::rename(current, self.next_name()).expect("it is there");
                // The program goes on with the old one for a moment.
                self.write();
                self.file = Self::open(&self.folder);
            }
            Rotation::CopyTruncate => {
                fs::copy(current, self.next_name()).expect("it is there");
                self.file.set_len(0).expect("it can be truncated");
            }
            Rotation::Compress => {
                let plain = |path: &PathBuf| path.extension().is_none_or(|end| end != "gz");
                let plain: Vec<_> = self.rotated().into_iter().filter(plain).collect();
                if let Some(path) = plain.choose(&mut self.random) {
                    compress(path);
                }
            }
            Rotation::Delete => {
                fs::remove_file(current).expect("it is there");
                self.file = Self::open(&self.folder);
            }
        }
    }
}

/// As `gzip` does it: piece by piece beside the original, which is deleted then.
fn compress(path: &Path) {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(&fs::read(path).expect("it is there")).expect("memory takes all");
    let bytes = encoder.finish().expect("memory takes all");
    let mut name = path.to_owned().into_os_string();
    name.push(".gz");
    let mut file = File::create(name).expect("it can be made");
    for piece in bytes.chunks(bytes.len() / 3 + 1) {
        file.write_all(piece).expect("there is room");
    }
    fs::remove_file(path).expect("it is there");
}

/// The server and the shipper.
struct Setting {
    server: Process,
    token: String,
    client: QueryServiceClient<Channel>,
    runtime: tokio::runtime::Runtime,
    folder: PathBuf,
    state: PathBuf,
}

impl Setting {
    fn new(directory: &Path) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.expect("a runtime");
        let [data_dir, folder, state] = ["data", "logs", "state"].map(|name| directory.join(name));
        fs::create_dir(&folder).expect("a folder");
        let token = support::token(&data_dir, "*", "admin");
        let server = Process::standalone(&data_dir);
        let client = runtime.block_on(QueryServiceClient::connect(server.endpoint.clone()));
        Self { server, token, client: client.expect("it is up"), runtime, folder, state }
    }

    fn start_shipper(&self) -> Child {
        let mut command = logweir();
        command.args(["send", "--follow", "--service", SERVICE]).arg(&self.folder);
        command.env("LOGWEIR_ENDPOINT", &self.server.endpoint).env("LOGWEIR_TOKEN", &self.token);
        let said = OpenOptions::new().append(true).create(true).open(self.said());
        command.env("XDG_STATE_HOME", &self.state).stdout(Stdio::null());
        command.stderr(said.expect("a file")).spawn().expect("the binary starts")
    }

    /// Where the shipper says what it has to say.
    fn said(&self) -> PathBuf {
        self.state.with_file_name("said")
    }

    /// How many logs are stored.
    fn stored(&mut self) -> u64 {
        let services = self.client.list_services(request(ListServicesRequest {}, &self.token));
        let services = self.runtime.block_on(services).expect("it answers").into_inner().services;
        services.iter().filter(|of| of.service == SERVICE).map(|of| of.total).sum()
    }

    /// Waits until so many logs are stored; what is stored then.
    fn until_stored(&mut self, logs: u64) {
        let deadline = Instant::now() + PATIENCE;
        while self.stored() < logs {
            if Instant::now() > deadline {
                let messages = self.messages();
                let missing: Vec<_> =
                    (0..logs).filter(|number| !messages.contains_key(&message(*number))).collect();
                panic!("{} of {logs} are not stored: {missing:?}", missing.len());
            }
        }
    }

    /// How often each message is stored.
    fn messages(&mut self) -> BTreeMap<String, u32> {
        let mut messages = BTreeMap::new();
        let mut export = request(ExportLogsRequest::default(), &self.token);
        export.set_timeout(PATIENCE);
        self.runtime.block_on(async {
            let stream = self.client.export_logs(export).await.expect("export starts");
            let mut stream = stream.into_inner();
            while let Some(part) = stream.message().await.expect("export goes on") {
                for log in part.logs {
                    let record = log.record.expect("every log has its record");
                    *messages.entry(record.message).or_insert(0) += 1;
                }
            }
        });
        messages
    }
}

#[test]
fn no_rotation_and_no_kill_loses_doubles_or_tears_a_line() {
    let plan = plan();
    let directory = TempDir::new().expect("a folder");
    let mut setting = Setting::new(directory.path());
    let mut random = StdRng::seed_from_u64(plan.seed);
    let mut log = Log::new(&setting.folder, plan.seed ^ 1);
    let mut shipper = Some(setting.start_shipper());
    let mut kinds = BTreeMap::<String, u32>::new();
    for number in 1..=plan.rotations {
        let begun = Instant::now();
        log.write();
        // Somewhere between far behind and close behind the writer.
        if shipper.is_some() {
            setting.until_stored(random.random_range(0..log.lines));
        }
        let rotation = match random.random_range(0..8) {
            0 | 1 => Rotation::Rename,
            2 | 3 => Rotation::CopyTruncate,
            4..=6 => Rotation::Compress,
            _ => Rotation::Delete,
        };
        let is_full = log.rotated().len() > ROTATED_MAX;
        if is_full || matches!(rotation, Rotation::Delete) {
            shipper.get_or_insert_with(|| setting.start_shipper());
            setting.until_stored(log.lines);
        }
        if is_full {
            log.rotated().iter().for_each(|path| fs::remove_file(path).expect("it is there"));
        }
        log.rotate(rotation);
        *kinds.entry(format!("{rotation:?}")).or_insert(0) += 1;
        std::thread::sleep(plan.pace.saturating_sub(begun.elapsed()));
        if number % plan.rotations_per_kill == 0 {
            if let Some(mut shipper) = shipper.take() {
                shipper.kill().expect("it can be killed");
                shipper.wait().expect("it ends");
            }
        } else if random.random_bool(0.5) {
            shipper.get_or_insert_with(|| setting.start_shipper());
        }
    }
    let mut shipper = shipper.unwrap_or_else(|| setting.start_shipper());
    log.write();
    setting.until_stored(log.lines);
    let id = rustix::process::Pid::from_child(&shipper);
    rustix::process::kill_process(id, rustix::process::Signal::TERM).expect("it runs");
    assert!(shipper.wait().expect("it ends").success(), "asked to, it ends well");

    let messages = setting.messages();
    let (mut lost, mut doubled) = (Vec::new(), Vec::new());
    for number in 0..log.lines {
        match messages.get(&message(number)) {
            None => lost.push(number),
            Some(1) => {}
            Some(_) => doubled.push(number),
        }
    }
    println!("{} lines, {kinds:?}; it said:", log.lines);
    println!("{}", fs::read_to_string(setting.said()).expect("it can be read"));
    assert_eq!((lost, doubled), (vec![], vec![]), "lost, doubled");
    assert_eq!(messages.len() as u64, log.lines, "no message is a part of a line");
}
