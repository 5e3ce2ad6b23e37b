//! What storing, keeping and finding logs costs with SQLite: `cargo bench -p logweir-storage
//! --bench sqlite -- LOGS [DIRECTORY]` writes so many made-up logs (a million by default) of 20
//! services and 1,000 templates, 20,000 to a transaction, merges as it goes, and then searches.

mod queries;
mod sample;

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use logweir_core::record::ScoredBatch;
use logweir_storage::{
    Administer, SqliteConfig, SqliteStorage, WriteLogs,
    block::{Effort, Encoder, Row},
};

use self::{
    queries::queries,
    sample::{BATCH_LOGS, Made, SERVICES, START, cpu_seconds},
};

fn disk_bytes(directory: &Path) -> u64 {
    std::fs::metadata(directory.join("logweir.db")).map_or(0, |found| found.len())
}

async fn write(storage: &SqliteStorage, made: &Made, total: u64) {
    let (mut wall, mut cpu, mut merge_wall, mut merge_cpu) = (0.0, 0.0, 0.0, 0.0);
    let mut slowest = Duration::ZERO;
    let mut encode = 0.0;
    let mut encoder = Encoder::new();
    for first in (0..total / BATCH_LOGS).step_by(SERVICES as usize) {
        let batches: Vec<ScoredBatch> = (first..first + SERVICES).map(|n| made.batch(n)).collect();
        let used = cpu_seconds();
        let rows: Vec<Row<'_>> = batches.iter().flat_map(rows).collect();
        encoder.encode(&rows, Effort::Fresh).expect("good rows");
        encode += cpu_seconds() - used;
        let (started, used) = (Instant::now(), cpu_seconds());
        storage.write(batches.into()).await.expect("room");
        slowest = slowest.max(started.elapsed());
        (wall, cpu) = (wall + started.elapsed().as_secs_f64(), cpu + cpu_seconds() - used);
        let (started, used) = (Instant::now(), cpu_seconds());
        while storage.maintain(START).await.expect("upkeep") {}
        merge_wall += started.elapsed().as_secs_f64();
        merge_cpu += cpu_seconds() - used;
    }
    while storage.maintain(START + 60_000_000_000).await.expect("upkeep") {}
    let millions = total as f64 / 1e6;
    println!(
        "write   {:.3} s wall, {:.3} s CPU per million (slowest {slowest:?})",
        wall / millions,
        cpu / millions
    );
    println!("  of it encoding {:.3} s CPU per million", encode / millions);
    println!(
        "upkeep  {:.3} s wall, {:.3} s CPU per million",
        merge_wall / millions,
        merge_cpu / millions
    );
}

fn rows(batch: &ScoredBatch) -> impl Iterator<Item = Row<'_>> {
    batch.records.iter().map(|scored| Row {
        batch_id: batch.batch_id,
        received_unix_nano: batch.received_unix_nano,
        service: &batch.resource.service,
        instance: &batch.resource.instance,
        environment: &batch.resource.environment,
        scored,
    })
}

fn main() {
    let arguments: Vec<String> = std::env::args().filter(|text| text != "--bench").collect();
    let total = arguments.get(1).and_then(|text| text.parse().ok()).unwrap_or(1_000_000);
    let temporary = tempfile::TempDir::new().expect("a directory");
    let directory =
        arguments.get(2).map_or_else(|| temporary.path(), |text| Path::new(text.as_str()));
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let config = SqliteConfig::new(directory);
        let is_new = disk_bytes(directory) == 0;
        let storage = SqliteStorage::open(&config, Arc::new(|| START)).expect("a data directory");
        let made = Made::new(total);
        if is_new {
            write(&storage, &made, total).await;
        }
        queries(&storage, &made, total).await;
        drop(storage);
        println!("disk    {:.1} B a log", disk_bytes(directory) as f64 / total as f64);
    });
}
