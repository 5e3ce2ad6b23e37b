//! Requests that their senders named and that are under way: of two with one name the second would not
//! yet be known to be a repeat, or to have other content.

use std::{collections::HashSet, sync::Arc, time::Duration};

use logweir_core::identity::BatchId;
use parking_lot::Mutex;

use crate::status::Refusal;

const RETRY_AFTER: Duration = Duration::from_secs(1);

/// By the id that the first part of each has. As many as there are requests under way, which the bytes in
/// flight bound.
#[derive(Clone, Default)]
pub(crate) struct NamedRequests(Arc<Mutex<HashSet<BatchId>>>);

/// One that is under way, until it is dropped.
pub(crate) struct UnderWay {
    requests: NamedRequests,
    id: BatchId,
}

impl NamedRequests {
    /// Begins one, unless one of that name is under way.
    pub(crate) fn begin(&self, id: BatchId) -> Result<UnderWay, Refusal> {
        if self.0.lock().insert(id) {
            return Ok(UnderWay { requests: self.clone(), id });
        }
        Err(Refusal::Unavailable {
            reason: "IDEMPOTENCY_KEY_UNDER_WAY",
            message: "another request with this idempotency key is under way: send again later"
                .into(),
            retry_after: RETRY_AFTER,
        })
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.requests.0.lock().remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_of_a_name_is_under_way_at_a_time() {
        let requests = NamedRequests::default();
        let first = requests.begin(BatchId([1; 16])).ok().unwrap();
        assert!(requests.begin(BatchId([2; 16])).is_ok());
        let refusal = requests.begin(BatchId([1; 16])).err().unwrap();
        assert_eq!(refusal.retry_after(), Some(RETRY_AFTER));
        drop(first);
        assert!(requests.begin(BatchId([1; 16])).is_ok());
    }
}
