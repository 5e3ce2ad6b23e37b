use logweir_core::{
    record::{Level, Record},
    timestamp::{Timestamp, nanos_of},
};
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
        let record = Record {
            message,
            latency_ms,
            time: Timestamp::from_unix_nanos(time_unix_nano),
            ..Record::default()
        };
        self.detector.observe(&ReceivedLog {
            tenant: &self.tenant,
            service: &self.service,
            instance: "",
            received_at: Timestamp::from_unix_nanos(self.now),
            record: &record,
            level: Level::Error,
        })
    }

    /// Sends as another tenant or service from now on.
    fn go_by(&mut self, tenant: &str, service: &str) {
        (self.tenant, self.service) =
            (Tenant::new(tenant).unwrap(), Service::new(service).unwrap());
    }

    /// Whether the message's own template is known.
    fn knows(&mut self, message: &str) -> bool {
        let at = self.detector.by_name.get(&(self.tenant.clone(), self.service.clone()));
        let mut signature = Vec::new();
        template::mask(message, &mut signature);
        at.is_some_and(|&at| self.detector.services[at].templates.find(&signature).is_some())
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

/// A message that has no word in common with that of any other number.
fn one_off(number: u64) -> String {
    let word = |place: u64| -> String {
        let of = |digit| char::from(b'a' + ((number * 3 + place) / 26_u64.pow(digit) % 26) as u8);
        (0..6).map(of).collect()
    };
    format!("{} {} {}", word(0), word(1), word(2))
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
    let old = START - nanos_of(HISTORY_AGE) - 3_600 * SECOND;
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
fn above_the_cap_new_patterns_replace_a_hundred_one_offs_an_hour_then_share_a_catch_all() {
    let mut bench =
        Bench::new(DetectorConfig { templates_per_service_max: 3, ..DetectorConfig::default() });
    (0..2).for_each(|_| drop(bench.log("a b", None)));
    for hour in 0..2 {
        let told = (0..150).filter(|n| {
            let message = one_off(hour * 1_000 + n);
            bench.log(&message, None).template.pattern == message
        });
        // The first two find room.
        assert_eq!(told.count(), if hour == 0 { 102 } else { 100 });
        bench.now += 3_600 * SECOND;
    }
    assert_eq!(bench.log("a b", None).template.pattern, "a b", "what is frequent stays");
    let stats = bench.detector.stats();
    assert_eq!((stats.templates, stats.catch_all_logs), (3, 98));
    assert!(bench.knows("a b") && bench.knows(&one_off(1_099)) && !bench.knows(&one_off(0)));
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

/// A tenth of the default, so that a flood takes a tenth of the time.
fn a_tenth() -> DetectorConfig {
    let whole = DetectorConfig::default();
    DetectorConfig {
        templates_per_service_max: whole.templates_per_service_max / 10,
        templates_max: whole.templates_max / 10,
        ..whole
    }
}

/// What storage has of the logs that were scored.
#[derive(Default)]
struct Stored(HashMap<TemplateId, (Template, u64)>);

impl Stored {
    fn add(&mut self, scored: &LogScore) {
        let template = Template::clone(&scored.template);
        let known = self.0.entry(template.template_id).or_insert((template, 0));
        known.1 += 1;
    }

    /// In an order that says nothing.
    fn shuffled(&self, seed: u64) -> Vec<(Template, u64)> {
        let mut all: Vec<_> = self.0.values().cloned().collect();
        all.sort_by_key(|(template, _)| (template.template_id.0 ^ seed).wrapping_mul(seed | 1));
        all
    }
}

/// One-off messages of b over twenty services, beside some that are calm.
fn flooded(bench: &mut Bench, logs: u64) -> Stored {
    let mut stored = Stored::default();
    for (tenant, service, message) in CALM {
        bench.go_by(tenant, service);
        (0..3).for_each(|_| stored.add(&bench.log(message, None)));
    }
    for n in 0..logs {
        bench.go_by("b", &format!("flood-{}", n % 20));
        stored.add(&bench.log(&one_off(n), None));
    }
    stored
}

const CALM: [(&str, &str, &str); 3] = [
    ("a", "shop", "an order was paid"),
    ("b", "calm", "the night is still"),
    ("b", "flood-7", "a frequent one among many"),
];

/// New patterns of the calm services, each told by a template of its own.
fn assert_new_ones_are_told(bench: &mut Bench, number: u64) {
    for (tenant, service) in [("a", "shop"), ("a", "new"), ("b", "calm"), ("b", "calm-too")] {
        bench.go_by(tenant, service);
        let message = format!("the vault of {} is open", one_off(9_000_000 + number));
        let told = bench.log(&message, None).template;
        assert_eq!(told.pattern, message, "{tenant}/{service}");
        assert!(bench.knows(&message));
    }
    for (tenant, service, message) in CALM {
        bench.go_by(tenant, service);
        assert!(bench.knows(message), "{message}");
    }
}

#[test]
fn a_tenants_one_offs_leave_new_patterns_of_others_and_of_calm_services_alone() {
    let mut bench = Bench::new(a_tenth());
    let stored = flooded(&mut bench, 13_000);
    let flooded = bench.detector.stats();
    assert!(flooded.templates <= 10_010 && flooded.catch_all_logs > 900, "{flooded:?}");
    assert_new_ones_are_told(&mut bench, 1);
    for seed in 0..3 {
        let mut after = Bench::new(a_tenth());
        after.detector.preload(stored.shuffled(seed));
        assert_new_ones_are_told(&mut after, 2);
        after.go_by("b", "flood-3");
        let catch_alls = (0..1_000).filter(|n| {
            let told = after.log(&one_off(1_000_000 + n), None).template;
            template::is_catch_all(&told.pattern)
        });
        assert!(catch_alls.count() >= 900, "a flood stays at its own share");
        assert_new_ones_are_told(&mut after, 3);
        assert!(after.detector.stats().templates <= 10_020);
    }
}

#[test]
fn a_tenant_that_comes_late_gets_as_many_templates_as_the_first() {
    let mut bench = Bench::new(a_tenth());
    for tenant in ["b", "c", "a"] {
        for n in 0..11_000 {
            bench.go_by(tenant, &format!("flood-{}", n % 20));
            bench.log(&one_off(n), None);
        }
    }
    let of = |tenant: &str| -> usize {
        let of_tenant = |state: &&ServiceState| state.tenant.as_str() == tenant;
        let states = bench.detector.services.iter().filter(of_tenant);
        states.map(|state| state.templates.len()).sum()
    };
    let held = ["a", "b", "c"].map(of);
    assert!(held.iter().all(|held| *held > 3_500), "{held:?}");
    assert!(held.iter().sum::<usize>() <= 13_334, "{held:?}");
}

#[test]
fn long_patterns_take_no_room_of_another_tenants() {
    let mut bench = Bench::new(DetectorConfig { templates_max: 200, ..DetectorConfig::default() });
    bench.go_by("b", "flood");
    for n in 0..400 {
        bench.log(&one_off(n).repeat(80), None);
    }
    assert!(bench.detector.stats().templates < 100);
    bench.go_by("b", "calm");
    assert!(!template::is_catch_all(&bench.log(&one_off(500).repeat(80), None).template.pattern));
    bench.go_by("a", "shop");
    for n in 0..20 {
        assert!(!template::is_catch_all(&bench.log(&one_off(n).repeat(20), None).template.pattern));
    }
}

#[test]
fn services_of_one_tenant_take_no_place_of_anothers() {
    let mut bench = Bench::new(DetectorConfig::default());
    let mut stored = Stored::default();
    let own: Vec<String> = (0..50).map(|n| format!("shop-{n}")).collect();
    for (tenant, services) in [("a", 50), ("b", 5_000), ("c", 5_000)] {
        for n in 0..services {
            bench.go_by(tenant, &format!("shop-{n}"));
            stored.add(&bench.log("an order was paid", None));
        }
    }
    let known = |bench: &mut Bench, own: &[String]| {
        let mut knows = |service: &String| {
            bench.go_by("a", service);
            bench.knows("an order was paid")
        };
        own.iter().filter(|service| knows(service)).count()
    };
    assert_eq!(known(&mut bench, &own), 50);
    assert!(bench.detector.stats().services <= 5_462);
    let mut after = Bench::new(DetectorConfig::default());
    after.detector.preload(stored.shuffled(7));
    assert_eq!(known(&mut after, &own), 50);
    after.go_by("a", "new");
    after.log("an order was paid", None);
    assert!(after.knows("an order was paid") && known(&mut after, &own) == 50);
}

#[test]
fn open_traces_of_one_tenant_take_no_place_of_anothers() {
    let mut bench = Bench::new(DetectorConfig::default());
    let trace = |bench: &mut Bench, tenant: &str, trace: u128| {
        bench.go_by(tenant, "shop");
        let trace_id = Some(trace.to_be_bytes());
        let time = Timestamp::from_unix_nanos(bench.now);
        let record = Record { message: "step".into(), trace_id, time, ..Record::default() };
        bench.detector.observe(&ReceivedLog {
            tenant: &bench.tenant,
            service: &bench.service,
            instance: "",
            received_at: time,
            record: &record,
            level: Level::Info,
        });
    };
    (0..20_000).for_each(|n| trace(&mut bench, "b", n));
    let dropped = bench.detector.stats().sessions_dropped;
    assert_eq!(dropped, 20_000 - 16_384);
    (0..2_000).for_each(|n| trace(&mut bench, "a", n));
    // A trace that was pushed out would begin again, and take the place of another.
    (0..2_000).for_each(|n| trace(&mut bench, "a", n));
    assert_eq!(bench.detector.stats().sessions_dropped, dropped);
    assert_eq!(bench.detector.stats().sessions, 18_384);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn bounds_hold_and_a_tenant_below_its_share_loses_nothing(
        floods in prop::collection::vec((1..4_u8, 0..12_u8, 1..120_u64, 1..3_usize), 1..30),
    ) {
        let mut bench = Bench::new(DetectorConfig {
            templates_per_service_max: 60,
            templates_max: 300,
            services_max: 30,
            ..DetectorConfig::default()
        });
        // Of 400 templates and 40 services an even share of four is more than 85 and 8.
        let (mut own, mut number) = (Vec::new(), 0);
        for (tenant, service, messages, times) in floods {
            if own.len() < 85 {
                let service = format!("s-{}", own.len() % 8);
                bench.go_by("a", &service);
                number += 1;
                let message = one_off(number);
                prop_assert_eq!(&bench.log(&message, None).template.pattern, &message);
                own.push((service, message));
            }
            bench.go_by(&format!("t-{tenant}"), &format!("s-{service}"));
            for n in 0..messages {
                (0..times).for_each(|_| drop(bench.log(&one_off(number + n), None)));
            }
            number += messages;
            let stats = bench.detector.stats();
            prop_assert!(stats.templates <= 400 && stats.services <= 40, "{stats:?}");
        }
        for (service, message) in own {
            bench.go_by("a", &service);
            prop_assert!(bench.knows(&message), "{service}: {message}");
        }
    }
}
