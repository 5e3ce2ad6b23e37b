//! Requests that carry the logs of several services, and more than one batch may hold: each part is a
//! batch of its own, and the request is answered once all of them are durable.
//!
//! How a request is split depends on its content alone, and what identifies the request gives each
//! part its id: a request that is sent again is the same batches, of which the ledger knows those that
//! it has. What is refused for ever (a resource that breaks a rule, a log) is counted and named, and
//! takes nothing else along; what passes (a full queue) is answered for the whole request.

use std::{
    collections::{BTreeMap, HashMap},
    ops::Range,
    time::{Duration, Instant},
};

use futures::{FutureExt, StreamExt, stream::FuturesUnordered};
use logweir_core::{
    identity::BatchId,
    limits::Limits,
    record::{Batch, RejectedRecord, Resource},
    runtime::fault,
    wire,
};
use logweir_proto::v1;
use metrics::counter;
use tokio::{task::yield_now, time::timeout};

use super::{
    Envelope, Ingest,
    validate::{check_resource, resolve_service},
    validated,
};
use crate::{auth::Caller, status::Refusal};

/// Parts that are published side by side, so that small ones share a commit.
const SIDE_BY_SIDE_MAX: usize = 64;
/// Memory of the parts that are published side by side, bytes: a quarter of what the queue in the
/// process takes by default.
const SIDE_BY_SIDE_BYTES_MAX: usize = 16 << 20;

/// Attributes that a translation adds to a log, for fields that logs here do not have.
const ATTRIBUTES_ADDED_MAX: usize = 8;
/// How long the ledger is asked for repeats: who reads much waits for his own reads.
const LEDGER_TIMEOUT: Duration = Duration::from_secs(2);
/// Of the reason that is told.
const REASON_CHARACTERS_MAX: usize = 500;
/// Rejected logs of which it is told why.
const TOLD_MAX: usize = 100;

/// The logs of one resource, in one part at least.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Group {
    pub(crate) resource: v1::Resource,
    pub(crate) parts: Vec<Part>,
}

/// Logs that become one batch.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Part {
    pub(crate) records: Vec<v1::LogRecord>,
    /// Where in the request each of them stands.
    pub(crate) places: Vec<u32>,
    /// Of the logs as they are encoded.
    pub(crate) bytes: usize,
}

/// Logs that will never be taken.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Rejected {
    /// Where in the request they stand, in no order.
    pub(crate) places: Vec<u32>,
    /// Why, of some of them.
    pub(crate) told: Vec<RejectedLog>,
    /// How many, by reason.
    by_reason: BTreeMap<String, u64>,
}

/// Why a log is rejected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RejectedLog {
    pub(crate) place: u32,
    /// The stable name of the reason.
    pub(crate) reason: String,
    /// For a person.
    pub(crate) detail: String,
}

impl Rejected {
    /// Adds the logs in these places, all for one reason.
    pub(crate) fn add(&mut self, places: Range<u32>, reason: &str, why: impl FnOnce() -> String) {
        if places.is_empty() {
            return;
        }
        if self.told.len() < TOLD_MAX {
            // An answer is a line, and a resource may break a hundred rules.
            let detail = why().chars().take(REASON_CHARACTERS_MAX).collect();
            self.told.push(RejectedLog { place: places.start, reason: reason.to_owned(), detail });
        }
        let logs = places.len() as u64;
        match self.by_reason.get_mut(reason) {
            Some(count) => *count += logs,
            None => drop(self.by_reason.insert(reason.to_owned(), logs)),
        }
        self.places.extend(places);
    }

    /// How many there are.
    pub(crate) fn logs(&self) -> u64 {
        self.places.len() as u64
    }

    fn add_all(&mut self, places: &[u32], refusal: &Refusal) {
        for &place in places {
            self.add(place..place + 1, refusal.reason(), || refusal.to_string());
        }
    }
}

/// What identifies a request, and so gives each of its parts an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RequestId {
    id: [u8; 16],
    /// What the content is known by, where the id is a name that its sender gave it.
    content: Option<u64>,
}

impl RequestId {
    /// Of a request that its sender has not named: a hash of its content, or something random.
    pub(crate) const fn unnamed(id: [u8; 16]) -> Self {
        Self { id, content: None }
    }

    /// Of one that was named; `content` is a hash of it.
    pub(crate) const fn named(key: [u8; 16], content: [u8; 16]) -> Self {
        // Its first half.
        Self { id: key, content: Some((u128::from_be_bytes(content) >> 64) as u64) }
    }
}

/// A request as its receiver has split it.
pub(crate) struct Split {
    pub(crate) groups: Vec<Group>,
    pub(crate) id: RequestId,
    /// What was rejected before.
    pub(crate) rejected: Rejected,
    /// Whether it is to be said how many logs came again.
    pub(crate) counts_repeats: bool,
}

/// What became of a request.
#[derive(Debug, PartialEq, Eq, Default)]
pub(crate) struct Outcome {
    /// Logs that are durable, those that came again included.
    pub(crate) accepted: u64,
    /// Of the accepted ones those that the ledger had already, where that was asked for.
    pub(crate) repeated: u64,
    pub(crate) rejected: Rejected,
}

/// A part on its way.
struct Ready {
    batch_id: BatchId,
    resource: usize,
    part: Part,
    /// Whether the ledger has it.
    is_known: bool,
}

/// What of a request may be published.
#[derive(Default)]
struct Admitted {
    resources: Vec<Resource>,
    ready: Vec<Ready>,
    rejected: Rejected,
    /// The first that the token does not allow.
    forbidden: Option<Refusal>,
    /// Whether anything was refused for another reason.
    is_otherwise_bad: bool,
}

impl Ingest {
    /// Takes the parts of a request.
    pub(crate) async fn ingest_split(
        &self,
        caller: &Caller,
        split: Split,
    ) -> Result<Outcome, Refusal> {
        let began = Instant::now();
        let outcome = self.limit_validate_publish_split(caller, split).await;
        self.note(began, outcome.as_ref().err());
        outcome
    }

    async fn limit_validate_publish_split(
        &self,
        caller: &Caller,
        split: Split,
    ) -> Result<Outcome, Refusal> {
        let (id, counts_repeats) = (split.id, split.counts_repeats);
        let Admitted { resources, mut ready, rejected, .. } = self.admit_groups(caller, split)?;
        if counts_repeats {
            self.find_repeats(caller, id, &mut ready).await?;
        }
        // For all parts at once: were each to pay when its turn comes, those before one that is refused
        // would pay again with every retry, and the request might never get through.
        self.check_rates(caller, &resources, &ready)?;
        let mut outcome = Outcome { rejected, ..Outcome::default() };
        self.publish_parts(caller, &resources, ready, id, &mut outcome).await?;
        fault::step("ingest_before_answer");
        Ok(outcome)
    }

    /// Checks each resource by itself.
    fn admit_groups(&self, caller: &Caller, split: Split) -> Result<Admitted, Refusal> {
        let Split { groups, id, rejected, .. } = split;
        let mut admitted = Admitted { rejected, ..Admitted::default() };
        counter!("logweir_logs_received_total").increment(admitted.rejected.logs());
        for (reason, logs) in &admitted.rejected.by_reason {
            counter!("logweir_logs_rejected_total", "reason" => reason.clone()).increment(*logs);
        }
        admitted.is_otherwise_bad = admitted.rejected.logs() > 0;
        let mut number = 0;
        for Group { resource, parts } in groups {
            let logs = parts.iter().map(|part| part.records.len() as u64).sum();
            counter!("logweir_logs_received_total").increment(logs);
            let bytes: usize = parts.iter().map(|part| part.bytes).sum();
            counter!("logweir_bytes_received_total").increment(bytes as u64);
            let first = number;
            number += parts.len() as u32;
            match self.resource(caller, resource) {
                Err(refusal) => admitted.reject(&parts, refusal),
                Ok(resource) => {
                    let position = admitted.resources.len();
                    admitted.resources.push(resource);
                    let numbered = (first..).zip(parts);
                    admitted.ready.extend(numbered.map(|(number, part)| Ready {
                        batch_id: caller.part_id(id.id, number),
                        resource: position,
                        part,
                        is_known: false,
                    }));
                }
            }
        }
        admitted.unless_forbidden()
    }

    /// Finds the parts that the ledger has already. While it cannot be asked, nothing is known to be a
    /// repeat: what is one adds nothing in any case.
    async fn find_repeats(
        &self,
        caller: &Caller,
        id: RequestId,
        ready: &mut [Ready],
    ) -> Result<(), Refusal> {
        let ids: Vec<BatchId> = ready.iter().map(|ready| ready.batch_id).collect();
        let asked = self.storage.ledger_checksums(&caller.tenant, &ids);
        let Ok(Ok(known)) = timeout(LEDGER_TIMEOUT, asked).await else {
            counter!("logweir_ledger_lookups_failed_total").increment(1);
            return Ok(());
        };
        for Ready { batch_id, is_known, .. } in ready {
            let Some(checksum) = known.get(batch_id) else { continue };
            *is_known = true;
            if id.content.is_some_and(|content| content != *checksum) {
                let message = "the idempotency key was used for a request with other content: \
                               give each request a key of its own";
                let reason = "IDEMPOTENCY_KEY_REUSED";
                return Err(Refusal::Reused { reason, message: message.into() });
            }
        }
        Ok(())
    }

    fn resource(&self, caller: &Caller, sent: v1::Resource) -> Result<Resource, Refusal> {
        check_resource(&sent, &self.limits)?;
        let service = resolve_service(&sent.service, &caller.scope)?;
        Ok(wire::resource_from_wire(sent, service))
    }

    fn check_rates(
        &self,
        caller: &Caller,
        resources: &[Resource],
        ready: &[Ready],
    ) -> Result<(), Refusal> {
        let mut costs = HashMap::new();
        for Ready { resource, part, .. } in ready {
            let resource = &resources[*resource];
            let cost = costs.entry(&resource.service).or_insert([0, 0]);
            cost[0] += part.records.len();
            cost[1] += part.bytes + resource.heap_bytes();
        }
        let costs: Vec<_> = costs.into_iter().collect();
        self.rates.check(&caller.tenant, &costs, Instant::now())
    }

    /// Publishes side by side as many parts as there is room for, each at least once none of the others
    /// is under way: a request never waits for itself.
    async fn publish_parts(
        &self,
        caller: &Caller,
        resources: &[Resource],
        ready: Vec<Ready>,
        id: RequestId,
        outcome: &mut Outcome,
    ) -> Result<(), Refusal> {
        let tenant = &caller.tenant;
        let limits = with_added_attributes(&self.limits);
        let (mut publishing, mut bytes) = (FuturesUnordered::new(), 0);
        let mut published = Ok(());
        for Ready { batch_id, resource, part, is_known } in ready {
            let resource = resources[resource].clone();
            let envelope = Envelope { batch_id, received_at: (self.clock)(), resource };
            let mut batch = validated(tenant, envelope, part.records, &limits);
            // Under a name only the whole request can be repeated.
            batch.checksum = id.content.unwrap_or(batch.checksum);
            outcome.note(&batch, &part.places, is_known);
            let size = batch.heap_bytes();
            let is_full = |parts: usize, bytes: usize| {
                parts > 0
                    && (parts >= SIDE_BY_SIDE_MAX
                        || bytes + size > SIDE_BY_SIDE_BYTES_MAX
                        || self.publisher.check_room(tenant).is_err())
            };
            while is_full(publishing.len(), bytes) {
                note(publishing.next().await, &mut bytes, &mut published);
            }
            if published.is_err() {
                break;
            }
            publishing.push(async move { (size, self.publish(batch).await) });
            bytes += size;
            // Polled now, so that it takes its room before the next one asks for some.
            note(publishing.next().now_or_never().flatten(), &mut bytes, &mut published);
            fault::step("ingest_between_parts");
            // Each takes a while to be checked, and others wait for the thread.
            yield_now().await;
        }
        // Those under way to their end, and none dropped half-way for another's refusal.
        while let Some(result) = publishing.next().await {
            note(Some(result), &mut bytes, &mut published);
        }
        published
    }
}

/// A log's own attributes may be as many as ever; its scope's come beside them, and what a translation adds. An
/// SDK that cut a log's to the limit, which is its default too, says so in one more.
fn with_added_attributes(limits: &Limits) -> Limits {
    let attributes_max = 2 * limits.attributes_max + ATTRIBUTES_ADDED_MAX;
    Limits { attributes_max, ..limits.clone() }
}

impl Outcome {
    fn note(&mut self, batch: &Batch, places: &[u32], is_known: bool) {
        for RejectedRecord { record, reason, detail } in &batch.rejected {
            let place = places[record.index as usize];
            self.rejected.add(place..place + 1, reason, || detail.clone());
        }
        let accepted = batch.records.len() as u64;
        self.accepted += accepted;
        self.repeated += if is_known { accepted } else { 0 };
    }
}

/// Notes what became of a part, and that its bytes are no longer under way.
fn note(
    published: Option<(usize, Result<(), Refusal>)>,
    bytes: &mut usize,
    outcome: &mut Result<(), Refusal>,
) {
    let Some((size, result)) = published else { return };
    *bytes -= size;
    if let Err(refusal) = result {
        *outcome = Err(refusal);
    }
}

impl Admitted {
    fn reject(&mut self, parts: &[Part], refusal: Refusal) {
        for part in parts {
            let (reason, logs) = (refusal.reason(), part.records.len() as u64);
            counter!("logweir_logs_rejected_total", "reason" => reason).increment(logs);
            self.rejected.add_all(&part.places, &refusal);
        }
        match refusal {
            Refusal::PermissionDenied { .. } => {
                self.forbidden.get_or_insert(refusal);
            }
            _ => self.is_otherwise_bad = true,
        }
    }

    /// A request of which the token allows nothing is refused; one of which it allows a part is taken
    /// in part.
    fn unless_forbidden(self) -> Result<Self, Refusal> {
        match self.forbidden {
            Some(refusal) if self.ready.is_empty() && !self.is_otherwise_bad => Err(refusal),
            _ => Ok(self),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    use logweir_core::{
        fairness::resource::{HeldShare, SharedResource},
        identity::{Role, ServiceScope, Tenant},
        runtime::clock::Clock,
        timestamp::Timestamp,
    };
    use logweir_queue::{PublishError, Publisher};
    use logweir_storage::{SqliteConfig, SqliteStorage};
    use parking_lot::Mutex;
    use tempfile::TempDir;

    use super::*;
    use crate::{
        auth::{Access, Auth, issue, token_keys::TokenKeys},
        config::RateConfig,
        ingest::rate_limit::RateLimits,
    };

    const NOW: Timestamp = Timestamp::from_unix_seconds(1_760_000_000);

    /// Takes batches, but for the one that comes at this turn.
    struct Recorder {
        taken: Mutex<BTreeMap<BatchId, usize>>,
        turn: AtomicUsize,
        refused: usize,
    }

    #[tonic::async_trait]
    impl Publisher for Recorder {
        async fn publish(&self, batch: Batch) -> Result<(), PublishError> {
            tokio::task::yield_now().await;
            if self.turn.fetch_add(1, Ordering::Relaxed) == self.refused {
                let (what, retry_after) = ("the queue".into(), Duration::from_millis(1));
                return Err(PublishError::Full { what, retry_after });
            }
            *self.taken.lock().entry(batch.batch_id).or_default() += batch.records.len();
            Ok(())
        }

        fn check_ready(&self) -> Result<(), PublishError> {
            Ok(())
        }

        fn check_room(&self, _tenant: &Tenant) -> Result<(), PublishError> {
            Ok(())
        }

        fn held_shares(&self, _tenant: &Tenant) -> [HeldShare; 2] {
            let resource = SharedResource::QueueBytes;
            [HeldShare { resource, held: 0, held_max: 0 }; 2]
        }

        fn keeps_batches(&self) -> bool {
            true
        }

        fn close(&self) {}
    }

    fn ingest(refused: usize) -> (Ingest, Arc<Recorder>) {
        let (taken, turn) = Default::default();
        let recorder = Arc::new(Recorder { taken, turn, refused });
        let directory = TempDir::new().unwrap();
        let clock: Clock = Arc::new(|| NOW);
        let config = SqliteConfig::new(directory.path());
        let storage = Arc::new(SqliteStorage::open(&config, Arc::clone(&clock)).unwrap());
        let ingest = Ingest {
            publisher: Arc::clone(&recorder) as _,
            limits: Limits::default(),
            rates: RateLimits::new(&RateConfig::default()),
            clock,
            storage,
        };
        (ingest, recorder)
    }

    fn caller() -> Arc<Caller> {
        let (keys, tenant) = (TokenKeys::generate(), Tenant::default());
        let hour = Duration::from_secs(3_600);
        let (_, token) = issue(&keys, &tenant, &ServiceScope::Any, Role::Ingest, hour, NOW);
        let auth = Auth::new(keys, Arc::new(|| NOW));
        auth.admit(Some(format!("Bearer {token}").as_bytes()), Access::Ingest).unwrap()
    }

    /// So many parts of one log each, two of each service.
    fn groups(parts: usize) -> Vec<Group> {
        let part = || Part { records: vec![v1::LogRecord::default()], places: vec![0], bytes: 10 };
        let group = |number: usize| Group {
            resource: v1::Resource { service: format!("s{number}"), ..Default::default() },
            parts: vec![part(), part()],
        };
        (0..parts / 2).map(group).collect()
    }

    async fn send(
        ingest: &Ingest,
        caller: &Caller,
        groups: Vec<Group>,
    ) -> Result<Outcome, Refusal> {
        let (id, rejected) = (RequestId::unnamed([7; 16]), Rejected::default());
        ingest.ingest_split(caller, Split { groups, id, rejected, counts_repeats: false }).await
    }

    #[tokio::test]
    async fn a_request_of_which_a_part_is_refused_is_refused_and_a_retry_adds_what_is_missing() {
        let caller = caller();
        for refused in [0, 1, 99, 199] {
            let (ingest, recorder) = ingest(refused);
            let refusal = send(&ingest, &caller, groups(200)).await.unwrap_err();
            assert!(refusal.retry_after().is_some(), "{refusal}");
            let before = recorder.taken.lock().clone();
            assert!(before.len() < 200);
            assert_eq!(send(&ingest, &caller, groups(200)).await.unwrap().accepted, 200);
            let after = recorder.taken.lock().clone();
            assert_eq!(after.len(), 200, "the same parts have the same ids");
            assert!(before.keys().all(|id| after.contains_key(id)));
        }
    }

    #[tokio::test]
    async fn a_bad_resource_takes_no_other_along_and_changes_no_id() {
        let (caller, (whole, all), (part, some)) =
            (caller(), ingest(usize::MAX), ingest(usize::MAX));
        send(&whole, &caller, groups(6)).await.unwrap();
        let mut groups = groups(6);
        groups[0].resource.service = "no name".into();
        groups[1].resource.host = "x".repeat(257);
        let Outcome { accepted, rejected, .. } = send(&part, &caller, groups).await.unwrap();
        assert_eq!((accepted, rejected.logs()), (2, 4));
        let first = &rejected.told[0].detail;
        assert!(first.contains("batch.resource.service"), "{rejected:?}");
        let (all, some) = (all.taken.lock().clone(), some.taken.lock().clone());
        assert_eq!(some.len(), 2);
        assert!(some.keys().all(|id| all.contains_key(id)));
    }
}
