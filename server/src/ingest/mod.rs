//! The one way in: limit → validate → publish → acknowledge. Every request that brings logs ends
//! here; who calls was verified by the authentication layer.
//!
//! A batch is checked by its own content and the token's scope alone (but for its age and the
//! rate), so that a retry is checked the same. An answer is given only once the queue holds the
//! batch durably.

pub(crate) mod grpc;
pub(crate) mod rate_limit;
pub(crate) mod split;
pub(crate) mod validate;

use std::{sync::Arc, time::Instant};

use logweir_core::{
    identity::{BatchId, LogId, Tenant},
    limits::Limits,
    record::{Batch, Record, RejectedRecord, Resource, content_checksum},
    runtime::{clock::Clock, fault},
    timestamp::Timestamp,
    wire,
};
use logweir_proto::v1;
use logweir_queue::{PublishError, Publisher};
use logweir_storage::{DeadLetter, Storage};
use metrics::{counter, histogram};

use self::{
    rate_limit::RateLimits,
    validate::{check_copies, check_envelope, check_record, correct_time},
};
use crate::{
    auth::Caller,
    status::{self, Refusal},
};

/// Takes batches to the queue.
pub(crate) struct Ingest {
    pub(crate) publisher: Arc<dyn Publisher>,
    pub(crate) limits: Limits,
    pub(crate) rates: RateLimits,
    pub(crate) clock: Clock,
    /// Has the ledger, by which repeats are told.
    pub(crate) storage: Arc<dyn Storage>,
}

impl Ingest {
    /// Waits until an ordinary batch of the tenant would have room, or be refused for another
    /// reason. May be cancelled.
    pub(crate) async fn room(&self, tenant: &Tenant) {
        while let Err(refused @ (PublishError::Full { .. } | PublishError::OverShare(_))) =
            self.publisher.check_room(tenant)
        {
            tokio::time::sleep(refused.retry_after()).await;
        }
    }

    /// Takes one batch; `bytes` is its encoded length.
    pub(crate) async fn ingest(
        &self,
        caller: &Caller,
        batch: Option<v1::Batch>,
        bytes: usize,
    ) -> Result<v1::IngestResponse, Refusal> {
        let began = Instant::now();
        let outcome = self.limit_validate_publish(caller, batch, bytes).await;
        self.note(began, outcome.as_ref().err());
        outcome
    }

    fn note(&self, began: Instant, refusal: Option<&Refusal>) {
        match refusal {
            None => histogram!("logweir_ingest_seconds").record(began.elapsed()),
            Some(refusal) => {
                let (code, reason) = (status::name(refusal.code()), refusal.reason());
                counter!("logweir_batches_refused_total", "code" => code, "reason" => reason)
                    .increment(1);
            }
        }
    }

    async fn limit_validate_publish(
        &self,
        caller: &Caller,
        batch: Option<v1::Batch>,
        bytes: usize,
    ) -> Result<v1::IngestResponse, Refusal> {
        let sent = batch.ok_or_else(|| Refusal::invalid("batch", "is missing"))?;
        // Before any rule is asked, so that received minus accepted minus rejected shows what was
        // refused whole.
        counter!("logweir_logs_received_total").increment(sent.records.len() as u64);
        counter!("logweir_bytes_received_total").increment(bytes as u64);
        let now = (self.clock)();
        let (batch_id, service) = check_envelope(&sent, &caller.scope, &self.limits, now)?;
        let resource = wire::resource_from_wire(sent.resource.unwrap_or_default(), service);
        check_copies(&resource, sent.records.len(), &self.limits)?;
        // After the rules: a batch that is refused for ever must not use up the quota of those that
        // its service could send. And before the logs are looked at one by one, which costs.
        let cost = [(&resource.service, [sent.records.len(), bytes])];
        self.rates.check(&caller.tenant, &cost, Instant::now())?;
        let producer = sent.producer.map(wire::producer_from_wire).transpose();
        let producer =
            producer.map_err(|error| Refusal::invalid("batch.producer", error.to_string()))?;
        let envelope = Envelope { batch_id, received_at: now, resource };
        let validated = validated(&caller.tenant, envelope, sent.records, &self.limits);
        let batch = Batch { producer, ..validated };
        // Published even if every log was rejected: the rejected ones travel inside the batch, and
        // its place in the ledger keeps a retry from making dead letters of them again.
        let answer = answer(&batch);
        self.publish(batch).await?;
        fault::step("ingest_before_answer");
        Ok(answer)
    }

    /// Sends a dead letter in again, under an id of its own that is always the same. Returns the id
    /// that its log has once it is stored; none if it breaks a rule and stays where it is.
    pub(crate) async fn replay(
        &self,
        tenant: &Tenant,
        letter: DeadLetter,
    ) -> Result<Option<LogId>, Refusal> {
        let envelope = Envelope {
            batch_id: BatchId::of_replay(tenant, letter.dead_letter_id),
            received_at: (self.clock)(),
            resource: letter.resource,
        };
        let records = vec![wire::record_to_wire(letter.record)];
        let batch = validated(tenant, envelope, records, &self.limits);
        // Rejected again: not published, for that would write a second dead letter of the same log.
        let [record] = &batch.records[..] else { return Ok(None) };
        let (time, index) = (record.time, record.index);
        let log_id = LogId { time, batch_id: batch.batch_id, index };
        self.publish(batch).await?;
        Ok(Some(log_id))
    }

    async fn publish(&self, batch: Batch) -> Result<(), Refusal> {
        fault::step("ingest_before_publish");
        // Taken down before and counted after: what the queue refused comes again, and would be
        // counted twice.
        let accepted = batch.records.len() as u64;
        let reasons: Vec<String> = batch.rejected.iter().map(|r| r.reason.clone()).collect();
        self.publisher.publish(batch).await?;
        counter!("logweir_logs_accepted_total").increment(accepted);
        for reason in reasons {
            counter!("logweir_logs_rejected_total", "reason" => reason).increment(1);
        }
        Ok(())
    }
}

struct Envelope {
    batch_id: BatchId,
    received_at: Timestamp,
    resource: Resource,
}

/// Sorts the logs into good and rejected. The checksum is over the logs as sent, before a time is
/// corrected: the time of receipt differs on a retry, whose checksum must not.
fn validated(
    tenant: &Tenant,
    envelope: Envelope,
    sent: Vec<v1::LogRecord>,
    limits: &Limits,
) -> Batch {
    let mut records = Vec::with_capacity(sent.len());
    let mut violations = Vec::new();
    // Times beyond what a record can hold (the wire has 64 bits without a sign), by index. Kept
    // aside, so that the attribute with the original time says what was really sent.
    let mut times_beyond = Vec::new();
    for (index, mut log) in (0_u32..).zip(sent) {
        if log.time_unix_nano > i64::MAX as u64 {
            times_beyond.push((index, log.time_unix_nano));
            log.time_unix_nano = i64::MAX as u64;
        }
        let (record, violation) = wire::record_from_wire(index, log);
        if let Some(violation) = violation.or_else(|| check_record(&record, limits)) {
            violations.push((index, violation));
        }
        records.push(record);
    }
    let checksum = content_checksum(&envelope.resource, &records);
    let rejected = take_rejected(&mut records, violations);
    for record in &mut records {
        let beyond = times_beyond.binary_search_by_key(&record.index, |(index, _)| *index);
        let in_range = u64::try_from(record.time.as_unix_nanos()).unwrap_or(0);
        let sent = beyond.map_or(in_range, |position| times_beyond[position].1);
        correct_time(record, sent, envelope.received_at);
    }
    Batch {
        tenant: tenant.clone(),
        batch_id: envelope.batch_id,
        checksum,
        received_at: envelope.received_at,
        producer: None,
        resource: envelope.resource,
        records,
        rejected,
    }
}

fn take_rejected(
    records: &mut Vec<Record>,
    violations: Vec<(u32, wire::FieldViolation)>,
) -> Vec<RejectedRecord> {
    // Nearly every batch: nothing is moved.
    if violations.is_empty() {
        return Vec::new();
    }
    let mut violations = violations.into_iter().peekable();
    let mut rejected = Vec::new();
    let mut good = Vec::with_capacity(records.len());
    for record in records.drain(..) {
        match violations.next_if(|(index, _)| *index == record.index) {
            None => good.push(record),
            Some((_, wire::FieldViolation { reason, detail })) => {
                rejected.push(RejectedRecord { record, reason: reason.to_owned(), detail });
            }
        }
    }
    *records = good;
    rejected
}

fn answer(batch: &Batch) -> v1::IngestResponse {
    let rejected = batch.rejected.iter().map(|rejected| v1::RejectedRecord {
        index: rejected.record.index,
        reason: rejected.reason.clone(),
        message: rejected.detail.clone(),
    });
    v1::IngestResponse { accepted: batch.records.len() as u32, rejected: rejected.collect() }
}
