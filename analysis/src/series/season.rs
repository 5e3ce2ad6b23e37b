//! What is usual at an hour of the day, or of the week.

use std::time::Duration;

use logweir_core::timestamp::nanos_of;

const HOUR_NANOS: i64 = nanos_of(Duration::from_secs(3_600));
const DAY_NANOS: i64 = 24 * HOUR_NANOS;
/// Slots of a day: half an hour each.
pub(super) const DAY_SLOTS: usize = 48;
/// Slots of a week: an hour each.
pub(super) const WEEK_SLOTS: usize = 168;
/// Weeks for which an hour of the week must have been seen before it is trusted.
const WEEK_VISITS_MIN: u8 = 3;
/// Rows of a half hour of the day that must have been seen before it is trusted.
const DAY_ROWS_MIN: f32 = 6.0;
/// Visits over which a slot forgets.
const MEMORY_VISITS: f64 = 8.0;
/// A row moves a slot by no more than this many usual deviations, so that an outlier teaches
/// little.
const CLIP: f32 = 6.0;
/// Weight of a row in the usual deviation, once there are enough.
const DEVIATION_WEIGHT: f32 = 0.002;

/// A time of the day or of the week.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Slot {
    pub(super) mean: f32,
    pub(super) rows: f32,
    /// Days or weeks on which it was seen.
    pub(super) visits: u8,
}

impl Slot {
    fn learn(&mut self, value: f32, clip: f32, rows_per_visit: f64, is_new_visit: bool) {
        self.visits = self.visits.saturating_add(u8::from(is_new_visit));
        let rows_max = (MEMORY_VISITS * rows_per_visit).max(1.0) as f32;
        self.rows = (self.rows + 1.0).min(rows_max);
        // Not the first rows, which must be free to find the level at all.
        let is_clipped = self.rows > DAY_ROWS_MIN;
        let clip = if is_clipped { clip } else { f32::MAX };
        self.mean += ((value - self.mean) / self.rows).clamp(-clip / self.rows, clip / self.rows);
    }
}

/// The rhythm of a series, by UTC.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Season {
    pub(super) day: [Slot; DAY_SLOTS],
    pub(super) week: [Slot; WEEK_SLOTS],
    /// The slots of the last row.
    pub(super) last: (u32, u32),
    /// How far rows are from what is usual at their time of day, on average.
    pub(super) deviation: f32,
    pub(super) deviation_rows: f32,
}

impl Season {
    pub(super) fn new() -> Self {
        Self {
            day: [Slot::default(); DAY_SLOTS],
            week: [Slot::default(); WEEK_SLOTS],
            // No slot's number, so that the first row is a visit.
            last: (u32::MAX, u32::MAX),
            deviation: 0.0,
            deviation_rows: 0.0,
        }
    }

    /// What is usual at this half hour of the day, if it is known.
    pub(super) fn day(&self, time_unix_nano: i64) -> Option<f64> {
        let slot = &self.day[slots(time_unix_nano).0];
        // Series with few rows an hour never have six in a half hour; a second day serves as well.
        let is_known = slot.rows > DAY_ROWS_MIN || slot.visits > 1;
        is_known.then_some(f64::from(slot.mean))
    }

    /// What is usual at this hour of the week, if it is known.
    pub(super) fn week(&self, time_unix_nano: i64) -> Option<f64> {
        let slot = &self.week[slots(time_unix_nano).1];
        (slot.visits >= WEEK_VISITS_MIN).then_some(f64::from(slot.mean))
    }

    /// Learns a row; `interval_nanos` is the time between two rows.
    pub(super) fn learn(&mut self, time_unix_nano: i64, value: f32, interval_nanos: f64) {
        let (day, week) = slots(time_unix_nano);
        let rows_of_hour = HOUR_NANOS as f64 / interval_nanos.max(1.0);
        let clip = self.clip(value - self.day[day].mean);
        self.day[day].learn(value, clip, rows_of_hour / 2.0, self.last.0 != day as u32);
        self.week[week].learn(value, clip, rows_of_hour, self.last.1 != week as u32);
        self.last = (day as u32, week as u32);
    }

    /// Learns the usual deviation; how much of one a slot may learn.
    fn clip(&mut self, deviation: f32) -> f32 {
        self.deviation_rows = (self.deviation_rows + 1.0).min(1.0 / DEVIATION_WEIGHT);
        let clip = if self.deviation > 0.0 { CLIP * self.deviation } else { f32::MAX };
        self.deviation += (deviation.abs().min(clip) - self.deviation) / self.deviation_rows;
        clip
    }
}

/// The half hour of the day and the hour of the week, which begins on a Thursday, as 1970 did.
fn slots(time_unix_nano: i64) -> (usize, usize) {
    let day = time_unix_nano.rem_euclid(DAY_NANOS) / (DAY_NANOS / DAY_SLOTS as i64);
    let week = time_unix_nano.rem_euclid(7 * DAY_NANOS) / HOUR_NANOS;
    (day as usize, week as usize)
}
