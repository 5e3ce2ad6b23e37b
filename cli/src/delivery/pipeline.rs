//! Sends groups of batches: several batches in flight, answers taken in the order of sending, each
//! group forgotten once all of it is answered.

use std::{
    collections::BTreeMap,
    future::Future,
    sync::{Mutex, MutexGuard, PoisonError},
};

use futures::{StreamExt, stream};
use logweir_proto::v1;
use tokio_stream::Stream;

use crate::{
    delivery::{
        batch::{Producers, service_of},
        journal::{Group, State},
    },
    error::Error,
};

/// Most different services, reasons or examples that are counted one by one.
const COUNTED_MAX: usize = 4_096;

/// What the server said to a batch, once and for all.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// It is durable, but for the records that broke a rule.
    Accepted {
        /// Records accepted.
        accepted: u64,
        /// Records rejected.
        rejected: Vec<v1::RejectedRecord>,
    },
    /// It will never be accepted as it is.
    Refused {
        /// A stable name of the cause.
        reason: String,
        /// The cause, for a person.
        message: String,
    },
}

/// What became of everything sent so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Delivered {
    /// Records answered in any way.
    pub sent: u64,
    /// Records accepted.
    pub accepted: u64,
    /// Records rejected or refused, by reason.
    pub rejected: BTreeMap<String, u64>,
    /// The first words of the server on a rejection, by reason.
    pub examples: BTreeMap<String, String>,
    /// Records accepted, by service.
    pub services: BTreeMap<String, u64>,
}

impl Delivered {
    /// Records that the server did not accept.
    pub fn rejected_total(&self) -> u64 {
        self.rejected.values().sum()
    }

    fn add(&mut self, service: &str, records: u64, answer: &Answer) -> u64 {
        self.sent += records;
        match answer {
            Answer::Accepted { accepted, rejected } => {
                self.accepted += accepted;
                add_count(&mut self.services, service, *accepted);
                for record in rejected {
                    self.reject(&record.reason, &record.message, 1);
                }
                rejected.len() as u64
            }
            Answer::Refused { reason, message } => {
                self.reject(reason, message, records);
                records
            }
        }
    }

    fn reject(&mut self, reason: &str, message: &str, records: u64) {
        add_count(&mut self.rejected, reason, records);
        if self.examples.len() < COUNTED_MAX && !self.examples.contains_key(reason) {
            self.examples.insert(reason.to_owned(), message.to_owned());
        }
    }
}

fn add_count(counts: &mut BTreeMap<String, u64>, key: &str, count: u64) {
    if let Some(found) = counts.get_mut(key) {
        *found += count;
    } else if counts.len() < COUNTED_MAX {
        counts.insert(key.to_owned(), count);
    } else {
        *counts.entry("(others)".to_owned()).or_default() += count;
    }
}

/// Counts shared by who sends, who reads and who shows progress.
#[derive(Default)]
pub struct Counts {
    delivered: Mutex<Delivered>,
    /// Answers by service that the reader has not yet put into the producers' accounts.
    unsettled: Mutex<BTreeMap<String, (u64, u64)>>,
}

impl Counts {
    /// A copy of the counts.
    pub fn delivered(&self) -> Delivered {
        locked(&self.delivered).clone()
    }

    /// Records answered so far.
    pub fn sent(&self) -> u64 {
        locked(&self.delivered).sent
    }

    /// Notes the answer to a batch.
    pub fn answered(&self, service: &str, records: u64, answer: &Answer) {
        let rejected = locked(&self.delivered).add(service, records, answer);
        let mut unsettled = locked(&self.unsettled);
        let counts = unsettled.entry(service.to_owned()).or_default();
        *counts = (counts.0 + records, counts.1 + rejected);
    }

    /// Puts the answers since the last call into the producers' accounts.
    pub fn settle(&self, producers: &mut Producers) {
        for (service, (records, rejected)) in std::mem::take(&mut *locked(&self.unsettled)) {
            producers.settle(&service, records, rejected);
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Sends every group until there are no more, or until one batch cannot be delivered at all. `send`
/// delivers one batch and retries as long as that makes sense; `complete` is called with the state of
/// each group, in order, once all of it is answered.
pub async fn deliver<S, C>(
    groups: impl Stream<Item = Group>,
    in_flight: usize,
    counts: &Counts,
    mut send: impl FnMut(v1::Batch) -> S,
    complete: impl Fn(State) -> C,
) -> Result<(), Error>
where
    S: Future<Output = Result<Answer, Error>>,
    C: Future<Output = Result<(), Error>>,
{
    let steps = groups.flat_map(|group| stream::iter(steps_of(group)));
    let answers = steps.map(|step| {
        let sending = step.batch.map(|batch| {
            let service = service_of(&batch).to_owned();
            (service, batch.records.len() as u64, send(batch))
        });
        async move {
            let answered = match sending {
                Some((service, records, answer)) => Some((service, records, answer.await?)),
                None => None,
            };
            Ok::<_, Error>((answered, step.last_of))
        }
    });
    let mut answers = std::pin::pin!(answers.buffered(in_flight.max(1)));
    while let Some(step) = answers.next().await {
        let (answered, last_of) = step?;
        if let Some((service, records, answer)) = answered {
            counts.answered(&service, records, &answer);
        }
        if let Some(state) = last_of {
            complete(*state).await?;
        }
    }
    Ok(())
}

struct Step {
    /// None where a group has no batches, only a state.
    batch: Option<v1::Batch>,
    /// The state of the group that this is the last step of.
    last_of: Option<Box<State>>,
}

fn steps_of(group: Group) -> Vec<Step> {
    let Group { state, mut batches } = group;
    let last = batches.pop();
    let mut steps: Vec<_> =
        batches.into_iter().map(|batch| Step { batch: Some(batch), last_of: None }).collect();
    steps.push(Step { batch: last, last_of: Some(Box::new(state)) });
    steps
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;
    use crate::delivery::batch::Ids;

    fn group(number: u64, sizes: &[usize]) -> Group {
        let mut state = State { group: number, ..State::default() };
        let batches = sizes
            .iter()
            .map(|size| {
                let records = vec![v1::LogRecord::default(); *size];
                state.producers.batch("s", records, Ids::mint())
            })
            .collect();
        Group { state, batches }
    }

    fn accepted(batch: &v1::Batch) -> Answer {
        Answer::Accepted { accepted: batch.records.len() as u64, rejected: Vec::new() }
    }

    #[tokio::test]
    async fn groups_are_completed_in_order_after_their_last_answer() {
        let counts = Counts::default();
        let completed = RefCell::new(Vec::new());
        let (slow, wait) = tokio::sync::oneshot::channel::<()>();
        let (mut slow, mut wait) = (Some(slow), Some(wait));
        let groups = stream::iter([group(1, &[1, 2]), group(2, &[3]), group(3, &[])]);
        let send = |batch: v1::Batch| {
            // The first batch is answered only after the last one was sent.
            let wait = wait.take();
            let slow = (batch.records.len() == 3).then(|| slow.take()).flatten();
            async move {
                drop(slow);
                if let Some(wait) = wait {
                    wait.await.unwrap_err();
                }
                Ok(accepted(&batch))
            }
        };
        let complete = |state: State| {
            completed.borrow_mut().push((state.group, counts.sent()));
            std::future::ready(Ok(()))
        };
        deliver(groups, 8, &counts, send, complete).await.unwrap();
        assert_eq!(*completed.borrow(), [(1, 3), (2, 6), (3, 6)]);
        assert_eq!(counts.delivered().services["s"], 6);
    }

    #[tokio::test]
    async fn a_batch_that_cannot_be_delivered_completes_nothing() {
        let counts = Counts::default();
        let send = |_| std::future::ready(Err(Error::Unavailable("down".to_owned())));
        let complete = |_| std::future::ready(Err(Error::Missing("never".to_owned())));
        let result = deliver(stream::iter([group(1, &[1])]), 8, &counts, send, complete).await;
        assert!(matches!(result, Err(Error::Unavailable(_))));
        assert_eq!(counts.sent(), 0);
    }

    #[test]
    fn rejections_and_refusals_are_counted_by_reason() {
        let counts = Counts::default();
        let rejected = vec![v1::RejectedRecord {
            index: 0,
            reason: "message_too_large".to_owned(),
            message: "at most 64 KiB".to_owned(),
        }];
        counts.answered("s", 3, &Answer::Accepted { accepted: 2, rejected });
        let refused =
            Answer::Refused { reason: "expired".to_owned(), message: "too old".to_owned() };
        counts.answered("s", 5, &refused);
        let delivered = counts.delivered();
        assert_eq!((delivered.sent, delivered.accepted, delivered.rejected_total()), (8, 2, 6));
        let mut producers = Producers::default();
        producers.batch("s", vec![v1::LogRecord::default(); 8], Ids::mint());
        counts.settle(&mut producers);
        assert_eq!((producers.0["s"].settled, producers.0["s"].rejected), (8, 6));
    }
}
