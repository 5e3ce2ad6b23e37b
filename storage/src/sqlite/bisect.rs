//! Finding the items at fault when a whole cannot be stored. Pure: the attempt is an argument.

use std::ops::Range;

/// The items that cannot be stored, each with what the attempt on it alone said, ascending.
/// `attempt` tries a part of `0..count` and takes it back; `Ok(Some(cause))` is a fault of the data.
/// Any other error ends the search.
pub(super) fn bisect<E>(
    count: usize,
    mut attempt: impl FnMut(Range<usize>) -> Result<Option<String>, E>,
) -> Result<Vec<(usize, String)>, E> {
    let mut at_fault = Vec::new();
    // Parts known to fail, the leftmost on top.
    let mut failing = Vec::new();
    if let Some(cause) = attempt(0..count)? {
        failing.push((0..count, cause));
    }
    while let Some((part, cause)) = failing.pop() {
        if part.len() <= 1 {
            at_fault.push((part.start, cause));
            continue;
        }
        let middle = part.start + part.len() / 2;
        for half in [middle..part.end, part.start..middle] {
            if let Some(cause) = attempt(half.clone())? {
                failing.push((half, cause));
            }
        }
    }
    Ok(at_fault)
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, collections::BTreeSet, convert::Infallible};

    use proptest::prelude::*;

    use super::*;

    fn find(count: usize, bad: &BTreeSet<usize>) -> (Vec<usize>, usize) {
        let attempts = Cell::new(0);
        let found = bisect::<Infallible>(count, |part| {
            attempts.set(attempts.get() + 1);
            Ok(bad.range(part).next().map(|item| format!("item {item}")))
        })
        .unwrap();
        assert!(found.iter().all(|(item, cause)| *cause == format!("item {item}")));
        (found.into_iter().map(|(item, _)| item).collect(), attempts.get())
    }

    #[test]
    fn one_among_many_takes_few_attempts() {
        let (found, attempts) = find(20_000, &BTreeSet::from([12_345]));
        assert_eq!(found, [12_345]);
        assert!(attempts <= 31, "{attempts}");
    }

    #[test]
    fn another_error_ends_it() {
        assert_eq!(bisect(10, |_| Err("disk")), Err("disk"));
    }

    proptest! {
        #[test]
        fn it_finds_exactly_the_bad(count in 1_usize..300, bad in prop::collection::btree_set(0_usize..300, 0..20)) {
            let bad: BTreeSet<usize> = bad.into_iter().filter(|item| *item < count).collect();
            prop_assert_eq!(find(count, &bad).0, bad.into_iter().collect::<Vec<_>>());
        }
    }
}
