//! How long something unusual stays unusual.
//!
//! What alarms is kept out of what is learned, or a fault would teach the detector to ignore it
//! within seconds. But a new level that stays is no fault: after [`USUAL_NANOS`] it is accepted. So
//! is what has come and gone [`EPISODES_MAX`] times.

use logweir_core::timestamp::{NANOS_PER_HOUR, NANOS_PER_MINUTE};

/// What has alarmed for so long is usual from then on: half an hour of event time.
pub(crate) const USUAL_NANOS: i64 = NANOS_PER_HOUR / 2;
/// Without an alarm for so long, the next is another episode: ten minutes.
pub(crate) const GAP_NANOS: i64 = 10 * NANOS_PER_MINUTE;
/// What has come up in so many episodes is a habit.
const EPISODES_MAX: u8 = 4;

/// A run of alarms with one cause.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Episode {
    since_unix_nano: i64,
    last_unix_nano: i64,
    count: u8,
}

/// What an alarm is to its episode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// It begins one.
    First,
    /// It belongs to one.
    Continuing,
    /// It went on for so long, or came up so often, that it is usual.
    Usual,
}

impl Episode {
    /// Takes in an alarm.
    pub(crate) fn alarm(&mut self, time_unix_nano: i64) -> Phase {
        if !self.is_running(time_unix_nano) {
            self.count += 1;
            (self.since_unix_nano, self.last_unix_nano) = (time_unix_nano, time_unix_nano);
            return if self.count > EPISODES_MAX { self.end() } else { Phase::First };
        }
        self.last_unix_nano = self.last_unix_nano.max(time_unix_nano);
        if self.nanos(time_unix_nano) > USUAL_NANOS { self.end() } else { Phase::Continuing }
    }

    /// Whether an alarm now would belong to it.
    pub(crate) fn is_running(&self, time_unix_nano: i64) -> bool {
        self.count > 0 && time_unix_nano.saturating_sub(self.last_unix_nano) <= GAP_NANOS
    }

    /// How long it has gone on.
    pub(crate) fn nanos(&self, time_unix_nano: i64) -> i64 {
        time_unix_nano.saturating_sub(self.since_unix_nano)
    }

    fn end(&mut self) -> Phase {
        *self = Self::default();
        Phase::Usual
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: i64 = 60_000_000_000;

    #[test]
    fn what_goes_on_becomes_usual() {
        let mut episode = Episode::default();
        assert_eq!(episode.alarm(0), Phase::First);
        let phases: Vec<Phase> = (1..=31).map(|n| episode.alarm(n * MINUTE)).collect();
        assert!(phases[..30].iter().all(|phase| *phase == Phase::Continuing));
        assert_eq!(phases[30], Phase::Usual);
    }

    #[test]
    fn what_comes_again_and_again_becomes_usual() {
        let mut episode = Episode::default();
        let phases: Vec<Phase> = (0..5).map(|n| episode.alarm(n * 60 * MINUTE)).collect();
        assert_eq!(phases[..4], [Phase::First; 4]);
        assert_eq!(phases[4], Phase::Usual);
    }
}
