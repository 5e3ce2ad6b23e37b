//! What people said of logs, as weights of their patterns.
//!
//! Each feedback moves its pattern by one, up to [`WEIGHT_MAX`]; one that contradicts those before
//! first halves what they came to. So the last words count most, and no pattern is silenced for
//! ever.

use std::{collections::HashMap, sync::Arc};

use logweir_core::identity::{TemplateId, Tenant};
use logweir_storage::{Feedback, KeepModels, StorageError};
use parking_lot::Mutex;

/// How far a pattern can be moved either way. A weight is the exponent of a factor of 100 on its
/// tail probability, so 2 stands for ten thousand times more or less likely to be an anomaly.
const WEIGHT_MAX: f32 = 2.0;

/// Above 0 for patterns of anomalies, below 0 for usual ones.
pub(crate) type Weights = HashMap<TemplateId, f32>;

/// The weights as of the last reading. Shared by the pipeline and the task that reads.
#[derive(Clone, Default)]
pub(crate) struct Said(Arc<Mutex<Arc<Weights>>>);

impl Said {
    pub(crate) fn current(&self) -> Arc<Weights> {
        Arc::clone(&self.0.lock())
    }

    pub(crate) async fn refresh(&self, storage: &dyn KeepModels) -> Result<(), StorageError> {
        let weights = weights(&storage.list_feedback().await?);
        // Replaced only when it differs: the pipeline sees a change by the pointer and then has the
        // detector take all weights anew.
        if weights != *self.current() {
            *self.0.lock() = Arc::new(weights);
        }
        Ok(())
    }
}

/// The weights that follow from feedback, in the order in which it was given. A template's id is a
/// hash of its tenant too, so the tenant need not be part of the key.
fn weights(said: &[(Tenant, Feedback)]) -> Weights {
    let mut weights = Weights::new();
    for (_, feedback) in said {
        let weight = weights.entry(feedback.template_id).or_default();
        let step = if feedback.is_anomaly { 1.0 } else { -1.0 };
        if *weight * step < 0.0 {
            *weight /= 2.0;
        }
        *weight = (*weight + step).clamp(-WEIGHT_MAX, WEIGHT_MAX);
    }
    weights
}

#[cfg(test)]
mod tests {
    use logweir_core::{
        identity::{BatchId, LogId, Service},
        timestamp::Timestamp,
    };

    use super::*;

    #[test]
    fn the_last_words_count_most() {
        for (said, expected) in [
            (&[true][..], 1.0),
            (&[false, false, false], -2.0),
            (&[true, true, true, false], 0.0),
            (&[false, true], 0.5),
            (&[false, false, true, true], 1.0),
        ] {
            let feedback = |(index, is_anomaly): (u32, &bool)| {
                let log_id = LogId {
                    time: Timestamp::from_unix_nanos(1),
                    batch_id: BatchId([1; 16]),
                    index,
                };
                let feedback = Feedback {
                    log_id,
                    service: Service::new("a").unwrap(),
                    template_id: TemplateId(7),
                    is_anomaly: *is_anomaly,
                    given_by: "t".into(),
                    given_at: Timestamp::from_unix_nanos(1),
                };
                (Tenant::default(), feedback)
            };
            let given: Vec<_> = (0..).zip(said).map(feedback).collect();
            assert_eq!(weights(&given)[&TemplateId(7)], expected, "{said:?}");
        }
    }
}
