//! Logs to write: made up, the same every time.

use std::{collections::HashMap, sync::Arc, time::Duration};

use logweir_core::{
    filter::Filter,
    identity::{BatchId, ProducerId, Service, TemplateId, Tenant},
    record::{
        Account, Attribute, Level, Producer, Record, RejectedRecord, Resource, ScoredBatch,
        ScoredRecord, StoredLog, Template, Value,
    },
    timestamp::Timestamp,
};

use super::NOW;
use crate::{ReadLogs, SearchLimits, SearchQuery, Storage, TimeRange, WriteOutcome};

pub(crate) const SECOND: Duration = Duration::from_secs(1);
pub(crate) const HOUR: Duration = Duration::from_secs(3_600);

/// A time of so many nanoseconds since 1970.
pub(crate) const fn at(nanos: i64) -> Timestamp {
    Timestamp::from_unix_nanos(nanos)
}

pub(crate) fn tenant() -> Tenant {
    Tenant::default()
}

pub(crate) fn service(name: &str) -> Service {
    Service::new(name).unwrap()
}

/// An id for a batch: distinct numbers give distinct ids.
pub(crate) fn batch_id(number: u64) -> BatchId {
    let mut bytes = [0xb5; 16];
    bytes[..8].copy_from_slice(&number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    bytes[8..].copy_from_slice(&number.to_be_bytes());
    BatchId(bytes)
}

/// A batch of a service with so many logs, a second apart, the newest so long ago. Levels,
/// latencies, templates and anomalies vary.
pub(crate) fn batch(number: u64, of: &str, logs: u32, ago: Duration) -> ScoredBatch {
    batch_until(number, of, logs, NOW - ago)
}

/// The same, the newest at this time.
pub(crate) fn batch_until(number: u64, of: &str, logs: u32, newest: Timestamp) -> ScoredBatch {
    let mut batch = empty_batch(number, of);
    for index in 0..logs {
        let time = newest - (logs - 1 - index) * SECOND;
        push(&mut batch, index, time);
    }
    batch
}

pub(crate) fn empty_batch(number: u64, of: &str) -> ScoredBatch {
    ScoredBatch {
        tenant: tenant(),
        batch_id: batch_id(number),
        checksum: number ^ 0xc0ffee,
        received_at: NOW + Duration::from_nanos(number),
        producer: None,
        resource: Resource {
            instance: format!("{of}-1"),
            environment: "production".into(),
            ..Resource::of(service(of))
        },
        records: Vec::new(),
        rejected: Vec::new(),
        templates: HashMap::new(),
    }
}

/// Adds a log; what it is like depends on the batch's checksum and the index.
pub(crate) fn push(batch: &mut ScoredBatch, index: u32, time: Timestamp) {
    let varied = batch.checksum.wrapping_add(u64::from(index));
    let levels = [Level::Info, Level::Debug, Level::Warn, Level::Error, Level::Info, Level::Fatal];
    let level = levels[varied as usize % levels.len()];
    let pattern = format!("{} did <*> of {level}", batch.resource.service);
    let template = template(&batch.tenant, &batch.resource.service, &pattern);
    let record = Record {
        index,
        time,
        level: (varied % 2 == 0).then_some(level),
        severity_number: level as u8 * 4,
        message: format!("{} did request-{varied} of {level}", batch.resource.service),
        latency_ms: (varied % 3 != 0).then_some(varied as f64 % 97.0 + 0.25),
        trace_id: (varied % 4 == 0).then_some([varied as u8; 16]),
        span_id: (varied % 4 == 0).then_some([varied as u8 ^ 1; 8]),
        logger: "app.requests".into(),
        attributes: vec![
            Attribute::new("user_id", Value::Int(varied as i64 % 5)),
            Attribute::new("path", Value::String(format!("/orders/{}", varied % 7))),
        ],
    };
    let is_anomaly = varied % 11 == 0;
    batch.records.push(ScoredRecord {
        record,
        level,
        template_id: template.template_id,
        anomaly_score: if is_anomaly { 0.9995 } else { 0.25 },
        is_anomaly,
        anomaly_reasons: if is_anomaly { vec!["rare".into()] } else { Vec::new() },
    });
    batch.templates.insert(template.template_id, Arc::new(template));
}

fn template(tenant: &Tenant, service: &Service, pattern: &str) -> Template {
    let text = format!("{tenant} {service} {pattern}");
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    Template {
        template_id: TemplateId(hash),
        tenant: tenant.clone(),
        service: service.clone(),
        pattern: pattern.into(),
        merged_into: None,
        is_merger: false,
    }
}

/// The batch as sent by a producer, which says that this is all it has ever emitted but what its
/// earlier sequences carried.
pub(crate) fn by(producer: u8, sequence: u64, emitted: u64, batch: ScoredBatch) -> ScoredBatch {
    let producer = Producer {
        producer_id: ProducerId([producer; 16]),
        sequence,
        account: Account { emitted, ..Account::default() },
        sdk: "test/1".into(),
    };
    ScoredBatch { producer: Some(producer), ..batch }
}

/// A record that the server did not let pass.
pub(crate) fn rejected(index: u32) -> RejectedRecord {
    RejectedRecord {
        record: Record {
            index,
            time: NOW,
            message: format!("too long {index}"),
            ..Record::default()
        },
        reason: "message_too_large".into(),
        detail: "the message has 70,000 bytes, the limit is 65,536".into(),
    }
}

/// What a reader is to see of batches, newest first.
pub(crate) fn newest_first<'a>(
    batches: impl IntoIterator<Item = &'a ScoredBatch>,
) -> Vec<StoredLog> {
    let mut logs: Vec<StoredLog> = batches.into_iter().flat_map(ScoredBatch::stored_logs).collect();
    logs.sort_by_key(|log| std::cmp::Reverse(log.id));
    logs
}

pub(crate) fn query(filter: &str, page_size: usize) -> SearchQuery {
    SearchQuery {
        filter: Filter::parse(filter, NOW).unwrap(),
        range: TimeRange::ALL,
        cursor: None,
        page_size,
        limits: SearchLimits::NONE,
    }
}

/// All matches, newest first, by pages of the size.
pub(crate) async fn search_all(
    storage: &(impl ReadLogs + ?Sized),
    tenant: &Tenant,
    filter: &str,
    page_size: usize,
) -> Vec<StoredLog> {
    let mut query = query(filter, page_size);
    let mut logs = Vec::new();
    loop {
        let page = storage.search(tenant, query.clone()).await.unwrap();
        assert!(page.logs.len() <= page_size);
        assert_eq!(page.next.is_some().then(|| page.logs.last().unwrap().id), page.next);
        logs.extend(page.logs);
        match page.next {
            Some(next) => query.cursor = Some(next),
            None => return logs,
        }
    }
}

/// Writes batches in one call, each of which is to be stored whole.
pub(crate) async fn store(storage: &dyn Storage, batches: &[ScoredBatch]) {
    let outcomes = storage.write(batches.into()).await.unwrap();
    let expected: Vec<WriteOutcome> = batches
        .iter()
        .map(|batch| WriteOutcome::stored(batch.records.len() as u32, batch.rejected.len() as u32))
        .collect();
    assert_eq!(outcomes, expected);
}

/// Runs upkeep until there is nothing left to do.
pub(crate) async fn maintain(storage: &dyn Storage, now: Timestamp) {
    for _ in 0..1_000 {
        if !storage.maintain(now).await.unwrap() {
            return;
        }
    }
    panic!("upkeep never ends");
}
