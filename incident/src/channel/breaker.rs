//! The circuit breaker of a channel: whether to call a destination at all.
//!
//! Five failures in a row, or half of at least ten calls within a minute, open it. While it is open
//! nothing is called and what waits is put together; after a pause that doubles from 30 s to 10 min
//! one message is tried, and two that get through close it. Being told to slow down is no failure:
//! it pauses as long as the destination says. Being told that the address or the password is wrong
//! stops the channel until its settings change or a test of it succeeds; once an hour one message
//! is tried all the same, because the mistake may be the other side's and nobody may be looking.
//!
//! It is plain data, kept with the outbox, and so survives a restart and a change of the leader.

use std::{collections::VecDeque, fmt, time::Duration};

use logweir_core::timestamp::Timestamp;
use serde::{Deserialize, Serialize};

/// Failures in a row that open it.
pub const FAILURES_IN_ROW_MAX: u32 = 5;
/// How far back failures are counted.
pub const WINDOW: Duration = Duration::from_secs(60);
/// Calls in the window without which their share of failures says nothing.
pub const CALLS_MIN: usize = 10;
/// Calls that are remembered.
pub const CALLS_MAX: usize = 64;
/// The first pause, and the longest.
pub const PAUSE_FIRST: Duration = Duration::from_secs(30);
/// The longest pause.
pub const PAUSE_MAX: Duration = Duration::from_secs(600);
/// Doublings of the first pause that are computed: far more than lead to the longest one, and few
/// enough not to overflow.
const DOUBLINGS_MAX: u32 = 16;
/// Messages that must get through before it closes.
pub const PROBES_NEEDED: u32 = 2;
/// The pause when a destination asks for one and does not say how long.
pub const RATE_LIMIT_PAUSE: Duration = Duration::from_secs(60);
/// The longest pause that a destination may ask for: what waits is given up after a day.
pub const RATE_LIMIT_PAUSE_MAX: Duration = Duration::from_secs(6 * 3600);
/// How often a wrongly set channel is tried all the same.
pub const MISCONFIGURED_PAUSE: Duration = Duration::from_secs(3600);
/// Names that do not exist, in a row, that pass for a wrong setting.
pub const UNRESOLVED_MAX: u32 = 3;

/// The state of a breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum BreakerState {
    /// All is well.
    #[default]
    Closed,
    /// It fails: nothing is called before the time.
    Open {
        /// When to try.
        #[serde(rename = "until_unix_nano")]
        until: Timestamp,
    },
    /// One message at a time tries whether it works again.
    HalfOpen {
        /// Messages that got through.
        successes: u32,
    },
    /// The destination asked for a pause.
    RateLimited {
        /// When it ends.
        #[serde(rename = "until_unix_nano")]
        until: Timestamp,
        /// Messages that had got through where it was half-open before.
        probing: Option<u32>,
    },
    /// A person must look: the address, the name or the password is wrong.
    Misconfigured {
        /// When to try all the same.
        #[serde(rename = "until_unix_nano")]
        until: Timestamp,
    },
}

impl BreakerState {
    /// As in the API.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open { .. } => "open",
            Self::HalfOpen { .. } => "half_open",
            Self::RateLimited { .. } => "rate_limited",
            Self::Misconfigured { .. } => "misconfigured",
        }
    }
}

impl fmt::Display for BreakerState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What came of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallResult {
    /// The destination took the message, or found fault with the message alone.
    Well,
    /// No answer, or one that says that it fails.
    Failed,
    /// The destination's name does not exist.
    Unresolved,
    /// It wants a pause.
    RateLimited {
        /// How long, if it named a time.
        pause: Option<Duration>,
    },
    /// It says that the address or the password is wrong.
    Misconfigured,
}

/// Whether a call may be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pass {
    /// Yes.
    Open,
    /// One, to see whether it works again.
    Probe,
    /// Not before this moment.
    NotBefore(Timestamp),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Call {
    #[serde(rename = "at_unix_nano")]
    at: Timestamp,
    failed: bool,
}

/// The circuit breaker of one channel.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Breaker {
    /// Its state.
    #[serde(flatten)]
    pub state: BreakerState,
    /// Since when nothing got through, because the destination fails or wants a pause; none where
    /// the last message did.
    #[serde(rename = "down_since_unix_nano")]
    pub down_since: Option<Timestamp>,
    failures_in_row: u32,
    unresolved_in_row: u32,
    /// How often it opened without being closed in between: by this the pause grows.
    openings_in_row: u32,
    /// The last calls, oldest first.
    calls: VecDeque<Call>,
}

impl Breaker {
    /// Whether a call may be made now.
    pub fn pass(&self, now: Timestamp) -> Pass {
        // Nothing changes by asking: the state moves on only when a call is really made.
        let (until, then) = match self.state {
            BreakerState::Closed => return Pass::Open,
            BreakerState::HalfOpen { .. } => return Pass::Probe,
            BreakerState::Open { until }
            | BreakerState::Misconfigured { until }
            | BreakerState::RateLimited { until, probing: Some(_) } => (until, Pass::Probe),
            BreakerState::RateLimited { until, probing: None } => (until, Pass::Open),
        };
        if now < until { Pass::NotBefore(until) } else { then }
    }

    /// A call is about to be made, as [`Breaker::pass`] allowed.
    pub fn begin(&mut self) {
        self.state = match self.state {
            BreakerState::Open { .. } | BreakerState::Misconfigured { .. } => {
                BreakerState::HalfOpen { successes: 0 }
            }
            BreakerState::RateLimited { probing: Some(successes), .. } => {
                BreakerState::HalfOpen { successes }
            }
            // It was well before it asked for a pause, and is taken to be well after it.
            BreakerState::RateLimited { probing: None, .. } => BreakerState::Closed,
            state => state,
        };
    }

    /// A call came to its end.
    pub fn end(&mut self, result: CallResult, now: Timestamp) {
        match result {
            CallResult::Well => self.succeed(now),
            CallResult::Failed => self.fail(now),
            // A resolver may fail for a moment; a name that is wrong stays wrong.
            CallResult::Unresolved => {
                self.unresolved_in_row += 1;
                if self.unresolved_in_row >= UNRESOLVED_MAX {
                    self.misconfigure(now);
                } else {
                    self.fail(now);
                }
            }
            CallResult::RateLimited { pause } => self.pause(pause, now),
            CallResult::Misconfigured => self.misconfigure(now),
        }
    }

    /// A person changed the settings, or tested the channel with success.
    pub fn reset(&mut self) {
        *self = Self::default();
    }

    /// Whether messages are better told elsewhere: nothing got through for `patience`, or the
    /// channel is set wrongly.
    pub fn is_down(&self, patience: Duration, now: Timestamp) -> bool {
        // Whoever is to be woken does not care whether the destination fails or asks for a pause.
        matches!(self.state, BreakerState::Misconfigured { .. })
            || self.down_since.is_some_and(|since| now >= since + patience)
    }

    fn succeed(&mut self, now: Timestamp) {
        self.failures_in_row = 0;
        self.unresolved_in_row = 0;
        self.remember(false, now);
        if let BreakerState::HalfOpen { successes } = self.state {
            let successes = successes + 1;
            if successes < PROBES_NEEDED {
                self.state = BreakerState::HalfOpen { successes };
                return;
            }
            // The pauses begin with the shortest again: it has shown that it works.
            self.reset();
        }
        self.down_since = None;
    }

    fn fail(&mut self, now: Timestamp) {
        self.failures_in_row = self.failures_in_row.saturating_add(1);
        self.remember(true, now);
        // Down since the first failure, not since the one that opens it: so long people were not
        // told.
        self.down_since.get_or_insert(now);
        // While it is half-open a single failure says that nothing has changed.
        let is_probing = matches!(self.state, BreakerState::HalfOpen { .. });
        if is_probing || self.failures_in_row >= FAILURES_IN_ROW_MAX || self.half_failed(now) {
            let pause = PAUSE_FIRST.saturating_mul(1 << self.openings_in_row.min(DOUBLINGS_MAX));
            let until = now + pause.min(PAUSE_MAX);
            self.openings_in_row = self.openings_in_row.saturating_add(1);
            self.state = BreakerState::Open { until };
        }
    }

    /// Whether half of the calls within the window failed: a destination that answers now and then
    /// would never fail often enough in a row.
    fn half_failed(&self, now: Timestamp) -> bool {
        let recent = self.calls.iter().filter(|call| now.since(call.at) <= WINDOW);
        let (calls, failed) = recent
            .fold((0, 0), |(calls, failed), call| (calls + 1, failed + usize::from(call.failed)));
        calls >= CALLS_MIN && failed * 2 >= calls
    }

    fn pause(&mut self, pause: Option<Duration>, now: Timestamp) {
        let pause = pause.unwrap_or(RATE_LIMIT_PAUSE).min(RATE_LIMIT_PAUSE_MAX);
        // Two successes must still come after the pause, if it was being tried.
        let probing = match self.state {
            BreakerState::HalfOpen { successes } => Some(successes),
            _ => None,
        };
        let until = now + pause;
        self.down_since.get_or_insert(now);
        // It answered, so its name exists.
        self.unresolved_in_row = 0;
        self.state = BreakerState::RateLimited { until, probing };
    }

    fn misconfigure(&mut self, now: Timestamp) {
        self.down_since.get_or_insert(now);
        let until = now + MISCONFIGURED_PAUSE;
        self.state = BreakerState::Misconfigured { until };
    }

    fn remember(&mut self, failed: bool, at: Timestamp) {
        // It is stored with every message that is sent, and so must stay small.
        if self.calls.len() >= CALLS_MAX {
            self.calls.pop_front();
        }
        self.calls.push_back(Call { at, failed });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Timestamp = Timestamp::EPOCH;

    const fn at(second: i64) -> Timestamp {
        Timestamp::from_unix_seconds(second)
    }

    /// Plays results of calls, each at its second, and gives the states after each.
    fn play(results: &[(i64, CallResult)]) -> (Breaker, Vec<&'static str>) {
        let mut breaker = Breaker::default();
        let mut states = Vec::new();
        for &(second, result) in results {
            breaker.begin();
            breaker.end(result, at(second));
            states.push(breaker.state.name());
        }
        (breaker, states)
    }

    #[test]
    fn five_failures_in_a_row_open_it_and_two_probes_close_it() {
        use CallResult::{Failed, Well};
        let fails = [(0, Failed), (1, Failed), (2, Failed), (3, Failed), (4, Failed)];
        let (mut breaker, states) = play(&fails);
        assert_eq!(states, ["closed", "closed", "closed", "closed", "open"]);
        assert_eq!(breaker.pass(at(33)), Pass::NotBefore(at(34)));
        assert_eq!(breaker.pass(at(34)), Pass::Probe);
        breaker.begin();
        breaker.end(Well, at(34));
        assert_eq!(breaker.state, BreakerState::HalfOpen { successes: 1 });
        breaker.begin();
        breaker.end(Well, at(35));
        assert_eq!(breaker.state, BreakerState::Closed);
        assert_eq!(breaker.down_since, None);
    }

    #[test]
    fn a_success_between_failures_keeps_it_closed() {
        use CallResult::{Failed, Well};
        let answers: Vec<_> =
            // Four failures between two successes, and never ten calls within a minute.
            (0..60).map(|at| (at * 10, if at % 5 == 4 { Well } else { Failed })).collect();
        let (_, states) = play(&answers);
        assert!(states.iter().all(|state| *state == "closed"));
    }

    #[test]
    fn half_of_ten_within_a_minute_open_it() {
        use CallResult::{Failed, Well};
        let answers: Vec<_> =
            (0..10).map(|at| (at, if at % 2 == 0 { Well } else { Failed })).collect();
        let (_, states) = play(&answers);
        assert_eq!(states[8], "closed");
        assert_eq!(states[9], "open");
    }

    #[test]
    fn the_pause_doubles_up_to_ten_minutes_and_no_more() {
        let mut breaker = play(&[(0, CallResult::Failed); 5]).0;
        let mut now = START;
        let mut pauses = Vec::new();
        // Each probe fails, at the first moment at which it may be made.
        for _ in 0..7 {
            let Pass::NotBefore(until) = breaker.pass(now) else { panic!("it is open") };
            pauses.push(until.since(now).as_secs());
            now = until;
            breaker.begin();
            breaker.end(CallResult::Failed, now);
        }
        assert_eq!(pauses, [30, 60, 120, 240, 480, 600, 600]);
    }

    #[test]
    fn a_pause_is_no_failure_and_is_kept_to_the_moment() {
        let limited = CallResult::RateLimited { pause: Some(Duration::from_secs(7)) };
        let (mut breaker, states) = play(&[(0, limited)]);
        assert_eq!(states, ["rate_limited"]);
        assert_eq!(breaker.pass(at(7).previous()), Pass::NotBefore(at(7)));
        assert_eq!(breaker.pass(at(7)), Pass::Open);
        breaker.begin();
        assert_eq!(breaker.state, BreakerState::Closed);
        breaker.end(CallResult::Well, at(7));
        assert_eq!(breaker.down_since, None);
        let unsaid = play(&[(0, CallResult::RateLimited { pause: None })]).0;
        assert_eq!(unsaid.pass(START), Pass::NotBefore(at(60)));
    }

    #[test]
    fn a_pause_while_probing_ends_in_a_probe() {
        let mut breaker = play(&[(0, CallResult::Failed); 5]).0;
        breaker.begin();
        breaker.end(CallResult::Well, at(30));
        breaker.begin();
        breaker.end(CallResult::RateLimited { pause: None }, at(31));
        assert_eq!(breaker.pass(at(91)), Pass::Probe);
        breaker.begin();
        breaker.end(CallResult::Well, at(91));
        assert_eq!(breaker.state, BreakerState::Closed);
    }

    #[test]
    fn a_wrong_setting_stops_it_until_somebody_looks() {
        let (mut breaker, states) = play(&[(0, CallResult::Misconfigured)]);
        assert_eq!(states, ["misconfigured"]);
        assert!(breaker.is_down(Duration::from_secs(120), START));
        assert_eq!(breaker.pass(at(1)), Pass::NotBefore(at(3600)));
        breaker.reset();
        assert_eq!(breaker.pass(at(1)), Pass::Open);
    }

    #[test]
    fn a_name_that_does_not_exist_three_times_is_a_wrong_setting() {
        let (_, states) = play(&[(0, CallResult::Unresolved); 3]);
        assert_eq!(states, ["closed", "closed", "misconfigured"]);
    }

    #[test]
    fn it_is_down_after_patience() {
        let breaker = play(&[(0, CallResult::Failed); 5]).0;
        assert!(!breaker.is_down(Duration::from_secs(120), at(119)));
        assert!(breaker.is_down(Duration::from_secs(120), at(120)));
    }

    #[test]
    fn it_is_down_while_it_asks_for_one_pause_after_another() {
        let patience = Duration::from_secs(120);
        let day = CallResult::RateLimited { pause: Some(Duration::from_secs(24 * 3600)) };
        let minute = CallResult::RateLimited { pause: None };
        for results in [vec![(0, day)], vec![(0, minute), (60, minute), (120, minute)]] {
            let breaker = play(&results).0;
            assert!(!breaker.is_down(patience, at(119)), "{results:?}");
            assert!(breaker.is_down(patience, at(120)), "{results:?}");
        }
        let taken = play(&[(0, minute), (60, CallResult::Well), (100, minute)]).0;
        assert!(!taken.is_down(patience, at(200)), "since 100 s");
    }

    #[test]
    fn it_is_down_while_it_waits_for_its_second_try() {
        let breaker = play(&[(0, CallResult::Failed)]).0;
        assert_eq!(breaker.state, BreakerState::Closed);
        assert!(breaker.is_down(Duration::from_secs(120), at(120)));
    }

    #[test]
    fn it_is_the_same_after_being_kept() {
        let breaker = play(&[(0, CallResult::Failed); 5]).0;
        let kept = serde_json::to_string(&breaker).unwrap();
        assert_eq!(serde_json::from_str::<Breaker>(&kept).unwrap(), breaker);
    }

    #[test]
    fn moments_are_kept_under_the_names_that_they_always_had() {
        use CallResult::{Failed, Misconfigured, RateLimited};
        for results in [
            &[(1, Failed); 5][..],
            &[(1, Failed), (2, RateLimited { pause: None })],
            &[(1, Failed), (2, Misconfigured)],
        ] {
            let kept = serde_json::to_string(&play(results).0).unwrap();
            for name in ["until_unix_nano", "down_since_unix_nano", "at_unix_nano"] {
                assert!(kept.contains(&format!("\"{name}\":")), "{name}: {kept}");
            }
        }
    }
}
