//! Rules with a number, from rows to what is told: lines, changes of the rules, and logs that come
//! late.

use std::{collections::BTreeSet, time::Duration};

use logweir_alerting::{
    detector::window::Bucket,
    incident::Incidents,
    notify::{pipeline::due, policy::NotificationPolicy},
    rule::{
        engine::Engine,
        observations::{Observations, RuleMatches, Watermarks},
    },
};
use logweir_core::timestamp::Timestamp;
use logweir_incident::{
    incident::IncidentState,
    notification::NotificationKind,
    rule::{Direction, Rule, RuleKind, Threshold},
};

const SECOND: Duration = Duration::from_secs(1);
const START: Timestamp = Timestamp::from_unix_seconds(1_767_571_200);

fn errors(for_seconds: u32) -> Rule {
    let threshold = Threshold::Absolute(100.0);
    let measure = RuleKind::ErrorCount { window_seconds: 10, threshold };
    Rule { for_seconds, keep_firing_seconds: 20, ..Rule::new("errors", measure) }
}

struct Case {
    engine: Engine,
    /// Where the next bucket begins.
    next: Timestamp,
    /// To be seen with the next bucket.
    matches: Vec<RuleMatches>,
    /// Rules whose matches nobody looks for.
    unseen: BTreeSet<String>,
    /// Buckets that have passed, to be seen with the next one.
    late: Vec<Bucket>,
}

impl Case {
    fn new(rule: Rule) -> Self {
        Self {
            engine: Engine::new("t", vec![rule], Incidents::default()),
            next: START,
            matches: Vec::new(),
            unseen: BTreeSet::new(),
            late: Vec::new(),
        }
    }

    /// The bucket so many seconds before the next, with more errors than it had.
    fn late(&mut self, seconds_ago: u32, errors: u64) {
        self.late.push(Bucket {
            start: self.next - seconds_ago * SECOND,
            total: 1_000 + errors,
            errors,
            ..Bucket::default()
        });
    }

    /// As many errors in each bucket; what is told meanwhile.
    fn run(&mut self, seconds: u32, errors: u64) -> Vec<NotificationKind> {
        let mut told = Vec::new();
        for _ in 0..seconds / 10 {
            let bucket = Bucket {
                start: self.next,
                total: 1_000,
                errors,
                last_seen: self.next + 9 * SECOND,
                ..Bucket::default()
            };
            self.next += 10 * SECOND;
            // A second before the bucket ends, as seen two seconds later, when its logs are known.
            let now = self.next - SECOND + 2 * SECOND;
            let mut seen = Observations::bucket("shop", bucket);
            seen.matches = std::mem::take(&mut self.matches);
            seen.unseen.clone_from(&self.unseen);
            let late = std::mem::take(&mut self.late).into_iter();
            seen.buckets.splice(0..0, late.map(|bucket| ("shop".to_owned(), bucket)));
            self.engine.evaluate(now, seen, |_| None);
            let due = due(self.engine.incidents_mut(), &NotificationPolicy::default(), now);
            told.extend(due.iter().map(|notification| notification.kind));
        }
        told
    }

    fn state(&self) -> Option<IncidentState> {
        self.engine.incidents().iter().next().map(|incident| incident.state)
    }
}

#[test]
fn what_only_nears_the_line_never_fires() {
    let mut case = Case::new(errors(60));
    case.run(10, 101);
    assert_eq!(case.state(), Some(IncidentState::Pending));
    assert_eq!(case.run(300, 90), [], "above the line of recovery, below that of firing");
    // From above, 90 keeps it up: the recovery share is 0.8 of 100.
    let mut case = Case::new(errors(60));
    assert_eq!(case.run(70, 101), [NotificationKind::Opened]);
    assert_eq!(case.run(300, 90), [], "it goes on down to the line of recovery");
}

#[test]
fn what_a_person_resolved_opens_anew_only_above_the_line() {
    let mut case = Case::new(errors(0));
    assert_eq!(case.run(10, 150), [NotificationKind::Opened]);
    let id = case.engine.incidents().iter().next().unwrap().id.clone();
    assert!(case.engine.incidents_mut().resolve(&id, "ann", "", case.next));
    assert_eq!(case.run(100, 90), [NotificationKind::Resolved]);
    assert_eq!(case.run(10, 150), [NotificationKind::Opened]);
}

#[test]
fn what_no_rule_asks_about_any_longer_ends() {
    let narrowed = Rule { services: vec!["till".to_owned()], ..errors(0) };
    let threshold = Threshold::Absolute(0.9);
    let measure = RuleKind::ErrorRate { window_seconds: 10, threshold };
    let other = Rule::new("errors", measure);
    for rules in [vec![narrowed], vec![other], vec![]] {
        let mut case = Case::new(errors(0));
        assert_eq!(case.run(10, 150), [NotificationKind::Opened]);
        case.engine.set_rules(rules);
        assert_eq!(case.run(10, 150), [NotificationKind::Resolved]);
        let mut case = Case::new(errors(60));
        case.run(10, 150);
        case.engine.set_rules(Vec::new());
        case.run(10, 150);
        assert_eq!(case.state(), None, "nothing pending is left of a rule that is gone");
    }
}

#[test]
fn matches_are_not_forgotten_as_they_pass_out_of_sight() {
    let threshold = Threshold::Absolute(50.0);
    let filter = "boom".to_owned();
    let measure = RuleKind::MatchCount { filter, window_seconds: 60, threshold };
    let mut case = Case::new(Rule::new("boom", measure));
    case.run(10, 0);
    let seen = |total| RuleMatches {
        rule: "boom".to_owned(),
        service: "shop".to_owned(),
        bucket: Bucket { start: START, total, ..Bucket::default() },
    };
    // Seen whole, and once more when most of the bucket has passed out of sight.
    case.matches = vec![seen(60), seen(3)];
    assert_eq!(case.run(10, 0), [NotificationKind::Opened]);
    let measure =
        RuleKind::MatchCount { filter: "other".to_owned(), window_seconds: 60, threshold };
    case.engine.set_rules(vec![Rule { keep_firing_seconds: 0, ..Rule::new("boom", measure) }]);
    assert_eq!(
        case.run(10, 0),
        [NotificationKind::Resolved],
        "of another filter nothing was counted"
    );
}

#[test]
fn of_a_rule_that_waits_for_its_turn_nothing_is_said() {
    let threshold = Threshold::Absolute(50.0);
    let measure = RuleKind::MatchCount { filter: "boom".to_owned(), window_seconds: 60, threshold };
    let seen = |start| RuleMatches {
        rule: "boom".to_owned(),
        service: "shop".to_owned(),
        bucket: Bucket { start, total: 60, ..Bucket::default() },
    };
    let rule = Rule { keep_firing_seconds: 0, ..Rule::new("boom", measure) };
    let mut case = Case::new(rule);
    case.matches = vec![seen(START)];
    assert_eq!(case.run(20, 0), [NotificationKind::Opened]);
    case.unseen = ["boom".to_owned()].into();
    assert_eq!(case.run(200, 0), [], "nobody has looked whether it is over");
    case.unseen.clear();
    assert_eq!(case.run(10, 0), [NotificationKind::Resolved]);
    // What it then finds of the time in which it waited is judged all the same.
    case.unseen = ["boom".to_owned()].into();
    let passed = case.next;
    assert_eq!(case.run(200, 0), []);
    case.unseen.clear();
    case.matches = vec![seen(passed)];
    assert_eq!(case.run(20, 0)[0], NotificationKind::Opened);
}

/// More than a hundred errors within thirty seconds.
fn half_minute() -> Rule {
    let threshold = Threshold::Absolute(100.0);
    let measure = RuleKind::ErrorCount { window_seconds: 30, threshold };
    Rule { keep_firing_seconds: 20, ..Rule::new("errors", measure) }
}

#[test]
fn errors_that_come_late_are_told_once_and_end_as_others_do() {
    use NotificationKind::{Opened, Resolved};
    for seconds_ago in [40, 120, 800] {
        let mut case = Case::new(half_minute());
        assert_eq!(case.run(1_000, 0), []);
        // In two buckets of one window, neither of them enough by itself.
        case.late(seconds_ago, 70);
        case.late(seconds_ago - 10, 70);
        assert_eq!(case.run(10, 0), [Opened], "{seconds_ago}");
        assert_eq!(case.run(60, 0), [Resolved], "{seconds_ago}");
        // Of what grows further in that window people know.
        case.late(seconds_ago + 70, 200);
        assert_eq!(case.run(60, 0), [], "{seconds_ago}");
    }
    let mut case = Case::new(half_minute());
    case.run(2_000, 0);
    case.late(1_000, 200);
    assert_eq!(case.run(60, 0), [], "beyond the bound nothing is judged again");
}

#[test]
fn where_errors_always_come_late_there_is_one_incident() {
    let mut case = Case::new(half_minute());
    case.run(100, 0);
    let mut told = Vec::new();
    for _ in 0..30 {
        case.late(60, 101);
        told.extend(case.run(10, 0));
    }
    assert_eq!(told, [NotificationKind::Opened]);
    assert_eq!(case.run(60, 0), [NotificationKind::Resolved]);
}

#[test]
fn late_errors_of_a_service_that_was_never_seen_are_judged() {
    let mut case = Case::new(half_minute());
    case.late(60, 150);
    assert_eq!(case.run(10, 0), [NotificationKind::Opened]);
}

#[test]
fn late_errors_must_last_as_long_as_the_rule_asks_for() {
    for (buckets, told) in [(1, &[][..]), (3, &[NotificationKind::Opened][..])] {
        let mut case = Case::new(Rule { for_seconds: 40, ..half_minute() });
        case.run(200, 0);
        (0..buckets).for_each(|bucket| case.late(120 - 10 * bucket, 101));
        assert_eq!(case.run(10, 0), told, "{buckets} buckets");
    }
}

#[test]
fn late_logs_are_no_reason_to_call_a_window_too_quiet() {
    let threshold = Threshold::Absolute(10.0);
    let direction = Direction::Down;
    let measure = RuleKind::Volume { window_seconds: 30, direction, threshold };
    let mut case = Case::new(Rule::new("few logs", measure));
    // Seen for the first time: whether more was logged then, nobody knows.
    case.late.push(Bucket { start: case.next - 100 * SECOND, total: 1, ..Bucket::default() });
    assert_eq!(case.run(60, 0), []);
}

#[test]
fn matches_that_come_late_are_judged() {
    let threshold = Threshold::Absolute(50.0);
    let filter = "boom".to_owned();
    let measure = RuleKind::MatchCount { filter, window_seconds: 30, threshold };
    let mut case = Case::new(Rule::new("boom", measure));
    case.run(200, 0);
    let bucket = Bucket { start: case.next - 100 * SECOND, total: 60, ..Bucket::default() };
    let (rule, service) = ("boom".to_owned(), "shop".to_owned());
    case.matches = vec![RuleMatches { rule, service, bucket }];
    assert_eq!(case.run(10, 0), [NotificationKind::Opened]);
}

#[test]
fn a_service_that_lagged_wants_its_rows_from_where_it_was_left() {
    let mut case = Case::new(errors(0));
    case.run(100, 0);
    let evaluated = case.next - SECOND;
    let later = evaluated + 1_200 * SECOND;
    assert_eq!(case.engine.wanted_from(&Watermarks::new(), later), evaluated);
    let unknown = Watermarks::from([("shop".to_owned(), None)]);
    assert_eq!(case.engine.wanted_from(&unknown, later), later, "it will not be evaluated");
    let known = Watermarks::from([("shop".to_owned(), Some(later))]);
    // Buckets are kept for an hour: what lies further back could not be evaluated.
    let much_later = evaluated + 7_200 * SECOND;
    assert_eq!(case.engine.wanted_from(&known, much_later), evaluated + 3_600 * SECOND);
}
