//! OpenTelemetry's own client libraries against the real binary, which is killed while they send:
//! every log that a library says it exported is there, and none is there twice. `make sdks` prepares
//! what is run here; seed as in `faults.rs`.

#![allow(clippy::disallowed_methods, reason = "a test is told by its environment what to do")]

mod support;

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use logweir_proto::v1::{ExportLogsRequest, query_service_client::QueryServiceClient};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde_json::{Value, json};
use support::{
    Process, client,
    http::{Answer, send},
    logweir,
    network::{self, Transport},
    oracle::{Form, form},
    succeeded, token,
};
use tonic::{Request, metadata::MetadataValue};

/// Event time of log 0; that of the others is so many nanoseconds later.
const TIME: u64 = 1_700_000_000_000_000_001;
const LOGS: usize = 100_000;
const KILLS: usize = 2;

fn packages() -> PathBuf {
    let own = std::env::current_exe().expect("it is this one");
    // It lies in `TARGET/debug/deps`.
    own.ancestors().nth(3).expect("it lies in deps").join("sdks")
}

/// A program that sends by a library of OpenTelemetry.
fn sender(language: &str, protocol: &str) -> Command {
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/otlp_sdks");
    let (runner, script) = match language {
        "python" => (packages().join("opentelemetry-python/bin/python"), "emit.py"),
        _ => ("node".into(), "emit.cjs"),
    };
    let modules = packages().join("opentelemetry-js/node_modules");
    let is_there = modules.exists() && (runner.exists() || !runner.is_absolute());
    assert!(is_there, "the libraries are missing: run `make sdks`");
    let mut command = Command::new(runner);
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command.env("NODE_PATH", modules).arg(scripts.join(script)).arg(protocol);
    command
}

/// How often each log is stored.
async fn times_stored(server: &Process, token: &str) -> HashMap<u64, u32> {
    let connected = QueryServiceClient::connect(server.endpoint.clone()).await;
    let mut request = Request::new(ExportLogsRequest::default());
    let value = MetadataValue::try_from(format!("Bearer {token}")).expect("a token is ASCII");
    request.metadata_mut().insert("authorization", value);
    let exported = connected.expect("it is up").export_logs(request).await;
    let mut stream = exported.expect("export starts").into_inner();
    let mut times_stored = HashMap::new();
    while let Some(part) = stream.message().await.expect("export goes on") {
        for log in part.logs {
            let record = log.record.expect("every log has its record");
            let number = record.time_unix_nano - TIME;
            assert_eq!(record.message, format!("log {number} of the otlp test"));
            assert_eq!((record.severity_number, record.logger.as_str()), (9, "emit"));
            *times_stored.entry(number).or_insert(0) += 1;
        }
    }
    times_stored
}

/// Kills the server once it has stored so many logs since its start, of a sender that still sends.
fn kill_after(
    server: Process,
    logs: usize,
    sending: &mut Child,
    listen: &str,
    data_dir: &Path,
) -> Process {
    while server.metric("logweir_storage_logs_total") < logs as f64 {
        let ended = sending.try_wait().expect("it can be asked");
        assert_eq!(ended, None, "it ended before the server was killed");
    }
    server.kill();
    Process::standalone_with(data_dir, listen, &[])
}

fn send_while_the_server_dies(language: &str, protocol: &str) {
    let Form { seed, .. } = form();
    let mut random = StdRng::seed_from_u64(seed);
    let data_dir = tempfile::tempdir().expect("a folder");
    let token = token(data_dir.path(), "*", "admin");
    let mut server = Process::standalone(data_dir.path());
    let listen = server.address().to_owned();
    let mut command = sender(language, protocol);
    let command = command.arg(LOGS.to_string()).env("ENDPOINT", &server.endpoint);
    let sending = command.env("TOKEN", &token).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut sending = sending.spawn().expect("the program starts");
    for _ in 0..KILLS {
        // All shares together are less than half of the logs, so that every kill comes.
        let share = random.random_range(1..LOGS / (2 * KILLS));
        server = kill_after(server, share, &mut sending, &listen, data_dir.path());
    }
    let output = sending.wait_with_output().expect("it ends");
    assert!(output.status.success(), "{}", output.status);
    let exported: Vec<u64> = serde_json::from_slice(&output.stdout).expect("it prints JSON");

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let stored = runtime.expect("a runtime").block_on(times_stored(&server, &token));
    let doubled = stored.values().filter(|times| **times > 1).count();
    let lost = exported.iter().filter(|number| !stored.contains_key(number)).count();
    println!("{language} over {protocol}: {} exported, {} stored", exported.len(), stored.len());
    assert_eq!((lost, doubled), (0, 0), "lost, doubled");
    assert!(exported.len() > LOGS / 2, "only {} were exported", exported.len());
}

#[test]
fn python_over_grpc_while_the_server_dies() {
    send_while_the_server_dies("python", "grpc");
}

#[test]
fn python_over_http_while_the_server_dies() {
    send_while_the_server_dies("python", "http");
}

#[test]
fn javascript_over_grpc_while_the_server_dies() {
    send_while_the_server_dies("javascript", "grpc");
}

#[test]
fn javascript_over_http_in_json_while_the_server_dies() {
    send_while_the_server_dies("javascript", "http");
}

#[test]
fn javascript_over_http_in_protobuf_while_the_server_dies() {
    send_while_the_server_dies("javascript", "proto");
}

fn post(address: &str, token: &str, body: &str) -> Answer {
    let bearer = format!("Bearer {token}");
    let headers = [("Authorization", bearer.as_str()), ("Content-Type", "application/json")];
    send(address, "POST", "/v1/logs", &headers, body.as_bytes()).expect("it answers")
}

#[test]
fn a_body_is_read_as_the_same_text_in_a_file_is() {
    let data_dir = tempfile::tempdir().expect("a folder");
    let token = token(data_dir.path(), "shop", "ingest");
    let server = Process::standalone(data_dir.path());
    let field = |key: &str, text: &str| json!({ "key": key, "value": { "stringValue": text } });
    let fields =
        [field("level", "error"), field("msg", "order refused after 120 ms"), field("order", "A7")];
    let bodies = [
        json!({ "kvlistValue": { "values": fields } }),
        json!({ "stringValue": r#"{"level":"error","msg":"order refused after 120 ms","order":"A7"}"# }),
        json!({ "stringValue": r#"level=error msg="order refused after 120 ms" order=A7"# }),
    ];
    let log =
        |(number, body): (u64, &Value)| json!({ "timeUnixNano": TIME + number, "body": body });
    let logs: Vec<Value> = (0..).zip(&bodies).map(log).collect();
    let sent = json!({ "resourceLogs": [{ "scopeLogs": [{ "logRecords": logs }] }] });
    for _ in 0..2 {
        let answer = post(server.address(), &token, &sent.to_string());
        assert_eq!((answer.status, answer.body.as_str()), (200, "{}"));
    }

    let admin = support::token(data_dir.path(), "*", "admin");
    let found = succeeded(&client(
        &server,
        &admin,
        &["search", "service:shop", "level:error", "order=A7", "--json"],
    ));
    let found: Vec<Value> =
        found.lines().map(|line| serde_json::from_str(line).expect("NDJSON")).collect();
    assert_eq!(found.len(), bodies.len(), "{found:?}");
    assert!(found.iter().all(|log| log["message"] == "order refused after 120 ms"), "{found:?}");
    let report = client(&server, &admin, &["report"]);
    let said = String::from_utf8_lossy(&report.stderr).into_owned();
    assert!(said.contains("3 logs came again"), "{said}");
}

#[test]
fn every_address_speaks_everything() {
    let folder = tempfile::tempdir().expect("a folder");
    let token = token(folder.path(), "*", "admin");
    let mut command = logweir();
    command.args(["standalone", "--listen", "127.0.0.1:0, 127.0.0.1:0", "--data-dir"]);
    let server = Process::start(command.arg(folder.path()));
    // Which address the system gave the second one, it does not say: the kernel does.
    let addresses = network::listening(server.id(), Transport::Tcp);
    assert_eq!(addresses.len(), 2, "{addresses:?}");
    for address in addresses {
        let answer = post(&address, &token, "{}");
        assert_eq!(answer.status, 200, "{address}: {answer:?}");
        let services = logweir()
            .args(["services"])
            .env("LOGWEIR_ENDPOINT", format!("http://{address}"))
            .env("LOGWEIR_TOKEN", &token)
            .output();
        succeeded(&services.expect("the binary runs"));
    }
}
