use logweir_core::record::{Level, Record};
use proptest::prelude::*;

use super::*;

const SECOND: i64 = 1_000_000_000;
const START: i64 = 1_700_000_000 * SECOND;

struct Bench {
    detector: Detector,
    tenant: Tenant,
    service: Service,
    now: i64,
}

impl Bench {
    fn new(config: DetectorConfig) -> Self {
        let service = Service::new("payments").unwrap();
        Self { detector: Detector::new(config), tenant: Tenant::default(), service, now: START }
    }

    fn log(&mut self, message: &str, latency_ms: Option<f64>) -> LogScore {
        self.now += SECOND / 100;
        self.log_at(message, latency_ms, self.now)
    }

    fn log_at(&mut self, message: &str, latency_ms: Option<f64>, time_unix_nano: i64) -> LogScore {
        let message = message.to_owned();
        let record = Record { message, latency_ms, time_unix_nano, ..Record::default() };
        self.detector.observe(&ReceivedLog {
            tenant: &self.tenant,
            service: &self.service,
            instance: "",
            received_unix_nano: self.now,
            record: &record,
            level: Level::Error,
        })
    }

    /// 50 patterns, some of them rare, latencies with a heavy tail. How many alarmed.
    fn steady(&mut self, logs: u64) -> usize {
        let mut state = 7_u64;
        let mut random = move || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as f64 / (1_u64 << 31) as f64
        };
        let mut alarms = 0;
        for n in 0..logs {
            let kind = (random().powi(3) * 50.0) as usize;
            let word = ["alpha", "beta", "gamma", "delta", "eps"][kind % 5];
            let other =
                ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
                    [kind / 5];
            let latency = 100.0 / (1.0 - random()).powf(0.3);
            alarms += usize::from(
                self.log(&format!("{word} {other} order {n}"), Some(latency)).is_anomaly,
            );
        }
        alarms
    }
}

#[test]
fn steady_traffic_keeps_to_the_budget_of_false_alarms() {
    let mut bench = Bench::new(DetectorConfig::default());
    assert_eq!(bench.steady(1_000), 0, "nothing alarms while it learns");
    let alarms = bench.steady(200_000);
    assert!(alarms <= 300, "{alarms} of 200,000");
}

#[test]
fn a_new_pattern_is_an_anomaly_and_says_so() {
    let mut bench = Bench::new(DetectorConfig::default());
    bench.steady(20_000);
    let scored = bench.log("card 12 was refused by the bank", None);
    assert!(scored.is_anomaly);
    assert_eq!(
        scored.reasons,
        [
            "new ERROR pattern, seen for the first time in payments: card <*> was refused by the bank"
        ]
    );
    let scored = bench.log("card 13 was refused by the bank", None);
    let expected = "new ERROR pattern in payments: first seen 0 s ago, 1 time since: card <*> was refused by the bank";
    assert_eq!(scored.reasons, [expected]);
}

#[test]
fn what_people_say_of_a_pattern_moves_its_scores_within_bounds() {
    let message = "card 12 was refused by the bank";
    let scored = |weight: f32| {
        let mut bench = Bench::new(DetectorConfig::default());
        let known = bench.log(message, None).template.template_id;
        bench.steady(20_000);
        bench.detector.set_feedback(HashMap::from([(known, weight)]));
        bench.log(message, None)
    };
    let scores = [-9.0, -2.0, 0.0, 1.0, 2.0, 9.0].map(|weight| scored(weight).anomaly_score);
    assert!(scores.is_sorted() && scores[0] < scores[2] && scores[2] < scores[5], "{scores:?}");
    assert!(scores[0] == scores[1] && scores[4] == scores[5], "{scores:?}");
    let marked = scored(2.0);
    assert!(marked.is_anomaly, "{marked:?}");
    assert_eq!(marked.reasons.last().map(String::as_str), Some("marked as an anomaly before"));
}

#[test]
fn a_latency_far_out_is_an_anomaly_and_names_what_is_usual() {
    let mut bench = Bench::new(DetectorConfig::default());
    for n in 0..5_000 {
        bench.log("request done", Some(100.0 + f64::from(n % 100)));
    }
    let scored = bench.log("request done", Some(1_320.0));
    assert!(scored.is_anomaly && scored.anomaly_score > 0.999);
    let [reason] = &scored.reasons[..] else { panic!("{:?}", scored.reasons) };
    assert!(reason.starts_with("latency 1320 ms; this pattern's p99 is 1"), "{reason}");
    assert!(!bench.log("request done", Some(150.0)).is_anomaly);
}

#[test]
fn a_new_level_of_latency_is_usual_after_half_an_hour() {
    let mut bench = Bench::new(DetectorConfig::default());
    for n in 0..20_000 {
        bench.log("request done", Some(100.0 + f64::from(n * 7 % 50)));
    }
    let mut minute = |latency_ms: f64| {
        let alarms = (0..6_000).filter(|n| {
            let jitter = f64::from(n * 7 % 50);
            bench.log("request done", Some(latency_ms + jitter)).is_anomaly
        });
        alarms.count()
    };
    let shifted: Vec<usize> = (0..40).map(|_| minute(400.0)).collect();
    assert!(shifted[..29].iter().all(|&alarms| alarms > 5_900), "{shifted:?}");
    assert!(shifted[31..].iter().all(|&alarms| alarms < 10), "{shifted:?}");
    assert!(minute(2_000.0) > 5_900, "and the next level is another");
}

#[test]
fn a_flood_of_one_message_blinds_nobody() {
    let mut bench = Bench::new(DetectorConfig::default());
    bench.steady(50_000);
    let flood = |bench: &mut Bench, logs: u64| {
        (0..logs).filter(|n| bench.log(&format!("disk {n} is full"), None).is_anomaly).count()
    };
    assert!(flood(&mut bench, 100_000) > 99_900);
    assert!(bench.log("card 12 was refused by the bank", None).is_anomaly);
    let alarms = bench.steady(20_000);
    assert!(alarms < 60, "what was usual before the flood is usual after it: {alarms}");
    assert!(bench.log("no route to the ledger", None).is_anomaly);
    bench.now += 3_600 * SECOND;
    flood(&mut bench, 1_000);
    assert!(bench.log("the vault has no key", None).is_anomaly);
}

#[test]
fn without_a_usable_forest_the_other_scores_carry_on() {
    let mut bench = Bench::new(DetectorConfig::default());
    bench.steady(20_000);
    let (tenant, service) = (bench.tenant.clone(), bench.service.clone());
    let rows = bench.detector.sample(&ModelScope::Service(tenant.clone(), service.clone()));
    assert!(rows.len() > 500 && bench.detector.sample(&ModelScope::Global) == rows);
    let forest = ForestModel::train(&rows, &ForestParameters::default()).unwrap();
    let scope = ModelScope::Service(tenant, service);
    bench.detector.install(scope.clone(), Some(Arc::new(forest)));
    assert!(bench.log("card 12 was refused by the bank", None).is_anomaly);
    bench.detector.install(scope, None);
    assert!(bench.log("no route to the ledger", None).is_anomaly);
}

#[test]
fn history_has_templates_but_teaches_nothing() {
    let mut bench = Bench::new(DetectorConfig::default());
    let old = START - HISTORY_NANOS - 3_600 * SECOND;
    for n in 0..2_000 {
        let scored = bench.log_at(&format!("old word {n}"), Some(1.0), old);
        assert_eq!((scored.anomaly_score, scored.is_anomaly), (0.0, false));
        assert_eq!(scored.template.pattern, "old word <*>");
    }
    assert!(!bench.log("live", None).is_anomaly, "it is still learning");
}

#[test]
fn what_storage_knows_is_not_new_after_a_restart() {
    let mut before = Bench::new(DetectorConfig::default());
    before.steady(5_000);
    let template = before.log("nightly job of 12 users done", None).template;
    let mut after = Bench::new(DetectorConfig::default());
    let busy = before.log("alpha one order 3", None).template;
    after.detector.preload([(Template::clone(&template), 500), (Template::clone(&busy), 90_000)]);
    let scored = after.log("nightly job of 13 users done", None);
    assert_eq!(scored.template.template_id, template.template_id);
    assert!(!scored.is_anomaly);
    assert!(after.log("never seen by anyone", None).is_anomaly, "learning was done before");
}

#[test]
fn above_the_cap_new_patterns_share_a_catch_all() {
    let mut bench =
        Bench::new(DetectorConfig { templates_per_service_max: 2, ..DetectorConfig::default() });
    let patterns: Vec<String> = ["a b", "c d", "e f", "g", "h i", "a b"]
        .iter()
        .map(|message| bench.log(message, None).template.pattern.clone())
        .collect();
    assert_eq!(
        patterns,
        ["a b", "c d", "<other: 2 words>", "<other: 1 word>", "<other: 2 words>", "a b"]
    );
    let stats = bench.detector.stats();
    assert_eq!((stats.templates, stats.catch_all_logs), (2, 3));
}

#[test]
fn services_above_the_bound_are_forgotten_oldest_first() {
    let mut bench = Bench::new(DetectorConfig { services_max: 2, ..DetectorConfig::default() });
    for name in ["a", "b", "a", "c"] {
        bench.service = Service::new(name).unwrap();
        bench.log("hello", None);
    }
    let stats = bench.detector.stats();
    assert_eq!((stats.services, stats.templates, stats.services_forgotten), (2, 2, 1));
    assert!(bench.detector.by_name.keys().all(|(_, service)| service.as_str() != "b"));
}

proptest! {
    #[test]
    fn any_log_gets_a_verdict(
        message in ".{0,200}", latency_ms in proptest::option::of(0.0..f64::MAX), time: i64, received: i64,
    ) {
        let mut bench = Bench::new(DetectorConfig::default());
        for _ in 0..2 {
            bench.now = received;
            let scored = bench.log_at(&message, latency_ms, time);
            prop_assert!((0.0..=1.0).contains(&scored.anomaly_score));
        }
    }
}

#[test]
fn without_scoring_a_log_gets_its_template_alone() {
    let config = DetectorConfig { scoring: false, ..DetectorConfig::default() };
    let mut bench = Bench::new(config);
    assert_eq!(bench.steady(20_000), 0);
    let scored = bench.log("never seen before 7", Some(1e9));
    assert_eq!((scored.is_anomaly, scored.anomaly_score), (false, 0.0));
    assert_eq!(scored.template.pattern, "never seen before <*>");
    assert_eq!(bench.detector.stats().sessions, 0);
}

#[test]
fn a_merge_is_no_new_pattern() {
    let mut bench = Bench::new(DetectorConfig::default());
    bench.steady(20_000);
    let names = ["ann", "bob", "cid", "dan"];
    let alarms = |bench: &mut Bench, name: &str| {
        usize::from(bench.log(&format!("account of {name} was opened"), None).is_anomaly)
    };
    let first: usize = names.iter().map(|name| alarms(&mut bench, name)).sum();
    for _ in 0..2_000 {
        for name in names {
            bench.log(&format!("account of {name} was opened"), None);
        }
    }
    let later: usize =
        ["eve", "flo", "gus", "hal"].iter().map(|name| alarms(&mut bench, name)).sum();
    assert!(first > 0, "the first of them are new");
    assert_eq!(later, 0, "those that follow a merged pattern are not");
    let eve = bench.log("account of eve was opened", None).template;
    let changes = bench.detector.take_template_changes();
    let merger = changes.iter().find(|of| Some(of.template_id) == eve.merged_into).unwrap();
    assert_eq!((merger.pattern.as_str(), merger.is_merger), ("account of <*> was opened", true));
}

#[test]
fn adversarial_messages_keep_to_the_bounds() {
    let config = DetectorConfig {
        templates_per_service_max: 300,
        templates_max: 400,
        ..DetectorConfig::default()
    };
    let mut bench = Bench::new(config);
    let mut state = 1_u64;
    for n in 0..20_000_u64 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(n);
        let letters = |length: u64| -> String {
            let of = |k| char::from(b'a' + (state.rotate_left(k as u32 * 5) % 26) as u8);
            (0..length).map(of).collect()
        };
        let message = match n % 5 {
            0 => letters(2_000),
            1 => letters(9).chars().flat_map(|letter| [letter, ' ']).collect(),
            2 => String::from_utf8_lossy(&state.to_le_bytes()).into_owned(),
            3 => format!("{{\"{}\": \"{}\"", letters(5), letters(40)),
            _ => format!("a={}{} '{}", letters(3), "(".repeat(50), letters(4)),
        };
        bench.log(&message, None);
    }
    let stats = bench.detector.stats();
    // A service's merged patterns come on top of its signatures.
    assert!(stats.templates <= 450, "{stats:?}");
    assert!(stats.catch_all_logs > 10_000, "{stats:?}");
}
