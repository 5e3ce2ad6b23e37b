//! Sends dead letters in again, and says what became of them.
//!
//! That the queue has taken a log does not mean that it gets into storage: what made it a dead
//! letter may do so again, and then it is one anew, under the batch id of its replay. So after each
//! page the logs are looked for among the stored ones and the new dead letters. Where other
//! processes store them this takes a moment; what is not settled in time is said to wait.

use std::{
    collections::HashSet,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::{StreamExt, TryStreamExt, stream};
use logweir_core::identity::{BatchId, LogId, Tenant};
use logweir_proto::v1;
use logweir_storage::{DeadLetter, Storage, StorageError};

use crate::{ingest::Ingest, status::Refusal};

/// Dead letters read at a time: each may be as large as a request.
pub(crate) const LETTERS_PAGE: usize = 64;
/// Replays that wait for their commit at a time.
const REPLAY_WINDOW: usize = 64;
/// How long one replay waits in all for logs to be stored.
const PATIENCE: Duration = Duration::from_secs(5);
/// Between two looks.
const LOOK_PAUSE: Duration = Duration::from_millis(50);

/// One replay, of any number of dead letters of a tenant.
pub(crate) struct Replay<'a> {
    storage: &'a Arc<dyn Storage>,
    ingest: &'a Ingest,
    tenant: &'a Tenant,
    /// Dead letters above this id are new.
    newest_before: u64,
    deadline: Instant,
    answer: v1::ReplayDeadLettersResponse,
}

impl<'a> Replay<'a> {
    pub(crate) async fn begin(
        storage: &'a Arc<dyn Storage>,
        ingest: &'a Ingest,
        tenant: &'a Tenant,
    ) -> Result<Self, Refusal> {
        let (newest, _) = storage.list_dead_letters(tenant, None, 1).await?;
        let newest_before = newest.first().map_or(0, |letter| letter.dead_letter_id);
        let (deadline, answer) = (Instant::now() + PATIENCE, Default::default());
        Ok(Self { storage, ingest, tenant, newest_before, deadline, answer })
    }

    /// Page by page from the newest to the oldest, so that each is tried once.
    pub(crate) async fn all(mut self) -> Result<v1::ReplayDeadLettersResponse, Refusal> {
        // Only those that were there when it began. What fails again becomes a new dead letter,
        // which an open end would find and send in again, for ever.
        let mut before = Some(self.newest_before.saturating_add(1));
        loop {
            let listed = self.storage.list_dead_letters(self.tenant, before, LETTERS_PAGE).await;
            let (mut letters, _) = listed?;
            let Some(oldest) = letters.last() else { return Ok(self.answer) };
            before = Some(oldest.dead_letter_id);
            letters.retain(|letter| letter.replayed_at.is_none());
            self.page(letters).await?;
        }
    }

    /// Those that are named.
    pub(crate) async fn named(
        mut self,
        ids: &[u64],
    ) -> Result<v1::ReplayDeadLettersResponse, Refusal> {
        for ids in ids.chunks(LETTERS_PAGE) {
            let letters = self.storage.take_dead_letters(self.tenant, ids, LETTERS_PAGE).await?;
            self.page(letters).await?;
        }
        Ok(self.answer)
    }

    async fn page(&mut self, letters: Vec<DeadLetter>) -> Result<(), Refusal> {
        // Those replayed before are not sent in again: the ledger may have forgotten their batches
        // meanwhile, and would store their logs twice.
        let (done, letters): (Vec<_>, Vec<_>) =
            letters.into_iter().partition(|letter| letter.replayed_at.is_some());
        self.answer.replayed += done.len() as u64;
        let outcomes: Vec<(u64, Option<LogId>)> = stream::iter(letters)
            .map(|letter| async {
                let id = letter.dead_letter_id;
                self.ingest.replay(self.tenant, letter).await.map(|log_id| (id, log_id))
            })
            .buffer_unordered(REPLAY_WINDOW)
            .try_collect()
            .await?;
        let (taken, logs): (Vec<u64>, Vec<LogId>) =
            outcomes.iter().filter_map(|&(id, log_id)| Some((id, log_id?))).unzip();
        self.answer.rejected += (outcomes.len() - taken.len()) as u64;
        // After the queue has them. A crash in between replays them once more, under the same batch
        // ids, which the ledger knows; the other order could lose them.
        let now = (self.ingest.clock)();
        self.storage.mark_replayed(self.tenant, &taken, now).await?;
        self.settle(logs).await
    }

    /// Looks until all of these are stored or dead letters again, or patience ends.
    async fn settle(&mut self, mut open: Vec<LogId>) -> Result<(), Refusal> {
        loop {
            let mut unseen = Vec::new();
            for log_id in open {
                match self.storage.get(self.tenant, log_id, 0).await {
                    Ok(_) => self.answer.replayed += 1,
                    Err(StorageError::NotFound(_)) => unseen.push(log_id),
                    Err(error) => return Err(error.into()),
                }
            }
            // Among the new dead letters a replay is known by its batch id, which derives from the
            // dead letter that it came from.
            if !unseen.is_empty() {
                let anew = self.new_letters().await?;
                let looked_for = unseen.len();
                unseen.retain(|log_id| !anew.contains(&log_id.batch_id));
                self.answer.rejected += (looked_for - unseen.len()) as u64;
            }
            if unseen.is_empty() || Instant::now() >= self.deadline {
                self.answer.waiting += unseen.len() as u64;
                return Ok(());
            }
            open = unseen;
            tokio::time::sleep(LOOK_PAUSE).await;
        }
    }

    /// The batches of the dead letters that came since the replay began.
    async fn new_letters(&self) -> Result<HashSet<BatchId>, Refusal> {
        let (mut found, mut before) = (HashSet::new(), None);
        loop {
            let listed = self.storage.list_dead_letters(self.tenant, before, LETTERS_PAGE).await;
            let (letters, _) = listed?;
            let new = letters.iter().take_while(|l| l.dead_letter_id > self.newest_before);
            found.extend(new.map(|letter| letter.batch_id));
            before = letters.last().map(|letter| letter.dead_letter_id);
            if before.is_none_or(|oldest| oldest <= self.newest_before) {
                return Ok(found);
            }
        }
    }
}
