//! Places that all tenants share: who may take more, and who makes room.
//!
//! Who may take more is [`Threshold`]'s to say. But unlike the buffers of a switch, what is held here
//! does not drain by itself: whoever came first would keep most for good, and each that comes later
//! a fraction of what the one before it left. So who is refused is made room for by the one that holds
//! most (*longest queue drop*, Suter et al. 1998), unless that holds about as much as it does.
//!
//! From both follows the promise: one that holds less than about `total × α / (1 + nα)` of what n
//! tenants share never loses any of it to another, whatever they do.

use logweir_core::fairness::threshold::Threshold;

// So that what is left always admits the next one: a fourth of all.
/// One may hold so many times what is left.
const ALPHA: u64 = 3;
// Two that are even would else take from each other without end, for each is the larger one by
// turns.
/// Who holds less than this part more than another does not make room for it.
const MARGIN: u64 = 16;

/// What each account holds of something, by numbers that the caller gives them, from 0 on.
#[derive(Debug)]
pub(crate) struct Shares {
    rule: Threshold,
    held: Vec<u64>,
    held_by_all: u64,
}

impl Shares {
    /// One account alone may hold `alone_max`, all together a third more.
    pub(crate) fn new(alone_max: usize) -> Self {
        let rule = Threshold::for_one(alone_max as u64, ALPHA);
        Self { rule, held: Vec::new(), held_by_all: 0 }
    }

    pub(crate) fn held(&self, account: usize) -> u64 {
        self.held.get(account).copied().unwrap_or(0)
    }

    pub(crate) fn held_by_all(&self) -> u64 {
        self.held_by_all
    }

    pub(crate) fn admits(&self, account: usize, asked: u64) -> bool {
        self.rule.admits(self.held(account), self.held_by_all, asked)
    }

    /// Takes note that an account holds something else than before, by whatever way it came to.
    pub(crate) fn change(&mut self, account: usize, before: u64, after: u64) {
        if self.held.len() <= account {
            self.held.resize(account + 1, 0);
        }
        self.held[account] = self.held[account] + after - before;
        self.held_by_all = self.held_by_all + after - before;
    }

    /// Whose place one is to get that was not admitted: its own, if none has much more.
    pub(crate) fn victim(&self, account: usize) -> usize {
        let own = self.held(account);
        let most = self.held.iter().enumerate().max_by_key(|&(_, held)| held);
        let victim = most.filter(|&(_, held)| held - held / MARGIN > own);
        victim.map_or(account, |(victim, _)| victim)
    }

    /// How much must go for one that was not admitted: what was asked for, and what all hold beyond the
    /// total because something grew that nobody was asked about.
    pub(crate) fn missing(&self, asked: u64) -> u64 {
        asked + self.held_by_all.saturating_sub(self.rule.total)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ALONE_MAX: usize = 300;
    const TOTAL: u64 = 400;

    /// Takes a place as a detector does; who lost for it, and what that had.
    fn take(shares: &mut Shares, account: usize) -> Option<(usize, u64)> {
        let mut lost = None;
        if !shares.admits(account, 1) {
            let victim = shares.victim(account);
            let (held, gone) = (shares.held(victim), shares.missing(1));
            shares.change(victim, held, held - gone);
            lost = Some((victim, held));
        }
        let held = shares.held(account);
        shares.change(account, held, held + 1);
        lost
    }

    #[test]
    fn one_alone_has_all_that_it_was_given() {
        let mut shares = Shares::new(ALONE_MAX);
        (0..ALONE_MAX).for_each(|_| assert_eq!(take(&mut shares, 0), None));
        assert_eq!(take(&mut shares, 0), Some((0, 300)));
        assert_eq!(take(&mut shares, 1), None);
    }

    #[test]
    fn whoever_comes_late_gets_as_much_as_the_first() {
        let mut shares = Shares::new(ALONE_MAX);
        for account in 0..5 {
            for _ in 0..1_000 {
                take(&mut shares, account);
            }
        }
        assert!((0..5).all(|account| shares.held(account) >= 66), "{shares:?}");
    }

    proptest! {
        #[test]
        fn no_more_than_the_total_and_below_its_share_nobody_loses(
            takes in prop::collection::vec((0..6_usize, 1..300_usize), 1..40),
        ) {
            let mut shares = Shares::new(ALONE_MAX);
            // A fifteenth less than the even share, for the margin, and one for the rounding.
            let share = TOTAL * ALPHA * 15 / 16 / (1 + 6 * ALPHA) - 1;
            for (account, times) in takes {
                for _ in 0..times {
                    let lost = take(&mut shares, account);
                    prop_assert!(lost.is_none_or(|(_, held)| held > share), "{lost:?} {shares:?}");
                    prop_assert!(shares.held_by_all() <= TOTAL);
                    prop_assert_eq!(shares.held_by_all(), shares.held.iter().sum::<u64>());
                }
            }
        }
    }
}
