//! What a write to PostgreSQL costs beside a bare COPY: `cargo bench -p logweir-storage --bench
//! postgres_write -- URL ROUNDS WRITERS`, in an empty database. Each writer takes turns: a
//! transaction of 20 batches of 1,000 logs by the storage, then the same rows once more by a binary
//! COPY alone into the same table, so that both meet the same sizes, indexes and neighbours.

mod sample;

use std::{pin::pin, sync::Arc, time::Instant};

use bytes::Bytes;
use futures::{SinkExt, TryStreamExt, future::join_all};
use logweir_core::{record::ScoredBatch, timestamp::Timestamp};
use logweir_storage::{PostgresConfig, PostgresStorage, WriteLogs};
use tokio_postgres::{Client, NoTls};

use self::sample::{Made, SERVICES, START, cpu_seconds};

async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.expect("a connection");
    #[allow(clippy::disallowed_methods, reason = "a benchmark; it ends with the client")]
    tokio::spawn(connection);
    client
}

/// The rows of a round in the order in which a write stores them, in chunks as it sends them.
async fn copy_out(client: &Client, batches: &[ScoredBatch]) -> Vec<Bytes> {
    let times = || {
        batches.iter().flat_map(|batch| &batch.records).map(|log| log.record.time.as_unix_nanos())
    };
    let from = times().min().expect("logs") / 1_000;
    let to = times().max().expect("logs") / 1_000;
    let copy = format!(
        "COPY (SELECT * FROM logs WHERE tenant = 'default'
                   AND time BETWEEN 'epoch'::timestamptz + {from} * interval '1 microsecond'
                                AND 'epoch'::timestamptz + {to} * interval '1 microsecond'
               ORDER BY tenant, service, time) TO STDOUT (FORMAT binary)"
    );
    let rows: Vec<Bytes> =
        client.copy_out(&copy).await.expect("rows").try_collect().await.expect("rows");
    let mut chunks = vec![Vec::new()];
    for row in rows {
        if chunks.last().is_some_and(|chunk: &Vec<u8>| chunk.len() >= 64 << 10) {
            chunks.push(Vec::new());
        }
        chunks.last_mut().expect("a chunk").extend_from_slice(&row);
    }
    chunks.into_iter().map(Bytes::from).collect()
}

async fn copy_in(client: &Client, chunks: Vec<Bytes>) -> u64 {
    let sink = client.copy_in::<_, Bytes>("COPY logs FROM STDIN (FORMAT binary)").await;
    let mut sink = pin!(sink.expect("a table"));
    for chunk in chunks {
        sink.send(chunk).await.expect("a server");
    }
    sink.finish().await.expect("room")
}

#[derive(Default)]
struct Spent {
    write: f64,
    write_cpu: f64,
    copy: f64,
}

async fn write(
    url: &str,
    storage: &PostgresStorage,
    made: &Made,
    rounds: std::ops::Range<u64>,
) -> Spent {
    let client = connect(url).await;
    let mut spent = Spent::default();
    for round in rounds {
        let batches: Arc<[ScoredBatch]> =
            (round * SERVICES..(round + 1) * SERVICES).map(|number| made.batch(number)).collect();
        let (started, used) = (Instant::now(), cpu_seconds());
        storage.write(Arc::clone(&batches)).await.expect("room");
        spent.write += started.elapsed().as_secs_f64();
        spent.write_cpu += cpu_seconds() - used;
        let chunks = copy_out(&client, &batches).await;
        let started = Instant::now();
        let copied = copy_in(&client, chunks).await;
        spent.copy += started.elapsed().as_secs_f64();
        assert_eq!(copied, SERVICES * 1_000, "the same rows");
    }
    spent
}

fn main() {
    let arguments: Vec<String> = std::env::args().filter(|text| text != "--bench").collect();
    let url = arguments.get(1).expect("the URL of an empty database").clone();
    let number = |place: usize, otherwise| {
        arguments.get(place).and_then(|text| text.parse::<u64>().ok()).unwrap_or(otherwise)
    };
    let (rounds, writers) = (number(2, 25), number(3, 1));
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let config = PostgresConfig::new(url.as_str());
        let storage =
            PostgresStorage::open(&config, Arc::new(|| Timestamp::from_unix_nanos(START)))
                .await
                .expect("a database");
        let made = Made::new(rounds * writers * SERVICES * 1_000);
        let all = (0..writers).map(|n| write(&url, &storage, &made, n * rounds..(n + 1) * rounds));
        for spent in join_all(all).await {
            let thousands = (rounds * SERVICES) as f64;
            println!(
                "write {:.0} k/s ({:.2} µs a log, CPU here {:.2}), bare COPY {:.0} k/s: {:.0} %",
                thousands / spent.write,
                spent.write * 1e3 / thousands,
                spent.write_cpu * 1e3 / thousands,
                thousands / spent.copy,
                spent.copy / spent.write * 100.0
            );
        }
    });
}
