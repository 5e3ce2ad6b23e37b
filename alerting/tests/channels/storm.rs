//! Hours of trouble on a simulated clock: the worker's decisions without its waiting.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use logweir_alerting::{
    channel::{ChannelLimits, Failure, Receipt, SendError, slack::SLACK_RATE},
    notify::outbox::Started,
    notify::plan::{Plan, PlannedMessage, plan},
    notify::worker::{begin, end},
};
use logweir_core::timestamp::Timestamp;
use logweir_incident::{channel::BreakerState, notification::NotificationKind, rule::Severity};
use proptest::prelude::*;

use crate::harness::{MemoryOutbox, Record, notification};

const START: Timestamp = Timestamp::EPOCH;
const SECOND: Duration = Duration::from_secs(1);
const SLACK: ChannelLimits = ChannelLimits { rate: SLACK_RATE, digest_over: Some(5) };

/// What the destination does with a message, and whether the process then lives to record it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Taken,
    TakenInSilence,
    TakenThenKilled,
    Refused(u16),
    Limited,
    /// It fails, and asks for a pause as long as what waits may wait.
    Closed,
    Unreachable,
}

impl Fate {
    fn is_taken(self) -> bool {
        matches!(self, Self::Taken | Self::TakenInSilence | Self::TakenThenKilled)
    }

    fn sent(self) -> Result<Receipt, SendError> {
        let error = |failure, may_have_arrived| SendError {
            failure,
            text: "as the test has it".into(),
            may_have_arrived,
        };
        let failing = Failure::Failing { pause: None };
        Err(match self {
            Self::Taken | Self::TakenThenKilled => return Ok(Receipt::default()),
            Self::TakenInSilence => error(failing, true),
            Self::Refused(_) => error(failing, true),
            Self::Limited => {
                error(Failure::RateLimited { pause: Some(Duration::from_secs(9)) }, false)
            }
            Self::Closed => {
                error(Failure::Failing { pause: Some(Duration::from_secs(86_400)) }, true)
            }
            Self::Unreachable => error(failing, false),
        })
    }
}

/// One call of the destination.
struct Call {
    at: Timestamp,
    key: String,
    names: BTreeSet<String>,
    is_over: BTreeSet<String>,
    fate: Fate,
}

struct World {
    outbox: std::sync::Arc<MemoryOutbox>,
    now: Timestamp,
    calls: Vec<Call>,
}

impl World {
    fn new() -> Self {
        Self { outbox: MemoryOutbox::new(), now: START, calls: Vec::new() }
    }

    fn tell(&self, id: usize, kind: NotificationKind, severity: Severity) {
        self.outbox.add(notification(&format!("i{id}"), kind, severity, self.now));
    }

    /// Lets the worker work until a moment, each message meeting its fate.
    fn run_until(&mut self, until: Timestamp, mut fate: impl FnMut(Timestamp) -> Fate) {
        while self.now < until {
            let queue = self.outbox.load_now();
            match plan(&queue, SLACK, self.now) {
                Plan::Idle => self.now = until,
                Plan::Wait(at) => {
                    assert!(at > self.now, "it would spin");
                    self.now = at.min(until);
                }
                Plan::HandOver { ids, .. } => self.outbox.hand_over_now(&ids),
                Plan::GiveUp(_) => panic!("nothing is a day old"),
                Plan::Send(planned) => {
                    let fate = fate(self.now);
                    self.send(&planned, begin(queue.state, SLACK, self.now), fate);
                }
            }
        }
    }

    fn send(
        &mut self,
        planned: &PlannedMessage,
        state: logweir_incident::channel::ChannelState,
        fate: Fate,
    ) {
        let (ids, message_key) = (planned.ids.clone(), planned.key.clone());
        self.outbox.start_now(&Started { ids, message_key, state: state.clone() }).unwrap();
        let all =
            std::iter::once(&planned.notification.incident).chain(&planned.notification.others);
        self.calls.push(Call {
            at: self.now,
            key: planned.key.clone(),
            names: all.clone().map(|incident| incident.id.clone()).collect(),
            is_over: all
                .filter(|incident| incident.resolved_at.is_some())
                .map(|incident| incident.id.clone())
                .collect(),
            fate,
        });
        // So long a call takes, which the pace between messages must not count twice.
        self.now += SECOND / 20;
        // A process that is killed here leaves the message begun and not ended, and the next one
        // repeats it.
        if fate != Fate::TakenThenKilled {
            // The middle of what chance draws: the pauses are then those that are documented.
            let finished = end(planned, state, fate.sent(), (SLACK, self.now, 0.5));
            self.outbox.finish_now(&finished).unwrap();
        }
    }

    fn record(&self) -> Record {
        self.outbox.record()
    }
}

#[test]
fn an_hour_without_slack_in_a_storm_of_a_thousand() {
    let mut world = World::new();
    world.outbox.fall_back_to("mail");
    for id in 0..1_000 {
        let severity = if id % 10 == 0 { Severity::Critical } else { Severity::Warning };
        world.tell(id, NotificationKind::Opened, severity);
        let next = world.now + 3 * SECOND;
        world.run_until(next, |_| Fate::Unreachable);
    }
    world.run_until(START + 3_600 * SECOND, |_| Fate::Unreachable);
    let dead = world.calls.len();
    // Five until the breaker opens, then one after 30 s, 60 s … and every ten minutes, with a
    // margin.
    assert!(dead <= 40, "{dead} calls in an hour");
    let record = world.record();
    assert!(!record.handed_over.is_empty(), "what is critical goes elsewhere");
    assert_eq!(record.changes.len(), 1, "one report that it is down");
    let back = world.now;
    // The longest pause of the breaker, ten minutes, and two to tell of everything.
    world.run_until(back + 720 * SECOND, |_| Fate::Taken);
    let sent = world.record().sent;
    assert_eq!(sent.len(), 1_000, "all are told");
    assert_eq!(sent.iter().collect::<BTreeSet<_>>().len(), 1_000, "and once");
    let after = &world.calls[dead..];
    // Two probes, then digests of a hundred each.
    assert!(after.len() <= 13, "{} messages for a thousand incidents", after.len());
    let took = after.last().unwrap().at.since(after.first().unwrap().at);
    assert!(took <= 60 * SECOND, "within a minute of its return, not {took:?}");
    assert_eq!(world.outbox.breaker().state, BreakerState::Closed);
}

#[test]
fn what_opened_and_ended_meanwhile_is_told_at_once() {
    let mut world = World::new();
    world.tell(1, NotificationKind::Opened, Severity::Warning);
    world.run_until(START + 60 * SECOND, |_| Fate::Unreachable);
    world.tell(1, NotificationKind::Resolved, Severity::Warning);
    let dead = world.calls.len();
    world.run_until(START + 3_600 * SECOND, |_| Fate::Taken);
    let after = &world.calls[dead..];
    assert_eq!(after.len(), 1);
    assert_eq!(after[0].key, "i1-2-resolved");
    assert_eq!(world.record().sent.len(), 2);
}

#[test]
fn what_waited_for_a_day_is_given_up_and_what_follows_goes_where_it_began() {
    let outbox = MemoryOutbox::new();
    outbox.add(notification("a", NotificationKind::Opened, Severity::Warning, START));
    let mut queue = outbox.load_now();
    let (id, created) = (queue.deliveries[0].id, queue.deliveries[0].created_at);
    // To the nanosecond: at a day it is still told, after it no longer.
    let day = 86_400 * SECOND;
    assert!(matches!(plan(&queue, SLACK, created + day), Plan::Send(_)));
    assert_eq!(plan(&queue, SLACK, (created + day).next()), Plan::GiveUp(vec![id]));
    queue.fallbacks = vec!["other".to_owned()];
    queue.deliveries[0].follows_hand_over = true;
    let planned = plan(&queue, SLACK, created);
    assert!(matches!(planned, Plan::HandOver { ids, to, .. } if ids == [id] && to == "other"));
}

#[test]
fn what_was_handed_over_ends_there_too() {
    let mut world = World::new();
    world.outbox.fall_back_to("mail");
    world.tell(1, NotificationKind::Opened, Severity::Critical);
    world.run_until(START + 200 * SECOND, |_| Fate::Unreachable);
    assert_eq!(world.record().handed_over, ["i1-1-opened"]);
    world.run_until(START + 1_000 * SECOND, |_| Fate::Taken);
    world.tell(1, NotificationKind::Resolved, Severity::Critical);
    world.run_until(START + 1_100 * SECOND, |_| Fate::Taken);
    let record = world.record();
    assert_eq!(record.sent, ["i1-1-opened", "i1-2-resolved"]);
    assert_eq!(record.handed_over, ["i1-1-opened", "i1-2-resolved"]);
}

#[test]
fn who_asks_for_pauses_for_two_minutes_is_told_elsewhere() {
    let mut world = World::new();
    world.outbox.fall_back_to("mail");
    world.tell(1, NotificationKind::Opened, Severity::Critical);
    world.tell(2, NotificationKind::Opened, Severity::Warning);
    world.run_until(START + 119 * SECOND, |_| Fate::Limited);
    assert!(world.record().handed_over.is_empty(), "a short pause is waited for");
    world.run_until(START + 130 * SECOND, |_| Fate::Limited);
    assert_eq!(world.record().handed_over, ["i1-1-opened"], "what is critical");
    world.run_until(START + 300 * SECOND, |_| Fate::Taken);
    assert_eq!(world.record().sent.len(), 2, "and here once it takes messages again");
}

#[test]
fn who_fails_and_asks_for_a_day_is_told_elsewhere_and_tried_within_it() {
    let mut world = World::new();
    world.outbox.fall_back_to("mail");
    world.tell(1, NotificationKind::Opened, Severity::Critical);
    world.run_until(START + 125 * SECOND, |_| Fate::Closed);
    assert_eq!(world.record().handed_over, ["i1-1-opened"]);
    world.run_until(START + 23 * 3_600 * SECOND, |_| Fate::Taken);
    assert_eq!(world.record().sent, ["i1-1-opened"]);
}

fn fates() -> impl Strategy<Value = Vec<Fate>> {
    // Mostly it works: a destination that fails more often is never called often enough to do harm.
    let fate = prop_oneof![
        12 => Just(Fate::Taken),
        1 => Just(Fate::TakenInSilence),
        2 => Just(Fate::TakenThenKilled),
        2 => Just(Fate::Refused(500)),
        2 => Just(Fate::Limited),
        1 => Just(Fate::Unreachable),
    ];
    prop::collection::vec(fate, 400)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Whatever a destination does and whenever the process is killed: every notification is told,
    /// no end before its beginning, no repeat but under the key of a call that may have been taken,
    /// and the pace and each wish for a pause are kept.
    #[test]
    fn nothing_is_missed_and_repeats_can_be_told(
        fates in fates(),
        incidents in prop::collection::vec((0_u32..40, 1_u32..60), 1..60),
    ) {
        let mut world = World::new();
        let mut events: Vec<(u32, usize, NotificationKind)> = Vec::new();
        let mut at = 0;
        for (id, (gap, lasts)) in incidents.iter().enumerate() {
            at += gap;
            events.push((at, id, NotificationKind::Opened));
            events.push((at + lasts, id, NotificationKind::Resolved));
        }
        events.sort_by_key(|event| event.0);
        let mut fates = fates.into_iter().chain(std::iter::repeat(Fate::Taken));
        for (at, id, kind) in &events {
            world.run_until(START + *at * SECOND, |_| fates.next().unwrap());
            let severity = if id % 3 == 0 { Severity::Critical } else { Severity::Warning };
            world.tell(*id, *kind, severity);
        }
        // Less than a day after the first event, or what waits would be given up.
        let end = world.now + 24 * 3_600 * SECOND - 3_000 * SECOND;
        world.run_until(end, |_| fates.next().unwrap());

        let record = world.record();
        prop_assert_eq!(record.sent.len(), events.len());
        let mut taken: BTreeMap<&str, bool> = BTreeMap::new();
        let mut told: BTreeSet<&str> = BTreeSet::new();
        let mut ended: BTreeSet<&str> = BTreeSet::new();
        // Of each call and the next: nothing is sent sooner than the destination allows.
        for (call, next) in world.calls.iter().zip(world.calls.iter().skip(1)) {
            prop_assert!(next.at.since(call.at) >= SECOND, "the pace is kept");
            if call.fate == Fate::Limited {
                prop_assert!(next.at.since(call.at) >= 9 * SECOND, "Retry-After is kept");
            }
        }
        for call in &world.calls {
            if call.fate.is_taken() {
                let repeats = taken.insert(&call.key, call.fate == Fate::Taken);
                // Only a call whose answer was lost may be made again.
                prop_assert!(repeats != Some(true), "{} was recorded and told again", call.key);
                for name in &call.names {
                    prop_assert!(
                        told.insert(name) || call.is_over.contains(name) || repeats.is_some(),
                        "{} was told twice under two keys", name
                    );
                    if call.is_over.contains(name) {
                        ended.insert(name);
                    } else {
                        prop_assert!(!ended.contains(name.as_str()), "{} ended before it began", name);
                    }
                }
            }
        }
    }
}
