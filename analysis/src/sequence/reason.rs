//! Why a session is unusual, and how to say so.

use std::cmp::Ordering;

use super::grams::{END, START};

/// Why a session, or a step in it, is unusual.
#[derive(Debug, Clone, PartialEq)]
pub enum SequenceReason {
    /// An event that is in few sessions, or in none.
    Event {
        /// The event.
        event: u64,
        /// Sessions that had it before.
        sessions: u32,
        /// Of so many.
        total: u32,
    },
    /// A step that did not follow before, or seldom.
    Transition {
        /// What came before, one to three events.
        after: Vec<u64>,
        /// What followed this time.
        event: u64,
        /// How often it followed before.
        seen: u32,
        /// What follows most often, and how often.
        usual: Option<(u64, u32)>,
        /// How often what came before was there.
        total: u32,
    },
    /// An event that came too often, too seldom or not at all, beside another.
    Count {
        /// The event.
        event: u64,
        /// How often it came.
        count: u32,
        /// The other event.
        given: u64,
        /// How often that came.
        given_count: u32,
        /// How often it usually comes then; of large numbers, at least.
        usual: u32,
        /// In so many sessions.
        sessions: u32,
        /// Of so many.
        total: u32,
    },
    /// An event that came more often, less often or as often as another.
    Balance {
        /// The event.
        event: u64,
        /// How often it came.
        count: u32,
        /// The other event.
        given: u64,
        /// How often that came.
        given_count: u32,
        /// How the first's count usually compares.
        usual: Ordering,
        /// In so many sessions.
        sessions: u32,
        /// Of so many.
        total: u32,
    },
}

impl SequenceReason {
    /// The reason in a person's words; `name` knows what an event is called.
    pub fn describe(&self, name: impl Fn(u64) -> String) -> String {
        let name = |event: u64| format!("'{}'", name(event));
        match self {
            Self::Event { event, sessions: 0, total } => {
                format!("{} was in none of {total} sessions before", name(*event))
            }
            Self::Event { event, sessions, total } => {
                format!("{} was in only {sessions} of {total} sessions before", name(*event))
            }
            Self::Transition { after, event, seen, usual, total } => {
                transition(after, *event, *seen, *usual, *total, name)
            }
            Self::Count { event, count, given, given_count, usual, sessions, total } => format!(
                "{} came {}; when {} comes {}, it usually comes {} ({} of {total} sessions)",
                name(*event),
                times(*count),
                name(*given),
                times(*given_count),
                times(*usual),
                of(*sessions, *total),
            ),
            Self::Balance { event, count, given, given_count, usual, sessions, total } => format!(
                "{} came {} and {} {}; usually it comes {} ({} of {total} sessions)",
                name(*event),
                times(*count),
                name(*given),
                times(*given_count),
                match usual {
                    Ordering::Less => "less often than that",
                    Ordering::Equal => "as often as that",
                    Ordering::Greater => "more often than that",
                },
                of(*sessions, *total),
            ),
        }
    }
}

fn transition(
    after: &[u64],
    event: u64,
    seen: u32,
    usual: Option<(u64, u32)>,
    total: u32,
    name: impl Fn(u64) -> String,
) -> String {
    let named: Vec<String> =
        after.iter().filter(|event| **event != START).map(|event| name(*event)).collect();
    let before = match (after.first() == Some(&START), named.is_empty()) {
        (true, true) => "at the beginning".to_owned(),
        (true, false) => format!("at the beginning, after {}", named.join(", ")),
        (false, _) => format!("after {}", named.join(", ")),
    };
    let what = |event: u64| match event {
        END => "the end".to_owned(),
        event => name(event),
    };
    let usual = match usual {
        Some((usual, times)) => {
            format!("normally follows {} ({} of {total})", what(usual), of(times, total))
        }
        None => "nothing else is usual".to_owned(),
    };
    let seen = match seen {
        0 => "never did".to_owned(),
        seen => format!("did {}", times(seen)),
    };
    format!("{before} {usual}; {} {seen}", what(event))
}

fn times(count: u32) -> String {
    match count {
        0 => "not at all".to_owned(),
        1 => "once".to_owned(),
        2 => "twice".to_owned(),
        count => format!("{count} times"),
    }
}

/// A share in words; what is not all is never 100 %.
fn of(part: u32, whole: u32) -> String {
    let share = 100.0 * f64::from(part) / f64::from(whole.max(1));
    format!("{} %", if part < whole { share.min(99.0) } else { share } as u32)
}
