//! The highest level that was credibly reached in health, over a week.

use logweir_core::timestamp::Timestamp;

/// Slots that a level waits before it counts: three hours. A fault that rises slowly must not raise
/// the peak that it is measured against.
const SLOTS: usize = 18;
const SLOT_SECONDS: i64 = 600;
/// Days that are kept: a week, and the day that has begun.
const DAYS: usize = 8;
const DAY_SECONDS: i64 = 86_400;

/// The highest level that was credibly reached in health: how much it varies by nature.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct WeeklyPeak {
    /// The highest level of each of the last slots, which still wait.
    slots: [f32; SLOTS],
    newest_slot: i64,
    /// The highest level of each of the last days.
    days: [f32; DAYS],
    newest_day: i64,
}

impl WeeklyPeak {
    /// The level; 0 if none is known. While a service is young, what is ten minutes old counts
    /// already: it has nothing else.
    pub(crate) fn limit(&self, is_young: bool) -> f64 {
        // What still waits in slots is left out: it may turn out to be a fault.
        let days = self.days.iter().copied().fold(0.0, f32::max);
        if !is_young {
            return days.into();
        }
        let newest = self.newest_slot.rem_euclid(SLOTS as i64) as usize;
        let fresh = self.slots.iter().enumerate().filter(|(place, _)| *place != newest);
        fresh.map(|(_, level)| *level).fold(days, f32::max).into()
    }

    /// Takes in a level that was reached at a moment.
    pub(crate) fn learn(&mut self, at: Timestamp, level: f64) {
        let slot = at.as_unix_seconds().div_euclid(SLOT_SECONDS);
        if slot > self.newest_slot {
            // Slots that nothing was learnt in are emptied as well, or a level would come round
            // again after three hours.
            for step in (self.newest_slot + 1..=slot).rev().take(SLOTS) {
                let place = step.rem_euclid(SLOTS as i64) as usize;
                self.commit(at, self.slots[place]);
                self.slots[place] = 0.0;
            }
            self.newest_slot = slot;
        }
        let place = &mut self.slots[slot.rem_euclid(SLOTS as i64) as usize];
        *place = place.max(level as f32);
    }

    fn commit(&mut self, at: Timestamp, level: f32) {
        let day = at.as_unix_seconds().div_euclid(DAY_SECONDS);
        for step in (self.newest_day + 1..=day).rev().take(DAYS) {
            self.days[step.rem_euclid(DAYS as i64) as usize] = 0.0;
        }
        self.newest_day = self.newest_day.max(day);
        let place = &mut self.days[day.rem_euclid(DAYS as i64) as usize];
        *place = place.max(level);
    }

    /// Forgets what still waits, since it belonged to a fault.
    pub(crate) fn forget_fresh(&mut self) {
        self.slots = [0.0; SLOTS];
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// 2026-01-05T00:00:00Z, a Monday.
    const MONDAY: Timestamp = Timestamp::from_unix_seconds(1_767_571_200);
    const HOUR: Duration = Duration::from_secs(3_600);

    #[test]
    fn a_ceiling_waits_and_fades() {
        let mut peak = WeeklyPeak::default();
        peak.learn(MONDAY, 0.3);
        assert_eq!(peak.limit(false), 0.0);
        peak.learn(MONDAY + 4 * HOUR, 0.1);
        assert!((peak.limit(false) - 0.3).abs() < 1e-6);
        peak.learn(MONDAY + 240 * HOUR, 0.1);
        assert!(peak.limit(false) < 0.3);
    }
}
