//! Finding the items at fault when a whole cannot be stored. Pure: who asks tries the parts and
//! takes them back.

use std::ops::Range;

/// A search for the items that cannot be stored: each part that [`Bisection::next`] gives is tried,
/// and what came of it told, until there is none. Any error but one of the data ends the search.
#[derive(Debug)]
pub(crate) struct Bisection {
    /// Not tried so far, the leftmost on top.
    parts: Vec<Range<usize>>,
    at_fault: Vec<(usize, String)>,
}

impl Bisection {
    /// Among so many items.
    pub(crate) fn new(count: usize) -> Self {
        let whole = 0..count;
        Self { parts: vec![whole], at_fault: Vec::new() }
    }

    /// A part to try.
    pub(crate) fn next(&self) -> Option<Range<usize>> {
        self.parts.last().cloned()
    }

    /// What the trial of that part came to: a fault of the data, or none.
    pub(crate) fn tell(&mut self, fault: Option<String>) {
        let (Some(part), Some(cause)) = (self.parts.pop(), fault) else { return };
        if part.len() <= 1 {
            self.at_fault.push((part.start, cause));
            return;
        }
        // The left half on top, so that faults are found in ascending order, which callers rely on
        // when they walk over logs and faults side by side.
        let middle = part.start + part.len() / 2;
        self.parts.extend([middle..part.end, part.start..middle]);
    }

    /// The items at fault, each with what the trial of it alone said, ascending.
    pub(crate) fn finish(self) -> Vec<(usize, String)> {
        self.at_fault
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn find(count: usize, bad: &BTreeSet<usize>) -> (Vec<usize>, usize) {
        let mut attempts = 0;
        let mut bisection = Bisection::new(count);
        while let Some(part) = bisection.next() {
            attempts += 1;
            bisection.tell(bad.range(part).next().map(|item| format!("item {item}")));
        }
        let found = bisection.finish();
        assert!(found.iter().all(|(item, cause)| *cause == format!("item {item}")));
        (found.into_iter().map(|(item, _)| item).collect(), attempts)
    }

    #[test]
    fn one_among_many_takes_few_attempts() {
        let (found, attempts) = find(20_000, &BTreeSet::from([12_345]));
        assert_eq!(found, [12_345]);
        assert!(attempts <= 31, "{attempts}");
    }

    proptest! {
        #[test]
        fn it_finds_exactly_the_bad(count in 1_usize..300, bad in prop::collection::btree_set(0_usize..300, 0..20)) {
            let bad: BTreeSet<usize> = bad.into_iter().filter(|item| *item < count).collect();
            prop_assert_eq!(find(count, &bad).0, bad.into_iter().collect::<Vec<_>>());
        }
    }
}
