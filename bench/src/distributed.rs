//! The distributed setting on one machine: PostgreSQL, RabbitMQ, a server, processors and the
//! client.
//!
//! The reference is what the database alone can do: a bare binary COPY, on one connection, of rows
//! that were stored, into the table that they were stored in; with TimescaleDB straight into
//! columns, as the processors do it.

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
    load::{Load, Outcome},
    process::{self, Server},
    queries,
};

/// Logs of each measured run at full speed.
const RUN_LOGS: u64 = 500_000;
/// As many rows as the largest transaction of a processor.
const COPY_ROWS: u64 = 20_000;
const COPY_ROUNDS: u64 = 10;
/// Event time of what waits in the broker.
const BACKLOG_SPAN: Duration = Duration::from_secs(5 * 3_600);

/// As a database of its own machine would be set. Above all it waits for the disk at each commit,
/// which the test kit's default leaves out.
const SETTINGS: &str = "fsync = on\nshared_buffers = 1GB\nmax_wal_size = 4GB\n";

struct Cluster<'a> {
    binary: &'a Path,
    folder: &'a Path,
    postgres: Postgres,
    rabbitmq: RabbitMq,
    database: Client,
    sent: u64,
}

/// Measures it all; `backlog` logs wait in the broker at most.
pub(crate) async fn measure(
    binary: &Path,
    folder: &Path,
    backlog: u64,
    is_timescale: bool,
) -> anyhow::Result<()> {
    let settings = match is_timescale {
        true => "shared_preload_libraries = 'timescaledb'",
        false => "",
    };
    let settings = format!("{SETTINGS}{settings}");
    let (postgres, rabbitmq) = tokio::join!(Postgres::private_with(&settings), RabbitMq::private());
    let (database, connection) = tokio_postgres::connect(&postgres.url(), NoTls).await?;
    #[allow(clippy::disallowed_methods, reason = "it ends with the client")]
    tokio::spawn(connection);
    let mut cluster = Cluster { binary, folder, postgres, rabbitmq, database, sent: 0 };
    let server = cluster.start(&["server", "--listen", "127.0.0.1:0"]).await?;
    let token = process::admin_token(&mut cluster.command(&[]))?;
    let load =
        |logs, seed| Load { logs, is_traced: true, ..Load::full_speed(&server, &token, seed) };

    // The first logs make the patterns known; no later run is charged for that.
    let mut processors = vec![cluster.processor().await?];
    cluster.run("warm-up", &server, &processors, load(RUN_LOGS, 1_000)).await?;
    let one = cluster.run("one processor", &server, &processors, load(RUN_LOGS, 2_000)).await?;
    cluster.reference(one).await?;
    // At full speed latencies are those of full queues; at half of it, those of the way itself.
    let half = Load { logs_per_second: Some(one / 2.0), ..load(RUN_LOGS, 3_000) };
    cluster.run("at half of that", &server, &processors, half.clone()).await?;
    for (count, name) in [(2, "two processors"), (4, "four processors")] {
        while processors.len() < count {
            processors.push(cluster.processor().await?);
        }
        let rate = cluster.run(name, &server, &processors, load(RUN_LOGS, 4_000)).await?;
        println!("{:44} {:>10.2}", "  ÷ one processor", rate / one);
    }
    // Killed with this: nobody consumes while the backlog is sent.
    drop(processors);

    let waiting = Load { history: BACKLOG_SPAN, ..load(backlog, 5_000) };
    cluster.fill("into the broker alone", &server, waiting).await?;
    let processors = [cluster.processor().await?, cluster.processor().await?];
    let meanwhile = Load { logs: backlog / 4, ..half };
    cluster.drain(one, &processors, meanwhile).await?;
    cluster.print_disk().await?;
    // Of the backlog alone.
    queries::measure(&server.endpoint, &token, BACKLOG_SPAN / 2).await
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
        server: &Server,
        processors: &[Server],
        load: Load,
    ) -> anyhow::Result<f64> {
        let before = self.cpu(server, processors)?;
        let begun = Instant::now();
        let outcome = self.send(&load).await?;
        self.wait_until_stored().await?;
        let rate = outcome.logs as f64 / begun.elapsed().as_secs_f64();
        print_rate(name, rate, &outcome);
        let mut total = Duration::ZERO;
        for ((member, after), (_, before)) in self.cpu(server, processors)?.into_iter().zip(before)
        {
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

    /// Processor time used so far, by kind of process.
    fn cpu(
        &self,
        server: &Server,
        processors: &[Server],
    ) -> anyhow::Result<[(&'static str, Duration); 4]> {
        let mut processing = Duration::ZERO;
        for processor in processors {
            processing += processor.cpu()?;
        }
        // Below this process only: the machine may run other databases and brokers.
        let below = |program| process::cpu_below(std::process::id(), program);
        Ok([
            ("server", server.cpu()?),
            ("processors", processing),
            ("PostgreSQL", below("postgres")?),
            ("RabbitMQ", below("beam.smp")?),
        ])
    }

    /// Sends while nobody consumes; logs a second until the acknowledgement.
    async fn fill(&mut self, name: &str, server: &Server, load: Load) -> anyhow::Result<()> {
        print_memory("before", server)?;
        let outcome = self.send(&load).await?;
        print_rate(name, outcome.logs_per_second(), &outcome);
        print_memory("after", server)
    }

    /// Waits until the backlog is stored while more comes, and then until all is.
    async fn drain(
        &mut self,
        one: f64,
        processors: &[Server],
        meanwhile: Load,
    ) -> anyhow::Result<()> {
        let (before, begun) = (self.stored().await?, Instant::now());
        let outcome = self.send(&meanwhile).await?;
        let busy = self.stored().await? - before;
        let draining = busy as f64 / begun.elapsed().as_secs_f64();
        print_rate("backlog, while more comes: comes", outcome.logs_per_second(), &outcome);
        println!("{:44} {draining:>10.0}", "  is stored");
        println!("{:44} {:>10.2}", "  ÷ comes", draining / outcome.logs_per_second());
        let (left, begun) = (self.sent - self.stored().await?, Instant::now());
        self.wait_until_stored().await?;
        let alone = left as f64 / begun.elapsed().as_secs_f64();
        println!("{:44} {alone:>10.0}", format!("the last {left} of it alone"));
        println!("{:44} {:>10.2}", "  ÷ one processor, end to end", alone / one);
        for processor in processors {
            let peak = processor.memory_peak_bytes()? >> 20;
            println!("{:44} {peak:>10} MiB at most", "  resident, a processor");
        }
        Ok(())
    }

    /// A bare COPY beside what one processor stores.
    async fn reference(&self, one: f64) -> anyhow::Result<()> {
        let mut ways = vec![("rows", "off")];
        if self.has_timescaledb().await? {
            ways.push(("columns", "on"));
        }
        for (into, direct) in ways {
            let set = format!("SET timescaledb.enable_direct_compress_copy = {direct}");
            self.database.batch_execute(&set).await?;
            let copied = self.bare_copy().await?;
            println!("{:44} {copied:>10.0} rows/s, bare", format!("reference: COPY into {into}"));
            println!("{:44} {:>10.2}", "  one processor ÷ reference", one / copied);
        }
        Ok(())
    }

    async fn has_timescaledb(&self) -> anyhow::Result<bool> {
        let sql = "SELECT EXISTS (SELECT FROM pg_extension WHERE extname = 'timescaledb')";
        Ok(self.database.query_one(sql, &[]).await?.get(0))
    }

    /// Rows a second of transactions of a COPY alone. The rows stay, in addition to what is
    /// counted.
    async fn bare_copy(&self) -> anyhow::Result<f64> {
        let sample = format!(
            "COPY (SELECT * FROM (SELECT * FROM logs ORDER BY time DESC LIMIT {COPY_ROWS}) newest
                   ORDER BY tenant, service, time) TO STDOUT (FORMAT binary)"
        );
        let rows: Vec<Bytes> = self.database.copy_out(&sample).await?.try_collect().await?;
        // Joined beforehand: a message for each row would measure this client too.
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

    /// As stored, and once TimescaleDB has made columns of all rows.
    async fn print_disk(&self) -> anyhow::Result<()> {
        println!("{:44} {:>10.1} bytes a log", "disk of the database", self.disk().await?);
        if self.has_timescaledb().await? {
            let compress = "SELECT count(compress_chunk(chunk, recompress => true))
                            FROM show_chunks('logs') AS chunk";
            self.database.query_one(compress, &[]).await?;
            println!("{:44} {:>10.1} bytes a log", "  compressed", self.disk().await?);
        }
        Ok(())
    }

    async fn disk(&self) -> anyhow::Result<f64> {
        let size = "SELECT pg_database_size(current_database())";
        let bytes: i64 = self.database.query_one(size, &[]).await?.get(0);
        let row = self.database.query_one("SELECT count(*) FROM logs", &[]).await?;
        Ok(bytes as f64 / row.get::<_, i64>(0) as f64)
    }
}

fn print_memory(when: &str, server: &Server) -> anyhow::Result<()> {
    let broker = process::memory_bytes_below(std::process::id(), "beam.smp")? >> 20;
    let server = server.memory_bytes()? >> 20;
    println!("{:44} {server:>10} MiB server, {broker} MiB broker", format!("  resident {when}"));
    Ok(())
}

fn print_rate(name: &str, rate: f64, outcome: &Outcome) {
    let (p50, p99) = (outcome.latency_ms(0.5), outcome.latency_ms(0.99));
    println!("{name:44} {rate:>10.0} {:>12} {p50:>9.1} {p99:>9.1}", "");
}
