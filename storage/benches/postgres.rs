//! What storing and finding logs costs with PostgreSQL: `cargo bench -p logweir-storage --bench
//! postgres
//! -- URL LOGS` writes so many made-up logs (a million by default), unless the database has logs, and
//! then searches. Whether TimescaleDB is there is up to the database.

mod queries;
mod sample;

use std::{sync::Arc, time::Instant};

use logweir_core::{identity::Tenant, record::ScoredBatch, timestamp::Timestamp};
use logweir_storage::{Administer, PostgresConfig, PostgresStorage, ReadLogs, WriteLogs};

use self::{
    queries::queries,
    sample::{BATCH_LOGS, Made, SERVICES, START, cpu_seconds},
};

async fn write(storage: &PostgresStorage, made: &Made, total: u64) {
    let (mut wall, mut cpu) = (0.0, 0.0);
    for first in (0..total / BATCH_LOGS).step_by(SERVICES as usize) {
        let batches: Vec<ScoredBatch> = (first..first + SERVICES).map(|n| made.batch(n)).collect();
        let (started, used) = (Instant::now(), cpu_seconds());
        storage.write(batches.into()).await.expect("room");
        (wall, cpu) = (wall + started.elapsed().as_secs_f64(), cpu + cpu_seconds() - used);
    }
    while storage.maintain(Timestamp::from_unix_nanos(START)).await.expect("upkeep") {}
    let millions = total as f64 / 1e6;
    println!("write   {:.3} s wall, {:.3} s CPU here per million", wall / millions, cpu / millions);
}

fn main() {
    let arguments: Vec<String> = std::env::args().filter(|text| text != "--bench").collect();
    let url = arguments.get(1).expect("the URL of a database");
    let total = arguments.get(2).and_then(|text| text.parse().ok()).unwrap_or(1_000_000);
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let config = PostgresConfig::new(url.as_str());
        let storage =
            PostgresStorage::open(&config, Arc::new(|| Timestamp::from_unix_nanos(START)))
                .await
                .expect("a database");
        let made = Made::new(total);
        if storage.list_services(&Tenant::default()).await.expect("an answer").is_empty() {
            write(&storage, &made, total).await;
        }
        queries(&storage, &made, total).await;
    });
}
