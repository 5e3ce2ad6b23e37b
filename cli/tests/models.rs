//! Models through the real binary: trained, compared, promoted, used without a restart, and left
//! alone where they are damaged.

mod support;

use std::{
    io::{Read, Write},
    net::TcpStream,
    path::Path,
};

use serde_json::Value;
use support::{Process, client, succeeded, token};

struct World {
    folder: tempfile::TempDir,
    server: Process,
    token: String,
}

impl World {
    fn start() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (server, token) = serve(folder.path());
        Self { folder, server, token }
    }

    fn run(&self, args: &[&str]) -> String {
        succeeded(&client(&self.server, &self.token, args))
    }

    fn objects(&self, args: &[&str]) -> Vec<Value> {
        let text = self.run(&[args, &["--json"]].concat());
        text.lines().map(|line| serde_json::from_str(line).expect("NDJSON")).collect()
    }

    fn one(&self, args: &[&str]) -> Value {
        let mut objects = self.objects(args);
        assert_eq!(objects.len(), 1, "{args:?}");
        objects.remove(0)
    }

    /// Logs of the last hour.
    fn generate(&self) {
        let args = ["--start", "-1h", "--duration", "50m", "--rate", "4", "--services", "2"];
        self.run(&[&["loadgen", "--steady"][..], &args].concat());
    }

    /// Reads the metrics until one has this value.
    fn wait_for_metric(&self, line: &str) {
        while !scrape(self.server.address()).lines().any(|found| found == line) {
            std::thread::yield_now();
        }
    }
}

fn serve(folder: &Path) -> (Process, String) {
    let data_dir = folder.join("data");
    let env = [
        ("LOGWEIR_PROCESSOR__MODELS_REFRESH_MS", "100"),
        ("LOGWEIR_PROCESSOR__JOBS_PAUSE_MS", "100"),
    ];
    let server = Process::standalone_with(&data_dir, "127.0.0.1:0", &env);
    let token = token(&data_dir, "*", "admin");
    (server, token)
}

fn scrape(address: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("the server listens");
    let request = format!("GET /metrics HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("it can be asked");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    answer
}

#[test]
fn a_model_is_trained_promoted_and_used_without_a_restart() {
    let world = World::start();
    let nothing = client(&world.server, &world.token, &["models", "train"]);
    assert_eq!(nothing.status.code(), Some(1), "there is nothing to learn from");
    assert!(String::from_utf8_lossy(&nothing.stderr).contains("too few"), "{nothing:?}");
    world.generate();

    let first = world.one(&["models", "train", "--from", "-2h"]);
    assert_eq!((&first["state"], &first["service"]), (&"candidate".into(), &"".into()), "{first}");
    assert!(first["metrics"]["logs"].as_u64() > Some(10_000), "{first}");
    assert!(first["metrics"]["anomaly_share"].as_f64() < Some(0.01), "{first}");
    world.wait_for_metric("logweir_models_in_use 0");
    let id = first["model_id"].to_string();
    assert_eq!(world.one(&["models", "promote", &id])["state"], "active");
    world.wait_for_metric("logweir_models_in_use 1");
    world.generate();
    let metrics = scrape(world.server.address());
    assert!(!metrics.contains("tenant="), "anybody may read them: {metrics}");
    let age = metrics.lines().find_map(|line| line.strip_prefix("logweir_model_age_seconds "));
    let age = age.and_then(|age| age.parse::<f64>().ok());
    assert!(age > Some(0.0), "it judges what comes: {age:?}");

    let second = world.one(&["models", "train", "--from", "-2h"]);
    assert_eq!(second["metrics"]["drift_from"], first["model_id"]);
    let other = second["model_id"].to_string();
    let compared = world.one(&["models", "compare", &id, &other, "--from", "-2h"]);
    assert!(compared["agreement"].as_f64() > Some(0.99), "{compared}");
    let shown = world.one(&["models", "show", &other]);
    assert_eq!(shown["statistics"]["features"].as_array().map(Vec::len), Some(7));
    world.run(&["models", "promote", &other]);
    let states: Vec<Value> =
        world.objects(&["models", "list"]).iter().map(|model| model["state"].clone()).collect();
    assert_eq!(states, ["active", "retired"]);
    assert_eq!(world.one(&["models", "rollback"])["model_id"], first["model_id"]);
    let unknown = client(&world.server, &world.token, &["models", "promote", "999"]);
    assert_eq!(unknown.status.code(), Some(5), "{unknown:?}");
    let viewer = token(&world.folder.path().join("data"), "*", "viewer");
    assert!(client(&world.server, &viewer, &["models", "list"]).status.success());
    assert_eq!(client(&world.server, &viewer, &["models", "promote", &id]).status.code(), Some(4));
}

#[test]
fn a_damaged_model_is_not_used_and_logs_are_judged_without_it() {
    let world = World::start();
    world.generate();
    let id = world.one(&["models", "train", "--from", "-2h"])["model_id"].to_string();
    world.run(&["models", "promote", &id]);
    world.wait_for_metric("logweir_models_in_use 1");
    let World { folder, server, .. } = world;
    assert_eq!(server.stop().code(), Some(0));
    let database = rusqlite::Connection::open(folder.path().join("data/logweir.db"));
    let damage = "UPDATE models SET body = zeroblob(length(body))";
    assert_eq!(database.expect("it opens").execute(damage, []), Ok(1));

    let (server, token) = serve(folder.path());
    let world = World { folder, server, token };
    world.wait_for_metric("logweir_models_unusable 1");
    world.generate();
    let text = world.run(&["export"]);
    assert!(text.lines().count() > 20_000, "logs are judged and stored");
}

#[test]
fn patterns_and_anomalies_come_in_groups() {
    let world = World::start();
    let args = ["--start", "-1h", "--duration", "50m", "--rate", "4", "--services", "2"];
    let fault = ["--fault", "new-pattern@40m+5m:payments"];
    world.run(&[&["loadgen", "--steady"][..], &args, &fault].concat());
    let patterns = world.objects(&["templates", "--from", "-2h", "-n", "1000"]).len();
    let groups = world.objects(&["clusters", "--from", "-2h", "-n", "100"]);
    assert!(!groups.is_empty() && groups.len() <= patterns, "{} of {patterns}", groups.len());
    let counts: u64 = groups.iter().map(|group| group["patterns"].as_u64().unwrap_or(0)).sum();
    assert_eq!(counts, patterns as u64);
    let sample = groups[0]["sample_ids"][0].as_str().expect("a log");
    assert_eq!(world.one(&["get", sample, "--neighbours", "0"])["id"].as_str(), Some(sample));
    assert_eq!(world.objects(&["clusters", "--service", "nobody"]), [Value::Null; 0]);
    let said = world.one(&["feedback", sample, "--normal"]);
    assert_eq!(
        (&said["is_anomaly"], &said["log_id"]),
        (&false.into(), &groups[0]["sample_ids"][0])
    );
    let neither = client(&world.server, &world.token, &["feedback", sample]);
    assert_eq!(neither.status.code(), Some(2), "a judgement is needed");
}
