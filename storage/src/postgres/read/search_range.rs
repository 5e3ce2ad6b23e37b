//! Which stretch of time to look through next: the stored buckets say how many logs that may match
//! lie where, so that a search reads few rows in vain at a time, whatever it looks for, and passes
//! over the times that have none.

use crate::time_buckets::HOUR_SECONDS;

/// Logs that may match, in the stored bucket that starts at this second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Crowd {
    pub(crate) start: i64,
    pub(crate) logs: u64,
}

/// Seconds, from inclusive, to exclusive, with the width of the buckets that it is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stretch {
    pub(crate) from: i64,
    pub(crate) to: i64,
    pub(crate) width: i64,
    pub(crate) logs: u64,
}

impl Stretch {
    /// From the first crowd on as far as needed to have `wanted` logs; nothing without crowds.
    pub(crate) fn over(crowds: &[Crowd], width: i64, wanted: u64) -> Option<Self> {
        let first = crowds.first()?;
        let mut stretch =
            Self { from: first.start, to: first.start.saturating_add(width), width, logs: 0 };
        for crowd in crowds {
            stretch.from = stretch.from.min(crowd.start);
            stretch.to = stretch.to.max(crowd.start.saturating_add(width));
            stretch.logs = stretch.logs.saturating_add(crowd.logs);
            if stretch.logs >= wanted {
                break;
            }
        }
        Some(stretch)
    }

    /// Whether narrower buckets tell more: one hour with far more than is wanted.
    pub(crate) fn is_crowded(&self, wanted: u64) -> bool {
        self.width == HOUR_SECONDS && self.to - self.from == HOUR_SECONDS && self.logs / 4 > wanted
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time_buckets::FINE_SECONDS;

    #[test]
    fn a_stretch_goes_on_until_it_has_enough() {
        let crowds = [(7_200, 5), (3_600, 6), (-3_600, 100)];
        let crowds = crowds.map(|(start, logs)| Crowd { start, logs });
        let over = |wanted| Stretch::over(&crowds, HOUR_SECONDS, wanted).unwrap();
        let all =
            [(5, 7_200, 5), (6, 3_600, 11), (11, 3_600, 11), (12, -3_600, 111), (999, -3_600, 111)];
        for (wanted, from, logs) in all {
            assert_eq!(over(wanted), Stretch { from, to: 10_800, width: HOUR_SECONDS, logs });
        }
        assert_eq!(Stretch::over(&[], HOUR_SECONDS, 1), None);
        let forward = [(0, 1), (3_600, 1)].map(|(start, logs)| Crowd { start, logs });
        let stretch = Stretch::over(&forward, HOUR_SECONDS, 2).unwrap();
        assert_eq!((stretch.from, stretch.to), (0, 7_200));
    }

    #[test]
    fn only_one_crowded_hour_is_worth_a_closer_look() {
        let stretch = |to, logs| Stretch { from: 0, to, width: HOUR_SECONDS, logs };
        assert!(stretch(3_600, 404).is_crowded(100));
        assert!(!stretch(3_600, 403).is_crowded(100));
        assert!(!stretch(7_200, 9_999).is_crowded(100));
        assert!(!Stretch { width: FINE_SECONDS, ..stretch(3_600, 9_999) }.is_crowded(100));
    }
}
