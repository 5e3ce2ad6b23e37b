//! What was noticed about more than one log, on its way to storage.
//!
//! Findings are no logs: while storage cannot take them a bounded number waits, and what is above
//! that is counted and lost.

use std::{sync::Arc, time::Duration};

use logweir_analysis::UnusualSession;
use logweir_core::identity::Tenant;
use logweir_storage::{Finding, FindingKind, KeepFindings};
use metrics::counter;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio_util::sync::CancellationToken;

use crate::maintenance;

/// Findings that wait for storage.
const WAITING_MAX: usize = 1_024;
/// Pause between two tries to store a finding.
const RETRY_PAUSE: Duration = Duration::from_secs(2);

/// Takes findings; without anybody who stores them it forgets them.
#[derive(Clone, Default)]
pub(crate) struct Findings(Option<Sender<(Tenant, Finding)>>);

impl Findings {
    /// A sender of findings, and the other end of its queue, which [`keep`] stores from.
    pub(crate) fn open() -> (Self, Receiver<(Tenant, Finding)>) {
        let (sender, receiver) = channel(WAITING_MAX);
        (Self(Some(sender)), receiver)
    }

    pub(crate) fn add(&self, tenant: Tenant, finding: Finding) {
        let Some(sender) = &self.0 else { return };
        counter!("logweir_processor_findings_total", "kind" => finding.kind.as_str()).increment(1);
        // Never waited for: this is called on the thread that scores, which would stand still with
        // the whole pipeline while storage is away.
        if sender.try_send((tenant, finding)).is_err() {
            counter!("logweir_processor_findings_lost_total").increment(1);
        }
    }
}

/// Stores findings as they come, each until it is stored or cannot be, while the process runs.
pub(crate) async fn keep(
    storage: Arc<dyn KeepFindings>,
    mut findings: Receiver<(Tenant, Finding)>,
    stop: CancellationToken,
) {
    let mut is_failing = false;
    while let Some(Some((tenant, finding))) = stop.run_until_cancelled(findings.recv()).await {
        loop {
            let insert = storage.insert_findings(&tenant, vec![finding.clone()]);
            let Some(stored) = stop.run_until_cancelled(insert).await else { return };
            maintenance::report("storing a finding", &stored, &mut is_failing);
            let Err(error) = stored else { break };
            if !error.is_retryable() {
                counter!("logweir_processor_findings_lost_total").increment(1);
                break;
            }
            if tokio::time::timeout(RETRY_PAUSE, stop.cancelled()).await.is_ok() {
                return;
            }
        }
    }
}

/// A session as a finding.
pub(crate) fn unusual(session: UnusualSession) -> (Tenant, Finding) {
    let subject = match session.trace_id {
        Some(trace_id) => format!("{:032x}", u128::from_be_bytes(trace_id)),
        None => session.instance,
    };
    let finding = Finding {
        kind: FindingKind::UnusualSession,
        service: Some(session.service),
        subject,
        from: session.from,
        to: session.to,
        logs: u64::from(session.logs),
        score: session.score,
        reasons: session.reasons,
    };
    (session.tenant, finding)
}
