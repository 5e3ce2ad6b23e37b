//! The way of a log through the processor. The whole order stands in [`Pipeline::run`].
//!
//! Batches that arrive close together share a transaction. While one group commits, the next is
//! taken and scored; so two groups are in hand at most, with one batch that had no place in the second,
//! and what is behind them waits in the queue, which is bounded. A batch that may end the process is in hand alone.

use std::time::Duration;

use metrics::histogram;
use tokio::time::Instant;

use crate::{
    intake::{Group, Intake, Stage},
    score::Scorer,
    suspect::Trials,
    write::{Scored, Writer},
};

/// Moves batches from the queue to storage.
pub(crate) struct Pipeline {
    intake: Intake,
    writer: Writer,
    trials: Trials,
    scorer: Option<Box<Scorer>>,
}

/// What comes after the group that is being written.
enum Next {
    Scored(ScoredGroup),
    Suspect(Group),
}

/// A group that is to be written.
struct ScoredGroup {
    scored: Scored,
    rows: usize,
    /// How long it took to score.
    took: Duration,
}

impl Pipeline {
    pub(crate) fn new(intake: Intake, scorer: Scorer, writer: Writer, trials: Trials) -> Self {
        Self { intake, writer, trials, scorer: Some(Box::new(scorer)) }
    }

    /// Take → enrich → template → score → write → acknowledge, until the queue is closed and empty.
    pub(crate) async fn run(mut self) {
        let mut ready: Option<ScoredGroup> = None;
        loop {
            let Self { intake, writer, scorer, .. } = &mut self;
            let take_and_score = async {
                let group = intake.take().await?;
                // Not scored here: it may end the process, and the group that is being written
                // beside it would be blamed as well.
                if group.is_suspect {
                    return Some(Next::Suspect(group));
                }
                let (rows, begun) = (group.size.rows, Instant::now());
                let scored = score(scorer, group).await;
                Some(Next::Scored(ScoredGroup { scored, rows, took: begun.elapsed() }))
            };
            let write_and_acknowledge = async {
                let ScoredGroup { scored, rows, .. } = ready.take()?;
                let begun = Instant::now();
                writer.write(scored).await;
                Some((rows, begun.elapsed()))
            };
            // Both at once, and each once: scoring fills the time of a commit, and while storage is
            // slow nothing more is taken than this one group, so that the rest waits in the queue.
            let (next, written) = tokio::join!(take_and_score, write_and_acknowledge);
            if let Some((rows, took)) = written {
                self.intake.note_pace(Stage::Writing, rows, took);
            }
            match next {
                Some(Next::Scored(group)) => {
                    self.intake.note_pace(Stage::Scoring, group.rows, group.took);
                    ready = Some(group);
                }
                Some(Next::Suspect(group)) => self.try_alone(group).await,
                None => return,
            }
        }
    }

    /// Everything before is settled, and nothing is taken meanwhile.
    async fn try_alone(&mut self, mut suspect: Group) {
        let Some(batch) = suspect.batches.pop() else { return };
        let (tenant, batch_id) = (batch.tenant.clone(), batch.batch_id);
        let received_at = batch.received_at;
        // Without a note in storage a batch that ends the process could never be counted. Its place
        // is given up where the process is to stop before; the batch goes back to the queue.
        let Some(batch) = self.trials.begin(batch).await else {
            return self.writer.progress.settled(&[received_at], false);
        };
        suspect.batches.push(batch);
        let scored = score(&mut self.scorer, suspect).await;
        self.writer.write(scored).await;
        self.trials.end(&tenant, batch_id).await;
    }
}

/// Computes on a thread for blocking work: it would hold up the async pool.
async fn score(scorer: &mut Option<Box<Scorer>>, group: Group) -> Scored {
    // The thread must own what it works with, and a lock would be held for the whole computation.
    let mut owned = scorer.take().expect("it was put back after the last group");
    let Group { batches, settlements, taken, .. } = group;
    let scoring = tokio::task::spawn_blocking(move || {
        let started = Instant::now();
        let scored = owned.score(batches);
        histogram!("logweir_processor_score_seconds").record(started.elapsed().as_secs_f64());
        (owned, scored)
    });
    // Panics on single logs are caught inside; any other is a defect that must stop the process.
    let (owned, (batches, templates)) =
        scoring.await.expect("scoring does not panic and is not cancelled");
    *scorer = Some(owned);
    Scored { batches, templates, settlements, taken }
}
