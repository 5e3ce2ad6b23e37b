//! What may be under way at once: batches and bytes, counted until the last trace of each is gone.

use std::{sync::Arc, time::Duration};

use metrics::gauge;
use parking_lot::Mutex;

use crate::PublishError;

/// About the time of a few confirmations.
const FULL_RETRY_AFTER: Duration = Duration::from_millis(200);

/// The bounds, and what counts against them. Cheap to clone.
#[derive(Clone)]
pub(super) struct Window {
    batches_max: usize,
    bytes_max: usize,
    taken: Arc<Mutex<Taken>>,
}

#[derive(Default)]
struct Taken {
    batches: usize,
    bytes: usize,
}

/// A batch's room in the window, given back when dropped.
pub(super) struct Permit {
    window: Window,
    bytes: usize,
}

impl Window {
    pub(super) fn new(batches_max: usize, bytes_max: usize) -> Self {
        Self { batches_max: batches_max.max(1), bytes_max, taken: Arc::default() }
    }

    /// Whether a batch of this size has room. One that is larger than the whole window has if
    /// nothing else is under way, so that it is not refused for ever.
    pub(super) fn check(&self, bytes: usize) -> Result<(), PublishError> {
        self.check_taken(&self.taken.lock(), bytes)
    }

    pub(super) fn take(&self, bytes: usize) -> Result<Permit, PublishError> {
        let mut taken = self.taken.lock();
        self.check_taken(&taken, bytes)?;
        taken.batches += 1;
        taken.bytes += bytes;
        taken.report();
        Ok(Permit { window: self.clone(), bytes })
    }

    fn check_taken(&self, taken: &Taken, bytes: usize) -> Result<(), PublishError> {
        let what = if taken.batches >= self.batches_max {
            format!("{} batches wait for the broker's confirmation, the limit", taken.batches)
        } else if taken.batches > 0 && taken.bytes + bytes > self.bytes_max {
            format!("{} of {} bytes wait for confirmation", taken.bytes, self.bytes_max)
        } else {
            return Ok(());
        };
        Err(PublishError::Full { what, retry_after: FULL_RETRY_AFTER })
    }
}

impl Taken {
    fn report(&self) {
        gauge!("logweir_queue_unconfirmed_batches").set(self.batches as f64);
        gauge!("logweir_queue_unconfirmed_bytes").set(self.bytes as f64);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut taken = self.window.taken.lock();
        taken.batches -= 1;
        taken.bytes -= self.bytes;
        taken.report();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_bounds_hold_until_a_permit_is_dropped() {
        let window = Window::new(2, 100);
        let first = window.take(60).unwrap();
        assert!(window.take(41).is_err_and(|error| matches!(error, PublishError::Full { .. })));
        let second = window.take(40).unwrap();
        assert!(window.check(0).is_err(), "two batches are the limit");
        drop((first, second));
        window.check(100).unwrap();
    }

    #[test]
    fn what_is_larger_than_the_window_passes_alone() {
        let window = Window::new(2, 100);
        let large = window.take(1_000).unwrap();
        assert!(window.take(1).is_err());
        drop(large);
        let _small = window.take(1).unwrap();
        assert!(window.take(1_000).is_err());
    }
}
