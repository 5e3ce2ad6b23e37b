//! Alerting through the real binary, from logs to a receiver's address: what is told, and that
//! whatever dies in between, nothing is missed and a repeat has the same key.

mod support;

use std::{collections::BTreeMap, fs, path::Path, time::Duration};

use logweir_core::runtime::clock::now;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use support::{
    Process, client,
    cluster::{Cluster, until},
    oracle::form,
    succeeded, token,
};
use testkit::{Answer, Call, Receiver};

const CONFIG: &str = "\
[alerting]
networks_allowed = ['127.0.0.0/8', '::1/128']
start_pause_seconds = 0
heartbeat_seconds = 1
";

const BOOM: &str = "rules:\n  - name: boom\n    measure: {kind: match_count, filter: boom, \
                    window_seconds: 60, threshold: {absolute: 0}}\n";

/// How often the opening of an incident about a service was told.
fn openings(calls: &[Call], service: &str) -> usize {
    told(calls, service).iter().filter(|kind| *kind == "opened").count()
}

fn hook(name: &str, url: &str, is_default: bool) -> String {
    format!(
        "channels:\n  - name: {name}\n    is_default: {is_default}\n    kind: {{webhook: {{url: \
         '{url}', signing_secret: secret, bearer_token: '', allow_http: true}}}}\n"
    )
}

struct World {
    folder: tempfile::TempDir,
    server: Option<Process>,
    token: String,
}

impl World {
    fn start(receiver: &Receiver) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let heartbeat = folder.path().join("heartbeat");
        fs::write(&heartbeat, receiver.url("/alive")).expect("it can be written");
        let config = format!("{CONFIG}heartbeat_url_file = '{}'\n", heartbeat.display());
        fs::write(folder.path().join("config.toml"), config).expect("it can be written");
        let server = serve(folder.path(), true);
        let token = token(&folder.path().join("data"), "*", "admin");
        let world = Self { folder, server: Some(server), token };
        let url = receiver.url("/hook");
        world.put("channels", &hook("hook", &url, true));
        world
    }

    fn server(&self) -> &Process {
        self.server.as_ref().expect("it runs")
    }

    fn run(&self, args: &[&str]) -> String {
        succeeded(&client(self.server(), &self.token, args))
    }

    fn objects(&self, args: &[&str]) -> Vec<Value> {
        let text = self.run(&[args, &["--json"]].concat());
        text.lines().map(|line| serde_json::from_str(line).expect("NDJSON")).collect()
    }

    fn put(&self, what: &str, text: &str) {
        let file = self.folder.path().join("file.yaml");
        fs::write(&file, text).expect("it can be written");
        self.run(&[what, "put", file.to_str().expect("UTF-8")]);
    }

    /// SIGKILL, and a new start.
    fn restart(&mut self) {
        self.server.take().expect("it runs").kill();
        self.server = Some(serve(self.folder.path(), true));
    }

    fn send(&self, service: &str, message: &str) {
        self.send_lines(service, &format!("{{\"message\":\"{message}\"}}\n"));
    }

    fn send_lines(&self, service: &str, lines: &str) {
        let file = self.folder.path().join(format!("{service}.log"));
        fs::write(&file, lines).expect("it can be written");
        let journal = self.folder.path().join("journal");
        let [file, journal] = [&file, &journal].map(|path| path.to_str().expect("UTF-8"));
        self.run(&["send", file, "--service", service, "--journal", journal]);
    }
}

fn serve(folder: &Path, alerting: bool) -> Process {
    let config = folder.join("config.toml");
    let env = [
        ("LOGWEIR_CONFIG", config.to_str().expect("UTF-8")),
        ("LOGWEIR_ALERTING__ENABLED", if alerting { "true" } else { "false" }),
    ];
    Process::standalone_with(&folder.join("data"), "127.0.0.1:0", &env)
}

/// What a call to the hook said; heartbeats say nothing.
fn notice(call: &Call) -> Value {
    if call.path == "/alive" {
        Value::Null
    } else {
        serde_json::from_str(&call.body).expect("JSON")
    }
}

/// The kinds of the notices about a service, as they came.
fn told(calls: &[Call], service: &str) -> Vec<String> {
    let notices = calls.iter().map(notice);
    let of_it = notices.filter(|notice| notice["incident"]["service"] == service);
    of_it.map(|notice| notice["kind"].as_str().unwrap_or_default().to_owned()).collect()
}

#[tokio::test]
async fn an_incident_is_told_seen_to_and_its_end_is_told_too() {
    let receiver = Receiver::start(|_| Answer::ok());
    let world = World::start(&receiver);
    world.put(
        "rules",
        "rules:\n  - name: boom\n    severity: critical\n    measure: {kind: match_count, \
         filter: boom, window_seconds: 60, threshold: {absolute: 0}}\n",
    );
    world.send("payments", "boom in the engine room 7");
    let calls = receiver.wait(|calls| !told(calls, "payments").is_empty()).await;
    let first = calls.iter().find(|call| call.path == "/hook").expect("it was told");
    let opened = notice(first);
    assert_eq!((&opened["kind"], &opened["incident"]["rule"]), (&"opened".into(), &"boom".into()));
    assert_eq!(opened["incident"]["severity"], "critical");
    let cause = &opened["incident"]["evidence"]["sample_logs"];
    assert!(cause.to_string().contains("boom in the engine room 7"), "{opened}");
    assert!(first.header("x-logweir-signature").is_some_and(|text| text.starts_with("v1=")));

    let listed = world.objects(&["incidents", "list", "--open"]);
    let id = listed[0]["incident_id"].as_str().expect("an id").to_owned();
    assert_eq!(opened["incident"]["id"].as_str(), Some(&*id));
    world.run(&["incidents", "ack", &id]);
    receiver.wait(|calls| told(calls, "payments").contains(&"updated".to_owned())).await;
    let shown = world.run(&["incidents", "show", &id]);
    assert!(shown.contains("boom") && shown.contains("payments"), "{shown}");
    world.run(&["incidents", "resolve", &id, "-m", "put out"]);
    let calls =
        receiver.wait(|calls| told(calls, "payments").contains(&"resolved".to_owned())).await;
    assert_eq!(told(&calls, "payments")[..3], ["opened", "updated", "resolved"]);
    let open = world.objects(&["incidents", "list", "--open"]);
    assert!(open.iter().all(|incident| incident["incident_id"].as_str() != Some(&*id)), "{open:?}");
}

#[tokio::test]
async fn whatever_is_killed_each_incident_is_told_and_repeats_have_the_same_key() {
    let rounds: usize = if form().is_long { 50 } else { 10 };
    // The first time that a third of the services are told, nobody answers: the process is killed
    // meanwhile, and must tell it again.
    let mut seen: Vec<String> = Vec::new();
    let receiver = Receiver::start(move |call| {
        if call.path == "/alive" {
            return Answer::ok();
        }
        let service = notice(call)["incident"]["service"].as_str().unwrap_or_default().to_owned();
        let is_new = !seen.contains(&service);
        seen.push(service.clone());
        let number = service.trim_start_matches("service-").parse::<usize>().unwrap_or(1);
        if is_new && number.is_multiple_of(3) { Answer::TakenInSilence } else { Answer::ok() }
    });
    let mut world = World::start(&receiver);
    world.put("rules", BOOM);
    for round in 0..rounds {
        let service = format!("service-{round}");
        world.send(&service, "boom");
        match round % 3 {
            // Told, but the answer is lost.
            0 => drop(receiver.wait(|calls| !told(calls, &service).is_empty()).await),
            // Told and answered.
            1 => drop(receiver.wait(|calls| !told(calls, &service).is_empty()).await),
            // Nobody knows how far it is.
            _ => {}
        }
        world.restart();
    }
    let opened = |calls: &[Call]| -> BTreeMap<String, Vec<String>> {
        let mut keys: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for call in calls {
            let notice = notice(call);
            let incidents = std::iter::once(&notice["incident"])
                .chain(notice["others"].as_array().into_iter().flatten());
            for incident in incidents.filter(|of| of["rule"] == "boom") {
                let service = incident["service"].as_str().expect("a service").to_owned();
                let id = incident["id"].as_str().expect("an id").to_owned();
                keys.entry(service).or_default().push(id);
            }
        }
        keys
    };
    let repeated = |calls: &Vec<Call>| {
        let opened = opened(calls);
        opened.len() == rounds
            && (0..rounds).step_by(3).all(|round| opened[&format!("service-{round}")].len() > 1)
    };
    let calls = receiver.wait(repeated).await;
    for (service, ids) in opened(&calls) {
        assert!(ids.iter().all(|id| *id == ids[0]), "{service} has one incident: {ids:?}");
    }
    let mut bodies: BTreeMap<String, (String, Option<String>)> = BTreeMap::new();
    for call in calls.iter().filter(|call| call.path == "/hook") {
        let key = call.header("idempotency-key").expect("a key").to_owned();
        let at_unix_nano = notice(call)["at_unix_nano"].to_string();
        let kind = notice(call)["kind"].as_str().map(str::to_owned);
        let first = bodies.entry(key).or_insert_with(|| (at_unix_nano.clone(), kind.clone()));
        assert_eq!(*first, (at_unix_nano, kind), "the same key says the same");
    }
}

#[tokio::test]
async fn errors_that_come_after_their_window_has_passed_are_told() {
    let receiver = Receiver::start(|_| Answer::ok());
    let world = World::start(&receiver);
    world.put(
        "rules",
        "rules:\n  - name: half a minute\n    measure: {kind: error_count, window_seconds: 30, \
         threshold: {absolute: 2}}\n",
    );
    let time = (now() - Duration::from_secs(70)).to_rfc3339();
    let line = format!("{{\"time\":\"{time}\",\"level\":\"error\",\"message\":\"disk full\"}}\n");
    world.send_lines("cut-off", &line.repeat(3));
    let is_told = |call: &Call| {
        let incident = &notice(call)["incident"];
        incident["rule"] == "half a minute" && incident["service"] == "cut-off"
    };
    let calls = receiver.wait(|calls| calls.iter().any(is_told)).await;
    let told = notice(calls.iter().find(|call| is_told(call)).expect("it was told"));
    let samples = &told["incident"]["evidence"]["sample_logs"];
    assert!(samples.to_string().contains("disk full"), "{told}");
}

#[tokio::test]
async fn a_test_succeeds_if_the_receiver_says_so_and_is_another_each_time() {
    let receiver = Receiver::start(|call| match call.path.as_str() {
        "/lies" => Answer::Taken(r#"{"status":"error","message":"no such key"}"#.into()),
        _ => Answer::ok(),
    });
    let world = World::start(&receiver);
    (0..2).for_each(|_| drop(world.run(&["channels", "test", "hook"])));
    let calls = receiver.calls();
    let tests = calls.iter().filter(|call| call.path == "/hook");
    let keys: Vec<_> = tests.map(|call| call.header("idempotency-key")).collect();
    assert!(keys.len() == 2 && keys[0] != keys[1], "{keys:?}");
    world.put("channels", &hook("liar", &receiver.url("/lies"), false));
    let output = client(world.server(), &world.token, &["channels", "test", "liar"]);
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("no such key"), "{said}");
}

#[tokio::test]
async fn whoever_watches_us_hears_that_we_live() {
    let receiver = Receiver::start(|_| Answer::ok());
    let _world = World::start(&receiver);
    let calls = receiver.wait(|calls| calls.len() > 1).await;
    assert!(calls.iter().all(|call| call.path == "/alive" && call.body.is_empty()), "{calls:?}");
}

#[tokio::test]
async fn what_is_on_its_way_while_settings_change_or_the_process_stops_is_told_once() {
    let receiver = Receiver::start(|call| match call.path.as_str() {
        "/hook" => Answer::TakenSlowly(Duration::from_secs(3)),
        _ => Answer::ok(),
    });
    let mut world = World::start(&receiver);
    world.put("rules", BOOM);
    world.send("first", "boom");
    receiver.wait(|calls| openings(calls, "first") > 0).await;
    // Every worker begins anew.
    world.put("channels", &hook("other", &receiver.url("/other"), false));
    world.send("second", "boom");
    receiver.wait(|calls| openings(calls, "second") > 0).await;
    assert_eq!(world.server.take().expect("it runs").stop().code(), Some(0));
    world.server = Some(serve(world.folder.path(), true));
    world.send("third", "boom");
    let calls = receiver.wait(|calls| openings(calls, "third") > 0).await;
    assert_eq!(["first", "second", "third"].map(|service| openings(&calls, service)), [1, 1, 1]);
}

#[tokio::test]
async fn what_waits_for_a_channel_that_is_deleted_is_told_elsewhere() {
    let receiver = Receiver::start(|call| match call.path.as_str() {
        "/hook" => Answer::Refused(500, None, "not now".into()),
        _ => Answer::ok(),
    });
    let world = World::start(&receiver);
    world.put("rules", BOOM);
    world.send("payments", "boom");
    receiver.wait(|calls| openings(calls, "payments") > 0).await;
    world.put("channels", &hook("other", &receiver.url("/other"), false));
    world.run(&["channels", "delete", "hook"]);
    let elsewhere = |calls: &Vec<Call>| calls.iter().any(|call| call.path == "/other");
    let calls = receiver.wait(elsewhere).await;
    let call = calls.iter().find(|call| call.path == "/other").expect("it was told");
    let said = notice(call);
    assert_eq!(said["incident"]["service"], "payments");
    assert_eq!(said["text"], "its channel hook is gone");
    let first = calls.iter().find(|call| call.path == "/hook").expect("it was tried");
    assert_eq!(call.header("idempotency-key"), first.header("idempotency-key"));
}

fn signal(process: &Process, signal: Signal) {
    let id = i32::try_from(process.id()).ok().and_then(Pid::from_raw).expect("a process id");
    kill_process(id, signal).expect("it runs");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_was_stopped_tells_nothing_old_when_it_wakes_and_leads_again() {
    let receiver = Receiver::start(|_| Answer::ok());
    let cluster = Cluster::shared().await;
    let config = cluster.folder.path().join("config.toml");
    fs::write(&config, CONFIG).expect("it can be written");
    let env = [("LOGWEIR_CONFIG", config.to_str().expect("UTF-8"))];
    let start = |kind: &str| cluster.start_with(kind, "127.0.0.1:0", &env);
    let (server, _processor) = (start("server"), start("processor"));
    let token = cluster.token("*", "admin");
    let run = |args: &[&str]| succeeded(&client(&server, &token, args));
    let file = cluster.folder.path().join("file.yaml");
    let put = |what: &str, text: &str| {
        fs::write(&file, text).expect("it can be written");
        run(&[what, "put", file.to_str().expect("UTF-8")]);
    };
    put("channels", &hook("hook", &receiver.url("/hook"), true));
    put("rules", BOOM);
    let send = |service: &str| {
        let file = cluster.folder.path().join(format!("{service}.log"));
        fs::write(&file, "{\"message\":\"boom\"}\n").expect("it can be written");
        let journal = cluster.folder.path().join("journal");
        let [file, journal] = [&file, &journal].map(|path| path.to_str().expect("UTF-8"));
        run(&["send", file, "--service", service, "--journal", journal]);
    };
    let leads = |process: &Process| process.metric("logweir_alerting_leads") == 1.0;
    // What is counted is recorded as sent.
    let told = |process: &Process| process.metric("logweir_notifications_total") > 0.0;

    let first = start("alerting");
    until("the first leads", || leads(&first));
    let second = start("alerting");
    send("one");
    until("the first has told it", || told(&first));
    signal(&first, Signal::STOP);
    send("two");
    until("the second has told it", || told(&second));
    signal(&first, Signal::CONT);
    until("the first stands by", || !leads(&first));
    // Its workers must be as new when it leads again.
    second.kill();
    send("three");
    let calls = receiver.wait(|calls| openings(calls, "three") > 0).await;
    assert!(leads(&first));
    assert_eq!(["one", "two", "three"].map(|service| openings(&calls, service)), [1, 1, 1]);
}
