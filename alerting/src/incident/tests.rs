use std::collections::{HashMap, HashSet};

use logweir_incident::{
    notification::{Notification, NotificationKind},
    policy::Reminders,
    suppression::{Matchers, MuteTime, Silence, Suppression},
};
use proptest::prelude::*;

use super::*;
use crate::notify::{pipeline::due, policy::NotificationPolicy};

const START: Timestamp = Timestamp::from_unix_seconds(1_767_571_200);
const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(86_400);

struct Case {
    incidents: Incidents,
    now: Timestamp,
    suppression: Suppression,
    notifications: Vec<Notification>,
}

impl Case {
    fn new() -> Self {
        let suppression = Suppression::default();
        Self { incidents: Incidents::default(), now: START, suppression, notifications: Vec::new() }
    }

    fn breach(severity: Severity) -> Breach {
        Breach { confidence: Confidence::Certain, severity, evidence: Evidence::default() }
    }

    /// A rule speaks, through this much event time behind now.
    fn say(&mut self, service: &str, breach: Option<Breach>, behind: Duration) {
        let labels = Labels::new();
        let origin = Origin {
            tenant: "t",
            rule: "r",
            kind: "error_rate",
            service,
            labels: &labels,
            channels: &[],
            runbook: "",
        };
        let result = RuleResult {
            series: service,
            at: self.now - behind,
            known_through: self.now - behind,
            now: self.now,
            breach,
            for_seconds: 10,
            keep_firing_seconds: 60,
        };
        self.incidents.apply(&result, &origin);
    }

    fn tell(&mut self) -> Vec<NotificationKind> {
        let policy = NotificationPolicy {
            suppression: self.suppression.clone(),
            reminders: Reminders::default(),
        };
        let told = due(&mut self.incidents, &policy, self.now);
        let kinds = told.iter().map(|notification| notification.kind).collect();
        self.notifications.extend(told);
        kinds
    }

    /// Says the same every two seconds; what was told.
    fn run(&mut self, seconds: u32, breach: Option<Severity>) -> Vec<NotificationKind> {
        let mut told = Vec::new();
        for _ in 0..seconds / 2 {
            self.now += 2 * SECOND;
            self.say("s", breach.map(Self::breach), Duration::ZERO);
            told.extend(self.tell());
        }
        told
    }

    fn id(&self) -> String {
        self.incidents.open("s").unwrap().incident.id.clone()
    }
}

use NotificationKind::{Digest, Escalated, Opened, Reminder, Resolved, Updated};

#[test]
fn what_came_late_and_is_over_is_told_whole_and_once() {
    let mut case = Case::new();
    let replay = |case: &mut Case| {
        for second in 0..400 {
            let breach = (second % 200 < 20).then(|| Case::breach(Severity::Warning));
            case.say("s", breach, (400 - second) * SECOND);
        }
        case.tell()
    };
    assert_eq!(replay(&mut case), [Opened, Resolved, Opened, Resolved], "two, each with an id");
    let keys: HashSet<&str> =
        case.notifications.iter().map(|notification| notification.key.as_str()).collect();
    assert_eq!(keys.len(), 4);
    // Another process takes over and evaluates the same time again.
    case.incidents = restarted(&case);
    assert_eq!(replay(&mut case), []);
}

#[test]
fn what_came_late_under_a_mute_time_stays_suppressed() {
    let mut case = Case::new();
    case.suppression.mute_times.push(MuteTime {
        name: "always".to_owned(),
        matchers: Matchers::from([("severity".to_owned(), "warning".to_owned())]),
        weekdays: Vec::new(),
        // From midnight to midnight: the whole day.
        from_minute: 0,
        to_minute: 0,
        utc_offset_minutes: 0,
    });
    for second in 0..100 {
        let breach = (second < 20).then(|| Case::breach(Severity::Warning));
        case.say("s", breach, (100 - second) * SECOND);
    }
    assert_eq!(case.tell(), []);
    assert!(case.incidents.iter().all(|incident| incident.overlays.muted));
}

#[test]
fn it_fires_after_its_time_and_ends_after_its_time() {
    let mut case = Case::new();
    assert_eq!(case.run(10, Some(Severity::Warning)), []);
    assert_eq!(case.run(2, Some(Severity::Warning)), [Opened]);
    assert_eq!(case.run(58, None), []);
    assert_eq!(case.run(2, None), [Resolved]);
    let incident = &case.notifications[1].incident;
    assert_eq!(incident.firing_at, Some(START + 12 * SECOND));
    assert_eq!(incident.resolved_at, Some(START + 72 * SECOND));
    assert_eq!(case.incidents.open("s"), None);
}

#[test]
fn what_was_pending_only_is_told_to_nobody() {
    let mut case = Case::new();
    assert_eq!(case.run(8, Some(Severity::Critical)), []);
    assert_eq!(case.run(60, None), []);
    assert_eq!(case.incidents.iter().count(), 0);
}

#[test]
fn time_that_stands_still_ends_nothing() {
    let mut case = Case::new();
    case.run(12, Some(Severity::Warning));
    for minutes in 1..60 {
        case.now += 60 * SECOND;
        case.say("s", None, minutes * 60 * SECOND);
        assert_eq!(case.tell(), []);
    }
}

#[test]
fn who_does_not_acknowledge_is_told_again() {
    let mut case = Case::new();
    case.run(12, Some(Severity::Critical));
    // Three levels, ten minutes apart.
    assert_eq!(case.run(1_802, Some(Severity::Critical)), [Escalated; 3]);
    assert!(case.notifications.last().unwrap().text.contains("last level"));
    assert_eq!(case.run(14_400, Some(Severity::Critical)), [Reminder]);
    let id = case.id();
    assert!(case.incidents.acknowledge(&id, "ann", case.now));
    // Acknowledged, the first reminder takes eight hours instead of four.
    assert_eq!(case.run(14_400, Some(Severity::Critical)), [Updated]);
    assert_eq!(case.incidents.get(&id).unwrap().state, IncidentState::Acknowledged);
}

#[test]
fn what_gets_worse_is_told_at_once() {
    let mut case = Case::new();
    case.run(12, Some(Severity::Warning));
    assert_eq!(case.run(4, Some(Severity::Critical)), [Escalated]);
}

#[test]
fn a_silence_keeps_quiet_but_for_what_becomes_critical() {
    let mut case = Case::new();
    case.suppression.silences.push(Silence {
        id: "1".to_owned(),
        matchers: Matchers::from([("service".to_owned(), "s".to_owned())]),
        from: START,
        to: START + 100 * SECOND,
        author: String::new(),
        comment: String::new(),
        hides_critical: false,
    });
    assert_eq!(case.run(80, Some(Severity::Warning)), []);
    assert_eq!(case.run(2, Some(Severity::Critical)), [Opened]);
    let mut case = Case { suppression: case.suppression, ..Case::new() };
    assert_eq!(case.run(98, Some(Severity::Warning)), []);
    assert_eq!(case.run(4, Some(Severity::Warning)), [Opened]);
    let mut case = Case { suppression: case.suppression, ..Case::new() };
    assert_eq!(case.run(20, Some(Severity::Warning)), []);
    // It ended before anybody was told.
    assert_eq!(case.run(200, None), []);
}

#[test]
fn who_snoozes_hears_of_it_when_the_time_has_come() {
    let mut case = Case::new();
    case.run(12, Some(Severity::Warning));
    let id = case.id();
    assert!(case.incidents.snooze(&id, "ann", case.now + 600 * SECOND, case.now));
    assert_eq!(case.run(598, Some(Severity::Warning)), []);
    assert_eq!(case.run(4, Some(Severity::Warning)), [Reminder]);
    assert_eq!(case.run(600, Some(Severity::Warning)), [], "once");
}

#[test]
fn snoozed_and_muted_is_suppressed() {
    let mut case = Case::new();
    case.run(12, Some(Severity::Warning));
    let id = case.id();
    assert!(case.incidents.snooze(&id, "ann", case.now + 8 * 3_600 * SECOND, case.now));
    assert_eq!(case.run(6 * 3_600, Some(Severity::Warning)), []);
    let mut case = Case::new();
    case.suppression.mute_times.push(MuteTime {
        name: "night".to_owned(),
        matchers: Matchers::new(),
        weekdays: Vec::new(),
        from_minute: 0,
        to_minute: 10,
        utc_offset_minutes: 0,
    });
    assert_eq!(case.run(598, Some(Severity::Warning)), []);
    assert_eq!(case.run(2, Some(Severity::Warning)), [Opened]);
}

#[test]
fn what_comes_and_goes_is_told_now_and_then() {
    let mut case = Case::new();
    let mut told = Vec::new();
    for _ in 0..20 {
        told.extend(case.run(20, Some(Severity::Warning)));
        // Just long enough for it to be over, were it steady.
        told.extend(case.run(64, None));
    }
    let opened = told.iter().filter(|kind| **kind == Opened).count();
    assert!(opened <= 3, "{told:?}");
    assert!(case.run(1_900, None).contains(&Resolved) || told.contains(&Digest));
}

#[test]
fn an_incident_closed_by_hand_begins_anew_if_it_is_not_over() {
    let mut case = Case::new();
    case.run(12, Some(Severity::Warning));
    let id = case.id();
    assert!(case.incidents.resolve(&id, "ann", "fixed", case.now));
    assert_eq!(case.run(12, Some(Severity::Warning)), [Resolved, Opened]);
    assert_ne!(case.id(), id);
    assert!(!case.incidents.resolve(&id, "ann", "", case.now));
}

/// What may happen between two evaluations.
#[derive(Debug, Clone)]
enum Step {
    Say { service: u8, severity: Option<u8>, weak: bool, doubt: bool, behind: u8 },
    Pass(u16),
    Acknowledge,
    Unacknowledge,
    Snooze(u16),
    Resolve,
    Silence(u16),
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let severity = prop::option::of(0..3_u8);
    prop_oneof![
        12 => (0..3_u8, severity, any::<bool>(), any::<bool>(), any::<u8>()).prop_map(
            |(service, severity, weak, doubt, behind)| Step::Say {
                service,
                severity,
                weak,
                // Rarer than certainty, or hardly anything would ever fire.
                doubt: doubt && behind % 2 == 0,
                behind
            }
        ),
        6 => (1..400_u16).prop_map(Step::Pass),
        1 => Just(Step::Acknowledge),
        1 => Just(Step::Unacknowledge),
        1 => (1..4_000_u16).prop_map(Step::Snooze),
        1 => Just(Step::Resolve),
        1 => (1..4_000_u16).prop_map(Step::Silence),
        1 => Just(Step::Restart),
    ]
}

/// What another process makes of what this one has stored.
fn restarted(case: &Case) -> Incidents {
    let ids = case.incidents.iter().map(|incident| &incident.id);
    let stored = ids.filter_map(|id| case.incidents.stored(id)).collect();
    Incidents::restore(stored, case.now)
}

fn take(case: &mut Case, step: Step) {
    let id = case.incidents.iter().last().map(|incident| incident.id.clone()).unwrap_or_default();
    match step {
        Step::Say { service, severity, weak, doubt, behind } => {
            let severities = [Severity::Info, Severity::Warning, Severity::Critical];
            let breach = severity.map(|severity| Breach {
                confidence: match (weak, doubt) {
                    (_, true) => Confidence::Possible,
                    (true, false) => Confidence::Sustained,
                    (false, false) => Confidence::Certain,
                },
                ..Case::breach(severities[usize::from(severity)])
            });
            let behind = u32::from(behind % 4) * SECOND;
            case.say(["a", "b", "c"][usize::from(service)], breach, behind);
        }
        Step::Pass(seconds) => case.now += u32::from(seconds) * SECOND,
        Step::Acknowledge => drop(case.incidents.acknowledge(&id, "ann", case.now)),
        Step::Unacknowledge => drop(case.incidents.unacknowledge(&id, "ann", case.now)),
        Step::Snooze(seconds) => {
            let until = case.now + u32::from(seconds) * SECOND;
            case.incidents.snooze(&id, "ann", until, case.now);
        }
        Step::Resolve => drop(case.incidents.resolve(&id, "ann", "", case.now)),
        Step::Silence(seconds) => case.suppression.silences.push(Silence {
            id: String::new(),
            matchers: Matchers::new(),
            from: case.now,
            to: case.now + u32::from(seconds) * SECOND,
            author: String::new(),
            comment: String::new(),
            hides_critical: false,
        }),
        Step::Restart => {
            // Nothing is stored here, so what has changed is carried over as if a commit had
            // failed.
            let mut kept = restarted(case);
            kept.changed = case.incidents.take_changed();
            assert_eq!(kept.open, case.incidents.open);
            case.incidents = kept;
        }
    }
}

/// What a channel hears of each incident: opened first and once, resolved last and once, numbers
/// that count up, and keys that are never used twice.
fn check_notifications(notifications: &[Notification]) {
    let mut heard: HashMap<&str, Vec<&Notification>> = HashMap::new();
    let mut keys = BTreeSet::new();
    for notification in notifications {
        assert!(keys.insert(&notification.key), "{} twice", notification.key);
        heard.entry(&notification.incident.id).or_default().push(notification);
    }
    for of_one in heard.values() {
        let kinds: Vec<NotificationKind> =
            of_one.iter().map(|notification| notification.kind).collect();
        assert_eq!(kinds[0], Opened, "{kinds:?}");
        assert_eq!(kinds.iter().filter(|kind| **kind == Opened).count(), 1, "{kinds:?}");
        let resolved = kinds.iter().position(|kind| *kind == Resolved);
        assert!(resolved.is_none_or(|at| at == kinds.len() - 1), "{kinds:?}");
        assert!(
            of_one.iter().zip(1..).all(|(notification, number)| notification.sequence == number)
        );
        assert!(of_one.iter().all(|notification| notification.incident.firing_at.is_some()));
    }
}

proptest! {
    #[test]
    fn whatever_happens_the_story_is_told_in_order(steps in prop::collection::vec(step(), 1..200)) {
        let mut case = Case::new();
        for step in steps {
            take(&mut case, step);
            case.tell();
            for incident in case.incidents.iter() {
                let is_resolved = incident.state == IncidentState::Resolved;
                // No way leads from pending to resolved.
                prop_assert!(!is_resolved || incident.firing_at.is_some());
                prop_assert!(incident.timeline.len() <= logweir_incident::incident::TIMELINE_MAX);
            }
        }
        // Once all is over and nothing is suppressed, whoever heard of it hears that it is over. In
        // days, so that no silence, snooze or flapping outlasts it.
        for _ in 0..4 {
            case.now += DAY;
            for service in ["a", "b", "c"] {
                case.say(service, None, Duration::ZERO);
            }
            case.tell();
        }
        check_notifications(&case.notifications);
        let opened = case.notifications.iter().filter(|notification| notification.kind == Opened).count();
        let resolved = case.notifications.iter().filter(|notification| notification.kind == Resolved).count();
        prop_assert_eq!(opened, resolved);
    }
}
