//! Logs per latency bucket as a small sorted list, and as the bytes kept in `latency_buckets`.

use logweir_core::latency::BUCKET_MIN;
use prost::encoding::{decode_varint, encode_varint};

/// Logs per latency bucket, ascending.
// A list and not an array of all buckets: most services have latencies in a few neighbouring ones,
// and there is one of these for every service and 10 seconds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Histogram(Vec<(i32, u64)>);

impl Histogram {
    /// Counts logs of one bucket.
    pub(crate) fn add(&mut self, bucket: i32, count: u64) {
        match self.0.binary_search_by_key(&bucket, |&(bucket, _)| bucket) {
            Ok(found) => self.0[found].1 = self.0[found].1.saturating_add(count),
            Err(place) => self.0.insert(place, (bucket, count)),
        }
    }

    /// Counts what another has counted.
    pub(crate) fn merge(&mut self, other: &Self) {
        other.0.iter().for_each(|&(bucket, count)| self.add(bucket, count));
    }

    /// Each bucket with a log, ascending.
    pub(crate) fn as_slice(&self) -> &[(i32, u64)] {
        &self.0
    }

    /// Each bucket with a log, ascending.
    pub(crate) fn into_inner(self) -> Vec<(i32, u64)> {
        self.0
    }

    /// As kept: of each bucket its distance from the one before, and its logs.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.0.len() * 3);
        let mut before = BUCKET_MIN;
        for &(bucket, count) in &self.0 {
            encode_varint(bucket.abs_diff(before).into(), &mut bytes);
            encode_varint(count, &mut bytes);
            before = bucket;
        }
        bytes
    }

    /// Counts what [`Histogram::to_bytes`] kept; false if damaged.
    pub(crate) fn merge_bytes(&mut self, mut bytes: &[u8]) -> bool {
        let mut bucket = BUCKET_MIN;
        while !bytes.is_empty() {
            let (Ok(step), Ok(count)) = (decode_varint(&mut bytes), decode_varint(&mut bytes))
            else {
                return false;
            };
            let Some(next) = i32::try_from(step).ok().and_then(|step| bucket.checked_add(step))
            else {
                return false;
            };
            bucket = next;
            self.add(bucket, count);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use logweir_core::latency::bucket_of;

    proptest! {
        #[test]
        fn what_is_kept_adds_up(
            left in prop::collection::vec(0.0..1e9_f64, 0..50),
            right in prop::collection::vec(0.0..1e9_f64, 0..50),
        ) {
            let of = |latencies: &[f64]| {
                let mut histogram = Histogram::default();
                latencies.iter().for_each(|latency| histogram.add(bucket_of(*latency), 1));
                histogram
            };
            let mut kept = Histogram::default();
            prop_assert!(kept.merge_bytes(&of(&left).to_bytes()));
            kept.merge(&of(&right));
            prop_assert_eq!(kept, of(&[left, right].concat()));
        }

        #[test]
        fn damaged_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let histogram = Histogram::default();
            let read = histogram.clone().merge_bytes(&bytes);
            prop_assert!(read || !bytes.is_empty());
        }
    }
}
