//! Alerting through the real binary: rules and channels from files, silences, and an incident as
//! whoever is woken by it sees it.

mod support;

use std::{fs, path::Path, sync::Arc, time::Duration};

use logweir::time_argument::parse_time;
use logweir_core::{identity::Tenant, runtime::clock::now, timestamp::Timestamp};
use logweir_incident::{
    example,
    incident::Event,
    notification::NotificationKind,
    tracking::{TrackedIncident, Tracking},
};
use logweir_storage::{AlertChanges, KeepAlerts, SqliteConfig, SqliteStorage};
use serde_json::Value;
use support::{Process, client, succeeded, token};

struct World {
    folder: tempfile::TempDir,
    server: Process,
    token: String,
}

impl World {
    fn start() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        Self::over(folder)
    }

    fn over(folder: tempfile::TempDir) -> Self {
        let data_dir = folder.path().join("data");
        let server = Process::standalone(&data_dir);
        let token = token(&data_dir, "*", "admin");
        Self { folder, server, token }
    }

    fn run(&self, args: &[&str]) -> String {
        succeeded(&client(&self.server, &self.token, args))
    }

    fn objects(&self, args: &[&str]) -> Vec<Value> {
        let text = self.run(&[args, &["--json"]].concat());
        text.lines().map(|line| serde_json::from_str(line).expect("NDJSON")).collect()
    }

    /// A run that fails: its exit code and what it says.
    fn failed(&self, args: &[&str]) -> (Option<i32>, String) {
        let output = client(&self.server, &self.token, args);
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    }

    fn file(&self, name: &str, content: &str) -> String {
        let path = self.folder.path().join(name);
        fs::write(&path, content).expect("it can be written");
        path.display().to_string()
    }
}

const RULES: &str = "\
rules:
  - name: too many errors
    services: [payments]
    severity: critical
    measure: {kind: error_rate, window_seconds: 60, threshold: {absolute: 0.05}}
";

#[test]
fn rules_come_from_files_and_a_mistake_has_its_line() {
    let world = World::start();
    let wrong = world.file("wrong.yaml", &RULES.replace("critical", "huge"));
    let (code, said) = world.failed(&["rules", "put", &wrong]);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("wrong.yaml:4: "), "{said}");
    assert!(world.objects(&["rules", "list"]).iter().all(|rule| rule["built_in"] == true));
    let good = world.file("good.yaml", RULES);
    let stored = world.objects(&["rules", "put", &good]);
    assert_eq!(stored[0]["definition"]["keep_firing_seconds"], 300);
    assert!(world.run(&["rules", "list"]).contains("too many errors"));
    let (code, said) = world.failed(&["rules", "put", &good, &good]);
    assert_eq!(code, Some(2), "{said}");
    world.run(&["rules", "delete", "too many errors"]);
    assert_eq!(world.failed(&["rules", "delete", "too many errors"]).0, Some(5));
    assert_eq!(world.failed(&["rules", "delete", "service silent"]).0, Some(1));
}

const TRIED: &str = "\
rules:
  - name: booms
    measure: {kind: match_count, filter: boom, window_seconds: 60, threshold: {absolute: 10}}
  - name: errors
    measure: {kind: error_count, window_seconds: 60, threshold: {absolute: 10}}
  - name: new
    measure: {kind: new_pattern, level: error, hits: 3}
";

#[test]
fn a_rule_is_previewed_in_the_stored_past() {
    const MINUTE: Duration = Duration::from_secs(60);
    let world = World::start();
    // An hour and a half in which all is well, and a minute of it in which it is not.
    let begin = now().floor(MINUTE) - 200 * MINUTE;
    let bad = begin + 150 * MINUTE;
    let log = |time: Timestamp, level: &str, message: &str| {
        let time = time.as_unix_nanos();
        format!("{{\"time\":{time},\"level\":\"{level}\",\"message\":\"{message}\"}}\n")
    };
    let calm = (0..1_080).map(|n| log(begin + MINUTE / 6 * n, "info", "order paid"));
    let wrong = (0..30).map(|n| log(bad + MINUTE / 30 * n, "error", "boom, no card reader"));
    let logs = world.file("shop.ndjson", &calm.chain(wrong).collect::<String>());
    let journal = world.folder.path().join("journal").display().to_string();
    world.run(&["send", &logs, "--service", "shop", "--journal", &journal]);

    let rules = world.file("tried.yaml", TRIED);
    let found = world.objects(&["rules", "preview", &rules, "--from", "-70m", "--to", "-20m"]);
    assert_eq!(found.len(), 3);
    for of in &found {
        let [incident] = &of["incidents"].as_array().expect("a list")[..] else { panic!("{of}") };
        assert_eq!((&incident["rule"], &incident["service"]), (&of["rule"], &"shop".into()));
        let fired = incident["firing"].as_str().expect("a moment");
        let fired = parse_time(fired, Timestamp::EPOCH).expect("a time");
        assert!((bad..bad + MINUTE).contains(&fired), "{of}");
        assert_eq!(incident["state"], "resolved");
    }
    let text = world.run(&["rules", "preview", &rules, "--to", "-70m"]);
    assert!(text.starts_with("booms: 0 incidents from 2"), "{text}");
    assert!(!world.run(&["rules", "list"]).contains("booms"), "nothing is stored");

    let (code, said) = world.failed(&["rules", "preview", &rules, "--from", "-9d"]);
    assert!(code != Some(0) && said.contains("longer than 7 days"), "{said}");
    let measure = "{kind: dead_letters, window_seconds: 60, count: 1}";
    let system =
        world.file("system.yaml", &format!("rules:\n  - name: lost\n    measure: {measure}\n"));
    let (code, said) = world.failed(&["rules", "preview", &system]);
    assert!(code != Some(0) && said.contains("cannot be previewed, only tried"), "{said}");
}

#[test]
fn a_channel_is_stored_shown_without_its_secrets_and_tested() {
    let world = World::start();
    let text = "\
channels:
  - name: hook
    fallback: other
    kind: {webhook: {url: \"https://169.254.169.254/p4th\"}}
  - name: other
    fallback: hook
    is_default: true
    kind: {slack: {bot_token: xoxb-p4th, channel: \"#alerts\"}}
";
    let file = world.file("channels.yaml", text);
    let stored = client(&world.server, &world.token, &["channels", "put", &file]);
    assert!(stored.stderr.is_empty(), "each is there in the end: {stored:?}");
    succeeded(&stored);
    for listed in [world.run(&["channels", "list"]), world.run(&["channels", "list", "--json"])] {
        assert!(listed.contains("hook") && !listed.contains("p4th"), "{listed}");
    }
    let (code, said) = world.failed(&["channels", "test", "hook"]);
    assert_eq!(code, Some(1), "{said}");
    let wrong = world.file("wrong.yaml", &text.replace("slack", "pigeon"));
    let (code, said) = world.failed(&["channels", "put", &wrong]);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("wrong.yaml:8: "), "{said}");
    world.run(&["channels", "delete", "hook"]);
    assert_eq!(world.objects(&["channels", "list"]).len(), 1);
}

#[test]
fn the_notification_policy_is_stored_as_a_whole_and_shown_as_a_file() {
    let world = World::start();
    let shown = world.run(&["policy", "show"]);
    assert!(shown.contains("repeat_seconds: 14400"), "{shown}");
    let wrong = world.file("wrong.yaml", "mute_times: [{name: nights, from: '22:00', to: '7'}]\n");
    let (code, said) = world.failed(&["policy", "put", &wrong]);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("wrong.yaml:1: ") && said.contains("\"7\" is no time of day"), "{said}");
    let nights = "mute_times:\n  - {name: nights, matchers: {severity: warning}, from: '22:00', to: '07:00'}\n";
    world.run(&["policy", "put", &world.file("nights.yaml", nights)]);
    let shown = world.run(&["policy", "show"]);
    assert!(shown.contains("nights") && shown.contains("22:00"), "{shown}");
    let again = world.file("again.yaml", &shown);
    assert_eq!(world.run(&["policy", "put", &again]), shown, "what is shown can be stored again");
    world.run(&["policy", "put", &world.file("none.yaml", "{}\n")]);
    assert!(!world.run(&["policy", "show"]).contains("nights"));
}

#[test]
fn a_silence_is_added_and_deleted() {
    let world = World::start();
    let add = ["silences", "add", "--match", "service=pay*", "--for", "2h", "--comment", "works"];
    let added = world.objects(&add).remove(0);
    assert_eq!(
        (&added["state"], &added["matchers"]["service"]),
        (&"active".into(), &"pay*".into())
    );
    assert!(world.run(&["silences", "list"]).contains("service=pay*"));
    world.run(&["silences", "delete", added["silence_id"].as_str().expect("an id")]);
    assert_eq!(world.objects(&["silences", "list"]), [Value::Null; 0]);
    let wrong = ["silences", "add", "--match", "payments", "--for", "2h"];
    assert_eq!(world.failed(&wrong).0, Some(2));
    let viewer = token(&world.folder.path().join("data"), "*", "viewer");
    assert!(client(&world.server, &viewer, &["silences", "list"]).status.success());
    assert_eq!(client(&world.server, &viewer, &add).status.code(), Some(4));
}

/// Leaves an incident in the storage of a standalone that does not run.
fn store_incident(data_dir: &Path) -> String {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let mut incident = example::notification(NotificationKind::Opened).incident;
    incident.evidence.sample_logs[0].log_id = "0123".to_owned();
    incident.note(incident.pending_at, Event::Firing, "", "80 errors/min");
    let id = incident.id.clone();
    let stored = TrackedIncident { incident, tracking: Tracking::default() };
    runtime.block_on(async {
        let storage = SqliteStorage::open(&SqliteConfig::new(data_dir), Arc::new(now));
        let storage = storage.expect("nobody else has it open");
        let epoch = storage.lead("test", Duration::from_secs(60)).await.expect("it answers");
        let changes = AlertChanges { incidents: vec![stored], ..AlertChanges::default() };
        let epoch = epoch.expect("nobody leads");
        let committed = storage.commit_alerts(epoch, &Tenant::default(), changes).await;
        assert!(committed.expect("it answers").is_some());
        storage.resign("test").await.expect("it answers");
    });
    id
}

#[test]
fn an_incident_can_be_worked_from_at_night() {
    let World { folder, server, .. } = World::start();
    assert_eq!(server.stop().code(), Some(0));
    let id = store_incident(&folder.path().join("data"));
    let world = World::over(folder);
    let listed = world.objects(&["incidents", "list", "--service", "checkout"]).remove(0);
    assert_eq!(listed["incident_id"].as_str(), Some(&*id));
    assert!(world.run(&["incidents", "list"]).contains("errors/min of checkout rose to 80"));
    let shown = world.run(&["incidents", "show", &id[..6]]);
    for part in [
        "CRITICAL firing: errors/min of checkout rose to 80, normally 2",
        "2026-03-08 02:41:10",
        "by nobody",
        "NOW AND NORMALLY",
        "40x",
        "PROBABLE CAUSES",
        "waiting for a connection of pool",
        "never",
        "WENT LIVE BEFORE",
        "1 min 8 s before",
        "LOGS",
        "pool orders-rw",
        "TIMELINE",
        "TOLD",
        &format!("logweir incidents ack {id}"),
        "logweir search 'service:checkout level>=warn' --from 2026-03-08T02:40:10Z\n",
        "logweir get 0123",
        "logweir search trace:4bf92f3577b34da6a3ce929d0e0e4736",
        "https://wiki.example.com/checkout/errors",
    ] {
        assert!(shown.contains(part), "{part:?} is not in\n{shown}");
    }
    let json = world.objects(&["incidents", "show", &id]).remove(0);
    assert_eq!(json["probable_causes"][1]["is_new"], true);
    let note = world.objects(&["incidents", "note", &id, "the pool is dry"]).remove(0);
    assert_eq!((&note["action"], &note["incident_id"]), (&"note".into(), &id.as_str().into()));
    assert_eq!(world.failed(&["incidents", "unack", &id]).0, Some(1), "nobody acknowledged it");
    assert_eq!(world.failed(&["incidents", "snooze", &id, "--for", "8d"]).0, Some(2));
    assert_eq!(world.failed(&["incidents", "show", "unknown"]).0, Some(5));
}
