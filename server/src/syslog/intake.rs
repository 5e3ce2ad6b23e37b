//! Passes messages on until they are durable. What passes is waited for, however long: nobody can be
//! told to come back. Only the end of the process bounds it, and what is given up then is counted.

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use logweir_core::{
    fairness::permits::TenantPermit, identity::ServiceScope, runtime::clock::Clock,
};
use logweir_parse::{Context, Tz};
use metrics::counter;
use parking_lot::Mutex;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::{framing::Message, translate};
use crate::{
    auth::{Access, Auth, Caller},
    ingest::{
        Ingest,
        split::{RequestId, Split},
    },
    listener::{
        decoded_size::OTLP_RECORD_BYTES,
        message_body::{Budget, TenantBudget},
    },
    receiver::{Batches, Translation, batches::ATTRIBUTE_BYTES, service::unnamed},
    status::Refusal,
};

/// How often it is told that messages are refused; all of them are counted.
const TELL_EVERY: Duration = Duration::from_secs(60);
/// Memory of a message and the log that it becomes, without their text, bytes: as of a log that comes by
/// OTLP, and its host.
const MESSAGE_BYTES: usize = OTLP_RECORD_BYTES + ATTRIBUTE_BYTES;

/// About what messages take that are so many bytes together.
pub(super) const fn weight(messages: usize, bytes: usize) -> usize {
    bytes + messages * MESSAGE_BYTES
}

/// Passes messages on.
pub(super) struct Intake {
    pub(super) auth: Arc<Auth>,
    pub(super) ingest: Arc<Ingest>,
    pub(super) budget: Budget,
    pub(super) header: String,
    pub(super) zone: Tz,
    pub(super) clock: Clock,
    /// Nothing more is to be read.
    pub(super) stop: CancellationToken,
    /// The time is over that what was read has to become durable after the stop.
    pub(super) give_up: CancellationToken,
    pub(super) given_up: AtomicU64,
    /// When a refusal was told last.
    pub(super) told: Mutex<Option<Instant>>,
}

impl Intake {
    /// Whose the messages are, as long as the token holds.
    pub(super) fn caller(&self) -> Result<Arc<Caller>, Refusal> {
        let admitted = self.auth.admit(Some(self.header.as_bytes()), Access::Ingest);
        admitted.inspect_err(|refusal| {
            if !self.may_tell() {
                return;
            }
            warn!(%refusal, "no syslog is taken: the token of syslog.token_file lets nobody send");
        })
    }

    /// Room for so many bytes, once the tenant may have it.
    pub(super) async fn room(&self, bytes: usize) -> Result<TenantPermit, Refusal> {
        let tenant = self.caller()?.tenant.clone();
        // More than all there is would never come.
        let bytes = bytes.min(self.ingest.limits.in_flight_bytes_max);
        let budget = TenantBudget { budget: self.budget.clone(), tenant };
        let room = self.give_up.run_until_cancelled(budget.take(bytes)).await;
        room.ok_or_else(Refusal::stopping)
    }

    /// Resolves once the messages are durable, or were counted as refused.
    pub(super) async fn take(&self, messages: &[(Message, IpAddr)]) {
        let taking = self.give_up.run_until_cancelled(self.try_take(messages));
        if let Err(refusal) = taking.await.unwrap_or_else(|| Err(Refusal::stopping())) {
            self.refuse(messages.len(), &refusal);
        }
    }

    /// Counts messages that were read and will never be logs.
    pub(super) fn refuse(&self, messages: usize, refusal: &Refusal) {
        let (reason, messages) = (refusal.reason(), messages as u64);
        counter!("logweir_syslog_messages_refused_total", "reason" => reason).increment(messages);
        if self.give_up.is_cancelled() {
            // Told once for all of them, at the end.
            self.given_up.fetch_add(messages, Ordering::Relaxed);
        } else if self.may_tell() {
            warn!(%refusal, messages, "syslog messages were refused for ever");
        }
    }

    /// Whether a refusal may be told now: any sender could else fill the server's own log.
    pub(super) fn may_tell(&self) -> bool {
        let mut told = self.told.lock();
        let may = told.is_none_or(|told| told.elapsed() >= TELL_EVERY);
        if may {
            *told = Some(Instant::now());
        }
        may
    }

    async fn try_take(&self, messages: &[(Message, IpAddr)]) -> Result<(), Refusal> {
        let caller = self.caller()?;
        let context = Context { zone: self.zone, ..Context::at((self.clock)()) };
        let unnamed = unnamed(caller.scope == ServiceScope::Any);
        counter!("logweir_syslog_messages_total").increment(messages.len() as u64);
        // The same with each try: what became durable of it is not added again.
        let id = RequestId::unnamed(rand::random());
        loop {
            // Made anew for each try, and the same each time, so that while one is waited for there are
            // the messages alone.
            let mut batches = Batches::default();
            for (place, (message, peer)) in (0..).zip(messages) {
                translate::add(&mut batches, place, message, *peer, unnamed, &context);
            }
            let Translation { groups, rejected, .. } = batches.finish()?;
            let split = Split { groups, id, rejected, counts_repeats: false };
            let refusal = match self.ingest.ingest_split(&caller, split).await {
                Ok(_) => return Ok(()),
                Err(refusal) => refusal,
            };
            let Some(retry_after) = refusal.retry_after() else { return Err(refusal) };
            sleep(retry_after).await;
        }
    }
}
