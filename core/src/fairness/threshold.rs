//! Who may take how much of something of which there is a fixed amount. Pure.
//!
//! The rule is that of dynamic thresholds in switches with a shared buffer (Choudhury and Hahne,
//! "Dynamic Queue Length Thresholds for Shared-Memory Packet Switches", 1998): nobody may hold more
//! than a multiple of what is left. It needs no list of tenants and no setting for each: one alone
//! may use most of it and never all, so that the next one always finds room.

/// A bound on what each holder may have of a shared amount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Threshold {
    /// What there is.
    pub total: u64,
    /// A holder may have this many times what is left.
    pub alpha: u64,
}

impl Threshold {
    /// The rule of which one holder alone may use `alone_max`.
    pub const fn for_one(alone_max: u64, alpha: u64) -> Self {
        Self { total: alone_max.saturating_add(alone_max.div_ceil(alpha)), alpha }
    }

    /// Whether one that holds `held`, while all together hold `held_by_all`, may take more. One that
    /// holds nothing is admitted whenever there is room: what is left is for the next one.
    pub const fn admits(self, held: u64, held_by_all: u64, asked: u64) -> bool {
        let Some(left) = self.total.saturating_sub(held_by_all).checked_sub(asked) else {
            return false;
        };
        held == 0 || held.saturating_add(asked) <= self.alpha.saturating_mul(left)
    }

    /// The most that one may hold while all together hold `held_by_all`, its own part included.
    pub const fn share(self, held: u64, held_by_all: u64) -> u64 {
        let others = held_by_all.saturating_sub(held);
        let room = self.total.saturating_sub(others) as u128;
        let alpha = self.alpha as u128;
        // `share = alpha * (room - share)`; no larger than a `u64`, since `room` is none.
        (room * alpha / (1 + alpha)) as u64
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn one_alone_has_what_it_was_given_and_no_more() {
        let rule = Threshold::for_one(100, 4);
        assert_eq!((rule.total, rule.share(0, 0)), (125, 100));
        assert!(rule.admits(99, 99, 1));
        assert!(!rule.admits(100, 100, 1));
    }

    proptest! {
        #[test]
        fn whatever_is_asked_the_total_holds_and_a_newcomer_finds_room(
            asks in prop::collection::vec((0..5_usize, 1..50_u64), 1..200),
            alpha in 1..8_u64,
        ) {
            let rule = Threshold { total: 1_000, alpha };
            let mut held = [0; 5];
            for (holder, asked) in asks {
                let all = held.iter().sum();
                if rule.admits(held[holder], all, asked) {
                    held[holder] += asked;
                    // A first take is bounded by the room alone; any other leaves its share free.
                    let left = rule.total - all - asked;
                    prop_assert!(held[holder] == asked || held[holder] <= alpha * left);
                } else if held[holder] == 0 {
                    prop_assert!(all + asked > rule.total);
                }
                prop_assert!(held.iter().sum::<u64>() <= rule.total);
            }
        }

        #[test]
        fn one_reaches_its_share_step_by_step(others in 0..1_000_u64, alpha in 1..8_u64) {
            let rule = Threshold { total: 1_000, alpha };
            let mut held = 0;
            while rule.admits(held, others + held, 1) {
                held += 1;
            }
            prop_assert!(held.abs_diff(rule.share(held, others + held)) <= 1);
        }
    }
}
