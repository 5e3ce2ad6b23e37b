//! A set of sequence numbers, from 1, as ranges: what a producer has delivered. Producers number
//! their batches without gaps, so it stays small. It keeps at most [`RANGES_MAX`] ranges and then
//! forgets which of the lowest numbers it has, but not that it has forgotten.

use metrics::counter;
use prost::encoding::{decode_varint, encode_varint};

/// About 8 KiB at the worst. A producer with more gaps than this has lost track itself.
const RANGES_MAX: usize = 1_000;
/// Missing ranges that a report shows of a producer.
pub(crate) const MISSING_RANGES_MAX: usize = 10;

/// A set of numbers. Ranges are inclusive, ascending and never touch. One that begins with 0 stands
/// for what is forgotten.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct RangeSet(Vec<(u64, u64)>);

/// Whether a number is in a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Membership {
    In,
    Out,
    /// It may have been in it: the set has forgotten its lowest numbers.
    Forgotten,
}

impl RangeSet {
    /// Adds a number.
    pub(crate) fn insert(&mut self, number: u64) {
        let position = self.0.partition_point(|&(_, last)| last < number);
        if self.0.get(position).is_some_and(|&(first, _)| first <= number) {
            return;
        }
        // What is forgotten never grows upwards by joining: a number beside it that is known to be
        // there would become one of which it is not known.
        let joins_before = position > 0
            && self.0[position - 1].1 + 1 == number
            && !is_forgotten(self.0[position - 1]);
        let joins_after =
            self.0.get(position).is_some_and(|&(first, _)| number.checked_add(1) == Some(first));
        match (joins_before, joins_after) {
            (true, true) => {
                self.0[position - 1].1 = self.0[position].1;
                self.0.remove(position);
            }
            (true, false) => self.0[position - 1].1 = number,
            (false, true) => self.0[position].0 = number,
            (false, false) => self.0.insert(position, (number, number)),
        }
        if self.0.len() > RANGES_MAX {
            self.forget_lowest();
        }
    }

    /// Puts the two lowest ranges and the gap between them into one that stands for all below.
    fn forget_lowest(&mut self) {
        // The lowest, because a gap among old sequences is the least likely to be filled. Marked
        // and not just dropped: a repeat of a dropped one would be stored twice.
        let (_, forgotten) = self.0.remove(1);
        self.0[0] = (0, forgotten);
        counter!("logweir_storage_sequence_ranges_forgotten_total").increment(1);
    }

    /// Whether it has the number.
    pub(crate) fn find(&self, number: u64) -> Membership {
        let position = self.0.partition_point(|&(_, last)| last < number);
        match self.0.get(position) {
            Some(&range) if is_forgotten(range) => Membership::Forgotten,
            Some(&(first, _)) if first <= number => Membership::In,
            _ => Membership::Out,
        }
    }

    /// The first `limit` ranges from 1, or from what is forgotten, on that are missing below its
    /// highest number.
    pub(crate) fn missing(&self, limit: usize) -> Vec<(u64, u64)> {
        let mut next = 1;
        let mut missing = Vec::new();
        for &(first, last) in &self.0 {
            if first > next {
                missing.push((next, first - 1));
            }
            next = last.saturating_add(1);
            if missing.len() == limit {
                break;
            }
        }
        missing
    }

    /// As kept in the table: of each range how far it begins after the end of the one before, and
    /// its length less one.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.0.len() * 4);
        let mut end = 0;
        for &(first, last) in &self.0 {
            encode_varint(first - end, &mut bytes);
            encode_varint(last - first, &mut bytes);
            end = last;
        }
        bytes
    }

    /// From [`RangeSet::to_bytes`]; none if damaged.
    pub(crate) fn from_bytes(mut bytes: &[u8]) -> Option<Self> {
        let mut ranges = Vec::new();
        let mut end = 0_u64;
        while !bytes.is_empty() {
            // Checked: damaged bytes may be any distance, and a sum that wraps would say that
            // sequences were delivered that never were.
            let first = end.checked_add(decode_varint(&mut bytes).ok()?)?;
            let last = first.checked_add(decode_varint(&mut bytes).ok()?)?;
            ranges.push((first, last));
            end = last;
        }
        Some(Self(ranges))
    }
}

const fn is_forgotten((first, _): (u64, u64)) -> bool {
    first == 0
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn of(numbers: impl IntoIterator<Item = u64>) -> RangeSet {
        let mut set = RangeSet::default();
        numbers.into_iter().for_each(|number| set.insert(number));
        set
    }

    #[test]
    fn numbers_in_order_are_one_range() {
        assert_eq!(of(1..=1_000).0, [(1, 1_000)]);
        assert!(of(1..=1_000).to_bytes().len() <= 3);
    }

    #[test]
    fn gaps_are_missing() {
        assert_eq!(of([2, 3, 7]).missing(10), [(1, 1), (4, 6)]);
        assert_eq!(of([2, 3, 7]).missing(1), [(1, 1)]);
        assert_eq!(of([1, u64::MAX]).missing(10), [(2, u64::MAX - 1)]);
        assert_eq!(of([]).missing(10), []);
    }

    #[test]
    fn the_lowest_are_forgotten_at_the_limit() {
        let mut set = of((0..2_000).map(|n| n * 2 + 1));
        assert_eq!(set.0.len(), RANGES_MAX);
        // A thousand ranges: one for all that is forgotten, and 999 of one number each.
        let known_from = 2 * 1_001 + 1;
        for number in 1..known_from - 1 {
            assert_eq!(set.find(number), Membership::Forgotten, "{number}");
        }
        assert_eq!(set.find(known_from - 1), Membership::Out);
        assert_eq!(set.find(known_from), Membership::In);
        assert_eq!(set.missing(1), [(known_from - 1, known_from - 1)]);
        for number in [4, known_from - 1] {
            set.insert(number);
        }
        assert_eq!(set.find(4), Membership::Forgotten);
        assert_eq!(set.find(known_from - 1), Membership::In);
        assert_eq!(RangeSet::from_bytes(&set.to_bytes()), Some(set));
    }

    proptest! {
        #[test]
        fn it_is_a_set(numbers in prop::collection::vec(1_u64..200, 0..200)) {
            let model: BTreeSet<u64> = numbers.iter().copied().collect();
            let set = of(numbers);
            for number in 1..=200 {
                let found = if model.contains(&number) { Membership::In } else { Membership::Out };
                prop_assert_eq!(set.find(number), found);
            }
            prop_assert!(set.0.windows(2).all(|pair| pair[0].1 + 1 < pair[1].0));
            prop_assert_eq!(RangeSet::from_bytes(&set.to_bytes()), Some(set));
        }

        #[test]
        fn damaged_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            if let Some(set) = RangeSet::from_bytes(&bytes) {
                set.find(5);
                set.missing(10);
            }
        }
    }
}
