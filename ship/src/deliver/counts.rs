//! What the server said to batches, counted.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use logweir_proto::v1;

use crate::deliver::batch::Producers;

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
        // Names come from files: one that has another service in each line must not fill memory.
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
        // The producers' accounts are the reader's; it takes the answers up with its next group.
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
    // Counts are whole after every step: a panic elsewhere is no reason to lose them.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use logweir_core::timestamp::Timestamp;

    use super::*;
    use crate::deliver::batch::Ids;

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
        let records = vec![v1::LogRecord::default(); 8].into_iter().collect();
        producers.batch("s".to_owned(), &records, Ids::mint(), Timestamp::EPOCH);
        counts.settle(&mut producers);
        assert_eq!((producers.0["s"].settled, producers.0["s"].rejected), (8, 6));
    }
}
