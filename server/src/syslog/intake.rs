//! Passes messages on until they are durable. What passes is waited for, however long: nobody can be
//! told to come back.

use std::{net::IpAddr, sync::Arc};

use logweir_core::{
    fairness::permits::TenantPermit, identity::ServiceScope, runtime::clock::Clock,
};
use logweir_parse::{Context, Tz};
use metrics::counter;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::{framing::Message, translate};
use crate::{
    auth::{Access, Auth, Caller},
    ingest::{
        Ingest,
        split::{RequestId, Split},
    },
    listener::message_body::{Budget, TenantBudget},
    receiver::{Batches, service::unnamed},
    status::Refusal,
};

/// Passes messages on.
pub(super) struct Intake {
    pub(super) auth: Arc<Auth>,
    pub(super) ingest: Arc<Ingest>,
    pub(super) budget: Budget,
    pub(super) header: String,
    pub(super) zone: Tz,
    pub(super) clock: Clock,
    pub(super) stop: CancellationToken,
}

/// Why no more is taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ended;

impl Intake {
    /// Whose the messages are, as long as the token holds.
    pub(super) fn caller(&self) -> Result<Arc<Caller>, Ended> {
        let admitted = self.auth.admit(Some(self.header.as_bytes()), Access::Ingest);
        admitted.map_err(|refusal| {
            warn!(%refusal, "no syslog is taken: the token of syslog.token_file lets nobody send");
            Ended
        })
    }

    /// Room for so many bytes of messages, once the tenant may have it.
    pub(super) async fn room(&self, bytes: usize) -> Result<TenantPermit, Ended> {
        let tenant = self.caller()?.tenant.clone();
        let bytes = bytes.min(self.ingest.limits.in_flight_bytes_max);
        let budget = TenantBudget { budget: self.budget.clone(), tenant };
        self.stop.run_until_cancelled(budget.take(bytes)).await.ok_or(Ended)
    }

    /// Resolves once the messages are durable, or will never be.
    pub(super) async fn take(&self, messages: &[(Message, IpAddr)]) -> Result<(), Ended> {
        let caller = self.caller()?;
        let context = Context { zone: self.zone, ..Context::at((self.clock)()) };
        let unnamed = unnamed(caller.scope == ServiceScope::Any);
        let mut batches = Batches::default();
        for (place, (message, peer)) in (0..).zip(messages) {
            translate::add(&mut batches, place, message, *peer, unnamed, &context);
        }
        counter!("logweir_syslog_messages_total").increment(messages.len() as u64);
        // The same with each try: what became durable of it is not added again.
        let id = RequestId::unnamed(rand::random());
        let translation = match batches.finish() {
            Ok(translation) => translation,
            Err(refusal) => {
                note_refused(messages.len(), &refusal);
                return Ok(());
            }
        };
        loop {
            let (groups, rejected) = (translation.groups.clone(), translation.rejected.clone());
            let split = Split { groups, id, rejected, counts_repeats: false };
            let refusal = match self.ingest.ingest_split(&caller, split).await {
                Ok(_) => return Ok(()),
                Err(refusal) => refusal,
            };
            let Some(retry_after) = refusal.retry_after() else {
                note_refused(messages.len(), &refusal);
                return Ok(());
            };
            let waited = self.stop.run_until_cancelled(tokio::time::sleep(retry_after)).await;
            waited.ok_or(Ended)?;
        }
    }
}

fn note_refused(messages: usize, refusal: &Refusal) {
    let reason = refusal.reason();
    counter!("logweir_syslog_messages_refused_total", "reason" => reason)
        .increment(messages as u64);
    warn!(%refusal, messages, "syslog messages were refused for ever");
}
