//! Sends groups of batches: several batches in flight, answers taken in the order of sending, each
//! group forgotten once all of it is answered.

use std::future::Future;

use futures::{StreamExt, stream};
use tokio_stream::Stream;

use self::{
    batch::ServiceBatch,
    counts::{Answer, Counts},
};
use crate::{
    error::Error,
    journal::{Group, State},
};

pub mod batch;
pub mod counts;
pub mod send;

/// Sends every group until there are no more, or until one batch cannot be delivered at all. `send`
/// delivers one batch and retries as long as that makes sense; `complete` is called with the state
/// of each group, in order, once all of it is answered.
pub async fn deliver<S, C>(
    groups: impl Stream<Item = Group>,
    in_flight: usize,
    counts: &Counts,
    mut send: impl FnMut(ServiceBatch) -> S,
    complete: impl Fn(State) -> C,
) -> Result<(), Error>
where
    S: Future<Output = Result<Answer, Error>>,
    C: Future<Output = Result<(), Error>>,
{
    let steps = groups.flat_map(|group| stream::iter(steps_of(group)));
    let answers = steps.map(|step| {
        let sending = step.batch.map(|batch| (batch.service.clone(), batch.records(), send(batch)));
        async move {
            let answered = match sending {
                Some((service, records, answer)) => Some((service, records, answer.await?)),
                None => None,
            };
            Ok::<_, Error>((answered, step.last_of))
        }
    });
    // In the order of sending and not as answers come: a group may be forgotten only once all
    // before it are answered, for the checkpoint names one number.
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
    batch: Option<ServiceBatch>,
    /// The state of the group that this is the last step of.
    last_of: Option<Box<State>>,
}

fn steps_of(group: Group) -> Vec<Step> {
    let Group { state, mut batches } = group;
    // A group without batches still moves the checkpoint on: a file was read to its end.
    let last = batches.pop();
    let mut steps: Vec<_> =
        batches.into_iter().map(|batch| Step { batch: Some(batch), last_of: None }).collect();
    steps.push(Step { batch: last, last_of: Some(Box::new(state)) });
    steps
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use logweir_core::timestamp::Timestamp;
    use logweir_proto::v1;

    use super::*;
    use crate::deliver::batch::Ids;

    fn group(number: u64, sizes: &[usize]) -> Group {
        let mut state = State { group: number, ..State::default() };
        let batches = sizes
            .iter()
            .map(|size| {
                let records = vec![v1::LogRecord::default(); *size].into_iter().collect();
                let service = "s".to_owned();
                state.producers.batch(service, &records, Ids::mint(), Timestamp::EPOCH)
            })
            .collect();
        Group { state, batches }
    }

    fn accepted(batch: &ServiceBatch) -> Answer {
        Answer::Accepted { accepted: batch.records(), rejected: Vec::new() }
    }

    #[tokio::test]
    async fn groups_are_completed_in_order_after_their_last_answer() {
        let counts = Counts::default();
        let completed = RefCell::new(Vec::new());
        let (slow, wait) = tokio::sync::oneshot::channel::<()>();
        let (mut slow, mut wait) = (Some(slow), Some(wait));
        let groups = stream::iter([group(1, &[1, 2]), group(2, &[3]), group(3, &[])]);
        let send = |batch: ServiceBatch| {
            // The first batch is answered only after the last one was sent.
            let wait = wait.take();
            let slow = (batch.records() == 3).then(|| slow.take()).flatten();
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
        let send = |_| std::future::ready(Err(Error::OutOfTime("down".to_owned())));
        let complete = |_| std::future::ready(Err(Error::Interrupted));
        let result = deliver(stream::iter([group(1, &[1])]), 8, &counts, send, complete).await;
        assert!(matches!(result, Err(Error::OutOfTime(_))));
        assert_eq!(counts.sent(), 0);
    }
}
