//! Sessions of made-up systems: what is usual stays quiet, what is broken is found and named.

use proptest::prelude::*;

use super::*;
use crate::model::ModelError;

/// A small generator, so that every run is the same.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }

    fn one_in(&mut self, bound: u64) -> bool {
        self.below(bound) == 0
    }
}

const STORE: [u64; 3] = [10, 11, 12];

/// Three copies are stored side by side, then read in a loop; one in forty moves a copy.
fn storage(random: &mut Random) -> Vec<u64> {
    let mut session = vec![1];
    let mut copies = [0; 3];
    while copies.iter().any(|step| *step < STORE.len()) {
        let copy = random.below(3) as usize;
        if let Some(event) = STORE.get(copies[copy]) {
            session.push(*event);
            copies[copy] += 1;
        }
    }
    for _ in 0..random.below(5) {
        session.extend([20, 21]);
    }
    if random.one_in(40) {
        session.extend([30, 31, 32]);
    }
    session.extend([40, 40, 40]);
    session
}

/// Logging in, a cart with some goods, payment that is now and then tried twice.
fn shop(random: &mut Random) -> Vec<u64> {
    let mut session = vec![101, 102];
    for _ in 0..=random.below(4) {
        session.extend([110, 111]);
        if random.one_in(3) {
            session.push(112);
        }
    }
    session.push(120);
    if random.one_in(30) {
        session.extend([121, 120]);
    }
    session.extend([130, 140]);
    session
}

fn normal(random: &mut Random) -> Vec<u64> {
    if random.one_in(3) { shop(random) } else { storage(random) }
}

/// Breaks a session in one of six ways.
fn broken(random: &mut Random, kind: usize) -> Vec<u64> {
    let mut session = normal(random);
    let at = 1 + random.below(session.len() as u64 - 2) as usize;
    match kind {
        0 => session.insert(at, 999),
        1 => session.truncate(at),
        2 => drop(session.remove(0)),
        3 => session.insert(at, if session[0] == 1 { 130 } else { 40 }),
        4 => session.extend([session[at]; 12]),
        _ => session.reverse(),
    }
    session
}

fn trained(sessions: usize) -> SequenceModel {
    let mut random = Random(7);
    let sessions: Vec<_> = (0..sessions).map(|_| normal(&mut random)).collect();
    SequenceModel::train(&sessions, SequenceParameters::default())
}

fn words(reasons: &[SequenceReason]) -> Vec<String> {
    reasons.iter().map(|reason| reason.describe(|event| event.to_string())).collect()
}

#[test]
fn broken_sessions_are_told_from_interleaved_looping_and_rare_ones() {
    for (history, recall_min, alarms_max) in [(400, 0.9, 15), (4_000, 0.93, 8)] {
        let model = trained(history);
        let mut random = Random(99);
        let alarms = (0..2_000).filter(|_| model.score(&normal(&mut random)).is_anomaly).count();
        assert!(alarms <= alarms_max, "{alarms} false alarms of 2,000 after {history}");
        let found =
            (0..600).filter(|n| model.score(&broken(&mut random, n % 6)).is_anomaly).count();
        let recall = found as f64 / 600.0;
        assert!(recall >= recall_min, "recall {recall} after {history} sessions");
        assert!(model.metrics().alarm_share < 0.004, "{:?}", model.metrics());
    }
}

#[test]
fn the_reason_names_what_is_missing_new_or_out_of_order() {
    let sessions = vec![vec![1, 2, 2, 3]; 300];
    let model = SequenceModel::train(&sessions, SequenceParameters::default());
    let reasons = |session: &[u64]| words(&model.score(session).reasons);
    assert_eq!(reasons(&[1, 2, 2, 3]), [""; 0]);
    let all = |session: &[u64], reason: &str| {
        let reasons = reasons(session);
        assert!(reasons.iter().any(|known| known == reason), "{reasons:?}");
    };
    all(&[1, 2, 2, 9, 3], "'9' was in none of 300 sessions before");
    all(&[1, 2, 2, 1, 3], "after '2', '2' normally follows '3' (100 % of 300); '1' never did");
    all(&[1, 2, 2], "after '2', '2' normally follows '3' (100 % of 300); the end never did");
    all(&[2, 2, 3], "at the beginning normally follows '1' (100 % of 300); '2' never did");
    all(
        &[1, 2, 2, 2, 2, 2, 3],
        "'2' came 5 times; when '1' comes once, it usually comes twice (100 % of 300 sessions)",
    );
}

#[test]
fn without_history_there_is_no_verdict() {
    let model = SequenceModel::train(&vec![vec![1, 2]; 20], SequenceParameters::default());
    assert!(!model.score(&[9, 9, 9]).is_anomaly);
    let model = SequenceModel::train(&[] as &[Vec<u64>], SequenceParameters::default());
    let scored = model.score(&[]);
    assert!(!scored.is_anomaly && scored.score.is_finite());
}

#[test]
fn a_model_comes_back_from_its_bytes() {
    let model = trained(300);
    let bytes = model.encode();
    assert_eq!(SequenceModel::decode(&bytes).unwrap(), model);
    assert_eq!(SequenceModel::decode(b"else"), Err(ModelError::Kind("sequence")));
    for length in (5..bytes.len()).step_by(97) {
        assert!(SequenceModel::decode(&bytes[..length]).is_err(), "{length}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn damaged_bytes_never_panic(at in 0_usize..40_000, byte: u8) {
        let mut bytes = trained(100).encode();
        let at = at % bytes.len();
        bytes[at] = byte;
        if let Ok(model) = SequenceModel::decode(&bytes) {
            let score = model.score(&[1, 10, 40, 999]).score;
            prop_assert!((0.0..=1.0).contains(&score), "{score}");
        }
    }

    #[test]
    fn any_session_has_a_score(sessions in prop::collection::vec(
        prop::collection::vec(0_u64..12, 0..40), 0..80,
    )) {
        let model = SequenceModel::train(&sessions, SequenceParameters::default());
        for session in &sessions {
            prop_assert!((0.0..=1.0).contains(&model.score(session).score));
        }
    }
}

const SECOND: i64 = 1_000_000_000;

struct Stream {
    tracker: SequenceTracker<u64>,
    now: i64,
    session: u64,
    account: usize,
}

impl Stream {
    fn new(config: TrackerConfig) -> Self {
        Self { tracker: SequenceTracker::new(config), now: 0, session: 0, account: 0 }
    }

    /// Sends sessions side by side, a log of each in turn; what was said at once.
    fn send(&mut self, kind: SessionKind, sessions: &[Vec<u64>]) -> Vec<SequenceScore> {
        let first = self.session;
        self.session += sessions.len() as u64;
        let longest = sessions.iter().map(Vec::len).max().unwrap_or(0);
        let mut scores = Vec::new();
        for step in 0..longest {
            for (session, events) in (first..).zip(sessions) {
                let Some(&event) = events.get(step) else { continue };
                self.now += 1_000_000;
                let received_unix_nano = self.now;
                let account = self.account;
                let log =
                    SequenceLog { account, scope: 5, session, kind, event, received_unix_nano };
                scores.extend(self.tracker.observe(log, || session));
            }
        }
        scores
    }

    /// Lets time pass until traces are over.
    fn rest(&mut self) -> Vec<ClosedSession<u64>> {
        self.now += 61 * SECOND;
        self.tracker.advance(self.now);
        self.tracker.alarms()
    }

    /// Alarms of so many rounds of twenty normal sessions.
    fn normal(&mut self, random: &mut Random, rounds: usize) -> usize {
        let mut alarms = 0;
        for _ in 0..rounds {
            let sessions: Vec<_> = (0..20).map(|_| normal(random)).collect();
            alarms += self.send(SessionKind::Trace, &sessions).len() + self.rest().len();
        }
        alarms
    }
}

#[test]
fn traces_are_judged_as_their_logs_come_and_when_they_end() {
    let (mut stream, mut random) = (Stream::new(TrackerConfig::default()), Random(3));
    stream.normal(&mut random, 300);
    let alarms = stream.normal(&mut random, 100);
    assert!(alarms <= 10, "{alarms} false alarms of 2,000");

    let odd = vec![101, 102, 110, 111, 120, 140, 130];
    let at_once = stream.send(SessionKind::Trace, &[odd]);
    let reasons = words(&at_once[0].reasons);
    assert!(reasons[0].contains("120") && reasons[0].ends_with("'140' never did"), "{reasons:?}");
    assert_eq!(stream.rest(), [], "a session alarms once");

    let cut = vec![1, 10, 11, 12, 10, 11, 12, 10, 11, 12, 40, 40];
    assert_eq!(stream.send(SessionKind::Trace, &[cut]), []);
    let closed = stream.rest();
    assert_eq!((closed.len(), closed[0].logs), (1, 12));
    let reasons = words(&closed[0].scored.reasons);
    assert!(reasons.iter().any(|reason| reason.contains("'40' came twice")), "{reasons:?}");
}

#[test]
fn what_stays_changed_stops_to_alarm() {
    let (mut stream, mut random) = (Stream::new(TrackerConfig::default()), Random(4));
    stream.normal(&mut random, 200);
    let changed: Vec<_> = (0..20).map(|_| vec![101, 102, 120, 777, 130, 140]).collect();
    let mut alarms = Vec::new();
    for _ in 0..20 {
        let at_once = stream.send(SessionKind::Trace, &changed).len();
        alarms.push(at_once + stream.rest().len());
    }
    assert!(alarms[0] > 0, "{alarms:?}");
    assert_eq!(alarms[10..], [0; 10], "{alarms:?}");
}

#[test]
fn an_instance_is_judged_by_windows() {
    let mut stream = Stream::new(TrackerConfig::default());
    let beat = |pause: bool| -> Vec<u64> {
        (0..64_000).map(|n| if pause && n % 64 == 40 { 7 } else { n % 4 }).collect()
    };
    assert_eq!(stream.send(SessionKind::Window, &[beat(false)]).len(), 0);
    stream.session -= 1;
    let scores = stream.send(SessionKind::Window, &[beat(true)[..64].to_vec()]);
    let reasons = words(&scores[0].reasons);
    assert!(reasons[0].ends_with("'7' never did"), "{reasons:?}");
    assert_eq!(stream.tracker.stats().scored, 1_001);
}

#[test]
fn memory_stays_within_bounds() {
    let model = SequenceParameters {
        contexts_max: 1_000,
        events_max: 500,
        ..TrackerConfig::default().model
    };
    let config = TrackerConfig { model, sessions_max: 100, ..TrackerConfig::default() };
    let (mut stream, mut random) = (Stream::new(config), Random(5));
    for _ in 0..200 {
        let sessions: Vec<Vec<u64>> =
            (0..150).map(|_| (0..20).map(|_| random.below(1 << 40)).collect()).collect();
        stream.send(SessionKind::Trace, &sessions);
    }
    let stats = stream.tracker.stats();
    assert!(stats.sessions <= 100 && stats.contexts <= 1_000 && stats.dropped > 0, "{stats:?}");
    let metrics = stream.tracker.model().metrics();
    assert!(metrics.events <= 500, "{metrics:?}");
    assert!(stream.tracker.alarms().len() <= 256);
}

#[test]
fn a_flood_of_sessions_drops_its_own() {
    let config = TrackerConfig { sessions_max: 300, ..TrackerConfig::default() };
    let mut stream = Stream::new(config);
    // Whether the flood comes first or not, a hundred of 400 are less than the share of either.
    for first in [0, 100] {
        stream.account = 1;
        stream.send(SessionKind::Trace, &vec![vec![1]; 300 - first]);
        let dropped = stream.tracker.stats().dropped;
        stream.account = 0;
        stream.send(SessionKind::Trace, &vec![vec![1]; 100]);
        stream.account = 1;
        stream.send(SessionKind::Trace, &vec![vec![1]; 5_000]);
        let (of_a, of_b) = (stream.tracker.open(0), stream.tracker.open(1));
        assert_eq!((of_a, stream.tracker.stats().sessions), (100, of_a + of_b));
        assert!(stream.tracker.stats().dropped > dropped + 4_000 && (200..=300).contains(&of_b));
        stream.rest();
    }
}

#[test]
fn a_stored_model_goes_on_where_it_was() {
    let (mut stream, mut random) = (Stream::new(TrackerConfig::default()), Random(6));
    stream.normal(&mut random, 300);
    let stored = SequenceModel::decode(&stream.tracker.model().encode()).unwrap();
    stream.tracker = SequenceTracker::resume(TrackerConfig::default(), stored);
    let odd = vec![101, 102, 110, 111, 120, 140, 130];
    assert_eq!(stream.send(SessionKind::Trace, &[odd]).len(), 1);
}
