//! Logs that came late: which windows grew after they were judged, and are judged again.
//!
//! A window that still reaches back to such logs counts them when it is judged next. The shorter
//! ones have passed: they are judged again as they would have been in time, bucket by bucket, from
//! the first that grew.

use crate::{
    detector::window::{BUCKET_SECONDS, Bucket},
    rule::measure::full_buckets,
};

/// How late a log may come and still be judged by every window, nanoseconds: as long as senders are
/// mostly cut off, and clocks mostly wrong. What is later counts in windows that reach back to it.
pub(crate) const LATE_NANOS_MAX: i64 = 900 * SECOND;
/// Moments that an evaluation judges again, over all services: with ten thousand rules half a
/// second. What is left is judged by the next.
pub(super) const MOMENTS_MAX: usize = 1_000;
const SECOND: i64 = 1_000_000_000;

/// The buckets of a service that grew after they were judged.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct LateBuckets {
    /// The start of the first one; none if there is none.
    first_seconds: Option<i64>,
}

impl LateBuckets {
    /// A bucket is to be taken in, of which this was known. The service was judged through a
    /// moment; `i64::MIN` if it never was.
    pub(super) fn note(&mut self, bucket: &Bucket, known: Option<&Bucket>, judged_unix_nano: i64) {
        let has_grown = known.map_or(0, |known| known.total) < bucket.total;
        let is_judged = end_of(bucket.start_seconds) <= judged_unix_nano;
        // All is late of a service that is new: what came before was judged by nobody.
        if has_grown && (is_judged || judged_unix_nano == i64::MIN) {
            let first = self.first_seconds.unwrap_or(i64::MAX);
            self.first_seconds = Some(first.min(bucket.start_seconds));
        }
    }

    pub(super) const fn is_empty(self) -> bool {
        self.first_seconds.is_none()
    }

    /// What is to be judged again before a moment, at so many moments at most; what is left stays.
    pub(super) fn take(&mut self, until_unix_nano: i64, moments_max: usize) -> Option<LateLook> {
        let open_seconds = start_of_bucket(until_unix_nano);
        let earliest = start_of_bucket(until_unix_nano.saturating_sub(LATE_NANOS_MAX));
        let first_seconds = self.first_seconds.take()?.max(earliest);
        let mut buckets = (first_seconds..open_seconds).step_by(BUCKET_SECONDS as usize);
        // Each as seen in its last moment, when all its logs should have been there.
        let moments = buckets.by_ref().take(moments_max).map(|start| end_of(start) - 1).collect();
        self.first_seconds = buckets.next();
        Some(LateLook { first_seconds, open_seconds, moments })
    }
}

fn start_of_bucket(unix_nano: i64) -> i64 {
    unix_nano.div_euclid(BUCKET_SECONDS * SECOND) * BUCKET_SECONDS
}

fn end_of(start_seconds: i64) -> i64 {
    (start_seconds + BUCKET_SECONDS).saturating_mul(SECOND)
}

/// Moments at which a service is judged again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LateLook {
    first_seconds: i64,
    open_seconds: i64,
    /// Ascending, event time.
    pub(super) moments: Vec<i64>,
}

impl LateLook {
    /// Whether a window that ends now no longer reaches back to all that grew.
    pub(super) fn has_passed(&self, window_seconds: u32) -> bool {
        self.open_seconds - full_buckets(window_seconds) * BUCKET_SECONDS > self.first_seconds
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bucket(start_seconds: i64, total: u64) -> Bucket {
        Bucket { start_seconds, total, ..Bucket::default() }
    }

    #[test]
    fn only_what_grew_after_it_was_judged_is_late() {
        for (known, total, judged, is_late) in [
            (None, 1, 110 * SECOND, true),
            (Some(1), 2, 110 * SECOND, true),
            (Some(2), 2, 110 * SECOND, false),
            (None, 1, 109 * SECOND, false),
            (None, 1, i64::MIN, true),
            (None, 0, i64::MIN, false),
        ] {
            let mut late = LateBuckets::default();
            let known = known.map(|total| bucket(100, total));
            late.note(&bucket(100, total), known.as_ref(), judged);
            assert_eq!(!late.is_empty(), is_late, "{known:?} {total} {judged}");
        }
    }

    #[test]
    fn each_bucket_from_the_first_that_grew_is_judged_once() {
        let mut late = LateBuckets::default();
        late.note(&bucket(1_020, 1), None, 2_000 * SECOND);
        late.note(&bucket(1_000, 1), None, 2_000 * SECOND);
        let until = 1_045 * SECOND;
        let ends = |seconds: &[i64]| seconds.iter().map(|s| s * SECOND - 1).collect::<Vec<_>>();
        assert_eq!(late.take(until, 3).unwrap().moments, ends(&[1_010, 1_020, 1_030]));
        assert_eq!(late.take(until, 3).unwrap().moments, ends(&[1_040]));
        assert_eq!(late.take(until, 3), None);
        // Nothing is judged that lies further back than the bound.
        late.note(&bucket(0, 1), None, 2_000 * SECOND);
        let look = late.take(1_000 * SECOND, 100).unwrap();
        assert_eq!(look.moments[0], 110 * SECOND - 1);
    }

    #[test]
    fn a_window_that_reaches_back_needs_no_second_look() {
        let mut late = LateBuckets::default();
        late.note(&bucket(1_000, 1), None, 2_000 * SECOND);
        let look = late.take(1_045 * SECOND, 100).unwrap();
        assert!(look.has_passed(10) && look.has_passed(40));
        assert!(!look.has_passed(50) && !look.has_passed(3_600));
    }
}
