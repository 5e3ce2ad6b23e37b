//! Tries a batch that may have ended its processor, and quarantines one that did.
//!
//! A processor that dies makes suspects of everything that it had fetched, and so may one that
//! loses its broker. Each of them is tried alone, with nothing else in hand, and storage is told
//! before: so the trials of which no end was noted are those that ended a processor, and nothing
//! that only waited behind the culprit is taken for one. Of [`TRIALS_MAX`] such trials the batch is
//! quarantined: nothing looks at its logs any more, each becomes a dead letter as it was sent.

use std::sync::Arc;

use logweir_core::{
    identity::{BatchId, Tenant},
    record::Batch,
};
use logweir_storage::{Administer, StorageError};
use metrics::counter;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

// Not fewer: each may also have been a kill from outside (out of memory, a deploy) that happened to
// hit a trial, and a quarantined batch is read by nobody until a person looks.
/// So many trials without an end, and the batch is quarantined.
const TRIALS_MAX: u32 = 7;

/// Keeps the count of trials.
pub(crate) struct Trials {
    pub(crate) administer: Arc<dyn Administer>,
    pub(crate) stop: CancellationToken,
}

impl Trials {
    /// What is to be processed for a suspect: the batch as it is, or quarantined. Waits while
    /// storage cannot be told; none if the process is to stop before.
    pub(crate) async fn begin(&self, batch: Batch) -> Option<Batch> {
        let mut is_told = false;
        loop {
            let error = match self.administer.begin_trial(&batch.tenant, batch.batch_id).await {
                Ok(ended) => return Some(judged(batch, ended)),
                Err(error) => error,
            };
            // Waited for as long as it takes: tried without a note, the batch could end one
            // processor after the other and never be found out.
            if !std::mem::replace(&mut is_told, true) {
                warn!(%error, "a batch that is to be tried alone waits for storage");
            }
            if timeout(error.retry_after(), self.stop.cancelled()).await.is_ok() {
                return None;
            }
        }
    }

    /// Notes that the trial of a batch is over and this process still lives, so that it does not
    /// count. Best effort.
    pub(crate) async fn end(&self, tenant: &Tenant, batch_id: BatchId) {
        let ended: Result<(), StorageError> = self.administer.end_trial(tenant, batch_id).await;
        if let Err(error) = ended {
            // One trial too many counts, should the batch come again.
            warn!(%error, %batch_id, "storage does not know that a batch was tried without harm");
        }
    }
}

fn judged(batch: Batch, ended: u32) -> Batch {
    let batch_id = batch.batch_id;
    if ended >= TRIALS_MAX {
        counter!("logweir_processor_quarantined_total").increment(1);
        error!(%batch_id, ended, "a batch ended processor after processor; it is quarantined");
        return batch.quarantined(&format!("it ended the {ended} processors that tried it alone"));
    }
    counter!("logweir_processor_suspects_total").increment(1);
    if ended > 0 {
        warn!(%batch_id, ended, "a batch may have ended its processor; it is processed alone");
    }
    batch
}
