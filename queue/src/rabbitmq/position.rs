//! How far what waits in one queue of the broker has been committed, by what a consumer fetched of it.
//! Pure.
//!
//! It begins anew with each subscription: the broker hands all that was not settled out again, first.
//! The broker hands a queue's batches out in its order, and each is stored sooner or later than those
//! beside it. So all that was received before the oldest that is fetched and not settled is
//! committed; or before the newest that was settled, if all are; or before the last look at the broker,
//! if none waited there either. As several servers stamp batches by their own clocks, that is as good as the
//! clocks agree.

use std::collections::BTreeMap;

use logweir_core::timestamp::Timestamp;

/// How far one queue is.
#[derive(Debug, Default)]
pub(super) struct Position {
    /// Batches fetched and not settled, by receive time.
    unsettled: BTreeMap<Timestamp, usize>,
    /// The newest receive time that was settled.
    settled: Option<Timestamp>,
}

impl Position {
    /// A batch was fetched.
    pub(super) fn fetched(&mut self, received_at: Timestamp) {
        *self.unsettled.entry(received_at).or_default() += 1;
    }

    /// A batch is stored.
    pub(super) fn stored(&mut self, received_at: Timestamp) {
        self.forget(received_at);
        self.settled = self.settled.max(Some(received_at));
    }

    fn forget(&mut self, received_at: Timestamp) {
        if let Some(count) = self.unsettled.get_mut(&received_at) {
            *count -= 1;
            if *count == 0 {
                self.unsettled.remove(&received_at);
            }
        }
    }

    /// Through which receive time all is committed, if that is known.
    pub(super) fn committed(&self, look: Option<Look>) -> Option<Timestamp> {
        // A silent queue must not hold back rules about silent services: with nothing fetched and
        // nothing waiting it is committed up to the look, though its last batch is hours old.
        match (self.unsettled.first_key_value(), look) {
            (Some((oldest, _)), _) => Some(*oldest),
            (None, Some(Look { at, waiting: 0 })) => self.settled.max(Some(at)),
            (None, _) => self.settled,
        }
    }
}

/// A look at what waits in the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Look {
    /// When it was asked, before the answer.
    pub(super) at: Timestamp,
    /// Batches that nobody had fetched.
    pub(super) waiting: u32,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOBODY_WAITS: Option<Look> =
        Some(Look { at: Timestamp::from_unix_nanos(1_000), waiting: 0 });
    const SOME_WAIT: Option<Look> =
        Some(Look { at: Timestamp::from_unix_nanos(1_000), waiting: 1 });

    fn at(nanos: i64) -> Timestamp {
        Timestamp::from_unix_nanos(nanos)
    }

    #[test]
    fn the_oldest_that_is_not_settled_holds_it() {
        let mut position = Position::default();
        assert_eq!(position.committed(SOME_WAIT), None, "nothing is known yet");
        for nanos in [10, 10, 20, 30] {
            position.fetched(at(nanos));
        }
        position.stored(at(30));
        assert_eq!(position.committed(NOBODY_WAITS), Some(at(10)), "whatever came later");
        position.stored(at(10));
        assert_eq!(position.committed(NOBODY_WAITS), Some(at(10)));
        position.stored(at(10));
        assert_eq!(position.committed(NOBODY_WAITS), Some(at(20)));
        position.stored(at(20));
        assert_eq!(position.committed(SOME_WAIT), Some(at(30)));
        assert_eq!(position.committed(NOBODY_WAITS), Some(at(1_000)));
    }

    proptest! {
        /// Batches come in order, and are stored in any.
        #[test]
        fn nothing_before_it_is_missing(
            steps in prop::collection::vec((0..20_usize, any::<bool>()), 1..200),
        ) {
            let (mut position, mut missing, mut next) = (Position::default(), Vec::new(), 1);
            for (which, comes) in steps {
                if comes {
                    position.fetched(at(next));
                    missing.push(next);
                    next += 1;
                } else if !missing.is_empty() {
                    position.stored(at(missing.remove(which % missing.len())));
                }
                let oldest_missing = missing.first().copied().unwrap_or(next);
                let committed = position.committed(SOME_WAIT).unwrap_or(Timestamp::EPOCH);
                prop_assert!(committed <= at(oldest_missing), "{committed:?}, {missing:?}");
            }
        }
    }
}
