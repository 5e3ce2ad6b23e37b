//! The distributed setting on one machine: PostgreSQL, RabbitMQ, a server, processors and the client.
//!
//! The reference is what the database alone can do: a bare binary COPY, on one connection, of rows
//! that were stored, into the table that they were stored in.

use std::{
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures::{SinkExt, TryStreamExt};
use testkit::{Postgres, RabbitMq};
use tokio_postgres::{Client, NoTls};

use crate::{
    full_speed,
    load::{Load, Outcome},
    process::{self, Server},
    queries,
};

/// Logs of each measured run at full speed.
const RUN_LOGS: u64 = 500_000;
/// As many rows as the largest transaction of a processor.
const COPY_ROWS: u64 = 20_000;
const COPY_ROUNDS: u64 = 10;

struct Cluster<'a> {
    binary: &'a Path,
    folder: &'a Path,
    postgres: Postgres,
    rabbitmq: RabbitMq,
    database: Client,
    sent: u64,
}

/// Measures it all; `backlog` logs wait in the broker at most.
pub(crate) async fn measure(binary: &Path, folder: &Path, backlog: u64) -> anyhow::Result<()> {
    let (postgres, rabbitmq) =
        tokio::join!(Postgres::private_with("fsync = on"), RabbitMq::private());
    let (database, connection) = tokio_postgres::connect(&postgres.url(), NoTls).await?;
    #[allow(clippy::disallowed_methods, reason = "it ends with the client")]
    tokio::spawn(connection);
    let mut cluster = Cluster { binary, folder, postgres, rabbitmq, database, sent: 0 };
    let server = cluster.start(&["server", "--listen", "127.0.0.1:0"]).await?;
    let token = crate::admin_token(&mut cluster.command(&[]))?;
    let load = |logs, seed| Load { logs, ..full_speed(&server, &token, seed) };

    let first = cluster.processor().await?;
    let members = [("server", &server), ("processor", &first)];
    cluster.run("warm-up", &members, load(RUN_LOGS, 1_000)).await?;
    let one = cluster.run("one processor", &members, load(RUN_LOGS, 2_000)).await?;
    let copied = cluster.bare_copy().await?;
    println!("{:44} {copied:>10.0} rows/s, bare", "reference: COPY");
    println!("{:44} {:>10.2}", "  one processor ÷ reference", one / copied);
    let half = Load { logs_per_second: Some(one / 2.0), ..load(RUN_LOGS, 3_000) };
    cluster.run("at half of that", &members, half).await?;

    let second = cluster.processor().await?;
    let members = [("server", &server), ("processor", &first), ("processor", &second)];
    cluster.run("two processors", &members, load(RUN_LOGS, 4_000)).await?;
    drop((first, second));

    let waiting = load(backlog, 5_000);
    let ingest = cluster.fill("into the broker alone", &server, waiting).await?;
    let processor = cluster.processor().await?;
    let drain = cluster.drain(backlog, &processor).await?;
    println!("{:44} {:>10.2}", "  drained ÷ ingested", drain / ingest);
    println!(
        "{:44} {:>10.1} bytes a log",
        "disk of the database",
        cluster.disk_bytes_a_log().await?
    );
    queries::measure(&server.endpoint, &token).await
}

impl Cluster<'_> {
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.binary);
        command.args(arguments).env("LOGWEIR_DATA_DIR", self.folder);
        command.env("LOGWEIR_DATABASE_URL", self.postgres.url());
        command.env("LOGWEIR_AMQP_URL", self.rabbitmq.url());
        command
    }

    async fn start(&self, arguments: &[&str]) -> anyhow::Result<Server> {
        Server::start(self.command(arguments)).await
    }

    async fn processor(&self) -> anyhow::Result<Server> {
        self.start(&["processor", "--listen", "127.0.0.1:0"]).await
    }

    /// Sends, waits until all is committed, and prints both ends; logs a second until the commit.
    async fn run(
        &mut self,
        name: &str,
        members: &[(&str, &Server)],
        load: Load,
    ) -> anyhow::Result<f64> {
        let before = self.cpu(members)?;
        let begun = Instant::now();
        let outcome = self.send(&load).await?;
        self.wait_until_stored().await?;
        let rate = outcome.logs as f64 / begun.elapsed().as_secs_f64();
        print_rate(name, rate, &outcome);
        let mut total = Duration::ZERO;
        for ((member, after), (_, before)) in self.cpu(members)?.into_iter().zip(before) {
            let used = after - before;
            total += used;
            let used = used.as_secs_f64() / outcome.logs as f64 * 1e6;
            println!("{:44} {used:>10.2} CPU-s/M", format!("  {member}"));
        }
        let total = total.as_secs_f64() / outcome.logs as f64 * 1e6;
        println!("{:44} {total:>10.2} CPU-s/M", "  together");
        Ok(rate)
    }

    async fn send(&mut self, load: &Load) -> anyhow::Result<Outcome> {
        let outcome = load.run().await?;
        self.sent += outcome.logs;
        Ok(outcome)
    }

    async fn stored(&self) -> anyhow::Result<u64> {
        let row = self.database.query_one("SELECT sum(total)::bigint FROM services", &[]).await?;
        Ok(row.get::<_, Option<i64>>(0).unwrap_or(0).unsigned_abs())
    }

    async fn wait_until_stored(&self) -> anyhow::Result<()> {
        while self.stored().await? < self.sent {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    fn cpu(&self, members: &[(&str, &Server)]) -> anyhow::Result<Vec<(String, Duration)>> {
        let mut all = Vec::new();
        for (name, member) in members {
            all.push(((*name).to_owned(), member.cpu()?));
        }
        for (name, program) in [("PostgreSQL", "postgres"), ("RabbitMQ", "beam.smp")] {
            all.push((name.to_owned(), process::cpu_below(std::process::id(), program)?));
        }
        Ok(all)
    }

    /// Sends while nobody consumes; logs a second until the acknowledgement.
    async fn fill(&mut self, name: &str, server: &Server, load: Load) -> anyhow::Result<f64> {
        print_memory(server)?;
        let outcome = self.send(&load).await?;
        print_rate(name, outcome.logs_per_second(), &outcome);
        print_memory(server)?;
        Ok(outcome.logs_per_second())
    }

    /// Waits until the backlog is stored; logs a second.
    async fn drain(&self, backlog: u64, processor: &Server) -> anyhow::Result<f64> {
        let begun = Instant::now();
        self.wait_until_stored().await?;
        let rate = backlog as f64 / begun.elapsed().as_secs_f64();
        println!("{:44} {rate:>10.0}", format!("backlog of {backlog} drained"));
        println!(
            "{:44} {:>10} MiB highest",
            "  resident, processor",
            processor.memory_peak_bytes()? >> 20
        );
        Ok(rate)
    }

    /// Rows a second of transactions of a COPY alone. The rows stay, in addition to what is counted.
    async fn bare_copy(&self) -> anyhow::Result<f64> {
        let sample = format!(
            "COPY (SELECT * FROM (SELECT * FROM logs ORDER BY time DESC LIMIT {COPY_ROWS}) newest
                   ORDER BY tenant, service, time) TO STDOUT (FORMAT binary)"
        );
        let rows: Vec<Bytes> = self.database.copy_out(&sample).await?.try_collect().await?;
        let chunks: Vec<Bytes> = rows.chunks(256).map(|rows| rows.concat().into()).collect();
        let begun = Instant::now();
        for _ in 0..COPY_ROUNDS {
            let sink = self.database.copy_in::<_, Bytes>("COPY logs FROM STDIN (FORMAT binary)");
            let mut sink = std::pin::pin!(sink.await?);
            for chunk in &chunks {
                sink.send(chunk.clone()).await?;
            }
            anyhow::ensure!(sink.finish().await? == COPY_ROWS, "every row is copied");
        }
        Ok((COPY_ROWS * COPY_ROUNDS) as f64 / begun.elapsed().as_secs_f64())
    }

    async fn disk_bytes_a_log(&self) -> anyhow::Result<f64> {
        let size = "SELECT pg_database_size(current_database())";
        let bytes: i64 = self.database.query_one(size, &[]).await?.get(0);
        Ok(bytes as f64 / (self.sent + COPY_ROWS * COPY_ROUNDS) as f64)
    }
}

fn print_memory(server: &Server) -> anyhow::Result<()> {
    let broker = process::memory_bytes_below(std::process::id(), "beam.smp")? >> 20;
    let server = server.memory_bytes()? >> 20;
    println!("{:44} {server:>10} MiB server, {broker} MiB broker", "  resident");
    Ok(())
}

fn print_rate(name: &str, rate: f64, outcome: &Outcome) {
    let (p50, p99) = (outcome.latency_ms(0.5), outcome.latency_ms(0.99));
    println!("{name:44} {rate:>10.0} {:>12} {p50:>9.1} {p99:>9.1}", "");
}
