//! The whole path, measured: one server process, its clients beside it, on one machine.
//!
//! Every figure stands beside that of a reference in the same run, a server that only decodes and
//! answers, because absolute figures differ from day to day and machine to machine.

mod distributed;
mod load;
mod otlp;
mod process;
mod queries;
mod reference;
mod sdks;
mod sink;

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use clap::Parser;
use load::{Load, Outcome, RUN_LOGS};
use process::{Server, admin_token};

/// Measures the whole path.
#[derive(Parser)]
struct Arguments {
    /// Logs stored by the end.
    #[arg(long, default_value_t = 20_000_000)]
    logs: u64,
    /// The server binary.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/release/logweir"))]
    binary: PathBuf,
    /// Where the data lie; a temporary folder by default.
    #[arg(long)]
    data_dir: Option<PathBuf>,
    /// Measure the distributed setting instead; so many logs wait in the broker at most.
    #[arg(long, value_name = "BACKLOG")]
    distributed: Option<u64>,
    /// With the TimescaleDB that is installed for this machine's PostgreSQL.
    #[arg(long, requires = "distributed")]
    timescaledb: bool,
    /// Measure the client libraries of all languages instead.
    #[arg(long)]
    sdks: bool,
    /// Answer OK and count only; the sink runs itself with this.
    #[arg(long, hide = true)]
    serve_sink: bool,
    /// Send a turn's logs by one library; the measurement of libraries runs itself with this.
    #[arg(long, hide = true, requires = "to")]
    send_by: Option<sdks::Library>,
    /// Where to.
    #[arg(long, hide = true)]
    to: Option<String>,
    /// Decode and answer only; the reference runs itself with this.
    #[arg(long, hide = true)]
    serve_reference: bool,
}

/// Turns of the servers with and without scoring; an odd number, so that the median was measured.
const TURNS: u64 = 7;

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    // Outside of a runtime: the libraries bring their own, and block, which panics within one.
    if let (Some(library), Some(endpoint)) = (arguments.send_by, &arguments.to) {
        return sdks::send(library, endpoint);
    }
    run(arguments)
}

#[tokio::main]
async fn run(arguments: Arguments) -> anyhow::Result<()> {
    if arguments.serve_reference {
        return reference::serve().await;
    }
    if arguments.serve_sink {
        return sink::serve().await;
    }
    if arguments.sdks {
        return sdks::measure().await;
    }
    let temporary = tempfile::tempdir()?;
    let data_dir = arguments.data_dir.as_deref().unwrap_or(temporary.path());
    match arguments.distributed {
        Some(backlog) => {
            let is_timescale = arguments.timescaledb;
            distributed::measure(&arguments.binary, data_dir, backlog, is_timescale).await
        }
        None => measure(&arguments, data_dir).await,
    }
}

/// A server and a token for it.
async fn standalone(
    arguments: &Arguments,
    data_dir: &Path,
    scoring: bool,
) -> anyhow::Result<(Server, String)> {
    let mut command = Command::new(&arguments.binary);
    command.env("LOGWEIR_PROCESSOR__SCORING", scoring.to_string());
    command.args(["standalone", "--listen", "127.0.0.1:0", "--data-dir"]).arg(data_dir);
    let server = Server::start(command).await?;
    let token = admin_token(Command::new(&arguments.binary).env("LOGWEIR_DATA_DIR", data_dir))?;
    Ok((server, token))
}

async fn measure(arguments: &Arguments, data_dir: &Path) -> anyhow::Result<()> {
    println!("{:44} {:>10} {:>12} {:>9} {:>9}", "", "logs/s", "CPU-s/M", "p50 ms", "p99 ms");
    // First, while nothing else runs: all other figures are divided by this one.
    let decode_only = {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("--serve-reference");
        let server = Server::start(command).await?;
        let load = Load::full_speed(&server, "none", 0);
        measured("reference: decode and answer", &server, &load).await?
    };

    scoring(arguments).await?;
    protocols(arguments).await?;

    let (server, token) = standalone(arguments, data_dir, true).await?;
    measured("warm-up", &server, &Load::full_speed(&server, &token, 1_000)).await?;
    let first = Load::full_speed(&server, &token, 2_000);
    let fast = measured("full speed, 16 x 1,000 logs", &server, &first).await?;
    println!(
        "{:44} {:>10.2} {:>12.2}",
        "  ÷ reference",
        fast.0 / decode_only.0,
        fast.1 / decode_only.1
    );
    let memory = server.memory_peak_bytes()? as f64 / f64::from(1 << 20);
    println!("{:44} {memory:>10.0} MiB", "  resident memory, highest so far");

    // As a thousand small services send: a connection of their own each, and small batches.
    let many = Load { clients: 1_000, connections: 1_000, batch_records: 50, ..first.clone() };
    measured("full speed, 1,000 x 50 logs", &server, &many).await?;
    let steady = Load { logs_per_second: Some(50_000.0), seed: 4_000, ..first.clone() };
    measured("50,000 logs/s, 16 x 1,000 logs", &server, &steady).await?;

    let stored = 5 * RUN_LOGS;
    let fill = Load {
        logs: arguments.logs.saturating_sub(stored),
        history: Duration::from_secs(3_600),
        seed: 5_000,
        ..first.clone()
    };
    measured("fill, event time over an hour", &server, &fill).await?;
    // The same as at the start, on top of all that is stored: it must not have become slower.
    let last = Load { seed: 6_000, ..first };
    let late = measured("full speed, last million", &server, &last).await?;
    println!("{:44} {:>10.2}", "  ÷ the same at two million", late.0 / fast.0);
    let memory = server.memory_peak_bytes()? as f64 / f64::from(1 << 20);
    println!("{:44} {memory:>10.0} MiB", "  resident memory, highest so far");

    // What is not merged yet takes more room than it will.
    settle(&server).await?;
    let total = stored + fill.logs;
    let bytes = process::folder_bytes(data_dir)?;
    println!("{:44} {:>10.1} bytes a log, all files", "disk", bytes as f64 / total as f64);
    let compressed = load::compressed_bytes()?;
    println!("{:44} {compressed:>10.1} bytes a log", "  reference: the same in zstd -22");
    queries::measure(&server.endpoint, &token, Duration::ZERO).await
}

/// What scoring costs, once patterns are known: two servers take turns, so that whatever else the
/// machine does meets both, and the medians count.
async fn scoring(arguments: &Arguments) -> anyhow::Result<()> {
    let folders = [tempfile::tempdir()?, tempfile::tempdir()?];
    let off = standalone(arguments, folders[0].path(), false).await?;
    let on = standalone(arguments, folders[1].path(), true).await?;
    measured("warm-up, scoring off", &off.0, &Load::full_speed(&off.0, &off.1, 1_000)).await?;
    measured("warm-up, scoring on", &on.0, &Load::full_speed(&on.0, &on.1, 1_000)).await?;
    let (mut rates, mut costs) = (Vec::new(), Vec::new());
    for round in 0..TURNS {
        // Both get the same logs, and no turn those of another: a client's stream is the seed plus
        // its number, and there are sixteen clients.
        let turn = |(server, token): &(Server, String)| Load {
            logs: RUN_LOGS / 2,
            ..Load::full_speed(server, token, 10_000 + 100 * round)
        };
        let without = measured("full speed, scoring off", &off.0, &turn(&off)).await?;
        let with = measured("full speed, scoring on", &on.0, &turn(&on)).await?;
        rates.push(with.0 / without.0);
        costs.push(with.1 / without.1);
    }
    let (rate, cost) = (median(rates), median(costs));
    println!("{:44} {rate:>10.2} {cost:>12.2}", "  scoring on ÷ off, medians");
    Ok(())
}

/// What a log costs that comes by OTLP, beside one that comes by the native contract: the two take turns
/// at one server, and the medians count.
async fn protocols(arguments: &Arguments) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let (server, token) = standalone(arguments, folder.path(), true).await?;
    measured("warm-up", &server, &Load::full_speed(&server, &token, 1_000)).await?;
    let (mut rates, mut costs) = (Vec::new(), Vec::new());
    for round in 0..TURNS {
        let turn = |is_otlp, seed| Load {
            logs: RUN_LOGS / 2,
            is_otlp,
            ..Load::full_speed(&server, &token, seed + 100 * round)
        };
        let native = measured("full speed, native", &server, &turn(false, 20_000)).await?;
        let otlp = measured("full speed, OTLP over gRPC", &server, &turn(true, 30_000)).await?;
        rates.push(otlp.0 / native.0);
        costs.push(otlp.1 / native.1);
    }
    let (rate, cost) = (median(rates), median(costs));
    println!("{:44} {rate:>10.2} {cost:>12.2}", "  OTLP ÷ native, medians");
    Ok(())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Runs a load and prints its line: logs/s, and CPU-seconds of the server per million logs.
async fn measured(name: &str, server: &Server, load: &Load) -> anyhow::Result<(f64, f64)> {
    let before = server.cpu()?;
    let outcome: Outcome = load.run().await?;
    let cpu = (server.cpu()? - before).as_secs_f64() / outcome.logs as f64 * 1e6;
    let rate = outcome.logs_per_second();
    let (p50, p99) = (outcome.latency_ms(0.5), outcome.latency_ms(0.99));
    println!("{name:44} {rate:>10.0} {cpu:>12.2} {p50:>9.1} {p99:>9.1}");
    Ok((rate, cpu))
}

/// Waits until the server has merged what it wants to merge: until it uses next to no processor.
async fn settle(server: &Server) -> anyhow::Result<()> {
    let begun = server.cpu()?;
    loop {
        let before = server.cpu()?;
        tokio::time::sleep(Duration::from_secs(3)).await;
        // 2 % of a core, as an idle server still polls.
        if server.cpu()? - before < Duration::from_millis(60) {
            break;
        }
    }
    let cpu = (server.cpu()? - begun).as_secs_f64();
    println!("{:44} {cpu:>10.1} CPU-s after the last log", "merging");
    Ok(())
}
