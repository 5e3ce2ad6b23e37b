//! Logs that came late: which windows grew after they were judged, and are judged again.
//!
//! A window that still reaches back to such logs counts them when it is judged next. The shorter
//! ones have passed: they are judged again as they would have been in time, bucket by bucket, from
//! the first that grew.

use std::{iter::successors, time::Duration};

use logweir_core::timestamp::Timestamp;

use crate::{
    detector::window::{BUCKET_WIDTH, Bucket},
    rule::measure::full_buckets,
};

/// How late a log may come and still be judged by every window: as long as senders are mostly cut
/// off, and clocks mostly wrong. What is later counts in windows that reach back to it.
pub(crate) const LATE_MAX: Duration = Duration::from_secs(900);
/// Moments that an evaluation judges again, over all services: with ten thousand rules half a
/// second. What is left is judged by the next.
pub(super) const MOMENTS_MAX: usize = 1_000;

/// The buckets of a service that grew after they were judged.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct LateBuckets {
    /// The start of the first one; none if there is none.
    first: Option<Timestamp>,
}

impl LateBuckets {
    /// A bucket is to be taken in, of which this was known. The service was judged through a
    /// moment; [`Timestamp::MIN`] if it never was.
    pub(super) fn note(
        &mut self,
        bucket: &Bucket,
        known: Option<&Bucket>,
        judged_through: Timestamp,
    ) {
        let has_grown = known.map_or(0, |known| known.total) < bucket.total;
        let is_judged = bucket.start + BUCKET_WIDTH <= judged_through;
        // All is late of a service that is new: what came before was judged by nobody.
        if has_grown && (is_judged || judged_through == Timestamp::MIN) {
            self.first = Some(self.first.map_or(bucket.start, |first| first.min(bucket.start)));
        }
    }

    pub(super) const fn is_empty(self) -> bool {
        self.first.is_none()
    }

    /// What is to be judged again before a moment, at so many moments at most; what is left stays.
    pub(super) fn take(&mut self, until: Timestamp, moments_max: usize) -> Option<LateLook> {
        let open = until.floor(BUCKET_WIDTH);
        let first = self.first.take()?.max((until - LATE_MAX).floor(BUCKET_WIDTH));
        let all = successors(Some(first), |start| Some(*start + BUCKET_WIDTH));
        let mut buckets = all.take_while(|start| *start < open);
        // Each as seen in its last moment, when all its logs should have been there.
        let last_moment = |start: Timestamp| (start + BUCKET_WIDTH).previous();
        let moments = buckets.by_ref().take(moments_max).map(last_moment).collect();
        self.first = buckets.next();
        Some(LateLook { first, open, moments })
    }
}

/// Moments at which a service is judged again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LateLook {
    first: Timestamp,
    open: Timestamp,
    /// Ascending, event time.
    pub(super) moments: Vec<Timestamp>,
}

impl LateLook {
    /// Whether a window that ends now no longer reaches back to all that grew.
    pub(super) fn has_passed(&self, window_seconds: u32) -> bool {
        self.open - BUCKET_WIDTH * full_buckets(window_seconds) > self.first
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_unix_seconds(seconds)
    }

    fn bucket(start_seconds: i64, total: u64) -> Bucket {
        Bucket { start: at(start_seconds), total, ..Bucket::default() }
    }

    #[test]
    fn only_what_grew_after_it_was_judged_is_late() {
        for (known, total, judged_through, is_late) in [
            (None, 1, at(110), true),
            (Some(1), 2, at(110), true),
            (Some(2), 2, at(110), false),
            (None, 1, at(109), false),
            (None, 1, Timestamp::MIN, true),
            (None, 0, Timestamp::MIN, false),
        ] {
            let mut late = LateBuckets::default();
            let known = known.map(|total| bucket(100, total));
            late.note(&bucket(100, total), known.as_ref(), judged_through);
            assert_eq!(!late.is_empty(), is_late, "{known:?} {total} {judged_through:?}");
        }
    }

    #[test]
    fn each_bucket_from_the_first_that_grew_is_judged_once() {
        let mut late = LateBuckets::default();
        late.note(&bucket(1_020, 1), None, at(2_000));
        late.note(&bucket(1_000, 1), None, at(2_000));
        let ends = |seconds: &[i64]| seconds.iter().map(|s| at(*s).previous()).collect::<Vec<_>>();
        assert_eq!(late.take(at(1_045), 3).unwrap().moments, ends(&[1_010, 1_020, 1_030]));
        assert_eq!(late.take(at(1_045), 3).unwrap().moments, ends(&[1_040]));
        assert_eq!(late.take(at(1_045), 3), None);
        // Nothing is judged that lies further back than the bound.
        late.note(&bucket(0, 1), None, at(2_000));
        let look = late.take(at(1_000), 100).unwrap();
        assert_eq!(look.moments[0], at(110).previous());
    }

    #[test]
    fn a_window_that_reaches_back_needs_no_second_look() {
        let mut late = LateBuckets::default();
        late.note(&bucket(1_000, 1), None, at(2_000));
        let look = late.take(at(1_045), 100).unwrap();
        assert!(look.has_passed(10) && look.has_passed(40));
        assert!(!look.has_passed(50) && !look.has_passed(3_600));
    }
}
