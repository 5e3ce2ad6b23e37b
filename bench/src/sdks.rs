//! The client libraries beside what people use otherwise: how many logs a second one core sends to
//! a sink on the other, by Logweir's library and by OpenTelemetry's of the same language. They take
//! turns, so that whatever else the machine does meets both, and the medians count.

use std::{
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use logweir_sdk::{Client, Level, Record};
use opentelemetry::{
    Key,
    logs::{AnyValue, LogRecord as _, Logger as _, LoggerProvider as _, Severity},
};
use opentelemetry_otlp::{LogExporter, WithExportConfig as _};
use opentelemetry_sdk::logs::{BatchConfigBuilder, BatchLogProcessor, SdkLoggerProvider};

use crate::{process::Server, sink};

/// Turns of each library.
const TURNS: usize = 5;
/// Logs of a turn; all of them wait in memory, so that nothing is dropped.
const TURN_LOGS: usize = 500_000;
/// The sender and the sink each have a core to themselves, so that neither takes time of the other.
const SENDER_CORE: &str = "0";
const SINK_CORE: &str = "1";
/// How long a turn may take before it counts as failed.
const PATIENCE: Duration = Duration::from_secs(120);

/// A client library.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(crate) enum Library {
    Logweir,
    Opentelemetry,
}

/// A command that runs this program on one core.
fn pinned(core: &str) -> anyhow::Result<Command> {
    let mut command = Command::new("taskset");
    command.args(["-c", core]).arg(std::env::current_exe()?);
    Ok(command)
}

/// Prints the tables of all languages; those of Python and JavaScript come from programs of their
/// own.
pub(crate) async fn measure() -> anyhow::Result<()> {
    let mut command = pinned(SINK_CORE)?;
    command.arg("--serve-sink");
    let sink = Server::start(command).await?;
    rust(&sink.endpoint)?;
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    for script in ["sdk-python/bench/run.sh", "sdk-js/bench/run.sh"] {
        let status = Command::new(root.join(script)).status();
        ensure!(status.with_context(|| script.to_owned())?.success(), "{script} failed");
    }
    Ok(())
}

fn rust(endpoint: &str) -> anyhow::Result<()> {
    let mut rates = [Vec::new(), Vec::new()];
    for _ in 0..TURNS {
        for (library, rates) in ["logweir", "opentelemetry"].iter().zip(&mut rates) {
            let mut command = pinned(SENDER_CORE)?;
            let output = command.args(["--send-by", library, "--to", endpoint]).output()?;
            if !output.status.success() {
                bail!("{library}: {}", String::from_utf8_lossy(&output.stderr));
            }
            rates.push(String::from_utf8(output.stdout)?.trim().parse::<f64>()?);
        }
    }
    let [own, other] = rates.map(|mut rates| {
        rates.sort_by(f64::total_cmp);
        rates[rates.len() / 2]
    });
    println!("{:44} {own:>10.0} logs/s", "sdk-rust, one core to a sink");
    println!("{:44} {other:>10.0} logs/s", "OpenTelemetry's Rust SDK, the same");
    println!("{:44} {:>10.2}", "  sdk-rust ÷ OpenTelemetry", own / other);
    Ok(())
}

/// Sends a turn's logs and prints the rate, from the first call until the sink has the last log.
pub(crate) fn send(library: Library, endpoint: &str) -> anyhow::Result<()> {
    let before = sink::logs(endpoint)?;
    let started = Instant::now();
    match library {
        Library::Logweir => send_by_logweir(endpoint, before)?,
        Library::Opentelemetry => send_by_opentelemetry(endpoint, before)?,
    }
    println!("{}", TURN_LOGS as f64 / started.elapsed().as_secs_f64());
    Ok(())
}

fn message(number: usize) -> String {
    format!("user {number} logged in from 10.0.0.7 after 3 attempts")
}

fn send_by_logweir(endpoint: &str, before: u64) -> anyhow::Result<()> {
    let client = Client::builder()
        .endpoint(endpoint)
        .token("none")
        .queue_records(TURN_LOGS)
        .queue_bytes(1 << 30)
        .build()?;
    for number in 0..TURN_LOGS {
        let record = Record::new(Level::Info, message(number))
            .attribute("user_id", number as i64)
            .attribute("region", "eu-west-1")
            .attribute("retry", false);
        client.emit(record);
    }
    let report = client.shutdown(PATIENCE);
    ensure!(report.sent == TURN_LOGS as u64, "not all were sent: {report:?}");
    wait_for_the_sink(endpoint, before)
}

fn send_by_opentelemetry(endpoint: &str, before: u64) -> anyhow::Result<()> {
    // Its exporter needs a runtime; one thread, as Logweir's library has.
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let inside = runtime.enter();
    let exporter = LogExporter::builder().with_tonic().with_endpoint(endpoint).build()?;
    drop(inside);
    let config = BatchConfigBuilder::default().with_max_queue_size(TURN_LOGS).build();
    let processor = BatchLogProcessor::builder(exporter).with_batch_config(config).build();
    let provider = SdkLoggerProvider::builder().with_log_processor(processor).build();
    let logger = provider.logger("bench");
    for number in 0..TURN_LOGS {
        let mut record = logger.create_log_record();
        record.set_severity_number(Severity::Info);
        record.set_body(AnyValue::from(message(number)));
        record.add_attributes([
            (Key::new("user_id"), AnyValue::Int(number as i64)),
            (Key::new("region"), AnyValue::from("eu-west-1")),
            (Key::new("retry"), AnyValue::Boolean(false)),
        ]);
        logger.emit(record);
    }
    // Its flush gives up after a few seconds of its own; what counts is what the sink has.
    drop(provider.force_flush());
    wait_for_the_sink(endpoint, before)
}

fn wait_for_the_sink(endpoint: &str, before: u64) -> anyhow::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while sink::logs(endpoint)? < before + TURN_LOGS as u64 {
        ensure!(Instant::now() < deadline, "the sink has {} logs", sink::logs(endpoint)? - before);
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}
